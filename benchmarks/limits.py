"""The probes of the machine's own limits: what no engine can beat here, whatever it does."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from benchmarks.bench import Bench, check
from benchmarks.timing import Samples, durations, rates

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - it is the memory that is measured
_MESSAGE = bytes(100)


def ping_pong(bench: Bench) -> Samples:
    """A message to another Python process and back, over a Unix socket, read by the thread that waits.

    Which cores the two get matters more than anything else in it: waking another core costs several
    times the message.  So it is measured as the kernel places them, and bound both ways.
    """
    cores = sorted(os.sched_getaffinity(0))
    samples = {
        "ping_pong": _round_trips(bench, None, None),
        "ping_pong_together": _round_trips(bench, cores[0], cores[0]),
    }
    if len(cores) > 1:
        samples["ping_pong_apart"] = _round_trips(bench, cores[0], cores[1])
    return samples


def _round_trips(bench: Bench, core_here: int | None, core_there: int | None) -> list[float]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        try:
            here.close()
            _bind(core_there)
            while data := there.recv(4096):
                there.sendall(data)
        finally:
            os._exit(0)
    there.close()

    def once() -> None:
        here.sendall(_MESSAGE)
        here.recv(4096)

    all_cores = os.sched_getaffinity(0)
    try:
        _bind(core_here)
        return rates(once, bench.scale)
    finally:
        os.sched_setaffinity(0, all_cores)
        here.close()
        os.waitpid(pid, 0)


def _bind(core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})


def shared_memory(bench: Bench) -> Samples:
    """One large copy into shared memory: pages that are new, and the same pages again."""
    source = np.arange(bench.scale.size_bytes(100_000_000) // 8, dtype=np.int64).view(np.uint8)
    gigabytes = source.nbytes / 1e9

    def seconds_fresh() -> float:
        with tempfile.TemporaryFile(dir=_SHARED_MEMORY) as file:
            file.truncate(source.nbytes)
            with mmap.mmap(file.fileno(), source.nbytes) as memory:
                return _seconds_of_copy(memory, source)

    with tempfile.TemporaryFile(dir=_SHARED_MEMORY) as file:
        file.truncate(source.nbytes)
        with mmap.mmap(file.fileno(), source.nbytes) as memory:
            for _ in range(3):
                _seconds_of_copy(memory, source)
            touched = durations(lambda: _seconds_of_copy(memory, source), bench.scale, most=20)
            check(memory[-8:] == source[-8:].tobytes(), "the last bytes copied")
    fresh = durations(seconds_fresh, bench.scale)
    return {
        "copy_touched": [gigabytes / s for s in touched],
        "copy_fresh": [gigabytes / s for s in fresh],
    }


def _seconds_of_copy(memory: mmap.mmap, source: np.ndarray) -> float:
    target = np.frombuffer(memory, dtype=np.uint8)
    start = time.perf_counter()
    np.copyto(target, source)
    return time.perf_counter() - start


def disk(bench: Bench) -> Samples:
    """One file, written in pieces of 16 MB and mapped again: each byte goes out and comes back."""
    piece = np.arange(2_000_000, dtype=np.int64).view(np.uint8)
    count = bench.scale.count(64)

    def once() -> None:
        with tempfile.TemporaryFile() as file:
            for _ in range(count):
                file.write(piece.data)
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
                check(int(np.frombuffer(memory, dtype=np.int64)[::512].sum()) > 0, "what was written")

    return {"disk": [2 * count * piece.nbytes / 1e9 / s for s in durations(once, bench.scale, most=3)]}


def interpreter(bench: Bench) -> Samples:
    """Start and end of an interpreter that does nothing."""

    def once() -> None:
        subprocess.run([sys.executable, "-c", "pass"], check=True)

    once()
    return {"interpreter_start": durations(once, bench.scale, most=20)}


PROBES: dict[str, Callable[[Bench], Samples]] = {
    probe.__name__: probe for probe in (ping_pong, shared_memory, disk, interpreter)
}
