"""Decides what becomes of each actor of the cluster, and owns the names.  Pure.

DEPENDENCIES_UNREADY --the constructor's arguments are there--> PENDING_CREATION

PENDING_CREATION --placed, made--> ALIVE --worker died, restarts left--> RESTARTING --placed, made--> ALIVE
      |                              |                                        |
      +-- constructor raised --------+-- no restarts left, killed, -----------+--> DEAD
                                         exited, last handle gone, owner gone
"""

from __future__ import annotations

import dataclasses

from jray._core.machine.groups import GROUP_REMOVED
from jray._core.specs import ActorSpec, Concurrency, ExitCause

UNREADY = "DEPENDENCIES_UNREADY"
PENDING = "PENDING_CREATION"
ALIVE = "ALIVE"
RESTARTING = "RESTARTING"
DEAD = "DEAD"


@dataclasses.dataclass(frozen=True, slots=True)
class DeathCause:
    """Why an actor is dead, or restarts."""

    text: str
    exit_cause: ExitCause | None = None
    init_error: bytes | None = None  #: the serialized exception of the constructor
    is_unschedulable: bool = False  #: what it must run on is gone, or never was


@dataclasses.dataclass(frozen=True, slots=True)
class ActorView:
    """What everybody may know of an actor."""

    actor_id: bytes
    state: str
    class_name: str
    name: str | None
    namespace: str
    address: str  #: where it listens while ALIVE
    pid: int
    restarts: int
    max_task_retries: int
    is_ordered: bool  #: whether calls of one caller run in the order they were made
    concurrency: Concurrency
    is_detached: bool
    job: bytes
    cause: DeathCause | None
    methods: bytes
    cell: int


@dataclasses.dataclass(slots=True)
class ActorRecord:
    spec: ActorSpec
    client: int  #: who made it
    state: str = PENDING
    worker_id: bytes | None = None
    node_id: bytes = b""  #: where that worker is, or was
    address: str = ""
    pid: int = 0
    #: what the instance calls itself, if its class says how
    repr_name: str = ""
    restarts: int = 0
    cause: DeathCause | None = None
    #: why its worker is about to end on purpose; None: a death now is a failure
    wanted_end: str | None = None
    may_restart: bool = True
    subscribers: set[int] = dataclasses.field(default_factory=set)

    def view(self) -> ActorView:
        spec = self.spec
        return ActorView(
            actor_id=spec.actor_id,
            state=self.state,
            class_name=spec.class_name,
            name=spec.name,
            namespace=spec.namespace,
            address=self.address,
            pid=self.pid,
            restarts=self.restarts,
            max_task_retries=spec.max_task_retries,
            is_ordered=spec.is_ordered,
            concurrency=spec.concurrency,
            is_detached=spec.is_detached,
            job=spec.job,
            cause=self.cause,
            methods=spec.methods,
            cell=spec.cell,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Find it a worker."""

    actor_id: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Unplace:
    """It is dead: stop looking for a worker, and forget what was known for restarts."""

    actor_id: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Publish:
    """Tell its subscribers what it is now."""

    actor_id: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class EndActorWorker:
    worker_id: bytes
    force: bool
    reason: str


Action = Place | Unplace | Publish | EndActorWorker


class NameTaken(Exception):  # noqa: N818 -- becomes ActorAlreadyExistsError where the user is
    """An actor of that name is alive in that namespace."""


class Actors:
    """The cluster's actors."""

    def __init__(self) -> None:
        #: all there ever were: a handle may be older than its actor's death
        self.records: dict[bytes, ActorRecord] = {}
        self._live: dict[bytes, ActorRecord] = {}
        self._names: dict[tuple[str, str], bytes] = {}
        #: names given to actors that are not created yet, and the clients that asked
        self._reserved: dict[tuple[str, str], int] = {}
        #: clients that have a handle to an actor of which nothing is known yet: its maker's word is still on its way
        self._early: dict[bytes, set[int]] = {}

    # -- names ------------------------------------------------------------------------------------

    def reserve(self, namespace: str, name: str, actor_id: bytes, client: int = 0) -> bytes:
        """Give the name to that actor unless somebody has it; return whose it is then.

        It is free again when *client* dies before it has created the actor.
        """
        key = (namespace, name)
        holder = self._names.get(key)
        if holder is None:
            holder = self._names[key] = actor_id
            self._reserved[key] = client
        return holder

    def unreserve(self, namespace: str, name: str, actor_id: bytes) -> None:
        """Take the name from that actor; nothing happens if it is another's, or the actor was created."""
        key = (namespace, name)
        if key in self._reserved and self._names[key] == actor_id:
            del self._names[key], self._reserved[key]

    def lookup(self, namespace: str, name: str) -> bytes | None:
        return self._names.get((namespace, name))

    def names(self) -> list[tuple[str, str]]:
        return sorted(self._names)

    # -- events -----------------------------------------------------------------------------------

    def announce(self, spec: ActorSpec, client: int) -> list[Action]:
        """An actor is wanted once the arguments of its constructor are there.  Raises NameTaken."""
        self._enter(spec, client).state = UNREADY
        return []

    def create(self, spec: ActorSpec, client: int) -> list[Action]:
        """An actor is wanted, and all is there that it needs.  Raises NameTaken."""
        record = self.records.get(spec.actor_id)
        if record is None:
            self._enter(spec, client)
        elif record.state == UNREADY:
            record.spec, record.state = spec, PENDING
        else:  # it was killed, or let go, before its arguments came
            return []
        return [Place(spec.actor_id)]

    def _enter(self, spec: ActorSpec, client: int) -> ActorRecord:
        if spec.name is not None:
            if self.reserve(spec.namespace, spec.name, spec.actor_id, client) != spec.actor_id:
                raise NameTaken(spec.name)
            self._reserved.pop((spec.namespace, spec.name), None)
        record = ActorRecord(spec, client)
        record.subscribers = {client} | self._early.pop(spec.actor_id, set())
        self.records[spec.actor_id] = self._live[spec.actor_id] = record
        return record

    def subscribe(self, actor_id: bytes, client: int) -> ActorView | None:
        """Tell a client what becomes of an actor from now on; return what it is now, None if that is not known yet."""
        record = self.records.get(actor_id)
        if record is None:
            self._early.setdefault(actor_id, set()).add(client)
            return None
        record.subscribers.add(client)
        return record.view()

    def placed(self, actor_id: bytes, worker_id: bytes, node_id: bytes = b"") -> list[Action]:
        record = self.records[actor_id]
        if record.state == DEAD:
            return [EndActorWorker(worker_id, force=True, reason="the actor was killed")]
        record.worker_id, record.node_id = worker_id, node_id
        record.wanted_end = None
        return []

    def made(self, actor_id: bytes, *, address: str, pid: int, repr_name: str = "") -> list[Action]:
        """Its constructor returned."""
        record = self._live.get(actor_id)
        if record is None or record.worker_id is None:  # that process is dead already
            return []
        record.state = ALIVE
        record.address, record.pid, record.repr_name = address, pid, repr_name
        return [Publish(actor_id)]

    def init_failed(self, actor_id: bytes, error: bytes) -> list[Action]:
        """Its constructor raised: no restart helps."""
        record = self._live.get(actor_id)
        if record is None:
            return []
        return self._die(
            record, DeathCause("its constructor raised an exception", init_error=error), force=True
        )

    def exiting(self, actor_id: bytes, reason: str) -> list[Action]:
        """Its worker ends on purpose: whatever follows is no failure and no reason to restart."""
        record = self._live.get(actor_id)
        if record is None:
            return []
        if record.worker_id is None and record.state == RESTARTING:
            # the news of the process's end was faster than its last message
            return self._die(record, DeathCause(reason), force=False)
        record.wanted_end = reason
        return []

    def worker_died(self, actor_id: bytes, cause: ExitCause) -> list[Action]:
        record = self._live.get(actor_id)
        if record is None:
            return []
        record.worker_id = None
        record.address, record.pid = "", 0
        if record.wanted_end is not None:
            return self._die(record, DeathCause(record.wanted_end), force=False)
        if cause.detail == GROUP_REMOVED:  # a restart would have no place
            return self._die(record, DeathCause(GROUP_REMOVED, exit_cause=cause), force=False)
        limit = record.spec.max_restarts
        if not record.may_restart or (limit >= 0 and record.restarts >= limit):
            return self._die(record, DeathCause("its process died", exit_cause=cause), force=False)
        record.restarts += 1
        record.state = RESTARTING
        record.cause = DeathCause("its process died", exit_cause=cause)
        return [Publish(actor_id), Place(actor_id)]

    def refused(self, actor_id: bytes, reason: str) -> list[Action]:
        """What it must run on is gone, or never was."""
        record = self._live.get(actor_id)
        if record is None:
            return []
        return self._die(record, DeathCause(reason, is_unschedulable=reason != GROUP_REMOVED), force=True)

    def kill(self, actor_id: bytes, *, no_restart: bool, reason: str) -> list[Action]:
        record = self._live.get(actor_id)
        if record is None:
            return []
        limit = record.spec.max_restarts
        if no_restart or (limit >= 0 and record.restarts >= limit):
            return self._die(record, DeathCause(reason), force=True)
        if record.worker_id is None:
            return []
        return [EndActorWorker(record.worker_id, force=True, reason=reason)]

    def released(self, actor_id: bytes) -> list[Action]:
        """The last handle is gone: let it finish what it has, then end."""
        record = self._live.get(actor_id)
        if record is None or record.spec.is_detached:
            return []
        record.may_restart = False
        record.wanted_end = "all handles to it are gone"
        if record.worker_id is None or record.state != ALIVE:
            return self._die(record, DeathCause(record.wanted_end), force=True)
        return [EndActorWorker(record.worker_id, force=False, reason=record.wanted_end)]

    def client_gone(self, client: int) -> list[Action]:
        """A client died: the actors it made go too, except detached ones."""
        actions: list[Action] = []
        for (namespace, name), maker in list(self._reserved.items()):
            if maker == client:
                self.unreserve(namespace, name, self._names[namespace, name])
        for actor_id, clients in list(self._early.items()):
            clients.discard(client)
            if not clients:
                del self._early[actor_id]
        for record in list(self._live.values()):
            record.subscribers.discard(client)
            if record.client == client and not record.spec.is_detached:
                actions += self._die(record, DeathCause("the process that made it is gone"), force=True)
        return actions

    def job_gone(self, job: bytes) -> list[Action]:
        """A job ended: its actors go too, except detached ones."""
        actions: list[Action] = []
        for record in list(self._live.values()):
            if record.spec.job == job and not record.spec.is_detached:
                actions += self._die(record, DeathCause("its job ended"), force=True)
        return actions

    # -- inside -----------------------------------------------------------------------------------

    def _die(self, record: ActorRecord, cause: DeathCause, *, force: bool) -> list[Action]:
        spec = record.spec
        # also where it has a worker: who places actors keeps what restarts need
        actions: list[Action] = [Unplace(spec.actor_id)]
        if record.worker_id is not None and force:
            actions.append(EndActorWorker(record.worker_id, force=True, reason=cause.text))
        del self._live[spec.actor_id]
        record.state = DEAD
        record.cause = cause
        record.worker_id = None
        record.address, record.pid = "", 0
        if spec.name is not None:
            del self._names[spec.namespace, spec.name]
        # its constructor's arguments are of no more use
        record.spec = dataclasses.replace(spec, args_blob=b"", class_blob=b"", sources={}, dependencies=())
        return [*actions, Publish(spec.actor_id)]

    def check_invariants(self) -> None:
        """Raise AssertionError unless the tables agree with each other."""
        for (namespace, name), actor_id in self._names.items():
            record = self.records.get(actor_id)
            assert record is None or record.state != DEAD, f"the dead {name} of {namespace} keeps its name"
            assert (record is None) == ((namespace, name) in self._reserved), f"{name} is reserved for ever"
        assert self._reserved.keys() <= self._names.keys(), "a reservation of no name"
        assert not self._early.keys() & self.records.keys(), "who asked early was forgotten"
        for record in self.records.values():
            spec = record.spec
            assert (record.state == ALIVE) == bool(record.address), "an address without life"
            assert record.state != ALIVE or record.worker_id is not None, "life without a process"
            assert record.state != DEAD or record.worker_id is None, "a process without life"
            assert record.state != DEAD or record.cause is not None, "a death without a cause"
            assert (record.state == DEAD) == (spec.actor_id not in self._live), "the living miscounted"
            assert spec.max_restarts < 0 or record.restarts <= spec.max_restarts, "more restarts than allowed"
            if record.state != DEAD and spec.name is not None:
                assert self._names[spec.namespace, spec.name] == spec.actor_id, "a living actor lost its name"
