"""What becomes of actors: names, restarts, and ends, whatever happens in whatever order."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jray._core.machine.actors import (
    ALIVE,
    DEAD,
    PENDING,
    RESTARTING,
    UNREADY,
    Action,
    Actors,
    EndActorWorker,
    NameTaken,
    Place,
    Publish,
    Unplace,
)
from jray._core.specs import ActorSpec, ExitCause

KILLED = ExitCause(pid=7, exit_code=None, signal=9, last_lines="")

A = b"a" * 16
B = b"b" * 16
C = b"c" * 16

#: what the machine looks at, or lets go of; the rest is for others
_FIELDS: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(ActorSpec)) | {
    "class_blob": b"the class",
    "sources": {"cell": "the source"},
    "class_name": "A",
    "args_blob": b"the arguments",
    "dependencies": (),
    "namespace": "here",
    "max_task_retries": 0,
    "max_concurrency": 1,
    "concurrency_groups": (),
    "is_async": False,
}


def spec(
    actor_id: bytes = A,
    *,
    name: str | None = None,
    max_restarts: int = 0,
    is_detached: bool = False,
    job: bytes = b"job1",
) -> ActorSpec:
    own = {
        "actor_id": actor_id,
        "name": name,
        "max_restarts": max_restarts,
        "is_detached": is_detached,
        "job": job,
    }
    return ActorSpec(**(_FIELDS | own))


def living(actors: Actors, wanted: ActorSpec, *, worker: bytes = b"w1", client: int = 1) -> None:
    """Have an actor up and running."""
    actor_id = wanted.actor_id
    assert actors.create(wanted, client) == [Place(actor_id)]
    assert actors.placed(actor_id, worker) == []
    assert actors.made(actor_id, address=f"/{worker.decode()}", pid=7) == [Publish(actor_id)]
    actors.check_invariants()


def state_of(actors: Actors, actor_id: bytes = A) -> str:
    actors.check_invariants()
    return actors.records[actor_id].state


# --- life -----------------------------------------------------------------------------------------


def test_an_actor_is_placed_made_and_published() -> None:
    """Its maker is told where it listens."""
    actors = Actors()
    assert actors.create(spec(), 1) == [Place(A)]
    assert state_of(actors) == PENDING
    assert actors.placed(A, b"w1") == []
    assert actors.made(A, address="/w1", pid=7) == [Publish(A)]
    view = actors.records[A].view()
    assert (view.state, view.address, view.pid) == (ALIVE, "/w1", 7)
    assert actors.records[A].subscribers == {1}


def test_an_actor_restarts_as_often_as_allowed() -> None:
    """The death after the last restart is for good, and says how its process ended."""
    actors = Actors()
    living(actors, spec(max_restarts=2))
    for restarts in (1, 2):
        assert actors.worker_died(A, KILLED) == [Publish(A), Place(A)]
        assert state_of(actors) == RESTARTING
        actors.placed(A, b"w2")
        actors.made(A, address="/w2", pid=8)
        assert actors.records[A].restarts == restarts
    assert actors.worker_died(A, KILLED) == [Unplace(A), Publish(A)]
    cause = actors.records[A].view().cause
    assert cause is not None
    assert cause.exit_cause == KILLED
    assert state_of(actors) == DEAD


def test_an_actor_restarts_for_ever_if_it_may() -> None:
    """max_restarts=-1 has no end."""
    actors = Actors()
    living(actors, spec(max_restarts=-1))
    for _ in range(100):
        assert Place(A) in actors.worker_died(A, KILLED)
        actors.placed(A, b"w2")
    assert state_of(actors) == RESTARTING


def test_a_death_while_its_constructor_runs_counts_as_a_restart() -> None:
    """As in Ray: without restarts left it is dead before it lived."""
    actors = Actors()
    actors.create(spec(max_restarts=1), 1)
    actors.placed(A, b"w1")
    assert Place(A) in actors.worker_died(A, KILLED)
    actors.placed(A, b"w2")
    actors.worker_died(A, KILLED)
    assert state_of(actors) == DEAD


def test_a_constructor_that_raises_is_not_tried_again() -> None:
    """Its exception is the cause of the death."""
    actors = Actors()
    actors.create(spec(max_restarts=5), 1)
    actors.placed(A, b"w1")
    ended = EndActorWorker(b"w1", force=True, reason="its constructor raised an exception")
    assert actors.init_failed(A, b"pickled") == [Unplace(A), ended, Publish(A)]
    cause = actors.records[A].cause
    assert cause is not None
    assert cause.init_error == b"pickled"
    assert actors.worker_died(A, KILLED) == []


def test_an_actor_that_exits_on_purpose_does_not_restart() -> None:
    """exit_actor is no failure, however many restarts are left."""
    actors = Actors()
    living(actors, spec(max_restarts=-1))
    assert actors.exiting(A, "exit_actor() was called") == []
    assert actors.worker_died(A, KILLED) == [Unplace(A), Publish(A)]
    cause = actors.records[A].cause
    assert cause is not None
    assert (cause.text, cause.exit_cause) == ("exit_actor() was called", None)


def test_an_exit_on_purpose_may_be_told_after_the_end() -> None:
    """News of the process's end can overtake its last message: the restart is called off."""
    actors = Actors()
    living(actors, spec(max_restarts=-1))
    actors.worker_died(A, KILLED)
    assert actors.exiting(A, "exit_actor() was called") == [Unplace(A), Publish(A)]
    assert state_of(actors) == DEAD


def test_a_dead_process_says_ready_in_vain() -> None:
    """Its last message, too, may come after the news of its end: nobody is sent to a dead address."""
    actors = Actors()
    actors.create(spec(max_restarts=1), 1)
    actors.placed(A, b"w1")
    actors.worker_died(A, KILLED)
    assert actors.made(A, address="/w1", pid=7) == []
    assert state_of(actors) == RESTARTING


# --- kill -----------------------------------------------------------------------------------------


def test_a_kill_is_for_good_unless_it_says_otherwise() -> None:
    """With no_restart its restarts don't matter."""
    actors = Actors()
    living(actors, spec(max_restarts=-1))
    ended = EndActorWorker(b"w1", force=True, reason="killed")
    assert actors.kill(A, no_restart=True, reason="killed") == [Unplace(A), ended, Publish(A)]
    assert state_of(actors) == DEAD
    assert actors.worker_died(A, KILLED) == [], "that is no news"
    assert actors.kill(A, no_restart=True, reason="again") == []


def test_a_kill_may_leave_the_restarts() -> None:
    """Without no_restart it is a failure like any other."""
    actors = Actors()
    living(actors, spec(max_restarts=1))
    assert actors.kill(A, no_restart=False, reason="killed") == [
        EndActorWorker(b"w1", force=True, reason="killed")
    ]
    assert state_of(actors) == ALIVE
    assert Place(A) in actors.worker_died(A, KILLED)
    actors.placed(A, b"w2")
    assert Publish(A) in actors.kill(A, no_restart=False, reason="killed")
    assert state_of(actors) == DEAD


def test_an_actor_killed_while_it_waits_for_a_worker_is_not_placed() -> None:
    """Where one was found meanwhile, that one is ended."""
    actors = Actors()
    living(actors, spec(max_restarts=3))
    actors.worker_died(A, KILLED)
    assert actors.kill(A, no_restart=False, reason="killed") == [], "there is nothing to end"
    assert actors.kill(A, no_restart=True, reason="killed") == [Unplace(A), Publish(A)]
    (action,) = actors.placed(A, b"w2")
    assert isinstance(action, EndActorWorker)
    assert (action.worker_id, action.force) == (b"w2", True)
    assert actors.made(A, address="/w2", pid=8) == []
    assert state_of(actors) == DEAD


# --- who keeps it ---------------------------------------------------------------------------------


def test_the_last_handle_ends_an_actor_after_what_it_has() -> None:
    """It is not killed, and it does not restart."""
    actors = Actors()
    living(actors, spec(max_restarts=-1))
    (action,) = actors.released(A)
    assert isinstance(action, EndActorWorker)
    assert not action.force
    assert state_of(actors) == ALIVE
    assert actors.worker_died(A, KILLED) == [Unplace(A), Publish(A)]


@pytest.mark.parametrize("is_placed", [False, True])
def test_an_actor_without_handles_is_not_made(is_placed: bool) -> None:
    """What nobody can call need not come to life."""
    actors = Actors()
    actors.create(spec(), 1)
    if is_placed:
        actors.placed(A, b"w1")
    actions = actors.released(A)
    assert any(isinstance(action, EndActorWorker) and action.force for action in actions) == is_placed
    assert state_of(actors) == DEAD


def test_a_detached_actor_outlives_everybody() -> None:
    """Its handles, its maker and its job."""
    actors = Actors()
    living(actors, spec(is_detached=True, name="n"))
    assert [*actors.released(A), *actors.client_gone(1), *actors.job_gone(b"job1")] == []
    assert state_of(actors) == ALIVE
    assert actors.lookup("here", "n") == A


@pytest.mark.parametrize("event", ["client", "job"])
def test_an_actor_goes_with_its_maker_and_with_its_job(event: str) -> None:
    """Those of others stay."""
    actors = Actors()
    living(actors, spec(A), client=1)
    living(actors, spec(B, job=b"job2"), client=2, worker=b"w2")
    actions = actors.client_gone(1) if event == "client" else actors.job_gone(b"job1")
    assert next(action for action in actions if isinstance(action, EndActorWorker)).worker_id == b"w1"
    assert (state_of(actors, A), state_of(actors, B)) == (DEAD, ALIVE)


def test_the_dead_keep_no_code_and_no_arguments() -> None:
    """A notebook makes thousands: what is left of a dead one is small."""
    actors = Actors()
    living(actors, spec())
    actors.kill(A, no_restart=True, reason="killed")
    left = actors.records[A].spec
    assert (left.class_blob, left.sources, left.args_blob, left.dependencies) == (b"", {}, b"", ())


# --- names ----------------------------------------------------------------------------------------


def test_a_name_belongs_to_one_living_actor() -> None:
    """It is free again once that is dead."""
    actors = Actors()
    living(actors, spec(A, name="n"))
    with pytest.raises(NameTaken):
        actors.create(spec(B, name="n"), 1)
    assert actors.reserve("here", "n", B) == A
    assert actors.reserve("elsewhere", "n", C) == C
    actors.kill(A, no_restart=True, reason="killed")
    living(actors, spec(B, name="n"), worker=b"w2")
    assert actors.names() == [("elsewhere", "n"), ("here", "n")]


def test_a_name_is_kept_through_a_restart() -> None:
    """Nobody takes it in the meantime."""
    actors = Actors()
    living(actors, spec(A, name="n", max_restarts=1))
    actors.worker_died(A, KILLED)
    assert actors.reserve("here", "n", B) == A


def test_a_reserved_name_goes_with_the_client_that_asked() -> None:
    """A client that dies between its reservation and its actor does not block the name for ever."""
    actors = Actors()
    assert actors.reserve("here", "n", A, 1) == A
    actors.client_gone(2)
    assert actors.lookup("here", "n") == A
    actors.client_gone(1)
    assert actors.lookup("here", "n") is None
    actors.check_invariants()


def test_only_its_reserver_gives_a_name_back() -> None:
    """Neither another actor nor, once created, the actor itself."""
    actors = Actors()
    actors.reserve("here", "n", A, 1)
    actors.unreserve("here", "n", B)
    assert actors.lookup("here", "n") == A
    actors.create(spec(A, name="n"), 1)
    actors.unreserve("here", "n", A)
    assert actors.lookup("here", "n") == A
    actors.check_invariants()


def test_an_actor_is_created_once() -> None:
    """A repeated message changes nothing."""
    actors = Actors()
    living(actors, spec(name="n"))
    assert actors.create(spec(name="n"), 1) == []
    assert state_of(actors) == ALIVE


def test_an_actor_may_wait_for_its_arguments() -> None:
    """It has its name and is known; once they are there it is placed."""
    actors = Actors()
    assert actors.announce(spec(name="n"), 1) == []
    assert state_of(actors) == UNREADY
    assert actors.lookup("here", "n") == A
    view = actors.subscribe(A, 2)
    assert view is not None
    assert view.state == UNREADY
    actors.check_invariants()
    assert actors.create(spec(name="n"), 1) == [Place(A)]
    assert actors.records[A].subscribers == {1, 2}
    assert state_of(actors) == PENDING


@pytest.mark.parametrize("end", ["kill", "released", "client_gone", "init_failed"])
def test_an_actor_may_end_before_its_arguments_are_there(end: str) -> None:
    """Then they come in vain, and its name is free."""
    actors = Actors()
    actors.announce(spec(name="n"), 1)
    actions = {
        "kill": lambda: actors.kill(A, no_restart=True, reason="why"),
        "released": lambda: actors.released(A),
        "client_gone": lambda: actors.client_gone(1),
        "init_failed": lambda: actors.init_failed(A, b"error"),
    }[end]()
    assert actions == [Unplace(A), Publish(A)]
    assert state_of(actors) == DEAD
    assert actors.create(spec(name="n"), 1) == []
    assert actors.lookup("here", "n") is None
    actors.check_invariants()


def test_who_asks_before_its_maker_has_told_of_it_is_told_too() -> None:
    """Messages of two processes may come in any order; who is gone meanwhile is forgotten."""
    actors = Actors()
    for client in (2, 3):
        assert actors.subscribe(A, client) is None
    actors.client_gone(3)
    actors.create(spec(), 1)
    assert actors.records[A].subscribers == {1, 2}
    actors.check_invariants()


def test_events_of_unknown_actors_change_nothing() -> None:
    """Messages may name what never came to be."""
    actors = Actors()
    assert actors.made(A, address="/w", pid=1) == []
    assert actors.init_failed(A, b"") == []
    assert actors.exiting(A, "why") == []
    assert actors.worker_died(A, KILLED) == []
    assert actors.kill(A, no_restart=True, reason="why") == []
    assert actors.released(A) == []


# --- anything in any order ------------------------------------------------------------------------


class ActorsProgram(RuleBasedStateMachine):
    """Plays the node and the clients, and looks on from outside."""

    @initialize()
    def begin(self) -> None:
        self.actors = Actors()
        self.specs: dict[bytes, ActorSpec] = {}
        #: wanted from the node and not placed
        self.to_place: set[bytes] = set()
        #: processes that are, or become, an actor
        self.processes: dict[bytes, bytes] = {}
        self.dead: set[bytes] = set()
        self.workers = 0

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Place):
                assert action.actor_id not in self.to_place | self.dead
                assert action.actor_id not in self.processes.values(), "a second process"
                self.to_place.add(action.actor_id)
            elif isinstance(action, Unplace):
                self.to_place.discard(action.actor_id)
            elif isinstance(action, EndActorWorker):
                assert action.worker_id in self.processes
            elif self.actors.records[action.actor_id].state == DEAD:
                assert action.actor_id not in self.dead, "it died twice"
                self.dead.add(action.actor_id)

    def an_actor(self, data: st.DataObject) -> bytes:
        return data.draw(st.sampled_from(sorted(self.specs)))

    @rule(
        name=st.sampled_from([None, None, "n", "m"]),
        restarts=st.integers(-1, 2),
        is_detached=st.booleans(),
        job=st.sampled_from([b"job1", b"job2"]),
        client=st.integers(1, 3),
        is_ready=st.booleans(),
    )
    def create(
        self, name: str | None, restarts: int, is_detached: bool, job: bytes, client: int, is_ready: bool
    ) -> None:
        actor_id = b"%016d" % len(self.specs)
        wanted = spec(actor_id, name=name, max_restarts=restarts, is_detached=is_detached, job=job)
        holder = None if name is None else self.actors.reserve("here", name, actor_id, client)
        if holder in {None, actor_id}:
            self.specs[actor_id] = wanted
            enter = self.actors.create if is_ready else self.actors.announce
            self.perform(enter(wanted, client))
        else:
            assert self.actors.records[holder].state != DEAD
            with pytest.raises(NameTaken):
                self.actors.create(wanted, client)

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def arguments_came(self, data: st.DataObject) -> None:
        actor_id = self.an_actor(data)
        record = self.actors.records[actor_id]
        was_unready = record.state == UNREADY
        actions = self.actors.create(self.specs[actor_id], record.client)
        assert actions == ([Place(actor_id)] if was_unready else [])
        self.perform(actions)

    @precondition(lambda self: self.to_place)
    @rule(data=st.data())
    def place(self, data: st.DataObject) -> None:
        actor_id = data.draw(st.sampled_from(sorted(self.to_place)))
        self.to_place.remove(actor_id)
        self.workers += 1
        worker = b"w%d" % self.workers
        self.processes[worker] = actor_id
        self.perform(self.actors.placed(actor_id, worker))

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def process_dies(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.processes)))
        self.perform(self.actors.worker_died(self.processes.pop(worker), KILLED))

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def made(self, data: st.DataObject) -> None:
        self.perform(self.actors.made(self.an_actor(data), address="/somewhere", pid=7))

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def init_failed(self, data: st.DataObject) -> None:
        self.perform(self.actors.init_failed(self.an_actor(data), b"error"))

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def exiting(self, data: st.DataObject) -> None:
        self.perform(self.actors.exiting(self.an_actor(data), "exit_actor() was called"))

    @precondition(lambda self: self.specs)
    @rule(data=st.data(), no_restart=st.booleans())
    def kill(self, data: st.DataObject, no_restart: bool) -> None:
        actor_id = self.an_actor(data)
        self.perform(self.actors.kill(actor_id, no_restart=no_restart, reason="killed"))
        assert not no_restart or actor_id in self.dead

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def released(self, data: st.DataObject) -> None:
        self.perform(self.actors.released(self.an_actor(data)))

    @rule(client=st.integers(1, 3))
    def client_gone(self, client: int) -> None:
        self.perform(self.actors.client_gone(client))

    @rule(job=st.sampled_from([b"job1", b"job2"]))
    def job_gone(self, job: bytes) -> None:
        self.perform(self.actors.job_gone(job))
        assert {a for a, s in self.specs.items() if s.job == job and not s.is_detached} <= self.dead

    @precondition(lambda self: self.specs)
    @rule(data=st.data(), client=st.integers(1, 3))
    def subscribe(self, data: st.DataObject, client: int) -> None:
        actor_id = self.an_actor(data)
        view = self.actors.subscribe(actor_id, client)
        assert view is not None
        assert (view.state == DEAD) == (actor_id in self.dead)

    @invariant()
    def tables_agree(self) -> None:
        self.actors.check_invariants()
        records = self.actors.records
        assert {actor for actor, record in records.items() if record.state == DEAD} == self.dead
        names = [(s.name, actor) for actor, s in self.specs.items() if s.name and actor not in self.dead]
        assert sorted(("here", name) for name, _ in names) == self.actors.names(), "a name is lost, or taken"
        for actor_id, record in records.items():
            limit = self.specs[actor_id].max_restarts
            assert limit < 0 or record.restarts <= limit
            if record.state == RESTARTING:
                assert record.restarts > 0
            if record.state != DEAD:
                has_process = actor_id in self.processes.values()
                is_to_be_placed = actor_id in self.to_place or record.state == UNREADY
                assert has_process != is_to_be_placed, "neither placed nor to be"
                assert has_process == (record.worker_id is not None)


TestActorsProgram = ActorsProgram.TestCase
TestActorsProgram.settings = settings(
    max_examples=80, stateful_step_count=50, deadline=None, derandomize=True, database=None
)
