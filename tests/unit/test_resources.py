"""Resources add up exactly, and a node never gives out more than it has."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from jray._core.detect import (
    detect_gpu_ids,
    detect_memory_bytes,
    detect_num_cpus,
    gpu_ids_for,
    gpus_as_seen,
)
from jray._core.resources import (
    UNITS,
    Allocation,
    NodeResources,
    ResourceSet,
    node_resources_from_user,
)
from jray.exceptions import JrayInternalError


def amounts(**quantities: float) -> ResourceSet:
    return ResourceSet.from_floats(quantities)


def node(*, gpu_ids: list[str] | None = None, **quantities: float) -> NodeResources:
    ids = gpu_ids if gpu_ids is not None else [str(i) for i in range(int(quantities.get("GPU", 0)))]
    return NodeResources(amounts(**quantities), ids)


def taken(ledger: NodeResources, **quantities: float) -> Allocation:
    allocation = ledger.allocate(amounts(**quantities))
    assert allocation is not None
    return allocation


# --- arithmetic -----------------------------------------------------------------------------------


units = st.dictionaries(st.sampled_from(["CPU", "GPU", "memory", "x"]), st.integers(0, 10**18), max_size=4)
sets = st.builds(ResourceSet, units)


def test_tenths_add_up_to_one() -> None:
    """Ten times 0.1 is exactly 1, which it isn't in floats."""
    total = ResourceSet()
    for _ in range(10):
        total += amounts(CPU=0.1)
    assert total == amounts(CPU=1)


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (0, 0),
        (1, 10_000),
        (0.0001, 1),
        (0.0003, 3),
        (0.29, 2_900),
        (1.1, 11_000),
        (0.00019, 1),
        (1e14, 10**18),
    ],
)
def test_quantity_becomes_whole_units(quantity: float, expected: int) -> None:
    """What is finer than 0.0001 is cut off, as Ray does; what only binary makes finer is not."""
    assert amounts(x=quantity).get("x") == expected


@pytest.mark.parametrize(
    ("quantity", "message"),
    [
        (-1, "resource x cannot be negative"),
        (-1e-9, "resource x cannot be negative"),
        (0.00009, "smallest one above 0 is 0.0001"),
        (float("nan"), "finite"),
        (float("inf"), "finite"),
    ],
)
def test_impossible_quantity_is_refused(quantity: float, message: str) -> None:
    """The error names the resource and the rule."""
    with pytest.raises(ValueError, match=message):
        amounts(x=quantity)


@given(sets, sets)
def test_sum_and_difference_undo_each_other(a: ResourceSet, b: ResourceSet) -> None:
    """Adding and taking away loses nothing."""
    assert (a + b) - b == a
    assert a + b == b + a
    assert a.fits_in(a + b)
    assert b.fits_in(a) == (not b.missing_from(a))


@given(sets, sets)
def test_equal_sets_hash_alike(a: ResourceSet, b: ResourceSet) -> None:
    """Sets are keys: equality is that of the amounts, in whatever order and with zeros."""
    reversed_a = ResourceSet(dict(reversed(list(a.items()))) | {"nothing": 0})
    assert a == reversed_a
    assert hash(a) == hash(reversed_a)
    assert (a == b) == (dict(a.items()) == dict(b.items()))
    assert a != dict(a.items())


@given(sets)
def test_set_survives_pickling(a: ResourceSet) -> None:
    """A set is the same in another process."""
    assert pickle.loads(pickle.dumps(a)) == a


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 10**9).map(lambda n: n / UNITS), max_size=4))
def test_floats_come_back_as_they_were(quantities: dict[str, float]) -> None:
    """Quantities of at most four places survive the way into units and back, zeros dropped."""
    assert ResourceSet.from_floats(quantities).to_floats() == {k: v for k, v in quantities.items() if v}


def test_set_pickles_small() -> None:
    """A lease request carries its amounts and one reference to the class."""
    assert len(pickle.dumps(amounts(CPU=1), pickle.HIGHEST_PROTOCOL)) < 80


def test_zero_amounts_are_dropped() -> None:
    """A set of zeros is empty, false, and fits anywhere."""
    empty = amounts(CPU=0, GPU=0)
    assert not empty
    assert len(empty) == 0
    assert list(empty) == []
    assert "CPU" not in empty
    assert empty.fits_in(ResourceSet())


def test_difference_below_zero_is_refused() -> None:
    """A set never holds a negative amount."""
    with pytest.raises(ValueError, match="resource CPU cannot be negative"):
        amounts(CPU=1) - amounts(CPU=2)


def test_parts_of_a_set() -> None:
    """One resource can be taken out, or left alone."""
    both = amounts(CPU=1, GPU=2)
    assert both.only("CPU") == amounts(CPU=1)
    assert both.without("CPU") == amounts(GPU=2)
    assert both.only("x") == ResourceSet()


def test_set_reads_as_people_say_it() -> None:
    """Text for messages has sizes in their units and no needless zeros."""
    assert str(amounts(CPU=1.5, GPU=0.25, memory=3 * 2**30, x=2)) == "1.5 CPU, 0.25 GPU, 3 GiB memory, 2 x"
    assert str(ResourceSet()) == "nothing"
    assert repr(amounts(CPU=1.5)) == "ResourceSet(CPU: 1.5)"


# --- the ledger -----------------------------------------------------------------------------------


def test_request_that_does_not_fit_changes_nothing() -> None:
    """A refusal takes no part of the request."""
    ledger = node(CPU=2, x=1)
    assert ledger.allocate(amounts(CPU=1, x=2)) is None
    assert ledger.available == ledger.total
    assert ledger.allocations == ()


def test_what_is_taken_is_missing_until_it_is_released() -> None:
    """Available is total less what is held; a resource that is used up is absent."""
    ledger = node(CPU=2, x=1)
    allocation = taken(ledger, CPU=0.5, x=1)
    assert ledger.available.to_floats() == {"CPU": 1.5}
    assert ledger.allocations == (allocation,)
    ledger.release(allocation)
    assert ledger.available == ledger.total


def test_empty_request_always_fits() -> None:
    """A task of 0 CPUs is not limited by CPUs."""
    ledger = node(CPU=1)
    taken(ledger, CPU=1)
    assert [ledger.allocate(ResourceSet()) is not None for _ in range(3)] == [True] * 3


def test_release_twice_is_our_fault() -> None:
    """An allocation that was given back can't be given back again, and neither can a stranger's."""
    ledger = node(CPU=2)
    allocation = taken(ledger, CPU=1)
    ledger.release(allocation)
    for operation in (ledger.release, ledger.release_cpu, ledger.reacquire_cpu):
        with pytest.raises(JrayInternalError, match="isn't live"):
            operation(allocation)
    own = taken(ledger, CPU=1)
    with pytest.raises(JrayInternalError, match="isn't live"):
        ledger.release(Allocation(own.number, amounts(CPU=2)))
    ledger.check_invariants()


def test_blocked_holder_gives_up_only_its_cpu() -> None:
    """A task blocked in get keeps its GPU, memory and custom resources."""
    ledger = node(CPU=1, GPU=1, memory=100, x=1)
    allocation = taken(ledger, CPU=1, GPU=0.5, memory=60, x=1)
    ledger.release_cpu(allocation)
    assert ledger.available.to_floats() == {"CPU": 1, "GPU": 0.5, "memory": 40}
    ledger.check_invariants()


def test_unblocked_holder_may_oversubscribe_the_cpu_for_a_while() -> None:
    """It takes its CPU back at once; until others finish, none is available and none is given out."""
    ledger = node(CPU=1)
    parent = taken(ledger, CPU=1)
    ledger.release_cpu(parent)
    child = taken(ledger, CPU=1)
    ledger.reacquire_cpu(parent)
    ledger.check_invariants()
    assert ledger.available.to_floats() == {}
    assert ledger.allocate(amounts(CPU=0.1)) is None
    assert ledger.waiting_reason(amounts(CPU=0.1)) == "waits for 0.1 CPU: 1 of 1 in use"
    ledger.release(parent)
    assert ledger.allocate(amounts(CPU=0.1)) is None
    ledger.release(child)
    assert ledger.available == ledger.total


def test_blocked_holder_that_ends_gives_back_the_rest() -> None:
    """A worker that dies while it is blocked doesn't give its CPU back twice."""
    ledger = node(CPU=1, x=1)
    allocation = taken(ledger, CPU=1, x=1)
    ledger.release_cpu(allocation)
    ledger.release(allocation)
    assert ledger.available == ledger.total
    ledger.check_invariants()


def test_blocking_twice_or_unblocking_the_unblocked_is_our_fault() -> None:
    """The ledger notices a caller that lost count."""
    ledger = node(CPU=1)
    allocation = taken(ledger, CPU=1)
    with pytest.raises(JrayInternalError, match="had not given up"):
        ledger.reacquire_cpu(allocation)
    ledger.release_cpu(allocation)
    with pytest.raises(JrayInternalError, match="twice"):
        ledger.release_cpu(allocation)


def test_holder_without_cpu_can_block() -> None:
    """Blocking is harmless for a task of 0 CPUs, also on a node without any."""
    ledger = node(x=1)
    allocation = taken(ledger, x=1)
    ledger.release_cpu(allocation)
    ledger.reacquire_cpu(allocation)
    ledger.check_invariants()
    ledger.release(allocation)
    assert ledger.available == ledger.total


def test_invariants_notice_a_ledger_that_is_off() -> None:
    """The check is not a formality."""
    ledger = node(CPU=2)
    ledger._free["CPU"] += 1
    with pytest.raises(JrayInternalError, match="add up"):
        ledger.check_invariants()
    ledger = node(GPU=1)
    ledger._free_gpus["0"] -= 1
    with pytest.raises(JrayInternalError, match="GPU"):
        ledger.check_invariants()


# --- GPUs -----------------------------------------------------------------------------------------


def test_quarters_share_one_gpu_before_the_next_is_used() -> None:
    """Four times 0.25 fill GPU a, the fifth goes to GPU b."""
    ledger = node(GPU=2, gpu_ids=["a", "b"])
    held = [taken(ledger, GPU=0.25) for _ in range(5)]
    assert [allocation.gpu_ids for allocation in held] == [("a",)] * 4 + [("b",)]
    assert {allocation.gpu_fractions for allocation in held} == {(0.25,)}


def test_part_goes_to_the_fullest_gpu_that_has_room() -> None:
    """A whole GPU is broken up only if no other has room."""
    ledger = node(GPU=2, gpu_ids=["a", "b"])
    first = taken(ledger, GPU=0.5)
    taken(ledger, GPU=0.75)
    ledger.release(first)
    assert taken(ledger, GPU=0.25).gpu_ids == ("b",)
    assert taken(ledger, GPU=0.25).gpu_ids == ("a",)


def test_whole_gpus_are_whole() -> None:
    """A request for 2 gets two ids that nobody else has a part of."""
    ledger = node(GPU=3, gpu_ids=["a", "b", "c"])
    taken(ledger, GPU=0.1)
    allocation = taken(ledger, GPU=2)
    assert allocation.gpu_ids == ("b", "c")
    assert allocation.gpu_fractions == (1, 1)


def test_parts_on_two_gpus_do_not_make_a_whole() -> None:
    """What is free in sum but not on one GPU has to wait, and says so."""
    ledger = node(GPU=2, gpu_ids=["a", "b"])
    taken(ledger, GPU=0.6)
    taken(ledger, GPU=0.6)
    assert ledger.available.to_floats() == {"GPU": 0.8}
    assert ledger.allocate(amounts(GPU=0.5)) is None
    assert (
        ledger.waiting_reason(amounts(GPU=0.5))
        == "waits for 0.5 GPU on one GPU: free on the node's GPUs are 0.4, 0.4"
    )
    assert ledger.available.to_floats() == {"GPU": 0.8}


def test_whole_gpu_waits_for_one_that_is_free_altogether() -> None:
    """Half of each of two GPUs is not one GPU."""
    ledger = node(GPU=2, gpu_ids=["a", "b"])
    first = taken(ledger, GPU=0.5)
    second = taken(ledger, GPU=0.75)
    ledger.release(first)
    taken(ledger, GPU=0.7)
    assert second.gpu_ids == ("b",)
    assert ledger.allocate(amounts(GPU=1)) is None


def test_one_and_a_half_gpus_can_never_be_had() -> None:
    """More than one GPU must be whole ones."""
    ledger = node(GPU=4)
    assert ledger.allocate(amounts(GPU=1.5)) is None
    reason = ledger.infeasible_reason(amounts(GPU=1.5))
    assert reason == "needs 1.5 GPU, more than 1 GPU must be a whole number"


def test_node_needs_an_id_for_each_gpu() -> None:
    """Ids and amount must agree, and ids must differ."""
    with pytest.raises(ValueError, match="needs as many GPU ids"):
        node(GPU=2, gpu_ids=["a"])
    with pytest.raises(ValueError, match="must differ"):
        node(GPU=2, gpu_ids=["a", "a"])


# --- reasons --------------------------------------------------------------------------------------


def test_infeasible_request_is_told_what_the_node_lacks() -> None:
    """Only what is lacking is named, with what the node has of it."""
    ledger = node(CPU=2, x=1)
    assert ledger.infeasible_reason(amounts(CPU=4, x=1)) == "needs 4 CPU, the node has 2 CPU"
    assert ledger.infeasible_reason(amounts(CPU=4, GPU=1)) == "needs 4 CPU, 1 GPU, the node has 2 CPU, 0 GPU"
    assert ledger.infeasible_reason(amounts(CPU=2, x=1)) is None


def test_what_can_never_run_is_said_a_fact_a_line() -> None:
    """What is asked for, what there is, what to do, and what happens meanwhile; no line is long."""
    misfit = node(CPU=2).misfit(amounts(CPU=64, GPU=1))
    assert misfit is not None
    first, asked, has, advice, rest = misfit.notice("f").splitlines()
    assert (first, asked, has) == (
        "f can never run here:",
        "  it needs 64 CPU, 1 GPU",
        "  the node has 2 CPU, 0 GPU",
    )
    assert ".options(" in advice
    assert "waits" in rest
    assert max(map(len, (first, asked, has, advice, rest))) <= 110


def test_busy_node_is_feasible_and_says_what_is_waited_for() -> None:
    """Waiting is not infeasible."""
    ledger = node(CPU=2)
    taken(ledger, CPU=1.5)
    assert ledger.infeasible_reason(amounts(CPU=2)) is None
    assert ledger.waiting_reason(amounts(CPU=2)) == "waits for 2 CPU: 1.5 of 2 in use"
    assert ledger.waiting_reason(amounts(CPU=0.5)) is None


# --- any sequence of events -----------------------------------------------------------------------

TOTAL = {"CPU": 3.0, "GPU": 2.0, "memory": 1000.0, "x": 1.5}


class LedgerMachine(RuleBasedStateMachine):
    """Tasks and actors come, block, wake and go in any order."""

    running = Bundle("running")
    blocked = Bundle("blocked")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = NodeResources(ResourceSet.from_floats(TOTAL), ["a", "b"])
        self.live = 0
        # While a task that woke runs beside those that took its CPU, more CPU is held than there is.
        self.has_woken = False

    @rule(
        target=running,
        cpu=st.sampled_from([0, 0.1, 0.5, 1, 2, 3]),
        gpu=st.sampled_from([0, 0, 0.25, 0.3333, 1, 2]),
        memory=st.integers(0, 1000),
        x=st.sampled_from([0, 0.5, 1.5]),
    )
    def allocate(self, cpu: float, gpu: float, memory: int, x: float) -> object:
        request = amounts(CPU=cpu, GPU=gpu, memory=memory, x=x)
        fits = self.ledger.waiting_reason(request) is None
        before = self.ledger.available
        allocation = self.ledger.allocate(request)
        assert (allocation is not None) == fits
        assert self.ledger.infeasible_reason(request) is None
        if allocation is None:
            assert self.ledger.available == before
            return multiple()
        assert request.fits_in(before)
        assert sum(allocation.gpu_units) == request.get("GPU")
        self.live += 1
        return allocation

    @rule(allocation=consumes(running))
    def finish(self, allocation: Allocation) -> None:
        self.ledger.release(allocation)
        self.live -= 1

    @rule(target=blocked, allocation=consumes(running))
    def block(self, allocation: Allocation) -> Allocation:
        self.ledger.release_cpu(allocation)
        return allocation

    @rule(target=running, allocation=consumes(blocked))
    def wake(self, allocation: Allocation) -> Allocation:
        self.ledger.reacquire_cpu(allocation)
        self.has_woken = True
        return allocation

    @rule(allocation=consumes(blocked))
    def die_while_blocked(self, allocation: Allocation) -> None:
        self.ledger.release(allocation)
        self.live -= 1

    @invariant()
    def ledger_is_sound(self) -> None:
        self.ledger.check_invariants()
        assert self.ledger.available.fits_in(self.ledger.total)
        assert len(self.ledger.allocations) == self.live
        # Independent of the ledger's own numbers: nobody's GPUs are given out twice.
        held: dict[str, int] = {}
        for allocation in self.ledger.allocations:
            for gpu_id, part in zip(allocation.gpu_ids, allocation.gpu_units, strict=True):
                held[gpu_id] = held.get(gpu_id, 0) + part
        assert all(part <= UNITS for part in held.values())
        for name in ("memory", "x", *(() if self.has_woken else ("CPU",))):
            running = sum(
                allocation.request.get(name)
                for allocation, is_blocked in self.ledger._live.values()
                if not (name == "CPU" and is_blocked)
            )
            assert running <= self.ledger.total.get(name)

    def teardown(self) -> None:
        for allocation in self.ledger.allocations:
            self.ledger.release(allocation)
        assert self.ledger.available == self.ledger.total
        self.ledger.check_invariants()


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# --- what the user says a node has ----------------------------------------------------------------


def test_users_totals_become_a_set() -> None:
    """Whole numbers, also as floats; None is none."""
    assert node_resources_from_user(4, 2.0, {"x": 3}, 1000).to_floats() == {
        "CPU": 4,
        "GPU": 2,
        "x": 3,
        "memory": 1000,
    }
    assert node_resources_from_user(None, None, None, None) == ResourceSet()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_cpus": 1.5}, ValueError, "whole numbers, but num_cpus=1.5"),
        ({"resources": {"x": 0.5}}, ValueError, r"whole numbers, but resources\['x'\]=0.5"),
        ({"num_gpus": -1}, ValueError, "less than 0 of a resource, but num_gpus=-1"),
        ({"memory": 1e15}, ValueError, "at most 100000000000000"),
        ({"num_cpus": float("nan")}, ValueError, "at most"),
        ({"num_cpus": float("inf")}, ValueError, "at most"),
        ({"resources": {"CPU": 1}}, ValueError, "Give CPU with its own keyword"),
        ({"resources": {"memory": 1}}, ValueError, "Give memory with its own keyword"),
        ({"resources": {1: 1}}, TypeError, "must be a string, not 1"),
        ({"num_cpus": "4"}, TypeError, "num_cpus must be a number, not '4'"),
        ({"resources": {"x": None}}, TypeError, "must be a number, not None"),
    ],
)
def test_impossible_totals_are_refused(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    """The error names the argument, its value and the rule."""
    full: dict[str, object] = {
        "num_cpus": None,
        "num_gpus": None,
        "resources": None,
        "memory": None,
    } | arguments
    with pytest.raises(error, match=message):
        node_resources_from_user(**full)  # type: ignore[arg-type]


# --- what the machine has -------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    """Lays out the files of a machine and gives their root."""

    def lay_out(files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return lay_out


V2 = "0::/user.slice/kernel.scope\n"
V1 = "5:cpu,cpuacct:/docker/ab\n3:memory:/docker/ab\n0::/docker/ab\n"
GROUP = "sys/fs/cgroup/user.slice"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"proc/self/cgroup": V2, f"{GROUP}/kernel.scope/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": V2, f"{GROUP}/kernel.scope/cpu.max": "250000 100000\n"}, 2),
        ({"proc/self/cgroup": V2, f"{GROUP}/kernel.scope/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": V2, f"{GROUP}/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": V2, f"{GROUP}/kernel.scope/cpu.max": "1600000 100000\n"}, 8),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
    ids=[
        "none",
        "max",
        "two and a half",
        "half",
        "of the group above",
        "more than there are",
        "container",
        "v1",
        "v1 -1",
    ],
)
def test_cpus_are_bounded_by_the_control_group(
    machine: Callable[[Mapping[str, str]], Path], files: Mapping[str, str], expected: int
) -> None:
    """The quota counts, cut to a whole number and never below one CPU."""
    assert detect_num_cpus(root=machine(files), affinity=8) == expected


def test_cpus_of_this_machine_are_at_least_one() -> None:
    """On any machine the answer is usable."""
    assert detect_num_cpus() >= 1


MEMINFO = "MemTotal:       16000 kB\nMemFree:         9000 kB\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 16_000 * 1024),
        ({"proc/self/cgroup": V2, f"{GROUP}/kernel.scope/memory.max": "max\n"}, 16_000 * 1024),
        ({"proc/self/cgroup": V2, f"{GROUP}/memory.max": "1000000\n"}, 1_000_000),
        ({"proc/self/cgroup": V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000\n"}, 2_000_000),
        (
            {"proc/self/cgroup": V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"},
            16_000 * 1024,
        ),
    ],
    ids=["none", "max", "v2", "v1", "v1 unlimited"],
)
def test_memory_is_bounded_by_the_control_group(
    machine: Callable[[Mapping[str, str]], Path], files: Mapping[str, str], expected: int
) -> None:
    """The limit counts where there is one, and the machine's memory otherwise."""
    assert detect_memory_bytes(root=machine({"proc/meminfo": MEMINFO, **files})) == expected


def test_memory_without_proc_is_asked_of_the_system(tmp_path: Path) -> None:
    """A system without /proc has memory too."""
    assert detect_memory_bytes(root=tmp_path) > 0


@pytest.mark.parametrize(
    ("devices", "visible", "expected"),
    [
        (0, None, []),
        (0, "0,1", []),
        (2, None, ["0", "1"]),
        (2, "1,0", ["1", "0"]),
        (2, " 1 ", ["1"]),
        (2, "", []),
        (2, "-1", []),
        (2, "NoDevFiles", []),
        (2, "0,7,1", ["0"]),
        (2, "0,0", ["0"]),
        (2, "GPU-ab,MIG-cd", ["GPU-ab", "MIG-cd"]),
    ],
)
def test_gpus_are_those_with_a_device_file_that_are_visible(
    machine: Callable[[Mapping[str, str]], Path], devices: int, visible: str | None, expected: list[str]
) -> None:
    """CUDA_VISIBLE_DEVICES is read as CUDA reads it; the control device is no GPU."""
    names = [f"dev/nvidia{index}" for index in range(devices)]
    root = machine(dict.fromkeys([*names, "dev/nvidiactl", "dev/nvidia-uvm"], ""))
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert detect_gpu_ids(root=root, environ=environ) == expected


def test_machine_without_devices_has_no_gpus(tmp_path: Path) -> None:
    """No /dev, no GPUs."""
    assert detect_gpu_ids(root=tmp_path, environ={}) == []


def test_gpus_that_the_user_claims_get_ids() -> None:
    """Ids come from CUDA_VISIBLE_DEVICES, or are counted where it isn't set."""
    assert gpu_ids_for(2, environ={}) == ["0", "1"]
    assert gpu_ids_for(2, environ={"CUDA_VISIBLE_DEVICES": "4,5,6"}) == ["4", "5"]
    with pytest.raises(ValueError, match=r"num_gpus=3 is more than the 1 GPUs"):
        gpu_ids_for(3, environ={"CUDA_VISIBLE_DEVICES": "4"})


@pytest.mark.parametrize(
    ("gpu_ids", "nodes_list", "own_list", "expected"),
    [
        (["0", "1"], None, None, [0, 1]),
        (["5"], "3,5", "3,5", ["5"]),
        (["GPU-ab"], "GPU-ab", "GPU-ab", ["GPU-ab"]),
        (["1"], None, "4, 6", ["6"]),
        (["5", "3"], "3,5", "7,8", ["8", "7"]),
        (["1"], None, "4", ["4"]),
        (["0"], None, "", []),
        ([], "3", "4", []),
    ],
)
def test_a_workers_gpus_are_entries_of_its_own_list(
    gpu_ids: list[str], nodes_list: str | None, own_list: str | None, expected: list[object]
) -> None:
    """Numbers without a list; entries of the same position where it is another than the node's, all where one lacks."""
    assert gpus_as_seen(gpu_ids, nodes_list=nodes_list, own_list=own_list) == expected
