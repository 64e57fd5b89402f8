"""Owns the objects of this process: their values, the room they take, and which refs are known by id."""

from __future__ import annotations

import copy
import traceback
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from jray._core.client.functions import check_out_of_band
from jray._core.inline.failures import Death, Failure
from jray._core.refs import ATOM, ERROR, INLINE, PENDING, UNSEEN, ObjectRef, restore_ref
from jray._core.serialization import Serialized, deserialize, is_atom, serialize
from jray.exceptions import (
    ObjectFreedError,
    ObjectLostError,
    ObjectStoreFullError,
    RaySystemError,
    RayTaskError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jray._core.inline.core import InlineClient

ADDRESS = "inline"  #: where the owner of every object listens: nowhere

#: (state, data, refs inside): a value as a ref has it
Entry = tuple[int, Any, list[ObjectRef[Any]] | None]


class Block(bytearray):
    """The bytes of a large object; unlike `bytes` it can be watched, so that the room of a view is counted too."""

    __slots__ = ("__weakref__",)


class Objects:
    """What the refs of this session stand for."""

    def __init__(self, client: InlineClient, capacity: int) -> None:
        self._client = client
        #: bytes that large objects may take together
        self.capacity = capacity
        self._blocks: dict[int, tuple[weakref.ref[Block], int]] = {}
        self._freed: deque[int] = deque()  # a finalizer may run anywhere, so it only leaves a note
        #: refs whose ids are in some pickle, or in the user's hands
        self._known: weakref.WeakValueDictionary[bytes, ObjectRef[Any]] = weakref.WeakValueDictionary()
        #: refs in pickles that nobody will account for
        self._pinned: dict[bytes, ObjectRef[Any]] = {}
        #: how many errors there have been: who waits for several refs looks for one when this has grown
        self.failures = 0
        #: called with the ids of refs that died, in their finalizers
        self.on_dropped: Callable[[], None] = lambda: None
        #: (id, nested, data) of dead refs that somebody wants to know of
        self.dropped: deque[tuple[bytes, Any, Any]] = deque()

    # -- making -----------------------------------------------------------------------------------

    def new_ref(self, ref_id: bytes, data: Any = None) -> ObjectRef[Any]:
        return ObjectRef(ref_id, self._client, data)

    def put(self, ref_id: bytes, value: Any) -> ObjectRef[Any]:
        """Keep a copy of *value*.  Raises TypeError if it cannot be pickled, ObjectStoreFullError for want of room."""
        ref = self.new_ref(ref_id)
        ref._state, ref._data, ref._nested = self.entry(value)
        return ref

    def entry(self, value: Any) -> Entry:
        """Return a copy of *value* as a ref has it; raises as `put` does."""
        if is_atom(value):
            return ATOM, value, None
        serialized = serialize(value)
        return INLINE, self.store(serialized), serialized.refs or None

    def store(self, serialized: Serialized) -> bytes | Block:
        """Return the bytes of a value, counted if they are many."""
        size = serialized.size
        if size <= self._client.config.inline_limit_bytes:
            return serialized.to_bytes()
        free = self.capacity - self.used_bytes()
        if size > free:
            raise ObjectStoreFullError(needed_bytes=size, free_bytes=free, capacity_bytes=self.capacity)
        block = Block(size)
        for offset, part in serialized.parts():
            block[offset : offset + len(part)] = part
        number = id(block)
        freed = self._freed
        self._blocks[number] = (weakref.ref(block, lambda _: freed.append(number)), size)
        return block

    def used_bytes(self) -> int:
        """Return the room that large objects take, and arrays that look at their bytes."""
        self._count_freed()
        return sum(size for _, size in list(self._blocks.values()))

    def _count_freed(self) -> None:
        while self._freed:
            number = self._freed.popleft()
            known = self._blocks.get(number)
            # another block may have come to be at the same address since
            if known is not None and known[0]() is None:
                del self._blocks[number]

    # -- values -----------------------------------------------------------------------------------

    def value(self, ref: ObjectRef[Any]) -> Any:
        """Return the value of a ref that has one, or raise its error."""
        if ref._state == ATOM:
            return ref._data
        if ref._state == INLINE:
            try:
                return deserialize(ref._data)
            except Exception as error:
                raise RaySystemError(
                    f"the object {ref._id.hex()} cannot be deserialized here: {type(error).__name__}: {error}",
                    traceback.format_exc(),
                ) from error
        raise self.error(ref)

    def error(self, ref: ObjectRef[Any]) -> BaseException:
        """Return the exception that `get` of this failed ref raises."""
        data = ref._data
        ref._nested = None
        if isinstance(data, Failure | Death):
            return data.exception()
        assert isinstance(data, BaseException)
        # a copy: raised itself, it would keep the frames of who raised it for as long as the ref lives
        error = copy.copy(data)
        return error.as_instanceof_cause() if isinstance(error, RayTaskError) else error

    def resolve(self, ref: ObjectRef[Any], entry: Entry) -> None:
        """Give *ref* its value and wake those who wait for it; nothing happens if it has one."""
        with self._client.lock:
            if ref._state != PENDING:
                return
            state, data, nested = entry
            ref._data, ref._nested = data, nested
            if isinstance(data, Failure):
                ref._tracked = True
                ref._nested = UNSEEN
            ref._state = state
            self.failures += state == ERROR
            waiters, ref._waiters = ref._waiters or (), None
            self._client.changed.notify_all()
        for waiter in waiters:
            waiter(ref)

    def free(self, refs: Iterable[ObjectRef[Any]]) -> None:
        """Drop the values of objects whoever refers to them: getting them raises ObjectFreedError from now on."""
        with self._client.lock:
            for ref in refs:
                if ref._state in {ATOM, INLINE}:
                    self.failures += 1
                    ref._state, ref._nested = ERROR, None
                    ref._data = ObjectFreedError(ref._id.hex(), owner_address=ADDRESS)

    def lose(self, ref: ObjectRef[Any], error: BaseException) -> None:
        """Take the value of *ref* away, for its owner is dead."""
        self.resolve(ref, (ERROR, error, None))
        with self._client.lock:
            self.failures += 1
            ref._state, ref._data, ref._nested = ERROR, error, None

    def when_ready(self, ref: ObjectRef[Any], callback: Callable[[ObjectRef[Any]], None]) -> bool:
        """Call `callback(ref)` once *ref* has a value or an error; return whether that was at once."""
        with self._client.lock:
            if ref._state == PENDING:
                ref._waiters = [*(ref._waiters or ()), callback]
                return False
        callback(ref)
        return True

    # -- refs that travel ---------------------------------------------------------------------------

    def exported(self, ref: ObjectRef[Any]) -> None:
        """Somebody will know this ref by its id."""
        self._known[ref._id] = ref
        ref._tracked = True

    def reduce(self, ref: ObjectRef[Any]) -> tuple[Any, ...]:
        # nobody will tell when that pickle is gone, so the object is kept for the rest of the session
        check_out_of_band(ref, self._client.config)
        self.exported(ref)
        self._pinned[ref._id] = ref
        return restore_ref, (ref._id, ADDRESS)

    def ref_from_id(self, ref_id: bytes) -> ObjectRef[Any]:
        """Return the ref with that id; to an object that is lost, if there is none any more."""
        known = self._known.get(ref_id)
        if known is not None:
            return known
        ref = self.new_ref(ref_id, ObjectLostError(ref_id.hex()))
        ref._state = ERROR
        return ref

    def forget(self) -> None:
        """Let go of what is kept for pickles."""
        self._pinned.clear()
        self._known.clear()

    def ref_dropped(self, ref_id: bytes, data: Any, nested: Any) -> None:
        self.dropped.append((ref_id, nested, data))
        self.on_dropped()
