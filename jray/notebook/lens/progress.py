"""Owns how far a cell's calls are: counts of each function, rates, and the time that is left.  Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from jray._core.engine import Tally

#: A rate is that of the last seconds, or of the last part of a long time, so that bursts do not shake it.
_RATE_OF_LAST_S = 3.0
_RATE_OF_LAST_PART = 0.25
#: Outcomes that make a rate.
_FEWEST_OUTCOMES = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """How far the calls of one function are, or of all."""

    name: str
    is_actor_call: bool = False
    submitted: int = 0
    finished: int = 0
    failed: int = 0  #: without those that were cancelled
    cancelled: int = 0
    running: int = 0
    rate: float | None = None  #: outcomes a second, of late; None: not known
    left_s: float | None = None  #: None: not known

    @property
    def ended(self) -> int:
        return self.finished + self.failed + self.cancelled

    @property
    def pending(self) -> int:
        return max(0, self.submitted - self.ended)

    @property
    def waiting(self) -> int:
        return max(0, self.pending - self.running)


class _Rate:
    """A weighted mean of outcomes by time, the latest weighing most."""

    def __init__(self, start_s: float) -> None:
        self._start_s = self._last_s = start_s
        self._ended = 0
        self._outcomes = self._seconds = 0.0

    def look(self, ended: int, now_s: float) -> None:
        passed = now_s - self._last_s
        if passed <= 0:
            return
        horizon = max(_RATE_OF_LAST_S, (now_s - self._start_s) * _RATE_OF_LAST_PART)
        kept = math.exp(-passed / horizon)
        self._outcomes = self._outcomes * kept + (ended - self._ended)
        self._seconds = self._seconds * kept + passed
        self._ended, self._last_s = ended, now_s

    @property
    def value(self) -> float | None:
        if self._ended < _FEWEST_OUTCOMES or self._outcomes <= 0:
            return None
        return self._outcomes / self._seconds


class Progress:
    """What the tallies of one cell, looked at again and again, tell."""

    def __init__(self, start_s: float) -> None:
        self._start_s = start_s
        self._rates: dict[str, _Rate] = {}
        self._all = _Rate(start_s)
        self._earlier: dict[str, Tally] = {}
        self._tallies: dict[str, Tally] = {}
        self._moved_s = start_s

    def look(self, tallies: Iterable[Tally], now_s: float) -> None:
        """Take the counts as they are now."""
        found: dict[str, Tally] = {}
        for tally in tallies:
            earlier = self._earlier.get(tally.name)
            found[tally.name] = tally if earlier is None else _sum(earlier, tally)
        found = {**self._earlier, **found}
        if _motion(found) != _motion(self._tallies):
            self._moved_s = now_s
        self._tallies = found
        for tally in found.values():
            self._rates.setdefault(tally.name, _Rate(self._start_s)).look(tally.ended, now_s)
        self._all.look(sum(tally.ended for tally in found.values()), now_s)

    def begin_again(self) -> None:
        """From now on another cluster counts from zero; what has not ended counts as cancelled."""
        self._earlier = {}
        for name, tally in self._tallies.items():
            lost = max(0, tally.submitted - tally.ended)
            self._earlier[name] = dataclasses.replace(
                tally, running=0, failed=tally.failed + lost, cancelled=tally.cancelled + lost
            )
        self._tallies = dict(self._earlier)

    def still_s(self, now_s: float) -> float:
        """Return for how long nothing has begun or ended."""
        return now_s - self._moved_s

    def functions(self) -> list[Counts]:
        """Return how far each function's calls are, in the order of their first calls."""
        return [_counts(name, [tally], self._rates[name].value) for name, tally in self._tallies.items()]

    def total(self) -> Counts:
        return _counts("", list(self._tallies.values()), self._all.value)


def _counts(name: str, tallies: list[Tally], rate: float | None) -> Counts:
    submitted = sum(tally.submitted for tally in tallies)
    ended = sum(tally.ended for tally in tallies)
    pending = submitted - ended
    return Counts(
        name,
        is_actor_call=any(tally.is_actor_call for tally in tallies),
        submitted=submitted,
        finished=sum(tally.finished for tally in tallies),
        failed=sum(tally.failed - tally.cancelled for tally in tallies),
        cancelled=sum(tally.cancelled for tally in tallies),
        running=sum(tally.running for tally in tallies),
        rate=rate,
        left_s=None if rate is None or pending <= 0 else pending / rate,
    )


def _sum(one: Tally, other: Tally) -> Tally:
    return dataclasses.replace(
        other,
        submitted=one.submitted + other.submitted,
        finished=one.finished + other.finished,
        failed=one.failed + other.failed,
        cancelled=one.cancelled + other.cancelled,
    )


def _motion(tallies: dict[str, Tally]) -> tuple[int, int]:
    return sum(tally.ended for tally in tallies.values()), sum(tally.running for tally in tallies.values())
