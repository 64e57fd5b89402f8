"""Owns the turning of `time.monotonic()`, by which everything here is timed, into the time of day."""

from __future__ import annotations

import time

#: seconds; clocks that are only being slewed stay closer together, and a smaller step shows in no timeline
_STEP_S = 0.05
#: seconds; two reads further apart than this had the process stopped between them
_GAP_S = 0.001
#: ... and after so many such pairs the closest must do
_MOST_READS = 20


class WallClock:
    """The time of day of a process's monotonic moments: the same moment is the same time whenever it is asked."""

    def __init__(self) -> None:
        self._offset_s = _offset_s()

    def offset_s(self) -> float:
        """Return what to add to a moment; it changes only when the clock was set or the machine slept."""
        offset_s = _offset_s()
        if abs(offset_s - self._offset_s) > _STEP_S:
            self._offset_s = offset_s
        return self._offset_s


def _offset_s() -> float:
    """Return how far the clocks are apart: a process that is stopped between its looks at them must look again."""
    reads: list[tuple[float, float]] = []
    while len(reads) < _MOST_READS:
        before = time.monotonic()
        now = time.time()
        gap_s = time.monotonic() - before
        reads.append((gap_s, now - before))
        if gap_s <= _GAP_S:
            break
    return min(reads)[1]
