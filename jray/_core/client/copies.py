"""Owns where this process reads objects that lie on other nodes: the copies that its own node has of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from jray._core.refs import ObjectRef
from jray._core.specs import Location
from jray._core.wire import messages
from jray.exceptions import GetTimeoutError, ObjectStoreFullError, OutOfDiskError, RaySystemError

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient


class ObjectLost(Exception):  # noqa: N818 -- an answer, to be handled by whoever knows what to do
    """The bytes of an object cannot be had; the text says why."""


class CopyInUse:
    """A copy that this process reads: what its views keep alive, and whose death tells the node."""

    __slots__ = ("__weakref__", "_on_end", "here", "place", "ref")

    def __init__(
        self,
        ref: ObjectRef[Any],
        place: Location,
        here: Location,
        on_end: Callable[[ObjectRef[Any]], None],
    ) -> None:
        self.ref = ref
        self.place = place  #: where the object is
        self.here = here  #: where the copy is
        self._on_end = on_end

    def __del__(self) -> None:
        self._on_end(self.ref)


class NearCopies:
    """Asks for copies, and tells the node when the last view of one is gone."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        self._in_use: WeakValueDictionary[bytes, CopyInUse] = WeakValueDictionary()
        #: what finalizers left to be told: the copies of these are read no more
        self.ended: deque[ObjectRef[Any]] = deque()

    def near(self, ref: ObjectRef[Any], place: Location, deadline: float | None) -> CopyInUse:
        """Return the copy on this node of bytes that are on another; blocks until it is there.

        Raises GetTimeoutError at *deadline*, by when the copy may still be on its way; ObjectLost if they cannot be
        had; ObjectStoreFullError and the like if they have no room here.
        """
        known = self._in_use.get(ref._id)
        if known is not None and known.place == place:
            return known
        client = self._client
        left = None if deadline is None else max(0.0, deadline - monotonic())
        kind = told = None
        try:
            answer = client.node.request_within(left, client.wait_blocking, messages.PULL, ref._id, place)
            if not answer:
                raise GetTimeoutError(
                    f"Get timed out: {ref!r} is still on its way from the node {place.node.hex()}. Get it again later."
                )
            kind, told = answer[0]
        finally:
            if kind is None:  # each pull is given back once, whatever comes of it
                client.node.tell(messages.DONE_READING, [ref._id])
        if kind == "here":
            found = CopyInUse(ref, place, told, self._note_end)
            self._in_use[ref._id] = found
            return found
        if kind == "full":
            raise ObjectStoreFullError(**told)
        if kind == "disk":
            raise OutOfDiskError(**told)
        if kind == "lost":
            raise ObjectLost(told)
        raise RaySystemError(f"the object {ref._id.hex()} cannot be brought to this node: {told}")

    def is_in_use(self, ref: ObjectRef[Any]) -> bool:
        """Tell whether this process has views of a copy of that object."""
        return ref._id in self._in_use

    def _note_end(self, ref: ObjectRef[Any]) -> None:
        # A finalizer may run anywhere, also with the lock held: leave it for housekeeping.
        self.ended.append(ref)
        self._client.pump.nudge()

    def tell_ended(self) -> None:
        """Tell the node which copies are read no more."""
        done = []
        while self.ended:
            done.append(self.ended.popleft()._id)
        if done:
            self._client.node.tell(messages.DONE_READING, done)
