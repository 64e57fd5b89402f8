"""Owns the items of streaming generators on the consumer's side."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jray._core.client.pump import Waiter
from jray._core.generator import ObjectRefGenerator
from jray._core.refs import ERROR, ObjectRef
from jray._core.wire import messages

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient

#: more items than any stream has
_ALL = 1 << 62


class Stream:
    """The items of one generator task as they arrive.  The client's lock guards it."""

    __slots__ = (
        "_backpressure",
        "_client",
        "_end_ref",
        "_expected",
        "_items",
        "_taken",
        "_waiters",
        "is_complete",
        "name",
        "number",
        "task",
    )

    def __init__(self, client: CoreClient, task: Any) -> None:
        self._client = client
        #: the task while it runs; None after, or each would keep the other alive
        self.task: Any = task
        self.number: int = task.number
        self.name: str = task.name
        self._items: deque[ObjectRef[Any]] = deque()
        self._expected = 0
        self._taken = 0
        self._waiters: list[Any] = []
        self.is_complete = False
        self._end_ref: ObjectRef[Any] | None = None
        self._backpressure = getattr(task.template.wire, "backpressure", -1)

    def generator(self) -> ObjectRefGenerator:
        generator = ObjectRefGenerator(self)
        # a finalizer may run anywhere, also with the lock held: it only leaves a note
        weakref.finalize(generator, self._client.defer, self._abandoned).atexit = False
        return generator

    def _abandoned(self) -> None:
        """The consumer is gone: drop what nobody will take, and let the producer run to its end."""
        with self._client.lock:
            if self.is_complete:
                return
            dropped, self._items = self._items, deque()
            self._taken = _ALL
            if self._backpressure > 0 and self._expected:
                self._tell_taken()
        del dropped  # finalizers run without the lock

    # -- what the submitter tells, with the lock held -------------------------------------------------

    @property
    def arrived_count(self) -> int:
        """How many items have arrived, those of an attempt before counted once."""
        return self._expected

    def arrived(self, index: int, ref: ObjectRef[Any]) -> None:
        if index == self._expected:  # an item seen before comes again when the task is retried
            self._expected += 1
            if self._taken <= index:
                self._items.append(ref)
        if self._backpressure > 0 and index < self._taken:
            # a retry's producer knows nothing of what was taken from the first; nor one whose consumer has gone
            self._tell_taken()

    def restarted(self) -> None:
        """The task runs again; the items that were taken or wait here are not delivered twice."""

    def ended(self) -> None:
        self._complete()

    def failed(self, error: bytes | BaseException) -> None:
        """The error is the last item."""
        client = self._client
        ref: ObjectRef[Any] = ObjectRef(client.object_id(self.number, self._expected + 1), client)
        client.objects.resolve_locked(ref, ERROR, error)
        self._items.append(ref)
        self._complete()

    def _complete(self) -> None:
        self.is_complete = True
        self.task = None
        end, self._end_ref = self._end_ref, None
        if end is not None:
            self._client.objects.resolve_locked(end, 1, None)
        self.wake()

    def wake(self) -> None:
        if not self.has_next():  # what came was here before
            return
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter(None)

    # -- what consumers ask ---------------------------------------------------------------------------

    def has_next(self) -> bool:
        return bool(self._items) or self.is_complete

    def ready_count(self) -> int:
        return len(self._items)

    def is_finished(self) -> bool:
        return self.is_complete and not self._items

    def task_id(self) -> bytes:
        return self._client.task_id(self.number)

    def when_next(self, callback: Callable[[object], None]) -> None:
        """Call `callback(None)` once there is an item or the end; may be at once, or from another thread."""
        with self._client.lock:
            self.when_next_locked(callback)

    def when_next_locked(self, callback: Callable[[object], None]) -> None:
        if self.has_next():
            callback(None)
        else:
            self._waiters.append(callback)

    def take(self) -> ObjectRef[Any] | None:
        """Return the next ref, or None at the end."""
        with self._client.lock:
            if not self._items:
                return None
            ref = self._items.popleft()
            self._taken += 1
            if self._backpressure > 0 and not self.is_complete:
                self._tell_taken()
            return ref

    def _tell_taken(self) -> None:
        lease, actor = self.task.lease, self.task.actor
        peer = lease.peer if lease is not None else actor.peer if actor is not None else None
        if peer is not None:
            peer.connection.send((messages.CONSUMED, self.task.number, self._taken))

    def wait_next(self, timeout_s: float | None) -> bool:
        if self._items or self.is_complete:
            return True
        waiter = Waiter()
        with self._client.lock:
            self.when_next_locked(waiter.notify)
        return self._client.wait_blocking(waiter, timeout_s)

    def end_ref(self) -> ObjectRef[Any]:
        """Return a ref that has a value once the task has ended."""
        client = self._client
        with client.lock:
            ref: ObjectRef[Any]
            if self._end_ref is not None:
                return self._end_ref
            ref = ObjectRef(client.object_id(self.number, 0xFFFFFFFF), client, self.task)
            if self.is_complete:
                client.objects.resolve_locked(ref, 1, None)
            else:
                self._end_ref = ref
            return ref
