"""Owns what is known of one cell's work, and when to look and to show again.  Pure: told what is and what time it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from jray._core.engine import Demand, Span, Tally
from jray.notebook.lens.picture import Picture, cost_line, lanes_of
from jray.notebook.lens.progress import Progress
from jray.notebook.lens.reason import CellLabel, why_idle, why_waiting
from jray.notebook.lens.timeline import Lanes, Timeline

#: Work that takes no longer is not shown.
FIRST_S = 1.0
#: Least time between two looks, and so between two updates.
LOOK_S = 0.5
#: Where nothing moves, looks become as rare as this.
_RAREST_LOOK_S = 2.0
#: After so long without progress the reason is asked for.
STUCK_S = 2.0
#: Where nothing but time goes on, it is shown each time that so much more of it has passed.
_GROWTH = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """One time by two clocks."""

    s: float  #: monotonic
    ms: float  #: since the epoch


class CellView:
    """The work of one cell from its first call on."""

    def __init__(self, cell: int, label: str, start: Moment, *, was_watched: bool = True) -> None:
        self.cell = cell
        #: whether counts were taken as they changed, so that the time of the last outcome is about known
        self._was_watched = was_watched
        self.label = label
        self.start = start
        self.timeline = Timeline(start.ms)
        self._progress = Progress(start.s)
        self._reason: str | None = None
        #: whether at the last look nothing was asked for
        self._seems_idle = False
        self._done: Moment | None = None
        #: whether the timeline is known to hold every call just once
        self._is_exact = False
        self._note: str | None = None

    # -- what is told -----------------------------------------------------------------------------

    def count(self, tallies: Iterable[Tally], now: Moment) -> None:
        """Take the counts as they are now."""
        self._progress.look(tallies, now.s)
        if self.pending:
            self._done = None
            self._note = None
            self._is_exact = False
        elif self._done is None:
            self._done = now
        if not self.is_stuck(now):
            self._reason = None
            self._seems_idle = False

    def draw(self, spans: Iterable[Span], asked_ms: float) -> None:
        """Take what workers ran of late."""
        total = self._progress.total()
        self.timeline.add(spans, asked_ms=asked_ms, running=total.running, ended=total.ended)

    def draw_all(self, spans: Iterable[Span], asked_ms: float) -> None:
        """Take what workers ran from the first call on: if they still know it all, it is exact."""
        spans = list(spans)
        total = self._progress.total()
        fresh = Timeline(self.start.ms)
        fresh.add(spans, asked_ms=asked_ms, running=total.running)
        known, found = self.timeline.work(), fresh.work()
        if found.calls >= min(known.calls, total.ended):
            self.timeline = fresh
            self._is_exact = not total.pending and found.calls == total.ended
        else:
            self.draw(spans, asked_ms)

    def explain(self, demands: Iterable[Demand], label_of: CellLabel) -> None:
        """Take what waits in the cluster."""
        functions = self._progress.functions()
        asked_for = why_waiting(self.cell, functions, demands, label_of)
        # between a worker's coming and its first call, nothing is asked for either: that is soon over
        self._reason = asked_for or (why_idle(functions) if self._seems_idle else None)
        self._seems_idle = asked_for is None

    def lost(self, note: str, now: Moment) -> None:
        """The cluster is gone: what has not ended never will.  Calls to come are another one's."""
        if self.pending:
            self._note = note
        self._progress.begin_again()
        self._reason = None
        self._done = self._done or now

    # -- questions --------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How many calls have no outcome yet."""
        return self._progress.total().pending

    @property
    def submitted(self) -> int:
        """How many calls are known."""
        return self._progress.total().submitted

    @property
    def has_work(self) -> bool:
        return self.submitted > 0

    def is_stuck(self, now: Moment) -> bool:
        """Tell whether calls wait and nothing has moved for long."""
        return bool(self._progress.total().waiting) and self._progress.still_s(now.s) >= STUCK_S

    def next_look_s(self, now: Moment) -> float:
        """Return when to look again, by the monotonic clock, while there is something to come."""
        still_s = self._progress.still_s(now.s)
        return now.s + min(_RAREST_LOOK_S, max(LOOK_S, still_s * _GROWTH))

    def mark(self) -> object:
        """Return what differs when there is something new to show, apart from time going on."""
        counts = tuple(
            (row.name, row.submitted, row.finished, row.failed, row.cancelled, row.running)
            for row in self._progress.functions()
        )
        return counts, self._reason, self._note, self.timeline.mark()

    def has_aged(self, shown_s: float, now: Moment) -> bool:
        """Tell whether what was shown then is to be shown again because time goes on: less and less often."""
        return bool(self._progress.total().running) and now.s - shown_s >= max(
            2 * LOOK_S, (shown_s - self.start.s) * _GROWTH
        )

    def picture(self, now: Moment, *, is_static: bool) -> Picture:
        """Return what is to be shown."""
        total = self._progress.total()
        functions = tuple(self._progress.functions())
        if self._reason is not None and not total.running:  # when it goes on nobody knows
            total = dataclasses.replace(total, rate=None, left_s=None)
            functions = tuple(dataclasses.replace(row, rate=None, left_s=None) for row in functions)
        work = self.timeline.work()
        end = self._done or now
        end_ms = end.ms
        is_timed = self._is_exact or (self._was_watched and end.s - self.start.s > FIRST_S + LOOK_S)
        if self._done is not None and self._is_exact and work.last_end_ms is not None:
            end_ms = min(end_ms, work.last_end_ms)  # when it was seen is later than when it was
        cost = None
        if is_static and not total.pending:
            names = frozenset(row.name for row in functions)
            seconds = (end_ms - self.start.ms) / 1000 if is_timed else None
            cost = cost_line(total, work if self._is_exact else None, names, seconds)
        lanes = lanes_of(self.timeline, is_static=is_static)
        ends = [bar.end_ms or now.ms for lane in lanes.lanes for bar in lane.bars]
        return Picture(
            label=self.label,
            functions=functions,
            total=total,
            reason=self._reason,
            lanes=lanes if ends else Lanes(),
            start_ms=self.start.ms,
            now_ms=end_ms if total.pending == 0 and not ends else max([end_ms, *ends]),
            cost=cost,
            note=self._note,
        )
