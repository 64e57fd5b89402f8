"""Streaming generators: items as refs, back-pressure, errors in the middle, and their end."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

import jray
from jray.exceptions import TaskCancelledError
from tests.behaviour import differences
from tests.behaviour.support import Bench, Gate, Tally, wait_until

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
def count(n: int, made: Tally | None = None) -> Iterator[int]:
    for i in range(n):
        if made is not None:
            made.add(i)
        yield i


@jray.remote
def gated(gates: list[Gate]) -> Iterator[int]:
    for i, gate in enumerate(gates):
        gate.wait()
        yield i


@jray.remote(max_retries=0)
def breaking(n: int) -> Iterator[int]:
    for i in range(n):  # noqa: UP028 - Ray can't `yield from` an iterator that is no generator
        yield i
    message = "in the middle"
    raise ValueError(message)


@jray.remote
class Streamer:
    def count(self, n: int) -> Iterator[int]:
        for i in range(n):  # noqa: UP028 - see above
            yield i

    def plain(self) -> str:
        return "plain"

    def gated(self, gates: list[Gate]) -> Iterator[int]:
        for i, gate in enumerate(gates):
            gate.wait()
            yield i

    def noted(self, n: int, made: Tally) -> Iterator[int]:
        for i in range(n):
            made.add(i)
            yield i


@jray.remote
class AsyncStreamer:
    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    async def gated(self, gates: list[Gate]) -> AsyncIterator[int]:
        for i, gate in enumerate(gates):
            while not gate.is_open():  # noqa: ASYNC110 - the gate is a file
                await asyncio.sleep(0.005)
            yield i

    async def noted(self, n: int, made: Tally) -> AsyncIterator[int]:
        for i in range(n):
            made.add(i)
            yield i

    async def plain(self) -> str:
        return "plain"


def make_streamer(kind: str) -> Any:
    """An actor that streams: plain, with threads, or on an event loop."""
    if kind == "async":
        return AsyncStreamer.remote()
    return Streamer.options(max_concurrency=2 if kind == "threaded" else 1).remote()


KINDS = ["plain", "threaded", "async"]


@pytest.mark.sentences("S117")
def test_a_generator_call_gives_refs_one_by_one() -> None:
    """The call returns an ObjectRefGenerator; each `next` is a ref to the next item; then StopIteration."""
    generator = count.remote(3)
    assert isinstance(generator, jray.ObjectRefGenerator)
    refs = [next(generator) for _ in range(3)]
    assert all(isinstance(ref, jray.ObjectRef) for ref in refs)
    assert jray.get(refs) == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(generator)


@pytest.mark.sentences("S117")
def test_a_for_loop_over_a_generator() -> None:
    """`for ref in generator` yields every item in order."""
    assert [jray.get(ref) for ref in count.remote(50)] == list(range(50))


@pytest.mark.sentences("S117")
def test_an_empty_generator_stops_at_once() -> None:
    """No items: StopIteration at the first `next`."""
    assert list(count.remote(0)) == []


@pytest.mark.sentences("S117")
def test_items_come_before_the_producer_has_ended(bench: Bench) -> None:
    """The first item can be got while the second doesn't exist yet."""
    gates = [bench.gate(str(n)) for n in range(2)]
    generator = gated.remote(gates)
    gates[0].open()
    assert jray.get(next(generator)) == 0
    assert not gates[1].is_open()
    gates[1].open()
    assert jray.get(next(generator)) == 1


@pytest.mark.sentences("S117")
def test_the_producer_runs_ahead(bench: Bench) -> None:
    """All items are made although nobody takes one."""
    made = bench.tally()
    generator = count.remote(20, made)
    made.wait_for(20)
    assert [jray.get(ref) for ref in generator] == list(range(20))


@pytest.mark.sentences("S117")
def test_large_items() -> None:
    """Large arrays stream too."""

    @jray.remote
    def arrays() -> Iterator[Any]:
        for n in range(5):
            yield np.full(300_000, n)

    assert [int(jray.get(ref)[0]) for ref in arrays.remote()] == [0, 1, 2, 3, 4]


@pytest.mark.sentences("S118")
@pytest.mark.parametrize("ahead", [1, 3])
def test_back_pressure_pauses_the_producer(bench: Bench, ahead: int) -> None:
    """The producer never has more than n items that weren't taken; all come in the end."""
    made = bench.tally()
    generator = count.options(_generator_backpressure_num_objects=ahead).remote(12, made)
    for taken in range(12):
        # At the most: those taken, n more, and the one that is being made as the pause begins.
        assert made.count() <= taken + ahead + 1
        assert jray.get(next(generator)) == taken
    with pytest.raises(StopIteration):
        next(generator)
    assert made.count() == 12


@pytest.mark.sentences("S118")
@pytest.mark.parametrize("kind", KINDS)
def test_back_pressure_pauses_an_actor(bench: Bench, kind: str) -> None:
    """A method is paused like a task, and its items come all the same."""
    made = bench.tally()
    generator = make_streamer(kind).noted.options(_generator_backpressure_num_objects=1).remote(5, made)
    for taken in range(5):
        assert made.count() <= taken + 2
        assert jray.get(next(generator)) == taken
    with pytest.raises(StopIteration):
        next(generator)


@pytest.mark.sentences("S116", "S118")
@pytest.mark.parametrize("kind", KINDS)
def test_a_paused_method_can_be_cancelled(bench: Bench, kind: str) -> None:
    """A method that waits for its consumer ends when it is cancelled, and the actor goes on."""
    streamer, made = make_streamer(kind), bench.tally()
    generator = streamer.noted.options(_generator_backpressure_num_objects=1).remote(5, made)
    assert jray.get(next(generator)) == 0
    made.wait_for(2)
    jray.cancel(generator)
    assert jray.get(streamer.plain.remote(), timeout=30) == "plain"
    with pytest.raises(TaskCancelledError):
        jray.get(list(generator), timeout=30)
    assert made.count() == 2


@pytest.mark.sentences("S117")
@pytest.mark.parametrize("kind", KINDS)
def test_items_of_methods_do_not_wait_for_the_next(bench: Bench, kind: str) -> None:
    """Two items made at once can be got while the third doesn't exist, also if another stream ends meanwhile."""
    streamer, gates = make_streamer(kind), [bench.gate(str(n)) for n in range(3)]
    gates[0].open()
    gates[1].open()
    generator = streamer.gated.remote(gates)
    if kind != "plain":
        assert jray.get(list(streamer.count.remote(3))) == [0, 1, 2]
    assert jray.get([next(generator), next(generator)]) == [0, 1]
    gates[2].open()
    assert jray.get(list(generator)) == [2]


@pytest.mark.sentences("S119")
def test_an_error_in_the_middle_is_the_last_ref() -> None:
    """After the items comes one ref that raises, then the end."""
    generator = breaking.remote(2)
    assert [jray.get(next(generator)) for _ in range(2)] == [0, 1]
    last = next(generator)
    with pytest.raises(ValueError, match="in the middle"):
        jray.get(last)
    with pytest.raises(StopIteration):
        next(generator)


@pytest.mark.sentences("S119")
def test_an_error_before_the_first_item() -> None:
    """A generator that raises at once gives one ref, which raises."""
    (only,) = list(breaking.remote(0))
    with pytest.raises(ValueError, match="in the middle"):
        jray.get(only)


@pytest.mark.sentences("S120")
def test_wait_takes_a_generator(bench: Bench) -> None:
    """`wait([generator])` is ready when the next item is."""
    gates = [bench.gate(str(n)) for n in range(2)]
    generator = gated.remote(gates)
    assert jray.wait([generator], timeout=0.2) == ([], [generator])
    gates[0].open()
    assert jray.wait([generator], timeout=30) == ([generator], [])
    assert jray.get(next(generator)) == 0
    assert jray.wait([generator], timeout=0.2) == ([], [generator])
    gates[1].open()
    assert jray.get(next(generator)) == 1


@pytest.mark.sentences("S120")
def test_wait_takes_generators_and_refs_together(bench: Bench) -> None:
    """Refs and generators may stand in one list."""
    generator, ref = gated.remote([bench.gate()]), jray.put(1)
    assert jray.wait([generator, ref], timeout=30) == ([ref], [generator])
    bench.gate().open()
    assert jray.wait([generator, ref], num_returns=2, timeout=30) == ([generator, ref], [])


@pytest.mark.sentences("S120")
def test_a_dropped_generator_goes_on_and_frees_its_items(bench: Bench) -> None:
    """Deleting the generator doesn't cancel the task; the memory of what nobody took comes back."""
    made = bench.tally()

    @jray.remote
    def arrays() -> Iterator[Any]:
        for n in range(5):
            yield np.ones(1_000_000)
            made.add(n)

    def free() -> float:
        return float(jray.available_resources()["object_store_memory"])

    before = free()
    generator = arrays.remote()
    next(generator)
    del generator
    gc.collect()
    made.wait_for(5)
    wait_until(lambda: free() >= before - 1_000_000, what="the items freed")


@pytest.mark.sentences("S120")
def test_the_return_value_of_a_generator_is_dropped() -> None:
    """`return x` gives no item."""

    @jray.remote
    def one() -> Any:
        yield 1
        return 2

    assert [jray.get(ref) for ref in one.remote()] == [1]


@pytest.mark.sentences("S120")
def test_a_fixed_number_of_returns_of_a_generator() -> None:
    """num_returns=3 on a generator gives three refs."""
    refs = count.options(num_returns=3).remote(3)
    assert jray.get(refs) == [0, 1, 2]


@pytest.mark.sentences("S120")
def test_items_beyond_a_fixed_number_are_dropped() -> None:
    """num_returns=2 gives the first two, and num_returns=1 the first."""
    assert jray.get(count.options(num_returns=2).remote(10)) == [0, 1]
    assert jray.get(count.options(num_returns=1).remote(10)) == 0


@pytest.mark.sentences("S120")
def test_a_generator_with_as_many_items_as_returns_runs_to_its_end(bench: Bench) -> None:
    """What stands behind the last `yield` is run."""
    end = bench.gate("end")

    @jray.remote(num_returns=2)
    def pair() -> Iterator[int]:
        yield 1
        yield 2
        end.open()

    assert jray.get(pair.remote()) == [1, 2]
    end.wait()


@pytest.mark.sentences("S120")
@pytest.mark.parametrize("num_returns", [1, 2])
def test_fewer_items_than_returns_are_an_error(num_returns: int) -> None:
    """The return for which there is no item raises ValueError."""
    refs = count.options(num_returns=num_returns).remote(num_returns - 1)
    with pytest.raises(ValueError, match=f"num_returns={num_returns}"):
        jray.get(refs if num_returns == 1 else refs[-1])


@differences.fixed_returns_fail_together
@pytest.mark.sentences("S75", "S120")
def test_a_generator_with_fixed_returns_fails_in_each() -> None:
    """An error after the first item, or too few items, is the error of the first return too."""
    for ref in breaking.options(num_returns=2).remote(1):
        with pytest.raises(ValueError, match="in the middle"):
            jray.get(ref)
    for ref in count.options(num_returns=2).remote(1):
        with pytest.raises(ValueError, match="num_returns=2"):
            jray.get(ref)


@pytest.mark.sentences("S120")
def test_a_dynamic_number_of_returns() -> None:
    """num_returns="dynamic" gives one ref, whose value is an iterable of refs with a length."""
    ref = count.options(num_returns="dynamic").remote(3)
    assert isinstance(ref, jray.ObjectRef)
    items = jray.get(ref)
    assert isinstance(items, jray.DynamicObjectRefGenerator)
    assert len(items) == 3
    assert jray.get(list(items)) == [0, 1, 2]


@pytest.mark.sentences("S82", "S88")
def test_a_stream_that_failed_is_run_again_without_items_twice(bench: Bench) -> None:
    """With retry_exceptions the retry's items follow those that were there."""
    runs = bench.tally()

    @jray.remote(max_retries=2, retry_exceptions=True)
    def stumbling() -> Iterator[int]:
        attempt = runs.add()
        for i in range(3):
            if i == attempt:
                raise ValueError(attempt)
            yield i

    assert jray.get(list(stumbling.remote())) == [0, 1, 2]
    assert runs.count() == 3


@pytest.mark.sentences("S81", "S88", "S118")
@pytest.mark.parametrize("ahead", [-1, 1])
def test_a_stream_whose_worker_died_goes_on_where_it_was(bench: Bench, ahead: int) -> None:
    """What was taken isn't delivered again, with back-pressure too; what the retry makes beyond it is."""
    runs, taken = bench.tally(), bench.gate()

    @jray.remote(max_retries=1, _generator_backpressure_num_objects=ahead)
    def crashing() -> Iterator[tuple[int, int]]:
        attempt = runs.add()
        for i in range(6):
            if attempt == 1 and i == 3:
                taken.wait()
                os._exit(1)
            yield attempt, i

    generator = crashing.remote()
    first = jray.get([next(generator) for _ in range(3)])
    taken.open()
    assert first == [(1, 0), (1, 1), (1, 2)]
    assert jray.get(list(generator), timeout=30) == [(2, 3), (2, 4), (2, 5)]


@pytest.mark.sentences("S118", "S120")
@pytest.mark.parametrize("kind", ["task", "plain", "async"])
def test_a_dropped_generator_is_no_brake(bench: Bench, kind: str) -> None:
    """A producer that is paused runs to its end when its consumer is gone."""
    made = bench.tally()
    call: Any = count if kind == "task" else (streamer := make_streamer(kind)).noted
    generator = call.options(_generator_backpressure_num_objects=1).remote(5, made)
    jray.get(next(generator))
    del generator
    gc.collect()
    made.wait_for(5)
    if kind != "task":
        assert jray.get(streamer.plain.remote()) == "plain"


@pytest.mark.sentences("S120")
def test_generator_methods_of_actors() -> None:
    """A method may be a generator; the actor serves other calls after it."""
    streamer = Streamer.remote()
    assert [jray.get(ref) for ref in streamer.count.remote(4)] == [0, 1, 2, 3]
    assert jray.get(streamer.plain.remote()) == "plain"


@pytest.mark.sentences("S120")
def test_async_generator_methods() -> None:
    """An async generator of an async actor streams, two at once."""
    streamer = AsyncStreamer.remote()
    one, two = streamer.count.remote(4), streamer.count.remote(3)
    assert [jray.get(ref) for ref in two] == [0, 1, 2]
    assert [jray.get(ref) for ref in one] == [0, 1, 2, 3]


@pytest.mark.sentences("S120")
def test_async_for_over_a_generator() -> None:
    """`async for ref in generator` works in the driver and in an async actor."""

    async def collect(generator: Any) -> list[int]:
        return [await ref async for ref in generator]

    @jray.remote
    class Consumer:
        async def collect(self) -> list[int]:
            return await collect(count.remote(5))

    assert asyncio.run(collect(count.remote(5))) == [0, 1, 2, 3, 4]
    assert asyncio.run(collect(AsyncStreamer.remote().count.remote(3))) == [0, 1, 2]
    assert jray.get(Consumer.remote().collect.remote()) == [0, 1, 2, 3, 4]


@pytest.mark.sentences("S117")
def test_a_generator_is_used_in_a_task() -> None:
    """A task may consume a generator task."""

    @jray.remote
    def total(n: int) -> int:
        return sum(jray.get(ref) for ref in count.remote(n))

    assert jray.get(total.remote(5)) == 10


@pytest.mark.sentences("S26", "S117")
def test_items_are_arguments_of_other_tasks() -> None:
    """Item refs go into further calls without `get`."""
    double = jray.remote(lambda x: 2 * x)
    assert jray.get([double.remote(ref) for ref in count.remote(4)]) == [0, 2, 4, 6]


@pytest.mark.sentences("S117")
def test_completed_is_a_ref_to_the_end(bench: Bench) -> None:
    """`completed()` becomes ready when the producer has ended, and `is_finished()` when all is taken."""
    gate = bench.gate()
    generator = gated.remote([gate])
    assert jray.wait([generator.completed()], timeout=0)[0] == []
    assert not generator.next_ready()
    gate.open()
    jray.wait([generator.completed()], timeout=30)
    wait_until(generator.next_ready)
    assert not generator.is_finished()
    next(generator)
    with pytest.raises(StopIteration):
        next(generator)
    assert generator.is_finished()


@pytest.mark.sentences("S117")
def test_a_generator_can_not_be_pickled() -> None:
    """Only the caller consumes a generator: pickling raises TypeError."""
    with pytest.raises(TypeError):
        pickle.dumps(count.remote(1))


@pytest.mark.parametrize("method", ["send", "throw", "close"])
def test_a_ref_generator_has_no_way_back(method: str) -> None:
    """send, throw and close raise NotImplementedError."""
    generator = count.remote(1)
    arguments = {"send": (1,), "throw": (ValueError("x"),), "close": ()}[method]
    with pytest.raises(NotImplementedError):
        getattr(generator, method)(*arguments)


@pytest.mark.sentences("S119")
def test_a_generator_whose_worker_dies_ends_with_an_error() -> None:
    """The items that were there come; then a ref that raises WorkerCrashedError."""

    @jray.remote(max_retries=0)
    def dies() -> Iterator[int]:
        yield 1
        os._exit(1)

    generator = dies.remote()
    refs = list(generator)
    with pytest.raises(jray.exceptions.WorkerCrashedError):
        jray.get(refs[-1])


@pytest.mark.sentences("S117")
def test_a_thousand_items() -> None:
    """Many small items come in order."""
    assert jray.get(list(count.remote(1000))) == list(range(1000))


@differences.generators_are_plain
@pytest.mark.sentences("S117")
def test_yield_from_a_range() -> None:
    """`yield from` an iterator that isn't a generator works, and `yield` gives None."""

    @jray.remote
    def delegate() -> Iterator[Any]:
        yield from range(2)
        yield (yield "given back")

    assert jray.get(list(delegate.remote())) == [0, 1, "given back", None]
