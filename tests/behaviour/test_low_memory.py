"""A node whose memory runs low ends a task, and says so, before the system ends something else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

import jray
from jray.exceptions import OutOfMemoryError
from tests.behaviour.support import PATIENCE_S

MB = 2**20


@pytest.mark.differs("inline", "a task is the process itself: there is nothing to end")
@pytest.mark.sentences("S133")
@pytest.mark.timeout(180)
def test_a_task_that_uses_up_the_memory_is_ended(
    fresh: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OutOfMemoryError where it must not run again; the next task finds a node in order."""
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + 1500 * MB) / memory.total
    monkeypatch.setenv("RAY_memory_usage_threshold", str(threshold))
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    fresh(num_cpus=1, object_store_memory=100 * MB)

    @jray.remote(max_retries=0)
    def fill() -> int:
        held = []
        for _ in range(40):
            held.append(b"x" * (100 * MB))
            time.sleep(0.05)
        time.sleep(PATIENCE_S)
        return len(held)

    with pytest.raises(OutOfMemoryError):
        jray.get(fill.remote(), timeout=60)
    assert jray.get(jray.remote(lambda: 1).remote(), timeout=60) == 1
