"""Resources and scheduling on one node: what runs at once, who holds what, and which GPUs a task sees."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import jray
from jray.exceptions import ActorUnschedulableError, TaskUnschedulableError
from jray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tests.behaviour import differences
from tests.behaviour.support import Bench, Gate, Meter, Tally, is_ever_within, run_driver, wait_until

pytestmark = pytest.mark.usefixtures("idle")


@jray.remote
def metered(meter: Meter, amount: float, gate: Gate, here: Tally) -> None:
    with meter.use(amount):
        here.add()
        gate.wait()


def check_peak(bench: Bench, options: dict[str, Any], amount: float, at_once: int, total: int = 6) -> None:
    """Run *total* tasks that each hold *amount*: *at_once* of them get going together, and never more."""
    meter, gate, here = bench.meter(), bench.gate(), bench.tally()
    refs = [metered.options(**options).remote(meter, amount, gate, here) for _ in range(total)]
    here.wait_for(at_once)
    gate.open()
    jray.get(refs)
    assert meter.peak() == pytest.approx(amount * at_once)
    assert here.count() == total


@pytest.mark.sentences("S46", "S48")
def test_default_tasks_are_limited_by_cpus(bench: Bench) -> None:
    """With two CPUs, two default tasks run at once, and never three."""
    check_peak(bench, {}, 1, 2)


@pytest.mark.sentences("S46")
@pytest.mark.parametrize(
    ("options", "amount", "at_once"),
    [
        ({"num_cpus": 2}, 2, 1),
        ({"num_cpus": 0.5}, 0.5, 4),
        ({"num_cpus": 0, "resources": {"gadget": 1}}, 1, 2),
        ({"num_cpus": 0, "resources": {"gadget": 0.7}}, 0.7, 2),
        ({"num_cpus": 0, "num_gpus": 1}, 1, 2),
        ({"num_cpus": 0, "num_gpus": 0.5}, 0.5, 4),
    ],
    ids=["2 CPUs", "half CPUs", "gadget", "fraction of a gadget", "GPU", "half GPUs"],
)
def test_any_resource_limits(bench: Bench, options: dict[str, Any], amount: float, at_once: int) -> None:
    """As many run at once as the resource allows, fractions too, and never more."""
    check_peak(bench, options, amount, at_once)


@pytest.mark.sentences("S46")
def test_fractions_are_exact(bench: Bench) -> None:
    """Ten tasks of 0.2 fit into two CPUs exactly: all of them run at once."""
    check_peak(bench, {"num_cpus": 0.2}, 0.2, 10, total=10)


@pytest.mark.sentences("S46")
def test_tasks_and_actors_share_resources(bench: Bench) -> None:
    """What an actor holds for life isn't there for tasks, and comes back when the actor is killed."""

    @jray.remote(num_cpus=1)
    class Holder:
        def ping(self) -> None:
            pass

    holder = Holder.remote()
    jray.get(holder.ping.remote())
    check_peak(bench, {}, 1, 1, total=3)
    jray.kill(holder)
    wait_until(lambda: jray.available_resources().get("CPU") == 2)


@pytest.mark.sentences("S47")
def test_resources_are_logical() -> None:
    """A task may declare `memory`, and a cluster more CPUs than there are; neither limits what code does."""
    assert jray.get(jray.remote(memory=50_000_000)(lambda: len(bytes(60_000_000))).remote()) == 60_000_000
    assert jray.cluster_resources()["GPU"] == 2


@pytest.mark.sentences("S48")
def test_default_actors_hold_no_cpu() -> None:
    """More default actors than CPUs live at once, and leave every CPU free."""

    @jray.remote
    class Idle:
        def ping(self) -> int:
            return os.getpid()

    actors = [Idle.remote() for _ in range(4)]
    assert len(set(jray.get([actor.ping.remote() for actor in actors]))) == 4
    wait_until(lambda: jray.available_resources().get("CPU") == 2)


@pytest.mark.sentences("S48")
def test_an_actor_with_num_cpus_holds_them_for_life() -> None:
    """Two actors of one CPU each take both CPUs; the third waits until one is killed."""

    @jray.remote(num_cpus=1)
    class Holder:
        def ping(self) -> int:
            return 1

    one, two, three = (Holder.remote() for _ in range(3))
    jray.get([one.ping.remote(), two.ping.remote()])
    pending = three.ping.remote()
    assert jray.wait([pending], timeout=0.3)[0] == []
    jray.kill(one)
    assert jray.get(pending) == 1


@pytest.mark.sentences("S49")
def test_tasks_without_cpus_are_not_limited_by_them(bench: Bench) -> None:
    """Five num_cpus=0 tasks run at once on two CPUs."""
    check_peak(bench, {"num_cpus": 0}, 1, 5, total=5)


@pytest.mark.sentences("S50")
def test_a_task_that_waits_gives_its_cpus_back(bench: Bench) -> None:
    """Parents that fill the CPUs and `get` their children don't deadlock, in `get` or in `wait`."""

    @jray.remote
    def child(x: int) -> int:
        return x

    @jray.remote(num_cpus=2)
    def with_get(x: int) -> int:
        return jray.get(child.remote(x))

    @jray.remote(num_cpus=2)
    def with_wait(x: int) -> int:
        ready, _ = jray.wait([child.remote(x)])
        return jray.get(ready[0])

    assert jray.get([with_get.remote(1), with_wait.remote(2)]) == [1, 2]


@pytest.mark.sentences("S50")
def test_a_deep_chain_of_waiting_tasks_does_not_deadlock() -> None:
    """Each level holds both CPUs and waits for the next."""

    @jray.remote(num_cpus=2)
    def descend(n: int) -> int:
        return 0 if n == 0 else 1 + jray.get(descend.remote(n - 1))

    assert jray.get(descend.remote(5)) == 5


@pytest.mark.sentences("S51")
def test_a_waiting_task_keeps_its_other_resources(bench: Bench) -> None:
    """A task blocked in `get` frees its CPU but not its gadgets."""
    gate, here = bench.gate(), bench.tally()

    @jray.remote(num_cpus=0)
    def slow() -> None:
        gate.wait()

    @jray.remote(resources={"gadget": 2})
    def parent() -> None:
        here.add()
        jray.get(slow.remote())

    ref = parent.remote()
    here.wait_for(1)
    wait_until(lambda: "gadget" not in jray.available_resources(), what="the gadgets taken")
    wait_until(lambda: jray.available_resources().get("CPU") == 2, what="the CPU freed")
    assert "gadget" not in jray.available_resources()
    assert jray.wait([jray.remote(resources={"gadget": 1})(lambda: 1).remote()], timeout=0.3)[0] == []
    gate.open()
    jray.get(ref)


@pytest.mark.sentences("S51")
def test_a_waiting_actor_keeps_its_cpus(bench: Bench) -> None:
    """An actor blocked in `get` holds on to what it has."""
    gate, here = bench.gate(), bench.tally()

    @jray.remote(num_cpus=0)
    def slow() -> None:
        gate.wait()

    @jray.remote(num_cpus=2)
    class Waiter:
        def wait(self) -> None:
            here.add()
            jray.get(slow.remote())

    waiter = Waiter.remote()
    ref = waiter.wait.remote()
    here.wait_for(1)
    other = jray.remote(lambda: 1).remote()
    assert jray.wait([other], timeout=0.5)[0] == []
    gate.open()
    jray.get(ref)
    jray.kill(waiter)
    assert jray.get(other) == 1


@pytest.mark.sentences("S52")
def test_what_is_used_up_is_left_out_of_the_available(bench: Bench) -> None:
    """A resource of which nothing is left has no key in available_resources()."""
    gate, here = bench.gate(), bench.tally()
    ref = metered.options(num_cpus=2, num_gpus=1).remote(bench.meter(), 1, gate, here)
    wait_until(lambda: "CPU" not in jray.available_resources(), what="no key CPU")
    wait_until(lambda: jray.available_resources().get("GPU") == 1, what="one GPU left")
    gate.open()
    jray.get(ref)
    wait_until(lambda: jray.available_resources().get("CPU") == 2, what="the CPUs back")


@pytest.mark.sentences("S53")
@pytest.mark.parametrize(
    "options",
    [{"num_cpus": 3}, {"num_gpus": 3}, {"resources": {"gadget": 3}}, {"resources": {"unheard_of": 1}}],
    ids=["CPU", "GPU", "too much", "unknown"],
)
def test_an_infeasible_task_stays_pending(options: dict[str, Any]) -> None:
    """What no node can ever run raises nothing; it can be cancelled, and others run meanwhile."""
    ref = jray.remote(**options)(lambda: 1).remote()
    assert jray.get(jray.remote(lambda: 2).remote()) == 2
    assert jray.wait([ref], timeout=0.3) == ([], [ref])
    jray.cancel(ref)
    with pytest.raises(jray.exceptions.TaskCancelledError):
        jray.get(ref)


@differences.infeasible_is_said
@pytest.mark.sentences("S53")
def test_an_infeasible_task_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """Within two seconds the driver tells which resource no node has."""
    seen = ""

    def told(name: str) -> bool:
        nonlocal seen
        captured = capfd.readouterr()
        seen += captured.out + captured.err
        return name in seen

    names = (f"unheard_of_{number}" for number in itertools.count())

    def ask() -> float:
        """Ask for what there is not; return how many seconds it took to be told."""
        name, start = next(names), time.monotonic()
        ref = jray.remote(resources={name: 1})(lambda: 1).remote()
        wait_until(lambda: told(name))
        took = time.monotonic() - start
        jray.cancel(ref)
        return took

    assert is_ever_within(2, ask)


@pytest.mark.sentences("S54")
def test_a_feasible_request_waits_without_a_word(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """A busy cluster makes a task wait, and says nothing about it."""
    gate, here = bench.gate(), bench.tally()
    holder = metered.options(num_cpus=2).remote(bench.meter(), 2, gate, here)
    here.wait_for(1)
    waiting = jray.remote(lambda: 1).remote()
    assert jray.wait([waiting], timeout=0.5) == ([], [waiting])
    gate.open()
    assert jray.get([holder, waiting]) == [None, 1]
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@jray.remote(num_cpus=0)
def see_gpus(gate: Gate | None, here: Tally) -> tuple[list[str], str, list[str]]:
    here.add()
    if gate is not None:
        gate.wait()
    return (
        [str(each) for each in jray.get_gpu_ids()],
        os.environ.get("CUDA_VISIBLE_DEVICES", "unset"),
        [str(each) for each in jray.get_runtime_context().get_accelerator_ids()["GPU"]],
    )


@pytest.mark.sentences("S55", "S56")
def test_quarter_gpus_are_packed(bench: Bench) -> None:
    """Four tasks of num_gpus=0.25 share one GPU, and it is the only one they see."""
    gate, here = bench.gate(), bench.tally()
    refs = [see_gpus.options(num_gpus=0.25).remote(gate, here) for _ in range(4)]
    here.wait_for(4)
    gate.open()
    seen = jray.get(refs)
    ids, visible, accelerators = seen[0]
    assert len(ids) == 1
    assert (ids, visible, accelerators) == (ids, ids[0], ids)
    assert seen == [seen[0]] * 4


@pytest.mark.sentences("S55", "S56")
def test_whole_gpus_are_distinct(bench: Bench) -> None:
    """Two tasks of num_gpus=1 at once see one GPU each, not the same."""
    gate, here = bench.gate(), bench.tally()
    refs = [see_gpus.options(num_gpus=1).remote(gate, here) for _ in range(2)]
    here.wait_for(2)
    gate.open()
    one, two = jray.get(refs)
    assert {one[1], two[1]} == {"0", "1"}
    assert (one[0], two[0]) == ([one[1]], [two[1]])


@pytest.mark.sentences("S55", "S56")
def test_a_task_with_all_gpus_sees_all() -> None:
    """num_gpus=2 gives both ids."""
    ids, visible, accelerators = jray.get(see_gpus.options(num_gpus=2).remote(None, Tally(os.devnull)))
    assert sorted(ids) == sorted(accelerators) == ["0", "1"]
    assert sorted(visible.split(",")) == ["0", "1"]


@pytest.mark.sentences("S55")
def test_one_and_a_half_gpus_are_refused() -> None:
    """A number of GPUs above one must be whole: ValueError at the call."""
    with pytest.raises(ValueError, match="whole"):
        see_gpus.options(num_gpus=1.5).remote(None, Tally(os.devnull))


@pytest.mark.sentences("S56")
def test_an_actor_keeps_its_gpu(bench: Bench) -> None:
    """An actor with a GPU sees it in every method, and no one else gets it."""

    @jray.remote(num_gpus=1)
    class Owner:
        def see(self) -> tuple[list[str], str]:
            return [str(each) for each in jray.get_gpu_ids()], os.environ["CUDA_VISIBLE_DEVICES"]

    owners = [Owner.remote(), Owner.remote()]
    seen = jray.get([owner.see.remote() for owner in owners])
    assert seen == jray.get([owner.see.remote() for owner in owners])
    assert sorted(visible for _, visible in seen) == ["0", "1"]
    assert all(ids == [visible] for ids, visible in seen)


@pytest.mark.sentences("S57")
def test_a_task_without_gpus_has_no_gpu_ids() -> None:
    """Without num_gpus there are no ids."""
    ids, _, accelerators = jray.get(see_gpus.remote(None, Tally(os.devnull)))
    assert (ids, accelerators) == ([], [])


SEE_GPUS = """
    import os
    import sys
    import jray

    jray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)

    @jray.remote(num_cpus=0)
    def see():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        found = jray.get_gpu_ids(), jray.get_runtime_context().get_accelerator_ids()["GPU"], visible
        return [sorted(each) for each in found]

    own = {"env_vars": {"CUDA_VISIBLE_DEVICES": sys.argv[1]}} if sys.argv[1] else None
    for num_gpus in (1, 2, 0):
        print(*jray.get(see.options(num_gpus=num_gpus, runtime_env=own).remote()))
"""


@pytest.mark.sentences("S56", "S57")
@pytest.mark.parametrize(
    ("drivers", "own", "seen"),
    [
        (None, "", ["[0] ['0'] ['0']", "[0, 1] ['0', '1'] ['0', '1']", "[] [] ['']"]),
        ("3,5", "", ["['3'] ['3'] ['3']", "['3', '5'] ['3', '5'] ['3', '5']", "[] [] ['3', '5']"]),
        ("3,5", "7,8", ["['7'] ['7'] ['7']", "['7', '8'] ['7', '8'] ['7', '8']", "[] [] ['7', '8']"]),
        ("3,5", "6", ["['6'] ['6'] ['6']", "['6'] ['6'] ['6']", "[] [] ['6']"]),
        (
            None,
            "GPU-a",
            ["['GPU-a'] ['GPU-a'] ['GPU-a']", "['GPU-a'] ['GPU-a'] ['GPU-a']", "[] [] ['GPU-a']"],
        ),
    ],
)
def test_gpus_are_entries_of_what_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drivers: str | None, own: str, seen: list[str]
) -> None:
    """Ids are entries of the driver's CUDA_VISIBLE_DEVICES, or of the task's own, as text; numbers without any."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    env = {} if drivers is None else {"CUDA_VISIBLE_DEVICES": drivers}
    assert run_driver(tmp_path, SEE_GPUS, own, env=env).splitlines() == seen


@pytest.mark.sentences("S56")
def test_the_variable_may_be_left_alone(tmp_path: Path) -> None:
    """Told so, a task finds CUDA_VISIBLE_DEVICES unchanged, and its GPUs by the ids alone."""
    env = {"CUDA_VISIBLE_DEVICES": "3,5", "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}
    seen = ["['3'] ['3'] ['3', '5']", "['3', '5'] ['3', '5'] ['3', '5']", "[] [] ['3', '5']"]
    assert run_driver(tmp_path, SEE_GPUS, "", env=env).splitlines() == seen


@pytest.mark.sentences("S37", "S57")
def test_a_gpu_task_ends_its_worker() -> None:
    """A worker that ran a GPU task runs no other one, so that the GPU's memory is freed."""
    remote = jray.remote(num_gpus=0.1)(lambda: os.getpid())
    pids = [jray.get(remote.remote()) for _ in range(3)]
    assert len(set(pids)) == 3


@pytest.mark.sentences("S58")
def test_an_unknown_accelerator_type_is_infeasible() -> None:
    """accelerator_type that no node has leaves the task pending, without an error."""
    ref = jray.remote(accelerator_type="A100")(lambda: 1).remote()
    assert jray.wait([ref], timeout=0.3) == ([], [ref])
    jray.cancel(ref)


@pytest.mark.sentences("S60")
@pytest.mark.parametrize("strategy", ["SPREAD", "DEFAULT", None])
def test_strategies_that_are_no_op_on_one_node(strategy: str | None) -> None:
    """SPREAD and DEFAULT run tasks and actors on the only node there is."""

    @jray.remote
    class Pinger:
        def ping(self) -> int:
            return 1

    assert jray.get(jray.remote(scheduling_strategy=strategy)(lambda: 1).remote()) == 1
    assert jray.get(Pinger.options(scheduling_strategy=strategy).remote().ping.remote()) == 1


@pytest.mark.sentences("S61")
@pytest.mark.parametrize("soft", [True, False])
def test_affinity_to_this_node(soft: bool) -> None:
    """Affinity to the only node runs there, hard and soft."""
    here = jray.get_runtime_context().get_node_id()
    strategy = NodeAffinitySchedulingStrategy(here, soft=soft)

    @jray.remote(scheduling_strategy=strategy)
    def where() -> str:
        return jray.get_runtime_context().get_node_id()

    assert jray.get(where.remote()) == here


@pytest.mark.sentences("S61")
def test_hard_affinity_to_an_unknown_node_is_unschedulable() -> None:
    """A task raises TaskUnschedulableError at `get`, an actor ActorUnschedulableError at its first call."""
    strategy = NodeAffinitySchedulingStrategy("a" * 56, soft=False)

    @jray.remote(scheduling_strategy=strategy)
    class Nowhere:
        def ping(self) -> None:
            pass

    with pytest.raises(TaskUnschedulableError):
        jray.get(jray.remote(scheduling_strategy=strategy)(lambda: 1).remote())
    with pytest.raises(ActorUnschedulableError):
        jray.get(Nowhere.remote().ping.remote())


@pytest.mark.sentences("S61")
def test_soft_affinity_to_an_unknown_node_falls_back() -> None:
    """soft=True runs elsewhere."""
    strategy = NodeAffinitySchedulingStrategy("a" * 56, soft=True)
    assert jray.get(jray.remote(scheduling_strategy=strategy)(lambda: 1).remote()) == 1


@pytest.mark.only("jray", "Ray lets its own libraries say so")
@pytest.mark.parametrize(
    ("soft", "option"), [(True, "_spill_on_unavailable"), (False, "_fail_on_unavailable")]
)
def test_affinity_has_no_exceptions_for_a_busy_node(soft: bool, option: str) -> None:
    """What jray does not do is refused by name."""
    here = jray.get_runtime_context().get_node_id()
    strategy = NodeAffinitySchedulingStrategy(here, soft=soft, **{option: True})
    with pytest.raises(NotImplementedError, match=option):
        jray.remote(scheduling_strategy=strategy)(lambda: 1).remote()


@pytest.mark.sentences("S154")
@pytest.mark.parametrize("node_id", ["zz", "f" * 56, ""])
def test_a_malformed_node_id_is_refused(node_id: str) -> None:
    """What is no node id raises ValueError at the construction of the strategy."""
    with pytest.raises(ValueError, match="node_id"):
        NodeAffinitySchedulingStrategy(node_id, soft=False)


@pytest.mark.sentences("S154")
def test_affinity_must_say_whether_it_is_soft() -> None:
    """`soft` has no default."""
    with pytest.raises(TypeError):
        NodeAffinitySchedulingStrategy("a" * 56)  # type: ignore[call-arg]


@pytest.mark.sentences("S52")
def test_cluster_resources_name_everything() -> None:
    """Totals have CPU, GPU, memory, object_store_memory, the custom resource and the node."""
    total = jray.cluster_resources()
    assert (total["CPU"], total["GPU"], total["gadget"]) == (2, 2, 2)
    assert total["memory"] > 0
    assert total["object_store_memory"] > 0
    assert total["node:__internal_head__"] == 1


def test_nodes_lists_the_one_node() -> None:
    """`nodes()` has one row, alive, with the id of this node and its resources."""
    (row,) = jray.nodes()
    assert row["Alive"] is True
    assert row["NodeID"] == jray.get_runtime_context().get_node_id()
    assert row["Resources"]["gadget"] == 2


@pytest.mark.sentences("S46", "S147")
def test_resources_after_many_tasks_are_all_there() -> None:
    """After hundreds of tasks of odd fractions exactly the totals are available again."""
    jray.get(
        [jray.remote(num_cpus=0.3, resources={"gadget": 0.0001})(lambda: None).remote() for _ in range(100)]
    )
    total = jray.cluster_resources()
    wait_until(
        lambda: all(jray.available_resources().get(name) == total[name] for name in ("CPU", "gadget")),
        what=lambda: f"all back: {jray.available_resources()}",
    )


@pytest.mark.sentences("S63")
@pytest.mark.parametrize(
    "options", [{"num_cpus": 1.5}, {"resources": {"gadget": 0.5}}], ids=["CPU", "custom"]
)
def test_totals_of_a_node_must_be_whole(fresh: Callable[..., Any], options: dict[str, Any]) -> None:
    """`init` refuses a fraction as a node's total with ValueError."""
    with pytest.raises((ValueError, TypeError)):
        fresh(**options)
    assert not jray.is_initialized()


@pytest.mark.sentences("S64")
def test_what_a_node_has_is_found_out(fresh: Callable[..., Any]) -> None:
    """CPUs are those that this process may use; memory and store together are no more than the machine's."""
    fresh(num_cpus=None)
    total, machine = jray.cluster_resources(), psutil.virtual_memory().total
    assert 1 <= total["CPU"] <= len(os.sched_getaffinity(0))
    assert total["CPU"] == int(total["CPU"])
    assert 0 < total["object_store_memory"] <= 0.31 * machine
    assert 0 < total["memory"] <= machine - total["object_store_memory"]


@pytest.mark.sentences("S64")
def test_a_store_can_be_too_small(fresh: Callable[..., Any]) -> None:
    """A store in which nothing would fit is refused with ValueError."""
    with pytest.raises(ValueError, match="store"):
        fresh(object_store_memory=1)
    assert not jray.is_initialized()


@pytest.mark.sentences("S48", "S49")
def test_a_node_without_cpus_runs_no_default_actor(fresh: Callable[..., Any]) -> None:
    """With num_cpus=0 a default actor stays pending, while num_cpus=0 tasks and actors run."""
    fresh(num_cpus=0)

    @jray.remote
    class Pinger:
        def ping(self) -> int:
            return 1

    pending = Pinger.remote().ping.remote()
    assert jray.get(Pinger.options(num_cpus=0).remote().ping.remote()) == 1
    assert jray.get(jray.remote(num_cpus=0)(lambda: 2).remote()) == 2
    assert jray.wait([pending], timeout=0.3)[0] == []
