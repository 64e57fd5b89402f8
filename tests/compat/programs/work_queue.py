"""Producers and consumers around a queue, and pools: of actors, and one that stands for multiprocessing's."""

# As Ray's users write: without annotations, on their own terms.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN204
import asyncio
import time

import ray
from ray.util import ActorPool
from ray.util.multiprocessing import Pool
from ray.util.queue import Empty, Full, Queue


@ray.remote
def produce(queue, start, count):
    for number in range(start, start + count):
        queue.put(number)
    return count


@ray.remote
class Consumer:
    def __init__(self, queue):
        self.queue = queue
        self.taken = []

    def run(self):
        while True:
            item = self.queue.get()
            if item is None:
                return sorted(self.taken)
            self.taken.append(item)


@ray.remote(num_cpus=0)
class Squarer:
    def __init__(self, name="s"):
        self.name = name

    def square(self, x):
        return x * x

    def slowly(self, x):
        time.sleep(0.05 * (x == 0))
        return x


def cube(x):
    return x**3


def add(a, b=0):
    return a + b


STATE = {}


def remember(value):
    STATE["value"] = value


def recall(_):
    return STATE.get("value")


ray.init(num_cpus=3)
queue = Queue(maxsize=4)
consumer = Consumer.remote(queue)
done = consumer.run.remote()
print("produced", ray.get([produce.remote(queue, 0, 5), produce.remote(queue, 10, 5)]))
queue.put(None)
print("consumed", ray.get(done))
print("empty", queue.empty(), queue.qsize(), queue.full())
for ask in (lambda: queue.get(block=False), lambda: queue.get(timeout=0.05), queue.get_nowait):
    try:
        ask()
    except Empty:
        print("Empty")
queue.put_nowait_batch([1, 2, 3, 4])
try:
    queue.put(5, timeout=0.05)
except Full:
    print("Full", queue.get_nowait_batch(3), queue.size())
try:
    queue.put_nowait_batch([1, 2, 3, 4])
except Full as error:
    print("batch", isinstance(error, Full), queue.size())


async def by_hand():
    await queue.put_async("a")
    return await queue.get_async(), await queue.get_async()


print("async", asyncio.run(by_hand()))
queue.shutdown()

pool = ActorPool([Squarer.remote(), Squarer.remote()])
print("map", list(pool.map(lambda actor, x: actor.square.remote(x), range(6))))
print("unordered", sorted(pool.map_unordered(lambda actor, x: actor.slowly.remote(x), range(6))))
pool.submit(lambda actor, x: actor.square.remote(x), 7)
pool.submit(lambda actor, x: actor.square.remote(x), 8)
pool.submit(lambda actor, x: actor.square.remote(x), 9)
print(
    "next",
    pool.has_next(),
    pool.get_next(),
    pool.get_next(timeout=10),
    pool.has_free(),
    pool.get_next_unordered(),
)
print("idle", pool.has_next(), pool.pop_idle() is not None, pool.has_free())
try:
    pool.get_next()
except StopIteration:
    print("StopIteration")
pool.push(Squarer.remote("new"))

with Pool(processes=2, initializer=remember, initargs=(42,)) as workers:
    print("pool map", workers.map(cube, range(5)))
    print("starmap", workers.starmap(add, [(1, 2), (3, 4)]))
    result = workers.apply_async(add, (1,), {"b": 10})
    print("async", result.get(timeout=60), result.ready(), result.successful())
    print("imap", list(workers.imap(cube, range(5), chunksize=2)))
    print("imap_unordered", sorted(workers.imap_unordered(cube, range(5))))
    seen = []
    workers.map_async(cube, range(3), callback=seen.extend).wait()
    while not seen:
        time.sleep(0.01)
    print("callback", sorted(seen))
    try:
        workers.apply(cube, ("x",))
    except TypeError as error:
        print("raises", type(error).__name__, "unsupported" in str(error))
    print("apply", workers.apply(cube, (3,)))
ray.shutdown()
