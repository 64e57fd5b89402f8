"""Owns where this process reads objects that lie on other nodes: the copies that its own node has of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jray._core.refs import ObjectRef
from jray._core.specs import Location
from jray._core.wire import messages
from jray.exceptions import ObjectStoreFullError, OutOfDiskError, RaySystemError

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient


class ObjectLost(Exception):  # noqa: N818 -- an answer, to be handled by whoever knows what to do
    """The bytes of an object cannot be had; the text says why."""


class NearCopies:
    """Asks for copies, and gives them back once their refs are gone."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        #: object -> (where it is, where its copy is)
        self._places: dict[bytes, tuple[Location, Location]] = {}
        #: objects that we are readers of, as our node knows
        self._asked: set[bytes] = set()

    def near(self, ref: ObjectRef[Any], place: Location) -> Location:
        """Return where on this node the bytes are; blocks until they are there.

        Raises ObjectLost if they cannot be had; ObjectStoreFullError and the like if they have no room here.
        """
        known = self._places.get(ref._id)
        if known is not None and known[0] == place:
            return known[1]
        client = self._client
        # first: interrupted later, the copy is given back with the ref all the same
        self._asked.add(ref._id)
        answer = client.node.request_within(None, client.wait_blocking, messages.PULL, ref._id, place)
        kind, told = answer[0]
        if kind == "here":
            self._places[ref._id] = (place, told)
            near: Location = told
            return near
        if kind == "full":
            raise ObjectStoreFullError(**told)
        if kind == "disk":
            raise OutOfDiskError(**told)
        if kind == "lost":
            raise ObjectLost(told)
        raise RaySystemError(f"the object {ref._id.hex()} cannot be brought to this node: {told}")

    def node_gone_locked(self, node_id: bytes) -> None:
        """A node is lost: of what it had our node may have copies, but which of them are still good it must say."""
        for ref_id in [ref_id for ref_id, (place, _) in self._places.items() if place.node == node_id]:
            del self._places[ref_id]

    def dropped_locked(self, ref_ids: list[bytes]) -> None:
        """These refs are gone, and all views with them."""
        if self._asked:
            asked = self._asked.intersection(ref_ids)
            if asked:
                self._asked -= asked
                for ref_id in asked:
                    self._places.pop(ref_id, None)
                self._client.node.tell(messages.DONE_READING, list(asked))
