"""Decides, on one node, who may use which worker with which resources.  Pure.

Clients state demands ("so many leases with these resources"); the machine grants what fits, asks for
workers where none is idle, and says why the rest waits.

    STARTING --ready--> IDLE --granted--> LEASED --returned--> IDLE      any --died--> (forgotten)
                          |                 |
                          |                 +--returned for good, its client died--> ENDING
                          +--granted to an actor--> ACTOR
                          +--idle for long, its job ended--> ENDING --kept--> IDLE
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Hashable, Iterable

from jray._core.resources import CPU, GPU, Allocation, Misfit, NodeResources, ResourceSet

STARTING = "STARTING"
IDLE = "IDLE"
LEASED = "LEASED"
ACTOR = "ACTOR"
ENDING = "ENDING"

#: After so many workers of a pool in a row that died while they started, one is tried at each tick, and
#: nothing is set aside for it: what ended them, a broken environment say, most likely ends the next too.
MOST_FAILED_STARTS = 5


@dataclasses.dataclass(slots=True, eq=False)
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
    #: what an actor holds once it is made
    running_request: ResourceSet = dataclasses.field(default_factory=ResourceSet)

    @property
    def key(self) -> Hashable:
        """What a later statement of the same demand has in common with this one."""
        return (self.client, self.class_number) if self.actor_id is None else self.actor_id


@dataclasses.dataclass(slots=True, eq=False)
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
    class_number: int = 0
    actor_id: bytes | None = None
    #: what it is leased for, in words: the name and cell of the demand that got it
    name: str = ""
    cell: int = 0
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
    """Tell this client that what it wants never fits here."""

    client: int
    cell: int
    name: str
    misfit: Misfit


@dataclasses.dataclass(frozen=True, slots=True)
class WorkersFail:
    """Tell this client that what it wants gets no worker: too many in a row died while they started."""

    client: int
    cell: int
    name: str


Action = StartWorker | Grant | PlaceActor | EndWorker | WantIdle | Infeasible | WorkersFail

#: Demands of one kind fit, or don't, together: the same resources, from the same workers.
_Kind = tuple[ResourceSet, Hashable]


@dataclasses.dataclass(slots=True, eq=False)
class _Promise:
    """Resources set aside for a demand whose worker is still starting."""

    demand: Demand
    allocation: Allocation


class Leases:
    """The leases, workers and resources of one node.  Each event returns the actions to carry out, in order.

    `worker_ids` are those of the workers to come: randomness comes in from outside.
    """

    def __init__(
        self,
        resources: NodeResources,
        *,
        max_starting: int,
        soft_limit: int,
        worker_ids: Iterable[bytes],
    ) -> None:
        self.resources = resources
        self.workers: dict[bytes, PooledWorker] = {}
        #: demands that wait and may be granted some time, by kind; kinds, and the demands of each, in the
        #: order of their turns
        self._waiting: dict[_Kind, dict[Hashable, Demand]] = {}
        #: the same demands by key
        self._demands: dict[Hashable, Demand] = {}
        #: demands for more than the node has
        self._infeasible: dict[Hashable, Demand] = {}
        #: at most as many of a pool as workers of it are starting
        self._promises: list[_Promise] = []
        self._lease_number = 0
        self._leases: dict[int, PooledWorker] = {}
        #: how many leases of a client's scheduling class there are
        self._held: Counter[tuple[int, int]] = Counter()
        self._actor_workers: dict[bytes, PooledWorker] = {}
        #: idle workers of a pool, the one used last at the end
        self._idle_workers: dict[Hashable, dict[bytes, PooledWorker]] = {}
        self._starting: Counter[Hashable] = Counter()
        #: how many workers of a pool in a row have died while they started
        self._failed_starts: Counter[Hashable] = Counter()
        #: workers that start at the next tick, at most one of a pool
        self._postponed: list[PooledWorker] = []
        #: pools whose job has ended: no reason to keep their idle workers
        self._gone_pools: set[Hashable] = set()
        self._max_starting = max_starting
        self._soft_limit = soft_limit
        self._worker_ids = iter(worker_ids)
        self._told_wanted: set[int] = set()

    # -- events -----------------------------------------------------------------------------------

    def demand(self, demand: Demand) -> list[Action]:
        """A client states how many leases of a kind it wants from now on, replacing what it said before."""
        key = demand.key
        wanted = demand.wanted
        for promise in [promise for promise in self._promises if promise.demand.key == key]:
            # what is promised already is part of what is wanted
            if wanted > 0:
                wanted -= 1
            else:
                self._promises.remove(promise)
                self.resources.release(promise.allocation)
        known = self._infeasible.get(key) or self._demands.get(key)
        if known is not None:
            known.wanted = wanted
            known.cell, known.name = demand.cell, demand.name
            if wanted <= 0:
                self._drop(known)
        elif wanted > 0:
            misfit = self.resources.misfit(demand.request)
            if misfit is not None:
                self._infeasible[key] = demand
                return [Infeasible(demand.client, demand.cell, demand.name, misfit)]
            demand.wanted = wanted
            self._demands[key] = demand
            self._waiting.setdefault((demand.request, demand.pool), {})[key] = demand
        return self._schedule()

    def returned(self, lease_number: int, *, retire: bool, now_s: float) -> list[Action]:
        """The client has no more use for a lease.  Unknown numbers are ignored: its worker died meanwhile."""
        worker = self._leases.get(lease_number)
        if worker is None:
            return []
        self._release(worker)
        if retire:
            self._move(worker, ENDING)
            return [EndWorker(worker.worker_id, "max_calls reached", force=False), *self._schedule()]
        return self._idle(worker, now_s)

    def worker_ready(self, worker_id: bytes, *, now_s: float) -> list[Action]:
        worker = self.workers.get(worker_id)
        if worker is None or worker.state != STARTING:
            return []
        self._failed_starts.pop(worker.pool, None)
        return self._idle(worker, now_s)

    def worker_died(self, worker_id: bytes) -> list[Action]:
        worker = self.workers.get(worker_id)
        if worker is None:
            return []
        self._release(worker)
        actions: list[Action] = []
        was_starting = worker.state == STARTING
        self._move(worker, None)
        if was_starting:
            actions += self._start_failed(worker.pool)
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
        if worker is None or worker.allocation is None or worker.allocation.request == running_request:
            return []
        # Both requests differ only for actors that ask for nothing, and so for no GPU: another allocation
        # could be of other GPUs than those that the process knows.
        assert GPU not in worker.allocation.request, "an actor that would change its GPUs"
        self.resources.release(worker.allocation)
        worker.allocation = self.resources.allocate(running_request)
        assert worker.allocation is not None, "a part of what was just released does not fit"
        return self._schedule()

    def actor_dropped(self, actor_id: bytes) -> list[Action]:
        """Nobody wants this actor placed any more."""
        self._withdraw([actor_id])
        return self._schedule()

    def client_gone(self, client: int) -> list[Action]:
        """A client died: its demands go, and the workers that ran its tasks end.

        The actors it made are not its demands: who owns them says what becomes of these.
        """
        self._told_wanted.discard(client)
        demands = [*self._demands.values(), *self._infeasible.values(), *(p.demand for p in self._promises)]
        self._withdraw({d.key for d in demands if d.client == client and d.actor_id is None})
        actions: list[Action] = [
            self._end(worker, "the owner of its task died", force=True)
            for worker in list(self._leases.values())
            if worker.client == client
        ]
        return actions + self._schedule()

    def pool_gone(self, pool_of_job: Iterable[Hashable]) -> list[Action]:
        """A job ended: end the workers of its pools that nobody uses.

        The others end with those they serve: the job's driver and its tasks are about to go, but detached
        actors, and the tasks that these call, stay.
        """
        pools = set(pool_of_job)
        self._gone_pools |= pools
        spare = Counter(self._starting)
        spare.subtract(promise.demand.pool for promise in self._promises)
        actions: list[Action] = []
        for worker in list(self.workers.values()):
            if worker.pool not in pools:
                continue
            if worker.state == STARTING and spare[worker.pool] > 0:
                spare[worker.pool] -= 1
                actions += self._end_starting(worker, "its job ended")
            elif worker.state == IDLE:
                actions.append(self._end(worker, "its job ended", force=True))
        return actions + self._schedule()

    def tick(self, *, now_s: float, idle_s: float) -> list[Action]:
        """End workers idle for long, beyond the soft limit; start those that were put off."""
        idle = [worker for worker in self.workers.values() if worker.state == IDLE]
        # those that nobody will want first, then the one used longest ago
        idle.sort(key=lambda worker: (worker.pool not in self._gone_pools, worker.idle_since_s))
        unwanted = sum(worker.pool in self._gone_pools for worker in idle)
        surplus = max(unwanted, len(idle) - self._soft_limit)
        actions: list[Action] = [
            self._end(worker, "idle", force=False)
            for worker in idle[: max(0, surplus)]
            if now_s - worker.idle_since_s >= idle_s
        ]
        postponed, self._postponed = self._postponed, []
        return actions + [StartWorker(worker.worker_id, worker.pool) for worker in postponed]

    def prestart(self, pool: Hashable, count: int) -> list[Action]:
        """Have `count` workers of that pool on their way."""
        have = self._starting[pool] + len(self._idle_workers.get(pool, ()))
        return self._start(pool, count - have)

    def kept(self, worker_id: bytes, *, now_s: float) -> list[Action]:
        """A worker asked to end stays, because others borrow its objects."""
        worker = self.workers.get(worker_id)
        if worker is None or worker.state != ENDING:
            return []
        return self._idle(worker, now_s)

    # -- questions --------------------------------------------------------------------------------

    @property
    def is_in_use(self) -> bool:
        """Whether any worker runs tasks or is an actor."""
        return bool(self._leases or self._actor_workers)

    def in_use(self) -> list[PooledWorker]:
        """Return the workers that run tasks or are actors."""
        return [*self._leases.values(), *self._actor_workers.values()]

    def worker_of(self, actor_id: bytes) -> PooledWorker | None:
        """Return the worker that is, or becomes, that actor."""
        return self._actor_workers.get(actor_id)

    def waiting(self) -> list[tuple[Demand, str]]:
        """Return each demand that waits, and why."""
        resources = self.resources
        found = [(d, resources.infeasible_reason(d.request) or "") for d in self._infeasible.values()]
        for demand in self._demands.values():
            reason = resources.waiting_reason(demand.request) or "waits for a worker to start"
            found.append((demand, reason))
        return found

    def holders(self, demand: Demand) -> list[PooledWorker]:
        """Return the workers that hold some of what a demand waits for, the actors first: these hold it longest."""
        lacking = demand.request.missing_from(self.resources.available)
        found = [
            worker
            for worker in self.workers.values()
            if worker.allocation is not None
            and any(
                name in worker.allocation.request and not (worker.is_blocked and name == CPU)
                for name in lacking
            )
        ]
        return sorted(found, key=lambda worker: worker.state != ACTOR)

    def check_invariants(self) -> None:
        """Raise AssertionError or JrayInternalError unless the accounts agree with each other."""
        self.resources.check_invariants()
        held = [worker.allocation for worker in self.workers.values() if worker.allocation is not None]
        held += [promise.allocation for promise in self._promises]
        assert sorted(map(id, held)) == sorted(map(id, self.resources.allocations)), "resources nobody holds"
        for number, worker in self._leases.items():
            assert worker.state == LEASED, f"lease {number} of a worker that is {worker.state}"
            assert worker.lease_number == number, "a worker with two leases"
        by_state: dict[str, list[PooledWorker]] = {STARTING: [], IDLE: [], LEASED: [], ACTOR: [], ENDING: []}
        for worker in self.workers.values():
            by_state[worker.state].append(worker)
            has_resources = worker.allocation is not None
            assert has_resources == (worker.state in {LEASED, ACTOR}), (
                f"resources of a worker that is {worker.state}"
            )
            assert worker.state == LEASED or not worker.is_blocked, f"{worker.state} and blocked"
        assert len(by_state[LEASED]) == len(self._leases), "a leased worker without a lease"
        assert Counter((w.client, w.class_number) for w in by_state[LEASED]) == self._held, (
            "leases miscounted"
        )
        assert {w.actor_id: w for w in by_state[ACTOR]} == self._actor_workers, "actors miscounted"
        idle = [worker for workers in self._idle_workers.values() for worker in workers.values()]
        assert sorted(map(id, idle)) == sorted(map(id, by_state[IDLE])), "idle workers miscounted"
        assert Counter(worker.pool for worker in by_state[STARTING]) == self._starting, "starts miscounted"
        assert all(worker.state == STARTING for worker in self._postponed), (
            "a late start of a worker that runs"
        )
        promised = Counter(promise.demand.pool for promise in self._promises)
        assert promised <= self._starting, "a promise that no worker will keep"
        assert not promised.keys() & self._idle_workers.keys(), "a promise that waits beside an idle worker"
        self._check_demands()

    def _check_demands(self) -> None:
        by_kind = {key: demand for demands in self._waiting.values() for key, demand in demands.items()}
        assert by_kind == self._demands, "demands miscounted"
        assert all(self._waiting.values()), "a kind without demands"
        for demand in [*self._demands.values(), *self._infeasible.values()]:
            assert demand.wanted > 0, "a demand for nothing"
        may_start = self._started() < self._max_starting
        for request, pool in self._waiting:
            if self._is_failing(pool):
                assert pool in self._starting, "nobody tries to start a worker"
            elif may_start or pool in self._idle_workers:
                assert self.resources.waiting_reason(request) is not None, f"{request} fits, and waits"

    # -- demands ----------------------------------------------------------------------------------

    def _drop(self, demand: Demand) -> None:
        key = demand.key
        if self._demands.pop(key, None) is None:
            self._infeasible.pop(key, None)
            return
        kind = (demand.request, demand.pool)
        demands = self._waiting[kind]
        del demands[key]
        if not demands:
            del self._waiting[kind]

    def _withdraw(self, keys: Iterable[Hashable]) -> None:
        """Forget demands, also where a worker for them is starting."""
        for key in keys:
            known = self._infeasible.get(key) or self._demands.get(key)
            if known is not None:
                self._drop(known)
            for promise in [promise for promise in self._promises if promise.demand.key == key]:
                self._promises.remove(promise)
                self.resources.release(promise.allocation)

    def _schedule(self) -> list[Action]:
        """Grant in turns until nothing more fits, beginning with those whose last turn is longest ago."""
        actions: list[Action] = []
        progress = True
        while progress:
            progress = False
            for kind in list(self._waiting):
                progress |= self._try(kind, actions)
        return actions + self._tell_wanted()

    def _try(self, kind: _Kind, actions: list[Action]) -> bool:
        """Grant one lease of that kind, if it fits, to the demand whose turn it is."""
        request, pool = kind
        idle = self._idle_workers.get(pool)
        if idle is None:
            if self._is_failing(pool):
                self._postpone_start(pool)
                return False
            if self._started() >= self._max_starting:
                return False
        allocation = self.resources.allocate(request)
        if allocation is None:
            return False
        demands = self._waiting.pop(kind)
        key = next(iter(demands))
        demand = demands.pop(key)
        demand.wanted -= 1
        if demand.wanted:
            demands[key] = demand
        else:
            del self._demands[key]
        if demands:
            self._waiting[kind] = demands
        if idle is not None:
            # the one used last has the warmest caches
            actions.append(self._give(next(reversed(idle.values())), demand, allocation))
        else:
            self._promises.append(_Promise(demand, allocation))
            actions += self._start_for_promises(pool)
        return True

    def _tell_wanted(self) -> list[Action]:
        """Tell the clients that hold leases when others start or stop to wait for them.

        A class whose own demand is the only one that waits is no reason to give its leases back.
        """
        holders: set[int] = set()
        if self._demands:
            only = next(iter(self._demands)) if len(self._demands) == 1 else None
            holders = {held[0] for held in self._held if held != only}
        if holders == self._told_wanted:
            return []
        actions: list[Action] = [
            WantIdle(client, wanted=True) for client in sorted(holders - self._told_wanted)
        ]
        actions += [WantIdle(client, wanted=False) for client in sorted(self._told_wanted - holders)]
        self._told_wanted = holders
        return actions

    # -- workers ----------------------------------------------------------------------------------

    def _started(self) -> int:
        """Return how many processes are starting."""
        return self._starting.total() - len(self._postponed)

    def _start_for_promises(self, pool: Hashable) -> list[Action]:
        promised = sum(promise.demand.pool == pool for promise in self._promises)
        return self._start(pool, promised - self._starting[pool])

    def _start(self, pool: Hashable, count: int) -> list[Action]:
        return [StartWorker(self._new_worker(pool).worker_id, pool) for _ in range(count)]

    def _new_worker(self, pool: Hashable) -> PooledWorker:
        worker = PooledWorker(next(self._worker_ids), pool)
        self.workers[worker.worker_id] = worker
        self._starting[pool] += 1
        return worker

    def _is_failing(self, pool: Hashable) -> bool:
        return self._failed_starts[pool] >= MOST_FAILED_STARTS

    def _postpone_start(self, pool: Hashable) -> None:
        """Have one worker of that pool on its way, from the next tick on."""
        if not self._starting[pool]:
            self._postponed.append(self._new_worker(pool))

    def _start_failed(self, pool: Hashable) -> list[Action]:
        """A worker died while it started: another keeps its promise, unless too many died already."""
        self._failed_starts[pool] += 1
        if not self._is_failing(pool):
            return self._start_for_promises(pool)
        broken = [promise for promise in self._promises if promise.demand.pool == pool]
        for promise in reversed(broken):
            self._promises.remove(promise)
            self.resources.release(promise.allocation)
            self._wait_again(promise.demand)
        if self._failed_starts[pool] > MOST_FAILED_STARTS:
            return []
        return [
            WorkersFail(demand.client, demand.cell, demand.name)
            for demand in self._demands.values()
            if demand.pool == pool
        ]

    def _wait_again(self, demand: Demand) -> None:
        """Put what was promised back among what waits, first of its kind."""
        known = self._demands.setdefault(demand.key, demand)
        known.wanted += 1
        kind = (known.request, known.pool)
        self._waiting[kind] = {known.key: known, **self._waiting.get(kind, {})}

    def _idle(self, worker: PooledWorker, now_s: float) -> list[Action]:
        self._move(worker, IDLE)
        worker.idle_since_s = now_s
        for promise in self._promises:
            if promise.demand.pool == worker.pool:
                self._promises.remove(promise)
                return [self._give(worker, promise.demand, promise.allocation), *self._schedule()]
        return self._schedule()

    def _give(self, worker: PooledWorker, demand: Demand, allocation: Allocation) -> Grant | PlaceActor:
        worker.allocation = allocation
        worker.client = demand.client
        worker.class_number = demand.class_number
        worker.name, worker.cell = demand.name, demand.cell
        if demand.actor_id is not None:
            worker.actor_id = demand.actor_id
            self._move(worker, ACTOR)
            return PlaceActor(demand.actor_id, worker.worker_id, allocation)
        self._lease_number += 1
        worker.lease_number = self._lease_number
        self._move(worker, LEASED)
        return Grant(demand.client, demand.class_number, self._lease_number, worker.worker_id, allocation)

    def _move(self, worker: PooledWorker, state: str | None) -> None:
        """Change a worker's state, or forget it; the only place that does, so that the indexes stay true."""
        if worker.state == STARTING:
            self._starting[worker.pool] -= 1
            if not self._starting[worker.pool]:
                del self._starting[worker.pool]
            if worker in self._postponed:
                self._postponed.remove(worker)
        elif worker.state == IDLE:
            idle = self._idle_workers[worker.pool]
            del idle[worker.worker_id]
            if not idle:
                del self._idle_workers[worker.pool]
        elif worker.state == LEASED:
            del self._leases[worker.lease_number]
            worker.lease_number = 0
            held = (worker.client, worker.class_number)
            self._held[held] -= 1
            if not self._held[held]:
                del self._held[held]
            worker.client = 0
        elif worker.state == ACTOR and worker.actor_id is not None:
            del self._actor_workers[worker.actor_id]
        if state is None:
            del self.workers[worker.worker_id]
            return
        worker.state = state
        if state == IDLE:
            self._idle_workers.setdefault(worker.pool, {})[worker.worker_id] = worker
        elif state == LEASED:
            self._leases[worker.lease_number] = worker
            self._held[worker.client, worker.class_number] += 1
        elif state == ACTOR and worker.actor_id is not None:
            self._actor_workers[worker.actor_id] = worker

    def _release(self, worker: PooledWorker) -> None:
        if worker.allocation is not None:
            # `release` knows whether its CPU was given up
            self.resources.release(worker.allocation)
        worker.allocation = None
        worker.is_blocked = False

    def _end(self, worker: PooledWorker, reason: str, *, force: bool) -> EndWorker:
        self._release(worker)
        self._move(worker, ENDING)
        return EndWorker(worker.worker_id, reason, force)

    def _end_starting(self, worker: PooledWorker, reason: str) -> list[Action]:
        if worker in self._postponed:  # there is no process yet, nor will there be
            self._move(worker, None)
            return []
        return [self._end(worker, reason, force=True)]
