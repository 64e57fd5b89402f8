"""`multiprocessing.Pool` over actors.

What holds for the standard library's pool too is tested on both: its ThreadPool is the same code as its Pool.
"""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pytest

import jray
from jray.util.multiprocessing import JoinableQueue, Pool, TimeoutError  # noqa: A004 -- its name
from tests.behaviour import differences
from tests.behaviour.support import PATIENCE_S, Bench, Gate, Tally, start_driver, wait_gone, wait_until

pytestmark = pytest.mark.usefixtures("cluster")

state: Any = None


def square(x: int) -> int:
    return x * x


def second_first(gate: Gate, number: int) -> int:
    """Return the number: 0 only after another one."""
    if number:
        gate.open()
    else:
        gate.wait()
    return number


def odd_only(x: int) -> int:
    if x % 2 == 0:
        raise ValueError(x)
    return x


def pid_of(_: object) -> int:
    return os.getpid()


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[str, Any]]:
    """The pools of two that tests share, made when first asked for."""
    made: dict[str, Any] = {}
    yield made
    while made:
        _, pool = made.popitem()
        pool.terminate()
        pool.join()
        del pool
    gc.collect()  # the standard library's has pipes, and refers to itself


@pytest.fixture
def pool(cluster: None, pools: dict[str, Any]) -> Any:
    """A pool of two workers, for tests that leave it as it was."""
    session = jray.get_runtime_context().get_node_id()
    if session not in pools:
        pools[session] = Pool(2)
    return pools[session]


@pytest.fixture(params=["cluster", "standard library"])
def any_pool(request: pytest.FixtureRequest, pools: dict[str, Any]) -> Any:
    """The pool above, or its model."""
    if request.param == "cluster":
        return request.getfixturevalue("pool")
    if request.param not in pools:
        pools[request.param] = ThreadPool(2)
    return pools[request.param]


@pytest.fixture
def own(cluster: None) -> Iterator[Callable[..., Any]]:
    """`own(processes, ...)` makes a pool that is terminated after the test."""
    made: list[Any] = []

    def make(*args: Any, **kwargs: Any) -> Any:
        made.append(Pool(*args, **kwargs))
        return made[-1]

    yield make
    for pool in made:
        pool.terminate()
        pool.join()


# -- results --------------------------------------------------------------------------------------------


def test_apply_returns_the_result(any_pool: Any) -> None:
    """apply(func, args, kwargs) is func(*args, **kwargs)."""
    assert any_pool.apply(square, (7,)) == 49
    assert any_pool.apply(dict, ([("a", 1)],), {"b": 2}) == {"a": 1, "b": 2}


@pytest.mark.only("jray", "Ray's takes its own name only")
def test_apply_takes_the_standard_librarys_keyword(any_pool: Any) -> None:
    """kwds, as multiprocessing calls them."""
    assert any_pool.apply(dict, ([("a", 1)],), kwds={"b": 2}) == {"a": 1, "b": 2}
    assert any_pool.apply_async(dict, kwds={"b": 2}).get() == {"b": 2}


def test_apply_runs_elsewhere(pool: Any) -> None:
    """A worker is another process."""
    assert pool.apply(os.getpid) != os.getpid()


@pytest.mark.parametrize("chunksize", [None, 1, 7, 100])
def test_map_keeps_the_order(any_pool: Any, chunksize: int | None) -> None:
    """map is the list of results, whatever the size of chunks."""
    assert any_pool.map(square, range(20), chunksize) == [square(x) for x in range(20)]


def test_map_takes_anything_that_can_be_iterated(any_pool: Any) -> None:
    """A generator, a set, a string; and nothing at all."""
    assert any_pool.map(square, (x for x in (1, 2, 3))) == [1, 4, 9]
    assert sorted(any_pool.map(square, {1, 2})) == [1, 4]
    assert any_pool.map(str.upper, "ab") == ["A", "B"]
    assert any_pool.map(square, []) == []


def test_starmap_unpacks_items(any_pool: Any) -> None:
    """starmap calls func(*item)."""
    assert any_pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
    assert any_pool.starmap_async(pow, [(2, 3), (3, 2)]).get(PATIENCE_S) == [8, 9]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_imap_yields_in_order(any_pool: Any, chunksize: int) -> None:
    """imap gives the results one by one, in the order of items."""
    results = any_pool.imap(square, range(20), chunksize)
    assert [next(results) for _ in range(20)] == [square(x) for x in range(20)]
    with pytest.raises(StopIteration):
        next(results)


@pytest.mark.parametrize("chunksize", [1, 3])
def test_imap_unordered_yields_all(any_pool: Any, chunksize: int) -> None:
    """imap_unordered gives each result once."""
    assert sorted(any_pool.imap_unordered(square, range(20), chunksize)) == [square(x) for x in range(20)]


@differences.pool_calls_wait_for_no_worker
def test_imap_unordered_yields_what_is_done(any_pool: Any, bench: Bench) -> None:
    """A result needn't wait for one before it."""
    gate = bench.gate()

    def wait_if_first(x: int, gate: Gate = gate) -> int:
        if x == 0:
            gate.wait()
        return x

    results = any_pool.imap_unordered(wait_if_first, range(3))
    assert [next(results), next(results)] == [1, 2]
    gate.open()
    assert list(results) == [0]


def test_imap_takes_endless_items(pool: Any) -> None:
    """Items are read as results are taken."""
    assert list(itertools.islice(pool.imap(square, itertools.count()), 100)) == [
        square(x) for x in range(100)
    ]


@pytest.mark.only("jray", "that an error of the items comes after the results before it")
def test_an_error_of_the_items_comes_in_its_place(pool: Any) -> None:
    """What reading the items raises is raised after the results of those before."""

    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("broken")

    results = pool.imap(square, items())
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(KeyError, match="broken"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_functions_of_a_notebook_work(pool: Any) -> None:
    """Lambdas and closures may be sent, which multiprocessing refuses."""
    factor = 3
    assert pool.map(lambda x: factor * x, range(4)) == [0, 3, 6, 9]


# -- errors ---------------------------------------------------------------------------------------------


@pytest.mark.sentences("S145")
def test_an_error_is_raised_as_it_was(any_pool: Any) -> None:
    """The exception of the function itself is raised, of its own class."""
    with pytest.raises(ValueError, match="2") as caught:
        any_pool.apply(odd_only, (2,))
    assert type(caught.value) is ValueError


@pytest.mark.sentences("S145")
def test_the_first_error_of_a_map_is_raised(pool: Any) -> None:
    """All items run; then the error of the first that failed is raised."""
    with pytest.raises(ValueError, match=r"^4$"):
        pool.map(odd_only, [1, 3, 4, 5, 6], 1)


@pytest.mark.only("jray", "Ray's errors carry no trace of where they were raised")
def test_an_error_tells_where_it_was_raised(pool: Any) -> None:
    """Its cause holds the remote traceback, without frames of jray."""
    with pytest.raises(ValueError, match="2") as caught:
        pool.apply(odd_only, (2,))
    text = str(caught.value.__cause__)
    assert "in odd_only" in text
    assert "multiprocessing/worker.py" not in text


@differences.pool_raises_errors
def test_imap_goes_on_after_an_error(any_pool: Any) -> None:
    """`next` raises the error of an item, and then gives the results of the others."""
    results = any_pool.imap(odd_only, [1, 2, 3])
    assert next(results) == 1
    with pytest.raises(ValueError, match="2"):
        next(results)
    assert next(results) == 3


def test_what_cannot_be_pickled_is_said(pool: Any) -> None:
    """A lock as an argument raises TypeError."""
    with pytest.raises(TypeError, match="pickle"):
        pool.apply(square, (threading.Lock(),))


@differences.pool_workers_are_replaced
def test_a_dead_worker_is_replaced(own: Callable[..., Any]) -> None:
    """The call that its worker died of fails; calls after it find as many workers as before."""
    pool = own(1)
    before = pool.apply(os.getpid)
    with pytest.raises(jray.exceptions.ActorDiedError):
        pool.apply(os._exit, (3,))
    assert pool.map(square, range(4)) == [0, 1, 4, 9]
    assert pool.apply(os.getpid) != before


# -- asynchronous results -------------------------------------------------------------------------------


def test_a_result_tells_whether_it_is_ready(any_pool: Any, bench: Bench) -> None:
    """ready, wait, successful and get with a timeout, before and after."""
    gate = bench.gate()
    result = any_pool.apply_async(gate.wait)
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    result.wait(0.01)
    assert not result.ready()
    with pytest.raises(TimeoutError):
        result.get(0.01)
    gate.open()
    result.wait(PATIENCE_S)
    assert result.ready()
    assert result.successful()
    result.get()


def test_a_failed_result_is_not_successful(any_pool: Any) -> None:
    """It is ready, and get raises."""
    result = any_pool.apply_async(odd_only, (2,))
    result.wait(PATIENCE_S)
    assert result.ready()
    assert not result.successful()
    with pytest.raises(ValueError, match="2"):
        result.get()


def test_timeout_error_is_the_standard_librarys() -> None:
    """`except multiprocessing.TimeoutError` catches it; the queue is the standard library's, too."""
    assert TimeoutError is multiprocessing.TimeoutError
    assert JoinableQueue == multiprocessing.JoinableQueue


def test_imap_next_takes_a_timeout(any_pool: Any, bench: Bench) -> None:
    """`next(timeout)` raises TimeoutError, and the result can be had later."""
    gate = bench.gate()
    results = any_pool.imap(lambda gate: gate.wait(), [gate])
    with pytest.raises(TimeoutError):
        results.next(timeout=0.01)
    gate.open()
    results.next(timeout=PATIENCE_S)


def test_callbacks_are_called_before_get_returns(any_pool: Any) -> None:
    """callback gets the result of one call, or the list of a map."""
    got: list[Any] = []
    any_pool.apply_async(square, (3,), callback=got.append).get()
    any_pool.map_async(square, [2, 2], callback=got.append).get()
    any_pool.starmap_async(pow, [(2, 2)], callback=got.append).get()
    assert got == [9, [4, 4], [4]]


@differences.pool_callbacks_get_lists_in_order
def test_callbacks_get_results_in_the_order_of_the_items(any_pool: Any, bench: Bench) -> None:
    """Whichever was ready first."""
    got: list[Any] = []
    any_pool.starmap_async(second_first, [(bench.gate(), n) for n in (0, 1)], 1, callback=got.append).get()
    assert got == [[0, 1]]


@differences.pool_raises_errors
def test_error_callbacks_get_the_error(any_pool: Any) -> None:
    """error_callback gets the exception itself, and callback isn't called."""
    got: list[Any] = []
    errors: list[BaseException] = []
    any_pool.apply_async(odd_only, (2,), callback=got.append, error_callback=errors.append).wait()
    any_pool.map_async(odd_only, [1, 2], callback=got.append, error_callback=errors.append).wait()
    assert not got
    assert [type(error) for error in errors] == [ValueError, ValueError]


@pytest.mark.only("jray", "a callback that raises ends Ray's thread, and get returns at once")
def test_a_callback_that_raises_harms_nobody(pool: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; the result is there, and so are later ones."""

    def wrong(_: object) -> None:
        raise RuntimeError("in the callback")

    assert pool.apply_async(square, (3,), callback=wrong).get() == 9
    assert "in the callback" in caplog.text
    assert pool.apply(square, (4,)) == 16


@differences.pool_calls_wait_for_no_worker
def test_a_call_does_not_wait_behind_another(any_pool: Any, bench: Bench) -> None:
    """With two workers and one of them busy, call after call is done by the other."""
    gate = bench.gate()
    long = any_pool.apply_async(gate.wait)
    for x in range(5):
        assert any_pool.apply(square, (x,)) == x * x
    assert not long.ready()
    gate.open()
    long.get()


# -- workers ----------------------------------------------------------------------------------------------


@pytest.mark.sentences("S145")
def test_a_pool_has_as_many_workers_as_asked_for(own: Callable[..., Any], bench: Bench) -> None:
    """Pool(2) runs two calls at once, in two processes; without a number there is one for each CPU."""
    for pool in (own(2), own()):
        meet = bench.tally(str(id(pool)))

        def meet_another(_: object, meet: Tally = meet) -> int:
            meet.add()
            meet.wait_for(2)
            return os.getpid()

        assert len(set(pool.map(meet_another, range(2), 1))) == 2


@pytest.mark.sentences("S145")
def test_more_workers_than_cpus_are_refused() -> None:
    """On a cluster of two CPUs, Pool(3) raises ValueError; so does a pool of none."""
    with pytest.raises(ValueError, match="Tried to start a pool with 3 processes"):
        Pool(3)
    for number in (0, -1):
        with pytest.raises(ValueError, match=r"[Pp]rocesses"):
            Pool(number)


@pytest.mark.sentences("S145")
def test_a_pool_starts_a_cluster_of_its_size(no_cluster: None) -> None:
    """Without a cluster, Pool(n) starts one of n CPUs."""
    with Pool(1) as pool:
        assert jray.cluster_resources()["CPU"] == 1
        assert pool.map(square, range(3)) == [0, 1, 4]
        pool.terminate()
        pool.join()


@pytest.mark.sentences("S145")
def test_the_initializer_runs_once_in_each_worker(own: Callable[..., Any], bench: Bench) -> None:
    """It has run in each worker before the pool is there, with its arguments."""
    seen = bench.tally()

    def prepare(seen: Tally, word: str) -> None:
        seen.add([os.getpid(), word])

    pool = own(2, prepare, (seen, "ready"))
    notes: Any = seen.notes()
    assert [word for _, word in notes] == ["ready", "ready"]
    workers = {pid for pid, _ in notes}
    assert len(workers) == 2
    assert set(pool.map(pid_of, range(20), 1)) <= workers
    assert seen.count() == 2


@differences.pool_initializers_set_globals
def test_the_initializer_sets_globals(own: Callable[..., Any]) -> None:
    """The usual pattern: the initializer prepares something in a global, and the function uses it."""

    def prepare(value: int) -> None:
        global state  # noqa: PLW0603 -- what is tested
        state = value

    def use(x: int) -> int:
        return int(state + x)

    def count(_: object) -> int:
        global state  # noqa: PLW0603 -- what is tested
        state += 1
        return int(state)

    pool = own(1, prepare, (10,))
    assert pool.map(use, range(3), 1) == [10, 11, 12]
    assert pool.map(count, range(3), 1) == [11, 12, 13]
    assert pool.apply(use, (0,)) == 13
    assert state is None


def test_an_initializer_that_raises_is_told() -> None:
    """Making the pool raises, where multiprocessing would try for ever."""

    def fail() -> None:
        raise KeyError("not ready")

    with pytest.raises(jray.exceptions.RayActorError, match="not ready"):
        Pool(1, fail)


@pytest.mark.sentences("S145")
def test_workers_are_replaced_after_their_share(own: Callable[..., Any]) -> None:
    """maxtasksperchild=2: with one worker and chunks of one, each process does two items in a row."""
    pids = own(1, maxtasksperchild=2).map(pid_of, range(6), 1)
    assert [pids[n] == pids[n + 1] for n in (0, 2, 4)] == [True] * 3
    assert len(set(pids)) == 3


@pytest.mark.only("jray", "what is wrong is said at once")
@pytest.mark.parametrize("number", [0, -1, 1.5])
def test_a_share_is_a_positive_number(number: Any) -> None:
    """Anything else is ValueError, as in multiprocessing."""
    with pytest.raises(ValueError, match="maxtasksperchild"):
        Pool(1, maxtasksperchild=number)


def test_workers_take_options(own: Callable[..., Any]) -> None:
    """ray_remote_args are options of the actors; what they hold is given back."""
    pool = own(2, ray_remote_args={"resources": {"gadget": 0.5}})
    wait_until(lambda: jray.available_resources()["gadget"] == 1)
    pool.close()
    pool.join()
    wait_until(lambda: jray.available_resources()["gadget"] == 2)


def test_workers_take_no_cpu(pool: Any) -> None:
    """A pool leaves the CPUs to tasks, which it doesn't wait for either."""
    wait_until(lambda: jray.available_resources().get("CPU") == 2)
    assert jray.get(jray.remote(num_cpus=2)(lambda: 1).remote(), timeout=PATIENCE_S) == 1


def test_a_pool_works_in_a_task(cluster: None) -> None:
    """A task may make a pool of its own."""

    @jray.remote
    def total() -> int:
        with Pool(1) as pool:
            return sum(pool.map(square, range(4)))

    assert jray.get(total.remote()) == 14


# -- the end ------------------------------------------------------------------------------------------------


def test_a_closed_pool_takes_no_work_and_finishes_what_it_has(own: Callable[..., Any]) -> None:
    """close, then join: all results are there, the workers have ended, and more work is refused."""
    pool = own(2)
    pids = set(pool.map(pid_of, range(8), 1))
    result = pool.map_async(square, range(8), 1)
    pool.close()
    for call in (pool.apply, pool.map, pool.imap, pool.starmap):
        with pytest.raises(ValueError, match="Pool not running"):
            call(square, (1,))
    pool.join()
    assert result.get() == [square(x) for x in range(8)]
    wait_gone(*pids)


QUIET = """
    import gc
    import jray
    from jray.util.multiprocessing import Pool

    jray.init(num_cpus=2)
    closed, terminated, dropped = Pool(1), Pool(1), Pool(1, maxtasksperchild=1)
    for pool in (closed, terminated, dropped):
        assert pool.map(abs, range(4), 1) == [0, 1, 2, 3]
    closed.close()
    terminated.terminate()
    closed.join()
    terminated.join()
    del pool, dropped
    gc.collect()
    jray.get(jray.remote(lambda: None).remote())
    jray.shutdown()
"""


@pytest.mark.only("jray", "Ray reports what it does on stderr")
def test_the_end_of_workers_is_no_news(tmp_path: Path) -> None:
    """However a pool ends, nothing is said: its workers' end is no error."""
    code, _, told = start_driver(tmp_path, QUIET).end()
    assert (code, told) == (0, "")


def test_a_running_pool_can_not_be_joined(any_pool: Any) -> None:
    """join before close raises ValueError."""
    with pytest.raises(ValueError, match="Pool is still running"):
        any_pool.join()


@differences.pool_results_outlive_close
@pytest.mark.parametrize("joins_first", [True, False])
def test_imap_goes_on_after_close(own: Callable[..., Any], joins_first: bool) -> None:
    """What imap was given is all done, whether its results are taken before join or after it."""
    pool = own(1)
    results = pool.imap(square, (x for x in range(50)))
    pool.close()
    if joins_first:
        pool.join()
    assert list(results) == [square(x) for x in range(50)]
    pool.join()


def test_terminate_ends_what_runs(own: Callable[..., Any], bench: Bench) -> None:
    """The workers are killed; results that weren't there raise instead of waiting for ever."""
    pool = own(1)
    gate = bench.gate()
    pids = set(pool.map(pid_of, range(4), 1))
    running = pool.apply_async(gate.wait)
    waiting = pool.apply_async(gate.wait)
    pool.terminate()
    pool.join()
    wait_gone(*pids)
    for result in (running, waiting):
        with pytest.raises(jray.exceptions.RayActorError):
            result.get(PATIENCE_S)


@pytest.mark.only("jray", "Ray's raises what its iterator left behind")
def test_endless_items_end_with_the_pool(own: Callable[..., Any]) -> None:
    """terminate and join return although there are more items."""
    pool = own(1)
    results = pool.imap(square, itertools.count())
    assert next(results) == 0
    pool.terminate()
    pool.join()
    with pytest.raises(jray.exceptions.RayActorError):
        list(results)


def test_the_context_terminates(cluster: None) -> None:
    """Leaving `with` ends the workers."""
    with Pool(1) as pool:
        pid = pool.apply(os.getpid)
    pool.join()
    wait_gone(pid)
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pass


def test_a_dropped_pool_ends_its_workers(cluster: None) -> None:
    """Nobody need close a pool."""
    pool = Pool(1)
    pid = pool.apply(os.getpid)
    del pool
    gc.collect()
    wait_gone(pid)


def test_a_result_keeps_its_pool(cluster: None, bench: Bench) -> None:
    """A dropped pool finishes what somebody waits for."""
    gate = bench.gate()
    result = Pool(1).apply_async(gate.wait)
    gc.collect()
    gate.open()
    result.get(PATIENCE_S)


@pytest.mark.only(
    "jray", "Ray's would start another cluster, and wait for ever for the workers of the last one"
)
def test_a_pool_ends_with_its_cluster(fresh: Callable[..., Any], bench: Bench) -> None:
    """After shutdown the pool says so, and starts no cluster; what was under way fails."""
    fresh()
    pool = Pool(1)
    results = pool.imap(square, itertools.count())
    next(results)
    running = pool.apply_async(bench.gate().wait)
    jray.shutdown()
    for call in (lambda: pool.apply(square, (1,)), lambda: list(results)):
        with pytest.raises(jray.exceptions.RayError, match="shut down"):
            call()
    with pytest.raises(jray.exceptions.RayError):
        running.get(PATIENCE_S)
    pool.terminate()
    pool.join()
    assert not jray.is_initialized()


@pytest.mark.only("jray", "Ray's says that something inside it can't be pickled")
def test_a_pool_can_not_be_sent(pool: Any) -> None:
    """Pickling a pool raises NotImplementedError, as in multiprocessing."""
    with pytest.raises(NotImplementedError):
        pickle.dumps(pool)


def test_results_come_to_many_threads(any_pool: Any) -> None:
    """Threads may use one pool together."""
    got: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=n: got.append(any_pool.map(square, range(n)))) for n in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, got)) == list(range(1, 9))


@pytest.mark.only("jray", "the pure part of jray's pool")
def test_the_roster_deals_chunks_in_order() -> None:
    """A worker has one chunk at a time; one that has done its share, or died, is to be replaced."""
    from jray.util.multiprocessing.roster import Roster  # noqa: PLC0415 -- Ray has none

    roster: Any = Roster(2, most_chunks=2)
    assert roster.is_idle
    for chunk in "abcde":
        roster.add(chunk)
    assert list(roster.assign()) == [(0, "a"), (1, "b")]
    assert list(roster.assign()) == []
    assert roster.finish(1) == ("b", False)
    assert list(roster.assign()) == [(1, "c")]
    assert roster.finish(1) == ("c", True)
    assert roster.finish(0, died=True) == ("a", True)
    assert sorted(roster.assign()) == [(0, "e"), (1, "d")]
    assert sorted(roster.drop()) == ["d", "e"]
    assert roster.is_idle
