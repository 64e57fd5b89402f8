"""Owns tables: rows as aligned text, as HTML that needs no style sheet, and as a DataFrame."""

from __future__ import annotations

import dataclasses
import html
import importlib
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

Kind = Literal["text", "count", "bytes", "seconds", "share", "states"]
#: what stands on the right of its column
_NUMBERS = frozenset({"count", "bytes", "seconds"})
#: longer cells are cut in the text form, which has no other way to stay a table
_WIDEST = 60
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """What one column shows, and how.

    The values of a *count* are ints, of *bytes* and *seconds* numbers, of a *share* pairs (used, of how much),
    of *states* mappings from a state's name to how many are in it; None is shown as nothing.
    """

    key: str  #: of the value in a row
    title: str
    kind: Kind = "text"
    unit: Kind = "count"  #: of a share


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Table:
    """Rows to look at.  Its text is the same for the same rows."""

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()

    def __repr__(self) -> str:
        count = len(self.rows)
        lines = [f"{self.title}: {count}" if count else f"{self.title}: none"]
        if count:
            lines += _aligned(self.columns, self.rows)
        return "\n".join([*lines, *(f"  ({note})" for note in self.notes)])

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="text-align:{_side(c)}">{html.escape(c.title)}</th>' for c in self.columns)
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align:{_side(column)};vertical-align:top">'
                f"{html.escape(text_of(row.get(column.key), column))}</td>"
                for column in self.columns
            )
            + "</tr>"
            for row in self.rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if self.rows else ""
        notes = "".join(
            f'<div style="color:var(--jp-ui-font-color2, inherit)">{html.escape(note)}</div>'
            for note in self.notes
        )
        count = str(len(self.rows)) if self.rows else "none"
        return (
            f'<div class="jray-table"><strong>{html.escape(self.title)}</strong>: {count}{table}{notes}</div>'
        )

    def df(self) -> Any:
        """Return the rows as a pandas DataFrame, a column for each of the table's.

        Raises:
            ImportError: pandas is not installed.
        """
        if importlib.util.find_spec("pandas") is None:
            raise ImportError(
                f"A DataFrame of {self.title!r} needs pandas, which is not installed here: pip install pandas. "
                "The rows are plain dicts, in .rows."
            )
        pandas = importlib.import_module("pandas")
        return pandas.DataFrame(
            [[row.get(column.key) for column in self.columns] for row in self.rows],
            columns=[column.key for column in self.columns],
        )

    def filtered(self, text: str) -> Table:
        """Return the rows in which every word of *text* is found, in upper or lower case."""
        kept = [row for row in self.rows if matches(row, self.columns, text)]
        return dataclasses.replace(self, rows=kept)

    def sorted(self, key: str, *, descending: bool = False) -> Table:
        """Return the rows by the values of a column; those without one are last either way.

        Raises:
            KeyError: there is no such column.
        """
        return dataclasses.replace(self, rows=in_order(self.rows, self.column(key), descending=descending))

    def column(self, key: str) -> Column:
        """Return the column of that key.

        Raises:
            KeyError: there is none.
        """
        for column in self.columns:
            if column.key == key:
                return column
        raise KeyError(f"{self.title!r} has no column {key!r}, but {', '.join(c.key for c in self.columns)}.")


def text_of(value: Any, column: Column) -> str:
    """Return a value as people read it."""
    if value is None:
        return ""
    if column.kind == "share":
        used, of_how_much = value
        unit = Column("", "", column.unit)
        return f"{text_of(used, unit)} of {text_of(of_how_much, unit)}"
    if column.kind == "states":
        return ", ".join(f"{count:,} {state}" for state, count in value.items() if count)
    if column.kind == "bytes":
        return _size(value)
    if column.kind == "seconds":
        return _duration(value)
    if column.kind == "count" and isinstance(value, (int, float)):
        return f"{value:,}" if isinstance(value, int) else f"{value:,g}"
    return str(value)


def matches(row: Mapping[str, Any], columns: Iterable[Column], text: str) -> bool:
    """Tell whether every word of *text* is in what the row shows, in upper or lower case."""
    words = text.lower().split()
    if not words:
        return True
    shown = " ".join(text_of(row.get(column.key), column) for column in columns).lower()
    return all(word in shown for word in words)


def in_order(
    rows: Iterable[Mapping[str, Any]], column: Column, *, descending: bool
) -> list[Mapping[str, Any]]:
    """Return rows by a column's values, equal ones as they were; those without a value are last."""
    with_value: list[Mapping[str, Any]] = []
    without: list[Mapping[str, Any]] = []
    for row in rows:
        (without if row.get(column.key) is None else with_value).append(row)
    with_value.sort(key=lambda row: _rank(row[column.key], column), reverse=descending)
    return with_value + without


def _rank(value: Any, column: Column) -> tuple[int, float, str]:
    # a column may hold numbers and words: numbers first, so that nothing is ever compared across
    if column.kind == "share":
        value = value[0] / value[1] if value[1] else 0
    elif column.kind == "states":
        value = sum(value.values())
    if isinstance(value, (int, float)):
        return (0, value, "")
    return (1, 0, str(value).lower())


def _side(column: Column) -> str:
    return "right" if column.kind in _NUMBERS else "left"


def _aligned(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [[column.title for column in columns]]
    cells += [[_cut(text_of(row.get(column.key), column)) for column in columns] for row in rows]
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if column.kind in _NUMBERS else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in cells
    ]


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _size(count: float) -> str:
    size = float(count)
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"


def _duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms" if seconds >= 0.01 else f"{seconds * 1e3:.1f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
