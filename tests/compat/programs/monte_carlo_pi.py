"""An estimate of pi by sampling tasks, which report how far they are to an actor that the driver watches."""

# As Ray's users write: without annotations, on their own terms.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN204, S311

import math
import random

import ray

TASKS = 6
SAMPLES = 20_000
REPORTS = 4


@ray.remote
class Progress:
    def __init__(self, total):
        self.total = total
        self.done = {}

    def report(self, task, samples):
        self.done[task] = samples

    def fraction(self):
        return sum(self.done.values()) / self.total


@ray.remote
def sample(task, progress):
    source = random.Random(task)
    inside = 0
    for step in range(1, SAMPLES + 1):
        inside += math.hypot(source.random(), source.random()) <= 1
        if step % (SAMPLES // REPORTS) == 0:
            ray.get(progress.report.remote(task, step))
    return inside


ray.init(num_cpus=3)
progress = Progress.remote(TASKS * SAMPLES)
tasks = [sample.remote(task, progress) for task in range(TASKS)]
seen = [0.0]
while seen[-1] < 1:
    seen.append(ray.get(progress.fraction.remote()))
print("never back", seen == sorted(seen))
print("pi", round(4 * sum(ray.get(tasks)) / (TASKS * SAMPLES), 4))
print("resources", ray.cluster_resources()["CPU"])
ray.shutdown()
