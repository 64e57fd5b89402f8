"""Owns the short form of what a worker ran: long calls each, short ones many in a row.  Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

#: (actor class, name, cell, start, end or None, calls, failed), by the monotonic clock
SpanRow = tuple[str, str, int, float, float | None, int, int]


class Ran(Protocol):
    """What is known of a call that runs or ran."""

    @property
    def number(self) -> int: ...  # 0: not a call of the user's
    @property
    def name(self) -> str: ...
    @property
    def template(self) -> Any: ...  # has its cell
    @property
    def started_s(self) -> float: ...
    @property
    def ended_s(self) -> float: ...
    @property
    def has_failed(self) -> bool: ...


def span_rows(
    running: Sequence[Ran],
    ran: Sequence[Ran],
    cell: int | None,
    since_s: float,
    resolution_s: float,
    actor: str,
) -> list[SpanRow]:
    """Return the spans of a cell (None: of all) that had not ended by `since_s`.

    `ran` is in the order of its ends.  Calls that are shorter than the resolution, and follow one another within it,
    become one span; those of a concurrent actor overlap, and count as following.
    """
    recent = itertools.takewhile(lambda task: task.ended_s >= since_s, reversed(ran))
    found = sorted(
        (task for task in recent if task.number and (cell is None or task.template.cell == cell)),
        key=lambda task: task.started_s,
    )
    rows: list[SpanRow] = []
    for task in found:
        name, of_cell, start, end = task.name, task.template.cell, task.started_s, task.ended_s
        failed = int(task.has_failed)
        is_short = end - start < resolution_s
        if rows and is_short:
            _, last_name, last_cell, last_start, last_end, calls, last_failed = rows[-1]
            assert last_end is not None
            if (
                (last_name, last_cell) == (name, of_cell)
                and (calls > 1 or last_end - last_start < resolution_s)
                and start - last_end < resolution_s
            ):
                rows[-1] = (
                    actor, name, of_cell, last_start, max(end, last_end), calls + 1, last_failed + failed
                )  # fmt: skip
                continue
        rows.append((actor, name, of_cell, start, end, 1, failed))
    rows += [
        (actor, task.name, task.template.cell, task.started_s, None, 1, 0)
        for task in running
        if cell is None or task.template.cell == cell
    ]
    return rows
