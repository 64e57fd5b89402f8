"""A node's leases: who gets which worker, what waits and why, and that nothing gets lost."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Hashable, Iterator
from types import FrameType
from typing import Any

import pytest

from jray._core.machine.leases import (
    ACTOR,
    ENDING,
    IDLE,
    MOST_FAILED_STARTS,
    STARTING,
    Action,
    Demand,
    EndWorker,
    Grant,
    Infeasible,
    Leases,
    PlaceActor,
    Refuse,
    StartWorker,
    WantIdle,
    WorkersFail,
)
from jray._core.resources import UNITS, Misfit, NodeResources, ResourceSet
from jray._core.strategies import Where

ONE_CPU = ResourceSet({"CPU": UNITS})
NODE = b"n1"
POOL = ("job", ())
OTHER_POOL = ("job", ("env",))


def worker_ids() -> Iterator[bytes]:
    return (b"w%d" % number for number in itertools.count(1))


def make(
    *, cpus: int = 2, gpus: int = 0, max_starting: int = 4, soft_limit: int = 2, **custom: int
) -> Leases:
    total = {"CPU": cpus * UNITS, "GPU": gpus * UNITS} | {name: n * UNITS for name, n in custom.items()}
    resources = NodeResources(ResourceSet(total), [str(i) for i in range(gpus)])
    leases = Leases(worker_ids())
    leases.node_joined(NODE, resources, max_starting=max_starting, soft_limit=soft_limit)
    return leases


def resources_of(leases: Leases) -> NodeResources:
    return leases.accounts.nodes[NODE].resources


def amounts(**quantities: float) -> ResourceSet:
    return ResourceSet.from_floats(quantities)


class Script:
    """Drives a machine the way a node does, and checks it after each event."""

    def __init__(self, leases: Leases) -> None:
        self.leases = leases
        self.now_s = 0.0

    def _checked(self, actions: list[Action]) -> list[Action]:
        self.leases.check_invariants()
        return actions

    def wants(
        self,
        client: int,
        wanted: int,
        request: ResourceSet = ONE_CPU,
        *,
        kind: int = 0,
        pool: Hashable = POOL,
    ) -> list[Action]:
        return self._checked(self.leases.demand(Demand(client, kind, request, pool, wanted, name=f"f{kind}")))

    def places(self, actor: bytes, request: ResourceSet = ONE_CPU, *, client: int = 1) -> list[Action]:
        demand = Demand(client, 0, request, POOL, 1, name="actor A", actor_id=actor)
        return self._checked(self.leases.demand(demand))

    def ready(self, worker_id: bytes) -> list[Action]:
        return self._checked(self.leases.worker_ready(worker_id, now_s=self.now_s))

    def dies(self, worker_id: bytes) -> list[Action]:
        return self._checked(self.leases.worker_died(worker_id))

    def returns(self, lease: int, *, retire: bool = False) -> list[Action]:
        self.now_s += 1
        return self._checked(self.leases.returned(lease, retire=retire, now_s=self.now_s))

    def blocks(self, worker_id: bytes) -> list[Action]:
        return self._checked(self.leases.blocked(worker_id))

    def ticks(self, *, idle_s: float = 1.0) -> list[Action]:
        return self._checked(self.leases.tick(now_s=self.now_s, idle_s=idle_s))

    def has_idle(self, count: int, pool: Hashable = POOL) -> list[bytes]:
        """Have `count` idle workers, and return their ids."""
        started = [
            action for action in self.leases.prestart(NODE, pool, count) if isinstance(action, StartWorker)
        ]
        for action in started:
            self.ready(action.worker_id)
        return [action.worker_id for action in started]

    @property
    def free(self) -> dict[str, float]:
        return resources_of(self.leases).available.to_floats()


def granted(actions: list[Action]) -> list[tuple[int, int, bytes]]:
    return [(a.client, a.lease_number, a.worker_id) for a in actions if isinstance(a, Grant)]


def kinds(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


# --- stories --------------------------------------------------------------------------------------


def test_a_first_lease_starts_a_worker_and_is_granted_once_that_is_ready() -> None:
    """Resources are set aside at once; the grant follows the worker."""
    script = Script(make())
    assert script.wants(1, 1) == [StartWorker(b"w1", POOL, NODE)]
    assert script.free == {"CPU": 1}
    (grant,) = script.ready(b"w1")
    assert isinstance(grant, Grant)
    assert (grant.client, grant.class_number, grant.worker_id) == (1, 0, b"w1")
    assert script.returns(grant.lease_number) == []
    assert script.free == {"CPU": 2}
    assert script.leases.workers[b"w1"].state == IDLE


def test_an_idle_worker_is_leased_at_once_the_one_used_last_first() -> None:
    """Its caches are the warmest."""
    script = Script(make())
    first, second = script.has_idle(2)
    both = granted(script.wants(1, 2))
    assert {worker for _, _, worker in both} == {first, second}
    lease_of = {worker: lease for _, lease, worker in both}
    script.returns(lease_of[second])
    script.returns(lease_of[first])
    assert [worker for _, _, worker in granted(script.wants(1, 1))] == [first]


def test_workers_are_not_shared_between_pools() -> None:
    """Another environment, or job, needs workers of its own."""
    script = Script(make())
    script.has_idle(2)
    assert script.wants(1, 1, pool=OTHER_POOL) == [StartWorker(b"w3", OTHER_POOL, NODE)]


def test_no_more_workers_start_at_once_than_allowed() -> None:
    """The rest of the demands waits, and says so."""
    script = Script(make(cpus=8, max_starting=2))
    assert kinds(script.wants(1, 8)) == ["StartWorker", "StartWorker"]
    ((demand, reason),) = script.leases.waiting()
    assert (demand.wanted, reason) == (6, "waits for a worker to start")
    assert kinds(script.ready(b"w1")) == ["Grant", "StartWorker"]


def test_who_holds_what_a_demand_waits_for_is_known_by_name_and_cell() -> None:
    """Actors come first; who holds only other things, or has lent its CPU, holds nothing of it."""
    script = Script(make(cpus=3, x=1))
    workers = script.has_idle(4)
    script.leases.demand(Demand(1, 1, ONE_CPU, POOL, 1, cell=4, name="f"))
    script.leases.demand(Demand(2, 2, amounts(x=1), POOL, 1, cell=5, name="g"))
    script.leases.demand(Demand(2, 3, ONE_CPU, POOL, 1, cell=6, name="h"))
    script.places(b"a")
    script.leases.demand(waiting := Demand(3, 0, ONE_CPU, POOL, 1, cell=7, name="late"))
    ((demand, reason),) = script.leases.waiting()
    assert (demand, reason) == (waiting, "waits for 1 CPU: 3 of 3 in use")
    held = [(worker.name, worker.cell) for worker in script.leases.holders(waiting)]
    assert (held[0], sorted(held[1:])) == (("actor A", 0), [("f", 4), ("h", 6)])
    (other,) = [worker for worker in workers if script.leases.workers[worker].name == "h"]
    script.places(b"b")  # its turn comes after the other's, whose worker starts when a CPU is lent
    script.blocks(other)
    ((demand, _),) = script.leases.waiting()
    assert [worker.name for worker in script.leases.holders(demand)] == ["actor A", "f"]


def test_what_never_fits_is_said_once() -> None:
    """An infeasible demand is told with numbers, waits, and keeps nobody else waiting."""
    script = Script(make())
    (said,) = script.wants(1, 3, amounts(CPU=4), kind=7)
    assert said == Infeasible(1, 0, "f7", Misfit("needs 4 CPU", "the node has 2 CPU"))
    assert script.wants(1, 5, amounts(CPU=4), kind=7) == []
    assert granted(script.wants(1, 1)) == []
    assert [reason for _, reason in script.leases.waiting()] == ["needs 4 CPU, the node has 2 CPU"]
    assert script.wants(1, 0, amounts(CPU=4), kind=7) == []
    assert script.leases.waiting() == []


def test_a_starting_worker_keeps_the_promise_of_one_that_died() -> None:
    """The demand waits for another worker, and loses neither its resources nor its turn."""
    script = Script(make())
    script.wants(1, 1)
    assert script.dies(b"w1") == [StartWorker(b"w2", POOL, NODE)]
    assert [client for client, _, _ in granted(script.ready(b"w2"))] == [1]


def test_what_is_promised_counts_as_wanted() -> None:
    """A client that states its wants again gets no more than it said last."""
    script = Script(make(cpus=4))
    script.wants(1, 2)
    script.wants(1, 2)
    grants = [*granted(script.ready(b"w1")), *granted(script.ready(b"w2"))]
    assert len(grants) == 2
    assert script.leases.waiting() == []


def test_a_promise_that_is_not_wanted_any_more_is_dropped() -> None:
    """Its resources are free before its worker is there, which then is idle."""
    script = Script(make())
    script.wants(1, 2)
    script.wants(1, 0)
    assert script.free == {"CPU": 2}
    assert script.ready(b"w1") == []
    assert script.leases.workers[b"w1"].state == IDLE


def test_clients_take_turns() -> None:
    """One that wants a thousand leases does not keep out another that wants as many."""
    script = Script(make(cpus=1))
    (worker,) = script.has_idle(1)
    script.wants(1, 1000)
    script.wants(2, 1000)
    turns = []
    lease = script.leases.workers[worker].lease_number
    for _ in range(6):
        ((client, lease, _),) = granted(script.returns(lease))
        turns.append(client)
    assert sorted(turns[:2]) == sorted(turns[2:4]) == sorted(turns[4:]) == [1, 2]


def test_kinds_take_turns() -> None:
    """So do demands for different resources that need the same worker."""
    script = Script(make(cpus=1))
    (worker,) = script.has_idle(1)
    script.wants(1, 10)
    script.wants(1, 10, amounts(CPU=0.6), kind=1)
    turns = []
    for _ in range(4):
        (grant,) = [
            a for a in script.returns(script.leases.workers[worker].lease_number) if isinstance(a, Grant)
        ]
        turns.append(grant.class_number)
    assert sorted(turns[:2]) == sorted(turns[2:]) == [0, 1]


def test_a_task_that_waits_lends_its_cpu() -> None:
    """A nested task runs on one CPU; when the outer goes on, both hold it for a while (Ray's rule)."""
    script = Script(make(cpus=1))
    outer, inner = script.has_idle(2)
    ((_, outer_lease, outer_worker),) = granted(script.wants(1, 1))
    script.wants(2, 1)
    ((client, inner_lease, inner_worker),) = granted(script.blocks(outer_worker))
    assert client == 2
    assert {outer_worker, inner_worker} == {outer, inner}
    script.leases.unblocked(outer_worker)
    assert script.free == {}
    assert granted(script.wants(3, 1)) == []
    assert granted(script.returns(inner_lease)) == [], "the CPU is still held by the outer task"
    assert [client for client, _, _ in granted(script.returns(outer_lease))] == [3]


def test_a_blocked_worker_that_dies_gives_everything_back_once() -> None:
    """Its CPU was given back already, its GPU was not."""
    script = Script(make(gpus=1))
    ids = script.has_idle(1)
    script.wants(1, 1, amounts(CPU=1, GPU=1))
    script.blocks(ids[0])
    assert script.free == {"CPU": 2}
    script.dies(ids[0])
    assert script.free == {"CPU": 2, "GPU": 1}


def test_an_actor_that_waits_keeps_its_cpu() -> None:
    """Only tasks lend theirs (Ray's rule); the end of its waiting takes nothing either."""
    script = Script(make())
    (worker,) = script.has_idle(1)
    script.places(b"a")
    assert script.blocks(worker) == []
    script.leases.unblocked(worker)
    assert script.free == {"CPU": 1}


def test_an_actor_that_asks_for_nothing_gives_its_cpu_back_once_made() -> None:
    """It needed a CPU to start; another may have it now.  Telling twice changes nothing."""
    script = Script(make(cpus=1))
    script.has_idle(2)
    assert kinds(script.places(b"a")) == ["PlaceActor"]
    script.wants(2, 1)
    assert [client for client, _, _ in granted(script.leases.actor_made(b"a", ResourceSet()))] == [2]
    assert script.leases.actor_made(b"a", ResourceSet()) == []
    script.leases.check_invariants()


def test_an_actor_keeps_its_gpu() -> None:
    """Of all that changes when it is made, its GPU is not: its process knows that one only."""
    script = Script(make(gpus=2))
    script.has_idle(2)
    script.places(b"a", amounts(GPU=1))
    (second,) = script.places(b"b", amounts(GPU=1))
    assert isinstance(second, PlaceActor)
    first = script.leases.worker_of(b"a")
    assert first is not None
    script.dies(first.worker_id)
    script.leases.actor_made(b"b", amounts(GPU=1))
    kept = script.leases.worker_of(b"b")
    assert kept is not None
    assert kept.allocation is second.allocation


@pytest.mark.parametrize("is_ready", [False, True], ids=["before its worker", "after its worker"])
def test_a_dropped_actor_holds_nothing(is_ready: bool) -> None:
    """Whether it waits for a worker or for resources, nothing is kept for it."""
    script = Script(make())
    script.places(b"a")
    script.places(b"b", amounts(CPU=2))
    if is_ready:
        script.ready(b"w1")
    script.leases.actor_dropped(b"b")
    assert script.leases.waiting() == []
    if not is_ready:
        script.leases.actor_dropped(b"a")
        assert script.free == {"CPU": 2}
    script.leases.check_invariants()


def test_the_workers_of_a_dead_client_end() -> None:
    """They run what nobody can get any more; its demands and promises go with it."""
    script = Script(make())
    (worker,) = script.has_idle(1)
    script.wants(1, 5)
    actions = script.leases.client_gone(1)
    assert EndWorker(worker, "the owner of its task died", force=True) in actions
    assert script.leases.waiting() == []
    assert script.free == {"CPU": 2}
    script.leases.check_invariants()


def test_a_dead_clients_actor_is_still_placed() -> None:
    """A detached actor outlives its maker; who owns actors drops the others."""
    script = Script(make())
    script.places(b"a", client=1)
    script.leases.client_gone(1)
    assert script.ready(b"w1") == [PlaceActor(b"a", b"w1", script.leases.workers[b"w1"].allocation)]  # type: ignore[arg-type]


def test_the_end_of_a_job_leaves_what_outlives_it() -> None:
    """A detached actor that waits for its worker gets it; what runs for such an actor goes on."""
    script = Script(make(cpus=4))
    spare, used = script.has_idle(2)
    ((_, _, busy),) = granted(script.wants(7, 1))
    assert busy == used
    script.leases.prestart(NODE, POOL, 3)
    script.places(b"a")
    waiting = script.places(b"b", amounts(CPU=2))
    assert kinds(waiting) == []
    actions = script.leases.pool_gone([POOL])
    script.leases.check_invariants()
    ended = {action.worker_id for action in actions if isinstance(action, EndWorker)}
    assert spare not in ended, "it became actor a"
    assert used not in ended
    starting = [worker for worker in script.leases.workers.values() if worker.state == STARTING]
    assert len(starting) == 1, "as many as there are promises"
    assert kinds(script.ready(starting[0].worker_id)) == ["PlaceActor"]


def test_idle_workers_of_an_ended_job_end_soon() -> None:
    """The soft limit is for workers that somebody may want."""
    script = Script(make(soft_limit=8))
    script.wants(1, 1)
    script.leases.pool_gone([POOL])
    ((_, lease, worker),) = granted(script.ready(b"w1"))
    script.returns(lease)
    assert script.ticks() == []
    script.now_s += 1
    assert script.ticks() == [EndWorker(worker, "idle", force=False)]


def test_idle_workers_end_beyond_the_soft_limit_the_longest_idle_first() -> None:
    """As many stay as there are CPUs."""
    script = Script(make(soft_limit=1))
    ids = script.has_idle(2)
    assert script.ticks() == []
    script.now_s += 1
    assert script.ticks() == [EndWorker(ids[0], "idle", force=False)]
    assert script.leases.workers[ids[0]].state == ENDING


def test_a_worker_whose_objects_are_borrowed_stays() -> None:
    """It refuses to end, and can be leased again."""
    script = Script(make(soft_limit=0))
    (worker,) = script.has_idle(1)
    script.now_s += 1
    script.ticks()
    assert granted(script.wants(1, 1)) == []
    ((_, _, leased),) = granted(script.leases.kept(worker, now_s=script.now_s))
    assert leased == worker
    assert script.leases.kept(worker, now_s=script.now_s) == [], "it is not ending"
    script.leases.check_invariants()


def test_a_worker_returned_for_good_ends() -> None:
    """After max_calls nobody gets it; what it held is free."""
    script = Script(make())
    (worker,) = script.has_idle(1)
    ((_, lease, _),) = granted(script.wants(1, 1))
    assert script.returns(lease, retire=True) == [EndWorker(worker, "max_calls reached", force=False)]
    assert script.free == {"CPU": 2}
    assert script.returns(lease) == [], "its number says nothing any more"


def test_holders_hear_that_others_wait_and_that_nobody_does_any_more() -> None:
    """So they give idle leases back early, and stop to when there is no need."""
    script = Script(make(cpus=1))
    (worker,) = script.has_idle(1)
    ((_, lease, _),) = granted(script.wants(1, 1))
    assert script.wants(2, 1) == [WantIdle(1, wanted=True)]
    assert script.wants(2, 3) == []
    assert script.wants(2, 0) == [WantIdle(1, wanted=False)]
    script.wants(2, 1)
    ((client, _, again),) = granted(script.returns(lease))
    assert (client, again) == (2, worker)


def test_a_class_is_not_asked_to_make_room_for_itself() -> None:
    """One client with one kind of task keeps its leases, however long its queue is; another kind counts."""
    script = Script(make(cpus=1))
    script.has_idle(1)
    assert kinds(script.wants(1, 100)) == ["Grant"]
    assert script.wants(1, 1, amounts(CPU=0.5), kind=1) == [WantIdle(1, wanted=True)]


def test_a_worker_that_cannot_start_is_tried_once_a_tick() -> None:
    """Else a broken environment would cost a fork per millisecond, and resources that others could use."""
    script = Script(make(cpus=2))
    script.wants(1, 2, pool=OTHER_POOL)
    said: list[Action] = []
    for number in range(1, MOST_FAILED_STARTS + 1):
        said = script.dies(b"w%d" % number)
    assert [action for action in said if isinstance(action, WorkersFail)] == [WorkersFail(1, 0, "f0", NODE)]
    for worker in list(script.leases.workers):
        if script.leases.workers[worker].state == STARTING and worker != b"w7":
            script.dies(worker)
    assert script.free == {"CPU": 2}
    assert kinds(script.wants(2, 2)) == ["StartWorker", "StartWorker"], "other pools are not held up"
    script.wants(2, 0)
    (probe,) = [action for action in script.ticks() if isinstance(action, StartWorker)]
    assert script.ticks() == []
    assert kinds(script.dies(probe.worker_id)) == []
    (probe,) = [action for action in script.ticks() if isinstance(action, StartWorker)]
    assert kinds(script.ready(probe.worker_id)) == ["Grant", "StartWorker"], "and then all is as before"


def test_the_end_of_a_job_ends_the_tries_to_start_its_workers() -> None:
    """A worker that was to be tried at the next tick is forgotten: it has no process to end."""
    script = Script(make(cpus=1))
    script.wants(1, 1)
    for number in range(1, MOST_FAILED_STARTS + 1):
        script.dies(b"w%d" % number)
    script.leases.client_gone(1)
    assert script.leases.pool_gone([POOL]) == []
    assert script.leases.workers == {}
    assert script.ticks() == []


def test_events_of_unknown_workers_change_nothing() -> None:
    """Messages may be older than the end of what they are about."""
    script = Script(make())
    for event in (script.dies, script.ready, script.blocks, script.leases.unblocked):
        assert not event(b"nobody")
    assert script.leases.actor_made(b"nobody", ONE_CPU) == []
    assert script.leases.kept(b"nobody", now_s=0) == []
    assert script.free == {"CPU": 2}


def test_thousands_of_demands_and_hundreds_of_workers_cost_little() -> None:
    """An event costs what it changes: none walks all demands, or all workers, for each grant."""

    def run(size: int) -> None:
        leases = Script(make(cpus=40 * size, max_starting=40 * size, soft_limit=40 * size)).leases
        leases.prestart(NODE, POOL, 40 * size)
        for worker in list(leases.workers):
            leases.worker_ready(worker, now_s=0.0)
        for number in range(500 * size):
            leases.demand(Demand(1, 0, ONE_CPU, POOL, 1, actor_id=b"a%d" % number))
        for _ in range(100 * size):
            worker_id = next(w.worker_id for w in leases.workers.values() if w.state == ACTOR)
            (start,) = leases.worker_died(worker_id)
            assert isinstance(start, StartWorker)
            leases.worker_ready(start.worker_id, now_s=0.0)
        leases.check_invariants()

    once, ten_times = lines_run(lambda: run(1)), lines_run(lambda: run(10))
    assert ten_times < 15 * once, (
        f"{once} lines, and {ten_times} for ten times as many: something is quadratic"
    )


def lines_run(function: Callable[[], None]) -> int:
    """Count the lines that a function runs: what it costs, on any machine."""
    count = 0

    def trace(_: FrameType, event: str, __: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


# --- several nodes ----------------------------------------------------------------------------------


def join(leases: Leases, name: bytes, cpus: int) -> list[Action]:
    resources = NodeResources(ResourceSet({"CPU": cpus * UNITS}))
    return leases.node_joined(name, resources, max_starting=8, soft_limit=8)


def test_a_node_that_joins_takes_what_never_fitted() -> None:
    """What was infeasible waits, and goes there at once."""
    script = Script(make(cpus=1))
    assert kinds(script.wants(1, 1, amounts(CPU=4))) == ["Infeasible"]
    assert join(script.leases, b"n2", 4) == [StartWorker(b"w1", POOL, b"n2")]
    assert script.leases.waiting() == []


def test_the_demands_on_a_node_that_leaves_go_elsewhere() -> None:
    """Those promised a place there wait again; its workers are forgotten, and others' leases are not touched."""
    script = Script(make(cpus=1))
    join(script.leases, b"n2", 1)
    (here, there) = script.wants(1, 2)
    assert isinstance(here, StartWorker)
    assert isinstance(there, StartWorker)
    assert {here.node_id, there.node_id} == {NODE, b"n2"}
    ((_, lease, _),) = granted(script.ready(here.worker_id))
    assert script.leases.node_left(there.node_id) == []
    script.leases.check_invariants()
    assert [reason for _, reason in script.leases.waiting()] == ["waits for 1 CPU: 1 of 1 in use"]
    assert [client for client, _, _ in granted(script.returns(lease))] == [1]


def test_what_must_run_on_a_node_that_is_gone_is_refused() -> None:
    """It would wait for ever: ids of nodes do not come back."""
    script = Script(make(cpus=2))
    join(script.leases, b"n2", 2)
    only = Demand(1, 5, ONE_CPU, POOL, 3, where=Where(node_id=b"n2"))
    (start, other) = script.leases.demand(only)
    assert isinstance(start, StartWorker)
    assert isinstance(other, StartWorker)
    (refused,) = script.leases.node_left(b"n2")
    assert isinstance(refused, Refuse)
    assert (refused.client, refused.class_number) == (1, 5)
    assert "which" not in refused.reason
    assert "must run on the node 6e32" in refused.reason
    assert script.leases.waiting() == []


def test_why_a_demand_waits_is_said_of_all_nodes() -> None:
    """Numbers are those of the nodes that could ever serve it."""
    script = Script(make(cpus=2))
    join(script.leases, b"n2", 3)
    join(script.leases, b"n3", 1)
    script.wants(1, 6)
    script.wants(2, 1, amounts(CPU=2), kind=1)
    ((_, reason),) = script.leases.waiting()
    assert reason == "waits for 2 CPU: 5 of 5 in use on 2 nodes"
    (said,) = script.wants(3, 1, amounts(CPU=9), kind=2)
    assert isinstance(said, Infeasible)
    assert said.misfit.reason == "needs 9 CPU, of 3 nodes the nearest has 2 CPU"


def test_a_large_request_is_not_starved_by_small_ones() -> None:
    """Passed over for a tick, it has a place kept: what is given back there is not given to others."""
    script = Script(make(cpus=4))
    script.has_idle(4)
    small = granted(script.wants(1, 1000))
    script.wants(2, 1, amounts(CPU=4), kind=1)

    def one_returns() -> list[int]:
        _, lease, _ = small.pop(0)
        again = granted(script.returns(lease))
        small.extend(found for found in again if found[0] == 1)
        return [client for client, _, _ in again]

    script.ticks()
    assert one_returns() == [1], "it fits, and nobody has waited for long"
    script.ticks()
    assert [one_returns() for _ in range(4)] == [[], [], [], [2]]


def test_a_place_where_nothing_is_given_back_is_not_kept() -> None:
    """What runs there may run for hours, or wait for the very tasks that are kept out."""
    script = Script(make(cpus=4))
    script.has_idle(4)
    small = granted(script.wants(1, 1000))
    script.wants(2, 1, amounts(CPU=4), kind=1)
    script.ticks()
    (_, lease, _) = small.pop(0)
    assert [client for client, _, _ in granted(script.returns(lease))] == [1]
    script.ticks()
    (_, lease, _) = small.pop(0)
    assert granted(script.returns(lease)) == []
    assert granted(script.ticks()) == []
    assert [client for client, _, _ in granted(script.ticks())] == [1], "given to others again"


def test_what_takes_nothing_of_it_is_not_held_up_where_a_place_is_kept() -> None:
    """Tasks without a CPU come and go while others wait for one: they give back nothing that these lack."""
    script = Script(make(cpus=4))
    script.has_idle(8)
    small = granted(script.wants(1, 1000))
    script.wants(2, 1, amounts(CPU=4), kind=1)
    script.ticks()
    ((_, free_lease, _),) = granted(script.wants(3, 1, ResourceSet(), kind=2))
    script.returns(free_lease)
    script.ticks()
    assert [client for client, _, _ in granted(script.returns(small.pop(0)[1]))] == [1], "nothing is kept"
    script.ticks()
    assert granted(script.returns(small.pop(0)[1])) == [], "a place is kept, for what gives back is a CPU"
    assert [client for client, _, _ in granted(script.wants(3, 1, ResourceSet(), kind=2))] == [3]
