"""Owns the way of tasks and actors to workers: drives the leases' machine for all nodes of the cluster."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Protocol, cast

from jray._core.config import Config
from jray._core.environments import Environment
from jray._core.machine import leases as machine
from jray._core.machine.groups import Group
from jray._core.machine.memory import Held, MemoryWatch
from jray._core.ports import Node, NodeFacts, Pool, WorkerOrder
from jray._core.resources import NodeResources, ResourceSet
from jray._core.specs import (
    SETUP_FAILED,
    ActorSpec,
    ExitCause,
    GroupSpec,
    MemoryReport,
    MemorySample,
    SetupFailure,
)
from jray._core.strategies import Where
from jray._core.wire import messages

#: between two looks at what waits, and at who is idle for long
_TICK_S = 0.5
#: exit causes remembered after the fact, for owners that ask late
_REMEMBERED = 10_000
_MOST_HOLDERS = 5


class Cluster(Protocol):
    """What this tells the tables of actors and groups."""

    def actor_placed(self, actor_id: bytes, worker_id: bytes, node_id: bytes) -> bool: ...
    def actor_worker_died(self, actor_id: bytes, cause: ExitCause) -> None: ...
    def actor_refused(self, actor_id: bytes, reason: str) -> None: ...
    def group_moved(self, group_id: bytes, state: str) -> None: ...


@dataclasses.dataclass(slots=True)
class RegisteredWorker:
    """A worker that has said where it listens."""

    client: int
    address: str
    pid: int


@dataclasses.dataclass(slots=True)
class _Host:
    """A node, as this knows it."""

    node: Node
    facts: NodeFacts
    resources: NodeResources
    memory: MemoryWatch
    #: how the last worker ended that did so before it registered
    failed_start: ExitCause | None = None


class Scheduler:
    """Who may use which worker.  `send(client, message)` reaches a client if it lives."""

    def __init__(
        self,
        config: Config,
        send: Callable[[int, tuple[Any, ...]], None],
        job_facts: Callable[[bytes], dict[str, Any]],
    ) -> None:
        self._config = config
        self._send = send
        self._job_facts = job_facts
        self.leases = machine.Leases(_worker_ids())
        self._hosts: dict[bytes, _Host] = {}
        #: workers that were started and have not ended, and where
        self._nodes_of: dict[bytes, bytes] = {}
        self._registered: dict[bytes, RegisteredWorker] = {}
        self._specs: dict[bytes, ActorSpec] = {}
        self._restarts: dict[bytes, int] = {}
        #: how workers ended, the latest last
        self._causes: OrderedDict[bytes, ExitCause] = OrderedDict()
        self._asked_why: dict[bytes, list[tuple[int, int]]] = {}
        self._next_tick_s = 0.0
        #: whether nodes were told that workers are in use
        self._is_in_use = False
        self.cluster: Cluster

    # -- nodes ------------------------------------------------------------------------------------

    def node_joined(self, node: Node, facts: NodeFacts) -> None:
        resources = NodeResources(ResourceSet(facts.resources), facts.gpu_ids)
        watch = MemoryWatch(self._config.memory_usage_threshold)
        self._hosts[facts.node_id] = _Host(node, facts, resources, watch)
        if self._is_in_use:
            node.watch_memory(is_wanted=True)
        self.perform(
            self.leases.node_joined(
                facts.node_id,
                resources,
                max_starting=facts.max_starting,
                soft_limit=facts.soft_limit,
                labels=facts.labels,
            )
        )

    def node_left(self, node_id: bytes, reason: str) -> None:
        """A node is gone, and its workers with it."""
        del self._hosts[node_id]
        dead = [worker_id for worker_id, at in self._nodes_of.items() if at == node_id]
        actors = []
        for worker_id in dead:
            pooled = self.leases.workers.get(worker_id)
            registered = self._registered.get(worker_id)
            pid = 0 if registered is None else registered.pid
            cause = ExitCause(pid, None, None, "", f"Its node {node_id.hex()} was lost: {reason}.")
            self._ended(worker_id, cause)
            if pooled is not None and pooled.actor_id is not None:
                actors.append((pooled.actor_id, cause))
        self.perform(self.leases.node_left(node_id))
        for actor_id, cause in actors:
            self.cluster.actor_worker_died(actor_id, cause)

    def resources_of(self, node_id: bytes) -> NodeResources | None:
        """Return the resources of a node that is there."""
        host = self._hosts.get(node_id)
        return None if host is None else host.resources

    # -- what the head asks (its seam `Nodes`) --------------------------------------------------------

    def place_actor(self, spec: ActorSpec, client: int) -> None:
        self._restarts[spec.actor_id] = self._restarts.get(spec.actor_id, -1) + 1
        self._specs[spec.actor_id] = spec
        demand = machine.Demand(
            client=client,
            class_number=0,
            request=ResourceSet(spec.placement_request),
            pool=(spec.job, spec.runtime_env),
            wanted=1,
            cell=spec.cell,
            name=f"actor {spec.class_name}",
            actor_id=spec.actor_id,
            running_request=ResourceSet(spec.running_request),
            where=spec.where,
            home=spec.home,
        )
        self.perform(self.leases.demand(demand))

    def unplace_actor(self, actor_id: bytes) -> None:
        self._specs.pop(actor_id, None)
        self._restarts.pop(actor_id, None)
        self.perform(self.leases.actor_dropped(actor_id))

    def create_group(self, spec: GroupSpec) -> None:
        self.perform(self.leases.group_created(Group.of(spec)))

    def remove_group(self, group_id: bytes) -> None:
        self.perform(self.leases.group_removed(group_id))

    def nodes_of_group(self, group_id: bytes) -> dict[int, bytes]:
        """Return the node of each bundle that has a place."""
        return {i: account.node_id for i, account in self.leases.accounts.bundles.get(group_id, {}).items()}

    def group_reason(self, group_id: bytes) -> str:
        return self.leases.group_reason(group_id)

    def end_worker(self, worker_id: bytes, *, force: bool, reason: str) -> None:
        worker = self._registered.get(worker_id)
        if worker is not None and not force:
            self._send(worker.client, (messages.EXIT, reason))
            return
        host = self._hosts.get(self._nodes_of.get(worker_id, b""))
        if host is not None:
            host.node.end_worker(worker_id, reason)

    # -- what clients say -------------------------------------------------------------------------

    def lease(
        self,
        client: int,
        class_number: int,
        units: dict[str, int],
        wanted: int,
        pool: Hashable,
        cell: int,
        name: str,
        where: Where,
        home: bytes,
    ) -> None:
        demand = machine.Demand(
            client, class_number, ResourceSet(units), pool, wanted, cell, name, where=where, home=home
        )
        self.perform(self.leases.demand(demand))

    def returned(self, lease_number: int, *, retire: bool) -> None:
        self.perform(self.leases.returned(lease_number, retire=retire, now_s=time.monotonic()))

    def blocked(self, worker_id: bytes) -> None:
        self.perform(self.leases.blocked(worker_id))

    def unblocked(self, worker_id: bytes) -> None:
        self.leases.unblocked(worker_id)

    def kept(self, worker_id: bytes) -> None:
        self.perform(self.leases.kept(worker_id, now_s=time.monotonic()))

    def worker_registered(self, worker_id: bytes, worker: RegisteredWorker) -> None:
        self._registered[worker_id] = worker
        self.perform(self.leases.worker_ready(worker_id, now_s=time.monotonic()))

    def actor_made(self, actor_id: bytes) -> None:
        spec = self._specs.get(actor_id)
        if spec is not None:
            self.perform(self.leases.actor_made(actor_id, ResourceSet(spec.running_request)))
            pooled = self.leases.worker_of(actor_id)
            if pooled is not None and pooled.allocation is not None:
                self._tell_leased(self._registered[pooled.worker_id], pooled.allocation)

    def client_gone(self, client: int) -> None:
        self.perform(self.leases.client_gone(client))

    def job_gone(self, job_id: bytes) -> None:
        pools = {worker.pool for worker in self.leases.workers.values() if _job_of(worker.pool) == job_id}
        self.perform(self.leases.pool_gone(pools))
        for node_id, pool in self.leases.awaited():
            if _job_of(pool) == job_id and not self.leases.asking(pool):
                self._hosts[node_id].node.environment_unwanted(cast("Pool", pool))
                self.perform(self.leases.environment_made(node_id, pool))  # who asks later has it made anew

    def prestart(self, node_id: bytes, job_id: bytes, environment: Environment) -> None:
        """Have as many workers on their way at that node as a new job is likely to use at once."""
        host = self._hosts.get(node_id)
        if host is not None:
            cpus = host.resources.total.get("CPU") // 10_000
            self.perform(self.leases.prestart(node_id, (job_id, environment), min(cpus, os.cpu_count() or 1)))

    # -- runtime environments ---------------------------------------------------------------------

    def environment_awaited(self, worker_id: bytes) -> None:
        """A worker that was ordered does not start before its environment is made."""
        self._nodes_of.pop(worker_id, None)
        self.perform(self.leases.environment_awaited(worker_id))

    def environment_made(self, node_id: bytes, pool: Pool) -> None:
        self.perform(self.leases.environment_made(node_id, pool))

    def environment_failed(self, node_id: bytes, pool: Pool, reason: SetupFailure) -> None:
        if not self.leases.asking(pool):  # it was made ahead of any task: who asks later has it tried again
            self.environment_told(pool, f"A runtime environment could not be made. {reason}")
        self.perform(self.leases.environment_failed(node_id, pool, reason))

    def environment_told(self, pool: Pool, text: str) -> None:
        """Tell who waits for an environment, or else the job's driver."""
        cells = {(demand.client, demand.cell) for demand in self.leases.asking(pool)}
        for client, cell in cells or {(self._job_facts(pool[0])["client"], 0)}:
            self._send(client, (messages.NOTICE, cell, text))

    # -- time -------------------------------------------------------------------------------------

    def next_deadline_s(self) -> float | None:
        """Return when `advance` must be called at the latest; with nobody to end there is nothing to wake up for."""
        return self._next_tick_s if self.leases.workers else None

    def advance(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if now >= self._next_tick_s:
            self._next_tick_s = now + _TICK_S
            self.perform(self.leases.tick(now_s=now, idle_s=self._config.worker_idle_s))

    # -- ends -------------------------------------------------------------------------------------

    def workers_exited(self, ended: Sequence[tuple[bytes, ExitCause]]) -> None:
        """Worker processes were reaped."""
        for worker_id, cause in ended:
            if worker_id not in self._registered and not (cause.pid and cause.detail):
                host = self._hosts.get(self._nodes_of.get(worker_id, b""))
                if host is not None:
                    host.failed_start = cause
        # the idle ones first, or what the others ran would be given to them
        for worker_id, cause in sorted(ended, key=self._is_used):
            pooled = self.leases.workers.get(worker_id)
            # also of one that is ENDING, because its placement group was removed
            actor_id = None if pooled is None else pooled.actor_id
            if pooled is not None and worker_id not in self._registered and cause.exit_code == SETUP_FAILED:
                why = SetupFailure(f"Its worker_process_setup_hook raised:\n{cause.last_lines}")
                self.environment_failed(pooled.node_id, cast("Pool", pooled.pool), why)
            self._ended(worker_id, cause)
            self.perform(self.leases.worker_died(worker_id))
            if actor_id is not None:
                self.cluster.actor_worker_died(actor_id, cause)

    def _is_used(self, ended: tuple[bytes, ExitCause]) -> bool:
        pooled = self.leases.workers.get(ended[0])
        return pooled is not None and pooled.state in (machine.LEASED, machine.ACTOR)

    def _ended(self, worker_id: bytes, cause: ExitCause) -> None:
        self._registered.pop(worker_id, None)
        self._nodes_of.pop(worker_id, None)
        self._causes[worker_id] = cause
        while len(self._causes) > _REMEMBERED:
            self._causes.popitem(last=False)
        for client, request in self._asked_why.pop(worker_id, []):
            self._send(client, (messages.REPLY, request, False, cause))

    def cause_of(self, worker_id: bytes) -> ExitCause | None:
        """Return how a worker ended, if that is remembered."""
        return self._causes.get(worker_id)

    def why_died(self, client: int, request: int, worker_id: bytes) -> None:
        """Answer with the exit cause now, or as soon as the worker is reaped."""
        if worker_id in self._nodes_of:
            self._asked_why.setdefault(worker_id, []).append((client, request))
        else:
            unknown = ExitCause(0, None, None, "", "nothing is known about its end")
            self._send(client, (messages.REPLY, request, False, self._causes.get(worker_id, unknown)))

    def memory_low(self, node_id: bytes, sample: MemorySample) -> None:
        """A node has less memory free than should be: choose who ends for the others, and tell its owner first."""
        host = self._hosts.get(node_id)
        if host is None:
            return
        used = {
            pooled.worker_id: pooled
            for pooled in self.leases.in_use()
            if pooled.node_id == node_id and pooled.worker_id in sample.workers
        }
        held = [
            Held(worker_id, pooled.client, pooled.lease_number, sample.workers[worker_id][1])
            for worker_id, pooled in used.items()
        ]
        victim = host.memory.choose(time.monotonic(), sample.used, sample.total, held)
        if victim is None:
            return
        largest = sorted(held, key=lambda worker: worker.resident_bytes, reverse=True)[:_MOST_HOLDERS]
        report = MemoryReport(
            used=sample.used,
            total=sample.total,
            threshold=sample.threshold,
            worker_bytes=sample.workers[victim.worker_id][1],
            curve=sample.curve,
            holders=tuple(
                (sample.workers[worker.worker_id][0], self._what_runs(used[worker.worker_id]), worker.resident_bytes)
                for worker in largest
            ),
            runs_again=victim.runs_again,
        )  # fmt: skip
        pooled = used[victim.worker_id]
        if pooled.lease_number:
            self._send(pooled.client, (messages.LOW_MEMORY, pooled.lease_number, report))
        host.node.end_for_memory(victim.worker_id, report)

    def _what_runs(self, pooled: machine.PooledWorker) -> str:
        spec = self._specs.get(pooled.actor_id) if pooled.actor_id is not None else None
        return "tasks" if spec is None else f"actor {spec.class_name}"

    # -- questions --------------------------------------------------------------------------------

    def waiting_rows(self, job: bytes) -> list[tuple[str, int, int, str, list[tuple[str, int, int]]]]:
        """Return the fields of `jray._core.engine.Demand`, for each; of its holders, too.

        Cells of other jobs than the asker's are of other notebooks, and become 0.
        """
        return [
            (
                demand.name,
                demand.cell if _job_of(demand.pool) == job else 0,
                demand.wanted,
                reason,
                self._holder_rows(demand, job),
            )
            for demand, reason in self.leases.waiting()
        ]

    def _holder_rows(self, demand: machine.Demand, job: bytes) -> list[tuple[str, int, int]]:
        """Return (name, cell, workers) of what holds some of what a demand waits for."""
        return [
            (name, cell, workers)
            for (name, cell), workers in Counter(
                (worker.name, worker.cell if _job_of(worker.pool) == job else 0)
                for worker in self.leases.holders(demand)
            ).items()
        ]

    def worker_rows(self) -> list[dict[str, Any]]:
        """Return a row for each worker there is."""
        return [
            {
                "worker_id": worker.worker_id, "state": worker.state, "actor_id": worker.actor_id,
                "pid": found.pid if (found := self._registered.get(worker.worker_id)) else 0,
                "is_blocked": worker.is_blocked, "node_id": worker.node_id,
            }
            for worker in self.leases.workers.values()
        ]  # fmt: skip

    # -- actions ----------------------------------------------------------------------------------

    def perform(self, actions: list[machine.Action]) -> None:
        """Carry out what the leases' machine decided."""
        for action in actions:
            if isinstance(action, machine.Grant):
                self._grant(action)
            elif isinstance(action, machine.StartWorker):
                self._start_worker(action)
            elif isinstance(action, machine.PlaceActor):
                self._become_actor(action)
            elif isinstance(action, machine.EndWorker):
                self.end_worker(action.worker_id, force=action.force, reason=action.reason)
            elif isinstance(action, machine.WantIdle):
                self._send(action.client, (messages.IDLE_WANTED, action.wanted))
            elif isinstance(action, machine.Refuse):
                self._refuse(action)
            elif isinstance(action, machine.GroupMoved):
                self.cluster.group_moved(action.group_id, action.state)
            else:
                name = action.name or "A task"
                text = (
                    action.misfit.notice(name)
                    if isinstance(action, machine.Infeasible)
                    else self._why_workers_fail(name, action.node_id)
                )
                self._send(action.client, (messages.NOTICE, action.cell, text))
        if self._config.validate:
            self.leases.check_invariants()
        if self.leases.is_in_use != self._is_in_use:
            self._is_in_use = not self._is_in_use
            for host in self._hosts.values():
                host.node.watch_memory(is_wanted=self._is_in_use)

    def _why_workers_fail(self, name: str, node_id: bytes) -> str:
        said = f"{name} gets no worker: {machine.MOST_FAILED_STARTS} in a row died while they started."
        host = self._hosts.get(node_id)
        cause = None if host is None else host.failed_start
        if cause is not None and cause.pid:
            how = (
                f"exited with code {cause.exit_code}"
                if cause.signal is None
                else f"got signal {cause.signal}"
            )
            said += f"\n  The last {how}, and had written:\n{cause.last_lines or '(nothing)'}\n "
        elif cause is not None:
            said += f"\n  {cause.detail}\n "
        return f"{said} The next is tried every half second."

    def _refuse(self, refusal: machine.Refuse) -> None:
        if refusal.actor_id is None:
            self._send(refusal.client, (messages.REFUSED, refusal.class_number, refusal.reason))
        else:
            self.cluster.actor_refused(refusal.actor_id, refusal.reason)

    def _grant(self, grant: machine.Grant) -> None:
        worker = self._registered[grant.worker_id]
        self._tell_leased(worker, grant.allocation)
        self._send(
            grant.client,
            (messages.GRANT, grant.class_number, grant.lease_number, grant.worker_id, worker.address),
        )

    def _tell_leased(self, worker: RegisteredWorker, allocation: Any) -> None:
        request = allocation.request.to_floats()
        self._send(worker.client, (messages.LEASED, request, list(allocation.gpu_ids)))

    def _start_worker(self, action: machine.StartWorker) -> None:
        job_id, runtime_env = cast("Pool", action.pool)
        self._nodes_of[action.worker_id] = action.node_id
        self._hosts[action.node_id].node.start_worker(
            WorkerOrder(action.worker_id, job_id, self._job_facts(job_id), runtime_env)
        )

    def _become_actor(self, action: machine.PlaceActor) -> None:
        spec = self._specs.get(action.actor_id)
        worker = self._registered[action.worker_id]
        node_id = self._nodes_of[action.worker_id]
        if spec is None or not self.cluster.actor_placed(action.actor_id, action.worker_id, node_id):
            self.end_worker(action.worker_id, force=True, reason="the actor was killed")
            return
        self._tell_leased(worker, action.allocation)
        self._send(worker.client, (messages.BECOME_ACTOR, spec, self._restarts[action.actor_id]))


def _job_of(pool: Hashable) -> bytes:
    return cast("Pool", pool)[0]


def _worker_ids() -> Iterator[bytes]:
    while True:
        yield os.urandom(28)
