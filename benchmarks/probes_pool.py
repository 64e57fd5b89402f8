"""The probes of `ProcessPoolExecutor`, for the rows where it has something comparable.

It has no actors, no objects, no `wait` one by one, and no nested tasks: those rows stay empty.
A large argument or result goes through its pipe each time, which is what a user of it pays.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from benchmarks import fresh, processes
from benchmarks.bench import Bench, check
from benchmarks.engines import CPUS
from benchmarks.timing import Samples, durations, rates

_COLD_START = f"""
from concurrent.futures import ProcessPoolExecutor

def first():
    return 42

with ProcessPoolExecutor({CPUS}) as pool:
    print(pool.submit(first).result(), flush=True)
"""

_IMPORT = """
import time
start = time.perf_counter()
from concurrent.futures import ProcessPoolExecutor
print(time.perf_counter() - start)
"""

#: What `give` keeps in a worker between calls.
_kept: dict[int, np.ndarray] = {}


def nothing() -> None:
    return None


def occupy() -> int:
    time.sleep(0.3)
    return os.getpid()


def take(options: dict[str, object], data: bytes) -> int:
    return len(options) + len(data)


def give(items: int) -> np.ndarray:
    if items not in _kept:
        _kept[items] = np.arange(items, dtype=np.int64)
    return _kept[items]


def last_of(array: np.ndarray) -> int:
    return int(array[-1])


def cold_start(bench: Bench) -> Samples:
    return {"cold_start": durations(lambda: fresh.seconds_to_first_line(_COLD_START), bench.scale)}


def import_time(bench: Bench) -> Samples:
    fresh.seconds_printed(_IMPORT)
    return {"import": durations(lambda: fresh.seconds_printed(_IMPORT), bench.scale)}


def shutdown(bench: Bench) -> Samples:
    pool = _started()
    start = time.perf_counter()
    pool.shutdown()
    elapsed_s = time.perf_counter() - start
    own_pid = os.getpid()
    left = processes.wait_gone(bench.mark, own_pid, timeout_s=30, spare=own_pid)
    check(not left, f"{len(left)} processes are left 30 s after shutdown")
    return {"shutdown": [elapsed_s], "all_gone": [time.perf_counter() - start]}


def idle(bench: Bench) -> Samples:
    with _started() as pool:
        pids = {future.result() for future in [pool.submit(occupy) for _ in range(CPUS)]}
        check(len(pids) == CPUS, f"{CPUS} tasks that overlap ran in {len(pids)} processes")
        return bench.measure_idle()


def tasks_one_by_one(bench: Bench) -> Samples:
    with _started() as pool:
        return {"task_sync": rates(lambda: pool.submit(nothing).result(), bench.scale)}


def tasks_in_flight(bench: Bench) -> Samples:
    count = bench.scale.count(10_000)
    submit_s: list[float] = []
    with _started() as pool:

        def burst() -> None:
            start = time.perf_counter()
            futures = [pool.submit(nothing) for _ in range(count)]
            submit_s.append(time.perf_counter() - start)
            check([future.result() for future in futures] == [None] * count, "a task's None")

        whole_s = durations(burst, bench.scale)
    return {"task_submit": [count / s for s in submit_s], "task_flight": [count / s for s in whole_s]}


def tasks_small_arguments(bench: Bench) -> Samples:
    count = bench.scale.count(10_000)
    payload = os.urandom(1024)
    with _started() as pool:

        def burst() -> None:
            futures = [
                pool.submit(take, {"name": "x", "size": i, "scale": 0.5}, payload) for i in range(count)
            ]
            check([future.result() for future in futures] == [1027] * count, "the sizes of the arguments")

        return {"task_small_args": [count / s for s in durations(burst, bench.scale)]}


def large_result(bench: Bench) -> Samples:
    items = bench.scale.size_bytes(80_000_000) // 8
    with _started() as pool:

        def once() -> None:
            check(pool.submit(give, items).result()[-1] == items - 1, "the last item of the result")

        return {"result_80m": [rate * items * 8 / 1e9 for rate in rates(once, bench.scale)]}


def large_argument(bench: Bench) -> Samples:
    array = np.arange(bench.scale.size_bytes(100_000_000) // 8, dtype=np.int64)
    with _started() as pool:

        def once() -> None:
            check(pool.submit(last_of, array).result() == array.size - 1, "the last item of the argument")

        return {"argument_100m": rates(once, bench.scale)}


def queued_tasks(bench: Bench) -> Samples:
    count = bench.scale.count(100_000)
    with _started() as pool:
        before_mb = processes.reset_peak_rss()
        start = time.perf_counter()
        futures = [pool.submit(nothing) for _ in range(count)]
        answers = [future.result() for future in futures]
        elapsed_s = time.perf_counter() - start
        growth_mb = processes.peak_rss_mb() - before_mb
    check(answers == [None] * count, "a task's None")
    return {"queued_time": [elapsed_s], "queued_memory": [growth_mb]}


def _started() -> ProcessPoolExecutor:
    """A pool whose processes have started and run tasks."""
    pool = ProcessPoolExecutor(CPUS)
    for future in [pool.submit(nothing) for _ in range(300)]:
        future.result()
    return pool


PROBES: dict[str, Callable[[Bench], Samples]] = {
    probe.__name__: probe
    for probe in (
        cold_start, import_time, shutdown, idle, tasks_one_by_one, tasks_in_flight, tasks_small_arguments,
        large_result, large_argument, queued_tasks,
    )
}  # fmt: skip
