"""Decides who may use which worker of which node with which resources.  Pure.

Clients state demands ("so many leases with these resources"); the machine grants what fits, asks for
workers where none is idle, and says why the rest waits.

    STARTING --ready--> IDLE --granted--> LEASED --returned--> IDLE      any --died--> (forgotten)
                          |                 |
                          |                 +--returned for good, its client died--> ENDING
                          +--granted to an actor--> ACTOR
                          +--idle for long, its job ended--> ENDING --kept--> IDLE

A worker whose runtime environment its node must make first does not get as far as STARTING: its node is *awaiting*
that of its pool, and what waits for the pool takes nothing meanwhile.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from jray._core.machine.accounts import Account, Accounts, Candidates
from jray._core.machine.groups import CREATED, GROUP_REMOVED, Group
from jray._core.resources import CPU, GPU, Allocation, Misfit, NodeResources, ResourceSet
from jray._core.strategies import ANYWHERE, Where

STARTING = "STARTING"
IDLE = "IDLE"
LEASED = "LEASED"
ACTOR = "ACTOR"
ENDING = "ENDING"

#: After so many workers of a pool and node in a row that died while they started, one is tried at each tick, and
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
    where: Where = ANYWHERE
    home: bytes = b""  #: node where it is best placed: the client's own, or that of its large arguments

    @property
    def key(self) -> Hashable:
        """What a later statement of the same demand has in common with this one."""
        return (self.client, self.class_number) if self.actor_id is None else self.actor_id


@dataclasses.dataclass(slots=True, eq=False)
class PooledWorker:
    """A worker process as the node's accounts see it."""

    worker_id: bytes
    pool: Hashable
    node_id: bytes
    state: str = STARTING
    allocation: Allocation | None = None
    #: from which its allocation is
    account: Account | None = None
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

    def holding(self) -> tuple[Account, Allocation]:
        """Return what a worker in use holds, and from where."""
        assert self.account is not None, f"a worker that is {self.state} holds nothing"
        assert self.allocation is not None
        return self.account, self.allocation


@dataclasses.dataclass(frozen=True, slots=True)
class StartWorker:
    worker_id: bytes
    pool: Hashable
    node_id: bytes


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
    """Tell this client that what it wants never fits as the cluster is."""

    client: int
    cell: int
    name: str
    misfit: Misfit


@dataclasses.dataclass(frozen=True, slots=True)
class WorkersFail:
    """Tell this client that what it wants gets no worker: too many in a row died while they started at that node."""

    client: int
    cell: int
    name: str
    node_id: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Refuse:
    """Tell this client that a demand is void, since what it must run on is gone or never was."""

    client: int
    class_number: int
    actor_id: bytes | None
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class GroupMoved:
    """The state of a placement group has changed."""

    group_id: bytes
    state: str


Action = (
    StartWorker | Grant | PlaceActor | EndWorker | WantIdle | Infeasible | WorkersFail | Refuse | GroupMoved
)

#: Demands of one kind fit, or don't, together: the same resources, from the same workers, in the same places.
_Kind = tuple[ResourceSet, Hashable, Where]


@dataclasses.dataclass(slots=True, eq=False)
class _Promise:
    """Resources set aside for a demand whose worker is still starting."""

    demand: Demand
    account: Account
    allocation: Allocation


class _Kept(NamedTuple):
    """What an account is kept for."""

    what: Hashable  #: a kind, or the id of a placement group
    request: ResourceSet  #: what must be free there


@dataclasses.dataclass(slots=True, eq=False)
class _Node:
    """What there is of a node beside its resources."""

    account: Account
    max_starting: int
    soft_limit: int
    #: idle workers of a pool, the one used last at the end
    idle_workers: dict[Hashable, dict[bytes, PooledWorker]] = dataclasses.field(default_factory=dict)
    starting: Counter[Hashable] = dataclasses.field(default_factory=Counter)
    #: how many workers of a pool in a row have died while they started
    failed_starts: Counter[Hashable] = dataclasses.field(default_factory=Counter)
    #: pools whose runtime environment is being made there: until it is, none of their workers starts
    awaiting: set[Hashable] = dataclasses.field(default_factory=set)
    #: workers that start at the next tick, at most one of a pool
    postponed: list[PooledWorker] = dataclasses.field(default_factory=list)
    #: at most as many of a pool as workers of it are starting
    promises: list[_Promise] = dataclasses.field(default_factory=list)

    @property
    def may_start(self) -> bool:
        return self.starting.total() - len(self.postponed) < self.max_starting

    def is_failing(self, pool: Hashable) -> bool:
        return self.failed_starts[pool] >= MOST_FAILED_STARTS


class Leases:
    """The leases, workers and resources of a cluster.  Each event returns the actions to carry out, in order.

    `worker_ids` are those of the workers to come: randomness comes in from outside.
    """

    def __init__(self, worker_ids: Iterable[bytes]) -> None:
        self.accounts = Accounts()
        self.workers: dict[bytes, PooledWorker] = {}
        self._nodes: dict[bytes, _Node] = {}
        #: demands that wait and may be granted some time, by kind; kinds, and the demands of each, in the
        #: order of their turns
        self._waiting: dict[_Kind, dict[Hashable, Demand]] = {}
        #: where each of these kinds may go
        self._candidates: dict[_Kind, Candidates] = {}
        #: the same demands by key
        self._demands: dict[Hashable, Demand] = {}
        #: demands for more than any node has
        self._infeasible: dict[Hashable, Demand] = {}
        self._lease_number = 0
        self._leases: dict[int, PooledWorker] = {}
        #: how many leases of a client's scheduling class there are
        self._held: Counter[tuple[int, int]] = Counter()
        self._actor_workers: dict[bytes, PooledWorker] = {}
        #: pools whose job has ended: no reason to keep their idle workers
        self._gone_pools: set[Hashable] = set()
        self.groups: dict[bytes, Group] = {}
        #: those with bundles that have no place, in the order of their turns
        self._unplaced: dict[bytes, Group] = {}
        #: whether something is free that was not when these were last tried
        self._has_more_room = False
        #: kinds and groups that have waited since the last tick, and got nothing
        self._late: set[Hashable] = set()
        #: where something was given back since the last tick, and of which resources
        self._flowing: dict[Account, set[str]] = {}
        #: places that nothing else may take from, until what they are kept for fits there
        self._kept: dict[Account, _Kept] = {}
        self._worker_ids = iter(worker_ids)
        self._told_wanted: set[int] = set()

    # -- events -----------------------------------------------------------------------------------

    def node_joined(
        self,
        node_id: bytes,
        resources: NodeResources,
        *,
        max_starting: int,
        soft_limit: int,
        labels: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Action]:
        """A node is there from now on: at most `max_starting` of its workers start at once, `soft_limit` stay idle."""
        account = Account(node_id, resources, labels)
        self.accounts.nodes[node_id] = account
        self._nodes[node_id] = _Node(account, max_starting, soft_limit)
        self._candidates.clear()
        self._has_more_room = True
        return self._recheck_all() + self._schedule()

    def node_left(self, node_id: bytes) -> list[Action]:
        """A node is gone, and its workers with it; none of these is told of again."""
        node = self._nodes[node_id]
        del self.accounts.nodes[node_id]
        self._candidates.clear()
        for account in [account for account in self._kept if account.node_id == node_id]:
            del self._kept[account]
        promises = list(node.promises)
        for promise in promises:
            self._break(promise)
        for worker in [worker for worker in self.workers.values() if worker.node_id == node_id]:
            self._release(worker)
            self._move(worker, None)
        del self._nodes[node_id]
        for promise in reversed(promises):
            self._wait_again(promise.demand)
        actions: list[Action] = []
        for group in self.groups.values():
            was_whole = group.state == CREATED
            for bundle in group.lose(node_id):
                del self.accounts.bundles[group.group_id][bundle]
            if was_whole and group.state != CREATED:
                self._unplaced[group.group_id] = group
                self._has_more_room = True
                actions.append(GroupMoved(group.group_id, group.state))
        return actions + self._recheck_all() + self._schedule()

    def demand(self, demand: Demand) -> list[Action]:
        """A client states how many leases of a kind it wants from now on, replacing what it said before."""
        key = demand.key
        wanted = demand.wanted
        for promise in self._promises_to(key):
            # what is promised already is part of what is wanted
            if wanted > 0:
                wanted -= 1
            else:
                self._break(promise)
        known = self._infeasible.get(key) or self._demands.get(key)
        if known is not None:
            known.wanted = wanted
            known.cell, known.name, known.home = demand.cell, demand.name, demand.home
            if wanted <= 0:
                self._drop(known)
        elif wanted > 0:
            demand.wanted = wanted
            self._enqueue(demand)
        if any(demand.pool in node.awaiting for node in self._nodes.values()):
            self._reopen_pool(demand.pool)  # for more than before more nodes may make its environment
        if known is None and wanted > 0 and (said := self._recheck(demand)):
            return said
        return self._schedule()

    def group_created(self, group: Group) -> list[Action]:
        """A placement group is wanted: all its bundles are reserved once they fit."""
        self.groups[group.group_id] = self._unplaced[group.group_id] = group
        self.accounts.bundles[group.group_id] = {}
        self._has_more_room = True
        return self._schedule()

    def group_removed(self, group_id: bytes) -> list[Action]:
        """Nobody wants the group any more: what runs in it ends, and what waits for it is refused."""
        group = self.groups.pop(group_id, None)
        if group is None:
            return []
        self._unplaced.pop(group_id, None)
        self._unkeep_all(group_id)
        everything = [*self._demands.values(), *self._infeasible.values(), *self.promised()]
        refused = {demand.key: demand for demand in everything if demand.where.group == group_id}
        self._withdraw(refused)
        actions: list[Action] = [
            Refuse(demand.client, demand.class_number, demand.actor_id, GROUP_REMOVED)
            for demand in refused.values()
        ]
        actions += [
            self._end(worker, GROUP_REMOVED, force=True)
            for worker in list(self.workers.values())
            if worker.account is not None and worker.account.group == group_id
        ]
        for account in self.accounts.bundles.pop(group_id).values():
            self._kept.pop(account, None)
        reserved = list(group.reserved.values())
        group.give_back()
        for node, bundle in reserved:
            self._reopen(node, bundle.request)
        return [*actions, GroupMoved(group_id, group.state), *self._schedule()]

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
        self._nodes[worker.node_id].failed_starts.pop(worker.pool, None)
        return self._idle(worker, now_s)

    def environment_awaited(self, worker_id: bytes) -> list[Action]:
        """A worker does not start, because its node must make its environment first: nothing is held for it meanwhile.

        `environment_made` or `environment_failed` follows.
        """
        worker = self.workers.get(worker_id)
        if worker is None or worker.state != STARTING:  # it was to end before it began
            return self.worker_died(worker_id)
        node = self._nodes[worker.node_id]
        node.awaiting.add(worker.pool)
        self._break_promises(node, worker.pool)
        self._move(worker, None)
        return self._schedule()

    def environment_made(self, node_id: bytes, pool: Hashable) -> list[Action]:
        """The environment of a pool is there: its workers may start."""
        self._environment_settled(node_id, pool)
        return self._schedule()

    def environment_failed(self, node_id: bytes, pool: Hashable, reason: str) -> list[Action]:
        """The environment of a pool can't be made: what waits for its workers is refused.

        Who asks again has it tried again.
        """
        self._environment_settled(node_id, pool)
        everything = [*self._demands.values(), *self._infeasible.values(), *self.promised()]
        refused = {demand.key: demand for demand in everything if demand.pool == pool}
        self._withdraw(refused)
        actions: list[Action] = [
            Refuse(demand.client, demand.class_number, demand.actor_id, reason) for demand in refused.values()
        ]
        return actions + self._schedule()

    def _environment_settled(self, node_id: bytes, pool: Hashable) -> None:
        node = self._nodes.get(node_id)
        if node is not None:
            node.awaiting.discard(pool)
            node.failed_starts.pop(pool, None)
            self._reopen_pool(pool)

    def worker_died(self, worker_id: bytes) -> list[Action]:
        worker = self.workers.get(worker_id)
        if worker is None:
            return []
        self._release(worker)
        actions: list[Action] = []
        was_starting = worker.state == STARTING
        self._move(worker, None)
        if was_starting:
            actions += self._start_failed(self._nodes[worker.node_id], worker.pool)
        return actions + self._schedule()

    def blocked(self, worker_id: bytes) -> list[Action]:
        """The worker waits in `get`: its CPU may serve others.  An actor gives nothing back (Ray's rule)."""
        worker = self.workers.get(worker_id)
        if worker is None or worker.state != LEASED or worker.is_blocked:
            return []
        account, allocation = worker.holding()
        worker.is_blocked = True
        account.resources.release_cpu(allocation)
        self._reopen(account, (CPU,))
        return self._schedule()

    def unblocked(self, worker_id: bytes) -> None:
        """The worker goes on; until another ends there may be more running than CPUs (as in Ray)."""
        worker = self.workers.get(worker_id)
        if worker is not None and worker.is_blocked:
            account, allocation = worker.holding()
            worker.is_blocked = False
            account.resources.reacquire_cpu(allocation)

    def actor_made(self, actor_id: bytes, running_request: ResourceSet) -> list[Action]:
        """The constructor is done: hold from now on only what the actor asked for while alive."""
        worker = self.worker_of(actor_id)
        if worker is None:
            return []
        account, allocation = worker.holding()
        if allocation.request == running_request:
            return []
        # Both requests differ only for actors that ask for nothing, and so for no GPU: another allocation
        # could be of other GPUs than those that the process knows.
        assert GPU not in allocation.request, "an actor that would change its GPUs"
        account.resources.release(allocation)
        worker.allocation = account.resources.allocate(running_request)
        assert worker.allocation is not None, "a part of what was just released does not fit"
        self._reopen(account, allocation.request)
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
        promised = [promise.demand for node in self._nodes.values() for promise in node.promises]
        demands = [*self._demands.values(), *self._infeasible.values(), *promised]
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
        spare: Counter[tuple[bytes, Hashable]] = Counter()
        for node_id, node in self._nodes.items():
            for pool, count in node.starting.items():
                spare[node_id, pool] = count - sum(promise.demand.pool == pool for promise in node.promises)
        actions: list[Action] = []
        for worker in list(self.workers.values()):
            if worker.pool not in pools:
                continue
            if worker.state == STARTING and spare[worker.node_id, worker.pool] > 0:
                spare[worker.node_id, worker.pool] -= 1
                actions += self._end_starting(worker, "its job ended")
            elif worker.state == IDLE:
                actions.append(self._end(worker, "its job ended", force=True))
        return actions + self._schedule()

    def tick(self, *, now_s: float, idle_s: float) -> list[Action]:
        """End workers idle for long, beyond the soft limit of their node; start those that were put off.

        What others have passed over since the last tick, large requests among many small ones, gets a place kept.
        """
        actions = [action for node in self._nodes.values() for action in self._tick(node, now_s, idle_s)]
        return actions + self._share()

    def prestart(self, node_id: bytes, pool: Hashable, count: int) -> list[Action]:
        """Have `count` workers of that pool on their way, unless its environment is just being made."""
        node = self._nodes[node_id]
        if pool in node.awaiting:
            return []
        have = node.starting[pool] + len(node.idle_workers.get(pool, ()))
        return self._start(node, pool, count - have)

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

    @property
    def runs_tasks(self) -> bool:
        """Whether any worker is leased to run tasks."""
        return bool(self._leases)

    def in_use(self) -> list[PooledWorker]:
        """Return the workers that run tasks or are actors."""
        return [*self._leases.values(), *self._actor_workers.values()]

    def worker_of(self, actor_id: bytes) -> PooledWorker | None:
        """Return the worker that is, or becomes, that actor."""
        return self._actor_workers.get(actor_id)

    def waiting(self) -> list[tuple[Demand, str]]:
        """Return each demand that waits, and why."""
        never = [(demand, self._why_infeasible(demand)) for demand in self._infeasible.values()]
        return never + [(demand, self._why_waiting(demand)) for demand in self._demands.values()]

    def group_reason(self, group_id: bytes) -> str:
        """What a placement group that is not placed waits for."""
        return self.groups[group_id].waiting_reason(list(self.accounts.nodes.values()))

    def awaited(self) -> list[tuple[bytes, Hashable]]:
        """Return the nodes that make an environment, each with the pool it is for."""
        return [(node_id, pool) for node_id, node in self._nodes.items() for pool in node.awaiting]

    def asking(self, pool: Hashable) -> list[Demand]:
        """Return what waits for workers of that pool."""
        everything = [*self._demands.values(), *self.promised()]
        return [demand for demand in everything if demand.pool == pool]

    def promised(self) -> list[Demand]:
        """Return the demand of each lease that waits for nothing but its worker's start."""
        return [promise.demand for node in self._nodes.values() for promise in node.promises]

    def holders(self, demand: Demand) -> list[PooledWorker]:
        """Return the workers that hold some of what a demand waits for, the actors first: these hold it longest."""
        lacking = {
            account: demand.request.missing_from(account.resources.available)
            for account in self.accounts.feasible(demand.where, demand.request)
        }
        found = []
        for worker in self.workers.values():
            if worker.account in lacking:
                account, allocation = worker.holding()
                if any(
                    name in allocation.request and not (worker.is_blocked and name == CPU)
                    for name in lacking[account]
                ):
                    found.append(worker)
        return sorted(found, key=lambda worker: worker.state != ACTOR)

    def check_invariants(self) -> None:
        """Raise AssertionError or JrayInternalError unless the accounts agree with each other."""
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
            assert has_resources == (worker.account is not None), "resources of no account"
            assert worker.state == LEASED or not worker.is_blocked, f"{worker.state} and blocked"
        assert len(by_state[LEASED]) == len(self._leases), "a leased worker without a lease"
        assert Counter((w.client, w.class_number) for w in by_state[LEASED]) == self._held, (
            "leases miscounted"
        )
        assert {w.actor_id: w for w in by_state[ACTOR]} == self._actor_workers, "actors miscounted"
        assert self._nodes.keys() == self.accounts.nodes.keys(), "nodes miscounted"
        for node_id, node in self._nodes.items():
            self._check_node(node, [worker for worker in self.workers.values() if worker.node_id == node_id])
        self._check_groups()
        self._check_demands()

    def _check_node(self, node: _Node, workers: list[PooledWorker]) -> None:
        resources = node.account.resources
        resources.check_invariants()
        held = [worker.allocation for worker in workers if worker.account is node.account]
        held += [promise.allocation for promise in node.promises if promise.account is node.account]
        held += [
            allocation
            for group in self.groups.values()
            for at, allocation in group.reserved.values()
            if at is node.account
        ]
        assert sorted(map(id, held)) == sorted(map(id, resources.allocations)), "resources nobody holds"
        idle = [worker for found in node.idle_workers.values() for worker in found.values()]
        assert sorted(map(id, idle)) == sorted(id(w) for w in workers if w.state == IDLE), "idle miscounted"
        assert Counter(w.pool for w in workers if w.state == STARTING) == node.starting, "starts miscounted"
        assert all(worker.state == STARTING for worker in node.postponed), "a late start of one that runs"
        promised = Counter(promise.demand.pool for promise in node.promises)
        assert promised <= node.starting, "a promise that no worker will keep"
        assert not promised.keys() & node.idle_workers.keys(), "a promise that waits beside an idle worker"

    def _check_groups(self) -> None:
        assert self.groups.keys() == self.accounts.bundles.keys(), "groups miscounted"
        for group_id, group in self.groups.items():
            bundles = self.accounts.bundles[group_id]
            assert bundles.keys() == group.reserved.keys(), "bundles miscounted"
            is_whole = len(bundles) == len(group.bundles)
            assert is_whole == (group.state == CREATED) == (group_id not in self._unplaced), "half a group"
            for i, account in bundles.items():
                assert account.node_id == group.reserved[i][0].node_id, "a bundle that is elsewhere"
                account.resources.check_invariants()
                held = [worker.allocation for worker in self.workers.values() if worker.account is account]
                for node in self._nodes.values():
                    held += [promise.allocation for promise in node.promises if promise.account is account]
                found = account.resources.allocations
                assert sorted(map(id, held)) == sorted(map(id, found)), "a bundle's resources nobody holds"

    def _check_demands(self) -> None:
        by_kind = {key: demand for demands in self._waiting.values() for key, demand in demands.items()}
        assert by_kind == self._demands, "demands miscounted"
        assert all(self._waiting.values()), "a kind without demands"
        assert self._candidates.keys() <= self._waiting.keys(), "places of a kind that does not wait"
        for demand in [*self._demands.values(), *self._infeasible.values()]:
            assert demand.wanted > 0, "a demand for nothing"
        for request, pool, where in self._waiting:
            for account in self.accounts.feasible(where, request):
                node = self._nodes[account.node_id]
                kind = (request, pool, where)
                if self._is_kept_from(kind, request, account) or self._is_awaited(kind, node):
                    continue
                if node.is_failing(pool):
                    assert pool in node.starting or account.resources.waiting_reason(request), (
                        "nobody tries to start"
                    )
                elif node.may_start or pool in node.idle_workers:
                    assert account.resources.waiting_reason(request), f"{request} fits, and waits"

    # -- demands ----------------------------------------------------------------------------------

    def _enqueue(self, demand: Demand) -> None:
        self._demands[demand.key] = demand
        self._waiting.setdefault(_kind_of(demand), {})[demand.key] = demand

    def _recheck(self, demand: Demand) -> list[Action]:
        """Put a waiting demand aside if nothing can meet it as the cluster is, and say so."""
        where = demand.where
        if where.group and where.group not in self.groups:
            self._drop(demand)
            return [Refuse(demand.client, demand.class_number, demand.actor_id, GROUP_REMOVED)]
        misfit = self._misfit(demand)
        if misfit is None:
            return []
        self._drop(demand)
        if where.node_id and not where.is_soft and where.node_id not in self._nodes:
            return [Refuse(demand.client, demand.class_number, demand.actor_id, f"it {misfit.reason}")]
        self._infeasible[demand.key] = demand
        return [Infeasible(demand.client, demand.cell, demand.name, misfit)]

    def _recheck_all(self) -> list[Action]:
        """Nodes or bundles came or went: what never fitted may now, and the other way round."""
        for demand in [d for d in self._infeasible.values() if self._misfit(d) is None]:
            del self._infeasible[demand.key]
            self._enqueue(demand)
        return [action for demand in list(self._demands.values()) for action in self._recheck(demand)]

    def _misfit(self, demand: Demand) -> Misfit | None:
        return self.accounts.misfit(demand.where, demand.request)

    def _why_infeasible(self, demand: Demand) -> str:
        misfit = self._misfit(demand)
        return "" if misfit is None else misfit.reason

    def _why_waiting(self, demand: Demand) -> str:
        group = self.groups.get(demand.where.group)
        if group is not None and group.state != CREATED and not self.accounts.allowed(demand.where):
            return f"waits for its placement group: {self.group_reason(group.group_id)}"
        if self._awaits_environment(demand):
            return "waits for its runtime environment, which is being made"
        return self.accounts.waiting_reason(demand.where, demand.request) or "waits for a worker to start"

    def _awaits_environment(self, demand: Demand) -> bool:
        """Tell whether nothing but the making of its environment keeps a demand from being met anywhere."""
        places = self.accounts.feasible(demand.where, demand.request)
        return bool(places) and all(demand.pool in self._nodes[place.node_id].awaiting for place in places)

    def _drop(self, demand: Demand) -> None:
        key = demand.key
        if self._demands.pop(key, None) is None:
            self._infeasible.pop(key, None)
            return
        kind = _kind_of(demand)
        demands = self._waiting[kind]
        del demands[key]
        if not demands:
            del self._waiting[kind]
            self._candidates.pop(kind, None)
            self._forget_kind(kind)

    def _withdraw(self, keys: Iterable[Hashable]) -> None:
        """Forget demands, also where a worker for them is starting."""
        for key in keys:
            known = self._infeasible.get(key) or self._demands.get(key)
            if known is not None:
                self._drop(known)
            for promise in self._promises_to(key):
                self._break(promise)

    def _schedule(self) -> list[Action]:
        """Grant in turns until nothing more fits, beginning with those whose last turn is longest ago."""
        actions: list[Action] = self._place_groups() if self._unplaced and self._has_more_room else []
        self._has_more_room = False
        progress = True
        while progress:
            progress = False
            for kind in list(self._waiting):
                progress |= self._try(kind, actions)
        return actions + self._tell_wanted()

    def _place_groups(self) -> list[Action]:
        actions: list[Action] = []
        for group in list(self._unplaced.values()):
            nodes = self.accounts.nodes.values()
            placed = group.place(
                node
                for node in nodes
                if (kept := self._kept.get(node)) is None or kept.what == group.group_id
            )
            if placed is None:
                continue
            self._unkeep_all(group.group_id)
            del self._unplaced[group.group_id]
            self.accounts.bundles[group.group_id].update(placed)
            for kind in [kind for kind in self._candidates if kind[2].group == group.group_id]:
                del self._candidates[kind]
            for demand in [d for d in self._demands.values() if d.where.group == group.group_id]:
                actions += self._recheck(demand)  # only now it is known what each bundle has
            actions.append(GroupMoved(group.group_id, group.state))
        return actions

    def _share(self) -> list[Action]:
        """Keep places for each kind, and each group, that had no turn since the last tick while others had.

        A place where nothing is given back any more is not kept: it could be for hours, or for ever if what runs there
        waits for others.
        """
        stuck = [account for account, kept in self._kept.items() if not self._flows(account, kept.request)]
        for account in stuck:
            self._unkeep(account)
        late, self._late = self._late, {*self._waiting, *self._unplaced}
        for kind in [kind for kind in self._waiting if kind in late]:
            request, pool, where = kind
            fitting = [
                account
                for account in self.accounts.feasible(where, request)
                if pool not in self._nodes[account.node_id].awaiting
            ]
            if not fitting:
                continue
            self._keep(kind, request, fitting, self._fair_count(kind, fitting))
        for group in [group for key, group in self._unplaced.items() if key in late]:
            for bundle in group.unplaced():
                nodes = self.accounts.nodes.values()
                fitting = [node for node in nodes if bundle.may_be_on(node)]
                self._keep(group.group_id, bundle.request, fitting, 1)
        self._flowing.clear()
        return self._schedule() if stuck else []

    def _fair_count(self, kind: _Kind, accounts: Sequence[Account]) -> int:
        """Return how many more leases of that kind its clients need to have as much as others, but 1 at least."""
        request = kind[0]
        name = max(request, key=lambda name: _part(request.get(name), name, accounts), default="")
        clients = {demand.client for demand in self._waiting[kind].values()}
        all_clients = clients | {worker.client for worker in self._leases.values()}
        held = sum(
            worker.allocation.request.get(name)
            for worker in self._leases.values()
            if worker.client in clients and worker.allocation is not None
        )
        total = sum(account.resources.total.get(name) for account in accounts)
        fair = total * len(clients) // len(all_clients)
        return max(1, (fair - held) // (request.get(name) or 1))

    def _keep(self, what: Hashable, request: ResourceSet, accounts: Iterable[Account], count: int) -> None:
        """Keep so many accounts that come nearest to what is wanted, of those that give back what is lacking there."""
        count -= sum(kept.what == what for kept in self._kept.values())
        flowing = [a for a in accounts if a not in self._kept and self._flows(a, request)]
        flowing.sort(key=lambda account: _lacking(request, account.resources.available))
        for account in flowing[: max(0, count)]:
            self._kept[account] = _Kept(what, request)

    def _flows(self, account: Account, request: ResourceSet) -> bool:
        """Tell whether some of what is lacking there was given back since the last tick."""
        found = self._flowing.get(account, ())
        return any(name in found for name in request.missing_from(account.resources.available))

    def _is_kept_from(self, kind: _Kind, request: ResourceSet, account: Account) -> bool:
        """Tell whether an account is kept for others that want some of the same."""
        kept = self._kept.get(account)
        return kept is not None and kept.what != kind and any(name in kept.request for name in request)

    def _unkeep(self, account: Account) -> None:
        """Anything may go there again."""
        del self._kept[account]
        self._reopen(account, ())

    def _unkeep_all(self, what: Hashable) -> None:
        for account in [account for account, kept in self._kept.items() if kept.what == what]:
            self._unkeep(account)

    def _try(self, kind: _Kind, actions: list[Action]) -> bool:
        """Grant one lease of that kind, if it fits somewhere, to the demand whose turn it is."""
        request, pool, where = kind
        candidates = self._candidates.get(kind)
        if candidates is None:
            candidates = Candidates(self.accounts.feasible(where, request), request, where)
            self._candidates[kind] = candidates
        demands = self._waiting[kind]
        demand = next(iter(demands.values()))
        while (account := candidates.best(demand.home)) is not None:
            node = self._nodes[account.node_id]
            idle = node.idle_workers.get(pool)
            if self._is_kept_from(kind, request, account) or (idle is None and self._is_awaited(kind, node)):
                pass
            elif idle is None and node.is_failing(pool):
                self._postpone_start(node, pool)
            elif idle is not None or node.may_start:
                allocation = account.resources.allocate(request)
                if allocation is not None:
                    break
            candidates.close(account)
        else:
            return False
        candidates.used(account)
        self._late.discard(kind)
        if (kept := self._kept.get(account)) is not None and kept.what == kind:
            self._unkeep(account)
        self._take_turn(kind, demand)
        if idle is not None:
            # the one used last has the warmest caches
            actions.append(self._give(next(reversed(idle.values())), demand, account, allocation))
        else:
            node.promises.append(_Promise(demand, account, allocation))
            actions += self._start_for_promises(node, pool)
        return True

    def _is_awaited(self, kind: _Kind, node: _Node) -> bool:
        """Tell whether no worker of that kind is to be ordered from a node now: its environment is being made.

        There, or where there will be enough: one task is no reason for all nodes to make what it needs.
        """
        _, pool, _ = kind
        if pool in node.awaiting:
            return True
        count = sum(pool in other.awaiting for other in self._nodes.values())
        if not count or count < sum(demand.wanted for demand in self._waiting[kind].values()):
            return False
        node_id = node.account.node_id
        return not any(
            worker.pool == pool and worker.node_id == node_id and worker.state != STARTING
            for worker in self.workers.values()
        )

    def _take_turn(self, kind: _Kind, demand: Demand) -> None:
        """One of what a demand wants is granted: others of its kind, and other kinds, come before its next."""
        demands = self._waiting.pop(kind)
        del demands[demand.key]
        demand.wanted -= 1
        if demand.wanted:
            demands[demand.key] = demand
        else:
            del self._demands[demand.key]
        if demands:
            self._waiting[kind] = demands
        else:
            del self._candidates[kind]
            self._forget_kind(kind)

    def _forget_kind(self, kind: _Kind) -> None:
        """Nothing of that kind waits any more."""
        self._unkeep_all(kind)

    def _reopen(self, account: Account, given_back: Iterable[str]) -> None:
        """Something is free there that was not: who waits may try it again."""
        self._flowing.setdefault(account, set()).update(given_back)
        self._has_more_room = True
        for candidates in self._candidates.values():
            candidates.reopen(account)

    def _reopen_pool(self, pool: Hashable) -> None:
        """As `_reopen`, of all places, for what waits for workers of that pool."""
        for kind in [kind for kind in self._candidates if kind[1] == pool]:
            del self._candidates[kind]

    def _reopen_node(self, node_id: bytes) -> None:
        """As `_reopen`, of the node and of all bundles on it, where a worker may start or be had."""
        for candidates in self._candidates.values():
            for account in candidates.on_node(node_id):
                candidates.reopen(account)

    def _tell_wanted(self) -> list[Action]:
        """Tell the clients that hold leases when others start or stop to wait for them.

        A class whose own demand is the only one that waits is no reason to give its leases back.
        """
        holders: set[int] = set()
        waiting: Collection[Hashable] = self._demands
        if any(node.awaiting for node in self._nodes.values()):
            waiting = [key for key, demand in self._demands.items() if not self._awaits_environment(demand)]
        if waiting:
            only = next(iter(waiting)) if len(waiting) == 1 else None
            holders = {held[0] for held in self._held if held != only}
        if holders == self._told_wanted:
            return []
        actions: list[Action] = [
            WantIdle(client, wanted=True) for client in sorted(holders - self._told_wanted)
        ]
        actions += [WantIdle(client, wanted=False) for client in sorted(self._told_wanted - holders)]
        self._told_wanted = holders
        return actions

    # -- promises ---------------------------------------------------------------------------------

    def _promises_to(self, key: Hashable) -> list[_Promise]:
        return [
            promise for node in self._nodes.values() for promise in node.promises if promise.demand.key == key
        ]

    def _break(self, promise: _Promise) -> None:
        """What was set aside is free again."""
        self._nodes[promise.account.node_id].promises.remove(promise)
        promise.account.resources.release(promise.allocation)
        self._reopen(promise.account, promise.allocation.request)

    def _break_promises(self, node: _Node, pool: Hashable) -> None:
        """No worker of that pool will keep what was promised there: these demands wait again."""
        for promise in reversed([promise for promise in node.promises if promise.demand.pool == pool]):
            self._break(promise)
            self._wait_again(promise.demand)

    def _wait_again(self, demand: Demand) -> None:
        """Put what was promised back among what waits, first of its kind."""
        known = self._demands.setdefault(demand.key, demand)
        known.wanted += 1
        kind = _kind_of(known)
        self._waiting[kind] = {known.key: known, **self._waiting.get(kind, {})}
        self._reopen_pool(known.pool)  # see `_is_awaited`: one more is wanted

    # -- workers ----------------------------------------------------------------------------------

    def _tick(self, node: _Node, now_s: float, idle_s: float) -> list[Action]:
        if not node.idle_workers and not node.postponed:
            return []
        idle = [worker for workers in node.idle_workers.values() for worker in workers.values()]
        # those that nobody will want first, then the one used longest ago
        idle.sort(key=lambda worker: (worker.pool not in self._gone_pools, worker.idle_since_s))
        unwanted = sum(worker.pool in self._gone_pools for worker in idle)
        surplus = max(unwanted, len(idle) - node.soft_limit)
        actions: list[Action] = [
            self._end(worker, "idle", force=False)
            for worker in idle[: max(0, surplus)]
            if now_s - worker.idle_since_s >= idle_s
        ]
        postponed, node.postponed = node.postponed, []
        return actions + [StartWorker(worker.worker_id, worker.pool, worker.node_id) for worker in postponed]

    def _start_for_promises(self, node: _Node, pool: Hashable) -> list[Action]:
        promised = sum(promise.demand.pool == pool for promise in node.promises)
        return self._start(node, pool, promised - node.starting[pool])

    def _start(self, node: _Node, pool: Hashable, count: int) -> list[Action]:
        node_id = node.account.node_id
        return [StartWorker(self._new_worker(node, pool).worker_id, pool, node_id) for _ in range(count)]

    def _new_worker(self, node: _Node, pool: Hashable) -> PooledWorker:
        worker = PooledWorker(next(self._worker_ids), pool, node.account.node_id)
        self.workers[worker.worker_id] = worker
        node.starting[pool] += 1
        return worker

    def _postpone_start(self, node: _Node, pool: Hashable) -> None:
        """Have one worker of that pool on its way, from the next tick on."""
        if not node.starting[pool]:
            node.postponed.append(self._new_worker(node, pool))

    def _start_failed(self, node: _Node, pool: Hashable) -> list[Action]:
        """A worker died while it started: another keeps its promise, unless too many died already."""
        node.failed_starts[pool] += 1
        if not node.is_failing(pool):
            return self._start_for_promises(node, pool)
        self._break_promises(node, pool)
        if node.failed_starts[pool] > MOST_FAILED_STARTS:
            return []
        return [
            WorkersFail(demand.client, demand.cell, demand.name, node.account.node_id)
            for demand in self._demands.values()
            if demand.pool == pool
        ]

    def _idle(self, worker: PooledWorker, now_s: float) -> list[Action]:
        self._move(worker, IDLE)
        worker.idle_since_s = now_s
        node = self._nodes[worker.node_id]
        for promise in node.promises:
            if promise.demand.pool == worker.pool:
                node.promises.remove(promise)
                given = self._give(worker, promise.demand, promise.account, promise.allocation)
                return [given, *self._schedule()]
        return self._schedule()

    def _give(
        self, worker: PooledWorker, demand: Demand, account: Account, allocation: Allocation
    ) -> Grant | PlaceActor:
        worker.account, worker.allocation = account, allocation
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
        node = self._nodes[worker.node_id]
        if worker.state == STARTING:
            node.starting[worker.pool] -= 1
            if not node.starting[worker.pool]:
                del node.starting[worker.pool]
            if worker in node.postponed:
                node.postponed.remove(worker)
            self._reopen_node(worker.node_id)  # another may start
        elif worker.state == IDLE:
            idle = node.idle_workers[worker.pool]
            del idle[worker.worker_id]
            if not idle:
                del node.idle_workers[worker.pool]
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
            node.idle_workers.setdefault(worker.pool, {})[worker.worker_id] = worker
            self._reopen_node(worker.node_id)
        elif state == LEASED:
            self._leases[worker.lease_number] = worker
            self._held[worker.client, worker.class_number] += 1
        elif state == ACTOR and worker.actor_id is not None:
            self._actor_workers[worker.actor_id] = worker

    def _release(self, worker: PooledWorker) -> None:
        if worker.allocation is not None:
            account, allocation = worker.holding()
            # `release` knows whether its CPU was given up
            account.resources.release(allocation)
            self._reopen(account, allocation.request)
        worker.account = worker.allocation = None
        worker.is_blocked = False

    def _end(self, worker: PooledWorker, reason: str, *, force: bool) -> EndWorker:
        self._release(worker)
        self._move(worker, ENDING)
        return EndWorker(worker.worker_id, reason, force)

    def _end_starting(self, worker: PooledWorker, reason: str) -> list[Action]:
        if worker in self._nodes[worker.node_id].postponed:  # there is no process yet, nor will there be
            self._move(worker, None)
            return []
        return [self._end(worker, reason, force=True)]


def _lacking(request: ResourceSet, free: ResourceSet) -> float:
    """Return how much of *request* is not free, in parts of what it asks for."""
    return sum(max(0, units - free.get(name)) / units for name, units in request.items())


def _part(units: int, name: str, accounts: Iterable[Account]) -> float:
    total = sum(account.resources.total.get(name) for account in accounts)
    return units / total if total else 0.0


def _kind_of(demand: Demand) -> _Kind:
    return demand.request, demand.pool, demand.where
