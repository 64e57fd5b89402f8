"""Lock, Semaphore, Event and Barrier: between processes, by name, and when who holds or waits goes away."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import jray
from tests.behaviour import engine
from tests.behaviour.support import Bench, Gate, Meter, Tally, start_driver, wait_until

if engine.ON_RAY:
    pytest.skip("Ray has no such thing", allow_module_level=True)

from jray.util import Barrier, Event, Lock, Semaphore, sync

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
class Holder:
    """A process of its own, which can be killed."""

    def pid(self) -> int:
        return os.getpid()

    def acquire(self, lock: Any, timeout: float | None = None) -> bool:
        return bool(lock.acquire(timeout=timeout))

    def release(self, lock: Any) -> None:
        lock.release()

    def meet(self, barrier: Any) -> int:
        return int(barrier.wait())


@jray.remote(max_retries=0)
def inside(lock: Any, meter: Meter) -> None:
    for _ in range(5):
        with lock, meter.use():
            pass


@jray.remote(max_retries=0)
def hold_until(lock: Any, gate: Gate, here: Tally) -> None:
    with lock:
        here.add()
        gate.wait()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of the test's own."""
    return f"name of {request.node.name}"


def queue_length(primitive: Any) -> int:
    """How many wait there."""
    key = primitive._key
    return jray.get(
        primitive._actor.__ray_call__.remote(
            lambda keeper: len(keeper._machines[key]._waiting) if key in keeper._machines else 0
        )
    )


def kept(primitive: Any) -> tuple[int, int, int]:
    """How many machines, waiting calls and vows the actor keeps."""
    return jray.get(
        primitive._actor.__ray_call__.remote(
            lambda keeper: (len(keeper._machines), len(keeper._outcomes), len(keeper._vows._open))
        )
    )


def interrupt_once(condition: Callable[[], bool]) -> threading.Thread:
    """Interrupt the main thread when the condition holds."""

    def interrupt() -> None:
        wait_until(condition)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


# -- one at a time ------------------------------------------------------------------------------------


def test_one_task_at_a_time_holds_a_lock(bench: Bench) -> None:
    """Tasks that share a lock are never inside together."""
    lock, meter = Lock(), bench.meter()
    jray.get([inside.remote(lock, meter) for _ in range(4)])
    assert meter.peak() == 1
    assert not lock.locked()


def test_so_many_at_a_time_hold_a_semaphore(bench: Bench) -> None:
    """A semaphore of 2 lets two in, and not three."""
    semaphore, gate, here = Semaphore(2), bench.gate(), bench.tally()
    holding = [hold_until.remote(semaphore, gate, here) for _ in range(2)]
    here.wait_for(2)
    assert semaphore.locked()
    assert not semaphore.acquire(blocking=False)
    assert not semaphore.acquire(timeout=0.05)
    gate.open()
    jray.get(holding)
    assert not semaphore.locked()
    assert semaphore.acquire()


def test_acquire_tells_whether_it_took() -> None:
    """True for a free lock; False, at once or at the end of the time, for one that is held."""
    lock = Lock()
    assert lock.acquire() is True
    assert lock.locked()
    assert lock.acquire(blocking=False) is False
    assert lock.acquire(False) is False
    assert lock.acquire(timeout=0.05) is False
    lock.release()
    assert not lock.locked()
    assert lock.acquire(timeout=-1) is True


def test_wrong_times_are_refused() -> None:
    """As the standard library does: a negative time, and a time without blocking."""
    lock = Lock()
    with pytest.raises(ValueError, match="negative"):
        lock.acquire(timeout=-2)
    with pytest.raises(ValueError, match="blocking"):
        lock.acquire(blocking=False, timeout=1)
    assert not lock.locked()


def test_a_release_too_many_is_refused() -> None:
    """RuntimeError for a lock, ValueError for a semaphore: the classes are threading's."""
    lock, semaphore = Lock(), Semaphore(2)
    with pytest.raises(RuntimeError, match="nobody holds it"):
        lock.release()
    with pytest.raises(ValueError, match="nobody holds it"):
        semaphore.release()


def test_who_waits_longest_is_next(bench: Bench) -> None:
    """A lock goes to those who wait in the order in which they came."""
    lock, order = Lock(), bench.tally()
    lock.acquire()
    threads = []
    for number in range(4):

        def take(number: int = number) -> None:
            with lock:
                order.add(number)

        threads.append(threading.Thread(target=take))
        threads[-1].start()
        wait_until(lambda number=number: queue_length(lock) == number + 1)  # type: ignore[misc]
    lock.release()
    for thread in threads:
        thread.join()
    assert order.notes() == [0, 1, 2, 3]


def test_with_releases_whatever_happens() -> None:
    """An exception inside `with` leaves the lock free."""
    lock = Lock()
    with pytest.raises(KeyError), lock:
        raise KeyError
    assert not lock.locked()


def test_any_process_may_release() -> None:
    """What one process acquired another can release."""
    lock, holder = Lock(), Holder.remote()
    lock.acquire()
    jray.get(holder.release.remote(lock))
    assert not lock.locked()


@hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
@hypothesis.given(
    value=st.integers(1, 3),
    steps=st.lists(st.tuples(st.sampled_from(["enter", "expire", "leave", "release"]), st.integers(0, 5))),
)
def test_permits_are_never_too_many_nor_idle(value: int, steps: list[tuple[str, int]]) -> None:
    """Whatever happens in whatever order: no more hold than may, none waits in vain, the first is next."""
    permits, entered = sync._Permits(value), 0
    waiting: list[bytes] = []
    holding: set[bytes] = set()
    for verb, number in steps:
        tokens = [*waiting, *sorted(holding)]
        if verb == "enter":
            token = b"%03d" % entered
            entered += 1
            waiting.append(token)
            step = permits.enter(token, b"%d" % (number % 2))
        elif verb == "release":
            step = permits.release(b"%d" % (number % 2))
            assert step.answer is bool(holding)
        else:
            step = getattr(permits, verb)(tokens[number % len(tokens)] if tokens else b"unknown")
        granted = [token for token, outcome in step.outcomes if outcome]
        for token in step.gone:
            (waiting.remove if token in waiting else holding.remove)(token)
        assert granted == waiting[: len(granted)]
        del waiting[: len(granted)]
        holding.update(granted)
        assert len(holding) <= value
        assert not waiting or len(holding) == value
        assert permits.is_idle == (not waiting and not holding)
        assert permits.locked(b"").answer is (len(holding) == value)


# -- names ----------------------------------------------------------------------------------------------


def test_locks_of_one_name_are_one_lock(name: str) -> None:
    """Two objects of one name are the same lock, in this process and in others; other names are others."""
    lock, same, other = Lock(name), Lock(name), Lock(f"{name}, or not")

    @jray.remote
    def is_free(name: str) -> bool:
        return Lock(name).acquire(blocking=False)

    with lock:
        assert same.locked()
        assert not other.locked()
        assert jray.get(is_free.remote(name)) is False
    assert not same.locked()
    assert (lock.name, Lock().name) == (name, None)


def test_each_kind_has_names_of_its_own(name: str) -> None:
    """A lock and a semaphore may have the same name."""
    with Lock(name):
        assert not Semaphore(1, name).locked()
        assert not Event(name).is_set()


def test_a_name_is_bound_to_its_namespace(name: str) -> None:
    """The namespace is the driver's; unnamed locks are nobody else's."""
    unnamed = Lock()
    with Lock(name), unnamed:
        assert not Lock().locked()


def test_drivers_share_names(tmp_path: Path, bench: Bench, name: str) -> None:
    """A second driver of the namespace waits for the lock, and its death sets the lock free."""
    address = jray.get_runtime_context().gcs_address
    text = """
        import sys, time
        import jray
        from jray.util import Event, Lock
        jray.init(address=sys.argv[1], namespace="shared", log_to_driver=False)
        assert Lock(sys.argv[2]).acquire(blocking=False) is False
        Event(sys.argv[2]).set()
        Lock(sys.argv[2]).acquire()
        open(sys.argv[3], "w").close()
        time.sleep(1000)
    """
    lock, gate = Lock(name), bench.gate()
    lock.acquire()
    driver = start_driver(tmp_path, text, address, name, gate.path)
    try:
        assert Event(name).wait(timeout=30)
        assert not gate.is_open()
        lock.release()
        gate.wait()
        assert lock.acquire(blocking=False) is False
    finally:
        driver.signal(signal.SIGKILL)
        driver.end()
    assert lock.acquire(timeout=30)
    lock.release()
    Event(name).clear()


def test_a_semaphore_in_use_keeps_its_value(name: str) -> None:
    """Another value for the same name is refused while somebody holds it, and taken afterwards."""
    with Semaphore(2, name), pytest.raises(ValueError, match="in use with 2"):
        Semaphore(3, name).acquire()
    three = Semaphore(3, name)
    for _ in range(3):
        assert three.acquire(blocking=False)
    assert three.locked()
    for _ in range(3):
        three.release()


def test_wrong_parameters_are_refused() -> None:
    """Names are text; there is at least one to let in or to wait for."""
    mistakes: list[Callable[[], Any]] = [
        lambda: Lock(""),
        lambda: Lock(3),  # type: ignore[arg-type]
        lambda: Semaphore(0),
        lambda: Barrier(0),
    ]
    for make in mistakes:
        with pytest.raises(ValueError, match=r"."):
            make()
    with pytest.raises(TypeError):
        Semaphore(1.5)  # type: ignore[arg-type]


def test_they_say_what_they_are(name: str) -> None:
    """The repr is the expression that makes the object."""
    assert repr(Lock(name)) == f"Lock(name={name!r})"
    assert repr(Semaphore(3)) == "Semaphore(3)"
    assert repr(Barrier(2, name)) == f"Barrier(2, name={name!r})"


# -- those who go away --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill -9", "jray.kill"])
def test_a_dead_holder_holds_nothing(how: str) -> None:
    """The lock of an actor whose process is gone is free again."""
    lock, holder = Lock(), Holder.remote()
    pid = jray.get(holder.pid.remote())
    assert jray.get(holder.acquire.remote(lock))
    assert not lock.acquire(blocking=False)
    if how == "kill -9":
        os.kill(pid, signal.SIGKILL)
    else:
        jray.kill(holder)
    assert lock.acquire(timeout=30)
    assert lock.locked()


def test_a_task_that_dies_inside_is_retried(bench: Bench) -> None:
    """A task that is killed with the lock in its hands finds it free when it runs again."""
    lock, was_here = Lock(), bench.gate()

    @jray.remote(max_retries=1)
    def die_once() -> str:
        with lock:
            if not was_here.is_open():
                was_here.open()
                os.kill(os.getpid(), signal.SIGKILL)
            return "done"

    assert jray.get(die_once.remote(), timeout=30) == "done"
    assert not lock.locked()


def test_only_what_the_dead_held_is_free() -> None:
    """Of a semaphore of 2 the death of one holder frees one."""
    semaphore, holders = Semaphore(2), [Holder.remote() for _ in range(2)]
    pids = jray.get([holder.pid.remote() for holder in holders])
    jray.get([holder.acquire.remote(semaphore) for holder in holders])
    os.kill(pids[0], signal.SIGKILL)
    assert semaphore.acquire(timeout=30)
    assert not semaphore.acquire(blocking=False)


def test_a_release_by_a_holder_is_its_own() -> None:
    """Who releases frees what it holds itself: the death of another holder frees the other's."""
    semaphore, holder = Semaphore(2), Holder.remote()
    pid = jray.get(holder.pid.remote())
    jray.get(holder.acquire.remote(semaphore))
    semaphore.acquire()
    semaphore.release()
    os.kill(pid, signal.SIGKILL)
    assert semaphore.acquire(timeout=30)
    assert semaphore.acquire(timeout=30)


def test_the_dead_do_not_wait() -> None:
    """A process that dies while it waits is passed over."""
    lock, holder = Lock(), Holder.remote()
    pid = jray.get(holder.pid.remote())
    lock.acquire()
    waiting = holder.acquire.remote(lock)
    wait_until(lambda: queue_length(lock) == 1)
    os.kill(pid, signal.SIGKILL)
    jray.wait([waiting])
    wait_until(lambda: queue_length(lock) == 0)
    lock.release()
    assert lock.acquire(timeout=30)


def test_an_interrupt_leaves_the_lock_alone() -> None:
    """Ctrl-C while acquire waits: it neither holds the lock nor waits for it."""
    lock, holder = Lock(), Holder.remote()
    jray.get(holder.acquire.remote(lock))
    thread = interrupt_once(lambda: queue_length(lock) == 1)
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()
    thread.join()
    wait_until(lambda: queue_length(lock) == 0)
    lock.release()
    assert not lock.locked()


def test_a_cancelled_task_releases() -> None:
    """A task that is cancelled inside `with` holds the lock until it has left it."""
    lock, event = Lock(), Event()

    @jray.remote(max_retries=0)
    def hold() -> None:
        with lock:
            event.set()
            Event().wait()

    ref = hold.remote()
    assert event.wait(timeout=30)
    assert lock.locked()
    jray.cancel(ref)
    assert lock.acquire(timeout=30)


def test_a_cancelled_task_holds_until_it_leaves(bench: Bench) -> None:
    """While a task that was cancelled cleans up inside `with` nobody else gets in."""
    lock, here, gate = Lock(), bench.tally(), bench.gate()

    @jray.remote(max_retries=0)
    def hold() -> None:
        with lock:
            try:
                here.add("inside")  # the interrupt may come as early as here
                Event().wait()
            except KeyboardInterrupt:
                here.add("cancelled")
                gate.wait()
                raise

    ref = hold.remote()
    here.wait_for(1)
    jray.cancel(ref)
    here.wait_for(2)
    assert not lock.acquire(timeout=0.2)
    gate.open()
    assert lock.acquire(timeout=30)


def test_nothing_is_left_behind() -> None:
    """What is over costs the actor no memory: time-outs, releases, events that are clear."""
    lock, holder = Lock(), Holder.remote()
    with lock:
        assert not jray.get(holder.acquire.remote(lock, 0.01))
    wait_until(lambda: kept(lock) == (0, 0, 0), what=lambda: f"nothing kept; it keeps {kept(lock)}")
    event = Event()
    assert not event.wait(0.01)
    event.set()
    assert event.wait()
    event.clear()
    wait_until(lambda: kept(event) == (0, 0, 0), what=lambda: f"nothing kept; it keeps {kept(event)}")


# -- coroutines -----------------------------------------------------------------------------------------------


def test_coroutines_share_a_lock() -> None:
    """`async with` lets other coroutines run while it waits, and one at a time inside."""
    lock, inside_now = Lock(), []

    async def visit(number: int) -> None:
        async with lock:
            inside_now.append(number)
            await asyncio.sleep(0)
            assert inside_now == [number]
            inside_now.clear()

    async def main() -> None:
        await asyncio.gather(*(visit(number) for number in range(5)))
        assert await lock.acquire_async(blocking=False)
        assert not await lock.acquire_async(timeout=0.01)
        assert await lock.locked_async()
        await lock.release_async()

    asyncio.run(main())
    assert not lock.locked()


def test_a_cancelled_coroutine_waits_no_more() -> None:
    """A coroutine under a time limit of asyncio's own leaves the lock to others."""
    lock = Lock()
    lock.acquire()

    async def impatient() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(lock.acquire_async(), 0.05)

    asyncio.run(impatient())
    wait_until(lambda: queue_length(lock) == 0)
    lock.release()
    assert not lock.locked()


def test_events_in_an_async_actor() -> None:
    """All that an event can do has a twin that can be awaited."""

    @jray.remote
    class Waiter:
        async def wait(self, event: Any) -> bool:
            return bool(await event.wait_async())

        async def run(self, event: Any) -> list[bool]:
            seen = [await event.is_set_async(), await event.wait_async(0.01)]
            await event.set_async()
            seen.append(await event.is_set_async())
            await event.clear_async()
            return [*seen, await event.is_set_async()]

    waiter, event = Waiter.remote(), Event()
    assert jray.get(waiter.run.remote(event)) == [False, False, True, False]
    waiting = waiter.wait.remote(event)
    event.set()
    assert jray.get(waiting) is True


# -- events and barriers --------------------------------------------------------------------------------------


def test_an_event_wakes_all() -> None:
    """Everybody who waits goes on when the event is set; who comes later does not wait."""
    event, woken = Event(), []
    threads = [threading.Thread(target=lambda: woken.append(event.wait())) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: queue_length(event) == 3)
    assert not event.is_set()
    event.set()
    for thread in threads:
        thread.join()
    assert woken == [True] * 3
    assert event.wait(0)
    event.clear()
    assert not event.wait(0)


def test_a_named_event_outlives_who_set_it(name: str) -> None:
    """An event stays set when the process that set it is gone."""

    @jray.remote(max_calls=1)
    def tell(name: str) -> None:
        Event(name).set()

    jray.get(tell.remote(name))
    assert Event(name).is_set()
    Event(name).clear()


def test_a_barrier_lets_all_go_together() -> None:
    """Nobody passes before all are there; each gets a number; it can be used again."""
    barrier, holders = Barrier(3), [Holder.remote() for _ in range(2)]
    assert barrier.parties == 3
    for _ in range(2):
        waiting = [holder.meet.remote(barrier) for holder in holders]
        wait_until(lambda: barrier.n_waiting == 2)
        assert jray.wait(waiting, timeout=0.05)[0] == []
        assert barrier.wait() == 2
        assert sorted(jray.get(waiting)) == [0, 1]
    assert not barrier.broken


def test_a_barrier_breaks() -> None:
    """A time-out or abort breaks it for all, those who wait and those who come, until it is reset."""
    barrier, holder = Barrier(3), Holder.remote()
    waiting = holder.meet.remote(barrier)
    wait_until(lambda: barrier.n_waiting == 1)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(timeout=0.05)
    with pytest.raises(threading.BrokenBarrierError):
        jray.get(waiting)
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        asyncio.run(barrier.wait_async())
    barrier.reset()
    assert not barrier.broken
    barrier.abort()
    assert barrier.broken


def test_a_reset_sends_those_who_wait_away() -> None:
    """Who waits when a barrier is reset gets BrokenBarrierError; it is as new for the next."""
    barrier, holder = Barrier(2), Holder.remote()
    waiting = holder.meet.remote(barrier)
    wait_until(lambda: barrier.n_waiting == 1)
    barrier.reset()
    with pytest.raises(threading.BrokenBarrierError):
        jray.get(waiting)
    waiting = holder.meet.remote(barrier)
    assert barrier.wait(timeout=30) in (0, 1)
    jray.get(waiting)


def test_the_dead_are_not_at_the_barrier() -> None:
    """Who dies while it waits is not there any more: another may take its place."""
    barrier, holders = Barrier(2), [Holder.remote() for _ in range(2)]
    pid = jray.get(holders[0].pid.remote())
    holders[0].meet.remote(barrier)
    wait_until(lambda: barrier.n_waiting == 1)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: barrier.n_waiting == 0)
    waiting = holders[1].meet.remote(barrier)
    assert barrier.wait(timeout=30) in (0, 1)
    jray.get(waiting)
