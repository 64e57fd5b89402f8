"""How actors end: constructor errors, kill, exits, restarts, and what becomes of their calls."""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import signal
from typing import Any

import numpy as np
import pytest

import jray
import jray.actor
from jray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayTaskError
from tests.behaviour import differences
from tests.behaviour.support import Bench, Gate, Tally, wait_gone, wait_until

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
class Mortal:
    """Notes each start, and dies when told to."""

    def __init__(self, starts: Tally, argument: Any = None) -> None:
        self.starts = starts.add(os.getpid())
        self.argument = argument
        self.value = 0

    def add(self) -> int:
        self.value += 1
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def get_argument(self) -> Any:
        return self.argument

    def die(self) -> None:
        os._exit(1)

    def die_until(self, runs: Tally, survive_at: int) -> int:
        attempt = runs.add()
        if attempt < survive_at:
            os._exit(1)
        return attempt

    def stumble(self, runs: Tally, survive_at: int) -> int:
        attempt = runs.add()
        if attempt < survive_at:
            message = f"stumbled at {attempt}"
            raise ValueError(message)
        return attempt

    def wait(self, gate: Gate, here: Tally) -> str:
        here.add()
        gate.wait()
        return "waited"

    def leave(self) -> None:
        jray.actor.exit_actor()

    def restarted(self) -> bool:
        return jray.get_runtime_context().was_current_actor_reconstructed


def get_when_up(call: Any) -> Any:
    """What `call()` gives once the actor is up again."""

    def attempt() -> Any:
        try:
            return [jray.get(call())]
        except ActorUnavailableError:
            return None

    return wait_until(attempt)[0]


@pytest.mark.sentences("S89")
def test_a_failed_constructor_fails_every_call(bench: Bench) -> None:
    """Calls raise ActorDiedError with the traceback; `__init__` runs once, restarts or not."""
    runs = bench.tally()

    @jray.remote(max_restarts=3)
    class Broken:
        def __init__(self) -> None:
            runs.add()
            message = "no start"
            raise ValueError(message)

        def ping(self) -> None:
            pass

    broken = Broken.remote()
    for _ in range(2):
        with pytest.raises(ActorDiedError, match="no start") as caught:
            jray.get(broken.ping.remote())
        assert caught.value.actor_init_failed
    assert runs.count() == 1


@pytest.mark.sentences("S89")
def test_an_error_in_a_method_leaves_the_actor_alive(bench: Bench) -> None:
    """An exception fails its call only, and the state stays."""
    mortal = Mortal.remote(bench.tally("starts"))
    jray.get(mortal.add.remote())
    with pytest.raises(ValueError, match="stumbled at 1"):
        jray.get(mortal.stumble.remote(bench.tally(), 5))
    assert jray.get(mortal.add.remote()) == 2


@pytest.mark.sentences("S96")
def test_an_actor_without_handles_ends(bench: Bench) -> None:
    """When the last handle is gone the process ends, and its atexit functions run."""
    done = bench.gate("atexit")

    @jray.remote
    class Tidy:
        def __init__(self) -> None:
            atexit.register(done.open)

        def pid(self) -> int:
            return os.getpid()

    tidy = Tidy.remote()
    pid = jray.get(tidy.pid.remote())
    del tidy
    gc.collect()
    wait_gone(pid)
    done.wait()


@pytest.mark.sentences("S96")
def test_an_actor_without_handles_finishes_its_work_first(bench: Bench) -> None:
    """What was submitted before the last handle went is still done."""
    gate, here = bench.gate(), bench.tally()
    mortal = Mortal.remote(bench.tally("starts"))
    refs = [mortal.wait.remote(gate, here), mortal.add.remote(), mortal.pid.remote()]
    here.wait_for(1)
    del mortal
    gc.collect()
    gate.open()
    waited, value, pid = jray.get(refs)
    assert (waited, value) == ("waited", 1)
    wait_gone(pid)


@pytest.mark.sentences("S3", "S96")
def test_a_handle_elsewhere_keeps_the_actor_alive(bench: Bench) -> None:
    """A handle in a put object, or in another actor, counts like one in the driver."""

    @jray.remote
    class Holder:
        def keep(self, nested: list[Any]) -> None:
            self.kept = nested[0]

        def add(self) -> int:
            return jray.get(self.kept.add.remote())

    holder, mortal = Holder.remote(), Mortal.remote(bench.tally("starts"))
    pid = jray.get(mortal.pid.remote())
    jray.get(holder.keep.remote([mortal]))
    del mortal
    gc.collect()
    assert jray.get([holder.add.remote(), holder.add.remote()]) == [1, 2]
    jray.kill(holder)
    wait_gone(pid)


@pytest.mark.sentences("S97")
def test_kill_ends_running_and_queued_calls(bench: Bench) -> None:
    """After `kill` running, queued and new calls raise ActorDiedError, and the process is gone."""
    mortal = Mortal.remote(bench.tally("starts"))
    pid = jray.get(mortal.pid.remote())
    here = bench.tally()
    refs = [mortal.wait.remote(bench.gate(), here), mortal.add.remote()]
    here.wait_for(1)
    jray.kill(mortal)
    for ref in [*refs, mortal.add.remote()]:
        with pytest.raises(ActorDiedError):
            jray.get(ref)
    wait_gone(pid)


@pytest.mark.sentences("S97")
def test_kill_runs_no_atexit(bench: Bench) -> None:
    """A killed actor's atexit functions don't run."""
    done = bench.gate("atexit")

    @jray.remote
    class Tidy:
        def pid(self) -> int:
            atexit.register(done.open)
            return os.getpid()

    tidy = Tidy.remote()
    pid = jray.get(tidy.pid.remote())
    jray.kill(tidy)
    wait_gone(pid)
    assert not done.is_open()


@pytest.mark.sentences("S97")
def test_kill_with_restart(bench: Bench) -> None:
    """no_restart=False restarts the actor if it has restarts left; no_restart=True never does."""
    starts = bench.tally("starts")
    mortal = Mortal.options(max_restarts=1).remote(starts)
    first = jray.get(mortal.pid.remote())
    jray.kill(mortal, no_restart=False)
    wait_gone(first)
    second = get_when_up(mortal.pid.remote)
    assert second != first
    jray.kill(mortal)
    wait_gone(second)
    with pytest.raises(ActorDiedError):
        jray.get(mortal.add.remote())
    assert starts.count() == 2


@pytest.mark.sentences("S97")
def test_kill_twice_is_harmless(bench: Bench) -> None:
    """Killing a dead actor does nothing."""
    mortal = Mortal.remote(bench.tally("starts"))
    jray.get(mortal.add.remote())
    jray.kill(mortal)
    jray.kill(mortal)


@pytest.mark.parametrize("value", [1, None, "actor"])
def test_kill_refuses_what_is_no_actor(value: Any) -> None:
    """`kill` of anything but a handle raises ValueError."""
    with pytest.raises(ValueError, match="kill"):
        jray.kill(value)


def test_kill_of_a_ref_names_cancel() -> None:
    """`kill(ref)` raises ValueError that points to `cancel`."""
    with pytest.raises(ValueError, match="cancel"):
        jray.kill(jray.put(1))


@pytest.mark.sentences("S98")
def test_terminate_waits_for_earlier_calls(bench: Bench) -> None:
    """`__ray_terminate__` ends the actor after what was submitted before it."""
    mortal = Mortal.remote(bench.tally("starts"))
    refs = [mortal.add.remote() for _ in range(20)]
    pid = mortal.pid.remote()
    mortal.__ray_terminate__.remote()
    assert jray.get(refs) == list(range(1, 21))
    wait_gone(jray.get(pid))
    with pytest.raises(RayActorError):
        jray.get(mortal.add.remote())


@pytest.mark.sentences("S98")
def test_exit_actor_ends_the_actor_without_restart(bench: Bench) -> None:
    """The call that leaves raises RayActorError, later ones too; there is no restart."""
    starts = bench.tally("starts")
    mortal = Mortal.options(max_restarts=5).remote(starts)
    pid = jray.get(mortal.pid.remote())
    leaving = mortal.leave.remote()
    with pytest.raises(RayActorError):
        jray.get(leaving)
    wait_gone(pid)
    with pytest.raises(RayActorError):
        jray.get(mortal.add.remote())
    assert starts.count() == 1


@pytest.mark.sentences("S98")
def test_exit_actor_runs_atexit(bench: Bench) -> None:
    """Leaving by exit_actor runs atexit functions."""
    done = bench.gate("atexit")

    @jray.remote
    class Tidy:
        def leave(self) -> None:
            atexit.register(done.open)
            jray.actor.exit_actor()

    tidy = Tidy.remote()
    with pytest.raises(RayActorError):
        jray.get(tidy.leave.remote())
    done.wait()


class Leaving:
    """Opens a gate when the call whose variable it is has ended, and so has been seen to leave."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __del__(self) -> None:
        self.gate.open()


@jray.remote
class Threaded:
    def hold(self, gate: Gate, here: Tally) -> str:
        here.add()
        gate.wait()
        return "held"

    def leave(self, left: Gate) -> None:
        _ = Leaving(left)
        jray.actor.exit_actor()

    def ping(self, ran: Gate) -> None:
        ran.open()


@jray.remote
class Async:
    async def hold(self, gate: Gate, here: Tally) -> str:
        here.add()
        while not gate.is_open():  # noqa: ASYNC110 - the gate is a file
            await asyncio.sleep(0.005)
        return "held"

    async def leave(self, left: Gate) -> None:
        _ = Leaving(left)
        jray.actor.exit_actor()

    async def ping(self, ran: Gate) -> None:
        ran.open()


@pytest.mark.differs("ray", "calls that wait are dropped, or run, as it happens")
@pytest.mark.sentences("S98")
@pytest.mark.parametrize("kind", [Threaded, Async], ids=["threaded", "async"])
def test_exit_actor_lets_what_runs_complete_and_drops_what_waits(bench: Bench, kind: Any) -> None:
    """A call beside the one that leaves gives its value; those that hadn't begun raise and don't run."""
    gate, left, here, ran = bench.gate(), bench.gate("left"), bench.tally(), bench.gate("ran")
    actor = kind.options(max_concurrency=2).remote()
    running = [actor.hold.remote(gate, here), actor.hold.remote(left, here)]
    here.wait_for(2)
    others = [actor.leave.remote(left), *[actor.ping.remote(ran) for _ in range(3)]]
    # Room for the one that leaves; the other call makes room only when that is done.
    gate.open()
    assert jray.get(running) == ["held"] * 2
    for ref in others:
        with pytest.raises(RayActorError):
            jray.get(ref)
    assert not ran.is_open()


@jray.remote
class Hooked:
    """Opens a gate by its shutdown hook."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __ray_shutdown__(self) -> None:
        self.gate.open()

    def pid(self) -> int:
        return os.getpid()

    def leave(self) -> None:
        jray.actor.exit_actor()


@pytest.mark.sentences("S96", "S97", "S98")
@pytest.mark.parametrize(
    ("how", "is_called"), [("handle", True), ("terminate", True), ("exit_actor", True), ("kill", False)]
)
def test_the_shutdown_hook_runs_at_a_good_end(bench: Bench, how: str, is_called: bool) -> None:
    """`__ray_shutdown__` runs when the actor ends in good order, and not when it is killed."""
    gate = bench.gate()
    actor = Hooked.remote(gate)
    pid = jray.get(actor.pid.remote())
    if how == "handle":
        del actor
        gc.collect()
    elif how == "terminate":
        actor.__ray_terminate__.remote()
    elif how == "exit_actor":
        actor.leave.remote()
    else:
        jray.kill(actor)
    wait_gone(pid)
    assert gate.is_open() == is_called


@pytest.mark.only("jray", "the names are jray's own")
@pytest.mark.sentences("S98")
def test_jrays_own_names_of_what_every_actor_has(bench: Bench) -> None:
    """`__jray_ready__`, `__jray_call__`, `__jray_terminate__` and `__jray_shutdown__` are as Ray's."""
    gate = bench.gate()

    @jray.remote
    class Own:
        def __jray_shutdown__(self) -> None:
            gate.open()

    own = Own.remote()
    jray.get(own.__jray_ready__.remote())
    pid = jray.get(own.__jray_call__.remote(lambda self, x: os.getpid() * x, 1))
    own.__jray_terminate__.remote()
    wait_gone(pid)
    assert gate.is_open()


@pytest.mark.sentences("S98")
def test_exit_actor_outside_an_actor_is_a_type_error() -> None:
    """The driver and tasks can't leave as actors."""
    with pytest.raises(TypeError):
        jray.actor.exit_actor()


@pytest.mark.sentences("S79", "S97")
@pytest.mark.parametrize("how", ["exit", "signal"])
def test_a_dead_process_is_a_dead_actor(bench: Bench, how: str) -> None:
    """Without restarts the death of the process fails the running call and all later ones."""
    mortal = Mortal.remote(bench.tally("starts"))
    pid = jray.get(mortal.pid.remote())
    if how == "exit":
        with pytest.raises(RayActorError):
            jray.get(mortal.die.remote())
    else:
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)

    def died() -> bool:
        try:
            jray.get(mortal.add.remote())
        except ActorDiedError:
            return True
        except ActorUnavailableError:
            return False
        return False

    wait_until(died)


@pytest.mark.sentences("S99", "S101")
def test_an_actor_restarts_with_its_arguments_and_without_its_state(bench: Bench) -> None:
    """After a crash `__init__` runs again with the same arguments; state is lost; the id stays."""
    starts = bench.tally("starts")
    mortal = Mortal.options(max_restarts=1).remote(starts, jray.put("argument"))
    first = jray.get([mortal.add.remote(), mortal.pid.remote(), mortal.restarted.remote()])
    with pytest.raises(RayActorError):
        jray.get(mortal.die.remote())
    assert get_when_up(mortal.add.remote) == 1
    again = jray.get([mortal.pid.remote(), mortal.get_argument.remote(), mortal.restarted.remote()])
    assert first[2] is False
    assert again[0] != first[1]
    assert again[1:] == ["argument", True]
    assert starts.count() == 2


@differences.restarts_find_their_arguments
@pytest.mark.sentences("S99", "S105")
@pytest.mark.parametrize("lifetime", [None, "detached"])
@pytest.mark.parametrize("by_ref", [True, False], ids=["ref", "value"])
def test_a_restart_finds_large_arguments_as_they_were(lifetime: str | None, by_ref: bool) -> None:
    """The constructor's arguments live as long as the actor may need them, though nobody else keeps them."""

    @jray.remote(max_restarts=1, max_task_retries=1)
    class Summer:
        def __init__(self, array: Any) -> None:
            self.array = array

        def sum(self) -> float:
            return float(self.array.sum())

        def pid(self) -> int:
            return os.getpid()

    array = np.ones(1_000_000)
    summer = Summer.options(lifetime=lifetime).remote(jray.put(array) if by_ref else array)
    pid = jray.get(summer.pid.remote())
    gc.collect()
    # What is free by now is given to others, and written over.
    for _ in range(5):
        jray.get(jray.put(np.zeros(1_000_000)))
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
    assert jray.get(summer.sum.remote(), timeout=30) == 1_000_000
    jray.kill(summer)


@pytest.mark.differs("ray", "it restarts if the arguments happen to be in the store still")
@pytest.mark.sentences("S9", "S105")
def test_a_detached_actor_whose_creator_died_does_not_restart_with_other_arguments() -> None:
    """Large arguments are lost with their owner: the restart fails, and says so."""

    @jray.remote(num_cpus=0)
    class Creator:
        def create(self) -> int:
            array = np.ones(1_000_000)
            summer = Summer.options(name="of a dead creator", lifetime="detached", max_restarts=1).remote(
                array
            )
            return jray.get(summer.pid.remote())

    @jray.remote
    class Summer:
        def __init__(self, array: Any) -> None:
            self.array = array

        def sum(self) -> float:
            return float(self.array.sum())

        def pid(self) -> int:
            return os.getpid()

    creator = Creator.remote()
    pid = jray.get(creator.create.remote())
    jray.kill(creator)
    summer = jray.get_actor("of a dead creator")
    assert jray.get(summer.sum.remote()) == 1_000_000
    for _ in range(5):
        jray.get(jray.put(np.zeros(1_000_000)))
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
    with pytest.raises(RayActorError):
        get_when_up(summer.sum.remote)


@pytest.mark.sentences("S99")
def test_restarts_are_counted(bench: Bench) -> None:
    """max_restarts=2 allows three lives."""
    starts = bench.tally("starts")
    mortal = Mortal.options(max_restarts=2).remote(starts)
    for life in range(1, 4):
        assert get_when_up(mortal.add.remote) == 1
        assert starts.count() == life
        with pytest.raises(RayActorError):
            jray.get(mortal.die.remote())

    def over() -> bool:
        try:
            jray.get(mortal.add.remote())
        except ActorDiedError:
            return True
        except ActorUnavailableError:
            pass
        return False

    wait_until(over)
    assert starts.count() == 3


@pytest.mark.sentences("S99")
def test_restarts_may_be_endless(bench: Bench) -> None:
    """max_restarts=-1 goes on."""
    starts = bench.tally("starts")
    mortal = Mortal.options(max_restarts=-1).remote(starts)
    for _ in range(4):
        with pytest.raises(RayActorError):
            jray.get(mortal.die.remote())
        get_when_up(mortal.add.remote)
    assert starts.count() == 5


@pytest.mark.sentences("S100")
def test_a_call_in_flight_is_run_at_most_once_by_default(bench: Bench) -> None:
    """Without max_task_retries the call that the crash hit isn't run again."""
    runs = bench.tally()
    mortal = Mortal.options(max_restarts=1).remote(bench.tally("starts"))
    with pytest.raises(RayActorError):
        jray.get(mortal.die_until.remote(runs, 5))
    assert get_when_up(mortal.add.remote) == 1
    assert runs.count() == 1


@pytest.mark.sentences("S100")
def test_max_task_retries_runs_the_call_again(bench: Bench) -> None:
    """With restarts and max_task_retries the call is run again until it succeeds."""
    runs = bench.tally()
    mortal = Mortal.options(max_restarts=-1, max_task_retries=-1).remote(bench.tally("starts"))
    assert jray.get(mortal.die_until.remote(runs, 3)) == 3
    assert runs.count() == 3


@pytest.mark.sentences("S100")
def test_max_task_retries_is_a_limit(bench: Bench) -> None:
    """max_task_retries=1 runs the call twice, then raises RayActorError."""
    runs = bench.tally()
    mortal = Mortal.options(max_restarts=-1, max_task_retries=1).remote(bench.tally("starts"))
    with pytest.raises(RayActorError):
        jray.get(mortal.die_until.remote(runs, 10))
    assert runs.count() == 2


@pytest.mark.sentences("S100")
def test_exceptions_of_methods_are_retried_only_on_demand(bench: Bench) -> None:
    """max_task_retries alone doesn't retry exceptions; with retry_exceptions on the method it does."""
    mortal = Mortal.options(max_restarts=-1, max_task_retries=3).remote(bench.tally("starts"))
    plain, retried = bench.tally("plain"), bench.tally("retried")
    with pytest.raises(ValueError, match="stumbled at 1"):
        jray.get(mortal.stumble.remote(plain, 3))
    assert jray.get(mortal.stumble.options(retry_exceptions=True).remote(retried, 3)) == 3
    assert (plain.count(), retried.count()) == (1, 3)


@pytest.mark.sentences("S100")
def test_options_of_the_call_go_before_the_methods_and_the_actors(bench: Bench) -> None:
    """max_task_retries: the call's option, then @method's, then the actor's."""

    @jray.remote(max_task_retries=3)
    class Stumbler:
        @jray.method(max_task_retries=2, retry_exceptions=True)
        def by_method(self, runs: Tally) -> None:
            raise ValueError(runs.add())

        @jray.method(retry_exceptions=[KeyError])
        def by_actor(self, runs: Tally) -> None:
            raise KeyError(runs.add())

    stumbler = Stumbler.remote()
    one, two, three = (bench.tally(str(n)) for n in range(3))
    for error, ref in (
        (ValueError, stumbler.by_method.remote(one)),
        (ValueError, stumbler.by_method.options(max_task_retries=1).remote(two)),
        (KeyError, stumbler.by_actor.remote(three)),
    ):
        with pytest.raises(error) as caught:
            jray.get(ref)
        assert isinstance(caught.value, RayTaskError)
    assert (one.count(), two.count(), three.count()) == (3, 2, 4)


@pytest.mark.sentences("S101")
def test_calls_during_a_restart_wait_for_it(bench: Bench) -> None:
    """With max_task_retries a call made while the actor restarts is answered by its next life."""
    gate, starts = bench.gate(), bench.tally("starts")

    @jray.remote(max_restarts=1, max_task_retries=1)
    class Slow:
        def __init__(self) -> None:
            if starts.add() > 1:
                gate.wait()

        def pid(self) -> int:
            return os.getpid()

    slow = Slow.remote()
    first = jray.get(slow.pid.remote())
    os.kill(first, signal.SIGKILL)
    starts.wait_for(2)
    ref = slow.pid.remote()
    assert jray.wait([ref], timeout=0.2)[0] == []
    gate.open()
    assert jray.get(ref) != first


@pytest.mark.sentences("S102")
def test_an_actor_dies_with_its_owner(bench: Bench) -> None:
    """When the actor that created it is killed a child dies too, even with restarts left."""

    @jray.remote
    class Parent:
        def create(self, starts: Tally) -> Any:
            self.child = Mortal.options(max_restarts=-1).remote(starts)
            return self.child

    parent, starts = Parent.remote(), bench.tally("starts")
    child = jray.get(parent.create.remote(starts))
    pid = jray.get(child.pid.remote())
    jray.kill(parent)
    wait_gone(pid)
    with pytest.raises(RayActorError):
        jray.get(child.add.remote())
    assert starts.count() == 1


@pytest.mark.sentences("S97")
def test_the_error_names_the_actor(bench: Bench) -> None:
    """ActorDiedError has the actor's id, and isn't an error of the constructor."""
    mortal = Mortal.remote(bench.tally("starts"))
    pid = jray.get(mortal.pid.remote())
    jray.kill(mortal)
    wait_gone(pid)
    with pytest.raises(ActorDiedError) as caught:
        jray.get(mortal.add.remote())
    assert caught.value.actor_id == mortal._actor_id.hex()
    assert not caught.value.actor_init_failed


@pytest.mark.sentences("S29", "S97")
def test_a_dead_actors_result_fails_who_depends_on_it(bench: Bench) -> None:
    """A task on the result of a killed actor isn't run."""
    ran = bench.gate("ran")

    @jray.remote
    def use(_: Any) -> None:
        ran.open()

    mortal, here = Mortal.remote(bench.tally("starts")), bench.tally()
    ref = use.remote(mortal.wait.remote(bench.gate(), here))
    here.wait_for(1)
    jray.kill(mortal)
    with pytest.raises(jray.exceptions.RayError):
        jray.get(ref)
    assert not ran.is_open()
