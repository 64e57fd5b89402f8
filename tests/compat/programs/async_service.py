"""Async and threaded actors: many calls at once, groups of calls, streams, and an event loop in the driver."""

# As Ray's users write: without annotations, on their own terms.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN204, ASYNC110
import asyncio
import threading
import time

import ray


@ray.remote(num_cpus=0)
class Signal:
    def __init__(self):
        self.event = asyncio.Event()
        self.waiting = 0

    async def send(self, clear=False):
        self.event.set()
        if clear:
            self.event.clear()

    async def wait(self):
        self.waiting += 1
        await self.event.wait()
        return "sent"

    async def count(self):
        return self.waiting


@ray.remote(max_concurrency=3)
class Limited:
    def __init__(self):
        self.now = self.most = 0

    async def work(self, i):
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.02)
        self.now -= 1
        return i

    async def peak(self):
        return self.most


@ray.remote(concurrency_groups={"io": 2, "compute": 1})
class Grouped:
    def __init__(self):
        self.is_open = False

    @ray.method(concurrency_group="io")
    async def fetch(self):
        while not self.is_open:  # each group has an event loop of its own
            await asyncio.sleep(0.01)
        return "fetched"

    @ray.method(concurrency_group="compute")
    async def compute(self, x):
        return x * 2

    async def open(self):
        self.is_open = True
        return "open"


@ray.remote(max_concurrency=4)
class Threaded:
    def __init__(self):
        self.barrier = threading.Barrier(3)

    def meet(self):
        return self.barrier.wait(30) >= 0

    def names(self):
        return threading.current_thread() is threading.main_thread()


@ray.remote
class Streamer:
    async def ticks(self, n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    def plain(self, n):
        for i in range(n):
            yield i * i

    async def broken(self):
        yield "one"
        raise RuntimeError("broken stream")

    async def chain(self, signal):
        return await signal.wait.remote()


@ray.remote
def slow(x, delay):
    time.sleep(delay)
    return x


ray.init(num_cpus=3)
signal = Signal.remote()
streamer = Streamer.remote()
waits = [signal.wait.remote() for _ in range(5)] + [streamer.chain.remote(signal)]
while ray.get(signal.count.remote()) < 6:
    time.sleep(0.01)
print("none ready", ray.wait(waits, timeout=0)[0])
ray.get(signal.send.remote())
print("sent", ray.get(waits))

limited = Limited.remote()
print("in order", ray.get([limited.work.remote(i) for i in range(9)]), ray.get(limited.peak.remote()))

grouped = Grouped.remote()
fetching = [grouped.fetch.remote() for _ in range(4)]
print("compute", ray.get(grouped.compute.remote(4)), ray.get(grouped.open.remote()))
print("fetched", ray.get(fetching))
print("other group", ray.get(grouped.compute.options(concurrency_group="io").remote(5)))

threaded = Threaded.remote()
print("met", ray.get([threaded.meet.remote() for _ in range(3)]), ray.get(threaded.names.remote()))

print("plain", [ray.get(ref) for ref in streamer.plain.remote(4)])
ticks = streamer.ticks.options(num_returns="streaming").remote(3)
print("ticks", [ray.get(next(ticks)) for _ in range(3)], next(ticks, "over"))
broken = streamer.broken.remote()
print("first", ray.get(next(broken)))
try:
    ray.get(next(broken))
except RuntimeError as error:
    print("second", type(error).__mro__[1].__name__, "broken stream" in str(error))


async def main():
    refs = [slow.remote(i, 0.01 * (3 - i)) for i in range(3)]
    values = await asyncio.gather(*refs)
    first = await asyncio.wait_for(slow.remote("one", 0), 30)
    done, pending = await asyncio.wait([asyncio.wrap_future(slow.remote(9, 0).future())], timeout=30)
    seen = [await ref async for ref in streamer.ticks.remote(3)]
    try:
        await asyncio.wait_for(slow.remote(0, 3), 0.05)
    except TimeoutError:
        timed_out = True
    return values, first, [task.result() for task in done], len(pending), seen, timed_out


print("driver", asyncio.run(main()))
ray.shutdown()
