"""Owns how much of what the tasks of one cell write is shown: a burst, then a trickle, and a count of the rest.  Pure.

A front end that gets every line of a flood stops answering, and Jupyter's server drops what is too much without
saying so.  What is held back here is counted, its newest lines are kept, and all of it stays in the tasks' logs.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from typing import Generic, TypeVar

from jray._core.frontend import Output

#: Of a held line that is shown, at most this many characters are kept.
_LONGEST_HELD_LINE = 1000

Source = TypeVar("Source")


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What one cell may show: so much at once, and so much a second after that."""

    lines: float = 5000
    lines_per_s: float = 200
    characters: float = 256 * 1024
    characters_per_s: float = 64 * 1024
    messages: float = 200  #: beyond the one that each sending needs
    messages_per_s: float = 40
    displays: float = 100
    displays_per_s: float = 10
    newest: int = 10  #: held lines that are shown after all, when the count is told
    tell_s: float = 1.0  #: the count is told this often


def limits_from_environ() -> Limits | None:
    """Return the limits that `JRAY_OUTPUT_LINES_PER_S` asks for, other than the usual; None at 0: show everything."""
    given = os.environ.get("JRAY_OUTPUT_LINES_PER_S")
    if given is None:
        return Limits()
    try:
        lines_per_s = float(given)
    except ValueError:
        lines_per_s = -1.0
    if not 0 <= lines_per_s < float("inf"):
        raise ValueError(
            f"JRAY_OUTPUT_LINES_PER_S={given!r}: must be a number of lines, or 0 to show everything"
        )
    if not lines_per_s:
        return None
    usual = Limits()
    factor = lines_per_s / usual.lines_per_s
    return dataclasses.replace(usual, lines=max(usual.newest, usual.lines * factor), lines_per_s=lines_per_s)


class Bucket:
    """Holds tokens, filled at a steady pace up to its size."""

    __slots__ = ("_filled_s", "_per_s", "_size", "tokens")

    def __init__(self, size: float, per_s: float, now_s: float) -> None:
        self.tokens = self._size = size
        self._per_s = per_s
        self._filled_s = now_s

    def fill(self, now_s: float) -> None:
        passed_s, self._filled_s = max(0.0, now_s - self._filled_s), max(now_s, self._filled_s)
        self.tokens = min(self._size, self.tokens + passed_s * self._per_s)

    @property
    def is_full(self) -> bool:
        return self.tokens >= self._size


@dataclasses.dataclass(slots=True)
class Told(Generic[Source]):
    """What was held back: how much is not shown, and the newest of it, which is."""

    lines: int
    displays: int
    sources: int  #: tasks that wrote it
    task_id: str  #: of the one that wrote the newest
    newest: list[tuple[Source, str]]
    display: Output | None


class Throttle(Generic[Source]):
    """The limits of one cell and what they hold back."""

    def __init__(self, limits: Limits, now_s: float) -> None:
        self._limits = limits
        self._lines = Bucket(limits.lines, limits.lines_per_s, now_s)
        self._characters = Bucket(limits.characters, limits.characters_per_s, now_s)
        self._messages = Bucket(limits.messages, limits.messages_per_s, now_s)
        self._displays = Bucket(limits.displays, limits.displays_per_s, now_s)
        self._held_lines = 0
        self._held_displays = 0
        self._newest: collections.deque[tuple[Source, str]] = collections.deque(maxlen=limits.newest)
        self._display: Output | None = None
        #: ids of the tasks that wrote what is held; not all of them if they are very many
        self._tasks: dict[str, None] = {}
        self._told_s = now_s

    @property
    def is_holding(self) -> bool:
        return bool(self._held_lines or self._held_displays)

    def is_idle(self, now_s: float) -> bool:
        """Tell whether a new throttle would do the same."""
        self._fill(now_s)
        buckets = (self._lines, self._characters, self._messages, self._displays)
        return not self.is_holding and all(bucket.is_full for bucket in buckets)

    def is_due(self, now_s: float) -> bool:
        """Tell whether what is held should be told now."""
        return self.is_holding and now_s - self._told_s >= self._limits.tell_s

    def admit(
        self, source: Source, task_id: str, text: str, now_s: float, *, opens_message: bool = False
    ) -> str:
        """Return the first part of *text*, whole lines, that may be shown; the rest is held.

        `opens_message`: whether showing it needs a message of its own.
        """
        self._fill(now_s)
        if self._held_lines or (opens_message and self._messages.tokens < 1):
            self._hold(source, task_id, text, now_s)
            return ""
        shown = self._affordable(text)
        if shown:
            self._lines.tokens -= _count(shown)
            self._characters.tokens -= len(shown)
            self._messages.tokens -= opens_message
        if len(shown) < len(text):
            self._hold(source, task_id, text[len(shown) :], now_s)
        return shown

    def admit_display(self, output: Output, now_s: float) -> bool:
        """Tell whether a display may be shown; the newest that may not is kept."""
        self._fill(now_s)
        if self._displays.tokens >= 1:
            self._displays.tokens -= 1
            return True
        self._begin(output.task_id, now_s)
        self._held_displays += 1
        self._display = output
        return False

    def tell(self, now_s: float) -> Told[Source]:
        """Return what is held, and hold it no more."""
        newest = list(self._newest)
        told = Told(
            self._held_lines - len(newest),
            max(0, self._held_displays - 1),
            len(self._tasks),
            next(reversed(self._tasks), ""),
            newest,
            self._display,
        )
        self._lines.tokens -= len(newest)
        self._characters.tokens -= sum(len(text) for _, text in newest)
        self._held_lines = self._held_displays = 0
        self._newest.clear()
        self._tasks.clear()
        self._display = None
        self._told_s = now_s
        return told

    # -- inside -----------------------------------------------------------------------------------

    def _fill(self, now_s: float) -> None:
        for bucket in (self._lines, self._characters, self._messages, self._displays):
            bucket.fill(now_s)

    def _affordable(self, text: str) -> str:
        most_lines, most_characters = int(self._lines.tokens), int(self._characters.tokens)
        if most_lines < 1 or most_characters < 1:
            return ""
        if len(text) <= most_characters and _count(text) <= most_lines:
            return text
        first = text.split("\n", most_lines)[:most_lines]
        end = min(len(text), sum(map(len, first)) + len(first))
        if end > most_characters:
            end = text.rfind("\n", 0, most_characters) + 1
        return text[:end]

    def _hold(self, source: Source, task_id: str, text: str, now_s: float) -> None:
        self._begin(task_id, now_s)
        self._held_lines += _count(text)
        is_whole = text.endswith("\n")
        lines = text.removesuffix("\n").rsplit("\n", self._limits.newest)[-self._limits.newest :]
        for number, line in enumerate(lines, 1):
            kept = line
            if len(line) > _LONGEST_HELD_LINE:
                cut = len(line) - _LONGEST_HELD_LINE
                kept = f"{line[:_LONGEST_HELD_LINE]}... ({cut:,} more characters)".replace(",", " ")
            self._newest.append((source, kept + "\n" * (is_whole or number < len(lines))))

    def _begin(self, task_id: str, now_s: float) -> None:
        if not self.is_holding:
            self._told_s = now_s
        if len(self._tasks) < 1000:
            self._tasks.pop(task_id, None)
            self._tasks[task_id] = None


def _count(text: str) -> int:
    """Return how many lines *text* is, an unfinished one included."""
    return text.count("\n") + (not text.endswith("\n"))
