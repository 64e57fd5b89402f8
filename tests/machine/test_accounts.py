"""Which node a request goes to: hybrid packing, spreading, affinity, labels, and away from GPUs."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from jray._core.machine.accounts import Account, Accounts, Candidates
from jray._core.machine.groups import Bundle, Group
from jray._core.resources import Misfit, NodeResources, ResourceSet
from jray._core.strategies import ANYWHERE, LabelRule, Where


def amounts(**quantities: float) -> ResourceSet:
    return ResourceSet.from_floats(quantities)


ONE_CPU = amounts(CPU=1)
EAST = LabelRule("region", ("east",))
NOT_EAST = LabelRule("region", ("east",), negated=True)
HAS_DISK = LabelRule("disk", ())


Nodes = Sequence[tuple[str, dict[str, float], dict[str, str]]]


def cluster(nodes: Nodes) -> Accounts:
    accounts = Accounts()
    for name, quantities, labels in nodes:
        gpus = [f"{name}{i}" for i in range(int(quantities.get("GPU", 0)))]
        resources = NodeResources(amounts(**quantities), gpus)
        accounts.nodes[name.encode()] = Account(name.encode(), resources, labels)
    return accounts


def plain(**cpus: int) -> Accounts:
    return cluster([(name, {"CPU": count}, {}) for name, count in cpus.items()])


def names(accounts: list[Account]) -> str:
    return "".join(account.node_id.decode() for account in accounts)


def placed(
    accounts: Accounts, count: int, request: ResourceSet = ONE_CPU, where: Where = ANYWHERE, home: bytes = b""
) -> str:
    """Place *count* requests one after the other, as the leases do; return where they went."""
    candidates = Candidates(accounts.feasible(where, request), request, where)
    found = ""
    while len(found) < count and (account := candidates.best(home)) is not None:
        if account.resources.allocate(request) is None:
            candidates.close(account)
            continue
        candidates.used(account)
        found += account.node_id.decode()
    return found


# -- hybrid ---------------------------------------------------------------------------------------


def test_work_is_packed_until_a_node_is_half_in_use() -> None:
    """Then the next one, and beyond that it is spread."""
    assert placed(plain(a=4, b=4), 4) == "aabb"
    assert sorted(placed(plain(a=4, b=4), 8)[4:]) == list("aabb")


def test_work_goes_home_first() -> None:
    """As long as home is not half in use."""
    assert placed(plain(a=4, b=4), 4, home=b"b") == "bbaa"


def test_no_more_is_placed_than_fits() -> None:
    """On all nodes together."""
    assert len(placed(plain(a=1, b=2), 9)) == 3


def test_what_has_no_room_is_looked_at_again_when_something_is_free_there() -> None:
    """And not before."""
    accounts = plain(a=1)
    node = accounts.nodes[b"a"]
    held = node.resources.allocate(ONE_CPU)
    assert held is not None
    candidates = Candidates([node], ONE_CPU, ANYWHERE)
    candidates.close(node)
    assert candidates.best(b"") is None
    node.resources.release(held)
    candidates.reopen(node)
    assert candidates.best(b"") is node


# -- spread, affinity -----------------------------------------------------------------------------


def test_spreading_goes_round() -> None:
    """Also where one node is much larger."""
    assert placed(plain(a=100, b=4, c=4), 6, where=Where(spread=True)) == "abcabc"


def test_affinity_is_for_one_node_only() -> None:
    """The others stay free."""
    assert placed(plain(a=1, b=1), 2, where=Where(node_id=b"b")) == "b"


@pytest.mark.parametrize(("is_soft", "found"), [(False, ""), (True, "ab")])
def test_affinity_to_a_node_that_is_not_there(is_soft: bool, found: str) -> None:
    """Goes elsewhere only if it is soft."""
    accounts = plain(a=1, b=1)
    where = Where(node_id=b"x", is_soft=is_soft)
    assert names(accounts.allowed(where)) == found
    assert (accounts.misfit(where, ONE_CPU) is None) == is_soft


def test_soft_affinity_waits_for_its_node_while_that_is_there() -> None:
    """Busy is not gone (Ray's rule)."""
    accounts = plain(a=1, b=1)
    assert placed(accounts, 2, where=Where(node_id=b"a", is_soft=True)) == "a"


# -- labels ---------------------------------------------------------------------------------------

LABELLED: Nodes = [
    ("a", {"CPU": 4}, {"region": "east"}),
    ("b", {"CPU": 4}, {"region": "west", "disk": "ssd"}),
    ("c", {"CPU": 4}, {}),
]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (Where(hard=(EAST,)), "a"),
        (Where(hard=(NOT_EAST,)), "bc"),
        (Where(hard=(HAS_DISK,)), "b"),
        (Where(hard=(LabelRule("disk", (), negated=True),)), "ac"),
        (Where(hard=(LabelRule("region", ("east", "west")),)), "ab"),
        (Where(hard=(EAST, HAS_DISK)), ""),
        (Where(soft=(HAS_DISK,)), "b"),
        (Where(soft=(LabelRule("region", ("south",)),)), "abc"),
        (Where(hard=(NOT_EAST,), soft=(HAS_DISK,)), "b"),
        (Where(hard=(NOT_EAST,), soft=(EAST,)), "bc"),
        (Where(hard=(EAST, HAS_DISK), fallbacks=((HAS_DISK,), (EAST,))), "b"),
        (Where(hard=(EAST,), fallbacks=((HAS_DISK,),)), "a"),
        (Where(hard=(EAST, HAS_DISK), fallbacks=((),)), "abc"),
    ],
)
def test_labels_choose_nodes(where: Where, found: str) -> None:
    """Hard rules must be met, soft ones if they can, fallbacks one after the other."""
    assert names(cluster(LABELLED).allowed(where)) == found


def test_labels_that_no_node_has_are_named() -> None:
    """In the words of a clause."""
    accounts = cluster(LABELLED)
    where = Where(hard=(LabelRule("region", ("south",)),), fallbacks=((EAST, HAS_DISK),))
    misfit = accounts.misfit(where, ONE_CPU)
    assert misfit is not None
    assert misfit.reason == (
        "must run where 'region' is 'south', or where 'region' is 'east' and with the label 'disk', "
        "and no node is such"
    )


def test_a_node_with_the_labels_and_too_little_is_infeasible() -> None:
    """The reason is what it lacks."""
    misfit = cluster(LABELLED).misfit(Where(hard=(EAST,)), amounts(CPU=9))
    assert misfit is not None
    assert "9 CPU" in misfit.needs


# -- GPUs -----------------------------------------------------------------------------------------


def test_work_without_a_gpu_leaves_nodes_with_gpus_for_others() -> None:
    """Until there is no other room."""
    accounts = cluster([("g", {"CPU": 4, "GPU": 1}, {}), ("a", {"CPU": 2}, {})])
    assert placed(accounts, 4) == "aagg"


def test_work_with_a_gpu_goes_where_it_is() -> None:
    """Home or not."""
    accounts = cluster([("a", {"CPU": 4}, {}), ("g", {"CPU": 4, "GPU": 1}, {})])
    assert placed(accounts, 2, amounts(CPU=1, GPU=0.5), home=b"a") == "gg"


def test_work_that_asks_for_its_node_gets_it_though_it_has_gpus() -> None:
    """Shunning is a preference among what is allowed."""
    accounts = cluster([("g", {"CPU": 4, "GPU": 1}, {}), ("a", {"CPU": 2}, {})])
    assert placed(accounts, 2, where=Where(node_id=b"g")) == "gg"


# -- reasons --------------------------------------------------------------------------------------


def test_what_waits_says_what_is_in_use_and_where() -> None:
    """On one node as if there were no other; on several, of all."""
    one = plain(a=1)
    placed(one, 1)
    assert one.waiting_reason(ANYWHERE, ONE_CPU) == "waits for 1 CPU: 1 of 1 in use"
    two = plain(a=1, b=2)
    placed(two, 3)
    assert two.waiting_reason(ANYWHERE, ONE_CPU) == "waits for 1 CPU: 3 of 3 in use on 2 nodes"


def test_without_nodes_everything_waits_for_one() -> None:
    """And with nodes, what none of them has is infeasible by the nearest."""
    assert Accounts().misfit(ANYWHERE, ONE_CPU) == Misfit("needs a node", "there is none yet")
    misfit = plain(a=1, b=2).misfit(ANYWHERE, amounts(CPU=3))
    assert misfit is not None
    assert misfit.needs == "needs 3 CPU"
    assert misfit.limit.startswith("of 2 nodes the nearest has")


def test_what_would_help_is_said_of_bundles_too() -> None:
    """More for `init`, or a node that joins, makes no bundle larger."""
    accounts = plain(a=4)
    group = Group(b"g", [Bundle(amounts(CPU=1)), Bundle(amounts(CPU=2))], "PACK")
    placed_at = group.place(accounts.nodes.values())
    assert placed_at is not None
    accounts.bundles[b"g"] = placed_at
    assert accounts.misfit(Where(group=b"g"), amounts(CPU=2)) is None
    misfit = accounts.misfit(Where(group=b"g", bundle=0), amounts(CPU=2))
    assert misfit is not None
    assert misfit.reason == "needs 2 CPU, the bundle has 1 CPU"
    assert not re.search(r"init|joins", misfit.notice("f"))
