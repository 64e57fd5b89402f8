"""Simulates clusters by the scheduler's machine alone, and says what its decisions cost and how good they are.

    python tools/simulate_scheduling.py            # print the table
    python tools/simulate_scheduling.py --write    # and put it into docs/scale.md

Time is simulated, the machine is the real one (`jray._core.machine.leases`); what is measured is the time that its
decisions took, on one core of this machine.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import sys
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jray._core.machine.leases import (
    Action,
    Demand,
    EndWorker,
    Grant,
    GroupMoved,
    Leases,
    StartWorker,
    WantIdle,
)
from jray._core.resources import UNITS, NodeResources, ResourceSet
from jray._core.strategies import ANYWHERE, Where

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
BEGIN, END = "<!-- table: begin (written by tools/simulate_scheduling.py) -->", "<!-- table: end -->"
#: simulated: from the order to start a worker until it is there
START_S = 0.05
#: simulated: as in the head
TICK_S = 0.5
#: a driver gives a lease back to others after it has run tasks for so long
_SHARE_S = 0.1
ONE_CPU = ResourceSet({"CPU": UNITS})


@dataclass
class Driver:
    """One client with tasks of one kind."""

    number: int
    tasks: int
    seconds: tuple[float, float]  #: a task takes this long, evenly distributed
    where: Where = ANYWHERE
    request: ResourceSet = ONE_CPU
    pool: Hashable = ("job", ())
    queue: int = 0
    done: int = 0
    leases: int = 0
    others_wait: bool = False
    ended_s: float = 0.0


class Simulation:
    """A cluster, its drivers, and a clock."""

    def __init__(self, nodes: int, cpus: int, drivers: Iterable[Driver], *, seed: int = 1) -> None:
        self.random = random.Random(seed)  # noqa: S311 -- nothing secret
        self.now_s = 0.0
        self.machine_s = 0.0
        self.events = 0
        self.busy_s = 0.0
        self.capacity = nodes * cpus
        self.drivers = {driver.number: driver for driver in drivers}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._running: dict[int, tuple[Driver, float]] = {}
        self.leases = Leases(number.to_bytes(8, "little") for number in itertools.count(1))
        for number in range(nodes):
            resources = NodeResources(ResourceSet({"CPU": cpus * UNITS}))
            node_id = number.to_bytes(4, "big")
            join = partial(self.leases.node_joined, node_id, resources)
            self.do(partial(join, max_starting=max(4, cpus), soft_limit=cpus))

    def do(self, event: Callable[[], list[Action]]) -> None:
        """Let an event happen, and its actions follow."""
        began = time.perf_counter()
        actions = event()
        self.machine_s += time.perf_counter() - began
        self.events += 1
        for action in actions:  # what follows from each comes after them all
            if isinstance(action, StartWorker):
                self.after(START_S, partial(self._ready, action.worker_id))
            elif isinstance(action, Grant):
                driver = self.drivers[action.client]
                driver.leases += 1
                self.after(0.0, partial(self._run, driver, action.lease_number, self.now_s))
            elif isinstance(action, WantIdle):
                self.drivers[action.client].others_wait = action.wanted
            elif isinstance(action, EndWorker):
                self.after(0.0, partial(self.do, partial(self.leases.worker_died, action.worker_id)))
            else:
                assert isinstance(action, GroupMoved), action

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now_s + seconds, next(self._order), event))

    def run(self) -> None:
        for driver in self.drivers.values():
            driver.queue = driver.tasks
            self._state_demand(driver)
        self.after(TICK_S, self._tick)
        while self._agenda:
            self.now_s, _, event = heapq.heappop(self._agenda)
            event()

    def _tick(self) -> None:
        self.do(lambda: self.leases.tick(now_s=self.now_s, idle_s=1.0))
        if any(driver.done < driver.tasks for driver in self.drivers.values()):
            self.after(TICK_S, self._tick)

    def _ready(self, worker_id: bytes) -> None:
        self.do(lambda: self.leases.worker_ready(worker_id, now_s=self.now_s))

    def _state_demand(self, driver: Driver) -> None:
        demand = Demand(driver.number, 0, driver.request, driver.pool, driver.queue, where=driver.where)
        self.do(lambda: self.leases.demand(demand))

    def _run(self, driver: Driver, lease: int, since_s: float) -> None:
        """Run the driver's next task on a lease, or give it back."""
        if not driver.queue or (driver.others_wait and self.now_s - since_s >= _SHARE_S):
            driver.leases -= 1
            self.do(lambda: self.leases.returned(lease, retire=False, now_s=self.now_s))
            if driver.queue:
                self._state_demand(driver)
            return
        driver.queue -= 1
        if not driver.queue:
            self._state_demand(driver)
        seconds = self.random.uniform(*driver.seconds)
        self.busy_s += seconds * driver.request.get("CPU") / UNITS
        self.after(seconds, lambda: self._ended(driver, lease, since_s))

    def _ended(self, driver: Driver, lease: int, since_s: float) -> None:
        driver.done += 1
        if driver.done == driver.tasks:
            driver.ended_s = self.now_s
        self._run(driver, lease, since_s)

    def row(self, name: str) -> str:
        """Return the line of the table."""
        tasks = sum(driver.tasks for driver in self.drivers.values())
        assert all(driver.done == driver.tasks for driver in self.drivers.values()), "tasks that never ran"
        first = min(driver.ended_s for driver in self.drivers.values())
        last = max(driver.ended_s for driver in self.drivers.values())
        return (
            f"| {name} | {tasks:,} | {last:,.0f} s | {self.busy_s / (last * self.capacity):.1%} "
            f"| {self.events:,} | {1e6 * self.machine_s / self.events:.0f} us | {self.machine_s / last:.1%} "
            f"| {first / last:.2f} |"
        )


def scenarios(scale: float) -> Iterable[tuple[str, Simulation]]:
    """Make each simulation when its turn comes; *scale* makes them smaller."""

    def many(count: float) -> int:
        return max(1, int(count * scale))

    nodes = many(1000)
    yield f"{nodes:,} nodes of 4 CPUs, one driver", Simulation(nodes, 4, [Driver(1, many(1e6), (1, 3))])
    yield (
        "the same, SPREAD",
        Simulation(nodes, 4, [Driver(1, many(1e6), (1, 3), Where(spread=True))]),
    )
    yield (
        f"{nodes:,} nodes of 4 CPUs, 10 drivers",
        Simulation(nodes, 4, [Driver(n, many(1e5), (1, 3), pool=(n, ())) for n in range(1, 11)]),
    )
    few = many(100)
    yield (
        f"{few:,} nodes of 16 CPUs, 2 drivers: tasks of 1 CPU and of 8",
        Simulation(
            few,
            16,
            [
                Driver(1, many(2e5), (0.1, 0.3), pool=(1, ())),
                Driver(2, many(5e3), (1, 2), pool=(2, ()), request=ResourceSet({"CPU": 8 * UNITS})),
            ],
        ),
    )
    yield "20 nodes of 2 CPUs, one driver", Simulation(20, 2, [Driver(1, many(1e5), (0.005, 0.015))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of all numbers, to try it")
    parser.add_argument("--write", action="store_true", help="put the table into docs/scale.md")
    options = parser.parse_args()
    lines = [
        "| cluster and work | tasks | simulated time | CPUs busy | events | each | share of a core | first to last |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, simulation in scenarios(options.scale):
        simulation.run()
        lines.append(simulation.row(name))
        sys.stdout.write(lines[-1] + "\n")
        sys.stdout.flush()
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        head, rest = text.split(BEGIN)
        PAGE.write_text(
            head + BEGIN + "\n\n" + "\n".join(lines) + "\n\n" + END + rest.split(END)[1], encoding="utf-8"
        )


if __name__ == "__main__":
    main()
