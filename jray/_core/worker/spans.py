"""Owns the short form of what a worker ran: long calls each, short ones many in a row.  Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar


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
    def ready_s(
        self,
    ) -> float: ...  # when what had to be brought was there; 0: nothing had to
    @property
    def ended_s(self) -> float: ...
    @property
    def has_failed(self) -> bool: ...


R = TypeVar("R", bound=Ran)


class SpanRow(NamedTuple, Generic[R]):
    """What one worker ran for a while, by the monotonic clock: see `jray._core.engine.Span`."""

    first: R  #: the call that began it
    start_s: float
    end_s: float | None  #: None: it runs
    calls: int = 1
    failed: int = 0
    #: seconds of the calls, with bringing code and arguments, of those that have ended
    busy_s: float = 0.0
    #: seconds of these for which code and arguments were brought
    bringing_s: float = 0.0

    @property
    def name(self) -> str:
        return self.first.name

    @property
    def cell(self) -> int:
        cell: int = self.first.template.cell
        return cell


class _Run(Generic[R]):
    """Calls of one function that follow one another."""

    __slots__ = ("bringing_s", "busy_s", "calls", "end_s", "failed", "first")

    def __init__(self, task: R) -> None:
        self.first, self.end_s = task, task.ended_s
        self.calls, self.failed = 1, int(task.has_failed)
        self.busy_s = task.ended_s - task.started_s
        self.bringing_s = _bringing_s(task)

    def add(self, task: R) -> None:
        self.end_s = max(self.end_s, task.ended_s)
        self.calls += 1
        self.failed += task.has_failed
        self.busy_s += task.ended_s - task.started_s
        self.bringing_s += _bringing_s(task)

    def row(self) -> SpanRow[R]:
        return SpanRow(
            self.first,
            self.first.started_s,
            self.end_s,
            self.calls,
            self.failed,
            self.busy_s,
            self.bringing_s,
        )


def _bringing_s(task: Ran) -> float:
    return max(0.0, task.ready_s - task.started_s)


def span_rows(
    running: Sequence[R],
    ran: Sequence[R],
    cell: int | None,
    since_s: float,
    resolution_s: float,
) -> list[SpanRow[R]]:
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
    runs: list[_Run[R]] = []
    #: the last run of short calls of each function
    open_runs: dict[tuple[str, int], _Run[R]] = {}
    for task in found:
        is_short = task.ended_s - task.started_s < resolution_s
        key = (task.name, task.template.cell)
        run = open_runs.get(key) if is_short else None
        if run is not None and task.started_s - run.end_s < resolution_s:
            run.add(task)
            continue
        run = _Run(task)
        runs.append(run)
        if is_short:
            open_runs[key] = run
    rows = [run.row() for run in runs]
    rows += [
        SpanRow(task, task.started_s, None, bringing_s=_bringing_s(task))
        for task in running
        if cell is None or task.template.cell == cell
    ]
    return rows
