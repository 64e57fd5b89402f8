"""Decides, on one node, who may use which worker with which resources.  Pure.

Clients state demands ("so many leases with these resources"); the machine grants what fits, asks for
workers where none is idle, and says why the rest waits.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Hashable, Iterable

from jray._core.resources import Allocation, NodeResources, ResourceSet

STARTING = "STARTING"
IDLE = "IDLE"
LEASED = "LEASED"
ACTOR = "ACTOR"
ENDING = "ENDING"


@dataclasses.dataclass(slots=True)
class Demand:
    """What one client wants of one kind; of an actor's placement exactly one."""

    client: int
    class_number: int
    request: ResourceSet
    pool: Hashable  #: job and environment: what workers are shared within
    wanted: int
    cell: int = 0
    name: str = ""
    actor_id: bytes | None = None
    running_request: ResourceSet = ResourceSet()  #: what an actor holds once it is made
    said_infeasible: bool = False


@dataclasses.dataclass(slots=True)
class PooledWorker:
    """A worker process as the node's accounts see it."""

    worker_id: bytes
    pool: Hashable
    state: str = STARTING
    allocation: Allocation | None = None
    is_blocked: bool = False
    lease_number: int = 0
    #: the client that leases it, or that made the actor in it
    client: int = 0
    actor_id: bytes | None = None
    idle_since_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class StartWorker:
    worker_id: bytes
    pool: Hashable


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    client: int
    class_number: int
    lease_number: int
    worker_id: bytes
    allocation: Allocation


@dataclasses.dataclass(frozen=True, slots=True)
class PlaceActor:
    actor_id: bytes
    worker_id: bytes
    allocation: Allocation


@dataclasses.dataclass(frozen=True, slots=True)
class EndWorker:
    worker_id: bytes
    reason: str
    force: bool  #: at once, or after it has finished what runs and given up what others borrow


@dataclasses.dataclass(frozen=True, slots=True)
class WantIdle:
    """Tell this client whether others wait for what it leases."""

    client: int
    wanted: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Infeasible:
    client: int
    cell: int
    name: str
    reason: str


Action = StartWorker | Grant | PlaceActor | EndWorker | WantIdle | Infeasible


@dataclasses.dataclass(slots=True)
class _Promise:
    """Resources set aside for a demand whose worker is still starting."""

    demand: Demand
    allocation: Allocation


class Leases:
    """The leases, workers and resources of one node.  Each event returns the actions to carry out, in order.

    `new_worker_id` makes ids: randomness comes in from outside.
    """

    def __init__(self, resources: NodeResources, *, max_starting: int, soft_limit: int, worker_ids: Iterable[bytes]):
        self.resources = resources
        self.workers: dict[bytes, PooledWorker] = {}
        self._demands: deque[Demand] = deque()
        self._promises: deque[_Promise] = deque()
        self._lease_number = 0
        self._leases: dict[int, PooledWorker] = {}
        self._max_starting = max_starting
        self._soft_limit = soft_limit
        self._worker_ids = iter(worker_ids)
        self._told_wanted: set[int] = set()

    # -- events -----------------------------------------------------------------------------------

    def demand(self, demand: Demand) -> list[Action]:
        """A client states how many leases of a kind it wants from now on, replacing what it said before."""
        for known in self._demands:
            if known.actor_id is None and (known.client, known.class_number) == (demand.client, demand.class_number):
                known.wanted = demand.wanted
                known.cell, known.name = demand.cell, demand.name
                break
        else:
            self._demands.append(demand)
        return self._schedule()

    def returned(self, lease_number: int, *, retire: bool, now_s: float) -> list[Action]:
        """The client has no more use for a lease.  Unknown numbers are ignored: its worker died meanwhile."""
        worker = self._leases.pop(lease_number, None)
        if worker is None:
            return []
        self._release(worker)
        if retire:
            worker.state = ENDING
            return [EndWorker(worker.worker_id, "max_calls reached", force=False), *self._schedule()]
        return self._idle(worker, now_s)

    def worker_ready(self, worker_id: bytes, *, now_s: float) -> list[Action]:
        worker = self.workers.get(worker_id)
        if worker is None or worker.state != STARTING:
            return []
        return self._idle(worker, now_s)

    def worker_died(self, worker_id: bytes) -> list[Action]:
        worker = self.workers.pop(worker_id, None)
        if worker is None:
            return []
        self._leases.pop(worker.lease_number, None)
        was_starting = worker.state == STARTING
        self._release(worker)
        actions: list[Action] = []
        if was_starting:
            # its promise is kept by another worker
            actions += self._start_for_promises()
        return actions + self._schedule()

    def blocked(self, worker_id: bytes) -> list[Action]:
        """The worker waits in `get`: its CPU may serve others.  An actor gives nothing back (Ray's rule)."""
        worker = self.workers.get(worker_id)
        if worker is None or worker.state != LEASED or worker.is_blocked or worker.allocation is None:
            return []
        worker.is_blocked = True
        self.resources.release_cpu(worker.allocation)
        return self._schedule()

    def unblocked(self, worker_id: bytes) -> None:
        """The worker goes on; until another ends there may be more running than CPUs (as in Ray)."""
        worker = self.workers.get(worker_id)
        if worker is not None and worker.is_blocked and worker.allocation is not None:
            worker.is_blocked = False
            self.resources.reacquire_cpu(worker.allocation)

    def actor_made(self, actor_id: bytes, running_request: ResourceSet) -> list[Action]:
        """The constructor is done: hold from now on only what the actor asked for while alive."""
        worker = self.worker_of(actor_id)
        if worker is None or worker.allocation is None:
            return []
        if worker.allocation.request != running_request:
            # ask for the smaller first: what it has of GPUs it must keep
            self.resources.release(worker.allocation)
            worker.allocation = self.resources.allocate(running_request)
        return self._schedule()

    def actor_dropped(self, actor_id: bytes) -> list[Action]:
        """Nobody wants this actor placed any more."""
        self._demands = deque(demand for demand in self._demands if demand.actor_id != actor_id)
        for promise in [promise for promise in self._promises if promise.demand.actor_id == actor_id]:
            self._promises.remove(promise)
            self.resources.release(promise.allocation)
        return self._schedule()

    def client_gone(self, client: int) -> list[Action]:
        """A client died: its demands go, and the workers that ran its tasks end."""
        self._told_wanted.discard(client)
        self._demands = deque(d for d in self._demands if d.client != client or d.actor_id is not None)
        for promise in [p for p in self._promises if p.demand.client == client and p.demand.actor_id is None]:
            self._promises.remove(promise)
            self.resources.release(promise.allocation)
        actions: list[Action] = []
        for worker in list(self.workers.values()):
            if worker.client == client and worker.state == LEASED:
                actions.append(self._end(worker, "the owner of its task died", force=True))
        return actions + self._schedule()

    def pool_gone(self, pool_of_job: Iterable[Hashable]) -> list[Action]:
        """A job ended: end all workers of its pools that hold no actor."""
        pools = set(pool_of_job)
        return [
            self._end(worker, "its job ended", force=True)
            for worker in self.workers.values()
            if worker.pool in pools and worker.state not in (ACTOR, ENDING)
        ]

    def tick(self, *, now_s: float, idle_s: float) -> list[Action]:
        """End workers idle for long, beyond the soft limit."""
        idle = [worker for worker in self.workers.values() if worker.state == IDLE]
        surplus = len(idle) - self._soft_limit
        idle.sort(key=lambda worker: worker.idle_since_s)
        return [
            self._end(worker, "idle", force=False)
            for worker in idle[: max(0, surplus)]
            if now_s - worker.idle_since_s >= idle_s
        ]

    def prestart(self, pool: Hashable, count: int) -> list[Action]:
        """Have `count` workers of that pool on their way."""
        have = sum(worker.pool == pool and worker.state in (STARTING, IDLE) for worker in self.workers.values())
        return [self._start(pool) for _ in range(count - have)]

    def kept(self, worker_id: bytes, *, now_s: float) -> list[Action]:
        """A worker asked to end stays, because others borrow its objects."""
        worker = self.workers.get(worker_id)
        if worker is None or worker.state != ENDING:
            return []
        return self._idle(worker, now_s)

    # -- questions --------------------------------------------------------------------------------

    def waiting(self) -> list[tuple[Demand, str]]:
        """Return each demand that waits, and why."""
        found = []
        for demand in self._demands:
            if demand.wanted > 0:
                reason = self.resources.infeasible_reason(demand.request)
                found.append((demand, reason or self.resources.waiting_reason(demand.request) or "a worker starts"))
        return found

    def check_invariants(self) -> None:
        self.resources.check_invariants()
        held = [worker.allocation for worker in self.workers.values() if worker.allocation is not None]
        held += [promise.allocation for promise in self._promises]
        assert sorted(map(id, held)) == sorted(map(id, self.resources.allocations)), "resources nobody holds"
        for number, worker in self._leases.items():
            assert worker.state == LEASED, f"lease {number} of a worker that is {worker.state}"
            assert worker.lease_number == number, "a worker with two leases"
        for worker in self.workers.values():
            assert worker.state in (LEASED, ACTOR) or worker.allocation is None, f"{worker.state} with resources"

    # -- inside -----------------------------------------------------------------------------------

    def _schedule(self) -> list[Action]:
        """Grant in turns, one lease per demand and round, until nothing more fits."""
        actions: list[Action] = []
        progress = True
        while progress:
            progress = False
            for demand in list(self._demands):
                if demand.wanted <= 0:
                    self._demands.remove(demand)
                elif self._try(demand, actions):
                    progress = True
        return actions + self._tell_wanted()

    def _try(self, demand: Demand, actions: list[Action]) -> bool:
        worker = self._find_idle(demand.pool)
        if worker is None and self._starting() >= self._max_starting:
            return False
        allocation = self.resources.allocate(demand.request)
        if allocation is None:
            if not demand.said_infeasible and (reason := self.resources.infeasible_reason(demand.request)):
                demand.said_infeasible = True
                actions.append(Infeasible(demand.client, demand.cell, demand.name, reason))
            return False
        demand.wanted -= 1
        if worker is not None:
            actions.append(self._give(worker, demand, allocation))
        else:
            self._promises.append(_Promise(demand, allocation))
            actions += self._start_for_promises()
        return True

    def _start_for_promises(self) -> list[Action]:
        actions: list[Action] = []
        pools = [promise.demand.pool for promise in self._promises]
        for pool in dict.fromkeys(pools):
            coming = sum(worker.state == STARTING and worker.pool == pool for worker in self.workers.values())
            actions += [self._start(pool) for _ in range(pools.count(pool) - coming)]
        return actions

    def _start(self, pool: Hashable) -> StartWorker:
        worker = PooledWorker(next(self._worker_ids), pool)
        self.workers[worker.worker_id] = worker
        return StartWorker(worker.worker_id, pool)

    def _starting(self) -> int:
        return sum(worker.state == STARTING for worker in self.workers.values())

    def _find_idle(self, pool: Hashable) -> PooledWorker | None:
        # the one used last has the warmest caches
        idle = [worker for worker in self.workers.values() if worker.state == IDLE and worker.pool == pool]
        return max(idle, key=lambda worker: worker.idle_since_s, default=None)

    def _idle(self, worker: PooledWorker, now_s: float) -> list[Action]:
        worker.state = IDLE
        worker.idle_since_s = now_s
        worker.client = 0
        for promise in self._promises:
            if promise.demand.pool == worker.pool:
                self._promises.remove(promise)
                return [self._give(worker, promise.demand, promise.allocation), *self._schedule()]
        return self._schedule()

    def _give(self, worker: PooledWorker, demand: Demand, allocation: Allocation) -> Grant | PlaceActor:
        worker.allocation = allocation
        worker.client = demand.client
        worker.is_blocked = False
        if demand.actor_id is not None:
            worker.state = ACTOR
            worker.actor_id = demand.actor_id
            return PlaceActor(demand.actor_id, worker.worker_id, allocation)
        self._lease_number += 1
        worker.state = LEASED
        worker.lease_number = self._lease_number
        self._leases[self._lease_number] = worker
        return Grant(demand.client, demand.class_number, self._lease_number, worker.worker_id, allocation)

    def _release(self, worker: PooledWorker) -> None:
        if worker.allocation is not None:
            if worker.is_blocked:
                self.resources.reacquire_cpu(worker.allocation)
            self.resources.release(worker.allocation)
        worker.allocation = None
        worker.is_blocked = False
        worker.lease_number = 0

    def _end(self, worker: PooledWorker, reason: str, *, force: bool) -> EndWorker:
        self._leases.pop(worker.lease_number, None)
        self._release(worker)
        worker.state = ENDING
        return EndWorker(worker.worker_id, reason, force)

    def worker_of(self, actor_id: bytes) -> PooledWorker | None:
        return next((w for w in self.workers.values() if w.state == ACTOR and w.actor_id == actor_id), None)

    def _tell_wanted(self) -> list[Action]:
        """Tell the clients that hold leases when others start or stop to wait for them."""
        waits = any(self.resources.infeasible_reason(demand.request) is None for demand in self._demands)
        holders = {worker.client for worker in self._leases.values()} if waits else set()
        actions: list[Action] = [WantIdle(client, wanted=True) for client in sorted(holders - self._told_wanted)]
        actions += [WantIdle(client, wanted=False) for client in sorted(self._told_wanted - holders)]
        self._told_wanted = holders
        return actions
