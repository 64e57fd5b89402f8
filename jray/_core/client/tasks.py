"""Owns the tasks this process submitted: their arguments, leases, retries and results.

The hot path of the whole product runs through `submit` and `on_done`; they are written for few bytecodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from jray._core.client.arguments import PackedArguments, are_plain, pack
from jray._core.client.functions import ExportedCode
from jray._core.client.results import MANY, STREAM_END
from jray._core.client.streams import Stream
from jray._core.machine.dispatch import Lease, SchedulingClass, Timing
from jray._core.refs import ERROR, PENDING, STORED, ObjectRef
from jray._core.serialization import deserialize
from jray._core.specs import ExitCause, FunctionTemplate
from jray._core.wire import messages
from jray.exceptions import RayError, RayTaskError, TaskCancelledError, WorkerCrashedError

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient
    from jray._core.client.peers import Peer

_NO_KWARGS: dict[str, Any] = {}
#: a stream of objects, and one object that holds a list of refs
STREAMING, DYNAMIC = -1, -2


class RemoteTemplate:
    """What the calls of one remote function, with the same options and from the same cell, share here."""

    __slots__ = ("code", "max_retries", "name", "num_returns", "queue", "refusal", "retry_exceptions", "wire")

    def __init__(
        self,
        wire: FunctionTemplate,
        code: ExportedCode,
        queue: OwnerQueue,
        retry_exceptions: bool | tuple[type[BaseException], ...],
        refusal: BaseException | None,
    ) -> None:
        self.wire = wire
        #: the error of every call, if the scheduling strategy allows no node
        self.refusal = refusal
        self.code = code
        self.queue = queue
        self.name = wire.name
        self.num_returns = wire.num_returns
        self.max_retries = wire.max_retries
        self.retry_exceptions = retry_exceptions


class PendingTask:
    """A submitted task that has no result yet."""

    __slots__ = (
        "actor", "dependencies", "is_cancelled", "is_solo", "lease", "number", "parent", "payload", "pins",
        "positions", "refs", "retries_left", "stream", "template", "timing", "unready",
    )  # fmt: skip

    def __init__(
        self, number: int, template: Any, payload: Any, retries_left: int, timing: Timing, parent: Any
    ) -> None:
        self.number = number
        self.template = template
        #: plain args, serialized (args, kwargs), or a ref to these
        self.payload = payload
        self.retries_left = retries_left
        self.timing = timing
        self.parent = parent
        self.is_solo = False
        self.is_cancelled = False
        self.positions: tuple[int | str, ...] | None = None
        self.dependencies: list[ObjectRef[Any]] | None = None
        self.pins: Any = None
        #: how many of `dependencies` have no value yet
        self.unready = 0
        self.lease: Any = None
        self.actor: Any = None
        self.stream: Stream | None = None
        self.refs: Any = None

    @property
    def name(self) -> str:
        return str(self.template.name)


class OwnerQueue:
    """A scheduling class with what the owner needs besides: how to ask for its leases."""

    __slots__ = ("asked", "details", "machine", "timer_is_set", "units")

    def __init__(self, machine: SchedulingClass, units: dict[str, int], details: tuple[Any, ...]) -> None:
        self.machine = machine
        self.units = units
        #: the hashable runtime environment
        self.details = details
        #: the number of leases last asked of the node and not granted since
        self.asked = 0
        self.timer_is_set = False


class OwnedLease(Lease):
    __slots__ = ("granted_s", "peer", "queue")

    def __init__(
        self, number: int, worker_id: bytes, peer: Peer, queue: OwnerQueue, granted_s: float
    ) -> None:
        super().__init__(number, worker_id)
        self.peer = peer
        self.queue = queue
        self.granted_s = granted_s


class TaskSubmitter:
    """Submits tasks and gives their refs values.  The client's lock guards everything."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        self._queues: dict[Any, OwnerQueue] = {}
        self._by_number: list[OwnerQueue] = []
        self._templates = 0
        #: others wait for what we lease: give leases back early
        self._is_wanted = False
        #: tasks pushed or queued, by number, for cancelling children and for listing
        self.pending: dict[int, PendingTask] = {}

    # -- templates --------------------------------------------------------------------------------

    def next_template_number(self) -> int:
        self._templates += 1
        return self._templates

    def queue_for(self, units: dict[str, int], details: tuple[Any, ...]) -> OwnerQueue:
        """Return the queue of tasks that need these resources in that environment."""
        with self._client.lock:
            key = (tuple(sorted(units.items())), details)
            queue = self._queues.get(key)
            if queue is None:
                config = self._client.config
                machine = SchedulingClass(
                    len(self._by_number), batch_us=config.batch_us, batch_tasks=config.batch_tasks
                )
                queue = self._queues[key] = OwnerQueue(machine, units, details)
                self._by_number.append(queue)
            return queue

    # -- submitting -------------------------------------------------------------------------------

    def submit(
        self, template: RemoteTemplate, args: tuple[Any, ...], kwargs: Mapping[str, Any] = _NO_KWARGS
    ) -> Any:
        """Submit a call; return its ref, its refs, its generator, or None, by the template's num_returns."""
        client = self._client
        number = client.next_number()
        task = PendingTask(
            number, template, args, template.max_retries, template.code.timing, client.context.task_number()
        )
        if kwargs or not are_plain(args):
            self.attach(
                task, pack(args, kwargs, client.config.inline_limit_bytes, client.objects.put_serialized)
            )
        result = self.make_refs(task, template.num_returns)
        machine = template.queue.machine
        with client.lock:
            self.pending[number] = task
            if template.refusal is not None:
                self.fail(task, template.refusal)
                return result
            if task.dependencies and not self.wait_for_dependencies(task, self._ready):
                return result
            machine.queue.append(task)
            if not machine.may_have_room and template.queue.asked:
                return result
        self._dispatch_shielded(template.queue)
        return result

    def attach(self, task: PendingTask, packed: PackedArguments) -> None:
        task.payload = packed.payload
        task.positions = packed.positions
        task.pins = packed.pins
        task.dependencies = packed.dependencies

    def make_refs(self, task: PendingTask, num_returns: int) -> Any:
        """Make the refs of a task's results, and return them as the user gets them."""
        client = self._client
        if num_returns == 1:
            ref: ObjectRef[Any] = ObjectRef(client.object_id(task.number, 1), client, task)
            task.refs = ref
            return ref
        if num_returns >= 0:
            task.refs = [
                ObjectRef(client.object_id(task.number, i + 1), client, task) for i in range(num_returns)
            ]
            return list(task.refs) if num_returns else None
        if num_returns == STREAMING:
            task.stream = Stream(client, task)
            task.refs = []
            return task.stream.generator()
        ref = ObjectRef(client.object_id(task.number, 1), client, task)
        task.refs = ref
        return ref

    def wait_for_dependencies(self, task: PendingTask, ready: Callable[[PendingTask], None]) -> bool:
        """Return True if every argument has a value; else `ready(task)` is called when that is so."""
        assert task.dependencies is not None
        objects = self._client.objects

        def one_ready(_: ObjectRef[Any]) -> None:
            task.unready -= 1
            if not task.unready:
                ready(task)

        waiting = {id(ref): ref for ref in task.dependencies if ref._state == PENDING}
        if waiting:
            # one more until all are registered: an owner that is gone answers at once
            task.unready = len(waiting) + 1
            for ref in waiting.values():
                objects.when_ready_locked(ref, one_ready)
            task.unready -= 1
            if task.unready:
                return False
        return True

    def _ready(self, task: PendingTask) -> None:
        queue = task.template.queue
        queue.machine.queue.append(task)
        if queue.machine.may_have_room:
            self._dispatch(queue)
        elif not queue.asked:
            self._ask(queue, task)

    # -- dispatching ------------------------------------------------------------------------------

    def _dispatch_shielded(self, queue: OwnerQueue) -> None:
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
        number = queue.machine.number
        self._client.node.tell(messages.LEASE, number, queue.units, queue.asked, queue.details, cell, name)

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
                entry = self.wire_form(task)
                if entry is None:  # an argument failed: so did the task
                    lease.inflight.pop(task.number, None)
                    continue
                wire.append(entry)
            if number not in known:
                known.add(number)
                code = template.code
                blob = None if code.function_id in known else code.blob
                known.add(code.function_id)
                definitions.append((template.wire, blob))
        if wire:
            connection.send((messages.PUSH, wire, definitions))

    def wire_form(self, task: PendingTask) -> tuple[Any, ...] | None:
        """Return the task as it travels, or None if an argument's error became the task's."""
        client = self._client
        assert task.dependencies is not None
        descriptions = []
        for ref in task.dependencies:
            if ref._state == ERROR:
                self.fail_by_argument(task, ref)
                return None
            descriptions.append((ref._state, ref._data, ref._id, client.ref_address(ref)))
        payload = task.payload
        if isinstance(payload, ObjectRef):
            payload = (payload._state, payload._data, payload._id, client.ref_address(payload))
            return (task.number, task.template.wire.number, None, task.positions, descriptions, payload)
        return (task.number, task.template.wire.number, payload, task.positions, descriptions)

    # -- leases -----------------------------------------------------------------------------------

    def on_grant(self, class_number: int, lease_number: int, worker_id: bytes, address: str) -> None:
        client = self._client
        with client.lock:
            queue = self._by_number[class_number]
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

    def on_idle_wanted(self, is_wanted: bool) -> None:
        with self._client.lock:
            self._is_wanted = is_wanted
            if is_wanted:
                for queue in self._by_number:
                    self._return_idle(queue, monotonic())

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
            for queue in self._by_number:
                self._return_idle(queue, monotonic())

    def _return_idle(self, queue: OwnerQueue, before_s: float) -> None:
        for lease in queue.machine.idle_leases(before_s=before_s):
            self._return(lease, retire=False)  # type: ignore[arg-type]

    def _return(self, lease: OwnedLease, *, retire: bool) -> None:
        lease.queue.machine.lost(lease)
        lease.peer.lease = None
        self._client.node.tell(messages.RETURN, lease.number, retire)

    def on_retiring(self, peer: Peer) -> None:
        """The worker takes no more tasks; what it has not started it has given back."""
        with self._client.lock:
            lease: OwnedLease | None = peer.lease
            if lease is not None:
                lease.is_retired = True
                self._maybe_retire(lease)

    def _maybe_retire(self, lease: OwnedLease) -> None:
        if lease.is_retired and not lease.inflight:
            self._return(lease, retire=True)
            if lease.queue.machine.queue:
                self._dispatch(lease.queue)

    # -- results ----------------------------------------------------------------------------------

    def on_done(self, peer: Peer, results: list[tuple[Any, ...]], elapsed_us: float) -> None:
        """Give refs their values.  Results of an actor's calls come here too."""
        lease: OwnedLease | None = peer.lease
        actor = peer.actor
        with self._client.lock:
            inflight: dict[int, Any] = lease.inflight if lease is not None else actor.inflight
            pending = self.pending
            task = None
            for result in results:
                number = result[0]
                task = inflight.pop(number, None)
                if task is None:
                    continue  # it failed here meanwhile: cancelled by force, say
                pending.pop(number, None)
                ref = task.refs
                if len(result) == 3 and result[1] < STORED and type(ref) is ObjectRef:
                    ref._state = result[1]
                    ref._data = result[2]
                    if ref._waiters is not None:
                        waiters, ref._waiters = ref._waiters, None
                        for waiter in waiters:
                            waiter(ref)
                else:
                    self._finish(peer, task, result)
            if lease is not None:
                if task is not None and elapsed_us:
                    task.timing.took(elapsed_us / len(results))
                queue = lease.queue
                queue.machine.finished(lease, len(results), now_s=monotonic())
                if lease.is_retired:
                    self._maybe_retire(lease)
                elif queue.machine.queue and not (self._is_wanted and self._is_old(lease)):
                    self._dispatch(queue)
                elif not lease.inflight:
                    self._watch_idle(queue)
            elif actor is not None:
                actor.answered()

    def _is_old(self, lease: OwnedLease) -> bool:
        """Others wait, and this lease has served us for a while: let it run dry, and queue up again."""
        if monotonic() - lease.granted_s < self._client.config.lease_idle_s * 2:
            return False
        if not lease.inflight:
            self._return(lease, retire=False)
            if not lease.queue.asked:
                self._ask(lease.queue, lease.queue.machine.queue[0])
        return True

    def _finish(self, peer: Peer, task: PendingTask, result: tuple[Any, ...]) -> None:
        number, state = result[0], result[1]
        if state == ERROR:
            self._app_error(task, result[2], is_cancelled=bool(result[3]) if len(result) > 3 else False)
        elif state == STREAM_END:
            assert task.stream is not None
            task.stream.ended()
        elif state == MANY:
            entries = result[2]
            for ref, entry in zip(task.refs, entries, strict=True):
                self._take_value(ref, entry)
            if any(len(entry) > 2 for entry in entries):
                self._hold_nested(peer, number)
        else:
            self._take_value(task.refs, result[1:])
            if len(result) > 3:
                self._hold_nested(peer, number)

    def _take_value(self, ref: ObjectRef[Any], entry: tuple[Any, ...]) -> None:
        if len(entry) > 2:
            ref._nested = self._client.objects.adopt_locked(entry[2])
        self._client.objects.resolve_locked(ref, entry[0], entry[1])

    def _take_item(self, task: PendingTask, index: int, entry: tuple[Any, ...]) -> None:
        client = self._client
        ref: ObjectRef[Any] = ObjectRef(client.object_id(task.number, index + 1), client)
        self._take_value(ref, entry)
        assert task.stream is not None
        task.stream.arrived(index, ref)

    def _hold_nested(self, peer: Peer, number: int) -> None:
        """Borrow the refs inside a result, then tell the worker that it need not keep them for us."""
        waiters = self._client.objects.tell_borrows_locked(peer)

        def settled() -> None:
            for waiter in waiters:
                self._client.pump.wait(waiter, 10.0)
            peer.connection.send((messages.TRANSIT_DONE, [number]))

        if waiters:
            self._client.defer(settled)
        else:
            peer.connection.send((messages.TRANSIT_DONE, [number]))

    def on_items(self, peer: Peer, number: int, first: int, entries: list[tuple[Any, ...]]) -> None:
        with self._client.lock:
            inflight = (
                peer.lease.inflight if peer.lease is not None else peer.actor.inflight if peer.actor else {}
            )
            task = inflight.get(number)
            if task is None or task.stream is None:
                return
            for offset, entry in enumerate(entries):
                self._take_item(task, first + offset, entry)
            task.stream.wake()
            if any(len(entry) > 2 for entry in entries):
                self._hold_nested(peer, number)

    def on_given_back(self, peer: Peer, numbers: list[int]) -> None:
        with self._client.lock:
            lease: OwnedLease | None = peer.lease
            if lease is None:
                return
            lease.queue.machine.gave_back(lease, numbers)
            if not lease.inflight:
                lease.queue.machine.finished(lease, 1, now_s=monotonic())
                self._maybe_retire(lease)
            self._dispatch(lease.queue)

    # -- errors -----------------------------------------------------------------------------------

    def _app_error(self, task: PendingTask, blob: bytes, *, is_cancelled: bool) -> None:
        retry = task.template.retry_exceptions
        if is_cancelled or task.is_cancelled:
            self.fail(
                task, TaskCancelledError(self._client.task_id(task.number).hex()) if is_cancelled else blob
            )
        elif retry and task.retries_left:
            # the class is looked up outside the lock: unpickling runs the user's code
            self._client.defer(lambda: self._retry_or_fail(task, blob, retry))
        else:
            self.fail(task, blob)

    def _retry_or_fail(self, task: PendingTask, blob: bytes, retry: Any) -> None:
        wanted = retry is True
        if not wanted:
            try:
                error = deserialize(blob)
                wanted = isinstance(getattr(error, "cause", error), tuple(retry))
            except Exception:  # noqa: BLE001 -- a class unknown here is none of those listed
                wanted = False
        with self._client.lock:
            if wanted and not task.is_cancelled:
                task.retries_left -= task.retries_left > 0
                self.resubmit(task)
            else:
                self.fail(task, blob)

    def resubmit(self, task: PendingTask) -> None:
        """Run a task again; the client's lock is held."""
        if task.stream is not None:
            task.stream.restarted()
        task.lease = None
        if task.actor is not None:
            task.actor.requeue(task)
            return
        self.pending[task.number] = task
        self._ready(task)

    def fail(self, task: PendingTask, error: bytes | BaseException) -> None:
        """Make *error* the outcome of a task; the client's lock is held."""
        self.pending.pop(task.number, None)
        objects = self._client.objects
        if task.stream is not None:
            task.stream.failed(error)
            return
        refs = [task.refs] if isinstance(task.refs, ObjectRef) else task.refs
        for ref in refs:
            if ref._state == PENDING:
                objects.resolve_locked(ref, ERROR, error)

    def fail_by_argument(self, task: PendingTask, ref: ObjectRef[Any]) -> None:
        """An argument's error becomes the task's (the lock is held; the user's class is unpickled later)."""
        self.pending.pop(task.number, None)

        def finish() -> None:
            original = ref._data
            if isinstance(original, bytes):
                try:
                    original = deserialize(original)
                except Exception as error:  # noqa: BLE001
                    original = RayError(f"the argument's exception cannot be deserialized here: {error!r}")
            failed = RayTaskError.from_failed_argument(task.name, original)
            if isinstance(original, RayTaskError):  # blame the first failure, not each that it caused
                failed = RayTaskError(task.name, failed.traceback_str, original.cause)
            with self._client.lock:
                self.fail(task, failed)

        self._client.defer(finish)

    def worker_lost(self, peer: Peer) -> None:
        """A leased worker's connection closed: its tasks run again where they may."""
        lease: OwnedLease | None = peer.lease
        if lease is None:
            return
        peer.lease = None
        client = self._client
        with client.lock:
            tasks: list[PendingTask] = lease.queue.machine.lost(lease)  # type: ignore[assignment]
            lease.inflight = {}
            if client.is_closing:
                return
            # The worker runs tasks in order.  If it had one, that one ended it; if it had more, the guilty
            # one is unknown: run each alone, charging nobody yet, except those that must not run twice.
            culprits = tasks[:1] if len(tasks) == 1 else [t for t in tasks[:1] if not t.template.max_retries]
            for task in tasks:
                if task in culprits:
                    continue
                task.is_solo = True
                self.resubmit(task)
            for task in culprits:
                if task.retries_left and not task.is_cancelled:
                    task.retries_left -= task.retries_left > 0
                    task.is_solo = True
                    self.resubmit(task)
                elif task.is_cancelled:
                    self.fail(task, TaskCancelledError(client.task_id(task.number).hex()))
                else:
                    self._fail_with_cause(task, lease.worker_id)
            self._dispatch(lease.queue)

    def _fail_with_cause(self, task: PendingTask, worker_id: bytes) -> None:
        """Fail a task once the node has told how its worker ended."""

        def told(cause: ExitCause | None) -> None:
            self.fail(task, crash_error(task.name, cause))

        if not self._client.node.connection.is_open:
            told(None)
            return
        self._client.node.request_later(messages.WHY_DIED, worker_id, callback=told)

    # -- cancelling -------------------------------------------------------------------------------

    def cancel(self, task: PendingTask, *, force: bool, recursive: bool) -> None:
        """Cancel a task that has no result yet; the client's lock is held."""
        task.is_cancelled = True
        if task.lease is not None and task.number in task.lease.inflight:
            task.lease.peer.connection.send((messages.CANCEL, task.number, force, recursive))
            return
        if task.number not in self.pending:
            return
        task_id = self._client.task_id(task.number).hex()
        try:
            task.template.queue.machine.queue.remove(task)
        except ValueError:
            # it waits for its arguments: when they come it must not start
            task.unready = -1
        self.fail(task, TaskCancelledError(task_id))
        if not task.template.queue.machine.queue:
            self._watch_idle(task.template.queue)

    def cancel_children(self, parent: Any, *, force: bool) -> None:
        with self._client.lock:
            for task in [task for task in self.pending.values() if task.parent == parent]:
                if task.actor is not None:
                    task.actor.cancel(task, recursive=True)
                else:
                    self.cancel(task, force=force, recursive=True)

    def close(self, error: BaseException) -> None:
        """Fail whatever is still pending; the client's lock is held."""
        for task in list(self.pending.values()):
            self.fail(task, error)


def crash_error(name: str, cause: ExitCause | None) -> WorkerCrashedError:
    """Return the error of a task whose worker died."""
    if cause is None:
        return WorkerCrashedError(task_name=name)
    return WorkerCrashedError(
        cause.detail,
        task_name=name,
        pid=cause.pid or None,
        exit_code=cause.exit_code,
        signal=cause.signal,
        last_lines=cause.last_lines.splitlines(),
    )
