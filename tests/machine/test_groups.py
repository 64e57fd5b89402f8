"""Placement groups: on which nodes their bundles go, all or none, and what runs in them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from jray._core.machine.accounts import Account
from jray._core.machine.groups import (
    CREATED,
    GROUP_REMOVED,
    PENDING,
    REMOVED,
    RESCHEDULING,
    STRATEGIES,
    Bundle,
    Group,
    Strategy,
)
from jray._core.machine.leases import (
    Action,
    Demand,
    EndWorker,
    Grant,
    GroupMoved,
    Infeasible,
    Leases,
    PlaceActor,
    Refuse,
    StartWorker,
)
from jray._core.resources import NodeResources, ResourceSet
from jray._core.strategies import ANYWHERE, Where, selector_rules

POOL = ("job", ())


def amounts(**quantities: float) -> ResourceSet:
    return ResourceSet.from_floats(quantities)


ONE_CPU = amounts(CPU=1)


def node(name: str, **quantities: float) -> Account:
    gpus = [f"{name}-{i}" for i in range(int(quantities.get("GPU", 0)))]
    return Account(name.encode(), NodeResources(amounts(**quantities), gpus))


def node_in(zone: str, name: str, cpus: float) -> Account:
    return Account(name.encode(), NodeResources(amounts(CPU=cpus)), {"zone": zone})


def place(strategy: Strategy, bundles: list[ResourceSet], nodes: list[Account]) -> list[str] | None:
    """Return the name of the node of each bundle; None: they don't all fit, and nothing is taken."""
    before = [account.resources.available for account in nodes]
    group = Group(b"g", list(map(Bundle, bundles)), strategy)
    placed = group.place(nodes)
    for account in nodes:
        account.resources.check_invariants()
    if placed is None:
        assert [account.resources.available for account in nodes] == before, "half a group is reserved"
        assert group.state == PENDING
        return None
    assert group.state == CREATED
    return [placed[i].node_id.decode() for i in range(len(bundles))]


# -- where the bundles go -------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_bundle_goes_where_it_fits(strategy: Strategy) -> None:
    """Whatever the strategy, and not where it does not."""
    assert place(strategy, [amounts(GPU=1)], [node("a", CPU=4), node("b", CPU=1, GPU=1)]) == ["b"]
    assert place(strategy, [amounts(GPU=1)], [node("a", CPU=4)]) is None


@pytest.mark.parametrize("strategy", ["PACK", "STRICT_PACK"])
def test_packing_takes_the_first_node_that_has_room_for_all(strategy: Strategy) -> None:
    """A node with room for some of them is passed over."""
    nodes = [node("a", CPU=1), node("b", CPU=2), node("c", CPU=4)]
    assert place(strategy, [ONE_CPU, ONE_CPU], nodes) == ["b", "b"]


def test_only_strict_packing_insists_on_one_node() -> None:
    """PACK takes as few nodes as it can then."""
    nodes = [node("a", CPU=1), node("b", CPU=2), node("c", CPU=1)]
    assert place("STRICT_PACK", [ONE_CPU] * 3, nodes) is None
    placed = place("PACK", [ONE_CPU] * 3, nodes)
    assert placed is not None
    assert sorted(placed) in (["a", "b", "b"], ["b", "b", "c"])


@pytest.mark.parametrize("strategy", ["SPREAD", "STRICT_SPREAD"])
def test_spreading_gives_each_bundle_a_node(strategy: Strategy) -> None:
    """Also where one node would have room for all."""
    placed = place(strategy, [ONE_CPU] * 3, [node("a", CPU=8), node("b", CPU=1), node("c", CPU=1)])
    assert placed is not None
    assert sorted(placed) == ["a", "b", "c"]


def test_only_strict_spreading_insists_on_distinct_nodes() -> None:
    """SPREAD takes each node about as often."""
    nodes = [node("a", CPU=8), node("b", CPU=8)]
    assert place("STRICT_SPREAD", [ONE_CPU] * 3, nodes) is None
    placed = place("SPREAD", [ONE_CPU] * 4, nodes)
    assert placed is not None
    assert sorted(placed) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("strategy", ["SPREAD", "STRICT_SPREAD"])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_distinct_nodes_are_found_if_there_are_such(strategy: Strategy, order: tuple[int, ...]) -> None:
    """One bundle fits only on one node, and another takes that only if nobody looks ahead."""
    bundles = [amounts(CPU=1), amounts(CPU=1, x=1), amounts(CPU=1, x=1, y=1)]
    nodes = [node("all", CPU=1, x=1, y=1), node("two", CPU=1, x=1), node("one", CPU=1)]
    placed = place(strategy, [bundles[i] for i in order], nodes)
    assert placed == [["one", "two", "all"][i] for i in order]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_bundles_or_none(strategy: Strategy) -> None:
    """One that has no room keeps the others from being reserved."""
    assert place(strategy, [ONE_CPU, amounts(CPU=9)], [node("a", CPU=4), node("b", CPU=4)]) is None


def test_bundles_with_parts_of_gpus_share_them() -> None:
    """Two halves are of one GPU, and who runs in a bundle gets the one that it is of."""
    machine = node("a", CPU=2, GPU=2)
    requests = amounts(GPU=0.5), amounts(GPU=0.5), amounts(GPU=1)
    group = Group(b"g", list(map(Bundle, requests)), "PACK")
    placed = group.place([machine])
    assert placed is not None
    ids = [placed[i].resources.gpu_ids for i in range(3)]
    assert ids[0] == ids[1]
    assert len(ids[0]) == len(ids[2]) == 1
    assert ids[0] != ids[2]
    half = placed[0].resources.allocate(amounts(GPU=0.5))
    assert half is not None
    assert half.gpu_ids == ids[0]
    assert placed[0].resources.allocate(amounts(GPU=0.1)) is None


def labelled(zone: str, cpus: float = 1) -> Bundle:
    return Bundle(amounts(CPU=cpus), selector_rules({"zone": zone}))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_bundle_goes_where_the_labels_are_as_it_says(strategy: Strategy) -> None:
    """Though others come first and have room."""
    nodes = [node("a", CPU=4), node_in("east", "b", 4), node("c", CPU=4)]
    placed = Group(b"g", [labelled("east")], strategy).place(nodes)
    assert placed is not None
    assert placed[0].node_id == b"b"
    assert Group(b"g", [labelled("west")], strategy).place(nodes) is None


def test_bundles_with_other_labels_go_to_other_nodes() -> None:
    """All on one node is what their labels forbid; a bundle that says nothing joins one of them."""
    nodes = [node_in("west", "a", 4), node_in("east", "b", 4)]
    bundles = [labelled("east"), Bundle(ONE_CPU), labelled("west")]
    placed = Group(b"g", bundles, "PACK").place(nodes)
    assert placed is not None
    assert [placed[0].node_id, placed[2].node_id] == [b"b", b"a"]
    group = Group(b"g", bundles, "STRICT_PACK")
    assert group.place(nodes) is None
    assert group.waiting_reason(nodes) == (
        "all bundles together can go on no node: that must be where 'zone' is 'east' and where 'zone' is 'west', "
        "and no node is such"
    )


@pytest.mark.parametrize("strategy", ["PACK", "SPREAD"])
def test_who_has_less_choice_comes_first(strategy: Strategy) -> None:
    """A bundle that could be anywhere leaves the room to one that could not."""
    nodes = [node_in("east", "a", 2), node("b", CPU=2)]
    bundles = [Bundle(ONE_CPU), Bundle(ONE_CPU), labelled("east"), labelled("east")]
    placed = Group(b"g", bundles, strategy).place(nodes)
    assert placed is not None
    assert [placed[i].node_id for i in range(4)] == [b"b", b"b", b"a", b"a"]


def test_a_preferred_node_comes_first() -> None:
    """Where it has no room, any other will do."""
    nodes = [node("a", CPU=4), node("b", CPU=2)]
    for count, taken in ((2, b"b"), (3, b"a")):
        placed = Group(b"g", [Bundle(ONE_CPU)] * count, "STRICT_PACK", b"b").place(nodes)
        assert placed is not None
        assert {account.node_id for account in placed.values()} == {taken}


# -- what they wait for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "bundles", "reason"),
    [
        ("PACK", [ONE_CPU, amounts(x=1)], "bundle 1 can go nowhere: it needs 1 x"),
        ("STRICT_SPREAD", [ONE_CPU] * 3, "its 3 bundles need as many nodes, and there are 2"),
        ("STRICT_PACK", [amounts(CPU=4), amounts(CPU=1)], "all bundles together can go on no node"),
        ("PACK", [amounts(CPU=4), amounts(CPU=4)], "waits for room for 2 of 2 bundles"),
    ],
)
def test_a_waiting_group_says_why(strategy: Strategy, bundles: list[ResourceSet], reason: str) -> None:
    """What can never be is told apart from what is in use."""
    nodes = [node("a", CPU=4), node("b", CPU=4)]
    assert nodes[0].resources.allocate(ONE_CPU)
    group = Group(b"g", list(map(Bundle, bundles)), strategy)
    assert group.place(nodes) is None
    assert group.waiting_reason(nodes).startswith(reason)


# -- leases in bundles ----------------------------------------------------------------------------


class Cluster:
    """Drives leases over several nodes, whose workers start at once, and checks them after each event."""

    def __init__(self, **cpus: int) -> None:
        self.leases = Leases(b"w%d" % number for number in itertools.count(1))
        self.seen: list[Action] = []
        for name, count in cpus.items():
            self.join(name, CPU=count)

    def perform(self, actions: list[Action]) -> list[Action]:
        """Return all that follows from *actions*."""
        found = []
        todo = list(actions)
        while todo:
            action = todo.pop(0)
            found.append(action)
            self.leases.check_invariants()
            if isinstance(action, StartWorker):
                todo += self.leases.worker_ready(action.worker_id, now_s=0.0)
            elif isinstance(action, EndWorker):
                todo += self.leases.worker_died(action.worker_id)
        self.leases.check_invariants()
        return found

    def join(self, name: str, **quantities: float) -> list[Action]:
        resources = node(name, **quantities).resources
        return self.perform(self.leases.node_joined(name.encode(), resources, max_starting=9, soft_limit=9))

    def leave(self, name: str) -> list[Action]:
        return self.perform(self.leases.node_left(name.encode()))

    def create(self, *bundles: ResourceSet, strategy: Strategy = "PACK", group: bytes = b"g") -> list[Action]:
        wanted = Group(group, list(map(Bundle, bundles)), strategy)
        return self.perform(self.leases.group_created(wanted))

    def remove(self, group: bytes = b"g") -> list[Action]:
        return self.perform(self.leases.group_removed(group))

    def wants(
        self, wanted: int = 1, request: ResourceSet = ONE_CPU, where: Where = ANYWHERE, *, kind: int = 0
    ) -> list[Action]:
        return self.perform(self.leases.demand(Demand(1, kind, request, POOL, wanted, name="f", where=where)))

    def places(self, actor: bytes, where: Where) -> list[Action]:
        demand = Demand(1, 0, ONE_CPU, POOL, 1, name="actor A", actor_id=actor, where=where)
        return self.perform(self.leases.demand(demand))

    def free(self, name: str) -> dict[str, float]:
        return self.leases.accounts.nodes[name.encode()].resources.available.to_floats()

    def reasons(self) -> list[str]:
        return [reason for _, reason in self.leases.waiting()]


def of(kind: type[Any], actions: list[Action]) -> list[Any]:
    return [action for action in actions if isinstance(action, kind)]


IN_GROUP = Where(group=b"g")


def test_a_group_takes_its_resources_from_the_node() -> None:
    """What is reserved others do not get, and who runs in the group gets nothing else."""
    cluster = Cluster(a=2)
    assert cluster.create(ONE_CPU) == [GroupMoved(b"g", CREATED)]
    assert cluster.free("a") == {"CPU": 1}
    assert len(of(Grant, cluster.wants(2, where=IN_GROUP))) == 1
    assert cluster.free("a") == {"CPU": 1}
    assert cluster.reasons() == ["waits for 1 CPU: 1 of 1 in use"]
    assert len(of(Grant, cluster.wants(2, kind=1))) == 1


def test_a_bundle_is_chosen_by_number_or_by_room() -> None:
    """-1 takes any that has room."""
    cluster = Cluster(a=4)
    cluster.create(ONE_CPU, amounts(CPU=2))
    assert len(of(Grant, cluster.wants(2, where=Where(group=b"g", bundle=0)))) == 1
    assert len(of(Grant, cluster.wants(3, where=IN_GROUP, kind=1))) == 2
    assert cluster.free("a") == {"CPU": 1}


def test_what_comes_before_its_group_is_placed_waits_for_it() -> None:
    """And says what the group waits for."""
    cluster = Cluster(a=1)
    (taken,) = of(Grant, cluster.wants(1))
    assert cluster.create(ONE_CPU) == []
    assert not of(Grant, cluster.wants(1, where=IN_GROUP, kind=1))
    assert cluster.reasons() == ["waits for its placement group: waits for room for 1 of 1 bundles"]
    follows = cluster.perform(cluster.leases.returned(taken.lease_number, retire=False, now_s=1.0))
    assert GroupMoved(b"g", CREATED) in follows
    assert len(of(Grant, follows)) == 1


def test_what_fits_in_no_bundle_is_said() -> None:
    """Once it is known what the bundles are; it is not refused, for bundles may move."""
    cluster = Cluster(a=4)
    cluster.create(ONE_CPU)
    (said,) = of(Infeasible, cluster.wants(1, amounts(CPU=2), IN_GROUP))
    assert "the bundle has" in said.misfit.limit


def test_a_group_waits_for_a_node_that_joins() -> None:
    """And is placed then."""
    cluster = Cluster(a=1)
    assert cluster.create(ONE_CPU, ONE_CPU, strategy="STRICT_SPREAD") == []
    assert cluster.join("b", CPU=1) == [GroupMoved(b"g", CREATED)]
    assert cluster.free("a") == cluster.free("b") == {}


def test_groups_are_placed_in_the_order_they_came_where_they_fit() -> None:
    """One that does not fit keeps none behind it waiting."""
    cluster = Cluster(a=2)
    assert cluster.create(amounts(CPU=3), group=b"large") == []
    assert cluster.create(ONE_CPU, group=b"small") == [GroupMoved(b"small", CREATED)]


# -- removal --------------------------------------------------------------------------------------


def test_removal_ends_what_runs_and_refuses_what_waits() -> None:
    """What it had is free again; a second time nothing happens."""
    cluster = Cluster(a=2)
    cluster.create(amounts(CPU=2))
    (task,) = of(Grant, cluster.wants(1, where=IN_GROUP))
    (actor,) = of(PlaceActor, cluster.places(b"A", IN_GROUP))
    cluster.wants(1, where=IN_GROUP, kind=7)
    follows = cluster.remove()
    ended = {action.worker_id: action for action in of(EndWorker, follows)}
    assert ended.keys() == {task.worker_id, actor.worker_id}
    assert all(action.force and action.reason == GROUP_REMOVED for action in ended.values())
    assert Refuse(1, 7, None, GROUP_REMOVED) in follows
    assert GroupMoved(b"g", REMOVED) in follows
    assert cluster.free("a") == {"CPU": 2}
    assert cluster.remove() == []


def test_removal_refuses_what_waits_for_a_group_that_was_never_placed() -> None:
    """Actors too."""
    cluster = Cluster(a=1)
    cluster.create(ONE_CPU, ONE_CPU, strategy="STRICT_SPREAD")
    cluster.wants(1, where=IN_GROUP, kind=3)
    cluster.places(b"A", IN_GROUP)
    refused = of(Refuse, cluster.remove())
    assert {(action.class_number, action.actor_id) for action in refused} == {(3, None), (0, b"A")}


def test_a_demand_for_a_group_that_is_gone_is_refused() -> None:
    """At once, and for ever: ids do not come back."""
    cluster = Cluster(a=1)
    cluster.create(ONE_CPU)
    cluster.remove()
    assert cluster.wants(1, where=IN_GROUP) == [Refuse(1, 0, None, GROUP_REMOVED)]
    assert cluster.places(b"A", IN_GROUP) == [Refuse(1, 0, b"A", GROUP_REMOVED)]


def test_a_removed_group_makes_room_for_the_next() -> None:
    """Which was waiting for it."""
    cluster = Cluster(a=1)
    cluster.create(ONE_CPU)
    assert cluster.create(ONE_CPU, group=b"h") == []
    assert GroupMoved(b"h", CREATED) in cluster.remove()


# -- nodes that leave -----------------------------------------------------------------------------


def test_the_bundles_of_a_node_that_left_go_elsewhere() -> None:
    """The others stay where they are, with what runs there."""
    cluster = Cluster(a=1, b=1, c=1)
    cluster.create(ONE_CPU, ONE_CPU, strategy="STRICT_SPREAD")
    bundles = cluster.leases.accounts.bundles[b"g"]
    stays, leaves = bundles[0].node_id, bundles[1].node_id
    (kept,) = of(Grant, cluster.wants(1, where=Where(group=b"g", bundle=0)))
    follows = cluster.leave(leaves.decode())
    assert [action.state for action in of(GroupMoved, follows)] == [RESCHEDULING, CREATED]
    assert bundles[0].node_id == stays
    assert bundles[1].node_id not in (stays, leaves)
    assert kept.worker_id in cluster.leases.workers
    assert len(of(Grant, cluster.wants(1, where=Where(group=b"g", bundle=1), kind=1))) == 1


def test_a_group_that_lost_a_node_waits_for_another() -> None:
    """What is in the bundles that survive goes on."""
    cluster = Cluster(a=1, b=1)
    cluster.create(ONE_CPU, ONE_CPU, strategy="STRICT_SPREAD")
    survivor = cluster.leases.accounts.bundles[b"g"][0].node_id
    lost = next(name for name in ("a", "b") if name.encode() != survivor)
    assert of(GroupMoved, cluster.leave(lost)) == [GroupMoved(b"g", RESCHEDULING)]
    assert len(of(Grant, cluster.wants(1, where=IN_GROUP))) == 1
    assert not of(Grant, cluster.wants(1, where=Where(group=b"g", bundle=1), kind=1))
    assert cluster.reasons() == [
        "waits for its placement group: its 2 bundles need as many nodes, and there are 1"
    ]
    follows = cluster.join("d", CPU=1)
    assert GroupMoved(b"g", CREATED) in follows
    assert len(of(Grant, follows)) == 1


def test_a_strictly_packed_group_that_lost_all_its_bundles_moves_whole() -> None:
    """To one node again."""
    cluster = Cluster(a=2, b=1)
    cluster.create(ONE_CPU, ONE_CPU, strategy="STRICT_PACK")
    assert of(GroupMoved, cluster.leave("a")) == [GroupMoved(b"g", RESCHEDULING)]
    assert cluster.join("c", CPU=2) == [GroupMoved(b"g", CREATED)]
    assert {account.node_id for account in cluster.leases.accounts.bundles[b"g"].values()} == {b"c"}
