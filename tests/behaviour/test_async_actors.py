"""Async actors: coroutines that interleave on one event loop, and awaiting refs inside them."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

import jray
from tests.behaviour.support import Bench, Gate, Meter, Tally

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
def echo(value: Any) -> Any:
    return value


@jray.remote(max_retries=0)
def fail() -> None:
    raise ValueError("failed")


@jray.remote
class Loop:
    """Coroutines and plain methods on one event loop."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.seen: list[Any] = []

    async def wait(self) -> str:
        await self.event.wait()
        return "woken"

    async def wake(self) -> None:
        self.event.set()

    async def metered(self, meter: Meter, here: Tally) -> None:
        with meter.use():
            here.add()
            await self.event.wait()

    async def where(self) -> tuple[int, int]:
        return os.getpid(), threading.get_ident()

    def plain_where(self) -> tuple[int, int]:
        return os.getpid(), threading.get_ident()

    async def await_ref(self, nested: list[Any]) -> Any:
        return await nested[0]

    async def gather(self, nested: list[Any]) -> list[Any]:
        return list(await asyncio.gather(*nested))

    async def raises(self) -> None:
        await asyncio.sleep(0)
        message = "from a coroutine"
        raise ValueError(message)

    async def take(self, value: Any) -> Any:
        return value


@pytest.mark.sentences("S92", "S93")
def test_coroutines_interleave() -> None:
    """A call that awaits lets the next one run, which wakes it."""
    loop = Loop.remote()
    waiting = [loop.wait.remote() for _ in range(10)]
    assert jray.wait(waiting, timeout=0.2)[0] == []
    jray.get(loop.wake.remote())
    assert jray.get(waiting) == ["woken"] * 10


@pytest.mark.sentences("S92")
def test_an_async_actor_runs_hundreds_of_calls_at_once(bench: Bench) -> None:
    """Without max_concurrency three hundred calls are under way at once."""
    loop, meter, here = Loop.remote(), bench.meter(), bench.tally()
    refs = [loop.metered.remote(meter, here) for _ in range(300)]
    here.wait_for(300)
    assert meter.now() == 300
    jray.get(loop.wake.remote())
    jray.get(refs)


@pytest.mark.sentences("S92")
def test_max_concurrency_limits_an_async_actor(bench: Bench) -> None:
    """max_concurrency=3 lets three coroutines in at once, and never four."""

    @jray.remote(max_concurrency=3)
    class Limited:
        async def call(self, meter: Meter, gate: Gate, here: Tally) -> None:
            with meter.use():
                here.add()
                while not gate.is_open():  # noqa: ASYNC110 - the gate is a file
                    await asyncio.sleep(0.005)

    limited, meter, gate, here = Limited.remote(), bench.meter(), bench.gate(), bench.tally()
    refs = [limited.call.remote(meter, gate, here) for _ in range(8)]
    here.wait_for(3)
    gate.open()
    jray.get(refs)
    assert meter.peak() == 3
    assert here.count() == 8


@pytest.mark.sentences("S93")
def test_all_methods_run_in_the_thread_of_the_loop() -> None:
    """One coroutine method makes the actor async: plain methods run in the loop's thread too."""
    loop = Loop.remote()
    assert len(set(jray.get([loop.where.remote(), loop.plain_where.remote(), loop.where.remote()]))) == 1


@pytest.mark.sentences("S93")
def test_a_plain_method_blocks_the_loop(bench: Bench) -> None:
    """While a plain method runs no coroutine of the actor does."""

    @jray.remote
    class Mixed:
        def block(self, gate: Gate, here: Tally) -> None:
            here.add()
            gate.wait()

        async def quick(self) -> int:
            return 1

    mixed, gate, here = Mixed.remote(), bench.gate(), bench.tally()
    blocking = mixed.block.remote(gate, here)
    here.wait_for(1)
    quick = mixed.quick.remote()
    assert jray.wait([quick], timeout=0.3)[0] == []
    gate.open()
    assert jray.get([blocking, quick]) == [None, 1]


@pytest.mark.sentences("S70")
def test_an_async_actor_awaits_refs() -> None:
    """`await ref`, gather and refs of its own calls work in a coroutine."""
    loop = Loop.remote()
    assert jray.get(loop.await_ref.remote([echo.remote("x")])) == "x"
    assert jray.get(loop.gather.remote([echo.remote(n) for n in range(10)])) == list(range(10))


@pytest.mark.sentences("S70")
def test_awaiting_a_failed_ref_raises_its_class() -> None:
    """A coroutine can catch what a task raised by its own class."""

    @jray.remote
    class Careful:
        async def look(self, nested: list[Any]) -> str:
            try:
                await nested[0]
            except ValueError as error:
                return f"caught {type(error).__name__}"
            return "nothing"

    assert jray.get(Careful.remote().look.remote([fail.remote()])) == "caught RayTaskError(ValueError)"


@pytest.mark.sentences("S74", "S93")
def test_an_error_in_a_coroutine_fails_its_call_only() -> None:
    """The actor goes on after a coroutine raised."""
    loop = Loop.remote()
    with pytest.raises(ValueError, match="from a coroutine"):
        jray.get(loop.raises.remote())
    assert jray.get(loop.take.remote(1)) == 1


@pytest.mark.sentences("S28", "S93")
def test_arguments_of_coroutines_are_resolved() -> None:
    """Top-level refs arrive as values."""
    loop = Loop.remote()
    assert jray.get([loop.take.remote(echo.remote(n)) for n in range(20)]) == list(range(20))


@pytest.mark.sentences("S92")
def test_a_call_that_waits_for_its_argument_does_not_hold_back_others(bench: Bench) -> None:
    """An async actor takes calls as they become ready."""
    gate = bench.gate()

    @jray.remote(num_cpus=0)
    def later() -> str:
        gate.wait()
        return "late"

    loop = Loop.remote()
    waiting = loop.take.remote(later.remote())
    assert jray.get(loop.take.remote("now")) == "now"
    gate.open()
    assert jray.get(waiting) == "late"


@pytest.mark.sentences("S95")
def test_an_async_actor_may_wait_for_itself() -> None:
    """A coroutine can await a call to its own actor."""

    @jray.remote
    class Selfish:
        async def outer(self, me: list[Any]) -> int:
            return await me[0].inner.remote() + 1

        async def inner(self) -> int:
            return 1

    selfish = Selfish.remote()
    assert jray.get(selfish.outer.remote([selfish])) == 2


@pytest.mark.sentences("S72")
def test_a_blocking_get_in_a_coroutine_does_not_raise() -> None:
    """`get` in a coroutine blocks the loop, and gives the value."""

    @jray.remote
    class Blocking:
        async def look(self) -> int:
            return jray.get(echo.remote(5))

    assert jray.get(Blocking.remote().look.remote()) == 5


@pytest.mark.sentences("S94")
def test_groups_of_an_async_actor(bench: Bench) -> None:
    """A group with limit 1 lets one coroutine in, while the others run freely."""

    @jray.remote(concurrency_groups={"one": 1})
    class Grouped:
        @jray.method(concurrency_group="one")
        async def single(self, meter: Meter, gate: Gate, here: Tally) -> None:
            with meter.use():
                here.add()
                while not gate.is_open():  # noqa: ASYNC110 - the gate is a file
                    await asyncio.sleep(0.005)

        async def free(self) -> int:
            return 1

    grouped, meter, gate, here = Grouped.remote(), bench.meter(), bench.gate(), bench.tally()
    refs = [grouped.single.remote(meter, gate, here) for _ in range(4)]
    here.wait_for(1)
    assert jray.get([grouped.free.remote() for _ in range(5)]) == [1] * 5
    gate.open()
    jray.get(refs)
    assert meter.peak() == 1


@pytest.mark.sentences("S98")
def test_an_async_actor_can_leave() -> None:
    """exit_actor() in a coroutine ends the actor."""

    @jray.remote
    class Leaver:
        async def leave(self) -> None:
            jray.actor.exit_actor()

        async def ping(self) -> int:
            return 1

    leaver = Leaver.remote()
    assert jray.get(leaver.ping.remote()) == 1
    with pytest.raises(jray.exceptions.RayActorError):
        jray.get(leaver.leave.remote())
    with pytest.raises(jray.exceptions.RayActorError):
        jray.get(leaver.ping.remote())


@pytest.mark.sentences("S90", "S92")
def test_context_variables_of_calls_are_apart() -> None:
    """Each coroutine sees its own task id across awaits."""

    @jray.remote
    class Contexts:
        async def ids(self) -> tuple[str | None, str | None]:
            before = jray.get_runtime_context().get_task_id()
            await asyncio.sleep(0.01)
            return before, jray.get_runtime_context().get_task_id()

    contexts = Contexts.remote()
    seen = jray.get([contexts.ids.remote() for _ in range(10)])
    assert all(before == after for before, after in seen)
    assert len({before for before, _ in seen}) == 10
