"""Take samples of the time that something takes: rates of short calls, seconds of long ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

#: What a probe gives back: for each row's key, its samples.
Samples = dict[str, list[float]]

#: Calls between two looks at the clock, at most; few enough that a slow engine stays near its time.
_MOST_CALLS_BETWEEN_LOOKS = 64


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.  A quick run divides counts and bytes by ten, and shortens loops."""

    quick: bool = False

    def count(self, full: int) -> int:
        return max(1, full // 10) if self.quick else full

    def size_bytes(self, full: int) -> int:
        return max(8, full // 80 * 8) if self.quick else full

    @property
    def loop_s(self) -> float:
        """Length of one sample of `rates`."""
        return 0.1 if self.quick else 0.7

    def samples(self, full: int) -> int:
        return 1 if self.quick else full

    @property
    def budget_s(self) -> float:
        """Seconds after which `durations` takes no further sample."""
        return 1.0 if self.quick else 5.0


def rates(call: Callable[[], object], scale: Scale) -> list[float]:
    """Calls per second of *call*, repeated without a pause; the first loop warms up and is left out."""
    _loop(call, scale.loop_s / 2)
    return [_loop(call, scale.loop_s) for _ in range(scale.samples(3))]


def durations(work: Callable[[], float | None], scale: Scale, most: int = 5) -> list[float]:
    """Seconds of each run of *work*: *most* runs if they fit the scale's budget, and one at least.

    *work* may give back seconds that it measured itself, when a part of it must not count.
    """
    taken: list[float] = []
    begin = time.perf_counter()
    while len(taken) < scale.samples(most) and (not taken or time.perf_counter() - begin < scale.budget_s):
        start = time.perf_counter()
        own_s = work()
        elapsed_s = time.perf_counter() - start
        taken.append(elapsed_s if own_s is None else own_s)
    return taken


def _loop(call: Callable[[], object], seconds: float) -> float:
    calls = 0
    step = 1
    start = time.perf_counter()
    while True:
        for _ in range(step):
            call()
        calls += step
        elapsed_s = time.perf_counter() - start
        if elapsed_s >= seconds:
            return calls / elapsed_s
        step = min(_MOST_CALLS_BETWEEN_LOOKS, step * 2) if elapsed_s < seconds / 8 else step
