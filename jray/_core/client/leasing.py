"""Owns the leases of this process: asks for them, pushes tasks to them, gives them back.

What is pushed to whom is decided by `jray._core.machine.dispatch`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from jray._core.client.pending import PendingTask
from jray._core.frontend import Output, OutputKind
from jray._core.machine.dispatch import Lease, SchedulingClass
from jray._core.refs import STORED
from jray._core.specs import MemoryReport
from jray._core.strategies import Where
from jray._core.wire import messages

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient
    from jray._core.client.peers import Peer


#: a task that was ended because memory was low rests this long at most before it runs again
_LONGEST_REST_S = 60.0


class OwnerQueue:
    """A scheduling class with what the owner needs besides: how to ask for its leases."""

    __slots__ = ("__weakref__", "asked", "details", "home", "machine", "timer_is_set", "units", "where")

    def __init__(
        self,
        machine: SchedulingClass,
        units: dict[str, int],
        details: tuple[Any, ...],
        where: Where,
        home: bytes,
    ) -> None:
        self.machine = machine
        self.units = units
        #: the hashable runtime environment
        self.details = details
        self.where = where
        #: the node where they are best placed: our own, or that of their large arguments
        self.home = home
        #: the number of leases last asked of the node and not granted since
        self.asked = 0
        self.timer_is_set = False


class OwnedLease(Lease):
    __slots__ = ("granted_s", "memory", "peer", "queue")

    def __init__(
        self, number: int, worker_id: bytes, peer: Peer, queue: OwnerQueue, granted_s: float
    ) -> None:
        super().__init__(number, worker_id)
        self.peer = peer
        self.queue = queue
        self.granted_s = granted_s
        #: why its worker is about to be ended, if memory is low
        self.memory: MemoryReport | None = None


class Leasing:
    """Gets tasks that are ready onto workers.  The client's lock guards everything."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        #: those that a template or a lease refers to: each placement group has its own
        self._queues: WeakValueDictionary[Any, OwnerQueue] = WeakValueDictionary()
        self._by_number: WeakValueDictionary[int, OwnerQueue] = WeakValueDictionary()
        self._numbers = itertools.count()
        #: others wait for what we lease: give leases back early
        self._is_wanted = False
        #: how often tasks were ended because memory was low, by number
        self._rested: dict[int, int] = {}

    def queue_for(self, units: dict[str, int], details: tuple[Any, ...], where: Where) -> OwnerQueue:
        """Return the queue of tasks that need these resources in that environment and place."""
        with self._client.lock:
            return self._queue_locked(units, details, where, self._client.node_id)

    def _queue_locked(
        self, units: dict[str, int], details: tuple[Any, ...], where: Where, home: bytes
    ) -> OwnerQueue:
        key = (tuple(sorted(units.items())), details, where, home)
        queue = self._queues.get(key)
        if queue is None:
            config = self._client.config
            number = next(self._numbers)
            machine = SchedulingClass(number, batch_us=config.batch_us, batch_tasks=config.batch_tasks)
            queue = self._queues[key] = OwnerQueue(machine, units, details, where, home)
            self._by_number[number] = queue
        return queue

    def queue_of(self, task: PendingTask) -> OwnerQueue:
        """Return the queue for a task whose arguments are there; the lock is held.

        It is that of the node which has most of their bytes, if that is another than ours: tasks go to their data.
        """
        queue: OwnerQueue = task.template.queue
        sizes: Counter[bytes] = Counter()
        for ref in task.dependencies or ():
            if ref._state == STORED:
                sizes[ref._data.node] += ref._data.size
        if sizes:
            home = max(sizes, key=lambda node_id: (sizes[node_id], node_id == queue.home))
            if home != queue.home:
                task.queue = self._queue_locked(queue.units, queue.details, queue.where, home)
                return task.queue
        task.queue = None
        return queue

    def running_locked(self) -> Iterator[Any]:
        """Return the tasks that run, as far as is known here: the first of each worker's."""
        for queue in list(self._by_number.values()):
            for lease in queue.machine.leases.values():
                yield from islice(lease.inflight.values(), 1)

    # -- dispatching ------------------------------------------------------------------------------

    def ready(self, task: PendingTask) -> None:
        """Queue a task that waits for nothing any more."""
        queue = self.queue_of(task) if task.dependencies else task.template.queue
        queue.machine.queue.append(task)
        if queue.machine.may_have_room:
            self._dispatch(queue)
        elif not queue.asked:
            self._ask(queue, task)

    def dispatch_shielded(self, queue: OwnerQueue) -> None:
        """Dispatch from a user's thread, which holds no lock."""
        shield = self._client.shields.current()
        shield.enter()
        try:
            with self._client.lock:
                self._dispatch(queue)
        finally:
            shield.leave()

    def _dispatch(self, queue: OwnerQueue) -> None:
        machine = queue.machine
        while machine.queue:
            assignments = machine.assignments()
            if not assignments:
                break
            for lease, tasks in assignments:
                self._push(lease, tasks)  # type: ignore[arg-type]
                if not lease.inflight:  # all of them failed by their arguments
                    machine.finished(lease, len(tasks), now_s=monotonic())
        if machine.queue and not queue.asked:
            self._ask(queue, machine.queue[0])

    def _ask(self, queue: OwnerQueue, task: Any) -> None:
        queue.asked = len(queue.machine.queue)
        self._tell_wanted(queue, task.template.wire.cell, task.name)

    def _tell_wanted(self, queue: OwnerQueue, cell: int, name: str) -> None:
        client = self._client
        client.node.tell(
            messages.LEASE,
            queue.machine.number,
            queue.units,
            queue.asked,
            queue.details,
            cell,
            name,
            queue.where,
            queue.home,
        )

    def _push(self, lease: OwnedLease, tasks: list[PendingTask]) -> None:
        connection = lease.peer.connection
        known = connection.known
        definitions: list[Any] = []
        wire: list[Any] = []
        for task in tasks:
            task.lease = lease
            template = task.template
            number = template.wire.number
            if task.positions is None:
                wire.append((task.number, number, task.payload))
            else:
                entry = self._client.tasks.wire_form(task)
                if entry is None:  # an argument failed: so did the task
                    lease.inflight.pop(task.number, None)
                    continue
                wire.append(entry)
            if number not in known:
                known.add(number)
                code = template.code
                blob = None if code.function_id in known else (code.blob, code.sources)
                known.add(code.function_id)
                definitions.append((template.wire, blob))
        if wire:
            connection.send((messages.PUSH, wire, definitions))

    # -- what the node and the workers say ---------------------------------------------------------

    def on_grant(self, class_number: int, lease_number: int, worker_id: bytes, address: str) -> None:
        client = self._client
        with client.lock:
            queue = self._by_number.get(class_number)
            if queue is None:  # whoever asked is gone, and so is what it asked for
                client.node.tell(messages.RETURN, lease_number, False)
                return
            queue.asked = max(0, queue.asked - 1)
            try:
                peer = client.peers.get(address)
            except OSError:  # it died meanwhile, and the node knows
                self._dispatch(queue)
                return
            now = monotonic()
            lease = OwnedLease(lease_number, worker_id, peer, queue, now)
            peer.lease = lease
            queue.machine.granted(lease, now_s=now)
            self._dispatch(queue)
            if not lease.inflight:
                self._watch_idle(queue)

    def on_refused(self, class_number: int, reason: str) -> None:
        """What these tasks must run on is gone, or never was: they fail."""
        with self._client.lock:
            queue = self._by_number.get(class_number)
            if queue is None:
                return
            queue.asked = 0
            tasks: list[PendingTask] = list(queue.machine.queue)  # type: ignore[arg-type]
            queue.machine.queue.clear()
            for task in tasks:
                self._client.outcomes.fail_refused(task, reason)

    def on_idle_wanted(self, is_wanted: bool) -> None:
        with self._client.lock:
            self._is_wanted = is_wanted
            if is_wanted:
                for queue in list(self._by_number.values()):
                    self._return_idle(queue, monotonic())

    def on_retiring(self, peer: Peer) -> None:
        """The worker takes no more tasks; what it has not started it has given back."""
        with self._client.lock:
            lease: OwnedLease | None = peer.lease
            if lease is not None:
                lease.is_retired = True
                self._maybe_retire(lease)

    def on_given_back(self, peer: Peer, numbers: list[int]) -> None:
        with self._client.lock:
            lease: OwnedLease | None = peer.lease
            if lease is None:
                return
            given_back: list[PendingTask] = lease.queue.machine.gave_back(lease, numbers)  # type: ignore[assignment]
            for task in given_back:
                if task.is_cancelled:  # the cancel and the task crossed each other on the way
                    lease.queue.machine.queue.remove(task)
                    self._client.outcomes.fail_cancelled(task)
            if not lease.inflight:
                lease.queue.machine.finished(lease, 1, now_s=monotonic())
                self._maybe_retire(lease)
            self._dispatch(lease.queue)

    def answered(self, lease: OwnedLease, tasks: int) -> None:
        """A worker answered that many tasks: give it others, or watch it idle; the lock is held."""
        queue = lease.queue
        queue.machine.finished(lease, tasks, now_s=monotonic())
        if lease.is_retired:
            self._maybe_retire(lease)
        elif queue.machine.queue and not (self._is_wanted and self._is_old(lease)):
            self._dispatch(queue)
        elif not lease.inflight:
            self._watch_idle(queue)

    def worker_lost(self, peer: Peer) -> None:
        """A leased worker's connection closed: its tasks run again where they may."""
        lease: OwnedLease | None = peer.lease
        if lease is None:
            return
        peer.lease = None
        client = self._client
        # should only the connection be lost, this ends the worker; the node ignores it for one that has died
        client.node.tell(messages.RETURN, lease.number, True)
        outcomes = client.outcomes
        with client.lock:
            tasks: list[PendingTask] = lease.queue.machine.lost(lease)  # type: ignore[assignment]
            lease.inflight = {}
            if client.is_closing:
                return
            if lease.memory is not None:
                self._ran_out_of_memory(lease, lease.memory, tasks)
                self._dispatch(lease.queue)
                return
            # The worker runs tasks in order.  If it had one, that one ended it; if it had more, the guilty
            # one is unknown: run each alone, charging nobody yet, except those that must not run twice.
            culprits = tasks[:1] if len(tasks) == 1 else [t for t in tasks[:1] if not t.template.max_retries]
            for task in tasks:
                if task in culprits:
                    continue
                if task.is_cancelled:
                    outcomes.fail_cancelled(task)
                    continue
                task.is_solo = True
                outcomes.resubmit(task)
            for task in culprits:
                if task.retries_left and not task.is_cancelled:
                    task.retries_left -= task.retries_left > 0
                    task.is_solo = True
                    outcomes.resubmit(task)
                elif task.is_cancelled:
                    outcomes.fail_cancelled(task)
                else:
                    outcomes.fail_with_cause(task, lease.worker_id)
            self._dispatch(lease.queue)

    def on_low_memory(self, lease_number: int, report: MemoryReport) -> None:
        """The node ends one of our workers in a moment."""
        with self._client.lock:
            for queue in list(self._by_number.values()):
                lease: OwnedLease | None = queue.machine.leases.get(lease_number)  # type: ignore[assignment]
                if lease is not None:
                    lease.memory = report

    def _ran_out_of_memory(self, lease: OwnedLease, report: MemoryReport, tasks: list[PendingTask]) -> None:
        """The worker was ended to save the others: what it ran may run again in a while; the lock is held."""
        client = self._client
        for task in tasks[1:]:
            if task.is_cancelled:
                client.outcomes.fail_cancelled(task)
            else:
                client.outcomes.resubmit(task)
        for task in tasks[:1]:
            runs_again = report.runs_again and task.template.max_retries != 0
            if task.is_cancelled:
                client.outcomes.fail_cancelled(task)
            elif runs_again:  # not charged to its max_retries (Ray's rule)
                task.lease = None
                pending = client.tasks.pending
                self._rested = {number: times for number, times in self._rested.items() if number in pending}
                times = self._rested[task.number] = self._rested.get(task.number, -1) + 1
                rest_s = min(client.config.memory_rest_s * 2**times, _LONGEST_REST_S)
                client.pump.call_later(rest_s, partial(self._run_again, task))
            else:
                client.outcomes.fail_with_cause(task, lease.worker_id)
            text = (
                f"The worker of {task.name} was ended: {report.used / report.total:.0%} of the memory is in use, "
                f"above the limit of {report.threshold:.0%}. "
                + ("The task runs again." if runs_again else "The task failed.")
            )
            cell = task.template.wire.cell
            client.show_output(Output(cell, OutputKind.NOTICE, text, None, "jray", 0, ""))

    def _run_again(self, task: PendingTask) -> None:
        with self._client.lock:
            if not task.ended_s and not task.is_cancelled and not self._client.is_closing:
                self._client.outcomes.resubmit(task)

    def withdraw(self, task: PendingTask) -> None:
        """Take back a cancelled task that no worker has; the lock is held."""
        queue: OwnerQueue = task.queue or task.template.queue
        try:
            queue.machine.queue.remove(task)
        except ValueError:
            # it waits for its arguments: when they come it must not start
            task.unready = -1
        if not queue.machine.queue:
            self._watch_idle(queue)

    def drop_cancelled(self, tasks: Iterable[PendingTask]) -> None:
        """Take back these cancelled tasks, which no worker has; the lock is held."""
        queues = {}
        for task in tasks:
            task.unready = -1  # when its arguments come it must not start
            queue = task.queue or task.template.queue
            queues[id(queue)] = queue
        for queue in queues.values():
            machine = queue.machine
            machine.keep(lambda task: not task.is_cancelled)
            if not machine.queue:
                self._watch_idle(queue)

    # -- giving back ------------------------------------------------------------------------------

    def _watch_idle(self, queue: OwnerQueue) -> None:
        if not queue.machine.queue:
            if queue.asked:
                # the work is done: what was asked for is not needed any more
                queue.asked = 0
                self._tell_wanted(queue, 0, "")
            if self._is_wanted:
                self._return_idle(queue, monotonic())
        if not queue.timer_is_set and queue.machine.leases:
            queue.timer_is_set = True
            self._client.pump.call_later(self._client.config.lease_idle_s, lambda: self._idle_timer(queue))

    def _idle_timer(self, queue: OwnerQueue) -> None:
        with self._client.lock:
            queue.timer_is_set = False
            self._return_idle(queue, monotonic() - self._client.config.lease_idle_s)
            if queue.machine.leases:
                self._watch_idle(queue)

    def return_idle(self) -> None:
        """Give all leases without work back, so that the node's figures show what is in use."""
        with self._client.lock:
            for queue in list(self._by_number.values()):
                self._return_idle(queue, monotonic())

    def return_idle_of(self, group_id: bytes) -> None:
        """Give the leases without work in a placement group back: who has one when it is removed is ended."""
        with self._client.lock:
            for queue in list(self._by_number.values()):
                if queue.where.group == group_id:
                    self._return_idle(queue, monotonic())

    def _return_idle(self, queue: OwnerQueue, before_s: float) -> None:
        for lease in queue.machine.idle_leases(before_s=before_s):
            self._return(lease, retire=False)  # type: ignore[arg-type]

    def _return(self, lease: OwnedLease, *, retire: bool) -> None:
        lease.queue.machine.lost(lease)
        lease.peer.lease = None
        self._client.node.tell(messages.RETURN, lease.number, retire)

    def _maybe_retire(self, lease: OwnedLease) -> None:
        if lease.is_retired and not lease.inflight:
            self._return(lease, retire=True)
            if lease.queue.machine.queue:
                self._dispatch(lease.queue)

    def _is_old(self, lease: OwnedLease) -> bool:
        """Others wait, and this lease has served us for a while: let it run dry, and queue up again."""
        if monotonic() - lease.granted_s < self._client.config.lease_idle_s * 2:
            return False
        if not lease.inflight:
            self._return(lease, retire=False)
            if not lease.queue.asked:
                self._ask(lease.queue, lease.queue.machine.queue[0])
        return True
