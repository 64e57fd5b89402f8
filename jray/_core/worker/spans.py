"""Owns the short form of what a worker ran: long calls each, short ones many in a row.  Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

#: (actor class, name, cell, start, end or None, calls, failed, seconds of the calls), by the monotonic clock
SpanRow = tuple[str, str, int, float, float | None, int, int, float]


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


class _Run:
    """Calls of one function that follow one another."""

    __slots__ = ("busy_s", "calls", "end_s", "failed", "start_s")

    def __init__(self, task: Ran) -> None:
        self.start_s, self.end_s = task.started_s, task.ended_s
        self.calls, self.failed = 1, int(task.has_failed)
        self.busy_s = task.ended_s - task.started_s

    def add(self, task: Ran) -> None:
        self.end_s = max(self.end_s, task.ended_s)
        self.calls += 1
        self.failed += task.has_failed
        self.busy_s += task.ended_s - task.started_s


def span_rows(
    running: Sequence[Ran],
    ran: Sequence[Ran],
    cell: int | None,
    since_s: float,
    resolution_s: float,
    actor: str,
) -> list[SpanRow]:
    """Return the spans of a cell (None: of all) that had not ended by `since_s`.

    `ran` is in the order of its ends.  Calls that are shorter than the resolution, and follow one of the same
    function within it, become one span, also where calls of others come between: so there are few spans however
    many calls there were.
    """
    recent = itertools.takewhile(lambda task: task.ended_s >= since_s, reversed(ran))
    found = sorted(
        (task for task in recent if task.number and (cell is None or task.template.cell == cell)),
        key=lambda task: task.started_s,
    )
    runs: list[tuple[str, int, _Run]] = []
    #: the last run of short calls of each function
    open_runs: dict[tuple[str, int], _Run] = {}
    for task in found:
        is_short = task.ended_s - task.started_s < resolution_s
        key = (task.name, task.template.cell)
        run = open_runs.get(key) if is_short else None
        if run is not None and task.started_s - run.end_s < resolution_s:
            run.add(task)
            continue
        run = _Run(task)
        runs.append((*key, run))
        if is_short:
            open_runs[key] = run
    rows: list[SpanRow] = [
        (actor, name, of_cell, run.start_s, run.end_s, run.calls, run.failed, run.busy_s)
        for name, of_cell, run in runs
    ]
    rows += [
        (actor, task.name, task.template.cell, task.started_s, None, 1, 0, 0.0)
        for task in running
        if cell is None or task.template.cell == cell
    ]
    return rows
