"""What front ends are told while work runs: counts by function, spans of workers, what waits, and stopping."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import jray
from jray._core.engine import Tally
from jray._core.frontend import TerminalFrontend, set_frontend
from jray._core.refs import current
from jray.util.state import list_tasks
from tests.behaviour.support import Bench, wait_until
from tests.cluster.processes import Cluster


def watch() -> Any:
    client: Any = current.client
    return client.watch


class Cells(TerminalFrontend):
    """A front end whose cell the test chooses."""

    cell = 1


@pytest.fixture
def cells(cluster: Cluster) -> Any:
    frontend = Cells()
    set_frontend(frontend)
    yield frontend
    set_frontend(None)


@jray.remote
def wait_at(gate: Any) -> None:
    gate.wait()


def of(name: str, cell: int | None = None) -> Tally:
    (tally,) = [tally for tally in watch().tallies(cell) if tally.name.endswith(name)]
    found: Tally = tally
    return found


def test_calls_are_counted_by_cell_and_function(cells: Cells) -> None:
    @jray.remote
    def good() -> int:
        return 1

    @jray.remote
    def bad() -> None:
        raise ValueError("no")

    jray.get([good.remote() for _ in range(300)])
    cells.cell = 2
    jray.get([good.remote() for _ in range(5)])
    with pytest.raises(ValueError, match="no"):
        jray.get(bad.remote())
    assert (of("good", 1).submitted, of("good", 1).finished, of("good", 1).waiting) == (300, 300, 0)
    assert (of("good", 2).finished, of("bad", 2).failed) == (5, 1)
    assert of("bad").last_error is not None


def test_what_runs_and_what_waits_is_told_apart(cells: Cells, bench: Bench) -> None:
    gate = bench.gate()
    refs = [wait_at.options(name="held").remote(gate) for _ in range(6)]
    wait_until(lambda: of("held", cells.cell).running == 2)
    assert of("held").waiting == 4
    wait_until(lambda: any(demand.cell == 1 and "CPU" in demand.reason for demand in watch().demands()))
    gate.open()
    jray.get(refs)
    assert (of("held").running, of("held").waiting, of("held").finished) == (0, 0, 6)


def test_calls_of_an_actor_are_counted(cells: Cells) -> None:
    @jray.remote
    class Counter:
        def add(self, n: int) -> int:
            return n

    counter = Counter.remote()
    jray.get([counter.add.remote(1) for _ in range(20)])
    tally = of("Counter.add", cells.cell)
    assert (tally.submitted, tally.finished, tally.is_actor_call) == (20, 20, True)


def test_workers_tell_what_they_ran(cells: Cells) -> None:
    """Short calls come many in a span, long ones each; what a task submits belongs to its cell too."""

    @jray.remote
    def inner() -> None:
        time.sleep(0.06)

    @jray.remote
    def outer() -> None:
        jray.get(inner.remote())

    @jray.remote
    def short() -> None:
        pass

    since = time.time() * 1000
    jray.get(outer.remote())
    jray.get([short.remote() for _ in range(1000)])
    spans = watch().spans(cells.cell, since, 50.0)
    names = [span.name.rpartition(".")[2] for span in spans]
    assert names.count("inner") == names.count("outer") == 1
    assert sum(span.calls for span in spans if span.name.endswith("short")) == 1000
    # so short a time ago, all of a worker's
    coarse = watch().spans(cells.cell, since, 600_000.0)
    shorts = [span.worker_id for span in coarse if span.name.endswith("short")]
    assert len(shorts) == len(set(shorts))
    assert all(span.end_ms is not None and span.start_ms >= since - 100 for span in spans)
    assert watch().spans(999, since, 50.0) == []


def test_a_running_call_has_a_span_without_end(cells: Cells, bench: Bench) -> None:
    gate = bench.gate()
    ref = wait_at.remote(gate)
    wait_until(lambda: any(span.end_ms is None for span in watch().spans(cells.cell, 0.0, 10.0)))
    gate.open()
    jray.get(ref)


def test_a_span_tells_since_when_its_call_waited_and_how_long_arguments_took(
    cells: Cells, bench: Bench
) -> None:
    """The owner knows the one, the worker the other; of what tasks submit nobody here knows since when."""

    class Slow:
        """Takes its time to be unpickled."""

        def __reduce__(self) -> tuple[Any, ...]:
            return time.sleep, (0.2,)

    @jray.remote
    def use(slow: Any, gate: Any) -> None:
        gate.wait()

    @jray.remote
    def outer() -> None:
        jray.get(wait_at.options(name="inner").remote(gate))

    gate = bench.gate()
    begun_ms = time.time() * 1000
    ref = use.remote(Slow(), gate)

    def is_ready() -> bool:
        return any(span.bringing_ms and span.end_ms is None for span in watch().spans(cells.cell, 0.0, 1.0))

    wait_until(is_ready)
    gate.open()
    jray.get([ref, outer.remote()])
    (used,) = [span for span in watch().spans(cells.cell, 0.0, 1.0) if span.name.endswith("use")]
    assert used.bringing_ms >= 150
    assert used.busy_ms is not None
    assert used.bringing_ms <= used.busy_ms
    assert used.submitted_ms is not None
    assert begun_ms - 100 < used.submitted_ms < used.start_ms + 100
    (inner,) = [span for span in watch().spans(cells.cell, 0.0, 1.0) if span.name == "inner"]
    assert inner.submitted_ms is None


@pytest.mark.parametrize("is_async", [False, True])
def test_of_a_concurrent_actors_calls_those_run_that_it_lets_run_at_once(
    cells: Cells, bench: Bench, is_async: bool
) -> None:
    class Threaded:
        def wait(self, gate: Any) -> None:
            gate.wait()

    class Asynchronous:
        async def wait(self, gate: Any) -> None:
            await asyncio.to_thread(gate.wait)

    gate = bench.gate()
    cls = Asynchronous if is_async else Threaded
    actor = jray.remote(max_concurrency=2)(cls).remote()
    refs = [actor.wait.remote(gate) for _ in range(6)]

    def states() -> list[str]:
        rows = list_tasks(filters=[("type", "=", "ACTOR_TASK")])
        return sorted(row.state for row in rows)

    wait_until(lambda: of("wait").running == 2)
    assert of("wait").waiting == 4
    wait_until(lambda: states().count("RUNNING") == 2)
    assert states().count("PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY") == 4
    gate.open()
    jray.get(refs, timeout=60)
    assert (of("wait").running, of("wait").finished) == (0, 6)


@pytest.mark.parametrize("force", [False, True])
def test_a_cell_is_stopped_and_others_are_not(cells: Cells, bench: Bench, force: bool) -> None:
    gate = bench.gate()
    other = wait_at.remote(gate)
    cells.cell = 2

    @jray.remote
    def endless() -> None:
        while True:
            time.sleep(0.01)

    refs = [endless.remote() for _ in range(5)]
    wait_until(lambda: of("endless").running == 1)
    stopped = watch().stop(2, force=force)
    assert (stopped.running, stopped.waiting) == (1, 4)
    for ref in refs:
        with pytest.raises((jray.exceptions.TaskCancelledError, jray.exceptions.WorkerCrashedError)):
            jray.get(ref, timeout=20)
    assert of("endless").cancelled + of("endless").failed >= 5
    gate.open()
    jray.get(other, timeout=20)


@jray.remote
def endless() -> None:
    while True:
        time.sleep(0.01)


@jray.remote
def submits(count: int) -> None:
    jray.get([endless.options(name="child", num_cpus=0).remote() for _ in range(count)])


def task_rows(**wanted: str) -> list[dict[str, Any]]:
    client: Any = current.client
    filters = [(key, "=", value) for key, value in wanted.items()]
    found: list[dict[str, Any]] = client.cluster.rows("tasks", filters=filters).rows
    return found


def assert_cancelled(refs: list[Any]) -> None:
    for ref in refs:
        with pytest.raises(jray.exceptions.TaskCancelledError):
            jray.get(ref, timeout=30)


@pytest.mark.parametrize("by", ["id", "name"])
def test_a_task_is_cancelled_without_its_ref(cells: Cells, by: str) -> None:
    """Of this process, running or waiting, and nothing else; what has ended is not counted."""
    refs = [endless.options(name="mine").remote() for _ in range(5)]
    other = endless.options(name="other", num_cpus=0).remote()
    wait_until(lambda: len(task_rows(name="mine", state="RUNNING")) == 2)
    wait_until(lambda: task_rows(name="other", state="RUNNING"))
    if by == "id":
        assert sum(watch().cancel([row["task_id"] for row in task_rows(name="mine")], force=False)) == 5
        assert watch().cancel(["ab" * 24], force=False) == (0, 0)
    else:
        assert sum(watch().cancel(name="mine", force=False)) == 5
    assert_cancelled(refs)
    assert watch().cancel([refs[0].task_id().hex()], force=False) == (0, 0)
    assert other.status() == "RUNNING"
    assert watch().cancel([other.task_id().hex()], force=False) == (1, 0)
    assert_cancelled([other])


@pytest.mark.parametrize("by", ["id", "name"])
@pytest.mark.parametrize("force", [False, True])
def test_a_task_of_another_process_is_cancelled(cells: Cells, by: str, force: bool) -> None:
    """Here a worker has submitted it, and its ref is there alone; what waits for it goes on, and fails."""
    parent = submits.remote(1)
    (child,) = wait_until(lambda: task_rows(name="child", state="RUNNING"))
    wanted = {"task_ids": [child["task_id"]]} if by == "id" else {"name": "child"}
    assert watch().cancel(**wanted, force=force) == (1, 0)
    with pytest.raises((jray.exceptions.TaskCancelledError, jray.exceptions.WorkerCrashedError)):
        jray.get(parent, timeout=30)
    wait_until(lambda: task_rows(name="child", state="FAILED"))


def test_cancelling_a_task_by_its_id_cancels_what_it_submitted(cells: Cells) -> None:
    parent = submits.remote(3)
    wait_until(lambda: len(task_rows(name="child", state="RUNNING")) == 3)
    assert watch().cancel([parent.task_id().hex()], force=False) == (1, 0)
    assert_cancelled([parent])
    wait_until(lambda: len(task_rows(name="child", state="FAILED")) == 3)


def test_calls_of_an_actor_are_cancelled_by_name_and_never_forced(cells: Cells, bench: Bench) -> None:
    """Those on their way and those that wait for their arguments; the actor lives."""

    @jray.remote
    class Waiter:
        def wait(self, gate: Any, _: Any = None) -> int:
            gate.wait()
            return 1

    gate = bench.gate()
    late = wait_at.remote(gate)
    waiter = Waiter.remote()
    first = waiter.wait.remote(gate)
    wait_until(lambda: task_rows(type="ACTOR_TASK", state="RUNNING"))
    second, third = waiter.wait.remote(gate, late), waiter.wait.options(name="kept").remote(gate)
    assert sum(watch().cancel([second.task_id().hex()], force=True)) == 1
    assert_cancelled([second])
    gate.open()
    assert jray.get([first, third], timeout=30) == [1, 1]


def test_many_waiting_tasks_are_cancelled_at_once(cells: Cells, bench: Bench) -> None:
    """Whatever waits between them stays, and none of those that depend on others begins meanwhile."""
    gate = bench.gate()
    many_of = ignore.options(name="many")
    running = [wait_at.options(name="many").remote(gate) for _ in range(2)]
    wait_until(lambda: len(task_rows(name="many", state="RUNNING")) == 2)
    many: list[Any] = []
    kept: list[Any] = []
    for number in range(5000):
        many.append(many_of.remote(many[-1] if number % 10 == 9 else number))
        if not number % 100:
            kept.append(ignore.remote(number))
    many += [many_of.remote(running[0]), many_of.remote(kept[0])]
    assert watch().cancel(name="many", force=False) == (2, len(many))
    assert_cancelled(many)
    gate.open()
    assert jray.get(kept, timeout=60) == [None] * len(kept)


@jray.remote
def ignore(_: Any) -> None: ...
