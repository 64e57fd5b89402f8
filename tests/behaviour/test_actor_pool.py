"""ActorPool: which actor works on what, the order of results, and actors that die."""

from __future__ import annotations

import os
from typing import Any

import pytest

import jray
from jray.exceptions import ActorDiedError, ActorUnschedulableError, RayActorError
from jray.util import ActorPool
from tests.behaviour.differences import ignored_calls_keep_their_actor, no_value_of_a_pool_is_lost
from tests.behaviour.support import Bench, Gate, Tally, wait_gone

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
class Worker:
    def double(self, value: int) -> int:
        return 2 * value

    def after(self, gate: Gate | None, value: Any) -> Any:
        if gate is not None:
            gate.wait()
        return value

    def mark(self, tally: Tally, value: Any) -> Any:
        tally.add(value)
        return value

    def fail(self, value: Any) -> None:
        raise ValueError(value)

    @jray.method(num_returns=2)
    def pair(self, value: int) -> tuple[int, int]:
        return value, -value

    def die(self) -> None:
        os._exit(1)

    def ask(self, other: list[Any]) -> Any:
        return jray.get(other[0].double.remote(1))

    def unschedulable(self, _: Any) -> None:
        raise ActorUnschedulableError("another")

    def pid(self) -> int:
        return os.getpid()


def double(worker: Any, value: int) -> Any:
    return worker.double.remote(value)


def after(worker: Any, gate_and_value: tuple[Gate | None, Any]) -> Any:
    return worker.after.remote(*gate_and_value)


def pool_of(size: int) -> ActorPool:
    return ActorPool([Worker.remote() for _ in range(size)])


# -- order ------------------------------------------------------------------------------------------


@pytest.mark.sentences("S143")
def test_map_keeps_the_order(bench: Bench) -> None:
    """Results come in the order of the values, also when a later one is done first."""
    pool, gate, tally = pool_of(2), bench.gate(), bench.tally()

    def work(worker: Any, value: int) -> Any:
        return worker.after.remote(gate, value) if value == 0 else worker.mark.remote(tally, value)

    results = pool.map(work, range(4))
    tally.wait_for(1)
    gate.open()
    assert list(results) == [0, 1, 2, 3]


@pytest.mark.sentences("S143")
def test_map_unordered_gives_what_is_done(bench: Bench) -> None:
    """Results come by completion: one that waits holds up no other."""
    pool, gate = pool_of(2), bench.gate()
    results = pool.map_unordered(after, [(gate, 0), (None, 1), (None, 2), (None, 3)])
    assert [next(results) for _ in range(3)] == [1, 2, 3]
    gate.open()
    assert list(results) == [0]


def test_map_takes_any_iterable() -> None:
    """Values may come from a generator, and be more than there are actors, or none."""
    pool = pool_of(2)
    assert list(pool.map(double, (n for n in range(20)))) == [2 * n for n in range(20)]
    assert list(pool.map(double, [])) == []


def test_submit_and_get_next() -> None:
    """What is submitted one by one is returned in that order, whatever number of actors there is."""
    pool = pool_of(2)
    for value in range(5):
        pool.submit(double, value)
    assert [pool.get_next() for _ in range(5)] == [0, 2, 4, 6, 8]
    assert not pool.has_next()


@pytest.mark.sentences("S143")
def test_an_exhausted_pool_raises_stop_iteration() -> None:
    """Without a result to take both ways to get the next raise StopIteration."""
    pool = pool_of(1)
    assert not pool.has_next()
    with pytest.raises(StopIteration):
        pool.get_next()
    with pytest.raises(StopIteration):
        pool.get_next_unordered()


@pytest.mark.sentences("S143")
def test_get_next_refuses_what_was_passed_over(bench: Bench) -> None:
    """After get_next_unordered has returned the last one, the others can't be had in order any more."""
    pool, gate = pool_of(2), bench.gate()
    pool.submit(after, (gate, "slow"))
    pool.submit(after, (None, "quick"))
    assert pool.get_next_unordered() == "quick"
    with pytest.raises(ValueError, match="get_next"):
        pool.get_next()
    gate.open()
    assert pool.get_next_unordered() == "slow"
    pool.submit(after, (None, "new"))
    assert pool.get_next() == "new"


def test_get_next_goes_on_behind_what_came_unordered(bench: Bench) -> None:
    """What is later than the one returned by get_next_unordered can be had in order."""
    pool = pool_of(1)
    for value in range(3):
        pool.submit(double, value)
    assert pool.get_next_unordered() == 0
    assert [pool.get_next(), pool.get_next()] == [2, 4]


# -- time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("take", ["get_next", "get_next_unordered"])
def test_a_result_that_is_late_is_not_lost(bench: Bench, take: str) -> None:
    """After TimeoutError the result can still be had."""
    pool, gate = pool_of(1), bench.gate()
    pool.submit(after, (gate, "late"))
    with pytest.raises(TimeoutError):
        getattr(pool, take)(timeout=0.05)
    assert pool.has_next()
    gate.open()
    assert getattr(pool, take)() == "late"


@pytest.mark.sentences("S143")
def test_a_result_that_is_late_can_be_ignored(bench: Bench) -> None:
    """With ignore_if_timedout the late result is gone, and those behind it come."""
    pool, gate = pool_of(1), bench.gate()
    for value in [(gate, "late"), (None, "next"), (None, "last")]:
        pool.submit(after, value)
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.05, ignore_if_timedout=True)
    gate.open()
    assert [pool.get_next(), pool.get_next()] == ["next", "last"]
    assert not pool.has_next()


def test_a_negative_timeout_is_refused() -> None:
    """A time before now is a mistake."""
    pool = pool_of(1)
    pool.submit(double, 1)
    with pytest.raises(ValueError, match="timeout"):
        pool.get_next(timeout=-1)


@ignored_calls_keep_their_actor
def test_an_ignored_call_keeps_its_actor_busy(bench: Bench) -> None:
    """What waits goes to an actor that is free, and not behind the call that is too slow."""
    pool, gate = pool_of(2), bench.gate()
    pool.submit(after, (gate, "late"))
    pool.submit(after, (None, "quick"))
    for value in range(4):
        pool.submit(double, value)
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.05, ignore_if_timedout=True)
    assert [pool.get_next() for _ in range(5)] == ["quick", 0, 2, 4, 6]
    assert pool.pop_idle() is not None
    assert not pool.has_free()
    gate.open()
    pool.submit(double, 4)
    assert pool.get_next() == 8
    assert pool.has_free()


@pytest.mark.only("jray", "Ray's raises UnboundLocalError")
def test_get_next_unordered_ignores_the_oldest(bench: Bench) -> None:
    """With ignore_if_timedout the one submitted first is given up."""
    pool, gate = pool_of(2), bench.gate()
    pool.submit(after, (gate, "first"))
    pool.submit(after, (gate, "second"))
    with pytest.raises(TimeoutError):
        pool.get_next_unordered(timeout=0.05, ignore_if_timedout=True)
    gate.open()
    assert pool.get_next_unordered() == "second"
    assert not pool.has_next()


# -- the actors ---------------------------------------------------------------------------------------


def test_an_actor_is_busy_until_its_result_is_taken(bench: Bench) -> None:
    """Each actor has one value at a time; it is free when somebody has taken the result."""
    pool, tally = pool_of(1), bench.tally()
    for value in "ab":
        pool.submit(lambda worker, value: worker.mark.remote(tally, value), value)
    tally.wait_for(1)
    assert not pool.has_free()
    assert pool.pop_idle() is None
    assert tally.notes() == ["a"]
    assert pool.get_next() == "a"
    tally.wait_for(2)
    assert pool.get_next() == "b"
    assert pool.has_free()


def test_pop_idle_and_push() -> None:
    """An idle actor can be taken out of the pool, and any actor put in: it takes what waits."""
    worker = Worker.remote()
    pool = ActorPool([worker])
    assert pool.pop_idle() == worker
    assert not pool.has_free()
    assert pool.pop_idle() is None
    pool.submit(double, 4)
    pool.push(worker)
    assert pool.get_next() == 8


def test_an_actor_is_pushed_once(bench: Bench) -> None:
    """An actor that is in the pool, idle or busy, is refused."""
    worker, gate = Worker.remote(), bench.gate()
    pool = ActorPool([worker])
    with pytest.raises(ValueError, match="already"):
        pool.push(worker)
    pool.submit(after, (gate, 1))
    with pytest.raises(ValueError, match="already"):
        pool.push(worker)
    gate.open()
    assert pool.get_next() == 1


def test_several_results_of_one_call() -> None:
    """A function may return the list of refs of one call; the result is the list of values."""
    pool = pool_of(1)
    pool.submit(lambda worker, value: worker.pair.remote(value), 3)
    assert pool.get_next() == [3, -3]
    pool.submit(lambda worker, value: worker.pair.remote(value), 4)
    assert pool.get_next() == [4, -4]


# -- failures -----------------------------------------------------------------------------------------


def test_an_error_is_raised_in_its_turn() -> None:
    """What a method raises is raised in place of its result, and the actor goes on."""
    pool = pool_of(1)
    pool.submit(lambda worker, value: worker.fail.remote(value), "wrong")
    pool.submit(double, 1)
    with pytest.raises(ValueError, match="wrong"):
        pool.get_next()
    assert pool.get_next() == 2
    assert pool.has_free()


@pytest.mark.sentences("S143")
def test_a_dead_actor_leaves_the_pool() -> None:
    """The value of an actor that dies raises ActorDiedError; the others do what is left."""
    pool = pool_of(2)
    pool.submit(lambda worker, _: worker.die.remote(), None)
    for value in range(5):
        pool.submit(double, value)
    with pytest.raises(ActorDiedError):
        pool.get_next()
    assert [pool.get_next() for _ in range(5)] == [0, 2, 4, 6, 8]
    assert pool.pop_idle() is not None
    assert not pool.has_free()


@no_value_of_a_pool_is_lost
def test_values_without_an_actor_are_told(bench: Bench) -> None:
    """When all actors have died, each value that waits raises ActorDiedError, unless a new actor takes it."""
    pool = pool_of(1)
    pool.submit(lambda worker, _: worker.die.remote(), None)
    for value in range(3):
        pool.submit(double, value)
    with pytest.raises(ActorDiedError):
        pool.get_next()
    assert pool.has_next()
    with pytest.raises(ActorDiedError, match="no actor left"):
        pool.get_next()
    with pytest.raises(RayActorError, match="no actor left"):
        pool.get_next_unordered()
    pool.push(Worker.remote())
    assert pool.get_next() == 4
    assert not pool.has_next()


@pytest.mark.only("jray", "Ray's takes the error for the death of the pool's own actor")
def test_the_death_of_another_actor_is_not_ones_own() -> None:
    """An actor whose method raises that another one is dead stays in the pool."""
    pool, other = pool_of(1), Worker.remote()
    pid = jray.get(other.pid.remote())
    jray.kill(other)
    wait_gone(pid)
    for call in (
        lambda worker, value: worker.ask.remote([value]),
        lambda worker, value: worker.double.remote(value.pid.remote()),
    ):
        with pytest.raises(ActorDiedError):
            list(pool.map(call, [other]))
        assert pool.has_free()
    with pytest.raises(ActorUnschedulableError):
        list(pool.map(lambda worker, value: worker.unschedulable.remote(value), [1]))
    assert pool.has_free()


@no_value_of_a_pool_is_lost
def test_a_function_that_raises_costs_no_actor() -> None:
    """What the function itself raises comes at once, or in the turn of the value if it had to wait."""
    pool = pool_of(1)

    def broken(_: Any, value: Any) -> Any:
        raise KeyError(value)

    with pytest.raises(KeyError, match="now"):
        pool.submit(broken, "now")
    pool.submit(double, 1)
    pool.submit(broken, "later")
    pool.submit(double, 2)
    assert pool.get_next() == 2
    with pytest.raises(KeyError, match="later"):
        pool.get_next()
    assert pool.get_next() == 4
    assert pool.has_free()


@no_value_of_a_pool_is_lost
def test_a_function_must_return_a_ref() -> None:
    """A function that forgets `.remote` is told so."""
    pool = pool_of(1)
    with pytest.raises(TypeError, match=r"actor\.method\.remote"):
        pool.submit(lambda _, value: value, 1)
    assert pool.has_free()


# -- one after the other --------------------------------------------------------------------------------


def test_map_drops_what_nobody_took(bench: Bench) -> None:
    """Results of earlier submissions are not among those of a map; all values are worked on."""
    pool, tally = pool_of(1), bench.tally()
    for value in range(3):
        pool.submit(lambda worker, value: worker.mark.remote(tally, value), value)
    assert list(pool.map(double, [10, 20])) == [20, 40]
    assert tally.notes() == [0, 1, 2]


@no_value_of_a_pool_is_lost
def test_a_map_says_that_its_results_were_dropped() -> None:
    """Two maps of one pool at once are a mistake, which the first one tells."""
    pool = pool_of(1)
    first = pool.map(double, [1, 2])
    second = pool.map(double, [3, 4])
    with pytest.raises(RuntimeError, match="dropped"):
        next(first)
    assert list(second) == [6, 8]


@no_value_of_a_pool_is_lost
def test_map_does_not_raise_errors_of_the_past() -> None:
    """A call that failed and that nobody asked about does not spoil the next map."""
    worker = Worker.remote()
    pool = ActorPool([worker])
    pool.submit(lambda worker, value: worker.fail.remote(value), "old")
    jray.get(worker.pid.remote())
    assert list(pool.map(double, [1])) == [2]
