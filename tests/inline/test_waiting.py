"""Waiting for what can't come: a clear error instead of a wait without end."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import jray
from jray.exceptions import GetTimeoutError, RaySystemError

pytestmark = pytest.mark.usefixtures("inline")


@jray.remote
class Signal:
    def __init__(self) -> None:
        self.event = asyncio.Event()

    async def wait(self) -> str:
        await self.event.wait()
        return "woken"

    async def send(self) -> None:
        self.event.set()


def test_an_event_that_nobody_sets() -> None:
    """`get`, and `wait` without a time-out, raise; with one they take their time; a later call still helps."""
    signal = Signal.remote()
    ref = signal.wait.remote()
    with pytest.raises(RaySystemError, match=r"Signal\.wait\(\).*awaits"):
        jray.get(ref)
    with pytest.raises(RaySystemError, match="awaits"):
        jray.wait([ref])
    start = time.monotonic()
    with pytest.raises(GetTimeoutError):
        jray.get(ref, timeout=0.05)
    assert time.monotonic() - start >= 0.05
    signal.send.remote()
    assert jray.get(ref) == "woken"


def test_an_actor_that_waits_for_itself() -> None:
    """The call fails with an error that says so, and the queued one runs after it."""

    @jray.remote
    class Selfish:
        def me(self, nested: list[Any]) -> int:
            return jray.get(nested[0].one.remote())

        def one(self) -> int:
            return 1

    selfish = Selfish.remote()
    with pytest.raises(RaySystemError, match=r"in the middle of Selfish\.me\(\)"):
        jray.get(selfish.me.remote([selfish]))
    assert jray.get(selfish.one.remote()) == 1


def test_a_task_that_can_never_run(capsys: pytest.CaptureFixture[str]) -> None:
    """It is said at once, as by jray's own engine; the task stays pending, and who waits for it is told."""
    ref = jray.remote(resources={"unheard_of": 1})(lambda: 1).remote()
    assert "unheard_of" in capsys.readouterr().err
    assert jray.wait([ref], timeout=0.01) == ([], [ref])
    after = jray.remote(lambda x: x).remote(ref)
    with pytest.raises(RaySystemError, match=r"argument.*needs more"):
        jray.get(after)
    jray.cancel(ref)
    with pytest.raises(jray.exceptions.TaskCancelledError):
        jray.get(after)


def test_an_actor_that_can_never_be_made() -> None:
    """Its calls stay pending, and who waits for them is told."""

    @jray.remote(num_cpus=3)
    class Large:
        def ping(self) -> int:
            return 1

    ref = Large.remote().ping.remote()
    with pytest.raises(RaySystemError, match="resources"):
        jray.get(ref)


def test_the_end_of_a_generator_that_nobody_consumes() -> None:
    """A bounded generator goes on only as its items are taken."""

    @jray.remote
    def count() -> Any:
        yield from range(5)

    generator = count.options(_generator_backpressure_num_objects=2).remote()
    with pytest.raises(RaySystemError, match="item"):
        jray.get(generator.completed())
    assert [jray.get(ref) for ref in generator] == [0, 1, 2, 3, 4]


def test_a_bounded_generator_is_as_far_ahead_as_it_may_be() -> None:
    """It runs to its bound at the call, and one further for each item that is taken."""
    made: list[int] = []

    class Noting:
        def items(self, n: int) -> Any:
            for i in range(n):
                self.made = i + 1
                yield i

        def count(self) -> int:
            return self.made

    noting = jray.remote(max_concurrency=2)(Noting).remote()
    generator = noting.items.options(_generator_backpressure_num_objects=2).remote(6)
    for taken in range(1, 5):
        made.append(jray.get(noting.count.remote()))
        assert jray.get(next(generator)) == taken - 1
    assert made == [2, 3, 4, 5]
    del generator
    assert jray.get(noting.count.remote()) == 6


def test_a_generator_that_is_let_go_frees_its_actor() -> None:
    """A paused method runs to its end when nobody can take its items any more."""

    @jray.remote
    class Plain:
        def items(self) -> Any:
            for i in range(10):
                self.made = i + 1
                yield i

        def look(self) -> int:
            return self.made

    plain = Plain.remote()
    generator = plain.items.options(_generator_backpressure_num_objects=1).remote()
    looked = plain.look.remote()
    assert jray.wait([looked], timeout=0) == ([], [looked])
    del generator
    assert jray.get(looked) == 10


class Endless:
    def __init__(self) -> None:
        self.made = 0

    def items(self) -> Any:
        while True:
            self.made += 1
            yield self.made

    def look(self) -> int:
        return self.made


class EndlessAsync(Endless):
    async def items(self) -> Any:
        while True:
            self.made += 1
            yield self.made


@pytest.mark.parametrize("made_of", [Endless, EndlessAsync])
def test_a_generator_without_end_that_is_let_go_does_not_hold_up_its_caller(made_of: type) -> None:
    """It goes on by a few items in each operation."""
    actor = jray.remote(max_concurrency=2)(made_of).remote()
    generator = actor.items.options(_generator_backpressure_num_objects=1).remote()
    assert jray.get(next(generator)) == 1
    before = jray.get(actor.look.remote())
    del generator
    jray.get(jray.remote(lambda: None).remote())
    assert jray.get(actor.look.remote()) > before


def test_get_raises_an_error_behind_what_cannot_come() -> None:
    """Whatever stands before it in the list: a task that can never run, or a coroutine that is woken later."""
    never = jray.remote(resources={"unheard_of": 1})(lambda: 1).remote()
    signal = Signal.remote()
    waits = signal.wait.remote()

    @jray.remote
    def fail() -> None:
        raise ValueError("at once")

    with pytest.raises(ValueError, match="at once"):
        jray.get([never, waits, fail.remote()])
    signal.send.remote()
    assert jray.get(waits) == "woken"
