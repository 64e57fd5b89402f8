"""Owns what is waiting to be shown: many small writes become few messages, whole lines, in order.  Pure."""

from __future__ import annotations

import dataclasses
from typing import Any

from jray._core.frontend import Output, OutputKind

#: A line that never ends is shown in pieces of this many characters.
_LONGEST_LINE = 8192
#: Output held back for its order is let go when it gets larger than this many characters.
_MOST_HELD = 4 * 1024 * 1024


@dataclasses.dataclass(slots=True)
class Message:
    """What becomes one message to the front end."""

    cell: int
    stream: str  #: stdout, stderr, or "" for a display
    parts: list[str]
    data: dict[str, Any] | None

    @property
    def text(self) -> str:
        return "".join(self.parts)


@dataclasses.dataclass(slots=True)
class _Writer:
    """One stream of one task."""

    output: Output  #: the last one
    tail: str = ""  #: an unfinished line
    since_s: float = 0.0


class Outbox:
    """Collects outputs.  What one task writes to a cell keeps its order; lines of tasks never mix.

    With *is_ordered* nothing is shown until `take(everything=True)`, and then task by task in the order of
    their ids' numbers, whichever ran first: the same every time.
    """

    def __init__(
        self, *, with_prefix: bool = False, is_ordered: bool = False, tail_age_s: float = 0.1
    ) -> None:
        self._with_prefix = with_prefix
        self._is_ordered = is_ordered
        self._tail_age_s = tail_age_s
        self._messages: list[Message] = []
        #: the last message of each cell, where more text of the same stream can go
        self._open: dict[int, Message] = {}
        self._writers: dict[tuple[int, str, int, str], _Writer] = {}
        #: cell and stream -> the writer whose unfinished line was shown
        self._dangling: dict[tuple[int, str], tuple[int, str, int, str]] = {}
        self._held: list[Output] = []
        self._held_size = 0
        #: characters waiting, roughly
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._messages or self._writers or self._held)

    def has_tails(self) -> bool:
        """Tell whether unfinished lines wait for their end, or for their time."""
        return bool(self._writers)

    def add(self, output: Output, *, now_s: float) -> None:
        """Take *output*."""
        if self._is_ordered and output.kind != OutputKind.NOTICE:
            self._held.append(output)
            self._held_size += len(output.text)
            if self._held_size > _MOST_HELD:
                self._release(now_s)
        else:
            self._add(output, now_s)

    def take(self, *, now_s: float, everything: bool = False) -> list[Message]:
        """Return what is to be shown now, in order.

        Unfinished lines wait a moment for their end; with *everything* they don't.
        """
        if everything:
            self._release(now_s)
        for key, writer in list(self._writers.items()):
            if everything or now_s - writer.since_s >= self._tail_age_s:
                self._show_tail(key, writer)
        messages, self._messages = self._messages, []
        self._open.clear()
        self.size = 0
        return messages

    # -- inside -----------------------------------------------------------------------------------

    def _release(self, now_s: float) -> None:
        held, self._held, self._held_size = self._held, [], 0
        for output in sorted(held, key=_task_order):
            self._add(output, now_s)

    def _add(self, output: Output, now_s: float) -> None:
        if output.kind == OutputKind.DISPLAY:
            self._finish_lines(output)
            self._open.pop(output.cell, None)
            self._messages.append(Message(output.cell, "", [], output.data))
            return
        if output.kind == OutputKind.NOTICE:
            self._append(output.cell, OutputKind.STDERR, output.text.rstrip("\n") + "\n")
            return
        key = (output.cell, output.task_id, output.pid, output.kind)
        writer = self._writers.pop(key, None)
        text = output.text if writer is None else writer.tail + output.text
        whole, newline, tail = text.rpartition("\n")
        if len(tail) > _LONGEST_LINE:
            whole, newline, tail = text, "", ""
        if whole or newline:
            self._show(key, output, whole + newline)
        if tail:
            since = now_s if writer is None or newline else writer.since_s
            self._writers[key] = _Writer(output, tail, since)
        self.size += len(output.text)

    def _finish_lines(self, output: Output) -> None:
        """Show the unfinished lines of the task that displays something."""
        for key, writer in list(self._writers.items()):
            if key[:2] == (output.cell, output.task_id):
                self._show_tail(key, writer)

    def _show_tail(self, key: tuple[int, str, int, str], writer: _Writer) -> None:
        del self._writers[key]
        self._show(key, writer.output, writer.tail)

    def _show(self, key: tuple[int, str, int, str], output: Output, text: str) -> None:
        place = (output.cell, output.kind)
        dangling = self._dangling.pop(place, None)
        if dangling is not None and dangling != key:
            text = "\n" + self._prefixed(output, text)
        elif dangling is None:
            text = self._prefixed(output, text)
        elif self._with_prefix:
            head, newline, rest = text.partition("\n")
            text = head + newline + self._prefixed(output, rest)
        if not text.endswith("\n"):
            self._dangling[place] = key
        self._append(output.cell, output.kind, text)

    def _prefixed(self, output: Output, text: str) -> str:
        if not self._with_prefix or not text:
            return text
        prefix = f"({output.task_name} pid={output.pid}) "
        return "".join(prefix + line for line in text.splitlines(keepends=True))

    def _append(self, cell: int, stream: str, text: str) -> None:
        message = self._open.get(cell)
        if message is None or message.stream != stream:
            message = self._open[cell] = Message(cell, stream, [], None)
            self._messages.append(message)
        message.parts.append(text)


def _task_order(output: Output) -> tuple[int, int]:
    """Return where the task stands among those of its process: ids count up from a random start."""
    try:
        return output.cell, int.from_bytes(bytes.fromhex(output.task_id)[:8], "little")
    except ValueError:
        return output.cell, 0
