"""Leases of a cluster, whatever happens in whatever order: nodes and clients come and go, groups are made and removed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jray._core.machine.groups import CREATED, STRATEGIES, Bundle, Group, Strategy
from jray._core.machine.leases import (
    ACTOR,
    LEASED,
    STARTING,
    Action,
    Demand,
    EndWorker,
    Grant,
    GroupMoved,
    Leases,
    PlaceActor,
    Refuse,
    StartWorker,
    WantIdle,
)
from jray._core.resources import UNITS, NodeResources, ResourceSet
from jray._core.strategies import ANYWHERE, LabelRule, Where


def amounts(**quantities: float) -> ResourceSet:
    return ResourceSet.from_floats(quantities)


ONE_CPU = amounts(CPU=1)
#: what clients ask for, by class number; the last can never be had
REQUESTS = [
    amounts(CPU=1),
    amounts(CPU=2),
    amounts(CPU=0.5, GPU=0.5),
    amounts(GPU=1),
    ResourceSet(),
    amounts(x=1, CPU=1),
    amounts(x=5),
]
#: where they ask for it
WHERES = [
    ANYWHERE,
    Where(spread=True),
    Where(node_id=b"n1"),
    Where(node_id=b"n2", is_soft=True),
    Where(hard=(LabelRule("odd", ("1",)),)),
    Where(hard=(LabelRule("odd", ("1",), negated=True),), soft=(LabelRule("even", ()),)),
    Where(hard=(LabelRule("even", ()),), fallbacks=((LabelRule("odd", ("1",)),), ())),
    Where(group=b"g1"),
    Where(group=b"g1", bundle=1),
    Where(group=b"g2", bundle=0),
]
IN_GROUPS = {number for number, where in enumerate(WHERES) if where.group}
BUNDLES = [amounts(CPU=1), amounts(CPU=2, x=1), amounts(GPU=1), amounts(CPU=0.5, GPU=0.5)]
#: a client that makes actors and does nothing else
MAKER = 0
POOLS = [("a", ()), ("a", ("env",)), ("b", ())]
NO_ENVIRONMENT = "its environment cannot be made"


class LeasesProgram(RuleBasedStateMachine):
    """Plays clients, actors, and the operating system, and keeps books of its own."""

    @initialize(cpus=st.lists(st.integers(1, 4), min_size=1, max_size=3))
    def begin(self, cpus: list[int]) -> None:
        self.leases = Leases(b"w%d" % number for number in itertools.count(1))
        self.next_node = 1
        self.next_gpu = 0
        for count in cpus:
            self.join(count, gpus=2, max_starting=1 + count // 2, soft_limit=count // 2)
        self.now_s = 0.0
        self.clients = {1, 2}
        self.next_client = 3
        self.next_actor = 0
        #: what each client said it wants and has not got, by client and class: request and where
        self.owed: Counter[tuple[int, tuple[int, int]]] = Counter()
        #: process -> whether it has registered
        self.processes: dict[bytes, bool] = {}
        self.killed: set[bytes] = set()
        self.asked_to_end: set[bytes] = set()
        self.lease_of: dict[int, tuple[tuple[int, tuple[int, int]], bytes, Any]] = {}
        self.actor_at: dict[bytes, tuple[bytes, Any]] = {}
        self.unplaced: dict[bytes, tuple[int, int]] = {}
        self.group_states: dict[bytes, str] = {}
        self.blocked: set[bytes] = set()
        self.told: dict[int, bool] = {}
        self.has_overcommitted = False
        #: environments that nodes are making
        self.making: set[tuple[bytes, Hashable]] = set()

    # -- the world ------------------------------------------------------------------------------

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, StartWorker):
                assert action.worker_id not in self.processes, "started twice"
                assert self.leases.workers[action.worker_id].pool == action.pool
                assert action.node_id in self.leases.accounts.nodes
                assert (action.node_id, action.pool) not in self.making, "starts before its environment"
                self.processes[action.worker_id] = False
            elif isinstance(action, Grant):
                self.check_usable(action.worker_id)
                key = (action.client, divmod(action.class_number, len(WHERES)))
                assert action.client in self.clients, "a lease for a dead client"
                assert self.owed[key] > 0, "more than was wanted"
                self.check_place(action.worker_id, key[1])
                self.owed[key] -= 1
                self.lease_of[action.lease_number] = (key, action.worker_id, action.allocation)
            elif isinstance(action, PlaceActor):
                self.check_usable(action.worker_id)
                self.check_place(action.worker_id, self.unplaced.pop(action.actor_id))
                self.actor_at[action.actor_id] = (action.worker_id, action.allocation)
            elif isinstance(action, EndWorker):
                assert action.worker_id in self.processes, "the end of nothing"
                (self.killed if action.force else self.asked_to_end).add(action.worker_id)
                self.forget_lease(action.worker_id)
                assert action.worker_id not in {worker for worker, _ in self.actor_at.values()}
            elif isinstance(action, WantIdle):
                assert self.told.get(action.client, False) != action.wanted, "told twice"
                self.told[action.client] = action.wanted
            elif isinstance(action, GroupMoved):
                assert self.group_states.get(action.group_id, "") != action.state, "told twice"
                self.group_states[action.group_id] = action.state
            elif isinstance(action, Refuse):
                if action.actor_id is not None:
                    _, where = self.unplaced.pop(action.actor_id)
                else:
                    key = (action.client, divmod(action.class_number, len(WHERES)))
                    assert self.owed.pop(key), "refused what was not wanted"
                    where = key[1][1]
                assert action.reason == NO_ENVIRONMENT or not self.leases.accounts.allowed(WHERES[where]), (
                    "refused though there is such a place"
                )
            else:
                assert action.client in self.clients | {MAKER}

    def check_usable(self, worker_id: bytes) -> None:
        assert self.processes[worker_id], "a worker that has not registered"
        assert worker_id not in self.killed | self.asked_to_end, "a worker that ends"
        in_use = {worker for _, worker, _ in self.lease_of.values()}
        assert worker_id not in in_use | {worker for worker, _ in self.actor_at.values()}, "given twice"

    def check_place(self, worker_id: bytes, kind: tuple[int, int]) -> None:
        request, where = kind
        worker = self.leases.workers[worker_id]
        account, allocation = worker.holding()
        wish = WHERES[where]
        # a wish is weighed when the place is promised: a node that fits better may have joined since
        if not (wish.is_soft or wish.soft or wish.fallbacks):
            assert account in self.leases.accounts.allowed(wish)
        assert account.node_id == worker.node_id, "resources of another node"
        assert allocation.request == REQUESTS[request]

    def forget_lease(self, worker_id: bytes) -> None:
        self.lease_of = {n: lease for n, lease in self.lease_of.items() if lease[1] != worker_id}
        self.blocked.discard(worker_id)

    def die(self, worker_id: bytes) -> None:
        del self.processes[worker_id]
        self.killed.discard(worker_id)
        self.asked_to_end.discard(worker_id)
        self.forget_lease(worker_id)
        self.actor_at = {actor: at for actor, at in self.actor_at.items() if at[0] != worker_id}
        self.perform(self.leases.worker_died(worker_id))

    # -- rules ----------------------------------------------------------------------------------

    def join(self, cpus: int, gpus: int, max_starting: int, soft_limit: int) -> None:
        number = self.next_node
        self.next_node += 1
        total = ResourceSet({"CPU": cpus * UNITS, "GPU": gpus * UNITS, "x": 2 * UNITS})
        labels = {"odd": str(number % 2)} if number % 2 else {"even": ""}
        resources = NodeResources(total, [str(i) for i in range(gpus)])
        self.perform(
            self.leases.node_joined(
                b"n%d" % number, resources, max_starting=max_starting, soft_limit=soft_limit, labels=labels
            )
        )

    @rule(cpus=st.integers(1, 4), gpus=st.integers(0, 1))
    def node_joins(self, cpus: int, gpus: int) -> None:
        if len(self.leases.accounts.nodes) < 5:
            self.join(cpus, gpus, 2, 1)

    @rule(data=st.data())
    def node_leaves(self, data: st.DataObject) -> None:
        if not self.leases.accounts.nodes:
            return
        node_id = data.draw(st.sampled_from(sorted(self.leases.accounts.nodes)))
        for worker in [worker for worker in self.leases.workers.values() if worker.node_id == node_id]:
            # one that was put off has no process yet
            self.processes.pop(worker.worker_id, None)
            self.killed.discard(worker.worker_id)
            self.asked_to_end.discard(worker.worker_id)
            self.forget_lease(worker.worker_id)
            self.actor_at = {a: at for a, at in self.actor_at.items() if at[0] != worker.worker_id}
        self.making = {each for each in self.making if each[0] != node_id}
        self.perform(self.leases.node_left(node_id))

    @rule(
        group=st.sampled_from([b"g1", b"g2"]),
        bundles=st.lists(st.sampled_from(BUNDLES), min_size=2, max_size=4),
        strategy=st.sampled_from(STRATEGIES),
    )
    def create_group(self, group: bytes, bundles: list[ResourceSet], strategy: Strategy) -> None:
        if group not in self.leases.groups:
            self.group_states[group] = ""
            self.perform(self.leases.group_created(Group(group, list(map(Bundle, bundles)), strategy)))

    @rule(group=st.sampled_from([b"g1", b"g2"]))
    def remove_group(self, group: bytes) -> None:
        is_there = group in self.leases.groups
        inside = {
            w.worker_id
            for w in self.leases.workers.values()
            if w.account is not None and w.account.group == group
        }
        self.perform(self.leases.group_removed(group))
        assert inside <= self.killed
        assert not is_there or self.group_states.pop(group) == "REMOVED"
        self.actor_at = {actor: at for actor, at in self.actor_at.items() if at[0] not in inside}

    @rule(
        data=st.data(),
        request=st.integers(0, len(REQUESTS) - 1),
        where=st.integers(0, len(WHERES) - 1),
        wanted=st.integers(0, 5),
    )
    def demand(self, data: st.DataObject, request: int, where: int, wanted: int) -> None:
        client = data.draw(st.sampled_from(sorted(self.clients)))
        home = data.draw(st.sampled_from([b"", b"n1", b"n2"]))
        self.owed[client, (request, where)] = wanted
        pool = POOLS[(client + request) % len(POOLS)]
        number = request * len(WHERES) + where
        demand = Demand(client, number, REQUESTS[request], pool, wanted, where=WHERES[where], home=home)
        self.perform(self.leases.demand(demand))

    @precondition(lambda self: self.lease_of)
    @rule(data=st.data(), retire=st.booleans())
    def give_back(self, data: st.DataObject, retire: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.lease_of)))
        _, worker_id, _ = self.lease_of.pop(number)
        self.blocked.discard(worker_id)
        self.perform(self.leases.returned(number, retire=retire, now_s=self.now_s))
        if retire:
            assert worker_id in self.asked_to_end

    @precondition(lambda self: not all(self.processes.values()))
    @rule(data=st.data())
    def register(self, data: st.DataObject) -> None:
        worker_id = data.draw(st.sampled_from(sorted(w for w, ready in self.processes.items() if not ready)))
        self.processes[worker_id] = True
        self.perform(self.leases.worker_ready(worker_id, now_s=self.now_s))

    @precondition(lambda self: not all(self.processes.values()))
    @rule(data=st.data())
    def await_environment(self, data: st.DataObject) -> None:
        worker_id = data.draw(st.sampled_from(sorted(w for w, ready in self.processes.items() if not ready)))
        worker = self.leases.workers[worker_id]
        if worker.state == STARTING:
            self.making.add((worker.node_id, worker.pool))
        del self.processes[worker_id]
        self.killed.discard(worker_id)
        self.asked_to_end.discard(worker_id)
        self.perform(self.leases.environment_awaited(worker_id))

    @precondition(lambda self: self.making)
    @rule(data=st.data(), is_made=st.booleans())
    def environment_settles(self, data: st.DataObject, is_made: bool) -> None:
        node_id, pool = data.draw(st.sampled_from(sorted(self.making, key=repr)))
        self.making.discard((node_id, pool))
        if is_made:
            self.perform(self.leases.environment_made(node_id, pool))
        else:
            self.perform(self.leases.environment_failed(node_id, pool, NO_ENVIRONMENT))
            assert not self.leases.asking(pool)

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def end_process(self, data: st.DataObject) -> None:
        self.die(data.draw(st.sampled_from(sorted(self.processes))))

    @precondition(lambda self: not all(self.processes.values()))
    @rule()
    def starts_fail(self) -> None:
        for worker_id in sorted(w for w, is_ready in self.processes.items() if not is_ready):
            self.die(worker_id)

    @precondition(lambda self: self.lease_of)
    @rule(data=st.data())
    def block(self, data: st.DataObject) -> None:
        worker_id = self.lease_of[data.draw(st.sampled_from(sorted(self.lease_of)))][1]
        self.blocked.add(worker_id)
        self.perform(self.leases.blocked(worker_id))

    @precondition(lambda self: self.blocked)
    @rule(data=st.data())
    def unblock(self, data: st.DataObject) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.blocked)))
        self.blocked.discard(worker_id)
        self.has_overcommitted = True
        self.leases.unblocked(worker_id)

    @rule(data=st.data())
    def client_dies(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(sorted(self.clients)))
        self.clients.remove(client)
        self.clients.add(self.next_client)
        self.next_client += 1
        self.told.pop(client, None)
        for key in [key for key in self.owed if key[0] == client]:
            del self.owed[key]
        mine = {worker for key, worker, _ in self.lease_of.values() if key[0] == client}
        self.perform(self.leases.client_gone(client))
        assert mine <= self.killed

    @rule(
        request=st.integers(0, len(REQUESTS) - 2),
        where=st.integers(0, len(WHERES) - 1),
        pool=st.sampled_from(POOLS),
    )
    def create_actor(self, request: int, where: int, pool: Hashable) -> None:
        self.next_actor += 1
        actor = b"actor%d" % self.next_actor
        self.unplaced[actor] = (request, where)
        demand = Demand(MAKER, 0, REQUESTS[request], pool, 1, actor_id=actor, where=WHERES[where])
        self.perform(self.leases.demand(demand))

    @precondition(lambda self: self.unplaced or self.actor_at)
    @rule(data=st.data())
    def drop_actor(self, data: st.DataObject) -> None:
        actor = data.draw(st.sampled_from(sorted([*self.unplaced, *self.actor_at])))
        self.unplaced.pop(actor, None)
        self.perform(self.leases.actor_dropped(actor))

    @precondition(lambda self: self.actor_at)
    @rule(data=st.data())
    def actor_is_made(self, data: st.DataObject) -> None:
        actor = data.draw(st.sampled_from(sorted(self.actor_at)))
        worker_id, allocation = self.actor_at[actor]
        if allocation.request == ONE_CPU:
            self.perform(self.leases.actor_made(actor, ResourceSet()))
            self.actor_at[actor] = (worker_id, self.leases.workers[worker_id].allocation)

    @rule(step_s=st.floats(0, 2))
    def tick(self, step_s: float) -> None:
        self.now_s += step_s
        self.perform(self.leases.tick(now_s=self.now_s, idle_s=1.0))

    @rule(pool=st.sampled_from(POOLS), count=st.integers(0, 3))
    def prestart(self, pool: Hashable, count: int) -> None:
        for node_id in list(self.leases.accounts.nodes)[:1]:
            self.perform(self.leases.prestart(node_id, pool, count))

    @precondition(lambda self: self.asked_to_end)
    @rule(data=st.data())
    def refuse_to_end(self, data: st.DataObject) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.asked_to_end)))
        self.asked_to_end.discard(worker_id)
        self.perform(self.leases.kept(worker_id, now_s=self.now_s))

    @rule(pool=st.sampled_from(POOLS))
    def job_ends(self, pool: Hashable) -> None:
        self.perform(self.leases.pool_gone([pool]))

    @invariant()
    def books_agree(self) -> None:
        leases = self.leases
        leases.check_invariants()
        running = {worker for worker in leases.workers.values() if worker.state in {LEASED, ACTOR}}
        expected = {worker: allocation for _, worker, allocation in self.lease_of.values()}
        expected |= dict(self.actor_at.values())
        assert {worker.worker_id: worker.allocation for worker in running} == expected
        assert {worker.worker_id for worker in running if worker.is_blocked} == self.blocked
        for worker in running:
            account, allocation = worker.holding()
            others = [w.allocation for w in running if w.account is account and w is not worker]
            for name in ("GPU", "x", *(() if self.has_overcommitted else ("CPU",))):
                held = allocation.request.get(name) + sum(
                    other.request.get(name) for other in others if other is not None
                )
                assert name == "CPU" or held <= account.resources.total.get(name), (
                    f"more {name} than there is"
                )
        for group_id, group in leases.groups.items():
            assert self.group_states[group_id] in (group.state, ""), "a change that was not told"
            nodes = [node.node_id for node, _ in group.reserved.values()]
            if group.state == CREATED and group.strategy == "STRICT_PACK":
                assert len(set(nodes)) == 1
            if group.strategy == "STRICT_SPREAD":
                assert len(set(nodes)) == len(nodes)
        for demand, reason in leases.waiting():
            assert reason
            for worker in leases.holders(demand):
                account, allocation = worker.holding()
                lacking = demand.request.missing_from(account.resources.available)
                assert worker in running, "resources held by a worker that does not run"
                assert set(allocation.request) & set(lacking), f"{worker.name} holds none of {lacking}"
            if reason.endswith("in use") and not leases.promised() and not leases.groups:
                assert leases.holders(demand), "resources held by nobody"
        waiting = Counter(
            {
                (d.client, divmod(d.class_number, len(WHERES))): d.wanted
                for d, _ in leases.waiting()
                if not d.actor_id
            }
        )
        promised = Counter(
            (d.client, divmod(d.class_number, len(WHERES))) for d in leases.promised() if not d.actor_id
        )
        assert waiting + promised == +self.owed, "what is owed is neither waiting nor promised"
        assert {d.actor_id for d, _ in leases.waiting() if d.actor_id} | {
            d.actor_id for d in leases.promised() if d.actor_id
        } == set(self.unplaced)

    def teardown(self) -> None:
        if not hasattr(self, "leases"):
            return
        self.everybody_is_served()
        for actor in list(self.unplaced):
            self.perform(self.leases.actor_dropped(actor))
        for client in sorted(self.clients):
            self.clients.remove(client)
            self.perform(self.leases.client_gone(client))
        for worker_id in sorted(self.processes):
            self.die(worker_id)
        self.perform(self.leases.tick(now_s=self.now_s, idle_s=1.0))
        for worker_id in sorted(self.processes):
            self.die(worker_id)
        assert self.leases.waiting() == []
        for account in self.leases.accounts.nodes.values():
            assert account.resources.available == account.resources.total
        self.leases.check_invariants()

    def everybody_is_served(self) -> None:
        """When all goes well from now on, every demand that can be met is; groups may hold all that others want."""
        self.go_well()
        impossible = self.impossible()
        assert {
            kind for (_, kind), wanted in self.owed.items() if wanted and kind[1] in IN_GROUPS
        } <= impossible
        assert {kind for kind in self.unplaced.values() if kind[1] in IN_GROUPS} <= impossible
        for group_id in list(self.leases.groups):
            self.remove_group(group_id)
        self.go_well()
        impossible = self.impossible()
        assert {kind for (_, kind), wanted in self.owed.items() if wanted} <= impossible
        assert set(self.unplaced.values()) <= impossible

    def go_well(self) -> None:
        for node_id, pool in sorted(self.making, key=repr):
            self.making.discard((node_id, pool))
            self.perform(self.leases.environment_made(node_id, pool))
        self.perform(self.leases.tick(now_s=self.now_s, idle_s=1.0))
        for _ in range(100):
            if not self.lease_of and not self.actor_at and all(self.processes.values()):
                break
            for worker_id in sorted(w for w, is_ready in self.processes.items() if not is_ready):
                self.processes[worker_id] = True
                self.perform(self.leases.worker_ready(worker_id, now_s=self.now_s))
            for number in sorted(self.lease_of):
                self.lease_of.pop(number)
                self.perform(self.leases.returned(number, retire=False, now_s=self.now_s))
            self.blocked.clear()
            for worker_id, _ in list(self.actor_at.values()):
                self.die(worker_id)
            for worker_id in sorted(self.killed):
                self.die(worker_id)
            self.perform(self.leases.tick(now_s=self.now_s, idle_s=1.0))

    def impossible(self) -> set[tuple[int, int]]:
        accounts = self.leases.accounts
        return {
            (i, j)
            for i, request in enumerate(REQUESTS)
            for j, where in enumerate(WHERES)
            if not accounts.feasible(where, request)
        }


TestLeasesProgram = LeasesProgram.TestCase
TestLeasesProgram.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, derandomize=True, database=None
)
