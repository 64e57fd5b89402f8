"""Owns the head's end of the connection to a node in another process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jray._core.head.cluster import ClusterService
from jray._core.ports import NUMBERS_PER_NODE, NodeFacts, WorkerOrder
from jray._core.specs import MemoryReport
from jray._core.wire import messages
from jray._core.wire.connection import Connection, Message


class NodeDoor:
    """Lets nodes join the cluster, each by a connection of its own."""

    def __init__(self, cluster: ClusterService) -> None:
        self._cluster = cluster
        self._joined = 0
        self._connections: set[Connection] = set()

    def join(self, connection: Connection, message: Message) -> None:
        """Take what a node says first."""
        facts: NodeFacts = message[1]
        self._joined += 1
        self._connections.add(connection)
        node = RemoteNode(connection, self._cluster, facts, self._connections.discard)
        connection.hand_over(node.handle, node.closed)
        connection.peer = node
        connection.send((messages.NODE_WELCOME, self._joined * NUMBERS_PER_NODE))
        self._cluster.node_joined(node, facts)

    def close(self, timeout_s: float) -> None:
        """Have all nodes end, and wait until each was told."""
        for connection in list(self._connections):
            connection.send((messages.LEAVE, "its head ends"))
            connection.drain(timeout_s)


class RemoteNode:
    """Stands for a node (`jray._core.ports.Node`) that runs elsewhere."""

    def __init__(
        self,
        connection: Connection,
        cluster: ClusterService,
        facts: NodeFacts,
        forget: Callable[[Connection], None],
    ) -> None:
        self._send = connection.send
        self._connection = connection
        self._cluster = cluster
        self._node_id = facts.node_id
        self._forget = forget
        #: why it leaves, if it has said so
        self._reason = "its process ended, or the connection to it broke"
        self._handlers: dict[int, Callable[..., None]] = {
            messages.CLIENT_JOINED: cluster.client_joined,
            messages.CLIENT_LEFT: cluster.client_left,
            messages.FROM_CLIENT: cluster.from_client,
            messages.TO_CLIENT: cluster.to_client,
            messages.TO_NODE: cluster.to_node,
            messages.WORKERS_EXITED: cluster.workers_exited,
            messages.MEMORY_LOW: lambda sample: cluster.memory_low(self._node_id, sample),
            messages.NODE_TOLD: lambda number, answer: cluster.told(number, self._node_id, answer),
            messages.NODE_ENDS: self._ends,
        }

    # -- what it says -----------------------------------------------------------------------------

    def handle(self, _: Connection, message: Message) -> None:
        self._handlers[message[0]](*message[1:])

    def closed(self, connection: Connection) -> None:
        self._forget(connection)
        self._cluster.node_left(self._node_id, self._reason)

    def _ends(self, reason: str) -> None:
        self._reason = reason
        self._connection.close()

    # -- what the head asks (jray._core.ports.Node) -----------------------------------------------------

    def welcome(self, number: int, request: int, job_id: bytes, namespace: str) -> None:
        self._send((messages.CLIENT_WELCOME, number, request, job_id, namespace))

    def deliver(self, number: int, message: tuple[Any, ...]) -> None:
        self._send((messages.DELIVER, number, message))

    def from_afar(self, sender: int, message: tuple[Any, ...]) -> None:
        self._send((messages.FROM_AFAR, sender, message))

    def start_worker(self, order: WorkerOrder) -> None:
        self._send((messages.START_WORKER, order))

    def end_worker(self, worker_id: bytes, reason: str) -> None:
        self._send((messages.END_WORKER, worker_id, reason))

    def end_for_memory(self, worker_id: bytes, report: MemoryReport) -> None:
        self._send((messages.END_FOR_MEMORY, worker_id, report))

    def watch_memory(self, is_wanted: bool) -> None:
        self._send((messages.WATCH_MEMORY, is_wanted))

    def client_gone(self, number: int, address: str, job_id: bytes) -> None:
        self._send((messages.CLIENT_ENDED, number, address, job_id))

    def node_there(self, node_id: bytes, address: str) -> None:
        self._send((messages.NODE_THERE, node_id, address))

    def node_gone(self, node_id: bytes) -> None:
        self._send((messages.OTHER_NODE_GONE, node_id))

    def ask(self, number: int, question: str, arguments: tuple[Any, ...]) -> None:
        self._send((messages.ASK_NODE, number, question, arguments))

    def leave(self, reason: str) -> None:
        self._send((messages.LEAVE, reason))
