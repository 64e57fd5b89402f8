"""Owns the connections between clients: to the workers one leases, the actors one calls, the owners one borrows from."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from jray._core.wire import messages
from jray._core.wire.connection import Connection, Handler, Reactor, connect


class Peer:
    """Another client, as this one knows it."""

    __slots__ = (
        "actor", "address", "connection", "executing", "held_results", "knows_us", "lease", "number", "pid",
        "task_start", "task_suffix", "templates",
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.address = ""
        #: whether we have said who we are
        self.knows_us = False
        self.pid = 0
        #: as the node knows it
        self.number = 0
        #: of the ids of the tasks it submits: see `jray._core.ids.TaskIdSource`
        self.task_start = 0
        self.task_suffix = b""
        #: the lease by which we push tasks to it
        self.lease: Any = None
        #: the actor it is, if we call it
        self.actor: Any = None
        #: definitions it sent us, by number
        self.templates: dict[int, Any] = {}
        #: its tasks that run or wait here, by number
        self.executing: dict[int, Any] = {}
        #: refs inside results we sent it, kept until it says that it holds them
        self.held_results: dict[int, Any] = {}

    def task_id(self, number: int) -> bytes:
        """Return the id of a task that this peer submitted."""
        return ((self.task_start + number) & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little") + self.task_suffix


class Peers:
    """Finds and makes connections by address.  Used with the client's lock held, except `accept`."""

    def __init__(
        self,
        reactor: Reactor,
        address: str,
        hello: Callable[[], tuple[int, int, bytes]],
        on_message: Handler,
        on_close: Callable[[Peer], None],
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._hello = hello
        self._on_message = on_message
        self._on_close = on_close
        self._by_address: dict[str, Peer] = {}
        self._all: set[Connection] = set()

    def find(self, address: str) -> Peer | None:
        return self._by_address.get(address)

    def get(self, address: str) -> Peer:
        """Return the peer that listens there, connecting if need be.  Raises OSError if it is gone."""
        peer = self._by_address.get(address)
        if peer is None:
            peer = self._add(connect(address))
            peer.address = address
            self._by_address[address] = peer
        if not peer.knows_us:  # also one that connected first: it must know the ids of our tasks
            peer.knows_us = True
            peer.connection.send((messages.HELLO_PEER, self._address, os.getpid(), *self._hello()))
        return peer

    def get_or_gone(self, address: str) -> Peer:
        """Return the peer that listens there, or one that takes no messages if nobody does."""
        try:
            return self.get(address)
        except OSError:
            gone = Peer(_GONE)
            gone.address = address
            return gone

    def accept(self, sock: socket.socket) -> None:
        """Take a connection that another client opened; who it is it says in its first message."""
        self._add(sock)

    def introduced(
        self, peer: Peer, address: str, pid: int, number: int, task_start: int, task_suffix: bytes
    ) -> None:
        peer.address = address
        peer.pid = pid
        peer.number = number
        peer.task_start = task_start
        peer.task_suffix = task_suffix
        self._by_address.setdefault(address, peer)

    def _add(self, sock: socket.socket) -> Peer:
        peer = Peer(_GONE)
        # known to the connection from its first moment on: it may close at once, in the polling thread
        peer.connection = Connection(sock, self._reactor, self._on_message, self._closed, peer)
        self._all.add(peer.connection)
        return peer

    def _closed(self, connection: Connection) -> None:
        self._all.discard(connection)
        peer: Peer = connection.peer
        if self._by_address.get(peer.address) is peer:
            del self._by_address[peer.address]
        self._on_close(peer)

    def fds(self) -> list[int]:
        return [connection.fd for connection in self._all]

    def close(self) -> None:
        for connection in list(self._all):
            connection.close()


class _GoneConnection:
    """The connection to a process that has ended."""

    is_open = False
    fd = -1

    def send(self, _: object) -> bool:
        return False


_GONE: Any = _GoneConnection()
