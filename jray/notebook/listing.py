"""Owns the form of what the commands tell: columns and rows, as text, as HTML and as data.  Pure."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_LEFT, _RIGHT = "left", "right"
#: longest text of one cell of a table; the whole is in `rows`
_WIDEST = 90
#: what no two runs have in common, inside texts: ids and processes
_ID = re.compile(r"\b[0-9a-f]{16,}\b")
_PROCESS = re.compile(r"\b(pid|process)([ =])\d+")


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a listing."""

    key: str  #: of a row
    title: str = ""  #: default: the key
    show: Callable[[Any], str] = str  #: for values that are not None
    is_number: bool = False  #: aligned right
    #: whether the same notebook has another value in each run: ids, pids, times
    varies: bool = False


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Listing:
    """An answer of `%jray`: a table that is shown as text or HTML, and whose `rows` are dicts."""

    title: str
    columns: tuple[Column, ...]
    rows: list[dict[str, Any]]
    notes: tuple[str, ...] = ()
    #: whether columns that vary are left out of what is shown
    is_deterministic: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __repr__(self) -> str:
        lines = [self.title]
        columns = self._shown()
        if self.rows and columns:
            table = [
                [column.title or column.key for column in columns],
                *([self._text(column, row) for column in columns] for row in self.rows),
            ]
            widths = [max(len(line[index]) for line in table) for index in range(len(columns))]
            lines += [
                "  " + "  ".join(
                    text.rjust(width) if column.is_number else text.ljust(width)
                    for column, text, width in zip(columns, line, widths, strict=True)
                ).rstrip()
                for line in table
            ]  # fmt: skip
        return "\n".join([*lines, *self._shown_notes()])

    def _repr_html_(self) -> str:
        columns = self._shown()
        table = ""
        if self.rows and columns:
            head = "".join(_cell("th", column, column.title or column.key) for column in columns)
            body = "".join(
                f"<tr>{''.join(_cell('td', column, self._text(column, row)) for column in columns)}</tr>"
                for row in self.rows
            )
            table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        notes = "".join(f"<div>{html.escape(note)}</div>" for note in self._shown_notes())
        return (
            '<div class="jray-listing" style="color:var(--jp-ui-font-color1, inherit)">'
            f"<strong>{html.escape(self.title)}</strong>{table}{notes}</div>"
        )

    def _text(self, column: Column, row: dict[str, Any]) -> str:
        value = row.get(column.key)
        text = "" if value is None else " ".join(column.show(value).split())
        if self.is_deterministic:
            text = steady(text)
        return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."

    def _shown_notes(self) -> list[str]:
        return [steady(note) if self.is_deterministic else note for note in self.notes]

    def _shown(self) -> Sequence[Column]:
        """Return the columns that say something."""
        return [
            column
            for column in self.columns
            if not (column.varies and self.is_deterministic)
            and any(self._text(column, row) for row in self.rows)
        ]


def _cell(tag: str, column: Column, text: str) -> str:
    side = _RIGHT if column.is_number else _LEFT
    return f'<{tag} style="text-align:{side}">{html.escape(text)}</{tag}>'


def is_cut(text: str) -> bool:
    """Tell whether a table shows only the beginning of a text."""
    return len(text) > _WIDEST


def steady(text: str) -> str:
    """Return *text* without ids and processes, which differ from run to run."""
    return _PROCESS.sub(r"\1\2...", _ID.sub("...", text))


def count(number: int, word: str, plural: str = "") -> str:
    """Return ``1 task`` or ``2 tasks``."""
    return f"{number} {word if number == 1 else plural or word + 's'}"


def human_time(milliseconds: float) -> str:
    """Return a duration as people say it: ``120 ms``, ``3.2 s``, ``4 min 10 s``."""
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
