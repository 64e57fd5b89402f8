"""Owns one node's messages: drives the leases' machine, the worker pool and the store."""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Protocol, cast

from jray._core.config import Config
from jray._core.machine import leases as machine
from jray._core.machine.groups import Group
from jray._core.machine.orphans import Orphans
from jray._core.node.memory import MemoryMonitor
from jray._core.node.pool import WorkerPool
from jray._core.node.spilling import SpillService
from jray._core.resources import NodeResources, ResourceSet
from jray._core.specs import ActorSpec, ExitCause, GroupSpec, MemoryReport
from jray._core.store.arena import Store
from jray._core.strategies import Where
from jray._core.wire import messages

#: How a job's workers are told apart: by its id and the hashable form of a runtime environment.
Pool = tuple[bytes, tuple[tuple[str, Any], ...]]


class Cluster(Protocol):
    """What a node tells the head."""

    def actor_placed(self, actor_id: bytes, worker_id: bytes) -> bool: ...
    def actor_worker_died(self, actor_id: bytes, cause: ExitCause) -> None: ...
    def actor_refused(self, actor_id: bytes, reason: str) -> None: ...
    def group_moved(self, group_id: bytes, state: str) -> None: ...


@dataclasses.dataclass(slots=True)
class LocalWorker:
    """A worker that has registered."""

    client: int
    address: str
    pid: int


class NodeService:
    """Leases, workers and store of one machine.  `send(client, message)` reaches a client if it lives."""

    def __init__(
        self,
        *,
        config: Config,
        node_id: bytes,
        resources: NodeResources,
        labels: Mapping[str, str],
        pool: WorkerPool,
        store: Store,
        spilling: SpillService,
        session_dir: str,
        send: Callable[[int, tuple[Any, ...]], None],
        job_facts: Callable[[bytes], dict[str, Any]],
        fail: Callable[[str], None],
        max_starting: int,
        soft_limit: int,
    ) -> None:
        self._config = config
        self._pool = pool
        self._store = store
        self.spilling = spilling
        self._session_dir = session_dir
        self._send = send
        self._job_facts = job_facts
        self._fail = fail
        self._node_id = node_id
        self.resources = resources
        self.leases = machine.Leases(_worker_ids())
        self.leases.node_joined(
            node_id, resources, max_starting=max_starting, soft_limit=soft_limit, labels=labels
        )
        self.orphans = Orphans()
        self.workers: dict[bytes, LocalWorker] = {}
        self._specs: dict[bytes, ActorSpec] = {}
        self._restarts: dict[bytes, int] = {}
        #: how the last worker ended that did so before it registered
        self._failed_start: ExitCause | None = None
        self._log_numbers = itertools.count(1)
        self._asked_why: dict[bytes, list[tuple[int, int]]] = {}
        self.memory = MemoryMonitor(
            config.memory_usage_threshold,
            config.memory_monitor_refresh_ms / 1000,
            self._workers_in_use,
            self._warn_of_memory,
            self._end_for_memory,
        )
        self.cluster: Cluster

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
        self._forget(actor_id)
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
        worker = self.workers.get(worker_id)
        if force or worker is None:
            self._pool.kill(worker_id, reason)
        else:
            self._send(worker.client, (messages.EXIT, reason))

    def _forget(self, actor_id: bytes) -> None:
        self._specs.pop(actor_id, None)
        self._restarts.pop(actor_id, None)

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

    def worker_registered(self, worker_id: bytes, worker: LocalWorker) -> None:
        self.workers[worker_id] = worker
        self.perform(self.leases.worker_ready(worker_id, now_s=time.monotonic()))

    def actor_made(self, actor_id: bytes) -> None:
        spec = self._specs.get(actor_id)
        if spec is not None:
            self.perform(self.leases.actor_made(actor_id, ResourceSet(spec.running_request)))
            pooled = self.leases.worker_of(actor_id)
            if pooled is not None and pooled.allocation is not None:
                self._tell_leased(self.workers[pooled.worker_id], pooled.allocation)

    def client_gone(self, client: int, others: list[int]) -> None:
        """A client's connection closed; `others` may have views of what it owned, and are asked."""
        orphaned = self._store.ledger.bequeath(client, heir=0)
        self.spilling.client_gone(client)
        self.free(self.orphans.client_gone(client))
        self.free(self.orphans.owner_died(client, orphaned, others if orphaned else []))
        self.perform(self.leases.client_gone(client))

    def job_gone(self, job_id: bytes) -> None:
        pools = {worker.pool for worker in self.leases.workers.values() if worker.pool[0] == job_id}  # type: ignore[index]
        self.perform(self.leases.pool_gone(pools))

    def prestart(self, job_id: bytes, count: int) -> None:
        self.perform(self.leases.prestart(self._node_id, (job_id, ()), count))

    def tick(self) -> None:
        self.perform(self.leases.tick(now_s=time.monotonic(), idle_s=self._config.worker_idle_s))

    # -- the store --------------------------------------------------------------------------------

    def seal(self, object_id: bytes, owner: int, creator: int) -> None:
        self._store.ledger.seal(object_id, owner, creator)
        self.spilling.sealed()

    def abort(self, object_id: bytes, creator: int) -> None:
        self._store.ledger.abort(object_id, creator)

    def free(self, object_ids: list[bytes]) -> None:
        for object_id in object_ids:
            self._store.ledger.free(object_id)
        self.spilling.freed(object_ids)

    # -- ends -------------------------------------------------------------------------------------

    def workers_exited(self, ended: list[tuple[bytes, ExitCause]]) -> None:
        """Worker processes were reaped."""
        for worker_id, cause in ended:
            if worker_id not in self.workers and not (cause.pid and cause.detail):
                self._failed_start = cause
                if not os.path.exists(self._session_dir):
                    self._fail(f"Its directory {self._session_dir} was removed, so that no worker can start.")
        # the idle ones first, or what the others ran would be given to them
        for worker_id, cause in sorted(ended, key=self._is_in_use):
            self._worker_exited(worker_id, cause)

    def _is_in_use(self, ended: tuple[bytes, ExitCause]) -> bool:
        pooled = self.leases.workers.get(ended[0])
        return pooled is not None and pooled.state in (machine.LEASED, machine.ACTOR)

    def _worker_exited(self, worker_id: bytes, cause: ExitCause) -> None:
        pooled = self.leases.workers.get(worker_id)
        worker = self.workers.pop(worker_id, None)
        if worker is not None and os.path.exists(worker.address):
            os.unlink(worker.address)  # what is killed leaves its socket
        for client, request in self._asked_why.pop(worker_id, []):
            self._send(client, (messages.REPLY, request, False, cause))
        # also of one that is ENDING, because its placement group was removed
        actor_id = None if pooled is None else pooled.actor_id
        self.perform(self.leases.worker_died(worker_id))
        if actor_id is not None:
            self.cluster.actor_worker_died(actor_id, cause)

    def _workers_in_use(self) -> list[tuple[bytes, int, int, int, str]]:
        found = []
        for pooled in self.leases.in_use():
            process = self._pool.processes.get(pooled.worker_id)
            spec = self._specs.get(pooled.actor_id) if pooled.actor_id is not None else None
            if process is not None and process.pid:
                name = "tasks" if spec is None else f"actor {spec.class_name}"
                found.append((pooled.worker_id, process.pid, pooled.client, pooled.lease_number, name))
        return found

    def _warn_of_memory(self, worker_id: bytes, report: MemoryReport) -> None:
        pooled = self.leases.workers.get(worker_id)
        if pooled is not None and pooled.lease_number:
            self._send(pooled.client, (messages.LOW_MEMORY, pooled.lease_number, report))

    def _end_for_memory(self, worker_id: bytes, report: MemoryReport) -> None:
        self._pool.kill(
            worker_id,
            f"jray ended it, because {report.used / report.total:.0%} of the memory was in use, above the limit of "
            f"{report.threshold:.0%}.",
            report,
        )

    def why_died(self, client: int, request: int, worker_id: bytes) -> None:
        """Answer with the exit cause now, or as soon as the worker is reaped."""
        cause = self._pool.causes.get(worker_id)
        if cause is not None or worker_id not in self._pool.processes:
            cause = cause or ExitCause(0, None, None, "", "nothing is known about its end")
            self._send(client, (messages.REPLY, request, False, cause))
        else:
            self._asked_why.setdefault(worker_id, []).append((client, request))

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
                    else self._why_workers_fail(name)
                )
                self._send(action.client, (messages.NOTICE, action.cell, text))
        if self._config.validate:
            self.leases.check_invariants()

    def _why_workers_fail(self, name: str) -> str:
        said = f"{name} gets no worker: {machine.MOST_FAILED_STARTS} in a row died while they started."
        cause = self._failed_start
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
        worker = self.workers[grant.worker_id]
        self._tell_leased(worker, grant.allocation)
        self._send(
            grant.client,
            (messages.GRANT, grant.class_number, grant.lease_number, grant.worker_id, worker.address),
        )

    def _tell_leased(self, worker: LocalWorker, allocation: Any) -> None:
        request = allocation.request.to_floats()
        self._send(worker.client, (messages.LEASED, request, list(allocation.gpu_ids)))

    def _start_worker(self, action: machine.StartWorker) -> None:
        job_id, runtime_env = cast("Pool", action.pool)
        number = next(self._log_numbers)
        facts = self._job_facts(job_id)
        self._pool.start(
            action.worker_id,
            {
                "worker_id": action.worker_id,
                "job_id": job_id,
                "session_dir": self._session_dir,
                "address": f"{self._session_dir}/w{number}.sock",
                "log_path": f"{self._session_dir}/logs/worker-{number}",
                "cwd": facts.get("cwd"),
                "sys_path": facts.get("sys_path"),
                "namespace": facts.get("namespace"),
                "logging": facts.get("logging"),
                "default_actor_lifetime": facts.get("default_actor_lifetime", "non_detached"),
                "runtime_env": dict(runtime_env),
            },
        )

    def _become_actor(self, action: machine.PlaceActor) -> None:
        spec = self._specs.get(action.actor_id)
        worker = self.workers[action.worker_id]
        if spec is None or not self.cluster.actor_placed(action.actor_id, action.worker_id):
            self.end_worker(action.worker_id, force=True, reason="the actor was killed")
            return
        self._tell_leased(worker, action.allocation)
        self._send(worker.client, (messages.BECOME_ACTOR, spec, self._restarts[action.actor_id]))


def _job_of(pool: Hashable) -> bytes:
    return cast("Pool", pool)[0]


def _worker_ids() -> Iterator[bytes]:
    while True:
        yield os.urandom(28)
