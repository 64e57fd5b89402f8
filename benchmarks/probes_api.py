"""The probes of the engines that have Ray's API: jray and Ray run the very same code.

Remote functions are defined inside the probes, so that workers get them by value and need
not import this package.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks import fresh, processes
from benchmarks.bench import Bench, check
from benchmarks.engines import CPUS
from benchmarks.timing import Samples, durations, rates

_COLD_START = """
import {module} as api
api.init(num_cpus={cpus}, **{options!r})

@api.remote
def first():
    return 42

print(api.get(first.remote()), flush=True)
api.shutdown()
"""

_IMPORT = """
import time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""


_SPILL = """
import time
import numpy as np
import {module} as api
api.init(num_cpus={cpus}, object_store_memory=256_000_000, **{options!r})
piece = np.arange(2_000_000, dtype=np.int64)
api.get(api.put(piece))
start = time.perf_counter()
refs = [api.put(piece) for _ in range({count})]
for ref in refs:
    assert int(api.get(ref)[::512].sum()) > 0
print(time.perf_counter() - start, flush=True)
api.shutdown()
"""


def spilling(bench: Bench) -> Samples:
    count = bench.scale.count(64)
    program = _SPILL.format(
        module=bench.engine.module, cpus=CPUS, options=dict(bench.engine.init_options), count=count
    )
    return {"spilled": [2 * count * 16e6 / 1e9 / fresh.seconds_printed(program)]}


def cold_start(bench: Bench) -> Samples:
    program = _COLD_START.format(
        module=bench.engine.module, cpus=CPUS, options=dict(bench.engine.init_options)
    )
    return {"cold_start": durations(lambda: fresh.seconds_to_first_line(program), bench.scale)}


def import_time(bench: Bench) -> Samples:
    program = _IMPORT.format(module=bench.engine.module)
    fresh.seconds_printed(program)
    return {"import": durations(lambda: fresh.seconds_printed(program), bench.scale)}


def idle(bench: Bench) -> Samples:
    api = bench.api

    @api.remote
    def occupy() -> int:
        time.sleep(0.3)
        return os.getpid()

    pids = api.get([occupy.remote() for _ in range(CPUS)])
    check(len(set(pids)) == CPUS, f"{CPUS} tasks that overlap ran in {len(set(pids))} processes")
    return bench.measure_idle()


def tasks_one_by_one(bench: Bench) -> Samples:
    api = bench.api

    @api.remote
    def nothing() -> None:
        return None

    return {"task_sync": rates(lambda: api.get(nothing.remote()), bench.scale)}


def tasks_in_flight(bench: Bench) -> Samples:
    api = bench.api
    count = bench.scale.count(10_000)
    submit_s: list[float] = []

    @api.remote
    def nothing() -> None:
        return None

    def burst() -> None:
        start = time.perf_counter()
        refs = [nothing.remote() for _ in range(count)]
        submit_s.append(time.perf_counter() - start)
        check(api.get(refs) == [None] * count, "a task's None")

    whole_s = durations(burst, bench.scale)
    return {"task_submit": [count / s for s in submit_s], "task_flight": [count / s for s in whole_s]}


def tasks_small_arguments(bench: Bench) -> Samples:
    api = bench.api
    count = bench.scale.count(10_000)
    payload = os.urandom(1024)

    @api.remote
    def take(options: dict[str, object], data: bytes) -> int:
        return len(options) + len(data)

    def burst() -> None:
        refs = [take.remote({"name": "x", "size": i, "scale": 0.5}, payload) for i in range(count)]
        check(api.get(refs) == [1027] * count, "the sizes of the arguments")

    return {"task_small_args": [count / s for s in durations(burst, bench.scale)]}


def tasks_nested(bench: Bench) -> Samples:
    api = bench.api

    @api.remote
    def inner(number: int) -> int:
        return number

    @api.remote
    def outer() -> int:
        return sum(api.get([inner.remote(i) for i in range(10)]))

    def once() -> None:
        check(api.get(outer.remote()) == 45, "the sum of the inner tasks")

    return {"task_nested": rates(once, bench.scale)}


def actor_calls(bench: Bench) -> Samples:
    api = bench.api

    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self) -> int:
            self.count += 1
            return self.count

    counter = api.remote(Counter).remote()
    return _calls(bench, counter.add.remote, "actor")


def async_actor_calls(bench: Bench) -> Samples:
    api = bench.api

    class Counter:
        def __init__(self) -> None:
            self.count = 0

        async def add(self) -> int:
            self.count += 1
            return self.count

    counter = api.remote(Counter).remote()
    return _calls(bench, counter.add.remote, "async_actor")


def _calls(bench: Bench, call: Callable[[], object], name: str) -> Samples:
    api = bench.api
    count = bench.scale.count(10_000)
    one_by_one = rates(lambda: api.get(call()), bench.scale)

    def burst() -> None:
        before = api.get(call())
        answers = api.get([call() for _ in range(count)])
        check(max(answers) == before + count, f"the count after {count} calls")

    return {
        f"{name}_sync": one_by_one,
        f"{name}_flight": [(count + 1) / s for s in durations(burst, bench.scale)],
    }


def objects_empty(bench: Bench) -> Samples:
    api = bench.api
    ref = api.put(b"")
    check(api.get(ref) == b"", "the empty object")
    return {
        "put_0": rates(lambda: api.put(b""), bench.scale),
        "get_0": rates(lambda: api.get(ref), bench.scale),
    }


def objects_100_kb(bench: Bench) -> Samples:
    api = bench.api
    array = np.arange(bench.scale.size_bytes(100_000) // 8, dtype=np.int64)
    ref = api.put(array)
    check(bool((api.get(ref) == array).all()), "the array put")
    return {
        "put_100k": rates(lambda: api.put(array), bench.scale),
        "get_100k": rates(lambda: api.get(ref), bench.scale),
    }


def objects_100_mb(bench: Bench) -> Samples:
    api = bench.api
    array = np.arange(bench.scale.size_bytes(100_000_000) // 8, dtype=np.int64)

    gigabytes = array.nbytes / 1e9
    start = time.perf_counter()
    ref = api.put(array)
    first_s = time.perf_counter() - start
    check(bool((api.get(ref) == array).all()), "the array put")
    del ref
    # Rates of whole loops: single puts fall into two heaps, fresh pages and reused ones, and a
    # median would show one of them only.
    puts = [rate * gigabytes for rate in rates(lambda: api.put(array), bench.scale)]
    ref = api.put(array)
    alone = rates(lambda: api.get(ref), bench.scale)
    held = api.get(ref)
    beside = rates(lambda: api.get(ref), bench.scale)
    check(held[-1] == array[-1], "the view held meanwhile")
    return {
        "put_100m_first": [gigabytes / first_s],
        "put_100m": puts,
        "get_100m": alone,
        "get_100m_held": beside,
    }


def large_result(bench: Bench) -> Samples:
    api = bench.api
    items = bench.scale.size_bytes(80_000_000) // 8
    # Kept in the worker between calls: it is the way back that is measured, not the making.
    kept: dict[int, np.ndarray] = {}

    @api.remote
    def give() -> np.ndarray:
        if items not in kept:
            kept[items] = np.arange(items, dtype=np.int64)
        return kept[items]

    def once() -> None:
        check(api.get(give.remote())[-1] == items - 1, "the last item of the result")

    for _ in range(CPUS):
        once()
    return {"result_80m": [rate * items * 8 / 1e9 for rate in rates(once, bench.scale)]}


def large_argument(bench: Bench) -> Samples:
    api = bench.api
    ref = api.put(np.arange(bench.scale.size_bytes(100_000_000) // 8, dtype=np.int64))
    last = bench.scale.size_bytes(100_000_000) // 8 - 1

    @api.remote
    def last_of(array: np.ndarray) -> int:
        return int(array[-1])

    def once() -> None:
        check(api.get(last_of.remote(ref)) == last, "the last item of the argument")

    return {"argument_100m": rates(once, bench.scale)}


def wait_one_by_one(bench: Bench) -> Samples:
    api = bench.api
    count = bench.scale.count(1_000)

    @api.remote
    def nothing() -> None:
        return None

    def once() -> None:
        pending = [nothing.remote() for _ in range(count)]
        rounds = 0
        while pending:
            ready, pending = api.wait(pending)
            rounds += len(ready)
        check(rounds == count, "the number of refs that became ready")

    return {"wait_1000": durations(once, bench.scale)}


def many_ref_arguments(bench: Bench) -> Samples:
    api = bench.api
    count = bench.scale.count(10_000)

    @api.remote
    def total(*numbers: int) -> int:
        return sum(numbers)

    def once() -> float:
        refs = [api.put(i) for i in range(count)]
        start = time.perf_counter()
        answer = api.get(total.remote(*refs))
        elapsed_s = time.perf_counter() - start
        check(answer == count * (count - 1) // 2, "the sum of the arguments")
        return elapsed_s

    return {"refs_10000": durations(once, bench.scale)}


def many_returns(bench: Bench) -> Samples:
    api = bench.api
    count = bench.scale.count(3_000)

    @api.remote
    def numbers() -> list[int]:
        return list(range(count))

    call = numbers.options(num_returns=count)

    def once() -> None:
        check(api.get(call.remote()) == list(range(count)), "the returns")

    return {"returns_3000": durations(once, bench.scale)}


def queued_tasks(bench: Bench) -> Samples:
    api = bench.api
    count = bench.scale.count(100_000)

    @api.remote
    def nothing() -> None:
        return None

    before_mb = processes.reset_peak_rss()
    start = time.perf_counter()
    refs = [nothing.remote() for _ in range(count)]
    answers = api.get(refs)
    elapsed_s = time.perf_counter() - start
    growth_mb = processes.peak_rss_mb() - before_mb
    check(answers == [None] * count, "a task's None")
    return {"queued_time": [elapsed_s], "queued_memory": [growth_mb]}


def streamed_items(bench: Bench) -> Samples:
    api = bench.api
    count = bench.scale.count(1_000)

    @api.remote
    def numbers() -> Iterator[int]:
        # No `yield from range(...)`: Ray sends values into the generator, which a range can't take.
        for number in range(count):  # noqa: UP028
            yield number

    call = numbers.options(num_returns="streaming")

    def once() -> None:
        check([api.get(ref) for ref in call.remote()] == list(range(count)), "the items")

    once()
    return {"streamed": [count / s for s in durations(once, bench.scale)]}


def start_actors(bench: Bench) -> Samples:
    api = bench.api
    count = bench.scale.count(20)

    class Holder:
        def pid(self) -> int:
            return os.getpid()

    holder_class = api.remote(Holder)
    start = time.perf_counter()
    holders = [holder_class.remote() for _ in range(count)]
    pids = api.get([holder.pid.remote() for holder in holders])
    elapsed_s = time.perf_counter() - start
    check(len(set(pids)) == count, f"{count} actors in {len(set(pids))} processes")
    return {"actors_20": [elapsed_s]}


def placement_groups(bench: Bench) -> Samples:
    groups = importlib.import_module(f"{bench.engine.module}.util.placement_group")

    def cycle() -> None:
        # so little that none waits for what the one before gave back: Ray looks again only after a while
        group = groups.placement_group([{"CPU": 0.01}])
        check(group.wait(30), "a group that fits is placed")
        groups.remove_placement_group(group)

    return {"group": rates(cycle, bench.scale)}


def two_nodes(bench: Bench) -> Samples:
    """Tasks and objects of a node that the driver is not on."""
    api = bench.api
    cluster_utils = importlib.import_module(f"{bench.engine.module}.cluster_utils")
    size = bench.scale.count(2**30)
    store = {"object_store_memory": max(200_000_000, int(2.5 * size))}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **store})
    cluster.add_node(num_cpus=CPUS, **store)
    api.init(address=cluster.address)
    try:
        return {**_far_tasks(bench), **_far_object(bench, size)}
    finally:
        api.shutdown()
        cluster.shutdown()


def _far_tasks(bench: Bench) -> Samples:
    api = bench.api
    count = bench.scale.count(10_000)

    @api.remote
    def nothing() -> None:
        return None

    def burst() -> None:
        check(api.get([nothing.remote() for _ in range(count)]) == [None] * count, "a task's None")

    burst()
    one_by_one = rates(lambda: api.get(nothing.remote()), bench.scale)
    return {"far_sync": one_by_one, "far_flight": [count / s for s in durations(burst, bench.scale)]}


def _far_object(bench: Bench, size: int) -> Samples:
    api = bench.api

    @api.remote
    def make() -> np.ndarray:
        return np.ones(size, dtype=np.uint8)

    samples = []
    for _ in range(4):
        made = make.remote()
        api.wait([made], fetch_local=False)
        start = time.perf_counter()
        value = api.get(made)
        samples.append(size / 1e9 / (time.perf_counter() - start))
        check(value.nbytes == size, "the object's size")
        del value, made
        time.sleep(0.5)  # both engines free what is dropped by and by
    return {"far_object": samples[1:]}  # the first one writes fresh pages


def shutdown(bench: Bench) -> Samples:
    bench.start()
    start = time.perf_counter()
    bench.api.shutdown()
    elapsed_s = time.perf_counter() - start
    own_pid = os.getpid()
    left = processes.wait_gone(bench.mark, own_pid, timeout_s=30, spare=own_pid)
    check(not left, f"{len(left)} processes are left 30 s after shutdown")
    return {"shutdown": [elapsed_s], "all_gone": [time.perf_counter() - start]}


#: Probes that run in a started, warmed-up session.
IN_SESSION: dict[str, Callable[[Bench], Samples]] = {
    probe.__name__: probe
    for probe in (
        idle, tasks_one_by_one, tasks_in_flight, tasks_small_arguments, tasks_nested, actor_calls,
        async_actor_calls, objects_empty, objects_100_kb, objects_100_mb, large_result, large_argument,
        wait_one_by_one, many_ref_arguments, many_returns, queued_tasks, streamed_items, start_actors, placement_groups,
    )
}  # fmt: skip

#: Probes that measure processes of their own: this one does not even load the engine.
IN_OTHERS: dict[str, Callable[[Bench], Samples]] = {
    probe.__name__: probe for probe in (cold_start, import_time, spilling)
}

#: Probes that start and end the session themselves.
WITHOUT_SESSION: dict[str, Callable[[Bench], Samples]] = {
    probe.__name__: probe for probe in (shutdown, two_nodes)
}
