"""Owns the consumer's side of streaming generators: `ObjectRefGenerator` and what it reads from."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from jray._core.client.pump import Waiter
from jray._core.refs import ERROR, ObjectRef
from jray._core.wire import messages

if TYPE_CHECKING:
    import asyncio

    from jray._core.client.core import CoreClient


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
        return ObjectRefGenerator(self)

    # -- what the submitter tells, with the lock held -------------------------------------------------

    def arrived(self, index: int, ref: ObjectRef[Any]) -> None:
        if index == self._expected:  # an item seen before comes again when the task is retried
            self._expected += 1
            self._items.append(ref)

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
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter(None)

    # -- what consumers ask ---------------------------------------------------------------------------

    def has_next(self) -> bool:
        return bool(self._items) or self.is_complete

    def when_next(self, callback: Any) -> None:
        """Call `callback(None)` once there is an item or the end; the lock is held."""
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
            self.when_next(waiter.notify)
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


def settle(future: asyncio.Future[None]) -> None:
    """Resolve a future that may have been cancelled meanwhile."""
    if not future.done():
        future.set_result(None)


class ObjectRefGenerator:
    """The refs of a streaming task's items, in order; iterate over it, or `async for`.

    `next` blocks until the producer has made the next item; an exception of the producer is the last ref.
    Not thread-safe, and not picklable: its items are known to this process only.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[ObjectRef[Any]]:
        return self

    def __next__(self) -> ObjectRef[Any]:
        self._stream.wait_next(None)
        ref = self._stream.take()
        if ref is None:
            raise StopIteration
        return ref

    def _next_sync(self, timeout_s: float | None = None) -> ObjectRef[Any]:
        """Return the next ref, or a nil ref if there is none in time."""
        if not self._stream.wait_next(timeout_s):
            return ObjectRef.nil()
        return next(self)

    def __aiter__(self) -> AsyncIterator[ObjectRef[Any]]:
        return self

    async def __anext__(self) -> ObjectRef[Any]:
        stream = self._stream
        if not stream.has_next():
            import asyncio  # noqa: PLC0415 -- 25 ms; whoever awaits has loaded it

            loop = asyncio.get_running_loop()
            ready: asyncio.Future[None] = loop.create_future()

            def wake(_: object) -> None:
                loop.call_soon_threadsafe(settle, ready)

            with stream._client.lock:
                stream.when_next(wake)
            await ready
        ref = stream.take()
        if ref is None:
            raise StopAsyncIteration
        return ref

    def completed(self) -> ObjectRef[Any]:
        """Return a ref that has a value once the task has ended."""
        return self._stream.end_ref()

    def next_ready(self) -> bool:
        """Tell whether `next` would not block."""
        return self._stream.has_next()

    def is_finished(self) -> bool:
        """Tell whether `next` would raise StopIteration."""
        return self._stream.is_complete and not self._stream._items

    def task_id(self) -> Any:
        return ObjectRef(self._stream._client.object_id(self._stream.number, 1)).task_id()

    def _refuse(self, name: str) -> NoReturn:
        raise NotImplementedError(
            f"ObjectRefGenerator.{name} is not supported: the generator runs in another process."
        )

    def send(self, value: Any) -> NoReturn:  # noqa: ARG002 -- the protocol of generators
        self._refuse("send")

    def throw(self, value: Any) -> NoReturn:  # noqa: ARG002
        self._refuse("throw")

    def close(self) -> NoReturn:
        self._refuse("close")

    async def asend(self, value: Any) -> NoReturn:  # noqa: ARG002
        self._refuse("asend")

    async def athrow(self, value: Any) -> NoReturn:  # noqa: ARG002
        self._refuse("athrow")

    async def aclose(self) -> NoReturn:
        self._refuse("aclose")

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "An ObjectRefGenerator cannot be pickled: only the process that called the task can consume it. "
            "Pass the refs that it yields instead."
        )

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._stream.name}, {len(self._stream._items)} ready)"


ObjectRefGenerator.__module__ = "jray"
