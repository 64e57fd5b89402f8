"""Owns `ObjectRefGenerator`: the refs that a streaming task yields."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from jray._core.ids import TaskID
from jray._core.refs import ObjectRef

if TYPE_CHECKING:
    import asyncio


class ItemStream(Protocol):
    """What a generator reads from; an engine's own."""

    name: str

    def has_next(self) -> bool:
        """Tell whether there is an item, or the end."""

    def when_next(self, callback: Callable[[object], None]) -> None:
        """Call `callback(None)` once there is an item or the end; may be at once, or from another thread."""

    def wait_next(self, timeout_s: float | None) -> bool:
        """Block until there is an item or the end; return whether there is."""

    def take(self) -> ObjectRef[Any] | None:
        """Return the next ref, or None at the end."""

    def end_ref(self) -> ObjectRef[Any]:
        """Return a ref that has a value once the task has ended."""

    def ready_count(self) -> int: ...

    def is_finished(self) -> bool:
        """Tell whether the end is next."""

    def task_id(self) -> bytes: ...


def settle(future: asyncio.Future[None]) -> None:
    """Resolve a future that may have been cancelled meanwhile."""
    if not future.done():
        future.set_result(None)


class ObjectRefGenerator:
    """The refs of a streaming task's items, in order; iterate over it, or `async for`.

    `next` blocks until the producer has made the next item; an exception of the producer is the last ref.
    Not thread-safe, and not picklable: its items are known to this process only.
    """

    def __init__(self, stream: ItemStream) -> None:
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
        return self._stream.is_finished()

    def task_id(self) -> TaskID:
        return TaskID(self._stream.task_id())

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
        return f"ObjectRefGenerator({self._stream.name}, {self._stream.ready_count()} ready)"


ObjectRefGenerator.__module__ = "jray"
