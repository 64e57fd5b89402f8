"""A pipeline: stages chained by refs, results taken as they are ready, a bounded number of tasks in flight."""

# As Ray's users write: without annotations, on their own terms.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, UP028

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayTaskError

ITEMS = 24
IN_FLIGHT = 6


@ray.remote
def load(index):
    return np.full(40_000, index, dtype=np.float64)  # large enough for the object store


@ray.remote(num_returns=2)
def split(block):
    return block[::2].copy(), block[1::2].copy()


@ray.remote
def combine(left, right, scale):
    return float(left.sum() + right.sum()) * ray.get(scale[0])


@ray.remote(max_retries=0)
def faulty(index):
    if index % 2:
        raise ValueError(f"item {index}")
    return index


@ray.remote
def numbers(count):
    for number in range(count):
        yield number


ray.init(num_cpus=2)
scale = ray.put(0.5)
pending, results = {}, {}
for index in range(ITEMS):
    if len(pending) == IN_FLIGHT:
        (ready,), _ = ray.wait(list(pending), num_returns=1)
        results[pending.pop(ready)] = ray.get(ready)
    left, right = split.remote(load.remote(index))
    pending[combine.remote(left, right, [scale])] = index
while pending:
    ready, _ = ray.wait(list(pending), num_returns=len(pending))
    results.update({pending.pop(ref): ray.get(ref) for ref in ready})
print("results", sorted(results) == list(range(ITEMS)), sum(results.values()))

outcomes = []
for ref in [faulty.remote(index) for index in range(4)]:
    try:
        outcomes.append(ray.get(ref))
    except RayTaskError as error:
        outcomes.append((isinstance(error, ValueError), str(error.cause)))
print("outcomes", outcomes)
print("generated", [ray.get(ref) for ref in numbers.remote(5)])
print("options", ray.get(faulty.options(num_cpus=0.5, name="half").remote(2)))
try:
    ray.get(faulty.options(resources={"absent": 1}).remote(0), timeout=0)
except GetTimeoutError as error:
    print("timeout", isinstance(error, TimeoutError))
ray.shutdown()
