"""The head dies: everybody learns it at once, nothing of it runs on, and the next start cleans up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import jray
from jray.exceptions import RaySystemError
from tests.behaviour.support import Bench, processes_marked, wait_gone, wait_until
from tests.cluster.processes import Cluster, left_in

REMEDY = r"jray\.init\(\)"


@jray.remote
def wait_here(bench: Bench) -> None:
    bench.tally("started").add(os.getpid())
    time.sleep(600)


@jray.remote
def sleep(seconds: float) -> None:
    time.sleep(seconds)


@jray.remote
class Actor:
    def wait_here(self, bench: Bench) -> None:
        bench.tally("started").add(os.getpid())
        time.sleep(600)

    def pid(self) -> int:
        return os.getpid()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_waits_for_a_dead_head_says_so(cluster: Cluster, bench: Bench, mark: str, number: int) -> None:
    """Pending results raise, saying what to do, long before their time is over; no process of the cluster is left."""
    actor = Actor.remote()
    refs = [
        wait_here.remote(bench),
        actor.wait_here.remote(bench),
        *[wait_here.remote(bench) for _ in range(3)],
    ]
    bench.tally("started").wait_for(2)
    os.kill(cluster.head.pid, number)
    for ref in refs:
        with pytest.raises(RaySystemError, match=REMEDY):
            jray.get(ref, timeout=50)
    wait_until(lambda: not processes_marked(mark), what="no process left")


def test_what_is_asked_of_a_dead_head_says_so(cluster: Cluster) -> None:
    """Every call that needs the head raises at once, instead of waiting for ever."""
    actor = Actor.remote()
    jray.get(actor.pid.remote(), timeout=20)
    known = jray.put("here")
    head = cluster.head
    head.kill()
    wait_gone(head.pid)
    calls: list[Callable[[], object]] = [
        lambda: jray.get(jray.remote(lambda: 1).remote(), timeout=20),
        lambda: jray.get(actor.pid.remote(), timeout=20),
        lambda: jray.get(Actor.remote().pid.remote(), timeout=20),
        lambda: jray.put(bytes(1_000_000)),
        jray.nodes,
        jray.available_resources,
        lambda: jray.get_actor("nobody"),
    ]
    for call in calls:
        with pytest.raises(RaySystemError, match=REMEDY):
            call()
    assert jray.get(known) == "here"


def test_a_new_cluster_can_be_started_after_a_heads_death(
    cluster: Cluster, runtime_dir: Path, mark: str
) -> None:
    """init works again, without shutdown before it, and removes what the dead head left."""
    ref = jray.put(bytes(1_000_000))
    head = cluster.head
    head.kill()
    with pytest.raises(RaySystemError):
        jray.get(sleep.remote(600), timeout=20)
    wait_gone(head.pid)  # its connections close before it lets go of its lock
    again = Cluster(jray.init(num_cpus=1).address_info)
    assert jray.get(jray.remote(lambda: 1).remote(), timeout=20) == 1
    wait_until(lambda: left_in(runtime_dir) == set(), what="a clean runtime directory")
    assert os.listdir(runtime_dir) == [again.session_dir.name]
    assert not cluster.store_dir.exists()
    del ref


def test_shutdown_after_a_heads_death_cleans_up(cluster: Cluster, runtime_dir: Path) -> None:
    """shutdown removes what the dead head left, and does not complain."""
    jray.put(bytes(1_000_000))
    os.kill(cluster.head.pid, signal.SIGKILL)
    jray.shutdown()
    assert not cluster.store_dir.exists()
    assert os.listdir(runtime_dir) == []


def test_arrays_that_were_read_outlive_the_head(cluster: Cluster) -> None:
    """A view of shared memory stays good: what the user holds is not taken away."""
    numpy = pytest.importorskip("numpy")
    view = jray.get(jray.put(numpy.arange(1_000_000)))
    os.kill(cluster.head.pid, signal.SIGKILL)
    jray.shutdown()
    assert int(view.sum()) == 499_999_500_000


def test_processes_that_tasks_started_go_with_the_head(cluster: Cluster, bench: Bench) -> None:
    """Children of tasks, also those in a session of their own, end with a head that is killed."""

    @jray.remote
    def task() -> None:
        for own_session in (False, True):
            child = subprocess.Popen([shutil.which("sleep") or "", "600"], start_new_session=own_session)
            bench.tally().add(child.pid)
        time.sleep(600)

    ref = task.remote()
    bench.tally().wait_for(2)
    cluster.head.kill()
    wait_gone(*[pid for pid in bench.tally().notes() if isinstance(pid, int)])
    with pytest.raises(RaySystemError):
        jray.get(ref, timeout=20)
