"""get, put, wait and futures: order, time-outs, partitions, and arguments they refuse."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from typing import Any

import pytest

import jray
from jray.exceptions import GetTimeoutError
from tests.behaviour.support import Bench, Gate

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
def echo(value: Any) -> Any:
    return value


@jray.remote(num_cpus=0)
def after(gate: Gate, value: Any = None) -> Any:
    gate.wait()
    return value


@jray.remote(max_retries=0)
def fail() -> None:
    raise ValueError("failed")


@pytest.mark.sentences("S65")
def test_get_of_a_list_keeps_order_and_length() -> None:
    """Results stand where their refs stood, whichever ended first; the same ref may stand twice."""
    refs = [echo.remote(i) for i in range(10)]
    order = [*refs[::-1], refs[3], refs[3]]
    assert jray.get(order) == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 3, 3]


@pytest.mark.sentences("S65")
def test_get_of_nothing_is_nothing() -> None:
    """`get([])` is `[]`."""
    assert jray.get([]) == []


@pytest.mark.sentences("S65")
def test_get_raises_without_waiting_for_the_rest(bench: Bench) -> None:
    """An errored element raises while later ones still run."""
    gate = bench.gate()
    late = after.remote(gate)
    with pytest.raises(ValueError, match="failed"):
        jray.get([echo.remote(1), fail.remote(), late])
    assert jray.wait([late], timeout=0)[0] == []
    gate.open()
    jray.get(late)


@pytest.mark.sentences("S66")
def test_get_with_timeout_zero_polls(bench: Bench) -> None:
    """timeout=0 gives the value if it is there, and GetTimeoutError otherwise."""
    gate = bench.gate()
    ref = after.remote(gate, 5)
    with pytest.raises(GetTimeoutError):
        jray.get(ref, timeout=0)
    gate.open()
    assert jray.wait([ref], timeout=30)[0] == [ref]
    assert jray.get(ref, timeout=0) == 5


@pytest.mark.sentences("S66")
def test_a_timeout_leaves_the_task_running(bench: Bench) -> None:
    """A `get` that timed out can be done again, and then gives the value."""
    gate = bench.gate()
    ref = after.remote(gate, "value")
    with pytest.raises(TimeoutError):
        jray.get([ref], timeout=0.1)
    gate.open()
    assert jray.get(ref, timeout=30) == "value"


def test_a_timeout_of_minus_one_is_none(bench: Bench) -> None:
    """-1 stands for no limit, as in Ray; it does not raise at once."""
    gate = bench.gate()

    @jray.remote
    def late() -> int:
        gate.wait()
        return 5

    ref = late.remote()
    threading.Timer(0.2, gate.open).start()
    assert jray.get(ref, timeout=-1) == 5
    assert jray.get([ref], timeout=-1) == [5]


@pytest.mark.sentences("S66")
def test_a_timeout_is_also_pythons_timeout() -> None:
    """GetTimeoutError is a TimeoutError and a RayError."""
    assert issubclass(GetTimeoutError, TimeoutError)
    assert issubclass(GetTimeoutError, jray.exceptions.RayError)


@pytest.mark.sentences("S66")
def test_a_timeout_counts_for_the_whole_list(bench: Bench) -> None:
    """One unfinished ref among finished ones makes `get` time out."""
    gate = bench.gate()
    refs = [echo.remote(1), after.remote(gate)]
    with pytest.raises(GetTimeoutError):
        jray.get(refs, timeout=0.2)
    gate.open()


@pytest.mark.parametrize("value", [(1,), {1}, {"a": 1}, 3, "text", None], ids=str)
def test_get_refuses_what_is_neither_ref_nor_list(value: Any) -> None:
    """Any container but a list, and any plain value, raises ValueError."""
    with pytest.raises(ValueError, match="Invalid type of object refs"):
        jray.get(value)


def test_get_refuses_a_list_with_something_else_in_it() -> None:
    """A list element that isn't a ref raises TypeError."""
    with pytest.raises(TypeError):
        jray.get([jray.put(1), 2])


def test_put_refuses_a_ref() -> None:
    """`put(ref)` raises TypeError: wrap it in a list."""
    with pytest.raises(TypeError):
        jray.put(jray.put(1))


@pytest.mark.sentences("S67")
def test_wait_returns_at_least_num_returns_partitioned_in_order(bench: Bench) -> None:
    """Ready and not-ready partition the input and keep its order."""
    gate = bench.gate()
    refs = [after.remote(gate, 0), echo.remote(1), after.remote(gate, 2), echo.remote(3)]
    ready, rest = jray.wait(refs, num_returns=2, timeout=30)
    assert ready == [refs[1], refs[3]]
    assert rest == [refs[0], refs[2]]
    gate.open()
    assert jray.wait(refs, num_returns=4, timeout=30) == (refs, [])


@pytest.mark.sentences("S67")
def test_wait_never_gives_more_than_num_returns() -> None:
    """Of many that are ready, as many as asked for are in the first list, whichever they are."""
    refs = [jray.put(i) for i in range(5)]
    for num_returns in (1, 2, 5):
        ready, rest = jray.wait(refs, num_returns=num_returns)
        assert len(ready) == num_returns
        assert ready == [ref for ref in refs if ref in ready]
        assert rest == [ref for ref in refs if ref not in ready]


@pytest.mark.sentences("S67")
def test_wait_without_timeout_blocks_until_enough_are_ready(bench: Bench) -> None:
    """`wait` returns once num_returns are ready, and not before."""
    gates = [bench.gate(str(i)) for i in range(2)]
    refs = [after.remote(gate) for gate in gates]
    done = threading.Event()
    result: list[Any] = []

    def waiter() -> None:
        result.append(jray.wait(refs, num_returns=2))
        done.set()

    thread = threading.Thread(target=waiter)
    thread.start()
    gates[1].open()
    jray.get(refs[1])
    assert not done.is_set()
    gates[0].open()
    assert done.wait(30)
    thread.join()
    assert result == [(refs, [])]


@pytest.mark.sentences("S67")
def test_wait_times_out_with_what_there_is(bench: Bench) -> None:
    """With a timeout fewer than num_returns may be ready."""
    gate = bench.gate()
    quick, slow = echo.remote(1), after.remote(gate)
    jray.get(quick)
    assert jray.wait([slow, quick], num_returns=2, timeout=0.1) == ([quick], [slow])
    assert jray.wait([slow], timeout=0) == ([], [slow])
    gate.open()


@pytest.mark.sentences("S67")
def test_waiting_one_by_one_gives_each_once() -> None:
    """The usual loop over `wait` yields each ref exactly once."""
    pending = [echo.remote(i) for i in range(30)]
    seen = []
    while pending:
        (done,), pending = jray.wait(pending)
        seen.append(jray.get(done))
    assert sorted(seen) == list(range(30))


@pytest.mark.sentences("S68")
def test_an_errored_task_is_ready() -> None:
    """`wait` counts a failed task as ready and doesn't raise."""
    ref = fail.remote()
    assert jray.wait([ref], timeout=30) == ([ref], [])
    with pytest.raises(ValueError, match="failed"):
        jray.get(ref)


@pytest.mark.sentences("S69")
def test_wait_without_fetching_is_ready_too() -> None:
    """fetch_local=False counts an object that exists."""
    refs = [jray.put(bytes(500_000)), echo.remote(bytes(500_000))]
    assert jray.wait(refs, num_returns=2, fetch_local=False, timeout=30) == (refs, [])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (lambda ref: ((ref,), {}), TypeError),
        (lambda ref: (([ref, 1],), {}), TypeError),
        (lambda ref: (([ref, ref],), {}), ValueError),
        (lambda ref: (([ref],), {"num_returns": 0}), ValueError),
        (lambda ref: (([ref],), {"num_returns": -1}), ValueError),
        (lambda ref: (([ref],), {"num_returns": 2}), ValueError),
        (lambda ref: (([ref],), {"timeout": -1}), ValueError),
    ],
    ids=["bare ref", "not a ref", "twice", "none", "negative", "too many", "negative timeout"],
)
def test_wait_refuses_bad_arguments(arguments: Any, error: type[Exception]) -> None:
    """A bare ref, duplicates, a bad num_returns and a negative timeout are refused at once."""
    args, kwargs = arguments(jray.put(1))
    with pytest.raises(error):
        jray.wait(*args, **kwargs)


def test_wait_for_nothing_is_nothing() -> None:
    """`wait([])` is two empty lists."""
    assert jray.wait([]) == ([], [])


@pytest.mark.sentences("S70")
def test_awaiting_a_ref_in_the_driver() -> None:
    """`await ref` gives the value, or raises what `get` raises."""

    async def main() -> None:
        assert await echo.remote(3) == 3
        assert await jray.put("put") == "put"
        with pytest.raises(ValueError, match="failed"):
            await fail.remote()

    asyncio.run(main())


@pytest.mark.sentences("S70")
def test_refs_work_with_asyncios_tools(bench: Bench) -> None:
    """gather, as_completed and wait_for take refs; wait takes futures of them."""
    gate = bench.gate()

    async def main() -> None:
        assert await asyncio.gather(*[echo.remote(i) for i in range(20)]) == list(range(20))
        seen = [await each for each in asyncio.as_completed([echo.remote(i) for i in range(5)])]
        assert sorted(seen) == list(range(5))
        slow = after.remote(gate, "slow")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(slow, 0.1)
        gate.open()
        # What was abandoned here went on there.
        assert await slow == "slow"
        futures = [asyncio.ensure_future(echo.remote(1)), asyncio.wrap_future(echo.remote(2).future())]
        done, pending = await asyncio.wait(futures)
        assert sorted(future.result() for future in done) == [1, 2]
        assert not pending

    asyncio.run(main())


@pytest.mark.sentences("S70")
def test_cancelling_an_awaiting_task_leaves_the_remote_one(bench: Bench) -> None:
    """asyncio's cancel ends the waiting, not the work."""
    gate = bench.gate()
    ref = after.remote(gate, "done")

    async def main() -> None:
        async def wait() -> Any:
            return await ref

        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.open()
        assert await ref == "done"

    asyncio.run(main())


@pytest.mark.sentences("S71")
def test_a_ref_gives_a_concurrent_future(bench: Bench) -> None:
    """`ref.future()` is a concurrent.futures.Future with the value or the exception."""
    gate = bench.gate()
    future = after.remote(gate, 8).future()
    assert isinstance(future, concurrent.futures.Future)
    assert not future.done()
    assert not future.running()
    gate.open()
    assert future.result(timeout=30) == 8
    with pytest.raises(ValueError, match="failed"):
        fail.remote().future().result(timeout=30)


@pytest.mark.sentences("S71")
def test_cancelling_the_future_leaves_the_task(bench: Bench) -> None:
    """`future.cancel()` doesn't stop the task."""
    gate = bench.gate()
    ref = after.remote(gate, "value")
    ref.future().cancel()
    gate.open()
    assert jray.get(ref, timeout=30) == "value"


@pytest.mark.sentences("S71")
def test_futures_work_with_concurrent_futures() -> None:
    """concurrent.futures.wait and callbacks take such futures."""
    refs = [echo.remote(i) for i in range(5)]
    done, pending = concurrent.futures.wait([ref.future() for ref in refs], timeout=30)
    assert not pending
    assert sorted(future.result() for future in done) == list(range(5))
    called = threading.Event()
    echo.remote(1).future().add_done_callback(lambda _: called.set())
    assert called.wait(30)


@pytest.mark.sentences("S146")
def test_many_threads_may_get_and_submit() -> None:
    """Several threads of a driver may submit, put and get at once."""

    def work(n: int) -> int:
        return sum(jray.get([echo.remote(jray.put(i)) for i in range(n, n + 10)]))

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(0, 60, 10))) == [sum(range(n, n + 10)) for n in range(0, 60, 10)]


@pytest.mark.sentences("S146")
def test_two_threads_may_get_the_same_ref(bench: Bench) -> None:
    """Every thread that waits for a ref gets its value."""
    gate = bench.gate()
    ref = after.remote(gate, [1])
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(jray.get, ref) for _ in range(4)]
        gate.open()
        assert [each.result(timeout=30) for each in waiting] == [[1]] * 4


@pytest.mark.sentences("S66")
def test_get_wakes_when_the_result_comes_not_when_the_time_is_over(bench: Bench) -> None:
    """A long timeout costs nothing when the value is there earlier."""
    gate = bench.gate()
    ref = after.remote(gate, 1)
    threading.Timer(0.1, gate.open).start()
    start = time.monotonic()
    assert jray.get(ref, timeout=50) == 1
    assert time.monotonic() - start < 25


@pytest.mark.sentences("S65")
def test_get_inside_tasks(bench: Bench) -> None:
    """get, put, wait and time-outs work in a task as in the driver."""
    gate = bench.gate()

    @jray.remote
    def inside() -> list[Any]:
        slow = after.remote(gate, "slow")
        seen: list[Any] = [jray.get(jray.put(1)), jray.get([echo.remote(2), echo.remote(3)])]
        try:
            jray.get(slow, timeout=0.05)
        except jray.exceptions.GetTimeoutError:
            seen.append("timeout")
        seen.append([len(part) for part in jray.wait([slow], timeout=0)])
        gate.open()
        seen.append(jray.get(slow))
        return seen

    assert jray.get(inside.remote()) == [1, [2, 3], "timeout", [0, 1], "slow"]
