"""Owns what a client says when the store is full: which of its objects nobody reads, and that they are on disk now."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from jray._core.refs import STORED, ObjectRef
from jray._core.specs import Location
from jray._core.wire import messages

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient


class Spiller:
    """Offers the objects of this process, and takes their copies.  The client's lock guards it.

    Only objects that nobody else can be reading are offered: not those lent to other processes, nor those of tasks
    on their way, for both know where the bytes are.
    """

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        #: our objects in the store, oldest first
        self._stored: dict[bytes, weakref.ref[ObjectRef[Any]]] = {}
        #: those that are where an actor's maker said they are
        self.fixed: set[bytes] = set()

    def stored_locked(self, ref: ObjectRef[Any]) -> None:
        """An object of ours is in the store."""
        self._stored[ref._id] = weakref.ref(ref)

    def dropped_locked(self, ref_id: bytes) -> None:
        """Its ref is gone."""
        self._stored.pop(ref_id, None)
        self.fixed.discard(ref_id)

    def on_ask(self, node_id: bytes, round_: int, wanted: int) -> None:
        """Offer up to *wanted* bytes of that node's store, the oldest first."""
        client = self._client
        viewed = client.arena.viewed()
        offers = []
        size = 0
        with client.lock:
            busy = self._busy_locked()
            for ref_id, known in list(self._stored.items()):
                ref = known()
                if ref is None or ref._state != STORED:
                    continue
                location: Location = ref._data
                if location.node != node_id or location.segment < 0 or ref_id in busy or id(ref) in viewed:
                    continue
                offers.append((ref_id, location.segment, location.offset, location.size))
                size += location.size
                if size >= wanted:
                    break
        client.tell_store(node_id, messages.SPILL_OFFER, round_, offers)

    def on_move(
        self, node_id: bytes, round_: int, moves: list[tuple[int, bytes, int, int, int, int]]
    ) -> None:
        """Say that objects are on disk now, but of those that somebody may read since."""
        client = self._client
        changed: list[tuple[int, ObjectRef[Any], Location, Location]] = []
        with client.lock:
            busy = self._busy_locked()
            for place, ref_id, segment, offset, file, file_offset in moves:
                known = self._stored.get(ref_id)
                ref = known() if known is not None else None
                if ref is None or ref._state != STORED or ref_id in busy:
                    continue
                old: Location = ref._data
                if old[:3] != (node_id, segment, offset):
                    continue
                new = old._replace(segment=-file, offset=file_offset)
                ref._data = new
                changed.append((place, ref, old, new))
            # Now, and not before: who has begun to read takes no lock, but looks again once it has its view (see
            # `ObjectTable.value`): either it sees the new place, or we see its view.
            viewed = client.arena.viewed()
            taken = []
            for place, ref, old, new in changed:
                if id(ref) in viewed and ref._data is new:
                    ref._data = old
                else:
                    taken.append(place)
        client.tell_store(node_id, messages.SPILL_MOVED, round_, taken)

    def _busy_locked(self) -> set[bytes]:
        """Return the ids of objects whose place others know."""
        objects = self._client.objects
        busy = {*objects.lent_ids(), *self.fixed}
        for task in self._client.tasks.pending.values():
            place = task.actor if task.actor is not None else task.lease
            if place is None or task.number not in place.inflight:
                continue
            busy.update(ref._id for ref in task.dependencies or ())
            if isinstance(task.payload, ObjectRef):
                busy.add(task.payload._id)
        return busy
