"""Measure what the lens and the panel cost: short tasks with both shown and without, in turns, in a real kernel.

usage: python tools/measure_views.py [--turns 10] [--seconds 2] [--tasks 10000] [--cpus 2] [--idle 10]

A turn runs the tasks again and again for some seconds in one cell, so that the lens has something to show. A front end is
there as far as the kernel can tell: one view of the panel is looked at, and all messages are read.
"""

from __future__ import annotations

import argparse
import math
import os
import queue
import re
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).parent.parent
WIDGET = "application/vnd.jupyter.widget-view+json"
VIEWS = ("neither", "lens", "panel", "both")

SETUP = """
import sys, time
sys.path.insert(0, {root!r})
import jray
%load_ext jray
jray.init(num_cpus={cpus})

@jray.remote(num_cpus=1)
def f(x):
    return x

def run_for(seconds):
    times, end = [], time.perf_counter() + seconds
    began_cpu = time.process_time()
    while time.perf_counter() < end:
        began = time.perf_counter()
        jray.get([f.remote(n) for n in range({tasks})])
        times.append(time.perf_counter() - began)
    print('TIMES', (time.process_time() - began_cpu) / len(times), *times)

run_for(1)
"""


class Kernel:
    """A kernel of this Python, and a front end that reads all that it says."""

    def __init__(self) -> None:
        self._manager = KernelManager(
            kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[])
        )
        self._manager.start_kernel(env={**os.environ, "JRAY_NONINTERACTIVE": "0"})
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)
        self.messages: list[dict[str, Any]] = []

    def run(self, code: str) -> list[dict[str, Any]]:
        """Run a cell to its end; return what it said.  Raises RuntimeError if it raised."""
        request = self._client.execute(textwrap.dedent(code))
        said: list[dict[str, Any]] = []

        def is_idle() -> bool:
            said[:] = [m for m in self.messages if m["parent_header"].get("msg_id") == request]
            return any(m["content"].get("execution_state") == "idle" for m in said)

        self.read_until(is_idle)
        for message in said:
            if message["msg_type"] == "error":
                raise RuntimeError("\n".join(message["content"]["traceback"]))
        return said

    def read_until(self, is_enough: Callable[[], bool], timeout_s: float = 300.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not is_enough():
            if time.monotonic() > deadline_s:
                raise TimeoutError("The kernel did not say what it was waited for.")
            try:
                self.messages.append(self._client.get_iopub_msg(timeout=0.2))
            except queue.Empty:
                continue

    def read_for(self, seconds: float) -> int:
        """Read for so long; return how many messages came."""
        before, deadline_s = len(self.messages), time.monotonic() + seconds
        self.read_until(lambda: time.monotonic() > deadline_s, math.inf)
        return len(self.messages) - before

    def look(self, comm_id: str) -> None:
        """Say what a panel says that is drawn and seen."""
        data = {"method": "custom", "content": {"type": "view", "view": "v", "visible": True}}
        message = self._client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
        self._client.shell_channel.send(message)

    def is_told(self, comm_id: str) -> bool:
        return any(
            message["msg_type"] == "comm_msg"
            and message["content"]["comm_id"] == comm_id
            and message["content"]["data"].get("content", {}).get("view") == "v"
            for message in self.messages
        )

    @property
    def pid(self) -> int:
        return int(self._manager.provisioner.pid)  # type: ignore[union-attr]  # the local one, which has one

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=False)


@contextmanager
def shown(kernel: Kernel, views: str) -> Iterator[None]:
    """Have the lens, the panel, both or neither while this lasts."""
    kernel.run(f"%jray lens {'on' if views in ('lens', 'both') else 'off'}")
    if views not in ("panel", "both"):
        yield
        return
    said = kernel.run("panel = jray.panel(); display(panel)")
    (comm_id,) = (
        message["content"]["data"][WIDGET]["model_id"]
        for message in said
        if message["msg_type"] == "display_data" and WIDGET in message["content"]["data"]
    )
    kernel.look(comm_id)
    kernel.read_until(lambda: kernel.is_told(comm_id))
    yield
    kernel.run("panel.close()")


def seconds_of(said: list[dict[str, Any]]) -> list[float]:
    text = "".join(m["content"]["text"] for m in said if m["msg_type"] == "stream")
    found = re.search(r"^TIMES (.*)$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"The cell printed no times: {text}")
    return [float(word) for word in found[1].split()]


def cpu_seconds(kernel: Kernel) -> float:
    """Return the CPU seconds of the kernel's process and of its cluster's."""
    process = psutil.Process(kernel.pid)
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a line for each choice of views."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=10, help="how often each is measured (default: 10)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one turn (default: 2)")
    parser.add_argument("--tasks", type=int, default=10_000, help="in flight at once (default: 10000)")
    parser.add_argument("--cpus", type=int, default=2, help="of the cluster (default: 2)")
    parser.add_argument("--idle", type=float, default=10.0, help="seconds of rest to measure (default: 10)")
    parser.add_argument("--views", nargs="+", choices=VIEWS, default=["neither", "both"])
    options = parser.parse_args(arguments)
    kernel = Kernel()
    try:
        kernel.run(SETUP.format(root=str(ROOT), cpus=options.cpus, tasks=options.tasks))
        medians: dict[str, list[float]] = {views: [] for views in options.views}
        cpus: dict[str, list[float]] = {views: [] for views in options.views}
        messages = dict.fromkeys(options.views, 0)
        for turn in range(options.turns):
            # forth and back, so that what drifts drifts for all
            for views in options.views if turn % 2 else reversed(options.views):
                with shown(kernel, views):
                    said = kernel.run(f"run_for({options.seconds})")
                    cpu_s, *times = seconds_of(said)
                    medians[views].append(statistics.median(times))
                    cpus[views].append(cpu_s)
                    messages[views] += len(said)
        first = statistics.median(medians[options.views[0]])
        for views, found in medians.items():
            median = statistics.median(found)
            spread = f"{min(found) * 1000:.1f}-{max(found) * 1000:.1f}"
            print(
                f"{views:8} {options.tasks} tasks: median {median * 1000:.1f} ms ({spread}), {median / first - 1:+.1%}, "
                f"{statistics.median(cpus[views]) * 1000:.1f} ms of the kernel's CPU, "
                f"{messages[views] / options.turns:.0f} messages a turn"
            )
        for views in options.views:
            with shown(kernel, views):
                kernel.read_for(3.0)  # until the last of the work has been told
                before_s, began_s = cpu_seconds(kernel), time.monotonic()
                count = kernel.read_for(options.idle)
                spent_s, took_s = cpu_seconds(kernel) - before_s, time.monotonic() - began_s
                print(f"{views:8} at rest: {spent_s / took_s:.2%} of a core, {count} messages")
        kernel.run("jray.shutdown()")
    finally:
        kernel.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
