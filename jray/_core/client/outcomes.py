"""Owns what becomes of tasks: gives refs their values, runs tasks again, makes errors of failures."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from jray._core.client.pending import PendingTask
from jray._core.client.results import MANY, STREAM_END
from jray._core.machine.groups import GROUP_REMOVED
from jray._core.refs import ERROR, PENDING, STORED, ObjectRef
from jray._core.serialization import deserialize
from jray._core.specs import ExitCause
from jray._core.wire import messages
from jray.exceptions import (
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
    WorkerCrashedError,
)

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient
    from jray._core.client.peers import Peer


class Outcomes:
    """Turns answers and failures into values and errors.  The client's lock guards everything."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client

    # -- results ----------------------------------------------------------------------------------

    def on_done(self, peer: Peer, results: list[tuple[Any, ...]], elapsed_us: float) -> None:
        """Give refs their values.  Results of an actor's calls come here too."""
        lease: Any = peer.lease
        actor = peer.actor
        remember = self._client.reports.ended.append
        now = monotonic()
        with self._client.lock:
            inflight: dict[int, Any] = lease.inflight if lease is not None else actor.inflight
            pending = self._client.tasks.pending
            task = timing = None
            for result in results:
                number = result[0]
                task = inflight.pop(number, None)
                if task is None or task.ended_s:
                    continue  # it failed here meanwhile: cancelled by force, say
                if timing is None:
                    timing = (
                        task.template.timing
                    )  # of the first: a batch of several functions times none of them
                pending.pop(number, None)
                ref = task.refs
                if len(result) == 3 and result[1] < STORED and type(ref) is ObjectRef:
                    ref._state = result[1]
                    ref._data = result[2]
                    if ref._waiters is not None:
                        waiters, ref._waiters = ref._waiters, None
                        for waiter in waiters:
                            waiter(ref)
                    task.ended_s = now
                    task.template.tally.finished += 1
                    task.refs = task.payload = task.pins = task.dependencies = None
                    remember(task)
                else:
                    self._finish(peer, task, result)
                    if result[1] != ERROR:
                        self._client.recovery.made_locked(task)
                        self._ended(task, None)
            if lease is not None:
                if task is not None and elapsed_us and task.template.timing is timing:
                    timing.took(elapsed_us / len(results))
                self._client.leasing.answered(lease, len(results))
            elif actor is not None:
                actor.answered()

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

    def _ended(self, task: PendingTask, error: Any) -> None:
        task.ended_s = monotonic()
        tally = task.template.tally
        if error is None:
            tally.finished += 1
        else:
            tally.failed += 1
            if isinstance(error, TaskCancelledError):
                tally.cancelled += 1
            else:
                tally.last_error = error
        task.payload = error
        task.strip()
        self._client.reports.ended.append(task)

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

    # -- errors -----------------------------------------------------------------------------------

    def _app_error(self, task: PendingTask, blob: bytes, *, is_cancelled: bool) -> None:
        retry = task.template.retry_exceptions
        if is_cancelled or task.is_cancelled:
            if is_cancelled:
                self.fail_cancelled(task)
            else:
                self._fail_raised(task, blob)
        elif retry and task.retries_left:
            # the class is looked up outside the lock: unpickling runs the user's code
            self._client.defer(lambda: self._retry_or_fail(task, blob, retry))
        else:
            self._fail_raised(task, blob)

    def _fail_raised(self, task: PendingTask, blob: bytes) -> None:
        """Make what its own code raised the outcome of a task; the client's lock is held."""
        self._client.failures.keep(task, blob)
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
                self._fail_raised(task, blob)

    def resubmit(self, task: PendingTask) -> None:
        """Run a task again; the client's lock is held."""
        if task.stream is not None:
            task.stream.restarted()
        task.lease = None
        if task.actor is not None:
            task.actor.requeue(task)
            return
        self._client.tasks.pending[task.number] = task
        self._client.leasing.ready(task)

    def fail(self, task: PendingTask, error: bytes | BaseException) -> None:
        """Make *error* the outcome of a task; the client's lock is held."""
        if task.ended_s:
            return
        self._client.tasks.pending.pop(task.number, None)
        objects = self._client.objects
        if task.stream is not None:
            task.stream.failed(error)
        else:
            refs = [task.refs] if isinstance(task.refs, ObjectRef) else task.refs
            for ref in refs:
                if ref._state == PENDING:
                    objects.resolve_locked(ref, ERROR, error)
        self._ended(task, error)

    def fail_cancelled(self, task: PendingTask) -> None:
        """Make a TaskCancelledError the outcome of a task; the client's lock is held."""
        self.fail(task, TaskCancelledError(self._client.task_id(task.number).hex()))

    def fail_refused(self, task: PendingTask, reason: str) -> None:
        """Fail a task that has no place to run; the client's lock is held."""
        self.fail(task, refusal_error(task.name, reason))

    def fail_by_argument(self, task: PendingTask, ref: ObjectRef[Any]) -> None:
        """An argument's error becomes the task's (the lock is held; the user's class is unpickled later)."""
        self._client.tasks.pending.pop(task.number, None)
        ref._nested = None  # it is passed on, and so not unseen

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
                failed.task_id = original.task_id
            with self._client.lock:
                self.fail(task, failed)

        self._client.defer(finish)

    def fail_with_cause(self, task: PendingTask, worker_id: bytes) -> None:
        """Fail a task once the node has told how its worker ended."""

        def told(cause: ExitCause | None) -> None:
            self.fail(task, crash_error(task.name, cause))

        if not self._client.node.connection.is_open:
            told(None)
            return
        self._client.node.request_later(messages.WHY_DIED, worker_id, callback=told)


def refusal_error(name: str, reason: str) -> RayError:
    """Return the error of a task that has no place to run."""
    if reason == GROUP_REMOVED:
        return TaskPlacementGroupRemoved(f"The task {name} cannot run: {reason}.")
    return TaskUnschedulableError(f"The task {name} cannot be scheduled: {reason}.")


def crash_error(name: str, cause: ExitCause | None) -> RayError:
    """Return the error of a task whose worker died."""
    if cause is None:
        return WorkerCrashedError(task_name=name)
    if cause.detail == GROUP_REMOVED:
        return refusal_error(name, GROUP_REMOVED)
    memory = cause.memory
    if memory is not None:
        return OutOfMemoryError(
            memory.explanation(),
            task_name=name,
            pid=cause.pid,
            worker_bytes=memory.worker_bytes,
            used_bytes=memory.used,
            total_bytes=memory.total,
            threshold=memory.threshold,
        )
    return WorkerCrashedError(
        cause.detail,
        task_name=name,
        pid=cause.pid or None,
        exit_code=cause.exit_code,
        signal=cause.signal,
        last_lines=cause.last_lines.splitlines(),
    )
