"""Owns one picture of a cell's work: what is shown at one moment, in every form.

It has `_repr_mimebundle_`, and holds nothing of the runtime.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jray.notebook.lens import page, words
from jray.notebook.lens.drawing import Detail
from jray.notebook.lens.progress import Counts
from jray.notebook.lens.reason import short_name
from jray.notebook.lens.timeline import MOST_BARS, Lane, Lanes, Timeline, Work

#: Bytes of a live picture and of one that stays in the notebook; both are left well below what is promised.
LIVE_BYTES = 56 * 1024
STATIC_BYTES = 10 * 1024
#: Bars of a picture that stays.
_STATIC_BARS = 96
#: Functions that have a row of their own.
_MOST_ROWS = 8
_BAR_WIDTH = 24
#: The part of the work from which on it is said that it went into bringing code and arguments.
_MUCH_BRINGING = 0.2


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """How far the work of a cell is, at one moment.  Its text has the same numbers as its HTML."""

    label: str  #: of the cell: "In[4]"
    functions: tuple[Counts, ...]
    total: Counts
    reason: str | None = None  #: why some of it waits, as a clause
    lanes: Lanes = dataclasses.field(default_factory=Lanes)
    start_ms: float = 0.0  #: of the first call
    now_ms: float = 0.0  #: of this picture, or of the last outcome
    cost: str | None = None  #: when all has ended: what it took
    note: str | None = None  #: what else there is to say

    def __repr__(self) -> str:
        return self.text()

    def text(self) -> str:
        """Return the picture as lines of plain text."""
        head = f"jray {self.label}: {', '.join(self.headline())}"
        lines = [head, *filter(None, (self.reason, self.note))]
        rows = self.rows()
        width = max((len(words.clipped(row.name, 32)) for row in rows), default=0)
        for row in rows:
            said = [*words.counts(row), *words.failures(row), *words.speed(row)]
            numbers = f"  {', '.join(said)}" if len(rows) > 1 else ""  # else the first line has them
            lines.append(f"  {words.clipped(row.name, 32):<{width}}  [{_text_bar(row)}]{numbers}")
        return "\n".join(lines)

    def headline(self) -> list[str]:
        """Return the parts of the first line."""
        if self.cost is not None:
            return [self.cost, *words.failures(self.total)]
        head = [*words.counts(self.total), *words.failures(self.total), *words.speed(self.total)]
        return [*head, f"since {words.clock(self.start_ms)}"] if self.total.pending else head

    def rows(self) -> list[Counts]:
        """Return a row for each function, short named, the least of many as one."""
        rows = [dataclasses.replace(row, name=short_name(row.name)) for row in self.functions]
        if len(rows) <= _MOST_ROWS:
            return rows
        rows.sort(key=lambda row: (-row.pending, -row.submitted))
        rest = rows[_MOST_ROWS - 1 :]
        added = Counts(
            f"{len(rest)} other functions",
            submitted=sum(row.submitted for row in rest),
            finished=sum(row.finished for row in rest),
            failed=sum(row.failed for row in rest),
            cancelled=sum(row.cancelled for row in rest),
            running=sum(row.running for row in rest),
        )
        return [*rows[: _MOST_ROWS - 1], added]

    def html(self, most_bytes: int = LIVE_BYTES) -> str:
        """Return the picture as HTML, with less of the timeline where it would be too long."""
        lanes, details = self.lanes, list(Detail)
        while True:
            found = page.page(self, lanes, details[0])
            if len(found.encode()) <= most_bytes or not lanes.lanes:
                return found
            if len(details) > 1:
                del details[0]
            else:
                lanes = _half(lanes)

    def bundle(self, most_bytes: int = LIVE_BYTES) -> dict[str, str]:
        """Return the picture in every form."""
        text = self.text()
        return {"text/plain": text, "text/html": self.html(most_bytes - len(text.encode()))}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002 -- IPython filters
        return self.bundle(STATIC_BYTES)


def lanes_of(timeline: Timeline, *, is_static: bool) -> Lanes:
    """Return what a picture draws of a timeline."""
    return timeline.lanes(_STATIC_BARS if is_static else MOST_BARS)


def cost_line(total: Counts, work: Work | None, names: frozenset[str], seconds: float | None) -> str:
    """Return what all took: ``200 tasks in 3.2 s, 12.4 s of work on 4 workers: 3.9x``.

    The work is told only if it is known of every call, and if these had no calls of their own to wait for.
    """
    noun = "call" if total.is_actor_call else "task"
    said = words.many(total.ended, noun)
    if not seconds:
        return said
    said += f" in {words.duration(seconds)}"
    if work is None or work.names != names or work.calls != total.ended or work.busy_ms is None:
        return said
    said += f", {words.duration(work.busy_ms / 1000)} of work on {words.many(work.workers, 'worker')}"
    if work.bringing_ms >= work.busy_ms * _MUCH_BRINGING:
        said += f" ({words.duration(work.bringing_ms / 1000)} of it to get code and arguments)"
    return f"{said}: {work.busy_ms / 1000 / seconds:.1f}x" if work.workers > 1 else said


def _text_bar(row: Counts) -> str:
    if not row.submitted:
        return "." * _BAR_WIDTH
    done = round(_BAR_WIDTH * row.finished / row.submitted)
    failed = min(_BAR_WIDTH - done, -(-_BAR_WIDTH * (row.failed + row.cancelled) // row.submitted))
    return "#" * done + "!" * failed + "." * (_BAR_WIDTH - done - failed)


def _half(lanes: Lanes) -> Lanes:
    """Return half of the bars, the longest, or, where there are few, half of the lanes."""
    bars = [bar for lane in lanes.lanes for bar in lane.bars]
    if len(bars) <= 2 * len(lanes.lanes):
        kept = lanes.lanes[: len(lanes.lanes) // 2]
        return Lanes(kept, lanes.hidden_lanes + len(lanes.lanes) - len(kept))
    now_ms = max(bar.end_ms or bar.start_ms for bar in bars)
    longest = sorted(bars, key=lambda bar: bar.covers(now_ms), reverse=True)[: len(bars) // 2]
    kept_ids = set(map(id, longest))
    return Lanes(
        tuple(
            Lane(lane.label, tuple(bar for bar in lane.bars if id(bar) in kept_ids)) for lane in lanes.lanes
        ),
        lanes.hidden_lanes,
    )
