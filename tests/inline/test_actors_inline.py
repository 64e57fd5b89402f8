"""Actors in one process: their lives and ends, state that is their own, and event loops that nobody runs."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

import jray
import jray.actor
from jray.exceptions import ActorDiedError, ActorUnavailableError, OwnerDiedError, RaySystemError

pytestmark = pytest.mark.usefixtures("inline")


@jray.remote
class Mortal:
    """Dies when told to, by `sys.exit`."""

    def __init__(self, argument: Any = None) -> None:
        self.argument = argument
        self.value = 0

    def add(self) -> int:
        self.value += 1
        return self.value

    def look(self) -> tuple[Any, bool]:
        return self.argument, jray.get_runtime_context().was_current_actor_reconstructed

    def die(self) -> None:
        sys.exit(1)

    def die_in(self, nested: list[Any]) -> int:
        if jray.get(nested[0].add.remote()) < 3:
            sys.exit(1)
        return self.value

    def leave(self) -> None:
        jray.actor.exit_actor()

    def make(self) -> list[Any]:
        return [jray.put("owned"), Other.remote()]


@jray.remote
class Other:
    def ping(self) -> int:
        return 1


def test_sys_exit_ends_an_actor_as_a_crash_would() -> None:
    """Without restarts it is dead; with them it begins anew, with its arguments and without its state."""
    mortal = Mortal.remote()
    with pytest.raises(ActorDiedError, match="status 1"):
        jray.get(mortal.die.remote())
    with pytest.raises(ActorDiedError):
        jray.get(mortal.add.remote())
    mortal = Mortal.options(max_restarts=1).remote(jray.put("argument"))
    assert jray.get([mortal.add.remote(), mortal.add.remote()]) == [1, 2]
    with pytest.raises(ActorUnavailableError):
        jray.get(mortal.die.remote())
    assert jray.get([mortal.add.remote(), mortal.look.remote()]) == [1, ("argument", True)]
    with pytest.raises(ActorDiedError):
        jray.get(mortal.die.remote())


def test_max_task_retries_runs_a_call_again_in_the_next_life() -> None:
    """Until it succeeds, or none is left."""
    counter = Mortal.remote()
    mortal = Mortal.options(max_restarts=-1, max_task_retries=5).remote()
    assert jray.get(mortal.die_in.remote([counter])) == 0
    assert jray.get(counter.add.remote()) == 4
    mortal = Mortal.options(max_restarts=-1, max_task_retries=1).remote()
    with pytest.raises(ActorUnavailableError):
        jray.get(mortal.die.remote())


def test_kill_with_and_without_restart() -> None:
    """no_restart=False makes it anew; the default ends it."""
    mortal = Mortal.options(max_restarts=1, name="mortal").remote()
    assert jray.get(mortal.add.remote()) == 1
    jray.kill(mortal, no_restart=False)
    assert jray.get(mortal.add.remote()) == 1
    jray.kill(mortal)
    jray.kill(mortal)
    with pytest.raises(ActorDiedError, match="killed"):
        jray.get(mortal.add.remote())
    with pytest.raises(ValueError, match="mortal"):
        jray.get_actor("mortal")


def test_exit_actor_and_terminate() -> None:
    """Both end the actor for good, though it might restart."""
    for method in ("leave", "__ray_terminate__", "__jray_terminate__"):
        mortal = Mortal.options(max_restarts=3).remote()
        with pytest.raises(ActorDiedError):
            jray.get(getattr(mortal, method).remote())
        with pytest.raises(ActorDiedError):
            jray.get(mortal.add.remote())


def test_what_an_actor_owned_dies_with_it() -> None:
    """Its objects, and the actors that it made."""
    mortal = Mortal.remote()
    ref, child = jray.get(mortal.make.remote())
    assert jray.get(ref) == "owned"
    assert jray.get(child.ping.remote()) == 1
    jray.kill(mortal)
    with pytest.raises(OwnerDiedError):
        jray.get(ref)
    with pytest.raises(ActorDiedError):
        jray.get(child.ping.remote())


@pytest.mark.parametrize(("how", "is_called"), [("handle", True), ("leave", True), ("kill", False)])
def test_the_hook_of_a_good_end(capsys: pytest.CaptureFixture[str], how: str, is_called: bool) -> None:
    """`__ray_shutdown__` is called when an actor ends in good order."""

    @jray.remote
    class Hooked:
        def __ray_shutdown__(self) -> None:
            print("goodbye")

        def leave(self) -> None:
            jray.actor.exit_actor()

    actor = Hooked.remote()
    if how == "leave":
        actor.leave.remote()
    elif how == "kill":
        jray.kill(actor)
    del actor
    assert ("goodbye" in capsys.readouterr().out) == is_called


def test_a_plain_actor_takes_one_call_at_a_time_and_a_threaded_one_lets_them_nest() -> None:
    """A call to itself runs after the present one, or inside it if max_concurrency allows."""

    class Nesting:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def outer(self, nested: list[Any]) -> list[str]:
            self.seen.append("outer begins")
            nested[0].inner.remote()
            self.seen.append("outer ends")
            return self.seen

        def inner(self) -> None:
            self.seen.append("inner")

    plain, threaded = jray.remote(Nesting).remote(), jray.remote(max_concurrency=2)(Nesting).remote()
    assert jray.get(plain.outer.remote([plain])) == ["outer begins", "outer ends"]
    assert jray.get(threaded.outer.remote([threaded])) == ["outer begins", "inner", "outer ends"]


def test_calls_of_different_submitters_do_not_wait_for_each_other() -> None:
    """A call whose argument isn't there holds back its submitter's next calls alone."""
    never = jray.remote(resources={"unheard_of": 1})(lambda: 1).remote()
    mortal = Mortal.remote()
    take = mortal.__ray_call__
    blocked, behind = take.remote(lambda _, x: x, never), mortal.add.remote()
    assert jray.wait([blocked, behind], num_returns=2, timeout=0)[0] == []
    assert jray.get(jray.remote(lambda nested: jray.get(nested[0].add.remote())).remote([mortal])) == 1
    jray.cancel(never)
    with pytest.raises(jray.exceptions.TaskCancelledError):
        jray.get(blocked)
    assert jray.get(behind) == 2


def test_calls_may_overtake_each_other_on_demand() -> None:
    """With allow_out_of_order_execution a call that is ready doesn't wait for one that isn't."""
    never = jray.remote(resources={"unheard_of": 1})(lambda: 1).remote()
    mortal = Mortal.options(allow_out_of_order_execution=True).remote()
    blocked = mortal.__ray_call__.remote(lambda _, x: x, never)
    assert jray.get(mortal.add.remote()) == 1
    assert jray.wait([blocked], timeout=0)[0] == []


# -- event loops ------------------------------------------------------------------------------------


@jray.remote
class Loop:
    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.queue: asyncio.Queue[int] = asyncio.Queue()

    async def sleep(self, value: Any) -> Any:
        await asyncio.sleep(0.02)
        return value

    async def wait(self) -> str:
        await self.event.wait()
        return "woken"

    async def wake(self) -> None:
        self.event.set()

    async def call(self, nested: list[Any], value: Any) -> Any:
        return await nested[0].sleep.remote(value)

    async def report(self, value: int) -> None:
        self.queue.put_nowait(value)

    async def gather(self, me: list[Any], n: int) -> list[int]:
        """Have tasks call back, each of which waits for its call."""

        @jray.remote
        def work(nested: list[Any], value: int) -> None:
            jray.get(nested[0].report.remote(value))

        for value in range(n):
            work.remote(me, value)
        return [await self.queue.get() for _ in range(n)]

    async def thread(self) -> str:
        return await asyncio.to_thread(lambda: "from a thread")

    async def hang(self) -> None:
        await asyncio.sleep(3600)

    async def block(self, nested: list[Any]) -> Any:
        return jray.get(nested[0].sleep.remote("blocked"))

    async def forever(self) -> None:
        while True:  # noqa: ASYNC110 - it is to keep the loop busy
            await asyncio.sleep(0)


def test_coroutines_of_several_actors_await_each_other() -> None:
    """Whoever waits drives them all."""
    one, two = Loop.remote(), Loop.remote()
    assert jray.get(one.call.remote([two], 5)) == 5
    assert jray.get([loop.call.remote([one], n) for n, loop in enumerate([one, two])]) == [0, 1]
    assert jray.get(one.block.remote([two])) == "blocked"
    assert jray.get(one.thread.remote()) == "from a thread"


def test_tasks_of_a_coroutine_may_call_back() -> None:
    """A task that a coroutine submits runs when the loop is free, so that its call to the actor is answered."""
    loop = Loop.remote()
    assert sorted(jray.get(loop.gather.remote([loop], 4))) == [0, 1, 2, 3]


def test_a_coroutine_that_never_pauses_does_not_hold_up_its_caller() -> None:
    """`.remote()` returns although the coroutine would go on for ever."""
    loop = Loop.remote()
    ref = loop.forever.remote()
    assert jray.get(loop.sleep.remote(1)) == 1
    jray.cancel(ref)
    with pytest.raises(jray.exceptions.TaskCancelledError):
        jray.get(ref)


def test_actors_work_inside_a_loop_of_the_users() -> None:
    """As in a notebook, where one runs already: `await`, `get`, gather and `async for`, and `asyncio.run` in a task."""

    @jray.remote
    def runs_a_loop() -> str:
        async def main() -> str:
            await asyncio.sleep(0)
            return "ran"

        return asyncio.run(main())

    @jray.remote
    class Streamer:
        async def items(self, n: int) -> Any:
            for i in range(n):
                await asyncio.sleep(0.001)
                yield i

    async def main() -> None:
        loop, streamer = Loop.remote(), Streamer.remote()
        assert await loop.sleep.remote("awaited") == "awaited"
        assert jray.get(loop.sleep.remote("got")) == "got"
        waiting = asyncio.ensure_future(asyncio.wait_for(awaited(loop.wait.remote()), 30))
        await asyncio.sleep(0)
        await loop.wake.remote()
        assert await waiting == "woken"
        assert await asyncio.gather(*[loop.sleep.remote(n) for n in range(5)]) == list(range(5))
        assert [await ref async for ref in streamer.items.remote(3)] == [0, 1, 2]
        assert await loop.sleep.remote("as a future").as_future() == "as a future"
        assert await runs_a_loop.remote() == "ran"

    async def awaited(ref: Any) -> Any:
        return await ref

    asyncio.run(main())


def test_a_future_comes_without_anybody_waiting_in_the_engine() -> None:
    """`ref.future()` of an unfinished coroutine is done in time, by a thread that ends with it."""
    loop = Loop.remote()
    assert loop.sleep.remote("done").future().result(timeout=30) == "done"
    waiting = loop.wait.remote().future()
    loop.wake.remote()
    assert waiting.result(timeout=30) == "woken"


def test_an_async_actor_that_is_killed_leaves_nothing() -> None:
    """Its coroutines are cancelled, their refs fail, its loop is closed."""
    loop = Loop.remote()
    refs = [loop.hang.remote(), loop.wait.remote()]
    jray.kill(loop)
    for ref in refs:
        with pytest.raises(ActorDiedError):
            jray.get(ref)


def test_shutdown_ends_what_is_under_way() -> None:
    """Pending refs fail with the session's end."""
    loop = Loop.remote()
    ref = loop.hang.remote()
    future = loop.wait.remote().future()
    jray.shutdown()
    with pytest.raises(RaySystemError, match="ended"):
        jray.get(ref)
    with pytest.raises(jray.exceptions.RayError):
        future.result(timeout=30)
