"""Decides which worker ends when a node runs low on memory, before the system's own killer chooses.  Pure.

The newest task goes first, for it has the least to lose; workers of actors go only when no task runs.  A task runs
again as long as another of its owner's is running, which may leave it the room; the last one of an owner does not,
or a task that is too large for the machine would run for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Held(NamedTuple):
    """A worker in use."""

    worker_id: bytes
    owner: int  #: the client that leases it, or made the actor in it
    lease_number: int  #: higher ones are newer; 0: an actor's
    resident_bytes: int  #: of its memory, without what it shares


class Victim(NamedTuple):
    """The worker to end."""

    worker_id: bytes
    runs_again: bool  #: whether its task is worth another try


class MemoryWatch:
    """Looks at samples; after a choice it waits until that worker is gone and the memory had time to come back."""

    def __init__(self, threshold: float, *, settle_s: float = 1.0) -> None:
        self.threshold = threshold
        self._settle_s = settle_s
        self._chosen: bytes | None = None
        self._not_before_s = 0.0

    def is_low(self, used: int, total: int) -> bool:
        """Tell whether there is more in use than should be."""
        return used > self.threshold * total

    def choose(self, now_s: float, used: int, total: int, held: Sequence[Held]) -> Victim | None:
        """Return the worker to end now, if one must."""
        if self._chosen is not None:
            if any(worker.worker_id == self._chosen for worker in held):
                return None
            self._chosen = None
            self._not_before_s = now_s + self._settle_s
        if not self.is_low(used, total) or not held or now_s < self._not_before_s:
            return None
        tasks = [worker for worker in held if worker.lease_number]
        if tasks:
            newest = max(tasks, key=lambda worker: worker.lease_number)
            runs_again = sum(worker.owner == newest.owner for worker in tasks) > 1
        else:
            newest = max(held, key=lambda worker: worker.resident_bytes)
            runs_again = True  # as far as its max_restarts go
        self._chosen = newest.worker_id
        return Victim(newest.worker_id, runs_again)
