"""Owns the turning of `time.monotonic()`, by which everything here is timed, into the time of day."""

from __future__ import annotations

import time

#: seconds; clocks that are only being slewed stay closer together, and a smaller step shows in no timeline
_STEP_S = 0.05


class WallClock:
    """The time of day of a process's monotonic moments: the same moment is the same time whenever it is asked."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def offset_s(self) -> float:
        """Return what to add to a moment; it changes only when the clock was set or the machine slept."""
        offset_s = time.time() - time.monotonic()
        if abs(offset_s - self._offset_s) > _STEP_S:
            self._offset_s = offset_s
        return self._offset_s
