"""Owns the list of what jray and Ray do differently on purpose; documentation is made from it.

Each entry is a decorator for the tests that hold it.  `DIFFERENCES` keeps all of them in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

__all__ = ["DIFFERENCES", "Difference"]


@dataclass(frozen=True)
class Difference:
    """One deliberate difference, and the decorator that keeps its tests to the engine they are about."""

    #: What differs, in a few words.
    title: str
    #: How jray differs, and why.
    reason: str
    #: The engine whose tests these are.
    engine: str = "jray"

    def __call__(self, test: Any) -> Any:
        return pytest.mark.only(self.engine, self.reason)(test)


DIFFERENCES: list[Difference] = []


def _difference(title: str, reason: str) -> Difference:
    entry = Difference(title, reason)
    DIFFERENCES.append(entry)
    return entry


prompt_interrupt = _difference(
    "An interrupt ends a blocking call within half a second",
    "a notebook's stop button must feel immediate; Ray looks for signals once a second",
)
infeasible_is_said = _difference(
    "What no node can ever run is said within two seconds",
    "the request stays pending as in Ray, but the driver warns at once, naming the resource that is lacking",
)
death_within_two_seconds = _difference(
    "Everything of a killed driver is gone within two seconds",
    "children watch for the death of their parent, so nothing waits for a time-out",
)
crash_is_explained = _difference(
    "A crashed worker's error tells how it died",
    "WorkerCrashedError names the exit cause and carries the last lines the worker wrote to stderr",
)
remote_function_is_named = _difference(
    "A remote function keeps its name and documentation",
    "help() and completion in a notebook need them; Ray's remote functions have neither",
)
cancelled_calls_do_not_run = _difference(
    "A queued actor call that is cancelled does not run, and those behind it do",
    "Ray runs a call that has reached the actor and discards its result, and one that hasn't leaves a gap "
    "for which the calls behind it wait until they fail",
)
generators_are_plain = _difference(
    "A generator task may `yield from` anything that can be iterated",
    "Ray sends an object of its own into the generator at each step, which a plain iterator doesn't take",
)
cancelled_consumers_are_forgotten = _difference(
    "A task that is cancelled while it waits for an argument costs nothing when the argument comes",
    "Ray 2.60 aborts the whole driver by a failed check in its core when that happens",
)
