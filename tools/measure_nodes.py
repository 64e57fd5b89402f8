"""Owns the figures of clusters of many nodes: what the head costs, and what the loss of a node costs.

    python tools/measure_nodes.py

Needs minutes of a quiet machine.  The rows of `benchmarks/` compare with Ray; here jray is compared with itself.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import psutil

import jray
from jray.cluster_utils import Cluster

_NODES = 20
_TASKS = 100_000
_ROUNDS = 5
_LOST_TASKS = 200
_LOST_NODES = 4
_TASK_S = 0.05


def many_nodes() -> None:
    """Run many small tasks on many nodes, and see what the head does meanwhile."""
    begin = time.perf_counter()
    cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1})
    for _ in range(_NODES - 1):
        cluster.add_node(wait=False, num_cpus=1)
    cluster.wait_for_nodes(120)
    print(f"{_NODES} nodes were up after {time.perf_counter() - begin:.1f} s")
    try:
        assert cluster.head_node is not None
        head = psutil.Process(cluster.head_node.pid)

        @jray.remote
        def same(number: int) -> int:
            return number

        before, begin = sum(head.cpu_times()[:2]), time.perf_counter()
        assert jray.get([same.remote(number) for number in range(_TASKS)]) == list(range(_TASKS))
        took_s = time.perf_counter() - begin
        share = (sum(head.cpu_times()[:2]) - before) / took_s
        print(f"{_TASKS:,} tasks took {took_s:.1f} s; the head used {share:.1%} of a core")
    finally:
        cluster.shutdown()


def loss_of_a_node() -> None:
    """Run tasks over some nodes, with and without the loss of one in the middle."""
    took: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(_ROUNDS):
        for is_lost, times in took.items():
            times.append(_with_or_without_loss(is_lost=is_lost))
    undisturbed, disturbed = statistics.median(took[False]), statistics.median(took[True])
    print(
        f"{_LOST_TASKS} tasks of {_TASK_S * 1000:.0f} ms over {_LOST_NODES} nodes: {undisturbed:.2f} s; with one of them "
        f"killed in the middle {disturbed:.2f} s, {disturbed / undisturbed:.2f} times as long"
    )


def _with_or_without_loss(*, is_lost: bool) -> float:
    cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(_LOST_NODES)]
    try:

        @jray.remote
        def work(number: int) -> int:
            time.sleep(_TASK_S)
            return number

        jray.get([work.remote(number) for number in range(4 * _LOST_NODES)])
        begin = time.perf_counter()
        refs: list[Any] = [work.remote(number) for number in range(_LOST_TASKS)]
        jray.wait(refs, num_returns=_LOST_TASKS // 4)
        if is_lost:
            cluster.remove_node(nodes[0], allow_graceful=False)
        assert jray.get(refs) == list(range(_LOST_TASKS))
        return time.perf_counter() - begin
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    many_nodes()
    loss_of_a_node()
