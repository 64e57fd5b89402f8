"""A node that runs low on memory ends the newest task before the system's own killer chooses."""

from __future__ import annotations

import time
from typing import Any

import pytest

import jray
from jray._core.detect import memory_usage
from jray.exceptions import OutOfMemoryError
from tests.behaviour.support import Bench

MB = 2**20


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that may use 400 MB more than what is in use now."""
    usage = memory_usage()
    monkeypatch.setenv("JRAY_MEMORY_USAGE_THRESHOLD", str((usage.used + 400 * MB) / usage.total))
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    monkeypatch.setenv("JRAY_MEMORY_REST_S", "0.2")
    jray.init(num_cpus=2, object_store_memory=100 * MB)


@jray.remote
def fill(size: int, gate: Any = None) -> int:
    held = b"x" * size
    if gate is None:
        time.sleep(60)
    else:
        gate.wait()
    return len(held)


@pytest.mark.usefixtures("tight")
def test_a_task_that_is_too_large_alone_fails_and_says_why() -> None:
    with pytest.raises(OutOfMemoryError) as caught:
        jray.get(fill.options(name="greedy").remote(900 * MB), timeout=60)
    error = caught.value
    assert (error.task_name, error.pid is not None) == ("greedy", True)
    assert error.worker_bytes is not None
    assert error.worker_bytes > 300 * MB
    assert error.used_bytes is not None
    assert "largest workers held" in str(error)
    assert jray.get(jray.remote(lambda: 1).remote(), timeout=30) == 1


@pytest.mark.usefixtures("tight")
@pytest.mark.sentences("S83")
def test_the_newest_of_two_goes_and_runs_again_when_there_is_room(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a charge to its max_retries."""
    gate = bench.gate()
    tally = bench.tally()

    @jray.remote(max_retries=1)
    def large(name: str) -> str:
        tally.add(name)
        held = b"x" * (260 * MB)
        gate.wait()
        return f"{name} {len(held) > 0}"

    first = large.remote("first")
    tally.wait_for(1)
    second = large.remote("second")
    tally.wait_for(4, 60)  # the second was ended twice at least, and begins again
    gate.open()
    assert jray.get([first, second], timeout=60) == ["first True", "second True"]
    assert tally.notes().count("first") == 1
    assert "The task runs again" in capfd.readouterr().err


@pytest.mark.usefixtures("tight")
def test_a_task_that_must_not_run_twice_fails(bench: Bench) -> None:
    gate = bench.gate()
    first = fill.remote(200 * MB, gate)
    wait = jray.wait([first], timeout=0.5)
    assert not wait[0]
    second = fill.options(max_retries=0).remote(400 * MB, gate)
    with pytest.raises(OutOfMemoryError):
        jray.get(second, timeout=60)
    gate.open()
    assert jray.get(first, timeout=60) == 200 * MB
