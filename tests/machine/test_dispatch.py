"""Which worker gets which task of one kind: no task lost, batches bounded, shares even."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jray._core.machine.dispatch import Dispatchable, Lease, SchedulingClass, Timed, Timing

BATCH_US = 1000.0
BATCH_TASKS = 8


class Task:
    """The least that can be dispatched."""

    def __init__(self, number: int, timing: Timing, *, is_solo: bool = False) -> None:
        self.number = number
        self.timing = timing
        #: it is its own template: no other task shares its timing unless told so
        self.template: Timed = self
        self.is_solo = is_solo

    def __repr__(self) -> str:
        return f"Task({self.number})"


def timing(average_us: float | None) -> Timing:
    made = Timing()
    made.average_us = average_us
    return made


def make(leases: int = 1) -> SchedulingClass:
    machine = SchedulingClass(0, batch_us=BATCH_US, batch_tasks=BATCH_TASKS)
    for number in range(1, leases + 1):
        machine.granted(Lease(number, b"w%d" % number), now_s=0.0)
    return machine


def queue(machine: SchedulingClass, count: int, times: Timing, first: int = 1) -> None:
    machine.queue.extend(Task(number, times) for number in range(first, first + count))


def pushed(machine: SchedulingClass) -> dict[int, list[int]]:
    """Assign until nothing more is, and return the numbers that each lease got."""
    got: dict[int, list[int]] = {}
    while assignments := machine.assignments():
        for lease, tasks in assignments:
            assert len(tasks) > 0
            got.setdefault(lease.number, []).extend(task.number for task in tasks)
        machine.check_invariants()
    return got


# --- batches --------------------------------------------------------------------------------------


def test_a_function_nobody_has_timed_goes_out_one_by_one() -> None:
    """Its first call may take an hour: nothing waits behind it."""
    machine = make(2)
    queue(machine, 10, timing(None))
    assert pushed(machine) == {1: [1], 2: [2]}


def test_an_unknown_function_takes_nothing_along_and_joins_nothing() -> None:
    """Not even functions that take no time at all."""
    machine = make()
    quick, unknown = timing(0.0), timing(None)
    machine.queue.extend([Task(1, unknown), Task(2, quick), Task(3, unknown)])
    assert pushed(machine) == {1: [1]}
    machine.leases[1].inflight.clear()
    machine.finished(machine.leases[1], 1, now_s=1.0)
    assert pushed(machine) == {1: [2]}


def test_a_task_that_may_end_its_worker_goes_alone() -> None:
    """Its companions would have to run again."""
    machine = make()
    times = timing(1.0)
    machine.queue.extend([Task(1, times), Task(2, times, is_solo=True), Task(3, times)])
    lease = machine.leases[1]
    for expected in ([1], [2], [3]):
        assert pushed(machine) == {1: expected}
        lease.inflight.clear()
        machine.finished(lease, 1, now_s=0.0)


def test_a_batch_fills_the_time_it_may_take() -> None:
    """300 us each, 1000 us in all: three."""
    machine = make()
    queue(machine, 100, timing(300.0))
    assert pushed(machine) == {1: [1, 2, 3]}


def test_a_batch_has_at_most_so_many_tasks() -> None:
    """However short they are: a crash makes all of them doubtful."""
    machine = make()
    queue(machine, 100, timing(1.0))
    assert pushed(machine) == {1: [1, 2, 3, 4, 5, 6, 7, 8]}


def test_a_long_task_goes_to_an_empty_worker_only() -> None:
    """Longer than a batch may take, it is a batch of its own."""
    machine = make(2)
    queue(machine, 3, timing(5000.0))
    assert pushed(machine) == {1: [1], 2: [2]}


def test_few_tasks_are_shared_out_evenly() -> None:
    """In one go, so that no worker finishes long after the others."""
    machine = make(3)
    queue(machine, 7, timing(1.0))
    assert [len(tasks) for _, tasks in machine.assignments()] == [3, 2, 2]


def test_a_worker_is_refilled_when_half_of_its_batch_is_done() -> None:
    """Sooner would make messages of single tasks, later would let it wait."""
    machine = make()
    queue(machine, 100, timing(125.0))
    lease = machine.leases[1]
    assert pushed(machine) == {1: [1, 2, 3, 4, 5, 6, 7, 8]}
    for number in (1, 2, 3):
        del lease.inflight[number]
        machine.finished(lease, 1, now_s=0.0)
        assert pushed(machine) == {}
    del lease.inflight[4]
    machine.finished(lease, 1, now_s=0.0)
    assert pushed(machine) == {1: [9, 10, 11, 12]}


def test_full_workers_cost_a_submit_one_comparison() -> None:
    """The flag says that there is nothing to find, and is raised by whatever makes room."""
    machine = make()
    queue(machine, 2, timing(None))
    pushed(machine)
    assert not machine.may_have_room
    lease = machine.leases[1]
    lease.inflight.clear()
    machine.finished(lease, 1, now_s=0.0)
    assert machine.may_have_room


# --- giving back ----------------------------------------------------------------------------------


def test_what_comes_back_goes_first_in_its_old_order() -> None:
    """It was submitted before what is queued."""
    machine = make()
    queue(machine, 6, timing(200.0))
    assert pushed(machine) == {1: [1, 2, 3, 4, 5]}
    given_back = machine.gave_back(machine.leases[1], [3, 4, 5, 99])
    assert [task.number for task in given_back] == [3, 4, 5]
    assert [task.number for task in machine.queue] == [3, 4, 5, 6]
    assert pushed(machine) == {}, "that worker is at work on something long"
    machine.check_invariants()


def test_the_task_that_runs_is_blamed_for_what_comes_back() -> None:
    """Its function is slow or waits, so it goes alone from now on; the others are as short as before."""
    machine = make(2)
    slow, quick = timing(10.0), timing(10.0)
    machine.leases[2].is_retired = True
    machine.queue.extend([Task(1, slow), Task(2, quick), Task(3, quick), Task(4, slow), Task(5, slow)])
    assert pushed(machine) == {1: [1, 2, 3, 4, 5]}
    machine.gave_back(machine.leases[1], [2, 3, 4, 5])
    machine.leases[2].is_retired = False
    assert pushed(machine) == {2: [2, 3]}
    assert (slow.average_us, quick.average_us) == (BATCH_US, 10.0)


# --- leases ---------------------------------------------------------------------------------------


def test_a_retired_worker_gets_nothing() -> None:
    """What it has it finishes."""
    machine = make(2)
    machine.leases[1].is_retired = True
    queue(machine, 3, timing(1.0))
    assert pushed(machine) == {2: [1, 2, 3]}


def test_a_lost_lease_returns_what_was_not_answered() -> None:
    """Oldest first, because that one may have ended the worker."""
    machine = make()
    queue(machine, 3, timing(1.0))
    pushed(machine)
    lease = machine.leases[1]
    del lease.inflight[1]
    assert [task.number for task in machine.lost(lease)] == [2, 3]
    assert machine.leases == {}


def test_leases_without_work_for_long_are_idle() -> None:
    """Those at work are not, nor those that ended their work a moment ago."""
    machine = make(3)
    queue(machine, 1, timing(None))
    pushed(machine)
    machine.leases[3].idle_since_s = 5.0
    assert [lease.number for lease in machine.idle_leases(before_s=4.0)] == [2]
    machine.leases[1].inflight.clear()
    machine.finished(machine.leases[1], 1, now_s=4.5)
    assert [lease.number for lease in machine.idle_leases(before_s=4.5)] == [1, 2]


def test_the_average_follows_the_newest_batches() -> None:
    """A function's first calls import and warm up: they are forgotten quickly."""
    times = timing(None)
    times.took(1000.0)
    assert times.average_us == 1000.0
    for _ in range(10):
        times.took(10.0)
    assert times.average_us == pytest.approx(10.0, abs=1.0)


@given(
    counts=st.integers(1, 200),
    leases=st.integers(1, 20),
    average_us=st.floats(0.0, 3 * BATCH_US),
)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_shares_differ_by_one_at_most(counts: int, leases: int, average_us: float) -> None:
    """Of equal tasks, empty workers get equal numbers, as long as these fit into a batch."""
    machine = make(leases)
    queue(machine, counts, timing(average_us))
    sizes = Counter(dict.fromkeys(machine.leases, 0))
    for lease, tasks in machine.assignments():
        sizes[lease.number] = len(tasks)
    assert max(sizes.values()) - min(sizes.values()) <= 1


# --- anything in any order ------------------------------------------------------------------------


class DispatchProgram(RuleBasedStateMachine):
    """Plays an owner, its workers and its node."""

    @initialize()
    def begin(self) -> None:
        self.machine = make(0)
        self.timings = [timing(None), timing(10.0), timing(400.0), timing(5000.0), timing(0.0)]
        self.numbers = 0
        self.leases = 0
        self.now_s = 0.0
        #: tasks without an answer
        self.open: dict[int, Dispatchable] = {}
        self.batches: dict[int, float] = {}

    def a_lease(self, data: st.DataObject) -> Lease:
        return self.machine.leases[data.draw(st.sampled_from(sorted(self.machine.leases)))]

    @rule(count=st.integers(1, 30), which=st.integers(0, 4), is_solo=st.booleans())
    def submit(self, count: int, which: int, is_solo: bool) -> None:
        for _ in range(count):
            self.numbers += 1
            task = self.open[self.numbers] = Task(
                self.numbers, self.timings[which], is_solo=is_solo and count == 1
            )
            self.machine.queue.append(task)

    @rule()
    def grant(self) -> None:
        self.leases += 1
        self.machine.granted(Lease(self.leases, b"w"), now_s=self.now_s)

    @rule()
    def assign(self) -> None:
        before = {lease.number: len(lease.inflight) for lease in self.machine.leases.values()}
        order = [task.number for task in self.machine.queue]
        taken: list[int] = []
        for lease, tasks in self.machine.assignments():
            taken += [task.number for task in tasks]
            assert not lease.is_retired
            assert len(lease.inflight) <= BATCH_TASKS
            alone = [t for t in lease.inflight.values() if t.is_solo or t.timing.average_us is None]
            if alone and alone[0] in tasks:
                assert len(lease.inflight) == 1, "a task that must go alone has company"
            if before[lease.number] + len(tasks) > 1:
                assert lease.pushed_us <= BATCH_US, "a batch longer than it may be"
        assert taken == order[: len(taken)], "tasks overtook each other"

    @precondition(lambda self: any(lease.inflight for lease in self.machine.leases.values()))
    @rule(data=st.data(), took_us=st.floats(0.01, 2000))
    def answer(self, data: st.DataObject, took_us: float) -> None:
        lease = self.a_lease(data)
        count = data.draw(st.integers(0, len(lease.inflight)))
        for number in list(lease.inflight)[:count]:
            lease.inflight.pop(number).timing.took(took_us)
            del self.open[number]
        if count:
            self.now_s += 1.0
            self.machine.finished(lease, count, now_s=self.now_s)

    @precondition(lambda self: self.machine.leases)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        lease = self.a_lease(data)
        keep = data.draw(st.integers(0, 1))
        expected = list(lease.inflight)[keep:]
        given_back = self.machine.gave_back(lease, expected)
        assert [task.number for task in given_back] == expected
        assert [task.number for task in self.machine.queue][: len(expected)] == expected
        if not lease.inflight:
            self.machine.finished(lease, 1, now_s=self.now_s)

    @precondition(lambda self: self.machine.leases)
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        self.a_lease(data).is_retired = True

    @precondition(lambda self: self.machine.leases)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        lease = self.a_lease(data)
        self.machine.queue.extend(self.machine.lost(lease))
        lease.inflight = {}

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        self.machine.check_invariants()
        numbers = [task.number for task in self.machine.queue]
        for lease in self.machine.leases.values():
            numbers += lease.inflight
        assert sorted(numbers) == sorted(self.open)

    def teardown(self) -> None:
        """A new worker that answers everything gets everything."""
        if not hasattr(self, "machine"):
            return
        for lease in list(self.machine.leases.values()):
            self.machine.queue.extend(self.machine.lost(lease))
        lease = Lease(0, b"w")
        self.machine.granted(lease, now_s=0.0)
        while self.machine.queue:
            self.assign()
            assert lease.inflight, "an empty worker gets nothing"
            answered = len(lease.inflight)
            lease.inflight.clear()
            self.machine.finished(lease, answered, now_s=0.0)


TestDispatchProgram = DispatchProgram.TestCase
TestDispatchProgram.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True, database=None
)
