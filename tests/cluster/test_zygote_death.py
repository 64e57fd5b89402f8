"""The process that forks workers dies, and all workers with it: another takes its place, and work goes on."""

from __future__ import annotations

import os
import signal
import time

import pytest

import jray
from jray.exceptions import RaySystemError, WorkerCrashedError
from tests.behaviour.support import Bench, processes_marked, wait_gone, wait_until
from tests.cluster.processes import Cluster


@jray.remote
def own_pid() -> int:
    return os.getpid()


def test_tasks_run_again_under_a_new_zygote(cluster: Cluster, bench: Bench) -> None:
    """Tasks that ran at the zygote's death are retried; those without retries fail, naming what happened."""
    started, gate = bench.tally(), bench.gate()

    def wait() -> int:
        started.add(os.getpid())
        gate.wait()
        return os.getpid()

    again = jray.remote(wait).options(max_retries=1).remote()
    once = jray.remote(wait).options(max_retries=0).remote()
    started.wait_for(2)
    zygote = cluster.zygote.pid
    os.kill(zygote, signal.SIGKILL)
    with pytest.raises(WorkerCrashedError, match=f"pid {zygote}"):
        jray.get(once, timeout=20)
    started.wait_for(3)
    gate.open()
    assert jray.get(again, timeout=20) == started.notes()[2]
    assert cluster.zygote.pid != zygote


def test_an_idle_cluster_gets_a_new_zygote(cluster: Cluster) -> None:
    """Work that comes after the death runs as if nothing had been."""
    assert jray.get(jray.remote(lambda: 1).remote(), timeout=20) == 1
    zygote = cluster.zygote
    workers = [worker.pid for worker in cluster.workers(2)]
    zygote.kill()
    wait_gone(zygote.pid, *workers)
    pids = jray.get([own_pid.remote() for _ in range(10)], timeout=20)
    assert not set(pids) & set(workers)


def test_an_actor_restarts_under_a_new_zygote(cluster: Cluster) -> None:
    """An actor with restarts left survives the zygote, as it would its own worker's death."""

    @jray.remote(max_restarts=1, max_task_retries=1)
    class Actor:
        def pid(self) -> int:
            return os.getpid()

    actor = Actor.remote()
    first = jray.get(actor.pid.remote(), timeout=20)
    cluster.zygote.kill()
    wait_gone(first)
    assert jray.get(actor.pid.remote(), timeout=20) != first


def test_what_workers_had_started_goes_with_the_zygote(cluster: Cluster, bench: Bench, mark: str) -> None:
    """Processes of tasks, also those in sessions of their own, don't outlive the zygote's death."""
    pids = bench.tally()

    @jray.remote(max_retries=0)
    def task() -> None:
        for program in ("sleep 600 & echo $!", "setsid sleep 600 & echo $!"):
            with os.popen(program) as pipe:  # noqa: S605 -- a shell that goes away is the point
                pids.add(int(pipe.readline()))
        time.sleep(600)

    ref = task.remote()
    pids.wait_for(2)
    cluster.zygote.kill()
    with pytest.raises(WorkerCrashedError):
        jray.get(ref, timeout=20)
    wait_gone(*[pid for pid in pids.notes() if isinstance(pid, int)])


def test_a_zygote_that_dies_again_and_again_ends_the_cluster(
    cluster: Cluster, bench: Bench, capfd: pytest.CaptureFixture[str], mark: str
) -> None:
    """What cannot work ends with a word about it, and does not try for ever."""
    zygotes = bench.tally()

    @jray.remote(max_retries=-1)
    def task() -> None:
        zygotes.add(os.getppid())
        time.sleep(600)

    ref = task.remote()
    for count in range(3):
        zygotes.wait_for(count + 1)
        zygote = zygotes.notes()[count]
        assert isinstance(zygote, int)
        os.kill(zygote, signal.SIGKILL)
    with pytest.raises(RaySystemError, match=r"jray\.init\(\)"):
        jray.get(ref, timeout=50)
    wait_until(lambda: not processes_marked(mark), what="all ended")
    assert "no worker can run" in capfd.readouterr().err
