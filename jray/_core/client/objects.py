"""Owns the objects of this process: their values, who else holds them, and those borrowed from others.

The client's lock guards everything here; the names of methods that take it themselves don't end in
`_locked`.
"""

from __future__ import annotations

import copy
import weakref
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jray._core.client.copies import NearCopies, ObjectLost
from jray._core.client.pump import Waiter
from jray._core.frontend import get_frontend
from jray._core.machine.borrows import Borrows
from jray._core.refs import ATOM, ERROR, INLINE, PENDING, STORED, UNSEEN, ObjectRef
from jray._core.serialization import Serialized, deserialize, is_atom, serialize
from jray._core.sites import Made, here
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

#: what is on its way from a dead process arrives before so many others have died
_MOST_DEAD = 1000


class ObjectTable:
    """What this client owns and borrows."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        self._reached = client.faults.reached
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
        #: addresses of processes that died lately, oldest first; no other gets one of them again
        self._dead: dict[str, None] = {}
        #: objects freed by hand whose bytes somebody still looks at: they go with their refs
        #: with the node where they are
        self._freed: dict[bytes, bytes] = {}
        self.copies = NearCopies(client)
        #: objects of ours whose makers died, or failed, perhaps after they had stored them
        self._forgotten: defaultdict[bytes, list[bytes]] = defaultdict(list)
        #: of those that wait for several refs: told of every error
        self.alarms: list[Alarm] = []
        self._borrow_tokens = 0
        #: who wait for an owner's answer, by token, with the owner
        self._borrow_waiters: dict[int, tuple[str, Waiter]] = {}
        #: by which connection owners were told of borrows, in turn, where it was not the one we mostly use
        self._told_through: dict[bytes, deque[Peer]] = {}
        #: what made our objects in the store
        self.made: dict[bytes, Made] = {}
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
        return self._keep(ref, serialize(value), "jray.put", value)

    def put_serialized(self, serialized: Serialized) -> ObjectRef[Any]:
        """Keep a call's arguments, which are too many bytes to ride in it."""
        ref: ObjectRef[Any] = ObjectRef(self._client.next_object_id(), self._client)
        return self._keep(ref, serialized, "arguments of a call")

    def _keep(
        self, ref: ObjectRef[Any], serialized: Serialized, what: str, value: Any = None
    ) -> ObjectRef[Any]:
        ref._nested = serialized.refs or None
        if serialized.size <= self._client.config.inline_limit_bytes:
            ref._state, ref._data = INLINE, serialized.to_bytes()
            return ref
        about = "" if value is None else describe(value)
        location = self.write_stored(ref._id, serialized, self._client.number, about)
        ref._tracked = True
        made = Made(what, get_frontend().cell, here())
        with self._client.lock:
            ref._state, ref._data = STORED, location
            self.made[ref._id] = made
            self._client.spiller.stored_locked(ref)
            self._client.recovery.put_locked(ref)
        return ref

    def write_stored(self, ref_id: bytes, serialized: Serialized, owner: int, about: str) -> Location:
        """Write a value into this node's store, sealed for the client numbered *owner*; `about` describes it."""
        client = self._client
        self._reached("put.begin")
        try:
            kind, answer = client.node.request(messages.CREATE, ref_id, serialized.size)
            if kind == "block":
                self._reached("put.created")
                client.arena.write(answer, serialized.parts())
                self._reached("put.written")
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
        self._reached("put.sealed")
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
                    self._reached("get.mapped")
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
        # Another each time: raised, it refers to the frames it came through, and these to the ref, which keeps this one.
        fresh = copy.copy(data)
        fresh.__cause__ = data.__cause__
        return fresh

    def resolve_locked(self, ref: ObjectRef[Any], state: int, data: Any) -> None:
        """Give *ref* its value and wake those who wait for it."""
        task = ref._data
        ref._state = state
        ref._data = data
        if state == STORED:
            ref._tracked = True
            if ref._owner is None:
                if task is not None:
                    self.made[ref._id] = Made(task.name, task.template.wire.cell, task.site)
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
            self._reached("free.told")

    def forget_locked(self, ref_ids: Iterable[bytes], node_id: bytes | None = None) -> None:
        """Free what may be in a node's store under these ids of ours, and what nobody will ever tell of.

        None: our own node's, for who died has not said where he was; elsewhere it goes with us.
        """
        if not self._forgotten:
            self._client.defer(self._free_forgotten)
        self._forgotten[node_id or self._client.node_id] += ref_ids

    def _free_forgotten(self) -> None:
        with self._client.lock:
            forgotten, self._forgotten = self._forgotten, defaultdict(list)
        self._tell_freed(forgotten)

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
        if owner in self._dead:
            # it was on its way: the node has been told that we do not look at it, and may have freed it
            ref._state = ERROR
            ref._data = OwnerDiedError(ref_id.hex(), owner_address=owner)
            return ref
        ref._tracked = True
        self._known[ref_id] = weakref.ref(ref)
        counts = self._untold.setdefault(owner, {})
        counts[ref_id] = counts.get(ref_id, 0) + 1
        self._reached("pass.received")
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
                self._note_way_locked(ids, through)
                self._reached("pass.told")
                continue
            self._borrow_tokens += 1
            try:
                peer = self._client.peers.get(owner)
            except OSError:
                self._lost_owner_locked(owner)
                continue
            if not peer.connection.send((messages.BORROW, ids, self._borrow_tokens)):
                self._lost_owner_locked(owner)
                continue
            waiter = Waiter()
            self._borrow_waiters[self._borrow_tokens] = owner, waiter
            waiters.append(waiter)
            self._note_way_locked(ids, peer)
            self._reached("pass.told")
        return waiters

    def _note_way_locked(self, ref_ids: list[bytes], peer: Peer) -> None:
        """Remember by which connection an owner was told, for it must be told there that we let go.

        Two processes that call each other at once have two connections, and what is said on one may overtake what was
        said on the other.
        """
        is_usual = self._client.peers.find(peer.address) is peer
        if is_usual and not self._told_through:
            return
        for ref_id in ref_ids:
            if not is_usual or ref_id in self._told_through:
                self._told_through.setdefault(ref_id, deque()).append(peer)

    def _way_back_locked(self, ref_id: bytes, owner: str) -> Peer | None:
        """Return by which connection to tell an owner that we let go of an object; None: the owner is gone."""
        ways = self._told_through.get(ref_id)
        if not ways:
            return self._client.peers.find(owner)
        way = ways.popleft()
        if not ways:
            del self._told_through[ref_id]
        return way

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
            self._reached("pass.lent")
            if token is not None:
                peer.connection.send((messages.BORROWED, token))

    def on_borrowed(self, token: int) -> None:
        with self._client.lock:
            _, waiter = self._borrow_waiters.pop(token, ("", None))
            if waiter is not None:
                waiter.notify()
        self._reached("pass.settled")

    def on_release(self, peer: Peer, ref_ids: list[bytes]) -> None:
        with self._client.lock:
            gone = [self._lent.pop(ref_id, None) for ref_id in self._borrows.release(peer.address, ref_ids)]
        self._reached("free.returned")
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
        self._reached("get.wanted")
        # last: interrupted before, it is asked again, and a second answer does no harm
        ref._data = _ASKED

    def on_want(self, peer: Peer, ref_id: bytes) -> None:
        self._reached("get.asked")
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
                self._reached("get.answered")

            self.when_ready_locked(ref, answer)

    def on_value(self, ref_id: bytes, state: int, data: Any) -> None:
        self._reached("get.told")
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
        self._reached("free.begin")
        with self._client.lock:
            while self.dropped:
                ref_id, owner, state, data, nested = self.dropped.popleft()
                if nested is UNSEEN:
                    self._client.tell_unhandled(data)
                known = self._known.get(ref_id)
                if known is not None and known() is None:
                    del self._known[ref_id]
                self._client.spiller.dropped_locked(ref_id)
                self.made.pop(ref_id, None)
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
                self._reached("death.dropped")
            self._tell_freed(freed)
            if released:
                self._release_locked(released)

    def _release_locked(self, released: dict[str, list[bytes]]) -> None:
        """Tell owners what we hold no more, but not before they know what we hold since.

        An object that is released may be all that keeps a ref alive which we have just read from it.
        """
        waiters = self.tell_borrows_locked()
        by_way: dict[Peer, list[bytes]] = defaultdict(list)
        for owner, ids in released.items():
            for ref_id in ids:
                way = self._way_back_locked(ref_id, owner)
                if way is not None:
                    by_way[way].append(ref_id)

        def release() -> None:
            for waiter in waiters:
                self._client.pump.wait(waiter, 10.0)
            self._reached("free.releasing")
            for peer, ids in by_way.items():
                peer.connection.send((messages.RELEASE, ids))
                self._reached("free.released")

        self._client.defer(release)

    def peer_gone(self, peer: Peer) -> None:
        """A process died: what it borrowed is free, what it owned is lost."""
        with self._client.lock:
            gone = [self._lent.pop(ref_id, None) for ref_id in self._borrows.gone(peer.address)]
            self._lost_owner_locked(peer.address)
            for token, (owner, waiter) in list(self._borrow_waiters.items()):
                if owner == peer.address:  # it will not answer
                    del self._borrow_waiters[token]
                    waiter.notify()
            # results that it will not take over any more; records of its tasks may refer to the peer for long
            held, peer.held_results = peer.held_results, {}
        del gone, held

    def on_client_gone(self, address: str, number: int) -> None:
        """A process died: what it owned can't be got any more, and the node must know what we look at."""
        self._reached("death.heard")
        with self._client.lock:
            self._dead[address] = None
            if len(self._dead) > _MOST_DEAD:
                del self._dead[next(iter(self._dead))]
            held = []
            for known in list(self._known.values()):
                ref = known()
                if ref is not None and ref._owner == address and ref._state in (STORED, PENDING):
                    if ref._state == STORED:
                        held.append(ref._id)
                        self._orphaned.add(ref._id)
                    self.resolve_locked(ref, ERROR, OwnerDiedError(ref._id.hex(), owner_address=address))
            self._client.node.tell(messages.HOLDS, number, held)
        self._reached("death.answered")

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
