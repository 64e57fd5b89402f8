"""Owns a node's door: its socket, the clients that came in by it, and the loop that serves them.

What clients say about the store is handled here; the rest goes to the head, wherever that runs.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from jray._core.node.service import NodeService
from jray._core.ports import ClientFacts, Head, Pool, WorkerOrder
from jray._core.specs import MemoryReport
from jray._core.wire import messages
from jray._core.wire.connection import Connection, Message, Reactor


class Part(Protocol):
    """Something that has work to do at some time."""

    def next_deadline_s(self) -> float | None: ...
    def advance(self) -> None: ...


@dataclasses.dataclass(slots=True)
class LocalClient:
    """A driver or worker that is connected here."""

    number: int
    kind: str
    address: str
    pid: int
    worker_id: bytes | None
    connection: Connection
    job_id: bytes = b""


class Host:
    """Serves the clients of one node.  It is the `jray._core.ports.Node` that the head knows.

    `facts` is told to each client; `on_owner_gone()` is called when the connection of the process that started this
    one closes.  `strangers` takes, by the kind of its first message, a connection of somebody who is no client.
    """

    def __init__(
        self,
        *,
        node_id: bytes,
        reactor: Reactor,
        head: Head,
        service: NodeService,
        facts: dict[str, Any],
        disconnected: Callable[[bytes], None],
        on_owner_gone: Callable[[], None],
        strangers: Mapping[int, Callable[[Connection, Message], object]] = MappingProxyType({}),
    ) -> None:
        self.node_id = node_id
        self._reactor = reactor
        self._head = head
        self.service = service
        self._facts = facts
        self._disconnected = disconnected
        self._on_owner_gone = on_owner_gone
        self._strangers = {messages.FETCH: service.transfers.serve, **strangers}
        self._numbers = itertools.count(1)
        self.clients: dict[int, LocalClient] = {}
        self.is_stopping = False
        #: why the head has it end
        self.reason = ""
        #: to the process that started this one, and with whose end it ends
        self._owner: Connection | None = None
        spilling, orphans, transfers = service.spilling, service.orphans, service.transfers
        #: what concerns the store, by the number of who says so
        self._handlers: dict[int, Callable[[int, Message], object]] = {
            messages.CREATE: lambda n, m: spilling.create(n, m[1], m[2], m[3]),
            messages.SPILL_OFFER: lambda n, m: spilling.offered(n, m[1], m[2]),
            messages.SPILL_MOVED: lambda n, m: spilling.moved(n, m[1], m[2]),
            messages.SEAL: lambda n, m: service.seal(m[1], m[2], n),
            messages.ABORT: lambda n, m: service.abort(m[1], n),
            messages.FREE: lambda _, m: service.free(m[1]),
            messages.HOLDS: lambda n, m: service.free(orphans.answered(n, m[1], m[2])),
            messages.DROPPED: lambda n, m: service.free(orphans.dropped(n, m[1])),
            messages.PULL: lambda n, m: transfers.pull(n, m[1], m[2], m[3]),
            messages.DONE_READING: lambda n, m: transfers.released(n, m[1]),
            messages.COPY_FREED: lambda _, m: transfers.copy_freed(m[1]),
        }

    def number_from(self, first: int) -> None:
        """Number clients from here on: no other node's may have the same."""
        self._numbers = itertools.count(first + 1)

    # -- the loop ---------------------------------------------------------------------------------

    def serve(self, parts: Sequence[Part]) -> None:
        """Serve until `stop`; the node's own parts are among those that get their turns."""
        service = self.service
        everything = (*parts, service.spilling, service.transfers, service.memory, service.environments)
        while not self.is_stopping:
            deadlines = [at for part in everything if (at := part.next_deadline_s()) is not None]
            self._reactor.poll(max(0.0, min(deadlines) - time.monotonic()) if deadlines else None)
            for part in everything:
                part.advance()

    def stop(self) -> None:
        """End the loop; from any thread, and from signal handlers."""
        self.is_stopping = True
        self._reactor.wake()

    def accept(self, sock: socket.socket, *, is_owner: bool = False) -> None:
        """Take a connection of somebody who has yet to say who it is."""
        connection = Connection(sock, self._reactor, self._handle, self._closed)
        if is_owner:
            self._owner = connection

    def tell_ready(self) -> None:
        """Tell the process that started this one that it may be used."""
        if self._owner is not None:
            self._owner.send((messages.READY,))

    def _handle(self, connection: Connection, message: Message) -> None:
        client: LocalClient | None = connection.peer
        try:
            kind = message[0]
            if client is None:
                if kind == messages.REGISTER:
                    self._register(connection, message)
                elif kind in self._strangers:
                    self._strangers[kind](connection, message)
                else:
                    connection.close()  # a stranger, who must say first who it is
                return
            handler = self._handlers.get(kind)
            if handler is not None:
                handler(client.number, message)
            elif kind == messages.TO_STORE:
                self._to_store(client.number, message[1], message[2])
            else:
                self._head.from_client(client.number, message)
        except Exception:  # noqa: BLE001 -- one bad message must not end everybody's cluster
            traceback.print_exc()
            sys.stderr.flush()
            if client is None:
                connection.close()

    def _register(self, connection: Connection, message: Message) -> None:
        _, request, kind, pid, address, facts = message
        number, worker_id = next(self._numbers), facts.get("worker_id")
        client = LocalClient(number, kind, address, pid, worker_id, connection, facts.get("job_id", b""))
        connection.peer = client
        self.clients[number] = client
        if worker_id is not None:
            self.service.worker_registered(worker_id, address)
        self._head.client_joined(
            ClientFacts(number, kind, address, pid, client.job_id, worker_id, self.node_id), request, facts
        )

    def _closed(self, connection: Connection) -> None:
        client: LocalClient | None = connection.peer
        if client is not None and self.clients.pop(client.number, None) is not None:
            self._head.client_left(client.number)
            if client.worker_id is not None:
                self._disconnected(client.worker_id)
        if connection is self._owner:
            self._on_owner_gone()

    def _to_store(self, sender: int, node_id: bytes, message: Message) -> None:
        if node_id == self.node_id:
            self.from_afar(sender, message)
        else:
            self._head.to_node(node_id, sender, message)

    def send(self, number: int, message: Message) -> None:
        """Reach a client, of this node or of another, if it lives."""
        client = self.clients.get(number)
        if client is not None:
            client.connection.send(message)
        else:
            self._head.to_client(number, message)

    # -- what the head asks (jray._core.ports.Node) -----------------------------------------------------

    def welcome(self, number: int, request: int, job_id: bytes, namespace: str) -> None:
        client = self.clients.get(number)
        if client is not None:
            client.job_id = job_id
            told = {
                **self._facts,
                "client": number,
                "job_id": job_id,
                "namespace": namespace,
                "node_id": self.node_id,
                "node_pid": os.getpid(),
            }
            client.connection.send((messages.REPLY, request, False, told))

    def deliver(self, number: int, message: Message) -> None:
        client = self.clients.get(number)
        if client is not None:
            client.connection.send(message)

    def from_afar(self, sender: int, message: Message) -> None:
        self._handlers[message[0]](sender, message)

    def start_worker(self, order: WorkerOrder) -> None:
        self.service.start_worker(order)

    def end_worker(self, worker_id: bytes, reason: str) -> None:
        self.service.end_worker(worker_id, reason)

    def end_for_memory(self, worker_id: bytes, report: MemoryReport) -> None:
        self.service.memory.doom(worker_id, report)

    def watch_memory(self, is_wanted: bool) -> None:
        self.service.memory.needed(is_wanted)

    def client_gone(self, number: int, address: str, job_id: bytes) -> None:
        others = [client for client in self.clients.values() if client.job_id == job_id]
        self.service.client_gone(number, [client.number for client in others])
        for client in others:
            client.connection.send((messages.CLIENT_GONE, address, number))

    def node_there(self, node_id: bytes, address: str) -> None:
        self.service.transfers.node_joined(node_id, address)

    def node_gone(self, node_id: bytes) -> None:
        self.service.transfers.node_gone(node_id)

    def ask(self, number: int, question: str, arguments: tuple[Any, ...]) -> None:
        answers: dict[str, Callable[..., Any]] = {
            "store": self.service.store_row,
            "runtime_envs": self.service.environments.rows,
            "copies": self.service.transfers.copies,
            "adopt": self.service.transfers.adopt,
            "log_names": self.service.log_names,
            "log_piece": self.service.log_piece,
        }
        self._head.told(number, self.node_id, answers[question](*arguments))

    def package_piece(self, uri: str, index: int, piece: bytes | None) -> None:
        self.service.environments.packages.arrived(uri, index, piece)

    def environment_unwanted(self, pool: Pool) -> None:
        self.service.environments.abandoned(pool)

    def leave(self, reason: str) -> None:
        self.reason = reason
        print(f"The node ends: {reason}", flush=True)  # noqa: T201 -- stdout is the log
        self.stop()
