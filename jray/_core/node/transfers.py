"""Owns the way of objects from node to node: fetches copies of those that clients here read, and serves others.

Each transfer has a connection of its own between two threads, which the loops of both nodes know nothing of: bytes go
from the one store's file into the other's mapping, copied by the kernel alone.

    fetcher                                    server
    FETCH object id, place  ---------------->
                            <----------------  1, owner, size     or  0: it is not there
                            <----------------  the bytes
    1: all have come        ---------------->
                            <----------------  1: it was there all the time, or 0: what came is to be thrown away
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from jray._core.machine.copies import Copies
from jray._core.node.spilling import SpillService
from jray._core.specs import Location
from jray._core.store.arena import Store
from jray._core.store.ledger import Block
from jray._core.store.segment import Segment
from jray._core.store.spill import spill_path
from jray._core.wire import messages
from jray._core.wire.connection import Connection, Message, connect, send_frame

_HEADER = struct.Struct("<?QQ")
#: transfers to this node at one time
_MOST_FETCHERS = 4
#: a transfer of which nothing comes for so long has failed
_STALLED_S = 60.0
_STEP_BYTES = 8 * 1024 * 1024
_BUFFER_BYTES = 1024 * 1024
_SOCKET_BYTES = 4 * 1024 * 1024


class _Failed(Exception):  # noqa: N818 -- an answer
    """The object cannot be had; the text says why."""


class _NoPages(Exception):  # noqa: N818 -- an answer
    """The object is there, but this node has no memory to keep a copy in."""


class TransferService:
    """Copies of other nodes' objects in this one's store, and this one's in theirs.  For one thread, but for the bytes.

    `send(client, message)` reaches a client; `tell_node(node id, message)` another node's store; `wake()` makes the
    loop call `advance` soon.
    """

    def __init__(
        self,
        node_id: bytes,
        store: Store,
        spilling: SpillService,
        send: Callable[[int, tuple[Any, ...]], None],
        tell_node: Callable[[bytes, tuple[Any, ...]], None],
        wake: Callable[[], None],
    ) -> None:
        self._node_id = node_id
        self._store = store
        self._spilling = spilling
        self._send = send
        self._tell_node = tell_node
        self._wake = wake
        self._copies = Copies()
        #: of other nodes, by id
        self._addresses: dict[bytes, str] = {}
        #: nodes that have fetched an object from here
        self._sent_to: dict[bytes, set[bytes]] = {}
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._fetchers: list[threading.Thread] = []
        #: what fetchers left to be handled: (object id, its new place, owner, what to answer if there is none)
        self._done: deque[tuple[bytes, Location, int, tuple[str, str] | None]] = deque()
        #: copies that were fetched since the start
        self.fetched = 0

    # -- nodes ------------------------------------------------------------------------------------

    def node_joined(self, node_id: bytes, address: str) -> None:
        """Another node is there, whose socket is at *address*."""
        self._addresses[node_id] = address

    def node_gone(self, node_id: bytes) -> None:
        """Another node is gone."""
        self._addresses.pop(node_id, None)
        for nodes in self._sent_to.values():
            nodes.discard(node_id)

    # -- what clients say -------------------------------------------------------------------------

    def pull(self, client: int, request: int, object_id: bytes, place: Location) -> None:
        """Answer with the place of the object's copy here, once there is one; or say why there is none."""
        state = self._copies.wanted(object_id, place.size, client, request)
        if state == "here":
            self._answer(client, request, ("here", self._place_of(object_id, place.about)))
        elif state == "fetch":
            address = self._addresses.get(place.node)
            if address is None:
                self._failed(object_id, ("lost", f"its node {place.node.hex()} is gone"))
                return
            self._spilling.reserve(
                object_id, place.size, lambda answer: self._reserved(object_id, place, address, answer)
            )

    def _reserved(self, object_id: bytes, place: Location, address: str, answer: tuple[str, Any]) -> None:
        kind, block = answer
        if kind != "block":
            self._failed(object_id, answer)
            return
        if len(self._fetchers) < _MOST_FETCHERS:
            thread = threading.Thread(target=self._work, name="jray-fetch", daemon=True)
            self._fetchers.append(thread)
            thread.start()
        self._orders.put(lambda: self._fetch(object_id, place, address, block))

    def released(self, client: int, object_ids: Iterable[bytes]) -> None:
        """A client reads these copies no more."""
        self._drop(self._copies.released(client, object_ids))

    def client_gone(self, client: int) -> None:
        """A client of any node has ended."""
        self._drop(self._copies.client_gone(client))

    def freed(self, object_ids: Iterable[bytes]) -> list[bytes]:
        """Objects are needed no more; return those whose bytes here are nobody's to read."""
        ids = list(object_ids)
        for node_id, freed in self._copied(ids).items():
            self._tell_node(node_id, (messages.COPY_FREED, freed))
        if not self._copies.here():
            self._copies.freed(ids)
            return ids
        copies = {object_id for object_id in ids if object_id in self._copies}
        gone = set(self._copies.freed(ids))
        return [object_id for object_id in ids if object_id not in copies or object_id in gone]

    def copy_freed(self, object_ids: Iterable[bytes]) -> None:
        """The node where these objects are has freed them."""
        self._drop(self._copies.freed(object_ids))

    def evict(self, wanted: int) -> bool:
        """Make room by dropping copies that nobody reads; tell whether there were any."""
        gone = self._copies.evict(wanted)
        self._drop(gone)
        return bool(gone)

    def copies(self, object_ids: Iterable[bytes]) -> list[bytes]:
        """Return those of these objects that there are copies of here."""
        here = set(self._copies.here())
        return [object_id for object_id in object_ids if object_id in here]

    def adopt(self, object_ids: Iterable[bytes], others: Iterable[bytes]) -> dict[bytes, Location]:
        """Objects were lost with their node: return the places of those whose copies here are now the objects.

        *others* are nodes that may have copies, too, and are told when the objects are freed.
        """
        found = {}
        for object_id in object_ids:
            if self._copies.adopted(object_id):
                self._sent_to.setdefault(object_id, set()).update(others)
                found[object_id] = self._place_of(object_id, "")
        return found

    # -- the loop ---------------------------------------------------------------------------------

    def next_deadline_s(self) -> float | None:
        return None

    def advance(self) -> None:
        """Handle what the threads left."""
        while self._done:
            object_id, place, owner, failure = self._done.popleft()
            if failure is not None:
                self._store.ledger.abort(object_id, 0)
                self._failed(object_id, failure)
                continue
            self._store.ledger.seal(object_id, owner, 0)
            self.fetched += 1
            is_doomed = self._copies.is_doomed(object_id)
            for client, request in self._copies.fetched(object_id):
                self._answer(client, request, ("here", place))
            if is_doomed:  # freed on its way: those who waited may still look
                self._drop(self._copies.freed([object_id]))

    def close(self) -> None:
        """Let the threads end; those in the middle of a transfer end with the process."""
        for _ in self._fetchers:
            self._orders.put(None)

    # -- inside -----------------------------------------------------------------------------------

    def _copied(self, object_ids: list[bytes]) -> dict[bytes, list[bytes]]:
        """Return which of these objects other nodes have fetched, by node."""
        found: dict[bytes, list[bytes]] = {}
        if self._sent_to:
            for object_id in object_ids:
                for node_id in self._sent_to.pop(object_id, ()):
                    found.setdefault(node_id, []).append(object_id)
        return found

    def _place_of(self, object_id: bytes, about: str) -> Location:
        block = self._store.ledger.lookup(object_id)
        assert block is not None, "a copy that the store does not have"
        return Location(self._node_id, block.segment, block.offset, block.size, about)

    def _failed(self, object_id: bytes, answer: tuple[str, Any]) -> None:
        for client, request in self._copies.failed(object_id):
            self._answer(client, request, answer)

    def _answer(self, client: int, request: int, answer: tuple[str, Any]) -> None:
        self._send(client, (messages.REPLY, request, False, answer))

    def _drop(self, object_ids: Iterable[bytes]) -> None:
        for object_id in object_ids:
            self._store.ledger.free(object_id)

    # -- fetching (threads of their own) ----------------------------------------------------------------

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            order()

    def _fetch(self, object_id: bytes, place: Location, address: str, block: Block) -> None:
        here = Location(self._node_id, block.segment, block.offset, block.size, place.about)
        owner, failed = 0, None
        try:
            with connect(address) as sock:
                sock.settimeout(_STALLED_S)
                send_frame(sock, (messages.FETCH, self._node_id, object_id, place))
                owner = self._receive(sock, block)
        except (OSError, _Failed) as failure:
            failed = ("lost", f"it could not be fetched from the node {place.node.hex()}: {failure}")
        except Exception as failure:  # noqa: BLE001 -- whatever it is, those who wait must hear of it
            failed = ("failed", f"{type(failure).__name__}: {failure}")
        self._done.append((object_id, here, owner, failed))
        self._wake()

    def _receive(self, sock: socket.socket, block: Block) -> int:
        """Take the bytes into the block; return the number of the object's owner."""
        header = bytearray(_HEADER.size)
        _receive_into(sock, memoryview(header))
        is_there, owner, size = _HEADER.unpack(header)
        if not is_there or size != block.size:
            raise _Failed("it is not there any more")
        segment = self._store.segment(block.segment)
        if block.is_fresh:
            try:
                segment.reserve(block.offset, block.size or 1)
            except OSError as error:  # not the object's fault, which is no reason to make it again
                raise _NoPages(f"{self._store.directory}: {error.strerror or error}") from error
            _receive_fresh(sock, segment, block)
        else:
            segment.populate(block.offset, block.size)
            with segment.view(block.offset, block.size) as target:
                _receive_into(sock, target)
        sock.sendall(b"\1")
        verdict = bytearray(1)
        _receive_into(sock, memoryview(verdict))
        if verdict != b"\1":
            raise _Failed("it was moved or freed meanwhile")
        return int(owner)

    # -- serving (threads of their own) -----------------------------------------------------------------

    def serve(self, connection: Connection, message: Message) -> None:
        """Serve another node, which wants an object."""
        _, node_id, object_id, place = message
        sock = connection.detach()
        self._sent_to.setdefault(object_id, set()).add(node_id)
        threading.Thread(
            target=self._send_object, args=(sock, object_id, place), name="jray-serve", daemon=True
        ).start()

    def _send_object(self, sock: socket.socket, object_id: bytes, place: Location) -> None:
        with sock:
            try:
                sock.settimeout(_STALLED_S)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
                source = self._source_of(object_id)
                if source is None:
                    sock.sendall(_HEADER.pack(False, 0, 0))
                    return
                path, offset, owner = source
                with open(path, "rb", buffering=0) as file:
                    sock.sendall(_HEADER.pack(True, owner, place.size))
                    end = offset + place.size
                    while offset < end:
                        sent = sock.sendfile(file, offset, min(_STEP_BYTES, end - offset))
                        if not sent:
                            return  # the file is shorter: the fetcher sees the connection close
                        offset += sent
                sock.recv(1)
                # it was there before, and is there now, at the same place: so it was all the time
                is_there = self._source_of(object_id) == source
                sock.sendall(b"\1" if is_there else b"\0")
            except OSError:
                return  # the fetcher is gone, or the file: it sees the connection close

    def _source_of(self, object_id: bytes) -> tuple[str, int, int] | None:
        """Return the file where an object's bytes are, from where in it, and its owner; by dictionary lookups alone."""
        spilled = self._spilling.files.find(object_id)
        if spilled is not None:
            place, owner = spilled
            return spill_path(self._spilling.files.directory, place.file), place.offset, owner
        ledger = self._store.ledger
        block, owner = ledger.lookup(object_id), ledger.owner_of(object_id)
        return None if block is None else (self._store.file_of(block.segment)[0], block.offset, owner)


def _receive_into(sock: socket.socket, target: memoryview) -> None:
    done, size = 0, len(target)
    while done < size:
        count = sock.recv_into(target[done : done + _STEP_BYTES])
        if not count:
            raise _Failed("the connection broke")
        done += count


def _receive_fresh(sock: socket.socket, segment: Segment, block: Block) -> None:
    """Take the bytes by way of a buffer that fits into the cache: writing is far quicker to fresh pages than mapping."""
    buffer = memoryview(bytearray(min(_BUFFER_BYTES, block.size)))
    done = 0
    while done < block.size:
        part = buffer[: block.size - done]
        _receive_into(sock, part)
        segment.write_reserved(block.offset + done, part)
        done += len(part)
