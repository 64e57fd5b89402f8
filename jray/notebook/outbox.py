"""Owns what is waiting to be shown: many small writes become few messages, whole lines, in order.  Pure."""

from __future__ import annotations

import dataclasses
from typing import Any

from jray._core.frontend import Output, OutputKind
from jray.notebook.throttle import Limits, Throttle

#: A line that never ends is shown in pieces of this many characters.
_LONGEST_LINE = 8192
#: Output held back for its order is let go when it gets larger than this many characters.
_MOST_HELD = 4 * 1024 * 1024
#: Beyond this many cells, the limits of those that write nothing are forgotten.
_MOST_CELLS = 64

#: A display that is updated in place is drawn again at most this often.
_UPDATE_S = 0.1

#: A notice that came again is counted for this long before it is said how often; this many are remembered.
_AGAIN_S = 1.0
_MOST_NOTICED = 1000

#: cell, task id, pid, stream
_Key = tuple[int, str, int, str]


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

    With *limits*, of a flood are shown the first lines and, now and then, how many were held back and the newest.
    """

    def __init__(
        self,
        *,
        with_prefix: bool = False,
        is_ordered: bool = False,
        tail_age_s: float = 0.1,
        limits: Limits | None = None,
    ) -> None:
        self._with_prefix = with_prefix
        self._is_ordered = is_ordered
        self._tail_age_s = tail_age_s
        self._limits = limits
        self._throttles: dict[int, Throttle[tuple[_Key, Output]]] = {}
        self._messages: list[Message] = []
        #: the newest update of each display that is changed in place, by cell and display id
        self._updates: dict[tuple[int, str], dict[str, Any]] = {}
        self._updated_s = 0.0
        #: notices shown already, by cell and what is equal in them; and how often they came again, since when
        self._noticed: dict[tuple[int, str], None] = {}
        self._again: dict[tuple[int, str], tuple[int, float]] = {}
        #: the last message of each cell, where more text of the same stream can go
        self._open: dict[int, Message] = {}
        self._writers: dict[_Key, _Writer] = {}
        #: cell and stream -> the writer whose unfinished line was shown
        self._dangling: dict[tuple[int, str], _Key] = {}
        self._held: list[Output] = []
        self._held_size = 0
        #: characters waiting, roughly
        self.size = 0

    def __bool__(self) -> bool:
        return bool(
            self._messages
            or self._writers
            or self._held
            or self._updates
            or self._again
            or self._is_holding()
        )

    def has_tails(self) -> bool:
        """Tell whether something waits for its time: unfinished lines, updates, or what was held back."""
        return bool(self._writers or self._updates or self._again) or self._is_holding()

    def add(self, output: Output, *, now_s: float) -> None:
        """Take *output*."""
        if self._is_ordered and output.kind != OutputKind.NOTICE:
            self._held.append(output)
            self._held_size += len(output.text)
            if self._held_size > _MOST_HELD:
                self._release(now_s)
        else:
            self._add(output, now_s)

    def take(self, *, now_s: float, everything: bool = False, final: bool = False) -> list[Message]:
        """Return what is to be shown now, in order.

        Unfinished lines wait a moment for their end; with *everything* they don't. What was held back is told at
        its time; with *final*, now.
        """
        if everything:
            self._release(now_s)
        for key, writer in list(self._writers.items()):
            if everything or now_s - writer.since_s >= self._tail_age_s:
                self._show_tail(key, writer, now_s)
        for cell, throttle in self._throttles.items():
            if throttle.is_due(now_s) or (final and throttle.is_holding):
                self._tell_held(cell, throttle, now_s)
        for (cell, same), (count, since_s) in list(self._again.items()):
            if final or now_s - since_s >= _AGAIN_S:
                del self._again[cell, same]
                self._append(cell, OutputKind.STDERR, f"[jray] the same in {count} more: {same}\n")
        if self._updates and (everything or now_s - self._updated_s >= _UPDATE_S):
            self._messages += [Message(cell, "", [], data) for (cell, _), data in self._updates.items()]
            self._updates.clear()
            self._updated_s = now_s
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
        if output.kind == OutputKind.DISPLAY and (output.data or {}).get("update"):
            data = output.data or {}
            self._updates[output.cell, str(data.get("transient", {}).get("display_id"))] = data
            return
        if output.kind == OutputKind.DISPLAY:
            self._finish_lines(output, now_s)
            throttle = self._throttle(output.cell, now_s)
            if throttle is None or throttle.admit_display(output, now_s):
                self._show_display(output)
            return
        if output.kind == OutputKind.NOTICE:
            if self._is_repeated(output, now_s):
                return
            self._append(output.cell, OutputKind.STDERR, output.text.rstrip("\n") + "\n")
            return
        key = (output.cell, output.task_id, output.pid, output.kind)
        writer = self._writers.pop(key, None)
        text = output.text if writer is None else writer.tail + output.text
        whole, newline, tail = text.rpartition("\n")
        if len(tail) > _LONGEST_LINE:
            whole, newline, tail = text, "", ""
        if whole or newline:
            self._offer(key, output, whole + newline, now_s)
        if tail:
            since = now_s if writer is None or newline else writer.since_s
            self._writers[key] = _Writer(output, tail, since)

    def _is_repeated(self, output: Output, now_s: float) -> bool:
        """Tell whether a notice like this was shown under this cell before, and count it."""
        same = (output.data or {}).get("same")
        if not same:
            return False
        key = (output.cell, str(same))
        if key not in self._noticed:
            self._noticed[key] = None
            if len(self._noticed) > _MOST_NOTICED:
                del self._noticed[next(iter(self._noticed))]
            return False
        count, since_s = self._again.get(key, (0, now_s))
        self._again[key] = (count + 1, since_s)
        return True

    def _is_holding(self) -> bool:
        return any(throttle.is_holding for throttle in list(self._throttles.values()))

    def _throttle(self, cell: int, now_s: float) -> Throttle[tuple[_Key, Output]] | None:
        if self._limits is None:
            return None
        throttle = self._throttles.get(cell)
        if throttle is None:
            if len(self._throttles) >= _MOST_CELLS:
                busy = {n: other for n, other in self._throttles.items() if not other.is_idle(now_s)}
                self._throttles = busy
            throttle = self._throttles[cell] = Throttle(self._limits, now_s)
        return throttle

    def _offer(self, key: _Key, output: Output, text: str, now_s: float) -> None:
        """Show as much of *text* as the limits allow."""
        throttle = self._throttle(output.cell, now_s)
        if throttle is not None:
            opened = self._open.get(output.cell)
            opens = opened is not None and opened.stream != output.kind
            text = throttle.admit((key, output), output.task_id, text, now_s, opens_message=opens)
        if text:
            self._show(key, output, text)

    def _tell_held(self, cell: int, throttle: Throttle[tuple[_Key, Output]], now_s: float) -> None:
        told = throttle.tell(now_s)
        if told.lines > 0 or told.displays:
            stream = told.newest[-1][0][1].kind if told.newest else OutputKind.STDOUT
            text = _held_back(told.lines, told.displays, told.sources, told.task_id)
            is_dangling = self._dangling.pop((cell, stream), None) is not None
            self._append(cell, stream, "\n" * is_dangling + text + "\n")
        for (key, output), line in told.newest:
            self._show(key, output, line)
        if told.display is not None:
            self._show_display(told.display)

    def _show_display(self, output: Output) -> None:
        self._open.pop(output.cell, None)
        self._messages.append(Message(output.cell, "", [], output.data))

    def _finish_lines(self, output: Output, now_s: float) -> None:
        """Show the unfinished lines of the task that displays something."""
        for key, writer in list(self._writers.items()):
            if key[:2] == (output.cell, output.task_id):
                self._show_tail(key, writer, now_s)

    def _show_tail(self, key: _Key, writer: _Writer, now_s: float) -> None:
        del self._writers[key]
        self._offer(key, writer.output, writer.tail, now_s)

    def _show(self, key: _Key, output: Output, text: str) -> None:
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
        self.size += len(text)


def _held_back(lines: int, displays: int, tasks: int, task_id: str) -> str:
    """Return the line that stands for what is not shown."""
    counts = [
        f"{count:,} {noun}{'s' * (count != 1)}".replace(",", " ")
        for count, noun in ((lines, "line"), (displays, "display"))
        if count > 0
    ]
    where = f"%jray logs {task_id[:6]}" if tasks == 1 and task_id else f"of {tasks} tasks - %jray logs"
    return f"[jray] {' and '.join(counts)} held back {'- ' * (tasks == 1)}{where}"


def _task_order(output: Output) -> tuple[int, int]:
    """Return where the task stands among those of its process: ids count up from a random start."""
    try:
        return output.cell, int.from_bytes(bytes.fromhex(output.task_id)[:8], "little")
    except ValueError:
        return output.cell, 0
