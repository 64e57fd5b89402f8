"""Owns the objects of this process: their values, who else holds them, and those borrowed from others.

The client's lock guards everything here; the names of methods that take it themselves don't end in
`_locked`.
"""

from __future__ import annotations

import weakref
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jray._core.client.copies import NearCopies, ObjectLost
from jray._core.client.pump import Waiter
from jray._core.machine.borrows import Borrows
from jray._core.refs import ATOM, ERROR, INLINE, PENDING, STORED, UNSEEN, ObjectRef
from jray._core.serialization import Serialized, deserialize, is_atom, serialize
from jray._core.sketch import describe
from jray._core.specs import Location
from jray._core.wire import messages
from jray.exceptions import (
    ObjectFreedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    OwnerDiedError,
    RayError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)

if TYPE_CHECKING:
    from jray._core.client.core import Alarm, CoreClient
    from jray._core.client.peers import Peer


class ObjectTable:
    """What this client owns and borrows."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        #: refs whose ids other processes know, or that came from others; see `jray._core.refs`
        self._known: dict[bytes, weakref.ref[ObjectRef[Any]]] = {}
        self._borrows = Borrows()
        #: our objects that somebody borrows
        self._lent: dict[bytes, ObjectRef[Any]] = {}
        #: refs in pickles that nobody will account for
        self._pinned: dict[bytes, ObjectRef[Any]] = {}
        #: what finalizers left to be done: (id, owner, state, data, nested) of dead refs
        self.dropped: deque[tuple[bytes, str | None, int, Any, Any]] = deque()
        #: borrows not yet told to their owner: owner -> id -> how many
        self._untold: dict[str, dict[bytes, int]] = {}
        #: borrowed objects whose owner died while we held them
        self._orphaned: set[bytes] = set()
        #: objects freed by hand whose bytes somebody still looks at: they go with their refs
        #: with the node where they are
        self._freed: dict[bytes, bytes] = {}
        self.copies = NearCopies(client)
        #: of those that wait for several refs: told of every error
        self.alarms: list[Alarm] = []
        self._borrow_tokens = 0
        self._borrow_waiters: dict[int, Waiter] = {}
        #: our actors whose lifetime is that of the object that stands for them
        self.actor_of: dict[bytes, bytes] = {}

    # -- making -----------------------------------------------------------------------------------

    def put(self, value: Any) -> ObjectRef[Any]:
        """Keep a copy of *value*; blocks while large bytes are written.

        Raises TypeError if it cannot be pickled, ObjectStoreFullError if it fits nowhere.
        """
        client = self._client
        ref: ObjectRef[Any] = ObjectRef(client.next_object_id(), client)
        if is_atom(value):
            ref._state, ref._data = ATOM, value
            return ref
        return self._keep(ref, serialize(value), value)

    def put_serialized(self, serialized: Serialized) -> ObjectRef[Any]:
        return self._keep(ObjectRef(self._client.next_object_id(), self._client), serialized)

    def _keep(self, ref: ObjectRef[Any], serialized: Serialized, value: Any = None) -> ObjectRef[Any]:
        ref._nested = serialized.refs or None
        if serialized.size <= self._client.config.inline_limit_bytes:
            ref._state, ref._data = INLINE, serialized.to_bytes()
            return ref
        about = "" if value is None else describe(value)
        location = self.write_stored(ref._id, serialized, self._client.number, about)
        ref._tracked = True
        with self._client.lock:
            ref._state, ref._data = STORED, location
            self._client.spiller.stored_locked(ref)
            self._client.recovery.put_locked(ref)
        return ref

    def write_stored(self, ref_id: bytes, serialized: Serialized, owner: int, about: str) -> Location:
        """Write a value into this node's store, sealed for the client numbered *owner*; `about` describes it."""
        client = self._client
        try:
            kind, answer = client.node.request(messages.CREATE, ref_id, serialized.size)
            if kind == "block":
                client.arena.write(answer, serialized.parts())
        except OSError as error:
            client.node.tell(messages.ABORT, ref_id)
            raise ObjectStoreFullError(needed_bytes=serialized.size) from error
        except BaseException:  # an interrupt, above all: nobody else would give the block back
            client.node.tell(messages.ABORT, ref_id)
            raise
        if kind == "full":
            raise ObjectStoreFullError(**answer)
        if kind == "disk":
            raise OutOfDiskError(**answer)
        if kind == "failed":
            raise RaySystemError(f"the store could not make room for {serialized.size} bytes: {answer}")
        client.node.tell(messages.SEAL, ref_id, owner)
        return Location(client.node_id, answer.segment, answer.offset, answer.size, about)

    # -- values -----------------------------------------------------------------------------------

    def value(self, ref: ObjectRef[Any], deadline: float | None = None) -> Any:
        """Return the value of a ref that has one, or raise its error.

        Takes no lock where the bytes are on this node; else blocks until they are, or until a lost object is there
        again; GetTimeoutError if that takes longer than until *deadline*.
        """
        state, data = ref._state, ref._data
        if state == ATOM:
            return data
        if state == INLINE:
            return self._load(ref, data)
        client = self._client
        while state in (STORED, PENDING):
            if state == PENDING:
                client.wait_value(ref, deadline)
            elif data[0] != client.node_id:
                try:
                    copy = self.copies.near(ref, data, deadline)
                    return self._load(ref, client.arena.read(*copy.here[1:4], copy))
                except ObjectLost as lost:
                    client.recovery.lost(ref, data, str(lost))
            else:
                _, segment, offset, size, _ = data
                try:
                    view = client.arena.read(segment, offset, size, ref)
                except OSError:
                    if ref._data is data:
                        raise
                # it may have been moved to disk before there was a view to keep it (see `Spiller.on_move`)
                if ref._data is data:
                    return self._load(ref, view)
            state, data = ref._state, ref._data
        if state in (INLINE, ATOM):  # a lost object whose task was run again
            return self.value(ref, deadline)
        raise self.error(ref)

    def _load(self, ref: ObjectRef[Any], data: bytes | memoryview) -> Any:
        try:
            return deserialize(data)
        except Exception as error:
            import traceback  # noqa: PLC0415 -- only here

            raise RaySystemError(
                f"the object {ref._id.hex()} cannot be deserialized here: {type(error).__name__}: {error}",
                traceback.format_exc(),
            ) from error

    def error(self, ref: ObjectRef[Any]) -> BaseException:
        """Return the exception that `get` of this failed ref raises."""
        data = ref._data
        ref._nested = None
        if isinstance(data, bytes):
            try:
                data = deserialize(data)
            except Exception as error:  # noqa: BLE001 -- whatever a user's class raises
                return RaySystemError(f"the exception of a task cannot be deserialized here: {error!r}")
        if isinstance(data, RayTaskError):
            return data.as_instanceof_cause()
        assert isinstance(data, BaseException)
        return data.with_traceback(None)

    def resolve_locked(self, ref: ObjectRef[Any], state: int, data: Any) -> None:
        """Give *ref* its value and wake those who wait for it."""
        ref._state = state
        ref._data = data
        if state == STORED:
            ref._tracked = True
            if ref._owner is None:
                self._client.spiller.stored_locked(ref)
        elif (
            state == ERROR
            and ref._owner is None
            and (type(data) is bytes or type(data) is WorkerCrashedError)
        ):
            ref._tracked = True
            ref._nested = UNSEEN
        waiters = ref._waiters
        if waiters is not None:
            ref._waiters = None
            for waiter in waiters:
                waiter(ref)
        if state == ERROR:
            for alarm in self.alarms:
                alarm.failed_locked(ref)

    def free(self, refs: Iterable[ObjectRef[Any]]) -> None:
        """Drop the values of objects whoever refers to them; getting them raises ObjectFreedError from now on.

        Refs without a value, and those that another process owns, stay as they are.  Bytes that are looked at, were
        lent or wait to be an argument go later, with the last ref.
        """
        client = self._client
        viewed = client.arena.viewed()
        with client.lock:
            needed = {id(ref) for task in client.tasks.pending.values() for ref in task.dependencies or ()}
            gone: defaultdict[bytes, list[bytes]] = defaultdict(list)
            for ref in refs:
                if ref._owner is not None or ref._state not in {ATOM, INLINE, STORED}:
                    continue
                if ref._state == STORED:
                    is_read = id(ref) in viewed or self.copies.is_in_use(ref)
                    if is_read or id(ref) in needed or ref._id in self._lent:
                        self._freed[ref._id] = ref._data.node
                    else:
                        gone[ref._data.node].append(ref._id)
                ref._nested = None
                ref._state, ref._data = ERROR, ObjectFreedError(ref._id.hex(), owner_address=client.address)
            self._tell_freed(gone)

    def _tell_freed(self, freed: Mapping[bytes, list[bytes]]) -> None:
        """Tell nodes, by their ids, that nobody needs these objects any more."""
        client = self._client
        for node_id, ref_ids in freed.items():
            client.tell_store(node_id, messages.FREE, ref_ids)

    # -- refs that travel -------------------------------------------------------------------------

    def exported(self, ref: ObjectRef[Any]) -> None:
        """Another process will know this ref's id."""
        if ref._id not in self._known:
            self._known[ref._id] = weakref.ref(ref)
        ref._tracked = True

    def pin_forever(self, ref: ObjectRef[Any]) -> None:
        self._pinned[ref._id] = ref

    def known(self, ref_id: bytes) -> ObjectRef[Any] | None:
        """Return this process's ref to that object, if another process may know of it."""
        with self._client.lock:
            found = self._known.get(ref_id)
            return found() if found is not None else None

    def ref_from_id(self, ref_id: bytes, owner: str | None) -> ObjectRef[Any]:
        with self._client.lock:
            return self.ref_from_id_locked(ref_id, owner)

    def ref_from_id_locked(self, ref_id: bytes, owner: str | None) -> ObjectRef[Any]:
        """Return this process's ref to that object, borrowing it from *owner* if it is new here."""
        known = self._known.get(ref_id)
        ref = known() if known is not None else None
        if ref is not None:
            return ref
        client = self._client
        ref = ObjectRef(ref_id, client, None, owner)
        if owner is None or owner == client.address:
            ref._owner = None
            ref._state = ERROR
            ref._data = ObjectLostError(ref_id.hex())
            return ref
        ref._tracked = True
        self._known[ref_id] = weakref.ref(ref)
        counts = self._untold.setdefault(owner, {})
        counts[ref_id] = counts.get(ref_id, 0) + 1
        return ref

    def adopt_locked(self, nested: Iterable[tuple[bytes, str]]) -> list[ObjectRef[Any]]:
        """Return refs to the objects inside a value that arrived."""
        return [self.ref_from_id_locked(ref_id, owner) for ref_id, owner in nested]

    def nested_ids(self, refs: Iterable[ObjectRef[Any]]) -> list[tuple[bytes, str]]:
        return [(ref._id, self._client.ref_address(ref)) for ref in refs]

    # -- borrowing ----------------------------------------------------------------------------------

    def tell_borrows_locked(self, through: Peer | None = None) -> list[Waiter]:
        """Tell owners what was borrowed since the last time.

        What *through* owns is told on that very connection, so that it arrives before whatever is sent on
        it next.  For each other owner a waiter is returned that is done once the owner has answered.
        """
        if not self._untold:
            return []
        untold, self._untold = self._untold, {}
        waiters: list[Waiter] = []
        for owner, counts in untold.items():
            ids = [ref_id for ref_id, count in counts.items() for _ in range(count)]
            if not ids:
                continue
            if through is not None and through.address == owner:
                through.connection.send((messages.BORROW, ids, None))
                continue
            self._borrow_tokens += 1
            try:
                peer = self._client.peers.get(owner)
            except OSError:
                self._lost_owner_locked(owner)
                continue
            waiter = self._borrow_waiters[self._borrow_tokens] = Waiter()
            waiters.append(waiter)
            peer.connection.send((messages.BORROW, ids, self._borrow_tokens))
        return waiters

    def settle_borrows(self, through: Peer | None = None) -> None:
        """Tell owners what was borrowed, and block until those reached by another way have answered."""
        if not self._untold:
            return
        with self._client.lock:
            waiters = self.tell_borrows_locked(through)
        for waiter in waiters:
            self._client.pump.wait(waiter, 10.0)

    def on_borrow(self, peer: Peer, ref_ids: list[bytes], token: int | None) -> None:
        with self._client.lock:
            self._borrows.add(peer.address, ref_ids)
            for ref_id in ref_ids:
                known = self._known.get(ref_id)
                ref = known() if known is not None else None
                if ref is not None:
                    self._lent[ref_id] = ref
            if token is not None:
                peer.connection.send((messages.BORROWED, token))

    def on_borrowed(self, token: int) -> None:
        with self._client.lock:
            waiter = self._borrow_waiters.pop(token, None)
            if waiter is not None:
                waiter.notify()

    def on_release(self, peer: Peer, ref_ids: list[bytes]) -> None:
        with self._client.lock:
            gone = [self._lent.pop(ref_id, None) for ref_id in self._borrows.release(peer.address, ref_ids)]
        del gone  # their finalizers run without the lock

    def want_locked(self, ref: ObjectRef[Any]) -> None:
        """Ask the owner of a borrowed ref for its value, once."""
        if ref._data is not None or ref._owner is None:
            return
        try:
            self.tell_borrows_locked()
            peer = self._client.peers.get(ref._owner)
        except OSError:
            self._lost_owner_locked(ref._owner)
            return
        peer.connection.send((messages.WANT, ref._id))
        # last: interrupted before, it is asked again, and a second answer does no harm
        ref._data = _ASKED

    def on_want(self, peer: Peer, ref_id: bytes) -> None:
        with self._client.lock:
            known = self._known.get(ref_id)
            ref = known() if known is not None else None
            if ref is None:
                lost = ObjectLostError(ref_id.hex(), owner_address=self._client.address)
                peer.connection.send((messages.VALUE, ref_id, ERROR, self._client.dump_error(lost)))
                return

            def answer(ready: ObjectRef[Any]) -> None:
                data = ready._data
                if ready._state == ERROR and not isinstance(data, bytes):
                    # as bytes: a class of the user's can be read there only by the pickle that carries it
                    data = self._client.dump_error(data)
                peer.connection.send((messages.VALUE, ready._id, ready._state, data))

            self.when_ready_locked(ref, answer)

    def on_value(self, ref_id: bytes, state: int, data: Any) -> None:
        with self._client.lock:
            known = self._known.get(ref_id)
            ref = known() if known is not None else None
            if ref is not None and ref._state == PENDING:
                self.resolve_locked(ref, state, data)

    def when_ready_locked(self, ref: ObjectRef[Any], callback: Any) -> None:
        """Call `callback(ref)`, with the lock held, once *ref* has a value or an error."""
        if ref._state != PENDING:
            callback(ref)
            return
        if ref._waiters is None:
            ref._waiters = [callback]
        else:
            ref._waiters.append(callback)
        if ref._owner is not None:
            self.want_locked(ref)

    # -- deaths -----------------------------------------------------------------------------------

    def drain_dropped(self) -> None:
        """Do what the finalizers of refs left to be done."""
        freed: defaultdict[bytes, list[bytes]] = defaultdict(list)
        orphans: list[bytes] = []
        released: dict[str, list[bytes]] = defaultdict(list)
        with self._client.lock:
            while self.dropped:
                ref_id, owner, state, data, nested = self.dropped.popleft()
                if nested is UNSEEN:
                    self._client.tell_unhandled(data)
                known = self._known.get(ref_id)
                if known is not None and known() is None:
                    del self._known[ref_id]
                self._client.spiller.dropped_locked(ref_id)
                if owner is None:
                    self._client.recovery.dropped_locked(ref_id)
                if ref_id in self._orphaned:
                    self._orphaned.discard(ref_id)
                    orphans.append(ref_id)
                elif owner is not None:
                    untold = self._untold.get(owner)
                    if untold is not None and untold.get(ref_id):
                        untold[ref_id] -= 1  # the owner never heard of it
                    else:
                        released[owner].append(ref_id)
                elif state == STORED:
                    freed[data.node].append(ref_id)
                elif ref_id in self._freed:
                    freed[self._freed.pop(ref_id)].append(ref_id)
                if ref_id in self.actor_of:
                    self._client.node.tell(messages.ACTOR_RELEASED, self.actor_of.pop(ref_id))
            if orphans:
                self._client.node.tell(messages.DROPPED, orphans)
            self._tell_freed(freed)
            if released:
                self._release_locked(released)

    def _release_locked(self, released: dict[str, list[bytes]]) -> None:
        """Tell owners what we hold no more, but not before they know what we hold since.

        An object that is released may be all that keeps a ref alive which we have just read from it.
        """
        waiters = self.tell_borrows_locked()

        def release() -> None:
            for waiter in waiters:
                self._client.pump.wait(waiter, 10.0)
            with self._client.lock:
                for owner, ids in released.items():
                    peer = self._client.peers.find(owner)
                    if peer is not None:
                        peer.connection.send((messages.RELEASE, ids))

        self._client.defer(release)

    def peer_gone(self, peer: Peer) -> None:
        """A process died: what it borrowed is free, what it owned is lost."""
        with self._client.lock:
            gone = [self._lent.pop(ref_id, None) for ref_id in self._borrows.gone(peer.address)]
            self._lost_owner_locked(peer.address)
        del gone

    def on_client_gone(self, address: str, number: int) -> None:
        """A process died: what it owned can't be got any more, and the node must know what we look at."""
        with self._client.lock:
            held = []
            for known in list(self._known.values()):
                ref = known()
                if ref is not None and ref._owner == address and ref._state in (STORED, PENDING):
                    if ref._state == STORED:
                        held.append(ref._id)
                        self._orphaned.add(ref._id)
                    self.resolve_locked(ref, ERROR, OwnerDiedError(ref._id.hex(), owner_address=address))
            self._client.node.tell(messages.HOLDS, number, held)

    def _lost_owner_locked(self, owner: str) -> None:
        for known in list(self._known.values()):
            ref = known()
            if ref is not None and ref._owner == owner and ref._state == PENDING:
                self.resolve_locked(ref, ERROR, OwnerDiedError(ref._id.hex(), owner_address=owner))

    def lent_ids(self) -> Iterable[bytes]:
        """Return the ids of our objects that other processes hold; the lock is held."""
        return self._lent.keys()

    def is_needed(self) -> bool:
        """Tell whether other processes may still ask for our objects."""
        return bool(self._lent or self._pinned)

    def statistics(self) -> dict[str, int]:
        return {"known": len(self._known), "lent": len(self._lent), "pinned": len(self._pinned)}


#: `_data` of a borrowed ref whose owner was asked
_ASKED = RayError("asked")
