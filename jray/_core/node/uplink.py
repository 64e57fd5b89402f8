"""Owns a node's end of the connection to its head."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from jray._core.ports import ClientFacts, Node, NodeFacts
from jray._core.specs import ExitCause, MemorySample
from jray._core.wire import messages
from jray._core.wire.connection import Connection, Message, Reactor


class Uplink:
    """Stands for the head (`jray._core.ports.Head`) that runs elsewhere.

    `on_lost(reason)` is called when the head is gone.
    """

    def __init__(self, sock: socket.socket, reactor: Reactor, on_lost: Callable[[str], None]) -> None:
        self._on_lost = on_lost
        self._connection = Connection(sock, reactor, self._handle, self._closed)
        self._send = self._connection.send
        self._handlers: dict[int, Callable[..., None]] = {}

    def join(self, facts: NodeFacts, node: Node, on_welcome: Callable[[int], None]) -> None:
        """Be a node of the head's cluster: what it asks is done by *node*.

        `on_welcome(number)` is called first, with what the numbers of this node's clients begin after.
        """
        self._handlers = {
            messages.NODE_WELCOME: on_welcome,
            messages.CLIENT_WELCOME: node.welcome,
            messages.DELIVER: node.deliver,
            messages.FROM_AFAR: node.from_afar,
            messages.START_WORKER: node.start_worker,
            messages.END_WORKER: node.end_worker,
            messages.END_FOR_MEMORY: node.end_for_memory,
            messages.WATCH_MEMORY: node.watch_memory,
            messages.CLIENT_ENDED: node.client_gone,
            messages.NODE_THERE: node.node_there,
            messages.OTHER_NODE_GONE: node.node_gone,
            messages.ASK_NODE: node.ask,
            messages.LEAVE: node.leave,
        }
        self._send((messages.NODE_JOIN, facts))

    def end(self, reason: str) -> None:
        """Say why this node leaves."""
        self._send((messages.NODE_ENDS, reason))
        self._connection.drain(1.0)

    def _handle(self, _: Connection, message: Message) -> None:
        self._handlers[message[0]](*message[1:])

    def _closed(self, _: Connection) -> None:
        self._on_lost("the head's process ended, or the connection to it broke")

    # -- what the node tells (jray._core.ports.Head) -----------------------------------------------------

    def client_joined(self, client: ClientFacts, request: int, facts: dict[str, Any]) -> None:
        self._send((messages.CLIENT_JOINED, client, request, facts))

    def client_left(self, number: int) -> None:
        self._send((messages.CLIENT_LEFT, number))

    def from_client(self, number: int, message: tuple[Any, ...]) -> None:
        self._send((messages.FROM_CLIENT, number, message))

    def to_client(self, number: int, message: tuple[Any, ...]) -> None:
        self._send((messages.TO_CLIENT, number, message))

    def to_node(self, node_id: bytes, sender: int, message: tuple[Any, ...]) -> None:
        self._send((messages.TO_NODE, node_id, sender, message))

    def workers_exited(self, ended: Sequence[tuple[bytes, ExitCause]]) -> None:
        self._send((messages.WORKERS_EXITED, list(ended)))

    def memory_low(self, node_id: bytes, sample: MemorySample) -> None:  # noqa: ARG002 -- the head knows who we are
        self._send((messages.MEMORY_LOW, sample))

    def told(self, number: int, node_id: bytes, answer: Any) -> None:  # noqa: ARG002 -- as above
        self._send((messages.NODE_TOLD, number, answer))
