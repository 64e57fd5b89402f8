"""Queue: items through an actor, in order, with blocking, time-outs and batches."""

from __future__ import annotations

import asyncio
import os
import queue as stdlib_queue
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import jray
from jray.exceptions import RayActorError
from jray.util.queue import Empty, Full, Queue
from tests.behaviour.differences import no_item_of_a_queue_is_lost, queues_need_no_cpu
from tests.behaviour.support import PATIENCE_S, Bench, Gate, Tally, wait_until

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote(max_retries=0)
def put_all(queue: Queue, items: list[Any]) -> None:
    for item in items:
        queue.put(item)


@jray.remote(max_retries=0)
def get_many(queue: Queue, count: int) -> list[Any]:
    return [queue.get() for _ in range(count)]


@jray.remote
class Consumer:
    def pid(self) -> int:
        return os.getpid()

    def get(self, queue: Queue, here: Tally) -> Any:
        here.add()
        return queue.get()


def call_of(queue: Queue, method: str, *args: Any) -> Any:
    """Call the queue's actor as the queue does, and return the ref."""
    return getattr(queue.actor, method).remote(*args)


def getters(queue: Queue) -> int:
    """How many wait for an item."""
    return jray.get(queue.actor.__ray_call__.remote(lambda actor: len(actor._getters)))


def putters(queue: Queue) -> int:
    """How many wait for room."""
    return jray.get(queue.actor.__ray_call__.remote(lambda actor: len(actor._putters)))


# -- one process --------------------------------------------------------------------------------------


@pytest.mark.sentences("S144")
def test_first_in_first_out() -> None:
    """Items come out in the order in which they went in, of whatever kind they are."""
    queue = Queue()
    items = [1, None, "text", [1, 2], {"key": (3,)}]
    for item in items:
        queue.put(item)
    assert [queue.get() for _ in items] == items


def test_how_many_there_are() -> None:
    """size, qsize, len, empty and full tell the same story."""
    queue = Queue(maxsize=2)
    assert (queue.size(), queue.qsize(), len(queue)) == (0, 0, 0)
    assert queue.empty()
    assert not queue.full()
    queue.put(1)
    assert not queue.empty()
    assert not queue.full()
    queue.put(2)
    assert (queue.size(), queue.qsize(), len(queue)) == (2, 2, 2)
    assert queue.full()
    assert queue.maxsize == 2


def test_a_queue_without_a_maximum_is_never_full() -> None:
    """maxsize=0, the default, takes any number."""
    queue = Queue()
    queue.put_nowait_batch(range(1000))
    assert not queue.full()
    assert queue.size() == 1000


@pytest.mark.sentences("S144")
def test_empty_and_full_are_the_standard_librarys() -> None:
    """Code that catches `queue.Empty` and `queue.Full` works unchanged."""
    assert issubclass(Empty, stdlib_queue.Empty)
    assert issubclass(Full, stdlib_queue.Full)
    queue = Queue(maxsize=1)
    with pytest.raises(stdlib_queue.Empty):
        queue.get_nowait()
    queue.put(1)
    with pytest.raises(stdlib_queue.Full):
        queue.put_nowait(2)


@pytest.mark.sentences("S144")
@pytest.mark.parametrize(
    "get",
    [
        lambda queue: queue.get_nowait(),
        lambda queue: queue.get(block=False),
        lambda queue: queue.get(timeout=0.05),
        lambda queue: asyncio.run(queue.get_async(timeout=0.05)),
        lambda queue: asyncio.run(queue.get_async(block=False)),
    ],
)
def test_nothing_to_get(get: Any) -> None:
    """An empty queue raises Empty, at once or at the end of the time, and works on."""
    queue = Queue()
    with pytest.raises(Empty):
        get(queue)
    queue.put(1)
    assert get(queue) == 1


@pytest.mark.sentences("S144")
@pytest.mark.parametrize(
    "put",
    [
        lambda queue: queue.put_nowait(2),
        lambda queue: queue.put(2, block=False),
        lambda queue: queue.put(2, timeout=0.05),
        lambda queue: asyncio.run(queue.put_async(2, timeout=0.05)),
        lambda queue: asyncio.run(queue.put_async(2, block=False)),
    ],
)
def test_no_room_to_put(put: Any) -> None:
    """A full queue raises Full, at once or at the end of the time, and the item is not in it."""
    queue = Queue(maxsize=1)
    queue.put(1)
    with pytest.raises(Full):
        put(queue)
    assert queue.get() == 1
    assert queue.empty()
    put(queue)
    assert queue.get() == 2


@pytest.mark.only("jray", "Ray's never gets or puts anything with a timeout of 0")
def test_a_timeout_of_zero_looks_once() -> None:
    """With timeout=0 what is possible is done, and nothing is waited for."""
    queue = Queue(maxsize=1)
    with pytest.raises(Empty):
        queue.get(timeout=0)
    queue.put(1, timeout=0)
    with pytest.raises(Full):
        queue.put(2, timeout=0)
    assert queue.get(timeout=0) == 1


@pytest.mark.sentences("S144")
def test_a_negative_timeout_is_refused() -> None:
    """All four ways to wait raise ValueError for a time before now."""
    queue = Queue()
    waits: list[Callable[[], Any]] = [
        lambda: queue.get(timeout=-1),
        lambda: queue.put(1, timeout=-1),
        lambda: asyncio.run(queue.get_async(timeout=-1)),
        lambda: asyncio.run(queue.put_async(1, timeout=-1)),
    ]
    for wait in waits:
        with pytest.raises(ValueError, match="timeout"):
            wait()
    assert queue.empty()


# -- batches --------------------------------------------------------------------------------------------


@pytest.mark.sentences("S144")
def test_a_batch_goes_in_whole_or_not_at_all() -> None:
    """put_nowait_batch keeps the order, and raises Full without adding any if not all fit."""
    queue = Queue(maxsize=3)
    queue.put_nowait_batch([1, 2])
    with pytest.raises(Full):
        queue.put_nowait_batch([3, 4])
    assert queue.size() == 2
    queue.put_nowait_batch([3])
    assert [queue.get() for _ in range(3)] == [1, 2, 3]


@pytest.mark.sentences("S144")
def test_a_batch_comes_out_whole_or_not_at_all() -> None:
    """get_nowait_batch gives so many in order, and raises Empty without taking any if there are fewer."""
    queue = Queue()
    queue.put_nowait_batch("abc")
    with pytest.raises(Empty):
        queue.get_nowait_batch(4)
    assert queue.get_nowait_batch(2) == ["a", "b"]
    assert queue.get_nowait_batch(0) == []
    assert queue.get_nowait_batch(1) == ["c"]


def test_wrong_batches_are_refused() -> None:
    """What is no iterable, no number, or below 0."""
    queue = Queue()
    with pytest.raises(TypeError):
        queue.put_nowait_batch(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        queue.get_nowait_batch("1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_items"):
        queue.get_nowait_batch(-1)


@pytest.mark.only("jray", "Ray's asks the iterator for its length, which it has not")
def test_a_batch_may_be_a_generator() -> None:
    """Any iterable will do."""
    queue = Queue(maxsize=5)
    queue.put_nowait_batch(n * n for n in range(3))
    assert queue.get_nowait_batch(3) == [0, 1, 4]


# -- many processes -------------------------------------------------------------------------------------


@pytest.mark.sentences("S144")
def test_a_queue_travels_to_tasks() -> None:
    """What one task puts another gets, in the order of its producer."""
    queue = Queue()
    producing = put_all.remote(queue, list(range(50)))
    assert jray.get(get_many.remote(queue, 50)) == list(range(50))
    jray.get(producing)


def test_a_blocked_get_is_woken() -> None:
    """A get that waits in another process gets what is put later; the longest waiting comes first."""
    queue = Queue()
    waiting = get_many.remote(queue, 1)
    assert jray.wait([waiting], timeout=0.1)[0] == []
    queue.put("item")
    assert jray.get(waiting) == ["item"]


def test_a_blocked_put_is_woken() -> None:
    """A put that waits for room in another process goes on when somebody gets, and keeps its place."""
    queue = Queue(maxsize=1)
    queue.put(0)
    waiting = put_all.remote(queue, [1, 2])
    assert jray.wait([waiting], timeout=0.1)[0] == []
    assert [queue.get() for _ in range(3)] == [0, 1, 2]
    jray.get(waiting)


def test_no_item_is_given_twice(bench: Bench) -> None:
    """Several producers and consumers share one queue: each item arrives exactly once."""
    queue, out = Queue(maxsize=5), bench.tally()

    def consume() -> None:
        while (item := queue.get()) is not None:
            out.add(item)

    threads = [threading.Thread(target=consume) for _ in range(3)]
    for thread in threads:
        thread.start()
    jray.get([put_all.remote(queue, list(range(start, 40, 2))) for start in range(2)])
    for _ in threads:
        queue.put(None)
    for thread in threads:
        thread.join()
    assert sorted(out.notes(), key=str) == sorted(range(40), key=str)


def test_in_an_async_actor() -> None:
    """get_async and put_async let other calls of the actor run."""

    @jray.remote
    class Both:
        async def get(self, queue: Queue) -> Any:
            return await queue.get_async()

        async def put(self, queue: Queue, item: Any) -> None:
            await queue.put_async(item)

    queue, actor = Queue(maxsize=1), Both.remote()
    got = actor.get.remote(queue)
    jray.get(actor.put.remote(queue, "x"))
    assert jray.get(got) == "x"


def test_an_object_ref_becomes_its_value() -> None:
    """A ref that is put by itself arrives as its value; inside another item it stays a ref."""
    queue = Queue()
    queue.put(jray.put("value"))
    queue.put([jray.put("inner")])
    assert queue.get() == "value"
    assert jray.get(queue.get()[0]) == "inner"


# -- the actor --------------------------------------------------------------------------------------------


def test_actor_options_are_the_actors() -> None:
    """A queue can have a name, by which its actor is found."""
    queue = Queue(actor_options={"name": "the queue's own actor"})
    queue.put("by name")
    named = jray.get_actor("the queue's own actor")
    assert jray.get(named.qsize.remote()) == 1


@queues_need_no_cpu
def test_a_queue_needs_no_free_cpu(bench: Bench) -> None:
    """A queue can be made while tasks hold every CPU, so that they can talk through it."""
    gate, here = bench.gate(), bench.tally()

    @jray.remote
    def hold(gate: Gate, here: Tally) -> None:
        here.add()
        gate.wait()

    holding = [hold.remote(gate, here) for _ in range(int(jray.cluster_resources()["CPU"]))]
    here.wait_for(len(holding))
    queue = Queue()
    queue.put(1)
    assert queue.get(timeout=PATIENCE_S) == 1
    gate.open()
    jray.get(holding)


@pytest.mark.parametrize("force", [True, False])
def test_shutdown_ends_the_actor(force: bool) -> None:
    """After shutdown the actor is dead for everybody; a second shutdown does nothing."""
    queue = Queue()
    queue.put(1)
    actor = queue.actor
    queue.shutdown(force=force)

    def is_dead() -> bool:
        # An actor that is killed may answer for as long as it takes the news to reach it.
        try:
            jray.get(actor.qsize.remote())
        except RayActorError:
            return True
        return False

    wait_until(is_dead)
    queue.shutdown()


def test_shutdown_gives_up_on_those_who_wait() -> None:
    """A get that waits when the grace period ends raises that the actor is dead."""
    queue = Queue()
    waiting = get_many.remote(queue, 1)
    assert jray.wait([waiting], timeout=0.1)[0] == []
    queue.shutdown(grace_period_s=0.1)
    with pytest.raises(RayActorError):
        jray.get(waiting)


@pytest.mark.only("jray", "Ray's raises AttributeError")
def test_a_queue_that_was_shut_down_says_so() -> None:
    """Its own object raises RuntimeError, naming the reason."""
    queue = Queue()
    queue.shutdown(force=True)
    with pytest.raises(RuntimeError, match="shut down"):
        queue.put(1)


@pytest.mark.only("jray", "Ray's asks asyncio about it when the first item comes")
def test_maxsize_is_a_whole_number() -> None:
    """Anything else is refused at once."""
    with pytest.raises(TypeError):
        Queue(maxsize="3")  # type: ignore[arg-type]


# -- those who go away ------------------------------------------------------------------------------------


@no_item_of_a_queue_is_lost
def test_a_cancelled_get_takes_no_item() -> None:
    """get_async under a time limit of asyncio's own leaves the item to others."""
    queue = Queue()

    async def impatient() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(queue.get_async(), 0.1)

    asyncio.run(impatient())
    queue.put("kept")
    assert queue.get(timeout=PATIENCE_S) == "kept"


@no_item_of_a_queue_is_lost
def test_an_interrupted_get_takes_no_item() -> None:
    """Ctrl-C while get waits leaves the item to others."""
    queue = Queue()

    def interrupt() -> None:
        wait_until(lambda: getters(queue) == 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        queue.get()
    thread.join()
    wait_until(lambda: getters(queue) == 0)
    queue.put("kept")
    assert queue.get(timeout=PATIENCE_S) == "kept"


@no_item_of_a_queue_is_lost
def test_a_dead_consumer_takes_no_item(bench: Bench) -> None:
    """A process that is killed while it waits in get leaves the item to others."""
    queue, consumer, here = Queue(), Consumer.remote(), bench.tally()
    pid = jray.get(consumer.pid.remote())
    waiting = consumer.get.remote(queue, here)
    wait_until(lambda: getters(queue) == 1)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RayActorError):
        jray.get(waiting)
    wait_until(lambda: getters(queue) == 0)
    queue.put("kept")
    assert queue.get(timeout=PATIENCE_S) == "kept"


@no_item_of_a_queue_is_lost
def test_an_item_on_its_way_to_nobody_comes_back() -> None:
    """What was taken for a call whose caller has been interrupted is the first item again."""
    queue = Queue()
    queue.put_nowait_batch([1, 2])
    call = queue._get(0)
    jray.wait([call])
    queue._give_up(call, KeyboardInterrupt())
    wait_until(lambda: queue.size() == 2)
    assert queue.get_nowait_batch(2) == [1, 2]


@no_item_of_a_queue_is_lost
def test_those_who_gave_up_leave_nothing_behind() -> None:
    """Time-outs on an empty or full queue cost the actor no memory."""
    queue = Queue(maxsize=1)
    for _ in range(3):
        with pytest.raises(Empty):
            queue.get(timeout=0.01)
    queue.put(1)
    for _ in range(3):
        with pytest.raises(Full):
            queue.put(2, timeout=0.01)
    assert (getters(queue), putters(queue)) == (0, 0)


@no_item_of_a_queue_is_lost
def test_thousands_may_wait() -> None:
    """However many calls wait for an item, the put that wakes them gets through."""
    queue = Queue()
    calls = [call_of(queue, "get", None, b"%d" % n, [jray.put(None)]) for n in range(1500)]
    wait_until(lambda: getters(queue) == 1500)
    queue.put_nowait_batch(range(1500))
    assert sorted(item for [item] in jray.get(calls)) == list(range(1500))
