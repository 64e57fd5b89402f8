"""Executor: the standard library's contract of executors and futures, kept by tasks."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import functools
import operator
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import jray
from tests.behaviour import engine
from tests.behaviour.support import Bench, Gate, Tally, wait_until

if engine.ON_RAY:
    pytest.skip("Ray has no such thing", allow_module_level=True)

from jray.util import Executor

pytestmark = pytest.mark.usefixtures("cluster")


class Odd(Exception):
    """A user's own, which pickle can't make again by itself."""

    def __init__(self, first: int, *, second: int) -> None:
        super().__init__(first)
        self.second = second

    def __reduce__(self) -> Any:
        return functools.partial(Odd, *self.args, second=self.second), ()


def square(x: int) -> int:
    return x * x


def divide(x: int, y: int) -> float:
    return x / y


def fail_oddly() -> None:
    raise Odd(1, second=2)


def at(gate: Gate, here: Tally, value: Any = None) -> Any:
    here.add(value)
    gate.wait()
    return value


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor() as made:
        yield made


@pytest.fixture
def full(executor: Executor, bench: Bench) -> Iterator[list[cf.Future[Any]]]:
    """The futures of calls that hold both CPUs of the cluster, until the gate "full" opens."""
    gate, here = bench.gate("full"), bench.tally("full tally")
    futures = [executor.submit(at, gate, here) for _ in range(2)]
    wait_until(lambda: all(future.running() for future in futures))
    yield futures
    gate.open()
    cf.wait(futures)


# -- submit ---------------------------------------------------------------------------------------------


def test_it_is_an_executor(executor: Executor) -> None:
    """Code that asks for an executor of the standard library gets one."""
    assert isinstance(executor, cf.Executor)
    assert isinstance(executor.submit(square, 3), cf.Future)


def test_submit_calls_with_all_arguments(executor: Executor) -> None:
    """Positional and keyword arguments arrive, also those with the names of `submit`'s own parameters."""

    def capture(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        return args, kwargs

    future = executor.submit(capture, 1, "two", self=3, fn=4, args=5, names=6)
    assert future.result() == ((1, "two"), {"self": 3, "fn": 4, "args": 5, "names": 6})
    assert future.exception() is None
    assert future.done()
    assert not future.running()


def test_whatever_can_be_called_can_be_submitted(executor: Executor) -> None:
    """Builtins, classes, bound methods, partial functions, lambdas and closures."""
    offset = 10
    calls = [
        executor.submit(pow, 2, 5),
        executor.submit(int, "7"),
        executor.submit("a,b".split, ","),
        executor.submit(functools.partial(divide, 6), 3),
        executor.submit(lambda x: x + offset, 1),
        executor.submit(operator.itemgetter(1), [4, 5]),
    ]
    assert [call.result() for call in calls] == [32, 7, ["a", "b"], 2.0, 11, 5]


def test_a_function_is_sent_as_it_is_now(executor: Executor) -> None:
    """Each submit sees what the function captures at that time."""
    captured = [1]

    def read() -> int:
        return captured[0]

    first = executor.submit(read)
    captured[0] = 2
    assert (first.result(), executor.submit(read).result()) == (1, 2)


def test_refs_become_values(executor: Executor) -> None:
    """An ObjectRef among the arguments is replaced by its value, in `map` and in its chunks too."""
    refs = [jray.put(n) for n in range(4)]
    assert executor.submit(divide, refs[2], y=refs[1]).result() == 2
    assert list(executor.map(square, refs)) == [0, 1, 4, 9]
    assert list(executor.map(square, refs, chunksize=3)) == [0, 1, 4, 9]


def test_an_exception_is_the_functions_own(executor: Executor) -> None:
    """result and exception give what was raised, with its arguments, caused by the traceback of the worker."""
    future = executor.submit(divide, 1, 0)
    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        future.result()
    assert type(caught.value) is ZeroDivisionError
    assert "divide" in str(caught.value.__cause__)
    odd = executor.submit(fail_oddly).exception()
    assert type(odd) is Odd
    assert (odd.args, odd.second) == ((1,), 2)


@pytest.mark.parametrize("call", [(square,), (square, 1, 2), (square, threading.Lock()), (threading.Lock,)])
def test_whatever_goes_wrong_is_the_futures_exception(executor: Executor, call: tuple[Any, ...]) -> None:
    """Wrong arguments, and what cannot be sent to or fro: submit itself does not raise."""
    assert isinstance(executor.submit(*call).exception(timeout=30), TypeError)
    assert executor.submit(square, 2).result() == 4


def test_a_worker_that_dies_is_told(bench: Bench) -> None:
    """A call that kills its worker raises WorkerCrashedError after its retries; the executor goes on."""
    tally = bench.tally()

    def die() -> None:
        tally.add()
        os.kill(os.getpid(), signal.SIGKILL)

    with Executor(max_retries=1) as executor:
        error = executor.submit(die).exception(timeout=30)
        assert isinstance(error, jray.exceptions.WorkerCrashedError)
        assert tally.count() == 2
        assert executor.submit(square, 3).result() == 9


# -- waiting ----------------------------------------------------------------------------------------------


def test_result_has_a_time_limit(executor: Executor, bench: Bench) -> None:
    """result and exception raise TimeoutError, and can be asked again."""
    gate, here = bench.gate(), bench.tally()
    future = executor.submit(at, gate, here, "late")
    for wait in (future.result, future.exception):
        with pytest.raises(cf.TimeoutError):
            wait(timeout=0.05)
        with pytest.raises(cf.TimeoutError):
            wait(timeout=0)
    assert not future.done()
    gate.open()
    assert future.result(timeout=30) == "late"


def test_wait_and_as_completed(executor: Executor, bench: Bench) -> None:
    """concurrent.futures.wait and as_completed see what is done, what failed and what is cancelled."""
    gate, here = bench.gate(), bench.tally()
    slow = executor.submit(at, gate, here)
    failed, quick = executor.submit(divide, 1, 0), executor.submit(square, 2)
    done, waiting = cf.wait([slow, failed, quick], return_when=cf.FIRST_EXCEPTION)
    assert failed in done
    assert slow in waiting
    assert next(iter(cf.as_completed([slow, quick]))) is quick
    gate.open()
    assert set(cf.as_completed([slow, failed, quick])) == {slow, failed, quick}


def test_callbacks_are_called(executor: Executor, bench: Bench) -> None:
    """A callback gets the future when it is done or cancelled, at once if it is already."""
    gate, here = bench.gate(), bench.tally()
    seen: list[Any] = []
    future = executor.submit(at, gate, here, 1)
    future.add_done_callback(seen.append)
    assert seen == []
    gate.open()
    future.result()
    wait_until(lambda: seen == [future])
    future.add_done_callback(seen.append)
    assert seen == [future, future]


def test_in_an_event_loop(executor: Executor) -> None:
    """loop.run_in_executor calls functions in tasks."""

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, square, n) for n in range(5)))

    assert asyncio.run(main()) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("way", ["result", "map", "shutdown"])
def test_a_task_lends_its_cpus_to_its_calls(fresh: Callable[..., Any], way: str) -> None:
    """A task that waits for calls which need the CPUs that it has does not wait for ever."""
    fresh()

    @jray.remote(num_cpus=2)
    def outer() -> Any:
        with Executor(num_cpus=2, max_workers=1) as executor:
            first, last = executor.submit(square, 3), executor.submit(square, 4)
            if way == "result":
                return last.result(), first.result()
            if way == "map":
                return tuple(executor.map(square, [4, 3]))
        return last.result(), first.result()

    assert jray.get(outer.remote(), timeout=30) == (16, 9)


# -- cancel -----------------------------------------------------------------------------------------------


def test_running_tells_whether_the_call_has_begun(
    executor: Executor, full: list[cf.Future[Any]], bench: Bench
) -> None:
    """A call is pending while it waits for a CPU, also in the cluster, and running while it runs."""
    waiting = executor.submit(square, 2)
    assert all(future.running() for future in full)
    assert not waiting.running()
    bench.gate("full").open()
    assert waiting.result() == 4
    assert not waiting.running()


def test_a_pending_call_can_be_cancelled(
    executor: Executor, full: list[cf.Future[Any]], bench: Bench
) -> None:
    """Its task never runs; its future raises CancelledError and tells those who wait."""
    here = bench.tally()
    seen: list[Any] = []
    future = executor.submit(here.add, "ran")
    future.add_done_callback(seen.append)
    assert future.cancel()
    assert future.cancel()
    assert future.cancelled()
    assert seen == [future]
    assert cf.wait([future], timeout=0).done == {future}
    with pytest.raises(cf.CancelledError):
        future.result()
    bench.gate("full").open()
    assert executor.submit(square, 2).result() == 4
    assert here.count() == 0


def test_what_runs_or_is_done_is_not_cancelled(
    executor: Executor, full: list[cf.Future[Any]], bench: Bench
) -> None:
    """cancel returns False and changes nothing."""
    assert not full[0].cancel()
    assert full[0].running()
    bench.gate("full").open()
    assert full[0].result() is None
    assert not full[0].cancel()
    assert not full[0].cancelled()


def test_cancelling_an_asyncio_future_cancels_the_call(
    executor: Executor, full: list[cf.Future[Any]], bench: Bench
) -> None:
    """A time limit of asyncio's own ends the call that has not begun."""
    here = bench.tally()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.run_in_executor(executor, here.add, "ran"), 0.05)

    asyncio.run(main())
    bench.gate("full").open()
    assert executor.submit(square, 2).result() == 4
    assert here.count() == 0


# -- map --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_map_keeps_the_order(executor: Executor, chunksize: int) -> None:
    """Results come in the order of the items; the shortest of several iterables ends it."""
    assert list(executor.map(square, range(10), chunksize=chunksize)) == [n * n for n in range(10)]
    assert list(executor.map(pow, range(10), [2] * 4, chunksize=chunksize)) == [0, 1, 4, 9]
    assert list(executor.map(square, [], chunksize=chunksize)) == []


def test_chunks_are_tasks(executor: Executor) -> None:
    """Items of one chunk are done in one task."""

    def task(_: int) -> Any:
        return jray.get_runtime_context().get_task_id()

    tasks = list(executor.map(task, range(7), chunksize=3))
    assert [len(set(tasks[:3])), len(set(tasks[3:6])), len(set(tasks))] == [1, 1, 3]


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_raises_in_its_place(executor: Executor, chunksize: int) -> None:
    """Results before the one that failed are given, then its exception."""
    results = executor.map(divide, [4, 4, 4, 4], [1, 2, 0, 4], chunksize=chunksize)
    assert [next(results), next(results)] == [4, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_has_a_time_limit(executor: Executor, bench: Bench) -> None:
    """TimeoutError comes when a result is not there so many seconds after `map` was called."""
    gate = bench.gate()
    results = executor.map(lambda _: gate.wait(), [1, 2], timeout=0.2)
    with pytest.raises(cf.TimeoutError):
        next(results)
    gate.open()
    assert list(executor.map(square, [1, 2], timeout=30)) == [1, 4]


def test_a_map_that_ends_early_cancels_the_rest(bench: Bench) -> None:
    """What has not begun when a map's iterator is closed or has raised never does."""
    gate, here = bench.gate(), bench.tally()

    def work(n: int) -> None:
        here.add(n)
        if n == 0:
            raise KeyError
        gate.wait()

    with Executor(1) as executor:
        results = executor.map(work, range(100))
        with pytest.raises(KeyError):
            next(results)
        gate.open()
    assert here.count() <= 2


def test_buffersize_limits_what_is_submitted(executor: Executor) -> None:
    """With buffersize an endless iterable is read as far as its results are."""
    read = []

    def endless() -> Iterator[int]:
        for n in range(10_000):
            read.append(n)
            yield n

    results = executor.map(square, endless(), buffersize=3)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(read) <= 9
    results.close()


def test_wrong_sizes_are_refused(executor: Executor) -> None:
    """Chunks, buffers and numbers of workers are 1 at least."""
    mistakes: list[Callable[[], Any]] = [
        lambda: executor.map(square, [1], chunksize=0),
        lambda: executor.map(square, [1], buffersize=0),
        lambda: Executor(0),
    ]
    for wrong in mistakes:
        with pytest.raises(ValueError, match="at least 1"):
            wrong()


# -- how many, and with what ------------------------------------------------------------------------------


def test_max_workers_limits_how_many_run(bench: Bench) -> None:
    """Not more than max_workers are in the cluster, though there is room; all are done in the end."""
    meter = bench.meter()

    def work(n: int) -> int:
        with meter.use():
            time.sleep(0.01)
        return n

    with Executor(max_workers=1, num_cpus=0.5) as executor:
        assert list(executor.map(work, range(10))) == list(range(10))
    assert meter.peak() == 1


def test_resources_limit_how_many_run(bench: Bench) -> None:
    """Without max_workers the cluster's CPUs say how many run."""
    meter, here, gate = bench.meter(), bench.tally(), bench.gate()

    def work(_: int) -> None:
        with meter.use():
            here.add()
            gate.wait()

    with Executor() as executor:
        results = executor.map(work, range(6))
        here.wait_for(2)
        gate.open()
        list(results)
    assert meter.peak() == 2


def test_a_call_beyond_max_workers_can_be_cancelled(bench: Bench) -> None:
    """What waits outside of the cluster never gets there."""
    gate, here = bench.gate(), bench.tally()
    with Executor(max_workers=1) as executor:
        first = executor.submit(at, gate, here, "first")
        second, third = executor.submit(here.add, "second"), executor.submit(square, 3)
        here.wait_for(1)
        assert second.cancel()
        with pytest.raises(cf.TimeoutError):
            third.result(timeout=0.05)
        gate.open()
        assert third.result() == 9
        assert first.result() == "first"
    assert here.notes() == ["first"]


def test_options_are_those_of_the_tasks() -> None:
    """Resources and runtime environments are passed on; each call has the name of its function."""
    with Executor(resources={"gadget": 1}, runtime_env={"env_vars": {"COLOUR": "red"}}) as executor:
        assert executor.submit(os.getenv, "COLOUR").result() == "red"
        assigned = executor.submit(lambda: jray.get_runtime_context().get_assigned_resources()).result()
        assert assigned["gadget"] == 1

    def named(_: int) -> Any:
        return jray.get_runtime_context().get_task_name()

    with Executor() as executor:
        assert executor.submit(named, 0).result().endswith("named")
        assert next(executor.map(named, [0])).endswith("named")
    with Executor(name="mine") as executor:
        assert executor.submit(named, 0).result() == "mine"


@pytest.mark.parametrize(
    "options",
    [
        {"num_returns": 2},
        {"_generator_backpressure_num_objects": 1},
        {"num_cpus": -1},
        {"colour": "red"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """An option that tasks don't have, and those about several results."""
    with pytest.raises(ValueError, match=next(iter(options))):
        Executor(**options)


# -- shutdown ---------------------------------------------------------------------------------------------


def test_shutdown_waits_and_closes(bench: Bench) -> None:
    """Leaving `with` waits for all calls; nothing is taken afterwards."""
    tally = bench.tally()
    with Executor(max_workers=1) as executor:
        futures = [executor.submit(tally.add, n) for n in range(5)]
    assert all(future.done() for future in futures)
    assert tally.notes() == list(range(5))
    lates: list[Callable[[], Any]] = [
        lambda: executor.submit(square, 1),
        lambda: executor.map(square, [1]),
    ]
    for late in lates:
        with pytest.raises(RuntimeError, match="shut down"):
            late()
    executor.shutdown()


def test_shutdown_need_not_wait(executor: Executor, full: list[cf.Future[Any]], bench: Bench) -> None:
    """With wait=False it returns at once, and what was submitted is still done."""
    waiting = executor.submit(square, 2)
    executor.shutdown(wait=False)
    assert not waiting.done()
    bench.gate("full").open()
    assert waiting.result() == 4


@pytest.mark.parametrize("max_workers", [None, 2])
def test_shutdown_can_cancel(bench: Bench, max_workers: int | None) -> None:
    """With cancel_futures what has not begun is cancelled, in the cluster or before it; what runs is waited for."""
    gate, here = bench.gate(), bench.tally()
    executor = Executor(max_workers)
    futures = [executor.submit(at, gate, here, n) for n in range(6)]
    wait_until(lambda: sum(future.running() for future in futures) == 2)

    def open_then() -> None:
        wait_until(lambda: sum(future.cancelled() for future in futures) == 4)
        gate.open()

    thread = threading.Thread(target=open_then)
    thread.start()
    executor.shutdown(cancel_futures=True)
    thread.join()
    assert all(future.done() for future in futures)
    assert sum(future.cancelled() for future in futures) == 4
    assert here.count() == 2


def test_the_end_of_the_session_ends_the_calls(fresh: Callable[..., Any], bench: Bench) -> None:
    """jray.shutdown() leaves no future that nobody will ever resolve."""
    fresh()
    gate, here = bench.gate(), bench.tally()
    executor = Executor(max_workers=3)
    futures = [executor.submit(at, gate, here) for _ in range(6)]
    here.wait_for(2)
    jray.shutdown()
    for future in futures:
        assert isinstance(future.exception(timeout=30), jray.exceptions.RaySystemError)
