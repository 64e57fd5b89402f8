"""Owns what is known of when workers ran a cell's calls: a bounded number of bars, in lanes.  Pure."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from jray._core.engine import Span

#: Bars that are kept; beyond, short ones that follow one another become one.
MOST_BARS = 300
#: Lanes that are drawn; workers beyond share lanes where they can, and are counted where they cannot.
MOST_LANES = 24
#: Functions whose calls are kept apart; those of further ones are kept together.
MOST_NAMES = 12
OTHER = "other functions"

#: The first resolution: finer than a pixel of what takes a second.
_FINEST_MS = 2.0
#: How far the clocks of two processes may be apart: see `jray._core.clock`.
_CLOCKS_MS = 60.0
#: Workers that tell of a smaller part of the calls that ended have forgotten the others.
_REMEMBERED = 0.9


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """One call, or short ones of one function in a row."""

    name: str
    pid: int
    start_ms: float
    end_ms: float | None  #: None: it runs
    calls: int
    failed: int
    busy_ms: float | None  #: time of the calls themselves; None: not known
    bringing_ms: float = 0.0  #: part of it for which their code and arguments were brought
    submitted_ms: float | None = None  #: the first of these calls waited from then on; None: not known

    def covers(self, now_ms: float) -> float:
        return (now_ms if self.end_ms is None else self.end_ms) - self.start_ms


@dataclasses.dataclass(frozen=True, slots=True)
class Lane:
    """What one worker ran, or several one after another."""

    label: str
    bars: tuple[Bar, ...]  #: in the order of their starts; of a concurrent actor they overlap


@dataclasses.dataclass(frozen=True, slots=True)
class Lanes:
    """What is drawn."""

    lanes: tuple[Lane, ...] = ()
    hidden_lanes: int = 0

    @property
    def bars(self) -> int:
        return sum(len(lane.bars) for lane in self.lanes)


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What is known of the calls that ended."""

    calls: int = 0
    busy_ms: float | None = 0.0  #: None: not known of all
    bringing_ms: float = 0.0  #: part of it for which code and arguments were brought
    workers: int = 0
    names: frozenset[str] = frozenset()
    last_end_ms: float | None = None


@dataclasses.dataclass(slots=True)
class _Worker:
    pid: int
    actor: str
    ended: list[Bar] = dataclasses.field(default_factory=list)
    running: list[Bar] = dataclasses.field(default_factory=list)
    #: everything that ended here until then has been told
    told_ms: float = 0.0

    def bars(self) -> list[Bar]:
        return [*self.ended, *self.running]


class Timeline:
    """The spans of one cell, asked for again and again; each answer goes on where the last one ended."""

    def __init__(self, start_ms: float, *, most_bars: int = MOST_BARS) -> None:
        self.start_ms = start_ms
        #: what to ask with: calls that are shorter may come many in a span
        self.resolution_ms = _FINEST_MS
        #: what to ask with: spans that had ended by then are known
        self.since_ms = start_ms - _CLOCKS_MS
        self._most_bars = most_bars
        self._workers: dict[str, _Worker] = {}
        self._names: dict[str, None] = {}
        #: calls that were known to have ended at the last answer
        self._ended = 0

    def add(self, spans: Iterable[Span], *, asked_ms: float, running: int = 0, ended: int = 0) -> None:
        """Take the answer to a question put at `asked_ms`; `ended` calls are known to have ended by then.

        A worker that did not answer, since its code lets no other thread run, still runs what it ran, as long as
        there are not more such calls than `running`.  Workers that ran more than they remember ran without a
        pause what they tell of.
        """
        answered: set[str] = set()
        by_worker: dict[str, list[Span]] = {}
        for span in spans:
            by_worker.setdefault(span.worker_id, []).append(span)
        told_calls = sum(
            span.calls for found in by_worker.values() for span in found if span.end_ms is not None
        )
        if told_calls < (ended - self._ended) * _REMEMBERED:
            by_worker = {worker_id: self._filled(worker_id, told) for worker_id, told in by_worker.items()}
        self._ended = ended
        for worker_id, told in by_worker.items():
            worker = self._workers.setdefault(worker_id, _Worker(told[0].pid, told[0].actor))
            answered.add(worker_id)
            self._add(worker, told)
        open_bars = sum(len(self._workers[worker_id].running) for worker_id in answered)
        for worker_id, worker in self._workers.items():
            if worker_id not in answered and worker.running:
                if open_bars + len(worker.running) > running:
                    worker.running = []
                open_bars += len(worker.running)
        self.since_ms = max(self.since_ms, asked_ms - _CLOCKS_MS)
        self._bound()

    def lanes(self, most_bars: int = MOST_BARS) -> Lanes:
        """Return what to draw, in no more bars than that if there are not more lanes times functions."""
        workers = [worker for worker in self._workers.values() if worker.ended or worker.running]
        actors = [(worker.actor, worker.bars()) for worker in workers if worker.actor]
        tasks = [worker.bars() for worker in workers if not worker.actor]
        tasks = _shared(tasks, max(1, MOST_LANES - len(actors))) if len(workers) > MOST_LANES else tasks
        named = [*_numbered(actors), *((f"worker {n}", bars) for n, bars in enumerate(tasks, 1))]
        drawn = [(label, sorted(bars, key=lambda bar: bar.start_ms)) for label, bars in named[:MOST_LANES]]
        resolution_ms = self.resolution_ms
        while sum(len(bars) for _, bars in drawn) > most_bars:
            before = sum(len(bars) for _, bars in drawn)
            resolution_ms *= 2
            drawn = [(label, merged(bars, resolution_ms)) for label, bars in drawn]
            if sum(len(bars) for _, bars in drawn) == before and resolution_ms > self._longest_ms():
                break
        return Lanes(
            tuple(Lane(label, tuple(bars)) for label, bars in drawn), max(0, len(named) - MOST_LANES)
        )

    def work(self) -> Work:
        """Return what is known of the calls that ended."""
        ended = [bar for worker in self._workers.values() for bar in worker.ended]
        return Work(
            calls=sum(bar.calls for bar in ended),
            busy_ms=_sum(bar.busy_ms for bar in ended),
            bringing_ms=sum(bar.bringing_ms for bar in ended),
            workers=sum(bool(worker.ended) for worker in self._workers.values()),
            names=frozenset(bar.name for bar in ended),
            last_end_ms=max((bar.end_ms for bar in ended if bar.end_ms is not None), default=None),
        )

    def mark(self) -> tuple[object, ...]:
        """Return what differs when there is something new to draw, apart from time going on."""
        return (
            sum(bar.calls for worker in self._workers.values() for bar in worker.ended),
            tuple(
                (worker_id, bar.name, bar.start_ms)
                for worker_id, worker in self._workers.items()
                for bar in worker.running
            ),
        )

    # -- inside -----------------------------------------------------------------------------------

    def _filled(self, worker_id: str, told: list[Span]) -> list[Span]:
        """Let the first of these spans begin where the last answer ended."""
        known = self._workers.get(worker_id)
        begin_ms = max(self.start_ms, self.since_ms if known is None else known.told_ms)
        first = min(told, key=lambda span: span.start_ms)
        if first.start_ms <= begin_ms:
            return told
        filled = first._replace(start_ms=begin_ms, submitted_ms=None)
        return [filled, *(span for span in told if span is not first)]

    def _add(self, worker: _Worker, told: Sequence[Span]) -> None:
        worker.running = [self._bar(span) for span in told if span.end_ms is None]
        known_ms = worker.told_ms
        for span in told:
            if span.end_ms is None or span.end_ms <= known_ms:
                continue
            if span.calls > 1 and span.start_ms < known_ms:  # the first of these calls are known
                # what is new of it
                span = span._replace(start_ms=known_ms, submitted_ms=None)  # noqa: PLW2901
            worker.ended.append(self._bar(span))
            worker.told_ms = max(worker.told_ms, span.end_ms or 0.0)

    def _bar(self, span: Span) -> Bar:
        name = span.name
        if name not in self._names:
            if len(self._names) < MOST_NAMES:
                self._names[name] = None
            else:
                name = OTHER
        busy_ms = span.busy_ms
        if busy_ms is None and span.calls == 1 and span.end_ms is not None:
            busy_ms = span.end_ms - span.start_ms
        return Bar(
            name, span.pid, span.start_ms, span.end_ms, span.calls, span.failed, busy_ms, span.bringing_ms,
            span.submitted_ms,
        )  # fmt: skip

    def _bound(self) -> None:
        while (
            sum(len(worker.ended) for worker in self._workers.values()) > self._most_bars
            and self.resolution_ms <= self._longest_ms()
        ):
            self.resolution_ms *= 2
            for worker in self._workers.values():
                worker.ended = merged(worker.ended, self.resolution_ms)

    def _longest_ms(self) -> float:
        ended = [bar for worker in self._workers.values() for bar in worker.ended]
        first = min((bar.start_ms for bar in ended), default=0.0)
        return max((bar.end_ms or bar.start_ms for bar in ended), default=0.0) - first


def merged(bars: Iterable[Bar], resolution_ms: float) -> list[Bar]:
    """Return *bars* in order of their starts, those shorter than the resolution that follow one another as one.

    They are of one function, and less than the resolution lies between them; what others run meanwhile is no
    hindrance.
    """
    found: list[Bar] = []
    #: where the last short bar of each function is in `found`
    last: dict[str, int] = {}
    for bar in sorted(bars, key=lambda bar: bar.start_ms):
        if bar.end_ms is None or (bar.end_ms - bar.start_ms >= resolution_ms and bar.calls == 1):
            found.append(bar)
            continue
        index = last.get(bar.name)
        if index is not None:
            known = found[index]
            assert known.end_ms is not None
            if bar.start_ms - known.end_ms < resolution_ms:
                found[index] = Bar(
                    bar.name, bar.pid, known.start_ms, max(known.end_ms, bar.end_ms), known.calls + bar.calls,
                    known.failed + bar.failed, _sum((known.busy_ms, bar.busy_ms)), known.bringing_ms + bar.bringing_ms,
                    known.submitted_ms,
                )  # fmt: skip
                continue
        last[bar.name] = len(found)
        found.append(bar)
    return found


def _sum(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _numbered(actors: Sequence[tuple[str, list[Bar]]]) -> list[tuple[str, list[Bar]]]:
    """Give actors of one class numbers."""
    classes = [actor for actor, _ in actors]
    counts = {actor: itertools.count(1) for actor in classes}
    return [
        (actor if classes.count(actor) == 1 else f"{actor} {next(counts[actor])}", bars)
        for actor, bars in actors
    ]


def _shared(workers: Sequence[list[Bar]], most: int) -> list[list[Bar]]:
    """Let workers that came after others had ended share their lanes; what finds no place keeps its own."""
    lanes: list[list[Bar]] = []
    ends: list[float] = []
    for bars in sorted(workers, key=lambda bars: min(bar.start_ms for bar in bars)):
        start = min(bar.start_ms for bar in bars)
        end = max(float("inf") if bar.end_ms is None else bar.end_ms for bar in bars)
        free = next((n for n, lane_end in enumerate(ends[:most]) if lane_end <= start), None)
        if free is None:
            lanes.append(bars)
            ends.append(end)
        else:
            lanes[free] = [*lanes[free], *bars]
            ends[free] = end
    return lanes
