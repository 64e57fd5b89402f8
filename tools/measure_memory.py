"""Measure what memory costs and whether it comes back: how much of a store fragments, what a reference takes, what leaks.

usage: python tools/measure_memory.py fragmentation [--operations 100000] [--capacity-mb 1000] [--seed 0]
       python tools/measure_memory.py refs [--count 1000000]
       python tools/measure_memory.py leak [--tasks 200000] [--rounds 10]
       python tools/measure_memory.py spilling [--gigabytes 1] [--turns 5]

Each prints figures; nothing is asserted.  `fragmentation` keeps accounts only, and takes no memory of that size.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import math
import mmap
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil

import jray
from jray._core.refs import current
from jray._core.store.ledger import Ledger, StoreFull

KB, MB = 1000, 1000**2
#: sizes of objects, from the least to the most; each power of ten is as likely
LEAST, MOST = KB, 50 * MB
#: the part of the store that is in use when the size of the next object asks for more
_FILLED = 0.97


@dataclasses.dataclass(frozen=True, slots=True)
class Fragmented:
    """What random puts and frees did to a store."""

    operations: int
    refused: int  #: puts for which there were bytes enough, and which failed all the same
    lost: float  #: part of the capacity that one object could not have, at worst, though it was free
    punched: float  #: bytes given back to the system to be taken elsewhere, per byte put


def fragment(operations: int, capacity: int, seed: int, segment_bytes: int = 256 * 1024**2) -> Fragmented:
    """Put and free objects of random sizes, and look how much of what is free can be had in one piece."""
    chance = random.Random(seed)  # noqa: S311 -- the same sequence each time
    ledger = Ledger(capacity, segment_bytes)
    live: list[bytes] = []
    refused, lost, put, punched = 0, 0.0, 0, 0
    for number in range(operations):
        size = int(math.exp(chance.uniform(math.log(LEAST), math.log(MOST))))
        # some go for no reason, and some more to make room: the store is nearly always nearly full
        while live and (ledger.used + size > _FILLED * capacity or chance.random() < 0.3):
            at = chance.randrange(len(live))
            live[at], live[-1] = live[-1], live[at]
            ledger.free(live.pop())
        object_id = number.to_bytes(8, "little")
        try:
            ledger.create(object_id, size, creator=1)
        except StoreFull as full:
            refused += 1
            lost = max(lost, (full.free - full.largest_free) / capacity)
            continue
        reclaim = ledger.take_reclaim()
        punched += sum(part.size for part in reclaim.punch) if reclaim is not None else 0
        put += size
        ledger.seal(object_id, owner=1, creator=1)
        live.append(object_id)
        if not number % 500:
            found = ledger.statistics()
            lost = max(lost, (capacity - found.used - found.largest_free) / capacity)
    return Fragmented(operations, refused, lost, punched / max(put, 1))


def _fragmentation(arguments: argparse.Namespace) -> None:
    start = time.perf_counter()
    found = fragment(arguments.operations, arguments.capacity_mb * MB, arguments.seed)
    took_us = (time.perf_counter() - start) / found.operations * 1e6
    print(
        f"{found.operations:,} puts of {LEAST // KB} KB to {MOST // MB} MB in {arguments.capacity_mb} MB: "
        f"{found.refused} refused, at worst {found.lost:.2%} of the store free and of no use to one object, "
        f"{found.punched:.1%} of the bytes put in pages taken from elsewhere; {took_us:.0f} us a put"
    )


def _refs(arguments: argparse.Namespace) -> None:
    jray.init(num_cpus=1)
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    refs = [jray.put(None) for _ in range(arguments.count)]
    after = process.memory_info().rss
    print(
        f"{len(refs):,} references: {(after - before) / MB:.0f} MB, {(after - before) / len(refs):.0f} bytes each"
    )
    del refs
    jray.shutdown()


def _store() -> dict[str, Any]:
    """Return what the one node's store says of itself."""
    row: dict[str, Any] = next(iter(current.client.cluster.stores().values()))
    return row


def _leak(arguments: argparse.Namespace) -> None:
    jray.init(num_cpus=2)

    @jray.remote
    def small(n: int) -> int:
        return n

    @jray.remote
    def large(n: int) -> np.ndarray:
        return np.full(50_000, n)

    processes = [psutil.Process(), psutil.Process(current.client.facts["node_pid"])]
    each = arguments.tasks // arguments.rounds
    for number in range(arguments.rounds + 1):
        jray.get([small.remote(n) for n in range(each)])
        for start in range(0, each // 100, 20):
            jray.get([large.remote(n) for n in range(start, start + 20)])
        refs = [jray.put([n]) for n in range(each // 10)]
        nested = [jray.put(refs[start : start + 10]) for start in range(0, len(refs), 10)]
        del refs, nested
        gc.collect()
        store = _store()
        sizes = [process.memory_info().rss / MB for process in processes]
        objects = sum(1 for found in gc.get_objects() if isinstance(found, jray.ObjectRef))
        print(
            f"round {number:2}: driver {sizes[0]:.1f} MB, head {sizes[1]:.1f} MB, {objects} references, "
            f"{store['objects']} objects and {store['touched'] / MB:.0f} MB of pages in the store",
            flush=True,
        )
    jray.shutdown()


def _plain_file(piece: np.ndarray, count: int) -> tuple[float, float]:
    """Return the seconds of writing a file as `dd` does, without waiting for the disk, and of reading it mapped."""
    start = time.perf_counter()
    with tempfile.TemporaryFile(dir=jray_disk()) as file:
        for _ in range(count):
            file.write(piece.data)
        file.flush()
        written = time.perf_counter()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            assert int(np.frombuffer(memory, dtype=np.int64)[::512].sum()) > 0
        return written - start, time.perf_counter() - written


def jray_disk() -> str:
    """Return the directory under which this session spills."""
    return os.path.dirname(str(_store()["spill_dir"]))


def _spilled(piece: np.ndarray, count: int) -> tuple[float, float]:
    start = time.perf_counter()
    refs = [jray.put(piece) for _ in range(count)]
    written = time.perf_counter()
    for ref in refs:
        assert int(jray.get(ref)[::512].sum()) > 0
    return written - start, time.perf_counter() - written


def _spilling(arguments: argparse.Namespace) -> None:
    piece = np.arange(2_000_000, dtype=np.int64)
    count = max(1, round(arguments.gigabytes * 1e9 / piece.nbytes))
    rows: dict[str, list[tuple[float, float]]] = {"a plain file": [], "a store of a quarter": []}
    for _ in range(arguments.turns):
        jray.init(num_cpus=1, object_store_memory=count * piece.nbytes // 4)
        rows["a plain file"].append(_plain_file(piece, count))
        rows["a store of a quarter"].append(_spilled(piece, count))
        jray.shutdown()
    size = count * piece.nbytes / 1e9
    rates = {}
    for name, found in rows.items():
        writing, reading = (statistics.median(column) for column in zip(*found, strict=True))
        rate = rates[name] = 2 * size / statistics.median(sum(seconds) for seconds in found)
        print(f"{name}: written at {size / writing:.2f} GB/s, read at {size / reading:.2f}, both {rate:.2f}")
    print(f"{rates['a store of a quarter'] / rates['a plain file']:.0%} of the file's rate")


def main(arguments: Sequence[str]) -> None:
    """Measure one of these."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parts = parser.add_subparsers(dest="part", required=True)
    fragmentation = parts.add_parser("fragmentation")
    fragmentation.add_argument("--operations", type=int, default=100_000)
    fragmentation.add_argument("--capacity-mb", type=int, default=1000)
    fragmentation.add_argument("--seed", type=int, default=0)
    fragmentation.set_defaults(measure=_fragmentation)
    refs = parts.add_parser("refs")
    refs.add_argument("--count", type=int, default=1_000_000)
    refs.set_defaults(measure=_refs)
    leak = parts.add_parser("leak")
    leak.add_argument("--tasks", type=int, default=200_000)
    leak.add_argument("--rounds", type=int, default=10)
    leak.set_defaults(measure=_leak)
    spilling = parts.add_parser("spilling")
    spilling.add_argument("--gigabytes", type=float, default=1.0)
    spilling.add_argument("--turns", type=int, default=5)
    spilling.set_defaults(measure=_spilling)
    chosen = parser.parse_args(arguments)
    chosen.measure(chosen)


if __name__ == "__main__":
    main(sys.argv[1:])
