"""A node that runs low on memory ends the newest task before the system's own killer chooses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import jray
from jray._core.detect import memory_usage
from jray.exceptions import OutOfMemoryError
from tests.behaviour.support import Bench
from tests.cluster.processes import Cluster

MB = 2**20


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that may use 400 MB more than what is in use now."""
    usage = memory_usage()
    monkeypatch.setenv("JRAY_MEMORY_USAGE_THRESHOLD", str((usage.used + 400 * MB) / usage.total))
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    monkeypatch.setenv("JRAY_MEMORY_REST_S", "0.2")
    jray.init(num_cpus=2, object_store_memory=100 * MB)


#: seconds that what should happen may take
PATIENCE_S = 120
pytestmark = pytest.mark.timeout(2 * PATIENCE_S)


@jray.remote
def wait_at(gate: Any) -> str:
    gate.wait(2 * PATIENCE_S)
    return "first"


@jray.remote
def grow(gate: Any, tally: Any) -> str:
    """Take more and more memory until the gate is open, but no more than a machine has while nobody looks."""
    tally.add()
    held: list[bytes] = []
    while not gate.is_open():
        if len(held) < 60:
            held.append(b"x" * (20 * MB))
        time.sleep(0.01)
    return "second"


@pytest.mark.usefixtures("tight")
def test_a_task_that_is_too_large_alone_fails_and_says_why(bench: Bench) -> None:
    with pytest.raises(OutOfMemoryError) as caught:
        jray.get(grow.options(name="greedy").remote(bench.gate(), bench.tally()), timeout=PATIENCE_S)
    error = caught.value
    assert (error.task_name, error.pid is not None) == ("greedy", True)
    assert error.worker_bytes is not None
    assert error.worker_bytes > MB  # other programs may have taken most of what was left
    assert error.used_bytes is not None
    assert "largest workers held" in str(error)
    assert jray.get(jray.remote(lambda: 1).remote(), timeout=30) == 1


@pytest.mark.usefixtures("tight")
@pytest.mark.sentences("S83")
def test_the_newest_of_two_goes_and_runs_again_when_there_is_room(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a charge to its max_retries."""
    gate, tally = bench.gate(), bench.tally()
    first = wait_at.remote(gate)
    second = grow.options(max_retries=1).remote(gate, tally)
    tally.wait_for(4, PATIENCE_S)
    gate.open()
    assert jray.get([first, second], timeout=PATIENCE_S) == ["first", "second"]
    assert "The task runs again" in capfd.readouterr().err


@pytest.mark.usefixtures("tight")
def test_a_task_that_must_not_run_twice_fails(bench: Bench) -> None:
    gate, tally = bench.gate(), bench.tally()
    first = wait_at.remote(gate)
    with pytest.raises(OutOfMemoryError):
        jray.get(grow.options(max_retries=0).remote(gate, tally), timeout=PATIENCE_S)
    assert tally.count() == 1
    gate.open()
    assert jray.get(first, timeout=PATIENCE_S) == "first"


def test_the_systems_killer_takes_a_worker_first_and_the_users_process_last() -> None:
    """Workers, then what forks them, then the head; the score of the user's own process is what it was."""

    def score(pid: int | str) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    before = score("self")
    cluster = Cluster(jray.init(num_cpus=1).address_info)
    (worker,) = cluster.workers(1)
    scores = [score(worker.pid), score(cluster.zygote.pid), score(cluster.head.pid)]
    assert score("self") == before
    assert scores == [1000, 900, 500]
    assert scores[-1] > before
