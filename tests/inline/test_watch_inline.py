"""What front ends are told of the inline engine's calls, and how they stop a cell."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import jray
from jray._core.engine import Tally
from jray._core.frontend import TerminalFrontend, set_frontend
from jray._core.refs import current


def watch() -> Any:
    client: Any = current.client
    return client.watch


class Cells(TerminalFrontend):
    """A front end whose cell the test chooses."""

    cell = 1


@pytest.fixture
def cells(start: Callable[..., Any]) -> Iterator[Cells]:
    frontend = Cells()
    set_frontend(frontend)
    start()
    yield frontend
    set_frontend(None)


def of(name: str, cell: int | None = None) -> Tally:
    (tally,) = [tally for tally in watch().tallies(cell) if tally.name.endswith(name)]
    found: Tally = tally
    return found


@jray.remote
def good(*_: Any) -> int:
    return 1


@jray.remote
def bad() -> None:
    raise ValueError("no")


@jray.remote(num_returns="streaming", _generator_backpressure_num_objects=1)
def items() -> Iterator[int]:
    yield from range(3)


def test_calls_are_counted_by_cell_and_function(cells: Cells) -> None:
    jray.get([good.remote() for _ in range(3)])
    cells.cell = 2
    good.remote()
    with pytest.raises(ValueError, match="no"):
        jray.get(bad.remote())
    assert (of("good", 1).submitted, of("good", 1).finished, of("good", 2).finished) == (3, 3, 1)
    assert (of("bad").failed, of("bad").waiting) == (1, 0)
    assert of("bad").last_error is not None
    assert [tally.name for tally in watch().tallies()] == ["good", "good", "bad"]


def test_what_runs_and_what_waits_is_told_apart(cells: Cells) -> None:
    """A paused generator runs, a call that waits for resources waits, and it is said for what."""
    generator = items.remote()
    waits = good.options(name="greedy", num_gpus=1).remote()
    assert (of("items").running, of("items").waiting) == (1, 0)
    assert (of("greedy").running, of("greedy").waiting) == (0, 1)
    (demand,) = watch().demands()
    assert (demand.name, demand.cell, demand.wanted) == ("greedy", 1, 1)
    assert "GPU" in demand.reason
    assert jray.get(list(generator)) == [0, 1, 2]
    assert (of("items").finished, of("items").running) == (1, 0)
    jray.cancel(waits)
    assert (of("greedy").cancelled, of("greedy").failed) == (1, 1)
    assert watch().demands() == []


def test_actors_are_counted_and_have_spans_of_their_own(cells: Cells) -> None:
    @jray.remote
    class Counter:
        def add(self, n: int) -> int:
            return n

    counter = Counter.remote()
    jray.get([counter.add.remote(1) for _ in range(20)])
    good.remote()
    tally = of("Counter.add", 1)
    assert (tally.submitted, tally.finished, tally.is_actor_call) == (20, 20, True)
    spans = watch().spans(1, 0.0, 600_000.0)
    assert {(span.actor, span.name, span.calls) for span in spans} == {
        ("Counter", "Counter.add", 20),
        ("", "good", 1),
    }
    assert len({span.worker_id for span in spans}) == 2
    assert watch().spans(999, 0.0, 600_000.0) == []


def test_spans_tell_what_failed_and_what_runs(cells: Cells) -> None:
    begun = time.time() * 1000
    generator = items.remote()
    bad.remote()
    seen = {span.name: span for span in watch().spans(None, begun - 100, 0.0)}
    assert seen["items"].end_ms is None
    assert seen["bad"].failed == 1
    assert seen["bad"].end_ms is not None
    del generator


def test_a_cell_is_stopped_and_others_are_not(cells: Cells) -> None:
    """What waits, is paused or awaits ends as cancelled; another cell's calls do not."""

    @jray.remote
    class Sleeper:
        async def sleep(self) -> None:
            await asyncio.sleep(3600)

    other = items.remote()
    cells.cell = 2
    generator = items.remote()
    sleeper = Sleeper.remote()
    asleep = sleeper.sleep.remote()
    waits = good.options(num_gpus=1).remote()
    last = good.options(name="last").remote(waits)
    stopped = watch().stop(2, force=False)
    assert stopped.running + stopped.waiting == 4
    for ref in (asleep, waits, last):
        with pytest.raises(jray.exceptions.TaskCancelledError):
            jray.get(ref)
    next(generator)
    with pytest.raises(jray.exceptions.TaskCancelledError):
        jray.get(next(generator))
    assert sum(tally.cancelled for tally in watch().tallies(2)) == 4
    assert jray.get(list(other)) == [0, 1, 2]


def test_a_task_that_runs_is_told_that_its_cell_was_stopped(cells: Cells) -> None:
    @jray.remote
    def stops_itself() -> tuple[int, bool]:
        stopped = sys.modules["jray._core.refs"].current.client.watch.stop(1, force=True)
        return stopped.running, jray.get_runtime_context().is_canceled()

    assert jray.get(stops_itself.remote()) == (1, True)


def test_calls_are_cancelled_by_id_and_by_name(cells: Cells) -> None:
    """What waits and what is paused; what has ended, or is unknown, is not counted."""
    generator = items.remote()
    waits = [good.options(name="greedy", num_gpus=1).remote() for _ in range(3)]
    done = good.remote()
    assert watch().cancel([waits[0].task_id().hex(), done.task_id().hex(), "ab" * 24], force=True) == (0, 1)
    assert watch().cancel(name="greedy", force=False) == (0, 2)
    for ref in waits:
        with pytest.raises(jray.exceptions.TaskCancelledError):
            jray.get(ref)
    assert watch().cancel(name="items", force=False) == (1, 0)
    next(generator)
    with pytest.raises(jray.exceptions.TaskCancelledError):
        jray.get(next(generator))
    assert jray.get(done) == 1
