"""Many results one by one: as_completed, map_unordered, and jray's own map."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jray
from jray.util import as_completed, map_unordered
from tests.behaviour import engine
from tests.behaviour.support import PATIENCE_S, Bench, Gate, start_driver, wait_until

pytestmark = pytest.mark.usefixtures("cluster")

own = pytest.mark.only("jray", "Ray has no such function")
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@jray.remote(num_cpus=0)
def wait_for(gate: Gate, value: int) -> int:
    gate.wait()
    return value


@jray.remote
def square(x: int) -> int:
    return x * x


@jray.remote(max_retries=0)
def odd_only(x: int) -> int:
    if x % 2 == 0:
        raise ValueError(f"{x} is even")
    return x


# -- as_completed -------------------------------------------------------------------------------------------


def test_as_completed_yields_values_as_they_come(bench: Bench) -> None:
    """With chunk_size=1 each value comes when it is there, whatever the order of refs."""
    gates = [bench.gate(str(n)) for n in range(3)]
    values = as_completed([wait_for.remote(gate, n) for n, gate in enumerate(gates)], chunk_size=1)
    for n in (1, 2, 0):
        gates[n].open()
        assert next(values) == n
    with pytest.raises(StopIteration):
        next(values)


def test_as_completed_yields_refs_if_asked_to() -> None:
    """yield_obj_refs=True gives the refs themselves."""
    refs = [square.remote(n) for n in range(5)]
    assert set(as_completed(refs, yield_obj_refs=True)) == set(refs)


@pytest.mark.parametrize("chunk_size", [1, 3, 10, 1000])
@pytest.mark.parametrize("count", [0, 1, 7, 600])
def test_as_completed_yields_each_once(count: int, chunk_size: int) -> None:
    """Few or many, in chunks smaller or larger than there are refs."""
    refs = [jray.put(n) for n in range(count)]
    assert sorted(as_completed(refs, chunk_size=chunk_size)) == list(range(count))


def test_as_completed_waits_for_a_chunk(bench: Bench) -> None:
    """With chunk_size=2 nothing comes before two are ready, and then both in the order of refs."""
    gates = [bench.gate(str(n)) for n in range(3)]
    values = as_completed([wait_for.remote(gate, n) for n, gate in enumerate(gates)], chunk_size=2)
    gates[2].open()
    gates[1].open()
    assert [next(values), next(values)] == [1, 2]
    gates[0].open()
    assert list(values) == [0]


def test_as_completed_finds_what_is_far_behind(bench: Bench) -> None:
    """A result comes although hundreds of refs before it are not ready."""
    gate, free = bench.gate(), bench.gate("free")
    free.open()
    blocked = wait_for.remote(gate, 0)
    refs = [square.remote(blocked) for _ in range(500)] + [wait_for.remote(free, 77)]
    values = as_completed(refs, chunk_size=1)
    assert next(values) == 77
    gate.open()
    assert list(values) == [0] * 500


def test_as_completed_raises_a_tasks_error() -> None:
    """The exception of a task ends the iteration."""
    with pytest.raises(ValueError, match="2 is even"):
        list(as_completed([odd_only.remote(1), odd_only.remote(2)]))


def test_as_completed_goes_on_after_a_timeout(bench: Bench) -> None:
    """A timeout only ends a round of waiting: what is ready is yielded although the chunk isn't full."""
    gate = bench.gate()
    values = as_completed([wait_for.remote(gate, 1), jray.put(2)], chunk_size=2, timeout=0.05)
    assert next(values) == 2
    gate.open()
    assert list(values) == [1]


@pytest.mark.parametrize("options", [{"chunk_size": 0}, {"num_returns": 1}])
def test_as_completed_refuses_what_makes_no_sense(options: dict[str, Any]) -> None:
    """ValueError, at the latest when it is used."""
    with pytest.raises(ValueError, match=r"chunk_?size"):
        list(as_completed([jray.put(1)], **options))


def test_as_completed_works_in_a_task() -> None:
    """A task that waits so gives its CPU to those it waits for."""

    @jray.remote(num_cpus=2)
    def total() -> int:
        return sum(as_completed([square.remote(n) for n in range(5)]))

    assert jray.get(total.remote(), timeout=PATIENCE_S) == 30


# -- map_unordered ------------------------------------------------------------------------------------------


def test_map_unordered_yields_all_results() -> None:
    """Each item's result comes once."""
    assert sorted(map_unordered(square, range(250), backpressure_size=20)) == [n * n for n in range(250)]
    assert sorted(map_unordered(square, iter(range(5)), backpressure_size=None)) == [0, 1, 4, 9, 16]
    refs = list(map_unordered(square, [3], yield_obj_refs=True))
    assert jray.get(refs) == [9]


def test_map_unordered_limits_what_is_under_way(bench: Bench) -> None:
    """At most backpressure_size calls wait or run, so that items may be endless."""
    read = bench.tally()

    def items() -> Iterator[int]:
        for n in itertools.count():
            read.add()
            yield n

    results = map_unordered(square, items(), backpressure_size=4, chunk_size=1)
    first = list(itertools.islice(results, 10))
    assert len(first) == 10
    assert read.count() <= 10 + 4 + 4


@pytest.mark.parametrize("options", [{"chunk_size": 0}, {"num_returns": 1}, {"backpressure_size": 0}])
def test_map_unordered_refuses_what_makes_no_sense(options: dict[str, Any]) -> None:
    """ValueError, at the latest when it is used."""
    with pytest.raises(ValueError, match=r"size"):
        list(map_unordered(square, [1], **options))


# -- map ------------------------------------------------------------------------------------------------------


def pmap(*args: Any, **kwargs: Any) -> Any:
    return jray.util.map(*args, **kwargs)


@own
@pytest.mark.parametrize("count", [0, 1, 10, 5000])
@pytest.mark.parametrize("chunk_size", [None, 1, 7])
def test_map_is_map(count: int, chunk_size: int | None) -> None:
    """The results of all items, in their order."""
    if chunk_size == 1:
        count = min(count, 200)
    assert list(pmap(lambda x: x + 1, range(count), chunk_size=chunk_size)) == list(range(1, count + 1))


@own
def test_map_yields_as_completed_if_order_does_not_matter(bench: Bench) -> None:
    """ordered=False: a result need not wait for one before it."""
    gate = bench.gate()

    def wait_if_first(x: int) -> int:
        if x == 0:
            gate.wait()
        return x

    results = pmap(wait_if_first, range(3), ordered=False, chunk_size=1)
    assert sorted([next(results), next(results)]) == [1, 2]
    gate.open()
    assert list(results) == [0]


@own
def test_map_reads_no_further_than_it_must(bench: Bench) -> None:
    """Items may be endless: only what is under way is read, and nothing before the first result is asked for."""
    read = bench.tally()

    def items() -> Iterator[int]:
        for n in itertools.count():
            read.add()
            yield n

    results = pmap(lambda x: x, items(), chunk_size=1, max_in_flight=3)
    assert read.count() == 0
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert read.count() <= 5 + 3
    results.close()


@own
def test_map_runs_no_more_at_once_than_allowed(bench: Bench) -> None:
    """max_in_flight=1 is one after the other."""
    meter = bench.meter()

    def measure(x: int) -> int:
        with meter.use():
            return x

    assert list(pmap(measure, range(6), chunk_size=1, max_in_flight=1)) == list(range(6))
    assert meter.peak() == 1


@own
def test_map_takes_a_remote_function_with_its_options() -> None:
    """It runs with the options of the remote function, those of `.options` and those that map is given."""

    @jray.remote(resources={"gadget": 1})
    def assigned(_: object) -> float:
        return float(jray.get_runtime_context().get_assigned_resources().get("gadget", 0))

    assert list(pmap(assigned, range(2))) == [1, 1]
    assert list(pmap(assigned.options(resources={"gadget": 2}), range(2))) == [2, 2]
    assert list(pmap(assigned, range(2), resources={"gadget": 0.5})) == [0.5, 0.5]
    assert list(pmap(assigned._function, range(2), resources={"gadget": 1})) == [1, 1]


@own
def test_a_maps_tasks_have_the_functions_name() -> None:
    """In listings and before what it prints stands the user's function."""

    def by_name(_: object) -> Any:
        return jray.get_runtime_context().get_task_name()

    (name,) = pmap(by_name, [1])
    assert name.endswith("by_name")


@own
def test_map_resolves_refs() -> None:
    """An item that is a ref stands for its value; if that is an error, it is the item's."""
    refs = [square.remote(n) for n in range(4)]
    assert list(pmap(lambda x: x + 1, refs, num_cpus=2)) == [1, 2, 5, 10]
    with pytest.raises(ValueError, match="2 is even"):
        list(pmap(lambda x: x, [odd_only.remote(2)]))


@own
@pytest.mark.parametrize("chunk_size", [None, 1, 50])
def test_map_raises_an_items_error_in_its_place(chunk_size: int | None) -> None:
    """All results before it come; then it is raised as itself, with its remote traceback."""

    def fail_at_30(x: int) -> int:
        if x == 30:
            raise KeyError("thirty")
        return x

    results = pmap(fail_at_30, range(100), chunk_size=chunk_size)
    got: list[int] = []
    with pytest.raises(KeyError) as caught:
        got.extend(iter(lambda: next(results), None))
    assert isinstance(caught.value, jray.exceptions.RayTaskError)
    assert "in fail_at_30" in str(caught.value)
    assert "util/iteration.py" not in str(caught.value)
    with contextlib.suppress(KeyError):
        got = list(itertools.islice(pmap(fail_at_30, range(100), chunk_size=chunk_size), 30))
    assert got == list(range(30))


@own
def test_map_passes_on_an_error_of_the_items() -> None:
    """What reading the items raises comes after the results of those before."""

    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("no more")

    results = pmap(lambda x: x, items())
    assert next(results) == 1
    with pytest.raises(RuntimeError, match="no more"):
        next(results)


@own
@pytest.mark.parametrize("end", ["close", "drop", "error"])
def test_what_is_left_of_a_map_is_cancelled(bench: Bench, end: str) -> None:
    """After close(), or without the iterator, or after an error: what waits never runs, what runs is interrupted."""
    started, interrupted = bench.tally("started"), bench.tally("interrupted")

    def work(x: int) -> int:
        if x == 0:
            started.wait_for(1)
            if end == "error":
                raise ValueError("first")
            return x
        try:
            started.add(x)  # the interrupt may come as early as here
            Gate(f"{started.path}.never").wait()
        except BaseException:
            interrupted.add(x)
            raise
        return x

    results: Any = pmap(work, range(100), chunk_size=1, max_in_flight=20)
    if end == "error":
        with pytest.raises(ValueError, match="first"):
            next(results)
    else:
        assert next(results) == 0
    if end == "close":
        results.close()
    del results
    gc.collect()
    wait_until(lambda: {*started.notes()} <= {*interrupted.notes()}, what="all that ran interrupted")
    assert jray.get(square.options(num_cpus=2).remote(3), timeout=PATIENCE_S) == 9
    assert started.count() < 10


INTERRUPTED = """
    import os, sys, time
    import jray

    folder, = sys.argv[1:]
    jray.init(num_cpus=1, log_to_driver=False)

    def work(x):
        try:
            open(f"{folder}/running", "w").close()  # the interrupt may come as early as here
            time.sleep(1000)
        except BaseException:
            open(f"{folder}/cancelled", "w").close()
            raise

    def items():
        yield from range(10)
        open(f"{folder}/submitted", "w").close()  # who asks for more has sent these

    try:
        list(jray.util.map(work, items(), chunk_size=1, max_in_flight=20))
    except KeyboardInterrupt:
        assert jray.get(jray.remote(lambda: 5).remote(), timeout=60) == 5
        print("went on")
"""


@own
def test_an_interrupt_cancels_a_map(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a map interrupts its tasks, too."""
    driver = start_driver(tmp_path, INTERRUPTED, tmp_path)
    try:
        # In one process the first call is run as it is submitted.
        for name in ("running",) if engine.ON_INLINE else ("running", "submitted"):
            wait_until((tmp_path / name).exists, 60)
        process = psutil.Process(driver.pid)
        wait_until(lambda: process.status() == psutil.STATUS_SLEEPING)
        driver.signal(signal.SIGINT)
        assert driver.finish().split() == ["went", "on"]
        assert (tmp_path / "cancelled").exists()
    finally:
        if driver.process.poll() is None:
            driver.signal(signal.SIGKILL)
            driver.end()


@own
def test_map_tells_its_progress() -> None:
    """A function is called with the number of items done and how many there are, up to the end."""
    told: list[tuple[int, int | None]] = []
    assert sum(pmap(lambda x: x, range(500), progress=lambda *now: told.append(now))) == sum(range(500))
    assert told == sorted(told)
    assert told[-1] == (500, 500)
    endless: list[tuple[int, int | None]] = []
    list(pmap(lambda x: x, iter(range(5)), progress=lambda *now: endless.append(now)))
    assert endless[-1] == (5, None)


@own
def test_map_shows_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """progress=True ends with a full bar that has the function's name."""

    def my_work(x: int) -> int:
        return x

    list(pmap(my_work, range(50), progress=True))
    last = capsys.readouterr().err.splitlines()[-1]
    assert "my_work: 100%" in last
    assert "50/50" in last


@own
def test_short_calls_make_long_chunks(bench: Bench) -> None:
    """A thousand calls of no length are far fewer tasks, in more than one process's lifetime of a function."""
    tasks = set(pmap(lambda _: jray.get_runtime_context().get_task_id(), range(1000)))
    assert len(tasks) < 250


@own
def test_a_function_keeps_its_globals_in_a_worker() -> None:
    """What a function loads once per process is there for its next chunk."""
    cache: dict[int, int] = {}

    def count(_: object) -> tuple[int, int]:
        cache[0] = cache.get(0, 0) + 1
        return os.getpid(), cache[0]

    seen = list(pmap(count, range(40), chunk_size=1))
    for pid in {pid for pid, _ in seen}:
        counts = [n for p, n in seen if p == pid]
        assert sorted(counts) == list(range(1, len(counts) + 1))


@own
def test_map_sends_large_items_and_results() -> None:
    """Arrays go and come whole."""
    arrays = [np.full(200_000, n) for n in range(4)]
    assert [int(a[0]) for a in pmap(lambda a: a * 2, arrays)] == [0, 2, 4, 6]


@own
def test_map_works_in_a_task() -> None:
    """A task may map over tasks; it gives its CPU to them."""

    @jray.remote(num_cpus=2)
    def total() -> int:
        return sum(pmap(lambda x: x * x, range(10)))

    assert jray.get(total.remote(), timeout=PATIENCE_S) == 285


@own
def test_map_says_what_is_wrong_at_once() -> None:
    """Not when the first result is asked for."""

    def generates(x: int) -> Iterator[int]:
        yield x

    with pytest.raises(ValueError, match="chunk_size"):
        pmap(abs, [1], chunk_size=0)
    with pytest.raises(ValueError, match="max_in_flight"):
        pmap(abs, [1], max_in_flight=0)
    with pytest.raises(ValueError, match="num_returns"):
        pmap(abs, [1], num_returns=2)
    with pytest.raises(ValueError, match="Invalid option"):
        pmap(abs, [1], no_such_option=1)
    with pytest.raises(TypeError, match="progress"):
        pmap(abs, [1], progress="yes")
    with pytest.raises(TypeError, match="not iterable"):
        pmap(abs, 1)
    for wrong in (generates, 3, jray.remote(generates)):
        with pytest.raises(TypeError, match=r"map\(\)"):
            pmap(wrong, [1])


# -- the size of chunks ---------------------------------------------------------------------------------------


def chunker(*args: Any, **kwargs: Any) -> Any:
    from jray.util.chunks import Chunker  # noqa: PLC0415 -- Ray has none

    return Chunker(*args, **kwargs)


@own
@unhurried
@given(
    total=st.none() | st.integers(0, 5000),
    workers=st.integers(1, 64),
    times=st.lists(st.floats(0, 10), min_size=1, max_size=50),
)
def test_chunks_are_never_too_large(total: int | None, workers: int, times: list[float]) -> None:
    """Whatever is measured: at least one item, at most eight times the longest so far, and no more than is left."""
    machine, longest, left = chunker(None, total, workers), 0, total
    for seconds in times:
        size = machine.next_size()
        assert 1 <= size <= max(1, 8 * longest)
        if left is not None:
            assert size <= max(1, left)
            size = min(size, left)
            left -= size
        machine.gave(size)
        machine.took(size, seconds)
        longest = max(longest, size)


@own
@unhurried
@given(per_item_s=st.floats(1e-7, 10))
def test_chunks_grow_to_their_time(per_item_s: float) -> None:
    """With items of one length, a chunk soon takes tens of milliseconds, or has one item if that takes longer."""
    machine = chunker()
    for _ in range(12):
        size = machine.next_size()
        machine.gave(size)
        machine.took(size, size * per_item_s)
    size = machine.next_size()
    assert size == 1 or size * per_item_s <= 0.031
    assert size * per_item_s >= 0.015 or size == 100_000 or per_item_s > 0.015


@own
@unhurried
@given(first_s=st.floats(0.1, 100), per_item_s=st.floats(1e-6, 1e-3))
def test_a_long_first_call_is_forgotten(first_s: float, per_item_s: float) -> None:
    """A first item that had to import something does not keep chunks small."""
    machine = chunker()
    machine.took(1, first_s)
    for _ in range(40):
        size = machine.next_size()
        machine.took(size, size * per_item_s)
    assert machine.next_size() * per_item_s >= 0.01


@own
@unhurried
@given(total=st.integers(1, 10_000), workers=st.integers(1, 16))
def test_the_last_chunks_are_short(total: int, workers: int) -> None:
    """With a known end, chunks shrink so that the workers finish together: at the end each has one item."""
    machine, sizes, left = chunker(None, total, workers), [], total
    while left:
        size = min(machine.next_size(), left)
        machine.gave(size)
        machine.took(size, size * 1e-5)
        sizes.append(size)
        left -= size
    assert sum(sizes) == total
    assert sizes[-1] == 1


@own
@unhurried
@given(size=st.integers(1, 1000), times=st.lists(st.floats(0, 10), max_size=5))
def test_a_fixed_size_stays(size: int, times: list[float]) -> None:
    """A given chunk_size is kept, whatever is measured."""
    machine = chunker(size, 10)
    for seconds in times:
        machine.took(size, seconds)
        assert machine.next_size() == size
