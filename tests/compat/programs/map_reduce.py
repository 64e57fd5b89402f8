"""Word counts by map and reduce with back pressure, a simulation that is merged as it comes, and a cache on the way."""

# As Ray's users write: without annotations, on their own terms.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN002, ANN201, ANN204, S311
import collections
import random

import numpy as np
import ray

TEXT = [
    "the",
    "fox",
    "jumps",
    "over",
    "the",
    "dog",
    "and",
    "the",
    "dog",
    "sleeps",
    "a",
    "fox",
    "is",
    "a",
    "fox",
]


@ray.remote
def count(words, parts):
    found = [collections.Counter() for _ in range(parts)]
    for word in words:
        found[sum(map(ord, word)) % parts][word] += 1
    return tuple(found)


@ray.remote
def merge(*counters):
    total = collections.Counter()
    for counter in counters:
        total += counter
    return total


@ray.remote
def simulate(seed, steps):
    rng = random.Random(seed)
    return seed, sum(rng.choice((-1, 1)) for _ in range(steps))


@ray.remote(num_cpus=0)
class Progress:
    def __init__(self, total):
        self.total, self.done = total, 0

    def report(self, n=1):
        self.done += n

    def fraction(self):
        return self.done / self.total


@ray.remote
def reporting(progress, values):
    for _ in values:
        progress.report.remote()
    return len(values)


@ray.remote
class Cache:
    def __init__(self):
        self.refs = {}

    def put(self, name, box):
        self.refs[name] = box[0]

    def get(self, name):
        return [self.refs[name]]


@ray.remote
def scaled(array, factor=1):
    return array * factor


@ray.remote
def backed(n):
    for i in range(n):
        yield np.full(100_000, i)


ray.init(num_cpus=2)
parts = 3
mapped = [count.options(num_returns=parts).remote(TEXT[i::4], parts) for i in range(4)]
reduced = [merge.remote(*(row[part] for row in mapped)) for part in range(parts)]
total = sum(ray.get(reduced), collections.Counter())
print("words", total.most_common(3), sum(total.values()) == len(TEXT))

pending, finished, most = [], {}, 0
for seed in range(20):
    if len(pending) >= 4:
        ready, pending = ray.wait(pending, num_returns=2)
        finished.update(ray.get(ready))
    pending.append(simulate.remote(seed, 101))
    most = max(most, len(pending))
finished.update(ray.get(pending))
print("walks", len(finished), sum(finished.values()), most)

progress = Progress.remote(10)
print("reported", ray.get([reporting.remote(progress, range(5)) for _ in range(2)]))
while ray.get(progress.fraction.remote()) < 1:
    pass
print("progress", ray.get(progress.fraction.remote()))

cache = Cache.remote()
array = ray.put(np.arange(200_000))
ray.get(cache.put.remote("array", [array]))
del array
(found,) = ray.get(cache.get.remote("array"))
print("cached", int(ray.get(scaled.remote(found, factor=2))[-1]))
sums = [int(ray.get(ref).sum()) for ref in backed.options(_generator_backpressure_num_objects=2).remote(5)]
print("stream", sums)
ref = scaled.remote(np.ones(3), factor=np.float32(2))
print("hex", len(ref.hex()), ref == ray.ObjectRef(ref.binary()), len(ref.task_id().hex()))
print("wait", [len(part) for part in ray.wait([ref], timeout=None)])
print("types", type(ray.get(ray.put((1, [2], {"a": {3}})))).__name__, ray.get(ray.put(None)))
dynamic = count.options(num_returns=1).remote(TEXT, 2)
print("tuple", [len(part) for part in ray.get(dynamic)])
ray.shutdown()
