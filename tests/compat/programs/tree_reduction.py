"""Nested tasks: a reduction by a tree, a sort by halves, and a memo that tasks share; refs inside of values."""

# As Ray's users write: without annotations, on their own terms.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN002, ANN201, ANN204

import numpy as np
import ray
from ray import ObjectRef


@ray.remote
def add(*parts):
    return sum(parts)


def reduce_by_tree(refs, width=3):
    while len(refs) > 1:
        refs = [add.remote(*refs[i : i + width]) for i in range(0, len(refs), width)]
    return refs[0]


@ray.remote
def sort(numbers):
    if len(numbers) <= 8:
        return np.sort(numbers)
    middle = len(numbers) // 2
    halves = [sort.remote(numbers[:middle]), sort.remote(numbers[middle:])]
    return ray.get(merge.remote(*halves))


@ray.remote
def merge(left, right):
    merged = np.concatenate([left, right])
    merged.sort(kind="mergesort")
    return merged


@ray.remote(num_cpus=0)
class Memo:
    def __init__(self):
        self.known = {0: 0, 1: 1}
        self.hits = 0

    def look(self, n):
        self.hits += n in self.known
        return self.known.get(n)

    def learn(self, n, value):
        self.known[n] = value
        return value

    def size(self):
        return len(self.known)


@ray.remote
def fibonacci(n, memo):
    found = ray.get(memo.look.remote(n))
    if found is None:
        parts = ray.get([fibonacci.remote(n - 1, memo), fibonacci.remote(n - 2, memo)])
        found = ray.get(memo.learn.remote(n, sum(parts)))
    return found


@ray.remote
def lazily(n):
    """Give back refs, which whoever gets them may wait for or not."""
    return {"now": n, "later": [add.remote(n, i) for i in range(3)]}


@ray.remote
def look_inside(box, direct):
    inner = box["ref"]
    return isinstance(inner, ObjectRef), isinstance(direct, ObjectRef), ray.get(inner) == direct


@ray.remote(num_returns=3)
def statistics(values):
    return values.min(), values.max(), float(values.mean())


@ray.remote
def overwrite(values):
    try:
        values[0] = 1
    except ValueError as error:
        return str(error)
    return "written"


ray.init(num_cpus=2)
blocks = [ray.put(np.full(30_000, i)) for i in range(10)]
total = ray.get(reduce_by_tree(blocks))
print("reduced", total.shape, int(total[0]), total.flags.writeable)
numbers = np.random.default_rng(7).permutation(50)
print("sorted", bool((ray.get(sort.remote(numbers)) == np.arange(50)).all()))
memo = Memo.remote()
print("fibonacci", ray.get(fibonacci.remote(9, memo)), ray.get(memo.size.remote()))
lazy = ray.get(lazily.remote(4))
print("lazily", lazy["now"], ray.get(lazy["later"]))
print("nested", ray.get(look_inside.remote({"ref": ray.put(5)}, ray.put(5))))
low, high, mean = statistics.remote(blocks[2])
print("statistics", ray.get(low), ray.get(high), ray.get(mean))
print("overwrite", ray.get(overwrite.remote(blocks[1])))
print("same", lazy["later"][0] == lazy["later"][0], len({*lazy["later"], lazy["later"][0]}))
print("chained", ray.get(add.remote(add.remote(1, 2), add.remote(add.remote(3), 4), 5)))
ray.shutdown()
