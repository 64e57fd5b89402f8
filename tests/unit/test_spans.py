"""What a worker ran, told in short: no more spans than there is to see."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jray._core.worker.spans import span_rows


def ran(name: str, start_s: float, end_s: float, *, cell: int = 1, failed: bool = False) -> Any:
    template = SimpleNamespace(cell=cell)
    return SimpleNamespace(
        name=name, number=1, template=template, started_s=start_s, ended_s=end_s, has_failed=failed
    )


def told(tasks: list[Any], *, since_s: float = 0.0, resolution_s: float = 0.1) -> list[tuple[Any, ...]]:
    return span_rows([], tasks, 1, since_s, resolution_s, "")


def test_long_calls_are_told_each_and_short_ones_together() -> None:
    tasks = [ran("f", 0, 1), ran("f", 1, 2), *(ran("f", 2 + n / 100, 2.005 + n / 100) for n in range(100))]
    first, second, short = told(tasks)
    assert (first[3:6], second[3:6]) == ((0, 1, 1), (1, 2, 1))
    assert (short[3], short[5]) == (2, 100)
    assert short[4] == pytest.approx(2.995)
    assert short[7] == pytest.approx(0.5), "the time between the calls is not the calls'"


def test_short_calls_of_two_functions_in_turn_become_two_spans() -> None:
    """However they alternate, there are as few spans as functions."""
    tasks = [ran("fg"[n % 2], n / 100, n / 100 + 0.01, failed=n % 10 == 1) for n in range(1000)]
    one, other = told(tasks)
    assert (one[1], one[5], one[6]) == ("f", 500, 0)
    assert (other[1], other[5], other[6]) == ("g", 500, 100)


def test_a_pause_parts_spans_and_other_cells_are_left_out() -> None:
    tasks = [ran("f", 0, 0.01), ran("f", 0.02, 0.03, cell=2), ran("f", 5, 5.01)]
    assert [(row[3], row[4]) for row in told(tasks)] == [(0, 0.01), (5, 5.01)]
    assert [(row[3], row[4]) for row in told(tasks, since_s=1)] == [(5, 5.01)]
