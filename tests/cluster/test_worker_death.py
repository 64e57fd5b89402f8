"""A worker dies in a task or as an actor: what runs again, what does not, and what the error says."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable

import pytest

import jray
from jray.exceptions import ActorDiedError, ActorUnavailableError, WorkerCrashedError
from tests.behaviour.support import Bench, wait_gone, wait_until
from tests.cluster.processes import Cluster

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
def own_pid() -> int:
    return os.getpid()


def end_by(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "sys.exit":
        sys.exit(4)
    else:
        ctypes.string_at(0)


@pytest.mark.parametrize("how", ["kill", "exit", "sys.exit", "segfault"])
def test_a_task_whose_worker_died_runs_again(bench: Bench, how: str) -> None:
    """However the worker ends, the task runs again in another."""
    runs = bench.tally()

    @jray.remote(max_retries=1)
    def task() -> int:
        if runs.add(os.getpid()) == 1:
            end_by(how)
        return os.getpid()

    pid = jray.get(task.remote(), timeout=20)
    assert runs.notes()[1:] == [pid]
    assert runs.notes()[0] != pid


@pytest.mark.parametrize(
    ("how", "signal_number", "exit_code"),
    [
        ("kill", signal.SIGKILL, None),
        ("exit", None, 3),
        ("sys.exit", None, 4),
        ("segfault", signal.SIGSEGV, None),
    ],
)
def test_the_error_tells_how_the_worker_ended(
    bench: Bench, how: str, signal_number: int | None, exit_code: int | None
) -> None:
    """Without retries the error has the process, its exit code or signal, and the last it wrote to stderr."""
    pids = bench.tally()

    @jray.remote(max_retries=0)
    def task() -> None:
        pids.add(os.getpid())
        print("last words", file=sys.stderr)
        end_by(how)

    with pytest.raises(WorkerCrashedError) as caught:
        jray.get(task.remote(), timeout=20)
    error = caught.value
    assert [error.pid] == pids.notes()
    assert (error.signal, error.exit_code) == (signal_number, exit_code)
    assert "last words" in error.last_lines
    text = str(error)
    assert "task" in text
    assert f"pid {error.pid}" in text
    assert "last words" in text
    if signal_number is not None:
        assert signal.Signals(signal_number).name in text
    if how == "segfault":
        assert any("Segmentation fault" in line for line in error.last_lines)


def test_a_worker_killed_from_outside_is_noticed_at_once(bench: Bench) -> None:
    """A get that waits for a task whose worker is killed raises, long before the task or its own time would be over."""
    pids = bench.tally()

    @jray.remote(max_retries=0)
    def task() -> None:
        pids.add(os.getpid())
        time.sleep(600)

    ref = task.remote()
    pids.wait_for(1)
    [pid] = pids.notes()
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerCrashedError, match="SIGKILL"):
        jray.get(ref, timeout=50)


def test_an_idle_worker_that_is_killed_is_replaced(cluster: Cluster) -> None:
    """Tasks after the death of every idle worker find others."""
    assert jray.get(jray.remote(lambda: 1).remote(), timeout=20) == 1
    pids = [worker.pid for worker in cluster.workers(2)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_gone(*pids)
    found = jray.get([own_pid.remote() for _ in range(20)], timeout=20)
    assert not set(found) & set(pids)


def test_no_task_of_a_batch_is_lost_with_its_worker(bench: Bench) -> None:
    """A worker dies in the middle of many short tasks: each has its result in the end."""
    deaths = bench.tally()

    @jray.remote
    def task(n: int) -> int:
        if n in (100, 777, 1500) and deaths.notes().count(n) == 0:
            deaths.add(n)
            os._exit(1)
        return n

    assert jray.get([task.remote(n) for n in range(2000)], timeout=50) == list(range(2000))
    assert deaths.count() == 3


def test_no_task_of_a_batch_runs_twice_that_must_not(bench: Bench) -> None:
    """With max_retries=0 only the task that killed its worker fails, and every other runs exactly once."""
    runs = bench.tally()

    @jray.remote(max_retries=0)
    def task(n: int) -> int:
        runs.add(n)
        if n in (150, 250):
            os._exit(1)
        return n

    jray.get([task.remote(1000 + n) for n in range(100)], timeout=20)
    refs = [task.remote(n) for n in range(300)]
    outcomes: list[object] = []
    for ref in refs:
        try:
            outcomes.append(jray.get(ref, timeout=30))
        except WorkerCrashedError as error:
            outcomes.append(type(error))
    assert outcomes == [WorkerCrashedError if n in (150, 250) else n for n in range(300)]
    assert sorted(n for n in runs.notes() if isinstance(n, int) and n < 1000) == list(range(300))


def test_results_come_before_the_death_that_follows(bench: Bench) -> None:
    """A result that was returned stays, though its worker dies in the next task."""

    @jray.remote(max_retries=0)
    def task(n: int) -> int:
        if n == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    first, second = task.remote(0), task.remote(1)
    with pytest.raises(WorkerCrashedError):
        jray.get(second, timeout=20)
    assert jray.get(first, timeout=20) == 0


@jray.remote
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count

    def pid(self) -> int:
        return os.getpid()

    def wait_at(self, wait: Callable[[], object]) -> int:
        wait()
        return os.getpid()


def test_a_killed_actor_restarts_without_its_state() -> None:
    """With restarts left, an actor's worker that is killed is made anew and starts from its constructor."""
    counter = Counter.options(max_restarts=1, max_task_retries=1).remote()
    assert jray.get([counter.add.remote(), counter.add.remote()], timeout=20) == [1, 2]
    pid = jray.get(counter.pid.remote())
    os.kill(pid, signal.SIGKILL)
    assert jray.get(counter.add.remote(), timeout=20) == 1
    assert jray.get(counter.pid.remote()) != pid


def test_a_call_that_runs_at_the_death_is_run_again_only_on_demand(bench: Bench) -> None:
    """max_task_retries runs the interrupted call in the new process; without it the call fails."""
    started, gate = bench.tally(), bench.gate()

    def wait() -> None:
        started.add(os.getpid())
        gate.wait()

    patient = Counter.options(max_restarts=2, max_task_retries=1).remote()
    ref = patient.wait_at.remote(wait)
    started.wait_for(1)
    [first] = started.notes()
    assert isinstance(first, int)
    os.kill(first, signal.SIGKILL)
    started.wait_for(2)
    gate.open()
    assert jray.get(ref, timeout=20) == started.notes()[1] != first

    started, gate = bench.tally("once"), bench.gate("never")
    hasty = Counter.options(max_restarts=1).remote()
    ref = hasty.wait_at.remote(wait)
    started.wait_for(1)
    [first] = started.notes()
    assert isinstance(first, int)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ActorUnavailableError):
        jray.get(ref, timeout=20)
    assert jray.get(hasty.add.remote(), timeout=20) == 1


def test_an_actor_without_restarts_is_dead_and_says_why() -> None:
    """The error of every later call has the process and the signal."""
    counter = Counter.remote()
    pid = jray.get(counter.pid.remote(), timeout=20)
    os.kill(pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(ActorDiedError, match="SIGKILL") as caught:
            jray.get(counter.add.remote(), timeout=20)
        assert str(pid) in str(caught.value)


def test_resources_of_the_dead_come_back() -> None:
    """When every worker has died, all CPUs are free again."""

    @jray.remote(max_retries=0)
    def task() -> None:
        os._exit(1)

    refs = [task.remote() for _ in range(4)]
    for ref in refs:
        with pytest.raises(WorkerCrashedError):
            jray.get(ref, timeout=20)
    wait_until(lambda: jray.available_resources().get("CPU") == 2, what="both CPUs free")


def test_workers_that_cannot_start_are_said(capfd: pytest.CaptureFixture[str]) -> None:
    """An environment in which no worker comes up is named with the worker's words; other tasks go on."""
    broken = own_pid.options(runtime_env={"env_vars": {"JRAY_BATCH_US": "many"}}).remote()
    said = ""

    def is_said() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "tried every half second" in said

    wait_until(is_said, what=lambda: f"a word about it, not {said!r}")
    assert "own_pid gets no worker" in said
    assert "JRAY_BATCH_US='many'" in said
    assert jray.get(own_pid.remote(), timeout=20)
    jray.cancel(broken)
