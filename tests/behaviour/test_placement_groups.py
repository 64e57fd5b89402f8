"""Placement groups: resources that are reserved together, and what runs in them."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jray
from jray.exceptions import (
    ActorDiedError,
    ActorPlacementGroupRemoved,
    GetTimeoutError,
    TaskPlacementGroupRemoved,
)
from jray.util import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
    state,
)
from jray.util.placement_group import PlacementGroup
from jray.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    NodeLabelSchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)
from tests.behaviour import engine
from tests.behaviour.differences import removed_groups_fail_their_tasks
from tests.behaviour.support import Bench, Gate, run_driver, wait_gone, wait_until

pytestmark = pytest.mark.usefixtures("cluster")

GroupMaker = Callable[..., PlacementGroup]


@pytest.fixture
def make() -> Iterator[GroupMaker]:
    """Make a group that is removed after the test, and then all that it had is free again."""
    made = []

    def make_one(*bundles: dict[str, float], **options: Any) -> PlacementGroup:
        group = placement_group(list(bundles), **options)
        made.append(group)
        return group

    yield make_one
    for group in made:
        if engine.ON_RAY and placement_group_table(group)["state"] == "PENDING":
            group.wait(1)  # what Ray is just reserving for a group that is removed is lost to it
        remove_placement_group(group)
    gc.collect()
    wait_until(lambda: free("CPU") == 2 and free("gadget") == 2, what=lambda: str(jray.available_resources()))


def free(name: str) -> float:
    return float(jray.available_resources().get(name, 0))


def inside(group: PlacementGroup | None, *arguments: Any) -> PlacementGroupSchedulingStrategy:
    return PlacementGroupSchedulingStrategy(group, *arguments)


@jray.remote
def where() -> Any:
    return get_current_placement_group()


@jray.remote
def hold(gate: Gate, started: Gate) -> int:
    started.open()
    gate.wait(120)
    return os.getpid()


@jray.remote
class Holder:
    def where(self) -> Any:
        return get_current_placement_group()

    def child(self) -> Any:
        return jray.get(where.options(num_cpus=0).remote())

    def pid(self) -> int:
        return os.getpid()

    def hold(self, gate: Gate, started: Gate) -> None:
        started.open()
        gate.wait(120)


# -- being made -----------------------------------------------------------------------------------


@pytest.mark.sentences("S121")
def test_a_group_is_ready_when_it_is_reserved(make: GroupMaker) -> None:
    """`ready()` has the group itself for a value, and `wait` says True."""
    group = make({"CPU": 1}, {"gadget": 1})
    assert jray.get(group.ready(), timeout=60) == group
    assert group.wait(30) is True
    assert group.wait(timeout_seconds=30) is True


@pytest.mark.sentences("S121", "S122")
@pytest.mark.parametrize(
    ("bundles", "strategy"),
    [
        ([{"CPU": 1}, {"CPU": 1}], "STRICT_SPREAD"),
        ([{"CPU": 1}, {"CPU": 2}], "PACK"),
        ([{"CPU": 9}], "PACK"),
        ([{"unheard_of": 1}], "SPREAD"),
    ],
)
def test_a_group_that_has_no_room_waits(make: GroupMaker, bundles: list[Any], strategy: str) -> None:
    """Nothing is reserved, `wait` says False, and what is submitted to it waits too."""
    group = make(*bundles, strategy=strategy)
    assert group.wait(0.3) is False
    ready, ref = group.ready(), where.options(num_cpus=0, scheduling_strategy=inside(group)).remote()
    assert jray.wait([ready, ref], timeout=0.3) == ([], [ready, ref])
    with pytest.raises(GetTimeoutError):
        jray.get(ready, timeout=0.1)
    assert placement_group_table(group)["state"] == "PENDING"
    wait_until(lambda: free("CPU") == 2, what="nothing is reserved")
    remove_placement_group(group)
    with pytest.raises(TaskPlacementGroupRemoved):
        jray.get(ready, timeout=60)
    jray.cancel(ref)


@pytest.mark.sentences("S121")
def test_a_group_waits_for_another_to_go(make: GroupMaker) -> None:
    """It is made then, without being asked for again."""
    first = make({"CPU": 2})
    assert first.wait(60)
    second = make({"CPU": 2})
    ready = second.ready()
    assert not second.wait(0.3)
    remove_placement_group(first)
    assert jray.get(ready, timeout=60) == second
    assert second.wait(30)


@pytest.mark.sentences("S122")
@pytest.mark.parametrize("strategy", ["PACK", "SPREAD", "STRICT_PACK", None])
def test_one_node_serves_all_strategies_but_one(make: GroupMaker, strategy: str | None) -> None:
    """STRICT_SPREAD alone needs more nodes than there are."""
    group = make({"CPU": 1}, {"CPU": 1}, strategy=strategy)
    assert group.wait(60)
    row = placement_group_table(group)
    here = jray.get_runtime_context().get_node_id()
    assert row["bundles_to_node_id"] == {0: here, 1: here}
    assert row["strategy"] == (strategy or "PACK")


@pytest.mark.sentences("S123")
def test_what_is_reserved_nobody_else_gets(make: GroupMaker) -> None:
    """It leaves the general pool, and comes back with the group's removal."""
    group = make({"CPU": 2}, {"gadget": 1})
    assert group.wait(60)
    wait_until(lambda: (free("CPU"), free("gadget")) == (0, 1), what=lambda: str(jray.available_resources()))
    outside = where.remote()
    assert jray.wait([outside], timeout=0.3) == ([], [outside])
    remove_placement_group(group)
    assert jray.get(outside, timeout=60) is None
    wait_until(lambda: (free("CPU"), free("gadget")) == (2, 2))


@pytest.mark.sentences("S121")
@pytest.mark.parametrize(
    "arguments",
    [
        {"bundles": []},
        {"bundles": [{}]},
        {"bundles": [{"CPU": 0}]},
        {"bundles": {"CPU": 1}},
        {"bundles": [{"CPU": "1"}]},
        {"bundles": [{1: 1}]},
        {"bundles": [["CPU"]]},
        {"bundles": [{"CPU": 1}], "strategy": "SOMEWHERE"},
        {"bundles": [{"CPU": 1}], "lifetime": "long"},
        {"bundles": [{"CPU": 1}], "bundle_label_selector": []},
        {"bundles": [{"CPU": 1}], "bundle_label_selector": {"zone": "east"}},
        {"bundles": [{"CPU": 1}], "bundle_label_selector": ["zone"]},
        {"bundles": [{"CPU": 1}], "bundle_label_selector": [{"zone": 1}]},
        {"bundles": [{"CPU": 1}], "bundle_label_selector": [{"zone": "in()"}]},
        {"bundles": [{"CPU": 1}], "_soft_target_node_id": "a" * 56},
        {"bundles": [{"CPU": 1}], "strategy": "PACK", "topology_strategy": {}},
    ],
    ids=str,
)
def test_groups_that_cannot_be(arguments: dict[str, Any]) -> None:
    """They are refused at once."""
    with pytest.raises(ValueError, match=r"[Bb]undle|strategy|lifetime|_soft_target_node_id"):
        placement_group(**arguments)


# -- handles --------------------------------------------------------------------------------------


@pytest.mark.sentences("S121")
def test_what_a_handle_tells(make: GroupMaker) -> None:
    """Its bundles, its id, and that it is the same group wherever it is."""
    group = make({"CPU": 1}, {"gadget": 0.5})
    assert group.bundle_specs == [{"CPU": 1.0}, {"gadget": 0.5}]
    assert group.bundle_count == 2
    assert len(group.id.binary()) == 18
    assert not group.is_empty
    back = jray.get(jray.put(group))
    assert back == group
    assert hash(back) == hash(group)
    assert group != make({"CPU": 1})
    assert group != group.id


@pytest.mark.sentences("S121")
def test_the_empty_handle() -> None:
    """It stands for no group."""
    empty = PlacementGroup.empty()
    assert empty.is_empty
    assert empty.id.is_nil()
    assert jray.get(empty.ready()).is_empty
    assert jray.get(where.options(scheduling_strategy=inside(empty)).remote()) is None


@pytest.mark.sentences("S127")
def test_a_named_group_is_found(make: GroupMaker) -> None:
    """Until it is removed; the handle that is found knows the bundles."""
    group = make({"CPU": 1}, name="a group with a name")
    found = get_placement_group("a group with a name")
    assert found == group
    assert found.bundle_specs == [{"CPU": 1.0}]
    assert placement_group_table(group)["name"] == "a group with a name"
    remove_placement_group(group)

    def is_gone() -> bool:
        try:
            get_placement_group("a group with a name")
        except ValueError:
            return True
        return False

    wait_until(is_gone, what="the name is free")


@pytest.mark.sentences("S127")
@pytest.mark.parametrize("name", ["a name that nobody has", ""])
def test_a_name_that_no_group_has(name: str) -> None:
    """Raises ValueError."""
    with pytest.raises(ValueError, match="placement"):
        get_placement_group(name)


@pytest.mark.sentences("S127")
def test_a_name_is_given_once(make: GroupMaker) -> None:
    """The second group with it is refused."""
    make({"CPU": 1}, name="taken")
    with pytest.raises(Exception, match="already exists"):
        make({"CPU": 1}, name="taken")


def test_the_table_of_groups(make: GroupMaker) -> None:
    """Has a row for each, by id, with Ray's keys."""
    group = make({"CPU": 1}, {"gadget": 2}, strategy="SPREAD", name="in the table")
    assert group.wait(60)
    row = placement_group_table()[group.id.hex()]
    assert row.keys() == {
        "placement_group_id", "name", "bundles", "bundles_to_node_id", "strategy", "state", "stats"
    }  # fmt: skip
    assert row["placement_group_id"] == group.id.hex()
    assert row["bundles"] == {0: {"CPU": 1.0}, 1: {"gadget": 2.0}}
    assert (row["name"], row["strategy"], row["state"]) == ("in the table", "SPREAD", "CREATED")
    assert row["stats"]["scheduling_state"] == "FINISHED"
    remove_placement_group(group)
    wait_until(lambda: placement_group_table(group)["state"] == "REMOVED")
    assert placement_group_table(PlacementGroup.empty()) == {}


@pytest.mark.only("jray", "Ray's state API needs the dashboard")
def test_the_state_of_groups(make: GroupMaker) -> None:
    """`jray.util.state` tells of them, too."""
    group = make({"CPU": 1}, name="in the state")
    assert group.wait(60)
    (found,) = state.list_placement_groups(filters=[("name", "=", "in the state"), ("state", "=", "CREATED")])
    assert found.placement_group_id == group.id.hex()
    assert found.creator_job_id == jray.get_runtime_context().get_job_id()
    detail = state.get_placement_group(group.id.hex())
    assert detail is not None
    assert detail.bundles is not None
    assert detail.bundles[0]["unit_resources"] == {"CPU": 1.0}
    assert detail.is_detached is False


# -- running in one -------------------------------------------------------------------------------


@pytest.mark.sentences("S124")
@pytest.mark.parametrize("bundle", [-1, 0, 1])
def test_a_task_runs_in_the_group(make: GroupMaker, bundle: int) -> None:
    """In the bundle of that number, or in any; and knows it."""
    group = make({"CPU": 1}, {"CPU": 1})
    assert jray.get(where.options(scheduling_strategy=inside(group, bundle)).remote(), timeout=60) == group
    assert jray.get(where.options(num_cpus=0).remote(), timeout=60) is None
    assert get_current_placement_group() is None


@pytest.mark.sentences("S124")
def test_an_actor_lives_in_the_group(make: GroupMaker) -> None:
    """It needs a CPU of the bundle to start, and gives that back."""
    group = make({"CPU": 1})
    actors = [Holder.options(scheduling_strategy=inside(group)).remote() for _ in range(2)]
    assert jray.get([actor.where.remote() for actor in actors], timeout=60) == [group, group]


@pytest.mark.sentences("S124")
def test_a_bundle_has_only_what_it_reserved(make: GroupMaker, bench: Bench) -> None:
    """A second task waits for the first, though a CPU outside is free."""
    group = make({"CPU": 1})
    strategy = inside(group)
    gate, started = bench.gate("go"), bench.gate("started")
    first = hold.options(scheduling_strategy=strategy).remote(gate, started)
    started.wait(60)
    second = where.options(scheduling_strategy=strategy).remote()
    assert jray.get(where.remote(), timeout=60) is None
    assert jray.wait([second], timeout=0.3) == ([], [second])
    gate.open()
    assert jray.get(second, timeout=60) == group
    jray.get(first, timeout=60)


@pytest.mark.sentences("S124")
def test_parts_of_a_bundle(make: GroupMaker) -> None:
    """Several share one; custom resources and GPUs count as well."""
    group = make({"CPU": 1, "gadget": 1, "GPU": 1})
    strategy = inside(group, 0)
    halves = [where.options(num_cpus=0.5, scheduling_strategy=strategy).remote() for _ in range(2)]
    assert jray.get(halves, timeout=60) == [group, group]
    special = where.options(num_cpus=0, resources={"gadget": 1}, scheduling_strategy=strategy).remote()
    assert jray.get(special, timeout=60) == group
    with_gpu = jray.remote(num_cpus=0, num_gpus=1, scheduling_strategy=strategy)(lambda: jray.get_gpu_ids())
    assert len(jray.get(with_gpu.remote(), timeout=60)) == 1


@pytest.mark.sentences("S124")
@pytest.mark.parametrize(
    ("bundle", "options", "message"),
    [
        (-1, {"num_cpus": 2}, "cannot fit into any bundles"),
        (-1, {"num_cpus": 0, "num_gpus": 1}, "cannot fit into any bundles"),
        (-1, {"num_cpus": 0, "resources": {"gadget": 1}}, "cannot fit into any bundles"),
        (1, {}, "index 1 is invalid"),
        (-2, {}, "index -2 is invalid"),
    ],
)
def test_what_fits_no_bundle_is_refused(
    make: GroupMaker, bundle: int, options: dict[str, Any], message: str
) -> None:
    """At the call, for it would wait for ever."""
    strategy = inside(make({"CPU": 1}), bundle)
    with pytest.raises(ValueError, match=message):
        where.options(**options, scheduling_strategy=strategy).remote()
    with pytest.raises(ValueError, match=message):
        Holder.options(**options, scheduling_strategy=strategy).remote()


@pytest.mark.sentences("S124")
def test_an_actor_that_cannot_start_in_any_bundle_is_refused(make: GroupMaker) -> None:
    """A default actor needs a CPU, one with num_cpus=0 does not."""
    group = make({"gadget": 1})
    with pytest.raises(ValueError, match=r"requires 1 CPU for creation|CPU resources"):
        Holder.options(scheduling_strategy=inside(group)).remote()
    actor = Holder.options(num_cpus=0, scheduling_strategy=inside(group)).remote()
    assert jray.get(actor.where.remote(), timeout=60) == group


@pytest.mark.sentences("S124")
def test_a_bundle_number_without_a_group_is_refused() -> None:
    """There is nothing that it could be the number of."""
    with pytest.raises(ValueError, match="must be -1"):
        where.options(scheduling_strategy=inside(None, 0)).remote()


@pytest.mark.sentences("S125", "S62")
@pytest.mark.parametrize(
    ("captures", "strategy", "is_inside"),
    [
        (None, None, False),
        (False, None, False),
        (True, None, True),
        (True, "DEFAULT", False),
        (True, "SPREAD", False),
        (True, inside(None), False),
        (True, "again", True),
    ],
)
def test_the_children_of_a_task(
    make: GroupMaker, captures: bool | None, strategy: Any, is_inside: bool
) -> None:
    """They are in its group only if it captures them and they don't say otherwise."""
    group = make({"CPU": 1})

    @jray.remote(num_cpus=0)
    def parent() -> Any:
        chosen = inside(get_current_placement_group()) if strategy == "again" else strategy
        child = where.options(num_cpus=0, scheduling_strategy=chosen).remote()
        context = jray.get_runtime_context()
        return jray.get(child), context.should_capture_child_tasks_in_placement_group

    found, captured = jray.get(
        parent.options(scheduling_strategy=inside(group, -1, captures)).remote(), timeout=60
    )
    assert found == (group if is_inside else None)
    assert captured is bool(captures)


@pytest.mark.sentences("S125")
def test_the_children_of_children(make: GroupMaker) -> None:
    """What was captured captures in turn."""
    group = make({"CPU": 1})

    @jray.remote(num_cpus=0)
    def parent(depth: int) -> Any:
        if not depth:
            return get_current_placement_group()
        return jray.get(parent.remote(depth - 1))

    assert jray.get(parent.options(scheduling_strategy=inside(group, 0, True)).remote(3), timeout=90) == group


@pytest.mark.sentences("S125")
@pytest.mark.parametrize("captures", [False, True])
def test_the_children_of_an_actor(make: GroupMaker, captures: bool) -> None:
    """As those of a task."""
    group = make({"CPU": 1})
    actor = Holder.options(scheduling_strategy=inside(group, -1, captures)).remote()
    assert jray.get(actor.child.remote(), timeout=60) == (group if captures else None)


@pytest.mark.sentences("S125")
def test_a_child_that_does_not_fit_its_parents_group_is_refused(make: GroupMaker) -> None:
    """Where it is submitted."""
    group = make({"CPU": 1})

    @jray.remote(num_cpus=0)
    def parent() -> str:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 -- the text is told
            where.options(num_cpus=2).remote()
        return str(caught.value)

    ref = parent.options(scheduling_strategy=inside(group, -1, True)).remote()
    assert "cannot fit into any bundles" in jray.get(ref, timeout=60)


@pytest.mark.sentences("S125")
def test_a_worker_serves_callers_of_several_groups(make: GroupMaker) -> None:
    """What one call's children are says nothing about the next one's."""

    @jray.remote(num_cpus=0)
    def parent() -> Any:
        return jray.get(where.options(num_cpus=0).remote())

    groups = [make({"CPU": 0.5}) for _ in range(3)]
    for group in [*groups, *groups]:
        strategy = inside(group, -1, True)
        assert jray.get(parent.options(scheduling_strategy=strategy).remote(), timeout=60) == group
        assert jray.get(parent.remote(), timeout=60) is None


@pytest.mark.sentences("S124")
@pytest.mark.filterwarnings("ignore:placement_group:DeprecationWarning")
def test_the_deprecated_options(make: GroupMaker) -> None:
    """placement_group= and its companions mean the same."""
    group = make({"CPU": 1})

    @jray.remote(num_cpus=0)
    def parent() -> Any:
        return jray.get(where.options(num_cpus=0).remote())

    options: dict[str, Any] = {"placement_group": group, "placement_group_bundle_index": 0}
    assert jray.get(where.options(**options).remote(), timeout=60) == group
    captured = parent.options(**options, placement_group_capture_child_tasks=True).remote()
    assert jray.get(captured, timeout=60) == group
    actor = Holder.options(**options).remote()
    assert jray.get(actor.where.remote(), timeout=60) == group


def test_the_runtime_context_tells_the_group(make: GroupMaker) -> None:
    """By its id."""
    group = make({"CPU": 1})

    @jray.remote
    def told() -> str | None:
        return jray.get_runtime_context().get_placement_group_id()

    assert jray.get(told.options(scheduling_strategy=inside(group)).remote(), timeout=60) == group.id.hex()
    assert jray.get(told.remote(), timeout=60) is None


# -- being removed --------------------------------------------------------------------------------


@pytest.mark.sentences("S126")
def test_a_task_that_waits_in_a_group_fails_with_it(make: GroupMaker, bench: Bench) -> None:
    """Its room was in use."""
    group = make({"CPU": 1})
    gate, started = bench.gate("never"), bench.gate("started")
    strategy = inside(group)
    runs = hold.options(scheduling_strategy=strategy).remote(gate, started)
    started.wait(60)
    waits = where.options(scheduling_strategy=strategy).remote()
    assert jray.wait([waits], timeout=1) == ([], [waits])
    remove_placement_group(group)
    with pytest.raises(TaskPlacementGroupRemoved):
        jray.get(waits, timeout=60)
    jray.cancel(runs, force=True)


@pytest.mark.sentences("S126")
@removed_groups_fail_their_tasks
def test_a_task_ends_with_its_group(make: GroupMaker, bench: Bench) -> None:
    """What runs there is ended, what waits fails, and what is submitted later too."""
    group = make({"CPU": 1})
    gate, started = bench.gate("never"), bench.gate("started")
    strategy = inside(group)
    runs = hold.options(scheduling_strategy=strategy).remote(gate, started)
    started.wait(60)
    waits = where.options(scheduling_strategy=strategy).remote()
    remove_placement_group(group)
    for ref in (runs, waits, where.options(scheduling_strategy=strategy).remote()):
        with pytest.raises(TaskPlacementGroupRemoved):
            jray.get(ref, timeout=60)


@pytest.mark.sentences("S126")
def test_an_actor_ends_with_its_group(make: GroupMaker) -> None:
    """Its calls say why."""
    check_actor_ends(make({"CPU": 1}), max_restarts=0)


@pytest.mark.sentences("S126")
@removed_groups_fail_their_tasks
def test_an_actor_that_may_restart_ends_with_its_group(make: GroupMaker) -> None:
    """It would have no place."""
    check_actor_ends(make({"CPU": 1}), max_restarts=-1)


def check_actor_ends(group: PlacementGroup, *, max_restarts: int) -> None:
    actor = Holder.options(scheduling_strategy=inside(group), max_restarts=max_restarts).remote()
    pid = jray.get(actor.pid.remote(), timeout=60)
    remove_placement_group(group)
    if not engine.ON_INLINE:
        wait_gone(pid)
    with pytest.raises(ActorDiedError, match="placement group was removed"):
        jray.get(actor.where.remote(), timeout=60)


@pytest.mark.sentences("S126")
@removed_groups_fail_their_tasks
def test_what_waits_for_a_group_that_is_never_placed_fails_with_it(make: GroupMaker) -> None:
    """Nothing waits for ever."""
    group = make({"CPU": 1}, {"CPU": 1}, strategy="STRICT_SPREAD")
    ref = where.options(scheduling_strategy=inside(group)).remote()
    assert jray.wait([ref], timeout=0.3) == ([], [ref])
    remove_placement_group(group)
    with pytest.raises(TaskPlacementGroupRemoved):
        jray.get(ref, timeout=60)


@pytest.mark.sentences("S126")
@removed_groups_fail_their_tasks
def test_an_actor_that_waits_for_a_group_ends_with_it(make: GroupMaker) -> None:
    """Its calls raise ActorPlacementGroupRemoved; so do those of one made later."""
    group = make({"CPU": 1}, {"CPU": 1}, strategy="STRICT_SPREAD")
    actor = Holder.options(scheduling_strategy=inside(group)).remote()
    call = actor.where.remote()
    assert jray.wait([call], timeout=0.3) == ([], [call])
    remove_placement_group(group)
    later = Holder.options(scheduling_strategy=inside(group)).remote()
    for ref in (call, later.where.remote()):
        with pytest.raises(ActorPlacementGroupRemoved):
            jray.get(ref, timeout=60)


@pytest.mark.sentences("S126")
def test_removal_is_for_good_and_may_be_repeated(make: GroupMaker) -> None:
    """It returns at once; the second time nothing happens."""
    group = make({"CPU": 2})
    assert group.wait(60)
    remove_placement_group(group)
    remove_placement_group(group)
    wait_until(lambda: free("CPU") == 2)
    assert placement_group_table(group)["state"] == "REMOVED"


@pytest.mark.sentences("S126")
def test_a_worker_survives_the_group_that_it_is_done_with(make: GroupMaker) -> None:
    """Groups made, used and removed one after the other leave all as it was."""
    for _ in range(5):
        group = make({"CPU": 2})
        assert jray.get(group.ready(), timeout=60) == group
        assert jray.get(where.options(scheduling_strategy=inside(group)).remote(), timeout=60) == group
        remove_placement_group(group)
    wait_until(lambda: free("CPU") == 2)


# -- whose they are -------------------------------------------------------------------------------


@pytest.mark.sentences("S127")
def test_a_group_that_an_actor_made_outlives_the_actor(make: GroupMaker) -> None:
    """It goes with the job, unless the actor is detached."""

    @jray.remote(num_cpus=0)
    class Maker:
        def make(self) -> Any:
            group = placement_group([{"CPU": 1}])
            assert group.wait(60)
            return group

        def ping(self) -> None: ...

    def is_dead() -> bool:
        try:
            jray.get(actor.ping.remote(), timeout=60)
        except ActorDiedError:
            return True
        return False

    actor = Maker.remote()
    group = jray.get(actor.make.remote(), timeout=60)
    jray.kill(actor)
    try:
        wait_until(is_dead)
        assert placement_group_table(group)["state"] == "CREATED"
    finally:
        remove_placement_group(group)


@pytest.mark.sentences("S127")
def test_a_group_goes_with_the_detached_actor_that_made_it(make: GroupMaker) -> None:
    """And so does what it reserved."""

    @jray.remote(num_cpus=0, lifetime="detached", name="maker of a group")
    class Maker:
        def make(self) -> Any:
            group = placement_group([{"CPU": 1}])
            assert group.wait(60)
            return group

    actor = Maker.remote()
    group = jray.get(actor.make.remote(), timeout=60)
    assert placement_group_table(group)["state"] == "CREATED"
    jray.kill(actor)
    wait_until(lambda: placement_group_table(group)["state"] == "REMOVED")
    wait_until(lambda: free("CPU") == 2)


@pytest.mark.sentences("S127")
@pytest.mark.parametrize("lifetime", [None, "detached"])
def test_a_group_goes_with_its_job(fresh: Callable[..., Any], tmp_path: Path, lifetime: str | None) -> None:
    """Unless it is detached: then another job finds it by its name."""
    context = fresh(num_cpus=2, namespace="shared")
    script = """
        import sys, jray
        from jray.util import placement_group
        jray.init(address=sys.argv[1], namespace="shared", log_to_driver=False)
        group = placement_group([{"CPU": 1}], name="of a job", lifetime=sys.argv[2] or None)
        assert group.wait(60)
        print(group.id.hex())
    """
    address = context.address_info["address"]
    group_id = run_driver(tmp_path, script, address, lifetime or "").strip()
    if lifetime is None:
        wait_until(lambda: placement_group_table()[group_id]["state"] == "REMOVED")
        wait_until(lambda: free("CPU") == 2)
        return
    group = get_placement_group("of a job")
    assert group.id.hex() == group_id
    assert jray.get(where.options(scheduling_strategy=inside(group)).remote(), timeout=60) == group
    remove_placement_group(group)
    wait_until(lambda: free("CPU") == 2)


# -- labels ---------------------------------------------------------------------------------------


@pytest.mark.sentences("S60")
@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({"label_selector": {"zone": "!east"}}, True),
        ({"label_selector": {"zone": "east"}}, False),
        (
            {
                "label_selector": {"zone": "east"},
                "fallback_strategy": [{"label_selector": {"zone": "!in(east,west)"}}],
            },
            True,
        ),
        ({"scheduling_strategy": NodeLabelSchedulingStrategy({"zone": DoesNotExist()})}, True),
        ({"scheduling_strategy": NodeLabelSchedulingStrategy({"zone": Exists()})}, False),
        ({"scheduling_strategy": NodeLabelSchedulingStrategy({}, soft={"zone": Exists()})}, True),
        ({"scheduling_strategy": NodeLabelSchedulingStrategy({"ray.io/node-id": Exists()})}, True),
    ],
)
def test_labels_choose_the_node(options: dict[str, Any], runs: bool) -> None:
    """What no node fits waits."""
    ref = where.options(**options).remote()
    if runs:
        assert jray.get(ref, timeout=60) is None
    else:
        assert jray.wait([ref], timeout=0.3) == ([], [ref])
        jray.cancel(ref)


def test_labels_choose_where_bundles_are(fresh: Callable[..., Any]) -> None:
    """A group waits if for one of its bundles there is no such node."""
    fresh(labels={"zone": "east"})
    bundles = [{"CPU": 1.0}, {"CPU": 1.0}]
    group = placement_group(bundles, bundle_label_selector=[{"zone": "in(east,west)"}, {}])
    assert group.wait(60)
    remove_placement_group(group)
    group = placement_group(bundles, bundle_label_selector=[{}, {"zone": "west"}])
    assert not group.wait(0.3)
    remove_placement_group(group)


def test_labels_choose_where_actors_are() -> None:
    """As for tasks."""
    actor = Holder.options(label_selector={"zone": "!east"}).remote()
    assert jray.get(actor.where.remote(), timeout=60) is None
