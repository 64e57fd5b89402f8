"""Owns `ObjectRef`: the id of an object, who owns it, and what this process knows of its value.

In each process there is at most one `ObjectRef` per object whose id has left or entered that process,
so the local reference count is Python's own: an object is
needed here exactly as long as its `ObjectRef` lives.  What must happen when it dies is the client's.
"""

from __future__ import annotations

import os
import types
import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar

from jray._core.ids import OBJECT_ID_SIZE, TASK_ID_SIZE, JobID, TaskID
from jray.exceptions import GetTimeoutError, RaySystemError

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

T = TypeVar("T")

# What this process knows of an object's value: `_state`, with the meaning of `_data`.
PENDING = 0  #: nothing yet; `_data` is the client's record of the task that makes it, or None
ATOM = 1  #: `_data` is the value itself, of an immutable builtin type
INLINE = 2  #: `_data` is the serialized value, bytes
STORED = 3  #: `_data` is a location in a node's store (see `jray._core.specs.Location`)
ERROR = 4  #: `_data` is an exception, or the serialized exception, bytes

#: `_nested` of a failed task's ref that nobody has asked yet
UNSEEN = "unseen"


class RefFacts(NamedTuple):
    """What is known of an object in this process, without asking anybody or loading it."""

    state: str  #: "waiting", "running", "ready", "failed", "freed" or "lost"; "pending": only its owner could tell
    task: str = ""  #: name of what makes it; empty: nothing does, or that is forgotten
    cell: int = 0  #: that submitted that
    about: str = ""  #: type, dtype, shape and the like; empty: not known
    size: int | None = None  #: bytes, of a value that is serialized
    error: str = ""  #: class and first line of what failed it

    @property
    def is_pending(self) -> bool:
        return self.state in {"waiting", "running", "pending"}


class RefHome(Protocol):
    """What an `ObjectRef` asks of the client that made it."""

    def ref_dropped(self, ref_id: bytes, owner: str | None, state: int, data: Any, nested: Any) -> None: ...
    def ref_exported(self, ref: ObjectRef[Any]) -> None: ...
    def ref_from_id(self, ref_id: bytes, owner: str | None) -> ObjectRef[Any]: ...
    def ref_address(self, ref: ObjectRef[Any]) -> str: ...
    def reduce_ref(self, ref: ObjectRef[Any]) -> tuple[Any, ...]:
        """Answer `__reduce__` for a pickler that will not tell when its pickle is gone."""

    def when_ready(self, ref: ObjectRef[Any], callback: Callable[[ObjectRef[Any]], None]) -> None: ...
    def ref_value(self, ref: ObjectRef[Any]) -> Any: ...
    def ref_status(self, ref: ObjectRef[Any]) -> str:
        """Return the state of the task that makes *ref*, which has no value yet."""

    def ref_facts(self, ref: ObjectRef[Any], *, is_brief: bool = False) -> RefFacts:
        """Return what is known here of an object; *is_brief*: what costs no look into tables or values."""

    def ref_peek(self, ref: ObjectRef[Any]) -> Any:
        """Return a `jray._core.peek.Peek` at an object."""

    def wait(
        self, refs: list[Any], num_returns: int, timeout_s: float | None
    ) -> tuple[list[Any], list[Any]]: ...


class CurrentClient:
    """The one piece of global state: the client of this process, where unpickled refs find their home."""

    __slots__ = ("client", "start", "ticks")

    def __init__(self) -> None:
        self.client: Any = None
        #: see `ObjectRef.__await__`
        self.ticks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Tick] = weakref.WeakKeyDictionary()
        #: makes a client when one is needed and there is none; set by `jray.api`
        self.start: Callable[[], Any] | None = None

    def require(self) -> Any:
        """Return the client, starting a cluster if need be.  Raises RaySystemError where that is switched off."""
        if self.client is None and self.start is not None:
            self.start()
        return self.client


current = CurrentClient()

if TYPE_CHECKING:
    from typing import Generic as _Base
else:  # Generic's machinery would cost each ref a longer constructor and 16 bytes

    class _Base:
        __slots__ = ()
        __class_getitem__ = classmethod(types.GenericAlias)


class ObjectRef(_Base[T]):
    """A reference to an object that a task returns or `put` stored.

    Hashable and comparable; `await ref`, `ref.future()` and `jray.get(ref)` give the value.  The object
    lives at least as long as any reference to it, in any process.
    """

    __slots__ = (
        "__weakref__",
        "_client",
        "_data",
        "_id",
        "_nested",
        "_owner",
        "_state",
        "_tracked",
        "_waiters",
    )

    def __init__(self, ref_id: bytes, client: Any = None, data: Any = None, owner: str | None = None) -> None:
        #: whether somebody must be told when this ref dies
        self._tracked = False
        if len(ref_id) != OBJECT_ID_SIZE:
            raise ValueError(f"ID string needs to have length {OBJECT_ID_SIZE}, got {len(ref_id)}")
        self._id = ref_id
        self._client = client
        self._state = PENDING
        self._data = data
        #: address of the owner; None: this process
        self._owner = owner
        #: callables to run once the value is known; None: nobody waits
        self._waiters: list[Callable[[ObjectRef[Any]], None]] | None = None
        #: refs inside the value: they live as long as this one; of an error, UNSEEN until somebody gets it
        self._nested: Any = None

    def __del__(self) -> None:
        if self._tracked:
            self._client.ref_dropped(self._id, self._owner, self._state, self._data, self._nested)

    # -- identity ---------------------------------------------------------------------------------

    def binary(self) -> bytes:
        if self._client is not None and not self._tracked:
            self._client.ref_exported(self)
        return self._id

    def hex(self) -> str:
        return self.binary().hex()

    def __bytes__(self) -> bytes:
        return self.binary()

    def __repr__(self) -> str:
        return f"ObjectRef({self._id.hex()})"

    def is_nil(self) -> bool:
        return self._id == b"\xff" * OBJECT_ID_SIZE

    def task_id(self) -> TaskID:
        return TaskID(self._id[:TASK_ID_SIZE])

    def job_id(self) -> JobID:
        return self.task_id().job_id()

    def owner_address(self) -> str:
        """Return where the owner of this object listens."""
        return "" if self._client is None else str(self._client.ref_address(self))

    def call_site(self) -> str:
        """Return what made this object, as far as this process knows it."""
        return str(getattr(self._data, "name", "")) if self._state == PENDING else ""

    @classmethod
    def size(cls) -> int:
        """Return the number of bytes of an id."""
        return OBJECT_ID_SIZE

    @classmethod
    def nil(cls) -> Self:
        return cls(b"\xff" * OBJECT_ID_SIZE)

    @classmethod
    def from_random(cls) -> Self:
        return cls(os.urandom(OBJECT_ID_SIZE))

    @classmethod
    def from_hex(cls, text: str) -> ObjectRef[Any]:
        return cls.from_binary(bytes.fromhex(text))

    @classmethod
    def from_binary(cls, ref_id: bytes) -> ObjectRef[Any]:
        """Return this process's reference to that object, or one to an unknown object."""
        if current.client is None or len(ref_id) != OBJECT_ID_SIZE:
            return cls(ref_id)
        found: ObjectRef[Any] = current.client.ref_from_id(ref_id, None)
        return found

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ObjectRef) and other._id == self._id)

    def __hash__(self) -> int:
        return hash(self._id)

    # -- copying, pickling ------------------------------------------------------------------------

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        # by `__reduce__` it would be kept for the rest of the job
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Reached only by picklers that aren't the engine's own.
        if self._client is None:
            return ObjectRef, (self._id,)
        reduced: tuple[Any, ...] = self._client.reduce_ref(self)
        return reduced

    # -- waiting ----------------------------------------------------------------------------------

    def status(self) -> str:
        """Return what becomes of the object: "FINISHED", "FAILED", or what its task waits for, by Ray's names.

        Those are PENDING_ARGS_AVAIL, PENDING_NODE_ASSIGNMENT, SUBMITTED_TO_WORKER, RUNNING,
        PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY, and NIL where only the owner could tell.  Does not block.
        """
        if self._state == ERROR:
            return "FAILED"
        return str(self._client.ref_status(self)) if self._state == PENDING else "FINISHED"

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception that `jray.get` of this ref raises, or None; blocks until there is an outcome.

        Raises GetTimeoutError if there is none within `timeout` seconds.
        """
        ready, _ = self._client.wait([self], 1, timeout)
        if not ready:
            raise GetTimeoutError(
                f"{self!r} had no outcome within {timeout} s. The task goes on; ask again later."
            )
        try:
            self._client.ref_value(self)
        except Exception as error:  # noqa: BLE001 -- a task's error may be of any class
            return error
        return None

    def peek(self) -> Any:
        """Return a little of the value, to look at: figures, first items, a thumbnail.  Does not wait.

        A value in the store is looked at where it lies.  Of a ref without a value it says why there is none.
        """
        if self._client is None or self._client is not current.client:
            raise RaySystemError(f"{self!r} belongs to no session that runs; there is nothing to look at.")
        return self._client.ref_peek(self)

    def future(self) -> concurrent.futures.Future[Any]:
        """Return a `concurrent.futures.Future` of the value.  Cancelling it does not stop the task."""
        future: concurrent.futures.Future[Any] = _new_future()

        def finish(ref: ObjectRef[Any]) -> None:
            if future.cancelled():
                return
            failure: BaseException | None
            try:
                value = ref._client.ref_value(ref)
            except BaseException as error:  # noqa: BLE001 -- whatever it is, it is the future's outcome
                value, failure = None, error
            else:
                failure = None
            # a future cancelled meanwhile refuses the outcome, which is nobody's fault
            if not future.set_running_or_notify_cancel():
                return
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(value)

        self._client.when_ready(self, finish)
        return future

    def as_future(self) -> asyncio.Future[Any]:
        """Return an `asyncio.Future` of the value, on the running loop."""
        import asyncio  # noqa: PLC0415 -- 25 ms; whoever calls this has loaded it

        return asyncio.wrap_future(self.future())

    def _on_completed(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with the value, or with the exception, once there is one."""

        def finish(ref: ObjectRef[Any]) -> None:
            try:
                outcome = ref._client.ref_value(ref)
            except Exception as error:  # noqa: BLE001 -- a task's error may be of any class
                outcome = error
            callback(outcome)

        self._client.when_ready(self, finish)

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio  # noqa: PLC0415 -- 25 ms; whoever awaits has loaded it

        loop = asyncio.get_running_loop()
        if self._state == PENDING:
            ready: asyncio.Future[None] = loop.create_future()

            def wake() -> None:
                if not ready.done():
                    ready.set_result(None)

            def finish(_: ObjectRef[Any]) -> None:
                try:
                    loop.call_soon_threadsafe(wake)
                except RuntimeError:  # a loop closed while the task ran has nobody left to tell
                    pass

            self._client.when_ready(self, finish)
            # asyncio sees a signal only when its selector wakes, and ipykernel sets no wake-up descriptor:
            # without this tick an interrupt would be noticed when the task ends.
            tick = current.ticks.get(loop)
            if tick is None:
                tick = current.ticks[loop] = _Tick()
            tick.enter(loop)
            try:
                yield from ready
            finally:
                tick.leave()
        return self._client.ref_value(self)


class _Tick:
    """Wakes an event loop ten times a second while anything in it awaits a ref."""

    __slots__ = ("_handle", "_waiting")

    def __init__(self) -> None:
        self._waiting = 0
        self._handle: asyncio.TimerHandle | None = None

    def enter(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting += 1
        if self._handle is None:
            self._again(loop)

    def leave(self) -> None:
        self._waiting -= 1
        if not self._waiting and self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._handle = loop.call_later(0.1, self._again, loop)


def _new_future() -> concurrent.futures.Future[Any]:
    import concurrent.futures  # noqa: PLC0415 -- 6 ms of import that most programs never need

    return concurrent.futures.Future()


def restore_ref(ref_id: bytes, owner: str) -> ObjectRef[Any]:
    """Return this process's reference to an object that arrived inside a pickle."""
    if current.client is None:
        return ObjectRef(ref_id)
    found: ObjectRef[Any] = current.client.ref_from_id(ref_id, owner)
    return found


ObjectRef.__module__ = "jray"
