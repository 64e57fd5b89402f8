"""Owns the watch over a node's memory: samples it, and ends the worker that `jray._core.machine.memory` chooses."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from jray._core.detect import memory_usage, resident_bytes
from jray._core.machine.memory import Held, MemoryWatch
from jray._core.specs import MemoryReport

#: how far back the samples in a report go
_CURVE_S = 10.0
_MOST_SAMPLES = 40
_MOST_HOLDERS = 5
#: seconds from the warning to the end
_WARNING_S = 0.02


class MemoryMonitor:
    """Looks at the memory now and then while workers are in use.

    `workers()` returns (worker id, pid, owner, lease number, what it runs) of those; `warn(worker_id, report)` has
    its owner told why it is going to end, `end(worker_id, report)` has it ended.
    """

    def __init__(
        self,
        threshold: float,
        refresh_s: float,
        workers: Callable[[], Sequence[tuple[bytes, int, int, int, str]]],
        warn: Callable[[bytes, MemoryReport], None],
        end: Callable[[bytes, MemoryReport], None],
    ) -> None:
        self._watch = MemoryWatch(threshold)
        self._refresh_s = refresh_s
        self._workers = workers
        self._warn = warn
        self._end = end
        #: the worker to be ended, a moment after its owner was told: from its end alone he would think it crashed
        self._doomed: tuple[bytes, MemoryReport] | None = None
        self._samples: deque[tuple[float, int]] = deque(maxlen=_MOST_SAMPLES)
        self._next_s = 0.0
        #: whether there is anybody to look after
        self._is_needed = False

    def next_deadline_s(self) -> float | None:
        """Return when `advance` must be called at the latest; None: no matter."""
        return self._next_s if self._refresh_s and self._is_needed else None

    def needed(self, is_needed: bool) -> None:
        """Workers are in use, or none is."""
        self._is_needed = is_needed

    def advance(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if not self._refresh_s or not self._is_needed or now < self._next_s:
            return
        self._next_s = now + self._refresh_s
        if self._doomed is not None:
            self._end(*self._doomed)
            self._doomed = None
            return
        usage = memory_usage()
        self._samples.append((now, usage.used))
        if not self._watch.is_low(usage.used, usage.total):
            return  # the usual case: nobody's memory need be looked at
        workers = self._workers()
        held = [
            Held(worker_id, owner, lease_number, resident_bytes(pid))
            for worker_id, pid, owner, lease_number, _ in workers
        ]
        victim = self._watch.choose(now, usage.used, usage.total, held)
        if victim is None:
            return
        sizes = {worker.worker_id: worker.resident_bytes for worker in held}
        largest = sorted(workers, key=lambda worker: sizes[worker[0]], reverse=True)[:_MOST_HOLDERS]
        report = MemoryReport(
            used=usage.used,
            total=usage.total,
            threshold=self._watch.threshold,
            worker_bytes=sizes[victim.worker_id],
            curve=tuple((now - at, used) for at, used in self._samples if now - at <= _CURVE_S),
            holders=tuple((pid, name, sizes[worker_id]) for worker_id, pid, _, _, name in largest),
            runs_again=victim.runs_again,
        )
        self._warn(victim.worker_id, report)
        self._doomed = (victim.worker_id, report)
        self._next_s = now + _WARNING_S
