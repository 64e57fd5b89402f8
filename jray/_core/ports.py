"""Owns the seam between the head and its nodes: what each asks of the other, wherever they run.

The head's own node is a sibling in its process; of all others there is a stand-in on each side of a connection
(`jray._core.head.remote_node`, `jray._core.node.uplink`).  Nothing here blocks, and nothing returns an answer: each
call is a message to somebody who may have died meanwhile.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from jray._core.specs import ExitCause, MemoryReport, MemorySample

#: Clients are numbered within their node, and a node's numbers begin at its place in the order of joining times this.
NUMBERS_PER_NODE = 1 << 32


@dataclasses.dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node tells of itself as it joins."""

    node_id: bytes
    pid: int
    address: str  #: of its socket
    hostname: str
    name: str
    labels: dict[str, str]
    resources: dict[str, int]  #: in units of 1/10,000
    gpu_ids: list[str]
    max_starting: int  #: workers that start at once
    soft_limit: int  #: idle workers that it keeps
    session_dir: str
    store_dir: str
    store_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class ClientFacts:
    """A driver or a worker, living or ended."""

    number: int
    kind: str  #: "driver" or "worker"
    address: str
    pid: int
    job_id: bytes  #: empty: a driver that the head has not admitted yet
    worker_id: bytes | None
    node_id: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerOrder:
    """A worker that is wanted."""

    worker_id: bytes
    job_id: bytes
    job: dict[str, Any]  #: what the job's driver told of itself, and its namespace
    runtime_env: tuple[tuple[str, Any], ...]


class Node(Protocol):
    """What the head asks of a node."""

    def welcome(self, number: int, request: int, job_id: bytes, namespace: str) -> None:
        """Admit a client of that node, which has asked by that request."""

    def deliver(self, number: int, message: tuple[Any, ...]) -> None:
        """Send a message to a client of that node."""

    def from_afar(self, sender: int, message: tuple[Any, ...]) -> None:
        """Handle a message about the node's store that a client of another node has sent."""

    def start_worker(self, order: WorkerOrder) -> None: ...

    def end_worker(self, worker_id: bytes, reason: str) -> None:
        """End a worker and all that it forked, at once."""

    def end_for_memory(self, worker_id: bytes, report: MemoryReport) -> None:
        """End a worker a moment after its owner was told, since memory is low."""

    def watch_memory(self, is_wanted: bool) -> None:
        """Workers are in use, so that memory may run low; or none is."""

    def client_gone(self, number: int, address: str, job_id: bytes) -> None:
        """A client of any node has ended."""

    def node_there(self, node_id: bytes, address: str) -> None:
        """Another node is in the cluster; its socket is at *address*."""

    def node_gone(self, node_id: bytes) -> None:
        """Another node has ended."""

    def ask(self, number: int, question: str, arguments: tuple[Any, ...]) -> None:
        """Answer by `Head.told`."""

    def leave(self, reason: str) -> None:
        """End, with all workers; nobody waits for it."""


class Head(Protocol):
    """What a node tells the head."""

    def client_joined(self, client: ClientFacts, request: int, facts: dict[str, Any]) -> None: ...

    def client_left(self, number: int) -> None: ...

    def from_client(self, number: int, message: tuple[Any, ...]) -> None:
        """Handle what a client has to say to the head."""

    def to_client(self, number: int, message: tuple[Any, ...]) -> None:
        """Pass a message to a client of another node."""

    def to_node(self, node_id: bytes, sender: int, message: tuple[Any, ...]) -> None:
        """Pass what a client says about another node's store."""

    def workers_exited(self, ended: Sequence[tuple[bytes, ExitCause]]) -> None:
        """Worker processes were reaped, all at one time."""

    def memory_low(self, node_id: bytes, sample: MemorySample) -> None: ...

    def told(self, number: int, node_id: bytes, answer: Any) -> None: ...
