"""Owns the watch over a node's memory: samples it, tells when it is low, and ends the worker that the head chose."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from jray._core.detect import memory_usage, resident_bytes
from jray._core.specs import MemoryReport, MemorySample

#: how far back the samples in a report go
_CURVE_S = 10.0
_MOST_SAMPLES = 40
#: seconds from the choice to the end
_WARNING_S = 0.02


class MemoryMonitor:
    """Looks at the memory now and then while workers are in use.

    `workers()` returns (worker id, pid) of all there are; `tell(sample)` says that memory is low, upon which
    `doom` may follow; `end(worker_id, report)` ends a worker.
    """

    def __init__(
        self,
        threshold: float,
        refresh_s: float,
        workers: Callable[[], Iterable[tuple[bytes, int]]],
        tell: Callable[[MemorySample], None],
        end: Callable[[bytes, MemoryReport], None],
    ) -> None:
        self._threshold = threshold
        self._refresh_s = refresh_s
        self._workers = workers
        self._tell = tell
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

    def doom(self, worker_id: bytes, report: MemoryReport) -> None:
        """End a worker in a moment."""
        self._doomed = (worker_id, report)
        self._next_s = time.monotonic() + _WARNING_S

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
        if usage.used <= self._threshold * usage.total:
            return  # the usual case: nobody's memory need be looked at
        self._tell(
            MemorySample(
                used=usage.used,
                total=usage.total,
                threshold=self._threshold,
                curve=tuple((now - at, used) for at, used in self._samples if now - at <= _CURVE_S),
                workers={worker_id: (pid, resident_bytes(pid)) for worker_id, pid in self._workers()},
            )
        )
