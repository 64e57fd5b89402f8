"""Clusters of several nodes: where work goes, how objects come to it, and what the loss of a node costs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import jray
from jray.cluster_utils import Cluster
from jray.exceptions import (
    ActorDiedError,
    ActorUnschedulableError,
    ObjectLostError,
    OwnerDiedError,
    TaskUnschedulableError,
)
from jray.util import placement_group, placement_group_table, remove_placement_group, state
from jray.util.scheduling_strategies import (
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)
from tests.behaviour.support import Bench, Gate, wait_until

pytestmark = [pytest.mark.usefixtures("no_cluster"), pytest.mark.timeout(300)]

#: bytes: more than fits into a message, on both engines
LARGE = 2_000_000
MB = 2**20
#: seconds in which a node that is gone is known to be (Ray asks for its nodes' health now and then)
LOSS_S = 120.0
#: seconds that work may take which begins anew elsewhere
AGAIN_S = 120.0


class Nodes:
    """A cluster whose head has one CPU, and nodes that are known by a resource of their own name."""

    def __init__(self) -> None:
        self.cluster = Cluster(
            initialize_head=True,
            connect=True,
            head_node_args={"num_cpus": 1, "resources": {"head": 100}, "object_store_memory": 200 * MB},
        )
        self.of: dict[str, Any] = {"head": self.cluster.head_node}

    def add(self, name: str, num_cpus: int = 2, **arguments: Any) -> Any:
        """Start a node, and wait until it can be used."""
        resources = {name: 100, **arguments.pop("resources", {})}
        node = self.cluster.add_node(
            num_cpus=num_cpus, resources=resources, object_store_memory=200 * MB, **arguments
        )
        self.cluster.wait_for_nodes()
        self.of[name] = node
        return node

    def id_of(self, name: str) -> str:
        return str(self.of[name].node_id)

    def lose(self, name: str) -> None:
        """End a node as if its machine had failed, and return once that is known."""
        node = self.of.pop(name)
        self.cluster.remove_node(node, allow_graceful=False)
        wait_until(lambda: node.node_id not in alive(), LOSS_S, f"it is known that the node {name} is gone")


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    made = Nodes()
    yield made
    jray.shutdown()
    made.cluster.shutdown()


def alive() -> list[str]:
    return [row["NodeID"] for row in jray.nodes() if row["Alive"]]


def here() -> str:
    return jray.get_runtime_context().get_node_id()


@jray.remote(num_cpus=0)
def where() -> str:
    return jray.get_runtime_context().get_node_id()


@jray.remote(num_cpus=0)
def fill(value: float) -> Any:
    return np.full(LARGE // 8, value)


@jray.remote(num_cpus=0)
def add_one(values: Any) -> Any:
    return values + 1


@jray.remote(num_cpus=0)
def total(values: Any) -> float:
    return float(values.sum())


@jray.remote
def hold(gate: Gate, started: Any) -> str:
    node = jray.get_runtime_context().get_node_id()
    started.add(node)
    gate.wait(240)
    return node


@jray.remote(num_cpus=0)
class Holder:
    def where(self) -> str:
        return jray.get_runtime_context().get_node_id()

    def pid(self) -> int:
        return os.getpid()

    def make(self, value: float) -> Any:
        return [jray.put(np.full(LARGE // 8, value))]


def on(name: str) -> dict[str, Any]:
    return {"resources": {name: 0.01}}


# -- being there ----------------------------------------------------------------------------------


@pytest.mark.sentences("S46")
def test_nodes_are_listed_and_their_resources_add_up(nodes: Nodes) -> None:
    nodes.add("a", labels={"kind": "small"})
    rows = {row["NodeID"]: row for row in jray.nodes()}
    assert set(rows) == {nodes.id_of("head"), nodes.id_of("a")}
    assert all(row["Alive"] for row in rows.values())
    assert rows[nodes.id_of("a")]["Resources"]["CPU"] == 2
    assert rows[nodes.id_of("a")]["Labels"]["kind"] == "small"
    assert jray.cluster_resources()["CPU"] == 3
    assert jray.cluster_resources()["a"] == 100
    assert here() == nodes.id_of("head")

    nodes.lose("a")
    assert jray.cluster_resources()["CPU"] == 1
    assert "a" not in jray.cluster_resources()


@pytest.mark.sentences("S46", "S53")
def test_work_goes_where_its_resources_are(nodes: Nodes) -> None:
    waiting = where.options(**on("b")).remote()
    nodes.add("a")
    assert jray.get(where.options(**on("a")).remote()) == nodes.id_of("a")
    assert jray.wait([waiting], timeout=0.2)[0] == []  # no node has what it wants
    nodes.add("b")
    assert jray.get(waiting, timeout=AGAIN_S) == nodes.id_of("b")
    holder = Holder.options(**on("a")).remote()
    assert jray.get(holder.where.remote()) == nodes.id_of("a")


@pytest.mark.only("jray", "Ray's logs come from its dashboard, which is not started here")
def test_logs_are_read_from_the_node_that_has_them(nodes: Nodes) -> None:
    nodes.add("a")

    @jray.remote(num_cpus=0)
    class Talker:
        def say(self, text: str) -> str:
            print(text, flush=True)
            return str(jray.get_runtime_context().get_actor_id())

    talker = Talker.options(**on("a")).remote()
    actor_id = jray.get(talker.say.remote("said far away"))
    wait_until(
        lambda: "said far away" in "".join(state.get_log(actor_id=actor_id)), what="its log has what it said"
    )
    assert state.list_logs(node_id=nodes.id_of("a"))["worker_out"]
    assert "node.log" in state.list_logs(node_id=nodes.id_of("a"))["internal"]
    assert "head.log" in state.list_logs()["internal"]


# -- objects between nodes ------------------------------------------------------------------------


def test_results_of_another_node_are_read_here_and_there(nodes: Nodes) -> None:
    nodes.add("a")
    nodes.add("b")
    made = fill.options(**on("a")).remote(3.0)
    assert jray.get(made).sum() == 3.0 * LARGE // 8
    assert not jray.get(made).flags.writeable
    assert (
        jray.get([total.options(**on(name)).remote(made) for name in ("b", "a", "head")])
        == [3.0 * LARGE // 8] * 3
    )


def test_what_is_put_here_is_read_on_another_node(nodes: Nodes) -> None:
    nodes.add("a")
    put = jray.put(np.arange(LARGE // 8))
    expected = float(np.arange(LARGE // 8).sum())
    assert jray.get(total.options(**on("a")).remote(put)) == expected

    @jray.remote(num_cpus=0)
    def inside(refs: Any) -> float:
        return float(jray.get(refs[0]).sum())

    assert jray.get(inside.options(**on("a")).remote([put])) == expected
    large = np.ones(LARGE // 8)
    assert jray.get(total.options(**on("a")).remote(large)) == large.sum()


def test_what_an_actor_of_another_node_owns_is_read_here(nodes: Nodes) -> None:
    nodes.add("a")
    holder = Holder.options(**on("a")).remote()
    (inner,) = jray.get(holder.make.remote(2.0))
    assert jray.get(inner).sum() == 2.0 * LARGE // 8
    assert jray.get(total.options(**on("head")).remote(inner)) == 2.0 * LARGE // 8


@pytest.mark.only("jray", "it looks into the stores")
def test_an_object_comes_to_a_node_once_however_many_want_it(nodes: Nodes) -> None:
    nodes.add("a", num_cpus=4)
    put = jray.put(np.ones(LARGE // 8))
    assert jray.get([total.options(**on("a")).remote(put) for _ in range(20)]) == [LARGE // 8] * 20
    assert _store_of(nodes.id_of("a"))["fetched"] == 1
    assert _store_of(nodes.id_of("a"))["objects"] == 1
    del put
    wait_until(
        lambda: all(_store_of(nodes.id_of(name))["objects"] == 0 for name in ("a", "head")),
        what="object and copy are freed",
    )


@pytest.mark.only("jray", "it looks into the stores")
def test_copies_make_room_for_what_is_made(nodes: Nodes) -> None:
    nodes.add("a")
    refs = [jray.put(np.full(30 * MB // 8, float(i))) for i in range(6)]  # nearly all there is room for
    for i, ref in enumerate(refs):
        assert jray.get(total.options(**on("a")).remote(ref)) == i * 30 * MB // 8
    made = [fill.options(**on("a")).remote(float(i)) for i in range(30)]
    jray.wait(made, num_returns=30)
    assert _store_of(nodes.id_of("a"))["spilled_bytes_ever"] == 0
    assert [jray.get(ref)[0] for ref in made] == [float(i) for i in range(30)]
    assert [jray.get(ref)[0] for ref in refs] == [float(i) for i in range(6)]


@pytest.mark.only("jray", "it looks into the stores")
def test_what_another_nodes_store_spills_is_read_here(nodes: Nodes) -> None:
    nodes.add("a")
    made = []
    for i in range(10):
        made.append(fill_more.options(**on("a")).remote(float(i)))
        jray.wait([made[-1]])
    assert _store_of(nodes.id_of("a"))["spilled_bytes_ever"] > 0
    for i, ref in enumerate(made):
        assert jray.get(ref)[-1] == float(i)


@jray.remote(num_cpus=0)
def fill_more(value: float) -> Any:
    return np.full(40 * MB // 8, value)


def _store_of(node_id: str) -> dict[str, Any]:
    from jray._core.refs import current  # noqa: PLC0415 -- the engine that has it alone

    client: Any = current.client
    found: dict[str, Any] = client.cluster.stores()[bytes.fromhex(node_id)]
    return found


# -- where to -------------------------------------------------------------------------------------


@pytest.mark.sentences("S59")
def test_half_of_the_nearest_node_is_used_before_others(nodes: Nodes, bench: Bench) -> None:
    nodes.add("a", num_cpus=4)
    gate, started = bench.gate(), bench.tally()

    @jray.remote(num_cpus=0)
    class Submitter:
        def submit(self, count: int) -> Any:
            return [hold.remote(gate, started) for _ in range(count)]

    submitter = Submitter.options(**on("a")).remote()
    refs = jray.get(submitter.submit.remote(2))
    started.wait_for(2, AGAIN_S)
    assert started.notes() == [nodes.id_of("a")] * 2
    gate.open()
    jray.get(refs)


@pytest.mark.sentences("S59")
def test_tasks_go_to_their_large_arguments(nodes: Nodes) -> None:
    nodes.add("a")
    made = fill.options(**on("a")).remote(1.0)
    jray.wait([made], fetch_local=False)

    @jray.remote
    def near(values: Any) -> str:
        assert values.sum() == LARGE // 8
        return jray.get_runtime_context().get_node_id()

    assert jray.get(near.remote(made)) == nodes.id_of("a")
    assert jray.get(near.remote(jray.put(np.ones(LARGE // 8)))) == nodes.id_of("head")


@pytest.mark.sentences("S60")
def test_spread_uses_all_nodes(nodes: Nodes, bench: Bench) -> None:
    nodes.add("a", num_cpus=4)
    nodes.add("b", num_cpus=4)
    gate, started = bench.gate(), bench.tally()
    refs = [hold.options(scheduling_strategy="SPREAD").remote(gate, started) for _ in range(6)]
    started.wait_for(6, AGAIN_S)
    assert {nodes.id_of("a"), nodes.id_of("b")} <= set(started.notes())
    gate.open()
    jray.get(refs)


@pytest.mark.sentences("S61")
def test_affinity_to_a_node(nodes: Nodes) -> None:
    nodes.add("a")
    nodes.add("b")
    hard = NodeAffinitySchedulingStrategy(nodes.id_of("a"), soft=False)
    soft = NodeAffinitySchedulingStrategy(nodes.id_of("a"), soft=True)
    assert jray.get(where.options(scheduling_strategy=hard).remote()) == nodes.id_of("a")
    assert jray.get(where.options(scheduling_strategy=soft).remote()) == nodes.id_of("a")
    assert jray.get(Holder.options(scheduling_strategy=hard).remote().where.remote()) == nodes.id_of("a")

    nodes.lose("a")
    assert jray.get(where.options(scheduling_strategy=soft).remote(), timeout=AGAIN_S) in alive()
    with pytest.raises(TaskUnschedulableError):
        jray.get(where.options(scheduling_strategy=hard).remote(), timeout=AGAIN_S)
    lost = Holder.options(scheduling_strategy=hard).remote()
    with pytest.raises(ActorUnschedulableError):
        jray.get(lost.where.remote(), timeout=AGAIN_S)


def test_labels_say_where(nodes: Nodes) -> None:
    nodes.add("a", labels={"zone": "east", "disk": "fast"})
    nodes.add("b", labels={"zone": "west"})
    assert jray.get(where.options(label_selector={"zone": "west"}).remote()) == nodes.id_of("b")
    assert jray.get(where.options(label_selector={"zone": "!west", "disk": "fast"}).remote()) == nodes.id_of(
        "a"
    )
    either = NodeLabelSchedulingStrategy(hard={"zone": In("east", "west")}, soft={"disk": In("fast")})
    assert jray.get(where.options(scheduling_strategy=either).remote()) == nodes.id_of("a")
    assert jray.get(Holder.options(label_selector={"zone": "west"}).remote().where.remote()) == nodes.id_of(
        "b"
    )


# -- placement groups over nodes --------------------------------------------------------------------


def _nodes_of(group: Any) -> dict[int, str]:
    found: dict[int, str] = placement_group_table(group)["bundles_to_node_id"]
    return found


@pytest.mark.sentences("S121", "S122", "S124")
def test_bundles_are_spread_or_packed(nodes: Nodes) -> None:
    nodes.add("a")
    strict = placement_group([{"CPU": 1}] * 3, strategy="STRICT_SPREAD")
    assert not strict.wait(0.2)  # all or nothing: two nodes are not three
    nodes.add("b")
    assert strict.wait(AGAIN_S)
    assert len(set(_nodes_of(strict).values())) == 3
    found = [
        where.options(
            num_cpus=1,
            scheduling_strategy=PlacementGroupSchedulingStrategy(strict, placement_group_bundle_index=i),
        ).remote()
        for i in range(3)
    ]
    assert jray.get(found) == [_nodes_of(strict)[i] for i in range(3)]
    remove_placement_group(strict)

    packed = placement_group([{"CPU": 1}] * 2, strategy="STRICT_PACK")
    assert packed.wait(AGAIN_S)
    assert len(set(_nodes_of(packed).values())) == 1
    remove_placement_group(packed)
    wait_until(lambda: jray.available_resources().get("CPU") == 5, AGAIN_S, "all CPUs are free again")

    spread = placement_group([{"CPU": 1}] * 3, strategy="SPREAD")
    assert spread.wait(AGAIN_S)
    assert len(set(_nodes_of(spread).values())) == 3
    remove_placement_group(spread)


@pytest.mark.sentences("S128")
def test_bundles_of_a_lost_node_find_another(nodes: Nodes) -> None:
    nodes.add("a")
    nodes.add("b")
    group = placement_group([{"a": 1}, {"CPU": 2}], strategy="STRICT_SPREAD")
    assert group.wait(AGAIN_S)
    assert _nodes_of(group) == {0: nodes.id_of("a"), 1: nodes.id_of("b")}
    nodes.lose("b")
    wait_until(
        lambda: placement_group_table(group)["state"] == "RESCHEDULING",
        LOSS_S,
        lambda: str(placement_group_table(group)),
    )
    waiting = where.options(
        num_cpus=1,
        scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=1),
    ).remote()
    nodes.add("c")
    assert jray.get(waiting, timeout=AGAIN_S) == nodes.id_of("c")
    wait_until(lambda: placement_group_table(group)["state"] == "CREATED", AGAIN_S)
    assert _nodes_of(group) == {0: nodes.id_of("a"), 1: nodes.id_of("c")}


# -- the loss of a node -----------------------------------------------------------------------------


@pytest.mark.sentences("S81", "S139")
def test_tasks_of_a_lost_node_run_elsewhere(nodes: Nodes, bench: Bench) -> None:
    nodes.add("a", resources={"work": 4})
    gate, started = bench.gate(), bench.tally()
    refs = [hold.options(resources={"work": 1}).remote(gate, started) for _ in range(2)]
    started.wait_for(2, AGAIN_S)
    nodes.lose("a")
    nodes.add("b", resources={"work": 4})
    started.wait_for(4, AGAIN_S)
    gate.open()
    assert jray.get(refs, timeout=AGAIN_S) == [nodes.id_of("b")] * 2


@pytest.mark.sentences("S85", "S139")
def test_lost_results_are_made_again_and_what_they_were_made_of(nodes: Nodes, bench: Bench) -> None:
    nodes.add("a", resources={"work": 4})
    ran = bench.tally()

    @jray.remote(num_cpus=0, resources={"work": 0.1})
    def make(value: float) -> Any:
        ran.add(value)
        return np.full(LARGE // 8, value)

    first = make.remote(1.0)
    second = add_one.options(resources={"work": 0.1}).remote(first)
    third = add_one.options(resources={"work": 0.1}).remote(second)
    small = total.options(resources={"work": 0.1}).remote(third)
    assert jray.get(small) == 3 * LARGE // 8
    del first, second
    nodes.lose("a")
    nodes.add("b", resources={"work": 4})
    assert jray.get(third, timeout=AGAIN_S).sum() == 3 * LARGE // 8
    assert ran.notes() == [1.0, 1.0]
    assert jray.get(small) == 3 * LARGE // 8
    # as an argument, and where nobody has asked for it yet
    assert jray.get(total.remote(third), timeout=AGAIN_S) == 3 * LARGE // 8


@pytest.mark.sentences("S85")
def test_a_lost_argument_is_made_again_for_the_task_that_needs_it(nodes: Nodes) -> None:
    nodes.add("a", resources={"work": 4})
    made = fill.options(resources={"work": 0.1}).remote(4.0)
    jray.wait([made], fetch_local=False)
    nodes.lose("a")
    nodes.add("b", resources={"work": 4})
    assert jray.get(total.remote(made), timeout=AGAIN_S) == 4.0 * LARGE // 8


@pytest.mark.sentences("S85")
def test_a_copy_saves_what_its_node_has_lost(nodes: Nodes, bench: Bench) -> None:
    nodes.add("a")
    ran = bench.tally()

    @jray.remote(num_cpus=0, max_retries=0)
    def make() -> Any:
        ran.add()
        return np.ones(LARGE // 8)

    made = make.options(**on("a")).remote()
    value = jray.get(made)
    nodes.lose("a")
    assert value.sum() == LARGE // 8
    assert jray.get(made, timeout=AGAIN_S).sum() == LARGE // 8
    assert jray.get(total.remote(made), timeout=AGAIN_S) == LARGE // 8
    assert ran.count() == 1


@pytest.mark.only("jray", "it looks into the stores")
def test_copies_of_a_lost_object_serve_and_go_with_it(nodes: Nodes) -> None:
    """Of several one becomes the object, where another node asks for it; none stays that nobody knows of."""
    nodes.add("a")
    nodes.add("b")
    made = fill.options(max_retries=0, **on("a")).remote(2.0)
    assert jray.get(made).sum() == jray.get(
        total.options(**on("b")).remote(made)
    )  # copies at the head and at b
    nodes.lose("a")
    nodes.add("c")
    for name in ("head", "b", "c"):
        assert jray.get(total.options(**on(name)).remote(made), timeout=AGAIN_S) == 2.0 * LARGE // 8
    assert jray.get(made, timeout=AGAIN_S).sum() == 2.0 * LARGE // 8
    del made
    wait_until(
        lambda: all(_store_of(nodes.id_of(name))["objects"] == 0 for name in ("head", "b", "c")),
        what=lambda: str([_store_of(nodes.id_of(name))["objects"] for name in ("head", "b", "c")]),
    )


@pytest.mark.sentences("S86")
def test_what_cannot_be_made_again_is_said_to_be_lost(nodes: Nodes) -> None:
    nodes.add("a")
    once = fill.options(max_retries=0, **on("a")).remote(1.0)

    holder = Holder.options(**on("a")).remote()
    owned = jray.get(holder.make.remote(1.0))
    jray.wait([once], fetch_local=False)
    nodes.lose("a")
    with pytest.raises(ObjectLostError):
        jray.get(once, timeout=AGAIN_S)
    with pytest.raises((OwnerDiedError, ObjectLostError)):
        jray.get(owned[0], timeout=AGAIN_S)
    with pytest.raises(ObjectLostError):  # as an argument too
        jray.get(total.remote(once), timeout=AGAIN_S)


@pytest.mark.sentences("S99", "S139")
def test_actors_of_a_lost_node_start_elsewhere_or_are_dead(nodes: Nodes) -> None:
    nodes.add("a", resources={"work": 4})
    stays = Holder.options(resources={"work": 0.1}, max_restarts=1, max_task_retries=1).remote()
    goes = Holder.options(resources={"work": 0.1}).remote()
    assert jray.get([stays.where.remote(), goes.where.remote()]) == [nodes.id_of("a")] * 2
    nodes.lose("a")
    nodes.add("b", resources={"work": 4})
    assert jray.get(stays.where.remote(), timeout=AGAIN_S) == nodes.id_of("b")
    with pytest.raises(ActorDiedError):
        jray.get(goes.where.remote(), timeout=AGAIN_S)


def test_nodes_come_and_go_while_work_runs(nodes: Nodes) -> None:
    nodes.add("a", resources={"work": 4})
    refs = [double.options(resources={"work": 1}).remote(i) for i in range(60)]
    nodes.add("b", resources={"work": 4})
    jray.wait(refs, num_returns=20)
    nodes.lose("a")
    assert jray.get(refs, timeout=AGAIN_S) == [2 * i for i in range(60)]


@jray.remote(num_cpus=0)
def double(number: int) -> int:
    return 2 * number
