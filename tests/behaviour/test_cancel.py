"""Cancel: of pending, running and finished tasks, of actor calls, of children and of generators."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import jray
from jray.exceptions import RayActorError, TaskCancelledError, WorkerCrashedError
from tests.behaviour import differences
from tests.behaviour.support import Bench, Gate, Tally, wait_gone, wait_until

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
def hold(gate: Gate, here: Tally) -> str:
    here.add(os.getpid())
    gate.wait(60)
    return "held"


@jray.remote
def echo(value: Any) -> Any:
    return value


@jray.remote
class Sync:
    def hold(self, gate: Gate, here: Tally) -> str:
        here.add()
        gate.wait(60)
        return "held"

    def watch(self, here: Tally) -> str:
        here.add()
        wait_until(lambda: jray.get_runtime_context().is_canceled(), 60)
        return "saw it"

    def linger(self) -> str:
        """Go on for a while, or until it is told that it is cancelled."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: jray.get_runtime_context().is_canceled(), 5)
        return "lingered"

    def call(self, gate: Gate, notes: Tally) -> None:
        jray.get(child.remote(gate, notes))

    def ping(self) -> int:
        return 1


@jray.remote
class Async:
    async def hold(self, here: Tally, cancelled: Gate) -> None:
        here.add()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.open()
            raise

    async def endless(self, here: Tally) -> AsyncIterator[int]:
        yield 1
        yield 2
        here.add()
        await asyncio.sleep(60)
        yield 3

    async def ping(self) -> int:
        return 1


@jray.remote
def endless(gate: Gate, here: Tally) -> Iterator[int]:
    yield 1
    yield 2
    here.add()
    gate.wait(60)
    yield 3


@jray.remote
def child(gate: Gate, notes: Tally) -> None:
    try:
        notes.add("here")  # the interrupt may come as early as here
        gate.wait(60)
    except KeyboardInterrupt:
        notes.add("interrupted")
        raise
    notes.add("finished")


@jray.remote
def parent(gate: Gate, notes: Tally) -> None:
    jray.get(child.remote(gate, notes))


def check_cancelled(ref: Any) -> None:
    with pytest.raises(TaskCancelledError):
        jray.get(ref, timeout=60)


def cancel(ref: Any, **options: bool) -> None:
    """Cancel, and see that it is so."""
    jray.cancel(ref, **options)
    check_cancelled(ref)


def cancel_running(ref: Any, here: Tally, **options: bool) -> None:
    """Cancel what says in *here* that it runs."""
    here.wait_for(1)
    cancel(ref, **options)


def check_all_free(here: Tally) -> None:
    """See that all CPUs can be had, and that what was cancelled did not run a second time."""
    assert jray.get([echo.remote(n) for n in range(4)]) == [0, 1, 2, 3]
    assert here.count() == 1


# -- tasks --------------------------------------------------------------------------------------------


@pytest.mark.sentences("S112", "S113")
def test_a_pending_task_is_removed(bench: Bench) -> None:
    """A task that waits for its CPU is cancelled: it never runs, and `get` raises TaskCancelledError."""
    gate, here, ran = bench.gate(), bench.tally(), bench.tally("ran")
    holder = hold.options(num_cpus=2).remote(gate, here)
    here.wait_for(1)
    pending = hold.remote(gate, ran)
    assert jray.cancel(pending) is None  # type: ignore[func-returns-value]
    check_cancelled(pending)
    gate.open()
    jray.get(holder)
    jray.get(echo.remote(1))
    assert ran.count() == 0


@differences.cancelled_consumers_are_forgotten
@pytest.mark.sentences("S112")
def test_a_task_that_waits_for_an_argument_is_removed(bench: Bench) -> None:
    """A task whose argument isn't there is cancelled; its producer goes on."""
    gate, here = bench.gate(), bench.tally()
    producer = hold.remote(gate, here)
    consumer = echo.remote(producer)
    cancel(consumer)
    gate.open()
    assert jray.get(producer) == "held"


@pytest.mark.sentences("S84", "S112")
def test_a_running_task_is_interrupted(bench: Bench) -> None:
    """It gets KeyboardInterrupt, leaves its CPUs, raises TaskCancelledError and isn't retried."""
    gate, here, interrupted = bench.gate(), bench.tally(), bench.gate("interrupted")

    @jray.remote(num_cpus=2, max_retries=5, retry_exceptions=True)
    def work() -> None:
        try:
            here.add()  # the interrupt may come as early as here
            gate.wait(60)
        except KeyboardInterrupt:
            interrupted.open()
            raise

    cancel_running(work.remote(), here)
    interrupted.wait()
    check_all_free(here)


@pytest.mark.sentences("S84", "S112")
def test_force_kills_the_worker(bench: Bench) -> None:
    """force=True ends the process; `get` raises, other tasks go on, and there is no retry."""
    here = bench.tally()
    ref = hold.options(num_cpus=2, max_retries=5, retry_exceptions=True).remote(bench.gate(), here)
    here.wait_for(1)
    jray.cancel(ref, force=True)
    with pytest.raises((TaskCancelledError, WorkerCrashedError)):
        jray.get(ref)
    wait_gone(int(str(here.notes()[0])))
    check_all_free(here)


@pytest.mark.sentences("S5", "S112")
def test_a_borrower_may_cancel(bench: Bench) -> None:
    """Whoever has the ref can cancel the task, though another process submitted it."""
    gate, here = bench.gate(), bench.tally()

    @jray.remote(num_cpus=0)
    class Owner:
        def submit(self) -> list[Any]:
            return [hold.remote(gate, here)]

    owner = Owner.remote()
    (ref,) = jray.get(owner.submit.remote())
    cancel_running(ref, here)


@pytest.mark.sentences("S113")
def test_cancelling_what_has_finished_does_nothing() -> None:
    """The value stays, and cancel returns None."""
    ref = echo.remote(5)
    assert jray.get(ref) == 5
    assert jray.cancel(ref) is None  # type: ignore[func-returns-value]
    assert jray.cancel(ref, force=True) is None  # type: ignore[func-returns-value]
    assert jray.get(ref) == 5


@pytest.mark.sentences("S113")
@pytest.mark.parametrize("value", [1, None, "ref"])
def test_cancel_refuses_what_is_no_ref(value: Any) -> None:
    """Anything but a ref or a generator raises TypeError."""
    with pytest.raises(TypeError, match="cancel"):
        jray.cancel(value)


@pytest.mark.sentences("S112")
def test_who_depends_on_a_cancelled_task_fails(bench: Bench) -> None:
    """A task on the result of a cancelled one isn't run, and raises TaskCancelledError."""
    gate, here, ran = bench.gate(), bench.tally(), bench.tally("ran")
    ref = hold.remote(gate, here)

    @jray.remote
    def consume(_: Any) -> None:
        ran.add()

    consumer = consume.remote(ref)
    cancel_running(ref, here)
    check_cancelled(consumer)
    assert ran.count() == 0


@pytest.mark.sentences("S115")
@pytest.mark.parametrize("recursive", [True, False])
def test_children_are_cancelled_or_left(bench: Bench, recursive: bool) -> None:
    """recursive=True, the default, also interrupts what the task submitted; False leaves it running."""
    gate, notes = bench.gate(), bench.tally()
    options = {} if recursive else {"recursive": False}
    cancel_running(parent.remote(gate, notes), notes, **options)
    if not recursive:
        gate.open()
    notes.wait_for(2)
    assert notes.notes() == ["here", "interrupted" if recursive else "finished"]


@differences.children_of_calls_are_cancelled
@pytest.mark.sentences("S115")
def test_children_of_an_actors_call_are_cancelled(bench: Bench) -> None:
    """What a call of an actor submitted is interrupted with it, and the actor goes on."""
    actor, notes = Sync.remote(), bench.tally()
    cancel_running(actor.call.remote(bench.gate(), notes), notes)
    notes.wait_for(2)
    assert notes.notes() == ["here", "interrupted"]
    assert jray.get(actor.ping.remote()) == 1


# -- calls of actors ----------------------------------------------------------------------------------


@pytest.mark.sentences("S114")
def test_force_is_refused_for_actor_calls(bench: Bench) -> None:
    """force=True on an actor's call raises ValueError, and the call goes on."""
    sync, gate, here = Sync.remote(), bench.gate(), bench.tally()
    ref = sync.hold.remote(gate, here)
    here.wait_for(1)
    with pytest.raises(ValueError, match="force"):
        jray.cancel(ref, force=True)
    gate.open()
    assert jray.get(ref) == "held"


@pytest.mark.sentences("S114")
def test_a_queued_actor_call_is_cancelled(bench: Bench) -> None:
    """A call behind a running one raises TaskCancelledError in the end; the running one isn't touched."""
    sync, gate, here = Sync.remote(), bench.gate(), bench.tally()
    running = sync.hold.remote(gate, here)
    here.wait_for(1)
    queued = sync.linger.remote()
    jray.cancel(queued)
    # The cancel may still be on its way when the call comes to run: that one lasts until it has arrived.
    gate.open()
    assert jray.get(running) == "held"
    check_cancelled(queued)


@differences.cancelled_calls_do_not_run
@pytest.mark.sentences("S114")
def test_a_queued_actor_call_is_removed(bench: Bench) -> None:
    """It fails while the running call goes on, never runs, and the call behind it does."""
    sync, gate, here, ran = Sync.remote(), bench.gate(), bench.tally(), bench.tally("ran")
    running = sync.hold.remote(gate, here)
    here.wait_for(1)
    queued, behind = sync.hold.remote(gate, ran), sync.ping.remote()
    cancel(queued)
    assert not gate.is_open()
    gate.open()
    assert jray.get([running, behind]) == ["held", 1]
    assert ran.count() == 0


@pytest.mark.sentences("S114")
@pytest.mark.parametrize("max_concurrency", [1, 2])
def test_a_running_actor_call_is_told(bench: Bench, max_concurrency: int) -> None:
    """In a running call of a plain or threaded actor is_canceled() turns true; the actor lives on."""
    sync, here = Sync.options(max_concurrency=max_concurrency).remote(), bench.tally()
    cancel_running(sync.watch.remote(here), here)
    assert jray.get(sync.ping.remote()) == 1


@pytest.mark.sentences("S114")
def test_a_running_coroutine_is_cancelled(bench: Bench) -> None:
    """A coroutine gets asyncio.CancelledError; `get` raises TaskCancelledError; the actor lives on."""
    actor, here, cancelled = Async.remote(), bench.tally(), bench.gate("cancelled")
    cancel_running(actor.hold.remote(here, cancelled), here)
    cancelled.wait()
    assert jray.get(actor.ping.remote()) == 1


# -- generators ---------------------------------------------------------------------------------------


def check_stream_is_cancelled(generator: Any, here: Tally) -> None:
    """Take what it makes, cancel it, and see that what it had made can be got, and that an error is the last."""
    refs = [next(generator), next(generator)]
    here.wait_for(1)
    jray.cancel(generator)
    assert jray.get(refs) == [1, 2]
    check_cancelled(next(generator))
    with pytest.raises(StopIteration):
        next(generator)


@pytest.mark.sentences("S116")
def test_a_generator_is_cancelled(bench: Bench) -> None:
    """What it had made can be got; then a ref raises TaskCancelledError."""
    here = bench.tally()
    check_stream_is_cancelled(endless.remote(bench.gate(), here), here)


@pytest.mark.sentences("S114", "S116")
def test_an_async_generator_is_cancelled(bench: Bench) -> None:
    """As any generator, and the actor lives on."""
    actor, here = Async.remote(), bench.tally()
    check_stream_is_cancelled(actor.endless.remote(here), here)
    assert jray.get(actor.ping.remote()) == 1


# -- what comes too late ------------------------------------------------------------------------------


@pytest.mark.sentences("S112")
def test_an_interrupted_task_that_finishes_is_still_cancelled_or_done(bench: Bench) -> None:
    """A task that swallows the interrupt and returns gives its value or TaskCancelledError, and doesn't hang."""
    gate, here = bench.gate(), bench.tally()

    @jray.remote
    def stubborn() -> str:
        here.add()
        try:
            gate.wait(60)
        except KeyboardInterrupt:
            return "swallowed"
        return "not interrupted"

    ref = stubborn.remote()
    here.wait_for(1)
    jray.cancel(ref)
    try:
        assert jray.get(ref) == "swallowed"
    except TaskCancelledError:
        pass


@pytest.mark.sentences("S114")
def test_cancel_after_the_actors_death_does_nothing(bench: Bench) -> None:
    """The call's error stays what it was."""
    sync, here = Sync.remote(), bench.tally()
    ref = sync.hold.remote(bench.gate(), here)
    here.wait_for(1)
    jray.kill(sync)
    with pytest.raises(RayActorError):
        jray.get(ref)
    assert jray.cancel(ref) is None  # type: ignore[func-returns-value]
    with pytest.raises(RayActorError):
        jray.get(ref)
