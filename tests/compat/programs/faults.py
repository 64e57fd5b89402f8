"""What fails: retries, crashes, cancellation, errors of the user's own along a chain, what cannot be pickled."""

# As Ray's users write: without annotations, on their own terms.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN204, UP028, BLE001
import os
import sys
import tempfile
import threading
import time

import ray
from ray.exceptions import (
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)


class QuotaError(Exception):
    def __init__(self, user, limit):
        super().__init__(f"{user} is over {limit}")
        self.user, self.limit = user, limit

    def __reduce__(self):
        return QuotaError, (self.user, self.limit)


def count(path):
    with open(path, "a") as file:
        file.write("x")
    return os.path.getsize(path)


@ray.remote(max_retries=4, retry_exceptions=[ConnectionError])
def flaky(path, wanted):
    if count(path) < wanted:
        raise ConnectionError("try again")
    return "done"


@ray.remote(max_retries=2)
def crashing(path, wanted):
    if count(path) < wanted:
        os._exit(3)
    return "survived"


@ray.remote
def over(user):
    raise QuotaError(user, 10)


@ray.remote
def forward(value):
    return value


@ray.remote
def catch(refs):
    try:
        return ray.get(refs[0])
    except QuotaError as error:
        return "caught", error.user


@ray.remote(max_retries=0)
def forever(started):
    started.mark.remote()
    while True:
        time.sleep(0.01)


@ray.remote(num_cpus=0)
class Marks:
    def __init__(self):
        self.count = 0

    def mark(self):
        self.count += 1

    def get(self):
        return self.count


@ray.remote
def stream(n):
    for i in range(n):
        yield i
    raise QuotaError("stream", n)


@ray.remote
class Fragile:
    def __init__(self, ok):
        if not ok:
            raise QuotaError("actor", 0)

    def hello(self):
        return "hello"

    def fail(self):
        raise KeyError("missing")


@ray.remote(num_returns=2)
def one_too_few():
    return (1,)


def attempt(name, function):
    try:
        print(name, function())
    except RayError as error:
        print(name, type(error).__name__, [base.__name__ for base in type(error).__mro__[1:3]])
    except Exception as error:
        print(name, type(error).__name__)


ray.init(num_cpus=2)
with tempfile.TemporaryDirectory() as folder:
    attempt("flaky", lambda: ray.get(flaky.remote(f"{folder}/a", 3)))
    attempt("too flaky", lambda: ray.get(flaky.options(max_retries=1).remote(f"{folder}/b", 3)))
    attempt("crashing", lambda: ray.get(crashing.remote(f"{folder}/c", 2)))
    attempt("crashed", lambda: ray.get(crashing.options(max_retries=0).remote(f"{folder}/d", 2)))
    print(
        "runs", os.path.getsize(f"{folder}/a"), os.path.getsize(f"{folder}/b"), os.path.getsize(f"{folder}/c")
    )

try:
    ray.get(forward.remote(forward.remote(over.remote("ann"))))
except QuotaError as error:
    print("chain", error.user, error.limit, isinstance(error, RayTaskError), type(error.cause).__name__)
    print("as instance", type(error.as_instanceof_cause()).__name__)
print("inside", ray.get(catch.remote([over.remote("bob")])))

marks = Marks.remote()
running = forever.remote(marks)
while not ray.get(marks.get.remote()):
    time.sleep(0.01)
attempt("timeout", lambda: ray.get(running, timeout=0.05))
ray.cancel(running)
try:
    ray.get(running)
except TaskCancelledError:
    print("cancelled")
forced = forever.remote(marks)
while ray.get(marks.get.remote()) < 2:
    time.sleep(0.01)
ray.cancel(forced, force=True)
try:
    ray.get(forced)
except (TaskCancelledError, WorkerCrashedError):
    print("forced")

items = stream.remote(3)
print("stream", [ray.get(next(items)) for _ in range(3)])
try:
    ray.get(next(items))
except QuotaError as error:
    print("its end", error.user, next(items, "over"))
attempt("constructor", lambda: ray.get(Fragile.remote(False).hello.remote()))
fragile = Fragile.remote(True)
attempt("method", lambda: ray.get(fragile.fail.remote()))
attempt("still there", lambda: ray.get(fragile.hello.remote()))
attempt("too few", lambda: ray.get(one_too_few.remote()))
attempt("a lock", lambda: ray.put(threading.Lock()))
attempt("a lock as argument", lambda: forward.remote(threading.Lock()))
attempt("a lock as value", lambda: ray.get(ray.remote(lambda: threading.Lock()).remote()))
attempt("a ref's ref", lambda: ray.put(ray.put(1)))
attempt("get of what is no ref", lambda: ray.get(5))
attempt("get of a list with one", lambda: ray.get([ray.put(1), 5]))
attempt("wait for the same", lambda: ray.wait([running, running]))
attempt("wait for too many", lambda: ray.wait([running], num_returns=2))
attempt("bad option", lambda: forward.options(num_cpu=1))
attempt("bad argument", lambda: forward.remote())
attempt("system exit", lambda: ray.get(ray.remote(max_retries=0)(lambda: sys.exit(1)).remote()))
ready, unready = ray.wait([forward.remote(1), over.remote("x")], num_returns=2, timeout=30)
print("errors are ready", len(ready), len(unready))
ray.shutdown()
