"""Decides which leased worker of an owner gets which task, and how many at once.  Pure.

One `SchedulingClass` per kind of lease (resources, environment, strategy).  A worker gets one task at
first; when tasks of a function prove short it gets as many as fill `batch_us`, so that it never waits for
its owner; what it was given too much of it gives back (see `gave_back`).

These are plain method calls on mutable objects and not events, because they run once per task: measured,
an event object per task would take a third of the whole path.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol


class Timing:
    """How long the calls of one function take: a moving average in microseconds; None before the first."""

    __slots__ = ("average_us",)

    #: weight of the newest batch: high, because a function's first calls import and warm up
    NEWEST = 0.5

    def __init__(self) -> None:
        self.average_us: float | None = None

    def took(self, each_us: float) -> None:
        old = self.average_us
        self.average_us = each_us if old is None else old + self.NEWEST * (each_us - old)


#: a busy worker is sent at least this many at once: a message costs as much as running ten short tasks
_REFILL_TASKS = 32


class Timed(Protocol):
    """What the tasks of one function have in common."""

    timing: Timing


class Dispatchable(Protocol):
    """A task as far as dispatching goes."""

    number: int
    template: Timed
    is_solo: bool  #: never shares a batch: it may have ended its worker before


class Lease:
    """A worker that this owner may use for now."""

    __slots__ = ("idle_since_s", "inflight", "is_retired", "number", "pushed_us", "worker_id")

    def __init__(self, number: int, worker_id: bytes) -> None:
        self.number = number
        self.worker_id = worker_id
        #: what the worker has and has not answered, oldest first
        self.inflight: dict[int, Dispatchable] = {}
        #: estimated microseconds of `inflight`
        self.pushed_us = 0.0
        self.idle_since_s = 0.0
        self.is_retired = False


class SchedulingClass:
    """The queue of tasks of one kind, and the leases that serve it."""

    def __init__(self, number: int, *, batch_us: float, batch_tasks: int) -> None:
        self.number = number
        self.queue: deque[Dispatchable] = deque()
        self.leases: dict[int, Lease] = {}
        #: whether some lease may have room: lets a submit to full workers cost one comparison
        self.may_have_room = False
        self._batch_us = batch_us
        self._batch_tasks = batch_tasks

    # -- events -----------------------------------------------------------------------------------

    def granted(self, lease: Lease, *, now_s: float) -> None:
        self.leases[lease.number] = lease
        lease.idle_since_s = now_s
        self.may_have_room = True

    def finished(self, lease: Lease, tasks: int, *, now_s: float) -> None:
        """The worker answered *tasks* tasks, already removed from `lease.inflight`."""
        if lease.inflight:
            lease.pushed_us *= len(lease.inflight) / (len(lease.inflight) + tasks)
        else:
            lease.pushed_us = 0.0
            lease.idle_since_s = now_s
        self.may_have_room = True

    def gave_back(self, lease: Lease, numbers: Iterable[int]) -> list[Dispatchable]:
        """The worker returned unstarted tasks: queue them again, first, in their old order.

        What it runs is known to be slow or waiting now, so that nobody gets a batch of that next.
        """
        tasks = [lease.inflight.pop(number) for number in numbers if number in lease.inflight]
        for task in lease.inflight.values() or tasks:
            task.template.timing.average_us = self._batch_us
        self.queue.extendleft(reversed(tasks))
        lease.pushed_us = self._batch_us
        self.may_have_room = True
        return tasks

    def lost(self, lease: Lease) -> list[Dispatchable]:
        """The worker died: forget the lease and return what it had not answered, oldest first."""
        self.leases.pop(lease.number, None)
        return list(lease.inflight.values())

    def keep(self, is_kept: Callable[[Any], bool]) -> None:
        """Drop all tasks from the queue but those."""
        kept = [task for task in self.queue if is_kept(task)]
        self.queue.clear()
        self.queue.extend(kept)

    # -- decisions --------------------------------------------------------------------------------

    def assignments(self) -> list[tuple[Lease, list[Dispatchable]]]:
        """Return what to push to whom now, and account for it as pushed."""
        found: list[tuple[Lease, list[Dispatchable]]] = []
        queue = self.queue
        half_us = self._batch_us / 2
        # refilled at half full: smaller refills would make messages of a few tasks
        roomy = [
            lease
            for lease in self.leases.values()
            if (not lease.inflight or lease.pushed_us <= half_us) and not lease.is_retired
        ]
        if len(roomy) > 1:
            roomy.sort(key=_load)
        for index, lease in enumerate(roomy):
            if not queue:
                return found
            # an even share, so that the last batch does not make one worker finish long after the others
            share = -(-len(queue) // (len(roomy) - index))
            if lease.inflight and share < _REFILL_TASKS:
                continue  # it is busy, and a message for a few would cost more than their wait
            tasks = self._take(lease, share)
            if tasks:
                found.append((lease, tasks))
        if queue:
            self.may_have_room = False
        return found

    def _take(self, lease: Lease, share: int) -> list[Dispatchable]:
        inflight = lease.inflight
        queue = self.queue
        batch_us = self._batch_us
        most = min(share, self._batch_tasks - len(inflight))
        tasks: list[Dispatchable] = []
        pushed_us = lease.pushed_us
        while queue and len(tasks) < most:
            task = queue[0]
            estimate_us = task.template.timing.average_us
            if estimate_us is None or task.is_solo:
                # nobody knows how long it takes, or whether its worker survives it: nothing else goes with it
                if not tasks and not inflight:
                    tasks.append(queue.popleft())
                    pushed_us = batch_us
                break
            if (tasks or inflight) and pushed_us + estimate_us > batch_us:
                break
            tasks.append(queue.popleft())
            pushed_us += estimate_us
        if tasks:
            lease.pushed_us = pushed_us
            for task in tasks:
                inflight[task.number] = task
        return tasks

    def idle_leases(self, *, before_s: float) -> list[Lease]:
        """Return the leases without work since before that time."""
        leases = self.leases.values()
        return [lease for lease in leases if not lease.inflight and lease.idle_since_s <= before_s]

    def check_invariants(self) -> None:
        queued = {task.number for task in self.queue}
        assert len(queued) == len(self.queue), "a task is queued twice"
        for lease in self.leases.values():
            assert not queued & lease.inflight.keys(), "a task is queued and pushed"
            assert lease.pushed_us >= 0, "negative load"


def _load(lease: Lease) -> int:
    return len(lease.inflight)
