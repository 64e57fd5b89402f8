"""Synchronous training of a linear model: workers compute gradients, a server holds the weights."""

# As Ray's users write: without annotations, on their own terms.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN002, ANN201, ANN204, B905, S311

import random

import ray

TRUE_WEIGHTS = (2.0, -3.0, 0.5)
STEPS = 60
WORKERS = 2


@ray.remote
class ParameterServer:
    def __init__(self, size, rate):
        self.weights = [0.0] * size
        self.rate = rate

    def apply(self, *gradients):
        for index in range(len(self.weights)):
            self.weights[index] -= self.rate * sum(gradient[index] for gradient in gradients) / len(gradients)
        return self.weights

    def get_weights(self):
        return self.weights


@ray.remote
class Learner:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def gradient(self, weights):
        total = [0.0] * len(weights)
        for _ in range(32):
            point = [self.random.uniform(-1, 1) for _ in weights]
            error = sum((w - true) * x for w, true, x in zip(weights, TRUE_WEIGHTS, point))
            for index, x in enumerate(point):
                total[index] += 2 * error * x / 32
        return total


ray.init(num_cpus=2)
server = ParameterServer.remote(len(TRUE_WEIGHTS), 0.3)
learners = [Learner.remote(seed) for seed in range(WORKERS)]
weights = server.get_weights.remote()
for _ in range(STEPS):
    weights = server.apply.remote(*[learner.gradient.remote(weights) for learner in learners])
print("weights", [round(weight, 2) for weight in ray.get(weights)])
ray.shutdown()
