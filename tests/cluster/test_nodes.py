"""Nodes that die for real, with work on them: nothing is lost that can be had, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import jray
from jray._core.refs import current
from jray.cluster_utils import Cluster
from jray.exceptions import RaySystemError
from tests.behaviour.support import Bench, wait_gone, wait_until
from tests.cluster.processes import Script

MB = 2**20
PATIENCE_S = 120.0

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1})
    yield made
    made.shutdown()


def store_of(node: Any) -> dict[str, Any]:
    client: Any = current.client
    found: dict[str, Any] = client.cluster.stores()[bytes.fromhex(node.node_id)]
    return found


def processes_under(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def zygote_of(node: Any) -> psutil.Process:
    """Return the process from which the node forks its workers: its child that has children, once it has some."""
    found: psutil.Process = wait_until(
        lambda: next((child for child in psutil.Process(node.pid).children() if child.children()), None),
        what="the node has a worker",
    )
    return found


@jray.remote(num_cpus=0.25)
def work(number: int, tally: Any) -> Any:
    tally.add(os.getpid())
    time.sleep(0.05)
    return np.full(40_000, number) if number % 2 else number


@jray.remote(num_cpus=0, resources={"far": 0.01})
def fill(value: float) -> Any:
    return np.full(MB // 8, value)


@jray.remote(num_cpus=0, resources={"far": 0.01})
def pid() -> int:
    return os.getpid()


def test_a_node_that_is_killed_with_200_tasks_costs_no_result(nodes: Cluster, bench: Bench) -> None:
    others = [nodes.add_node(num_cpus=1) for _ in range(3)]
    refs = [work.remote(number, bench.tally()) for number in range(200)]
    bench.tally().wait_for(60, PATIENCE_S)
    left = [process.pid for process in processes_under(others[0].pid)] + [others[0].pid]
    os.kill(others[0].pid, signal.SIGKILL)
    values = jray.get(refs, timeout=PATIENCE_S)
    for number, value in enumerate(values):
        assert np.all(value == number)
    nodes.remove_node(others[0], allow_graceful=False)
    for process in left:
        wait_gone(process)


def test_a_node_whose_zygote_is_killed_goes_on(nodes: Cluster) -> None:
    node = nodes.add_node(num_cpus=1, resources={"far": 1})
    kept = fill.remote(1.0)
    before = jray.get(pid.remote())
    zygote_of(node).kill()
    wait_gone(before)
    assert jray.get(pid.remote(), timeout=PATIENCE_S) != before
    assert jray.get(kept).sum() == MB // 8


def test_nodes_end_with_their_head(nodes: Cluster) -> None:
    node = nodes.add_node(num_cpus=1, resources={"far": 1})
    worker = jray.get(pid.remote())
    assert nodes.head_node is not None
    os.kill(nodes.head_node.pid, signal.SIGKILL)
    wait_gone(node.pid)
    wait_gone(worker)
    with pytest.raises(RaySystemError):
        jray.get(pid.remote())


def test_nodes_end_with_the_process_that_made_them(script: Any, tmp_path: Path) -> None:
    program: Script = script(
        """
        import time
        import jray
        from jray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1})
        node = cluster.add_node(num_cpus=1, resources={"far": 1})

        @jray.remote(resources={"far": 1})
        def pid():
            import os
            return os.getpid()

        print(node.pid, jray.get(pid.remote()), flush=True)
        time.sleep(600)
        """
    )
    pids = [int(text) for text in program.line().split()]
    program.kill()
    for process in pids:
        wait_gone(process)


def test_a_node_without_a_head_says_why_it_does_not_start(nodes: Cluster) -> None:
    assert nodes.head_node is not None
    os.kill(nodes.head_node.pid, signal.SIGKILL)
    wait_gone(nodes.head_node.pid)
    with pytest.raises(RaySystemError, match="head"):
        nodes.add_node()


def test_bytes_on_their_way_from_a_node_that_dies_come_again(nodes: Cluster) -> None:
    node = nodes.add_node(num_cpus=1, resources={"far": 1})
    refs = [fill.remote(float(number)) for number in range(40)]
    jray.wait(refs, num_returns=len(refs))
    os.kill(node.pid, signal.SIGSTOP)  # what is asked of it now waits, until it dies
    waiting = [jray.wait(refs, num_returns=len(refs), timeout=0)[0]]
    assert len(waiting[0]) == len(refs)
    nodes.add_node(num_cpus=1, resources={"far": 1})
    helper = _get_in_thread(refs)
    os.kill(node.pid, signal.SIGKILL)
    assert [value[0] for value in helper.result(PATIENCE_S)] == [float(number) for number in range(40)]


def _get_in_thread(refs: list[Any]) -> Any:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 -- only here

    pool = ThreadPoolExecutor(1)
    future = pool.submit(jray.get, refs)
    pool.shutdown(wait=False)
    return future


def test_what_a_dead_driver_had_goes_from_all_nodes(nodes: Cluster, script: Any) -> None:
    node = nodes.add_node(num_cpus=1, resources={"far": 1})
    program: Script = script(
        """
        import sys, time
        import numpy as np
        import jray

        jray.init(address=sys.argv[1])

        @jray.remote(num_cpus=0, resources={"far": 0.1})
        def fill():
            return np.ones(2**17)

        made, put = fill.remote(), jray.put(np.ones(2**17))

        @jray.remote(num_cpus=0, resources={"far": 0.1})
        def total(values):
            return float(values.sum())

        print(jray.get(made).sum() + jray.get(total.remote(put)), flush=True)
        time.sleep(600)
        """,
        nodes.address,
    )
    assert program.line() == str(2.0 * 2**17)
    wait_until(lambda: store_of(node)["objects"] == store_of(nodes.head_node)["objects"] == 2)
    program.kill()
    wait_until(
        lambda: store_of(node)["objects"] == store_of(nodes.head_node)["objects"] == 0,
        what=lambda: str([store_of(node), store_of(nodes.head_node)]),
    )
    wait_until(lambda: not zygote_children(node), what="its workers have ended")


def zygote_children(node: Any) -> list[psutil.Process]:
    return [worker for child in psutil.Process(node.pid).children() for worker in child.children()]
