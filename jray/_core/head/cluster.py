"""Owns who is in the cluster: its nodes and clients, what these ask, and each message's way to its place."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from jray._core.config import Config
from jray._core.environments import is_at_hand
from jray._core.head.scheduling import RegisteredWorker, Scheduler
from jray._core.head.service import HeadService
from jray._core.machine.actors import NameTaken
from jray._core.machine.gathering import Gathering, Gatherings
from jray._core.ports import ClientFacts, Node, NodeFacts, Pool
from jray._core.resources import ResourceSet
from jray._core.specs import ActorSpec, ExitCause, MemorySample, SetupFailure
from jray._core.wire import messages
from jray._core.wire.connection import Message

#: questions that the nodes answer, each for itself
_OF_NODES = {"store", "copies", "runtime_envs"}
#: ... and those that one node answers, whose id is the first argument
_OF_ONE_NODE = {"adopt", "log_names", "log_piece"}
#: the job of who only asks
_NO_JOB = b"\xff\xff\xff\xff"
#: of nodes and of clients that have ended so many are remembered, the latest
_REMEMBERED = 1000


@dataclasses.dataclass(slots=True)
class NodeRecord:
    """A node that is here, or was."""

    facts: NodeFacts
    node: Node
    is_head: bool  #: whether it is the head's own
    joined_s: float
    left_s: float | None = None
    reason: str = ""  #: why it is gone


class ClusterService:
    """The head as its nodes and clients know it: a `jray._core.ports.Head`.

    The first node that joins is the head's own; with another's end nothing ends here.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._nodes: dict[bytes, NodeRecord] = {}
        self._lost_nodes: deque[NodeRecord] = deque(maxlen=_REMEMBERED)
        self._clients: dict[int, ClientFacts] = {}
        self._ended: deque[ClientFacts] = deque(maxlen=_REMEMBERED)
        self._gatherings = Gatherings()
        self.scheduler = Scheduler(config, self._send, self._job_facts)
        self.head = HeadService(self._send, self.scheduler)
        self.scheduler.cluster = self.head
        scheduler, head = self.scheduler, self.head
        self._handlers: dict[int, Callable[[ClientFacts, Message], object]] = {
            messages.LEASE: self._lease,
            messages.RETURN: lambda _, m: scheduler.returned(m[1], retire=m[2]),
            messages.BLOCKED: lambda c, _: scheduler.blocked(c.worker_id or b""),
            messages.UNBLOCKED: lambda c, _: scheduler.unblocked(c.worker_id or b""),
            messages.ANNOUNCE_ACTOR: lambda c, m: self._enter_actor(head.announce_actor, c, m[1]),
            messages.CREATE_ACTOR: lambda c, m: self._enter_actor(head.create_actor, c, m[1]),
            messages.ACTOR_INFO: lambda c, m: self._reply(c, m[1], head.subscribe(c.number, m[2])),
            messages.KILL_ACTOR: lambda _, m: head.kill_actor(m[1], no_restart=m[2], reason=m[3]),
            messages.ACTOR_RELEASED: lambda _, m: head.actor_released(m[1]),
            messages.ACTOR_READY: self._actor_ready,
            messages.ACTOR_FAILED: lambda _, m: head.actor_init_failed(m[1], m[2]),
            messages.ACTOR_EXITING: lambda _, m: head.actor_exiting(m[1], m[2]),
            messages.CREATE_GROUP: lambda c, m: head.groups.create(m[1], c.number),
            messages.REMOVE_GROUP: lambda _, m: head.groups.remove(m[1]),
            messages.WAIT_GROUP: lambda c, m: head.groups.wait(c.number, m[1], m[2]),
            messages.ASK: self._ask,
            messages.TOLD: lambda c, m: self._told(m[1], c.number, m[2]),
            messages.WHY_DIED: lambda c, m: scheduler.why_died(c.number, m[1], m[2]),
            messages.JOB_OUTPUT: self._job_output,
            messages.EXIT_JOB: lambda c, _: self._job_left(c),
            messages.EXIT: lambda c, _: scheduler.kept(c.worker_id or b""),
        }

    # -- nodes ------------------------------------------------------------------------------------

    def node_joined(self, node: Node, facts: NodeFacts) -> None:
        """A node is there from now on."""
        for other in self._nodes.values():
            other.node.node_there(facts.node_id, facts.address)
            node.node_there(other.facts.node_id, other.facts.address)
        self._nodes[facts.node_id] = NodeRecord(facts, node, not self._nodes, time.time())
        self.scheduler.node_joined(node, facts)

    def node_left(self, node_id: bytes, reason: str) -> None:
        """A node is gone, with its clients and objects; nothing happens if that is known."""
        record = self._nodes.pop(node_id, None)
        if record is None:
            return
        record.left_s, record.reason = time.time(), reason
        self._lost_nodes.append(record)
        gone = [client for client in self._clients.values() if client.node_id == node_id]
        for client in gone:
            del self._clients[client.number]
            self._ended.append(client)
        for gathering in self._gatherings.client_gone(_party(node_id)):
            self._gathered(gathering)
        for other in self._nodes.values():
            other.node.node_gone(node_id)
        self.scheduler.node_left(node_id, reason)
        for client in gone:
            self._client_gone(client)

    # -- what nodes say (jray._core.ports.Head) -----------------------------------------------------

    def client_joined(self, client: ClientFacts, request: int, facts: dict[str, Any]) -> None:
        if client.kind == "driver":
            job = self.head.start_job(client.number, facts)
            client, namespace = dataclasses.replace(client, job_id=job.job_id), job.namespace
        elif client.kind == "observer":
            client, namespace = dataclasses.replace(client, job_id=_NO_JOB), ""
        else:
            namespace = facts["namespace"]
        self._clients[client.number] = client
        self._nodes[client.node_id].node.welcome(client.number, request, client.job_id, namespace)
        if client.worker_id is not None:
            worker = RegisteredWorker(client.number, client.address, client.pid)
            self.scheduler.worker_registered(client.worker_id, worker)
        elif client.kind == "driver":
            environment = facts.get("runtime_env", ())
            if is_at_hand(environment):  # or the driver will say when it has sent what is needed
                self.scheduler.prestart(client.node_id, client.job_id, environment)

    def client_left(self, number: int) -> None:
        client = self._clients.pop(number, None)
        if client is not None:
            self._ended.append(client)
            self._client_gone(client)

    def _client_gone(self, client: ClientFacts) -> None:
        for gathering in self._gatherings.client_gone(client.number):
            self._gathered(gathering)
        for record in list(self._nodes.values()):
            record.node.client_gone(client.number, client.address, client.job_id)
        self.scheduler.client_gone(client.number)
        self.head.client_gone(client.number)
        if client.kind == "driver":
            self._job_left(client)

    def _job_left(self, client: ClientFacts) -> None:
        self.head.end_job(client.job_id)
        self.scheduler.job_gone(client.job_id)

    def from_client(self, number: int, message: Message) -> None:
        client = self._clients.get(number)
        if client is not None:
            self._handlers[message[0]](client, message)

    def to_client(self, number: int, message: Message) -> None:
        self._send(number, message)

    def to_node(self, node_id: bytes, sender: int, message: Message) -> None:
        record = self._nodes.get(node_id)
        if record is not None:
            record.node.from_afar(sender, message)
        elif message[0] == messages.FREE:  # it would have told those that have copies
            for other in list(self._nodes.values()):
                other.node.from_afar(sender, (messages.COPY_FREED, message[1]))

    def workers_exited(self, ended: Sequence[tuple[bytes, ExitCause]]) -> None:
        self.scheduler.workers_exited(ended)

    def memory_low(self, node_id: bytes, sample: MemorySample) -> None:
        self.scheduler.memory_low(node_id, sample)

    def told(self, number: int, node_id: bytes, answer: Any) -> None:
        self._told(number, _party(node_id), (node_id, answer))

    def environment_awaited(self, node_id: bytes, worker_id: bytes) -> None:  # noqa: ARG002 -- the worker's
        self.scheduler.environment_awaited(worker_id)

    def environment_made(self, node_id: bytes, pool: Pool) -> None:
        self.scheduler.environment_made(node_id, pool)

    def environment_failed(self, node_id: bytes, pool: Pool, reason: SetupFailure) -> None:
        self.scheduler.environment_failed(node_id, pool, reason)

    def environment_told(self, pool: Pool, text: str) -> None:
        self.scheduler.environment_told(pool, text)

    def fetch_package(self, node_id: bytes, uri: str, index: int) -> None:
        record = self._nodes.get(node_id)
        if record is not None:
            record.node.package_piece(uri, index, self.head.packages.piece(uri, index))

    # -- time -------------------------------------------------------------------------------------

    def next_deadline_s(self) -> float | None:
        """Return when `advance` must be called at the latest; None: no matter."""
        moments = (self._gatherings.next_deadline_s(), self.scheduler.next_deadline_s())
        return min((at for at in moments if at is not None), default=None)

    def advance(self) -> None:
        """Do what is due."""
        if self._gatherings.next_deadline_s() is not None:
            for gathering in self._gatherings.overdue(time.monotonic()):
                self._gathered(gathering)
        self.scheduler.advance()

    # -- what clients say -------------------------------------------------------------------------

    def _lease(self, client: ClientFacts, message: Message) -> None:
        _, class_number, units, wanted, runtime_env, *details = message
        self.scheduler.lease(
            client.number, class_number, units, wanted, (client.job_id, runtime_env), *details
        )

    def _enter_actor(
        self, enter: Callable[[int, ActorSpec], None], client: ClientFacts, spec: ActorSpec
    ) -> None:
        try:
            enter(client.number, spec)
        except NameTaken:  # the client reserved it first, so that this says something about another client
            self._send(client.number, (messages.NOTICE, spec.cell, f"actor name {spec.name!r} is taken"))

    def _actor_ready(self, client: ClientFacts, message: Message) -> None:
        self.scheduler.actor_made(message[1])
        self.head.actor_made(message[1], address=client.address, pid=client.pid, repr_name=message[2])

    def _job_output(self, client: ClientFacts, message: Message) -> None:
        job = self.head.jobs.get(client.job_id)
        if job is not None:
            self._send(job.client, (messages.OUTPUT, *message[1:]))

    # -- questions --------------------------------------------------------------------------------

    def _ask(self, client: ClientFacts, message: Message) -> None:
        _, request, question, arguments = message
        patience_s = self._config.report_timeout_s
        if question == "tell":
            self._gather(client, request, (messages.TELL, *arguments), patience_s)
            return
        if question == "tell_within":
            self._gather(client, request, (messages.TELL, *arguments[1:]), arguments[0])
            return
        if question == "cancel":
            self._gather(client, request, (messages.CANCEL_TASKS, *arguments), patience_s)
            return
        if question in _OF_NODES:
            self._gather_from_nodes(client, request, question, arguments, list(self._nodes.values()))
            return
        if question in _OF_ONE_NODE:
            one = self._nodes.get(arguments[0])
            self._gather_from_nodes(client, request, question, arguments[1:], [] if one is None else [one])
            return
        own: dict[str, Callable[..., Any]] = {
            "nodes": self._node_rows,
            "prepare": lambda environment: self.scheduler.prestart(
                client.node_id, client.job_id, environment
            ),
            "waiting": lambda: self.scheduler.waiting_rows(client.job_id),
            "workers": self.scheduler.worker_rows,
            "clients": self._client_rows,
        }
        try:
            value = own[question](*arguments) if question in own else self.head.answer(
                client.number, question, arguments
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 -- it is the asker's to handle
            self._send(client.number, (messages.REPLY, request, True, f"{type(error).__name__}: {error}"))
        else:
            self._reply(client, request, value)

    def _gather(self, client: ClientFacts, request: int, question: tuple[Any, ...], timeout_s: float) -> None:
        """Put a question to all drivers and workers; the answer comes once all have told, or time is over.

        A question is the kind of its message, and what that says besides its number.
        """
        deadline_s = time.monotonic() + timeout_s
        told = {asked.number for asked in self._clients.values() if asked.kind != "observer"}
        if not told:
            self._reply(client, request, ([], []))
            return
        number = self._gatherings.begin(client.number, request, told, deadline_s)
        for asked in told:
            self._send(asked, (question[0], number, *question[1:]))

    def _gather_from_nodes(
        self,
        client: ClientFacts,
        request: int,
        question: str,
        arguments: tuple[Any, ...],
        nodes: list[NodeRecord],
    ) -> None:
        """Put a question to nodes; the answer is a list of (node id, its answer), and of those that are silent."""
        if not nodes:
            self._reply(client, request, ([], []))
            return
        deadline_s = time.monotonic() + self._config.report_timeout_s
        parties = {_party(record.facts.node_id) for record in nodes}
        number = self._gatherings.begin(client.number, request, parties, deadline_s)
        for record in nodes:
            record.node.ask(number, question, arguments)

    def _told(self, number: int, party: int, answer: Any) -> None:
        gathering = self._gatherings.answered(number, party, answer)
        if gathering is not None:
            self._gathered(gathering)

    def _gathered(self, gathering: Gathering) -> None:
        asker = self._clients.get(gathering.asker)
        if asker is not None:
            silent = [client.pid for number in gathering.waiting if (client := self._clients.get(number))]
            self._reply(asker, gathering.request, ([answer for _, answer in gathering.answers], silent))

    def _client_rows(self) -> list[dict[str, Any]]:
        """Return a row for each driver and worker, living or lately ended, with Ray's keys."""
        everybody = (*self._clients.values(), *self._ended)
        return [self._client_row(client) for client in everybody if client.kind != "observer"]

    def _client_row(self, client: ClientFacts) -> dict[str, Any]:
        is_alive = client.number in self._clients
        cause = None if is_alive else self.scheduler.cause_of(client.worker_id or b"")
        return {
            "worker_id": (client.worker_id or client.job_id + b"\xff" * 24).hex(),
            "is_alive": is_alive,
            "worker_type": client.kind.upper(),
            "exit_type": None if cause is None else _exit_type(cause),
            "exit_detail": None if cause is None else cause.detail or cause.last_lines,
            "node_id": client.node_id.hex(),
            "ip": "127.0.0.1",
            "pid": client.pid,
            "job_id": client.job_id.hex(),
            "address": client.address,
        }

    def _node_rows(self) -> list[dict[str, Any]]:
        """Return what there is to tell of each node, living or lately lost, in the order in which they joined."""
        records = sorted((*self._lost_nodes, *self._nodes.values()), key=lambda record: record.joined_s)
        return [self._node_row(record) for record in records]

    def _node_row(self, record: NodeRecord) -> dict[str, Any]:
        facts = record.facts
        resources = self.scheduler.resources_of(facts.node_id)
        return {
            "node_id": facts.node_id,
            "is_alive": record.left_s is None,
            "is_head": record.is_head,
            "reason": record.reason,
            "joined_s": record.joined_s,
            "left_s": record.left_s,
            "hostname": facts.hostname,
            "name": facts.name,
            "labels": facts.labels,
            "address": facts.address,
            "pid": facts.pid,
            "resources": ResourceSet(facts.resources).to_floats()
            | {"object_store_memory": float(facts.store_bytes)},
            "available": {} if resources is None else resources.available.to_floats(),
            "store_dir": facts.store_dir,
            "session_dir": facts.session_dir,
        }

    # -- seams ------------------------------------------------------------------------------------

    def drivers(self) -> list[int]:
        """Return the numbers of the drivers that are connected."""
        return [client.number for client in self._clients.values() if client.kind == "driver"]

    def is_in_use(self) -> bool:
        """Tell whether a driver is connected or a task runs; actors that wait for calls do not count."""
        is_driven = any(client.kind == "driver" for client in self._clients.values())
        return is_driven or self.scheduler.leases.runs_tasks

    def _reply(self, client: ClientFacts, request: int, value: Any) -> None:
        self._send(client.number, (messages.REPLY, request, False, value))

    def _send(self, number: int, message: Message) -> None:
        client = self._clients.get(number)
        if client is not None:
            self._nodes[client.node_id].node.deliver(number, message)

    def _job_facts(self, job_id: bytes) -> dict[str, Any]:
        job = self.head.jobs[job_id]
        return {**job.facts, "namespace": job.namespace, "client": job.client}


def _party(node_id: bytes) -> int:
    """Return the number of a node among those that are asked: below zero, where no client's is."""
    return -int.from_bytes(node_id, "little")


def _exit_type(cause: ExitCause) -> str:
    """Return Ray's name for the way a worker ended."""
    if cause.detail:
        return "INTENDED_SYSTEM_EXIT"
    return "INTENDED_USER_EXIT" if cause.exit_code == 0 else "SYSTEM_ERROR"
