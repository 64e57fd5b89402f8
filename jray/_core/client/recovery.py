"""Owns what becomes of lost objects: another copy takes their place, or the task that made them runs again.

What is kept of a task for that, its *lineage*, is what travels with it and no object: an argument that is gone by
then is made again itself, if a task made it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jray._core.client.pending import PendingTask
from jray._core.refs import ERROR, PENDING, STORED, ObjectRef
from jray._core.specs import Location
from jray._core.wire import messages
from jray.exceptions import ObjectLostError, ObjectReconstructionFailedError, OwnerDiedError

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient
    from jray._core.client.peers import Peer

_NOT_AGAIN = "It was made by an actor, or by a task with max_retries=0: neither runs again for it."
#: of a record of a task, besides its payload: for the bound on all of them
_RECORD_BYTES = 500


class _Argument:
    """A top-level ref argument of a task that has run: the value itself if that is small."""

    __slots__ = ("made_by", "owner", "ref", "ref_id", "small")

    def __init__(self, ref: ObjectRef[Any], made_by: _Made | None) -> None:
        self.ref_id = ref._id
        self.owner = ref._owner
        #: keeps the value of a small object, which costs no more than the record
        self.small = None if ref._state == STORED else ref
        self.ref = weakref.ref(ref)
        #: keeps the lineage of a large one, and not its value
        self.made_by = made_by


class _Made:
    """How the stored results of a task were made."""

    __slots__ = (
        "arguments", "is_evicted", "number", "parent", "payload", "pins", "positions", "refs", "retries_left",
        "size", "template",
    )  # fmt: skip

    def __init__(self, task: PendingTask, refs: list[ObjectRef[Any]], arguments: list[_Argument]) -> None:
        self.number = task.number
        self.template = task.template
        self.parent = task.parent
        self.retries_left = task.retries_left
        self.positions = task.positions
        self.arguments = arguments
        payload = task.payload
        #: of large arguments the ref of their packet, weakly: it is freed with the task
        self.payload = weakref.ref(payload) if isinstance(payload, ObjectRef) else payload
        self.pins = [weakref.ref(pin) for pin in task.pins or ()]
        #: its living results, by their index
        self.refs = {index: weakref.ref(ref) for index, ref in enumerate(refs)}
        self.size = _RECORD_BYTES + (len(payload) if isinstance(payload, bytes) else 0)
        self.is_evicted = False


class Recovery:
    """Keeps lineages, and makes lost objects again.  The client's lock guards everything."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        #: by the number of the task, oldest first; as long as a result lives
        self._made: dict[int, _Made] = {}
        self._size = 0
        #: of each object of ours in a store: how it was made, or why it cannot be made again
        self._alive: dict[bytes, _Made | str] = {}

    # -- lineage ----------------------------------------------------------------------------------

    def put_locked(self, ref: ObjectRef[Any]) -> None:
        """An object of ours is in a store that no task has made."""
        self._alive[ref._id] = "PUT"

    def made_locked(self, task: PendingTask) -> None:
        """A task has ended well: if it has results in a store, remember how to make them again."""
        refs = [task.refs] if isinstance(task.refs, ObjectRef) else list(task.refs or ())
        stored = [ref for ref in refs if ref._state == STORED]
        if not stored:
            return
        if task.actor is not None or not task.template.max_retries:
            for ref in stored:
                self._alive[ref._id] = "RETRIES_DISABLED"
            return
        older = self._made.pop(task.number, None)
        if older is not None:
            self._size -= older.size
            refs = [self._kept(ref, older.refs[index]()) for index, ref in enumerate(refs)]
        found = [self._alive.get(ref._id) for ref in task.dependencies or ()]
        arguments = [
            _Argument(ref, made if isinstance(made, _Made) else None)
            for ref, made in zip(task.dependencies or (), found, strict=True)
        ]
        made = _Made(task, refs, arguments)
        self._made[task.number] = made
        self._size += made.size
        for ref in refs:
            if ref._state == STORED:
                self._alive[ref._id] = made
        if self._size > self._client.config.max_lineage_bytes:
            self._evict_half()

    def _kept(self, ref: ObjectRef[Any], living: ObjectRef[Any] | None) -> ObjectRef[Any]:
        """Return which ref a result of a task that ran again is for: *living* was not lost, but may be replaced."""
        if living is None or living is ref:
            return ref
        if living._state == STORED and ref._state == STORED and living._data.node == ref._data.node:
            living._data = ref._data  # there is one object of an id in a store, and that is the new one
            ref._tracked = False
        return living

    def dropped_locked(self, ref_id: bytes) -> None:
        """An object of ours is gone; its lineage stays as long as that of others needs it."""
        made = self._alive.pop(ref_id, None)
        if isinstance(made, _Made) and not any(entry() is not None for entry in made.refs.values()):
            self._forget(made)

    def _forget(self, made: _Made) -> None:
        if self._made.get(made.number) is made:
            del self._made[made.number]
            self._size -= made.size

    def _evict_half(self) -> None:
        """Forget the older half (Ray's rule); what is lost of it cannot be made again."""
        target = self._size // 2
        for made in list(self._made.values()):
            if self._size <= target:
                break
            self._forget(made)
            made.is_evicted = True
            made.payload, made.arguments, made.pins = None, [], []

    # -- losses -----------------------------------------------------------------------------------

    def lost(self, ref: ObjectRef[Any], place: Location, why: str) -> None:
        """The bytes of *ref* are not at *place* any more: from now on it waits for others, or is an error."""
        client = self._client
        with client.lock:
            if ref._state != STORED or ref._data != place:
                return  # somebody has found out before
            if ref._owner is None:
                self._recover_locked(ref, why)
                return
            ref._state, ref._data = PENDING, None
            try:
                peer = client.peers.get(ref._owner)
            except OSError:
                client.objects.resolve_locked(
                    ref, ERROR, OwnerDiedError(ref._id.hex(), owner_address=ref._owner)
                )
                return
            # whoever waits for the ref asks its owner again, on this same connection
            peer.connection.send((messages.LOST, ref._id, place, why))

    def on_lost(self, peer: Peer, ref_id: bytes, place: Location, why: str) -> None:  # noqa: ARG002 -- a handler
        """Who borrows an object of ours could not get its bytes."""
        ref = self._client.objects.known(ref_id)
        if ref is not None:
            self.lost(ref, place, why)

    def _recover_locked(self, ref: ObjectRef[Any], why: str) -> None:
        """Look for another copy; without one, run the task again."""
        client = self._client
        ref._state, ref._data = PENDING, None
        if not client.node.connection.is_open:
            self._give_up(ref, "REF_NOT_FOUND", why)
            return

        def told(answer: tuple[list[tuple[bytes, list[bytes]]], list[int]] | None) -> None:
            nodes = [] if answer is None else [node_id for node_id, found in answer[0] if found]
            self._adopt_locked(ref, nodes, why)

        client.node.request_later(messages.ASK, "copies", ([ref._id],), callback=told)

    def _adopt_locked(self, ref: ObjectRef[Any], nodes: list[bytes], why: str) -> None:
        """Let the copy of one node, the first of these that still has it, be the object: it is freed there alone."""
        client = self._client
        if ref._state != PENDING:
            return
        if not nodes:
            self._make_again_locked(ref, why)
            return

        def told(answer: tuple[list[tuple[bytes, dict[bytes, Location]]], list[int]] | None) -> None:
            places = [] if answer is None else [found[ref._id] for _, found in answer[0] if ref._id in found]
            if places:
                client.objects.resolve_locked(ref, STORED, places[0])
            else:
                self._adopt_locked(ref, nodes[1:], why)

        client.node.request_later(messages.ASK, "adopt", (nodes[0], [ref._id], nodes[1:]), callback=told)

    def _make_again_locked(self, ref: ObjectRef[Any], why: str) -> None:
        made = self._alive.get(ref._id)
        if made is None:
            lost = ObjectLostError(ref._id.hex(), owner_address=self._client.address)
            self._client.objects.resolve_locked(ref, ERROR, lost)
        elif isinstance(made, str):
            self._give_up(ref, made, "" if made == "PUT" else f"It was lost: {why}. {_NOT_AGAIN}")
        elif made.is_evicted:
            self._give_up(ref, "LINEAGE_EVICTED", "")
        else:
            self._run_again(made, {ref._id: ref})

    def _give_up(self, ref: ObjectRef[Any], reason: str, message: str) -> None:
        error = ObjectReconstructionFailedError(
            ref._id.hex(), reason, message or None, owner_address=self._client.address
        )
        self._client.objects.resolve_locked(ref, ERROR, error)

    def _run_again(self, made: _Made, wanted: dict[bytes, ObjectRef[Any]]) -> None:
        """Submit a task once more, for these of its results; the others are as they were."""
        client = self._client
        pending = client.tasks.pending.get(made.number)
        if pending is not None:  # another result of it was lost a moment ago
            for index, ref in enumerate(pending.refs if isinstance(pending.refs, list) else [pending.refs]):
                if ref._id in wanted and ref is not wanted[ref._id]:
                    self._replace(pending, index, wanted[ref._id])
            return
        if not made.template.max_retries or not made.retries_left:
            reason = "RETRIES_DISABLED" if not made.template.max_retries else "MAX_ATTEMPTS_EXCEEDED"
            for ref in wanted.values():
                self._give_up(ref, reason, "")
            return
        dependencies = list(self._arguments(made))
        payload = made.payload() if isinstance(made.payload, weakref.ref) else made.payload
        pins = [pin() for pin in made.pins]
        if payload is None or None in pins or None in dependencies:
            for ref in wanted.values():
                self._give_up(ref, "PUT", "An argument of its task is gone, and was made by put().")
            return
        made.retries_left -= made.retries_left > 0
        task = PendingTask(made.number, made.template, payload, made.retries_left, made.parent)
        task.positions, task.pins = made.positions, pins
        task.dependencies = [ref for ref in dependencies if ref is not None]
        refs = []
        for index in range(len(made.refs)):
            ref_id = client.object_id(made.number, index + 1)
            # of those that are not lost, and those that nobody wants any more, a ref that goes with the task
            refs.append(wanted.get(ref_id) or ObjectRef(ref_id, client, task))
        for ref in wanted.values():
            ref._data = task
        task.refs = refs[0] if made.template.num_returns == 1 else refs
        client.tasks.pending[task.number] = task
        task.template.tally.submitted += 1
        if not task.dependencies or client.tasks.wait_for_dependencies(task, client.leasing.ready):
            client.leasing.ready(task)

    def _replace(self, task: PendingTask, index: int, ref: ObjectRef[Any]) -> None:
        if isinstance(task.refs, list):
            task.refs[index] = ref
        else:
            task.refs = ref
        ref._data = task

    def _arguments(self, made: _Made) -> Iterator[ObjectRef[Any] | None]:
        """Yield refs to the arguments: to those that are gone new ones, whose tasks run again; None: it cannot be."""
        client = self._client
        for argument in made.arguments:
            ref = argument.small or argument.ref()
            if ref is None and argument.owner is None and argument.made_by is not None:
                ref = ObjectRef(argument.ref_id, client)
                self._alive[ref._id] = argument.made_by
                argument.made_by.refs[int.from_bytes(ref._id[-4:], "little") - 1] = weakref.ref(ref)
                self._make_again_locked(ref, "its node was lost")
            yield ref
