"""What front ends are told of calls on a Ray cluster, and how they stop a cell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

import jray
from jray._core.engine import Tally
from jray._core.refs import current
from tests.on_ray.conftest import PATIENCE_S, Recorder, wait_until

pytestmark = pytest.mark.usefixtures("joined")


@pytest.fixture
def cells(recorder: Recorder) -> Recorder:
    """A front end whose cell no other test has."""
    recorder.cell = time.monotonic_ns()
    recorder.cell %= 1 << 20
    return recorder


def watch() -> Any:
    client: Any = current.client
    return client.watch


def of(name: str, cell: int) -> Tally:
    (tally,) = [tally for tally in watch().tallies(cell) if tally.name.endswith(name)]
    found: Tally = tally
    return found


@jray.remote
def one() -> int:
    return 1


@jray.remote(max_retries=0)
def endless() -> None:
    import time  # noqa: PLC0415 -- it travels by value

    while True:
        time.sleep(0.01)


def test_calls_are_counted_as_they_end(cells: Recorder) -> None:
    """A call ends when its ref is ready, without anybody's getting it; what was dropped counts too."""

    @jray.remote
    class Counter:
        def add(self, n: int) -> int:
            return n

    @jray.remote
    def items() -> Iterator[int]:
        yield 1

    refs = [one.remote() for _ in range(20)]
    wait_until(lambda: of("one", cells.cell).finished == 20)
    counter = Counter.remote()
    jray.get([counter.add.remote(1) for _ in range(5)])
    tally = of("Counter.add", cells.cell)
    assert (tally.submitted, tally.finished, tally.is_actor_call) == (5, 5, True)
    generator = items.remote()
    assert jray.get(list(generator)) == [1]
    wait_until(lambda: of("items", cells.cell).finished == 1)
    assert of("one", cells.cell).waiting == 0
    del refs


def test_a_failure_is_counted(cells: Recorder, joined: str) -> None:
    @jray.remote
    def bad() -> None:
        raise ValueError("no")

    ref = bad.remote()
    if joined == "client":  # which has nothing of a value before it is got
        with pytest.raises(ValueError, match="no"):
            jray.get(ref)
    wait_until(lambda: of("bad", cells.cell).failed == 1)
    assert isinstance(of("bad", cells.cell).last_error, ValueError)
    del ref


def test_what_does_not_fit_is_a_demand(cells: Recorder) -> None:
    ref = one.options(name="greedy", resources={"gadget": 3}).remote()
    (demand,) = [demand for demand in watch().demands() if demand.cell == cells.cell]
    assert (demand.name, demand.wanted) == ("greedy", 1)
    assert "gadget" in demand.reason
    jray.cancel(ref)


def test_spans_are_those_of_the_state_api(cells: Recorder) -> None:
    jray.get([one.remote() for _ in range(3)])

    def spans() -> Any:
        return [span for span in watch().spans(cells.cell, 0.0, 10.0) if span.end_ms is not None]

    wait_until(lambda: sum(span.calls for span in spans()) == 3)
    assert {(span.name, span.cell, span.failed) for span in spans()} == {("one", cells.cell, 0)}


@pytest.mark.parametrize("force", [False, True])
def test_a_cell_is_stopped(cells: Recorder, force: bool) -> None:
    refs = [endless.remote() for _ in range(4)]
    cell = cells.cell
    cells.cell += 1
    other = one.remote()
    assert watch().stop(cell, force=force).running == 4
    for ref in refs:
        with pytest.raises((jray.exceptions.TaskCancelledError, jray.exceptions.WorkerCrashedError)):
            jray.get(ref, timeout=PATIENCE_S)
    assert jray.get(other, timeout=PATIENCE_S) == 1
    assert of("endless", cell).failed == 4


@pytest.mark.parametrize("by", ["id", "name"])
def test_calls_are_cancelled_by_id_and_by_name(cells: Recorder, by: str) -> None:
    name = f"endless-{cells.cell}"
    refs = [endless.options(name=name).remote() for _ in range(3)]
    other = one.remote()
    if by == "id":
        found = watch().cancel([ref.task_id().hex() for ref in refs], force=False)
    else:
        found = watch().cancel(name=name, force=False)
    assert sum(found) == 3
    for ref in refs:
        with pytest.raises(jray.exceptions.TaskCancelledError):
            jray.get(ref, timeout=PATIENCE_S)
    assert jray.get(other, timeout=PATIENCE_S) == 1


def test_a_task_that_no_ref_is_here_of_is_refused(cells: Recorder) -> None:
    """Ray cancels by refs alone; those that there are refs of are cancelled nevertheless."""
    ref = endless.remote()
    with pytest.raises(NotImplementedError, match=r"by its ObjectRef only.*none of abababab"):
        watch().cancel(["ab" * 24, ref.task_id().hex()], force=False)
    with pytest.raises(jray.exceptions.TaskCancelledError):
        jray.get(ref, timeout=PATIENCE_S)
