"""What a worker ran, told in short: no more spans than there is to see."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jray._core.worker.spans import SpanRow, span_rows


def ran(
    name: str, start_s: float, end_s: float, *, cell: int = 1, failed: bool = False, ready_s: float = 0.0
) -> Any:
    return SimpleNamespace(
        name=name,
        number=1,
        template=SimpleNamespace(cell=cell),
        started_s=start_s,
        ready_s=ready_s,
        ended_s=end_s,
        has_failed=failed,
    )


def told(tasks: list[Any], *, since_s: float = 0.0, resolution_s: float = 0.1) -> list[SpanRow[Any]]:
    return span_rows([], tasks, 1, since_s, resolution_s)


def test_long_calls_are_told_each_and_short_ones_together() -> None:
    tasks = [ran("f", 0, 1), ran("f", 1, 2), *(ran("f", 2 + n / 100, 2.005 + n / 100) for n in range(100))]
    first, second, short = told(tasks)
    assert first[1:4] == (0, 1, 1)
    assert second[1:4] == (1, 2, 1)
    assert (short.start_s, short.calls, short.first) == (2, 100, tasks[2])
    assert short.end_s == pytest.approx(2.995)
    assert short.busy_s == pytest.approx(0.5), "the time between the calls is not the calls'"


def test_short_calls_of_two_functions_in_turn_become_two_spans() -> None:
    """However they alternate, there are as few spans as functions."""
    tasks = [ran("fg"[n % 2], n / 100, n / 100 + 0.01, failed=n % 10 == 1) for n in range(1000)]
    one, other = told(tasks)
    assert (one.name, one.calls, one.failed) == ("f", 500, 0)
    assert (other.name, other.calls, other.failed) == ("g", 500, 100)


def test_a_pause_parts_spans_and_other_cells_are_left_out() -> None:
    tasks = [ran("f", 0, 0.01), ran("f", 0.02, 0.03, cell=2), ran("f", 5, 5.01)]
    assert [(row.start_s, row.end_s) for row in told(tasks)] == [(0, 0.01), (5, 5.01)]
    assert [(row.start_s, row.end_s) for row in told(tasks, since_s=1)] == [(5, 5.01)]


def test_the_time_that_arguments_took_is_told_of_all_calls_of_a_span() -> None:
    """Also of a call that runs; a call without arguments to bring has none."""
    tasks = [ran("f", 1, 1.05, ready_s=1.02), ran("f", 1.06, 1.08), ran("f", 1.09, 1.13, ready_s=1.1)]
    (row,) = told(tasks)
    assert row.bringing_s == pytest.approx(0.03)
    (runs,) = span_rows([ran("f", 1, 0, ready_s=1.5)], [], 1, 0.0, 0.1)
    assert (runs.end_s, runs.bringing_s) == (None, 0.5)
