"""Freeing objects by hand: their bytes go at once where nobody looks at them, and never under somebody's eyes."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import jray
from jray._core.refs import current
from jray._private import internal_api
from jray.exceptions import ObjectFreedError
from tests.behaviour.support import Bench, wait_until
from tests.cluster.processes import Cluster


def used_bytes() -> int:
    return int(next(iter(current.client.cluster.stores().values()))["used"])


def free(*refs: jray.ObjectRef[np.ndarray]) -> None:
    current.client.free(list(refs))


def test_bytes_that_nobody_looks_at_go_at_once(cluster: Cluster) -> None:
    """Though the ref lives; what it gets from now on is an error."""
    ref = jray.put(np.ones(500_000))
    assert used_bytes() >= 4_000_000
    free(ref)
    assert used_bytes() == 0
    with pytest.raises(ObjectFreedError, match="free"):
        jray.get(ref)


def test_rays_name_for_it_is_there_too(cluster: Cluster) -> None:
    ref = jray.put(np.ones(500_000))
    internal_api.free(ref)
    assert used_bytes() == 0
    internal_api.free([], local_only=True)
    with pytest.raises(TypeError, match="ObjectRef"):
        internal_api.free([1])  # type: ignore[list-item]
    with pytest.raises(AttributeError, match="list_objects"):
        _ = internal_api.memory_summary


def test_bytes_under_a_view_stay_until_it_is_gone(cluster: Cluster) -> None:
    """An array must not change because somebody freed what it came from."""
    ref = jray.put(np.ones(500_000))
    view = jray.get(ref)[10:20]
    free(ref)
    others = [jray.put(np.zeros(500_000)) for _ in range(3)]
    assert view.sum() == 10
    del others, view, ref
    gc.collect()
    wait_until(lambda: used_bytes() == 0)


def test_bytes_that_a_task_works_on_stay_until_it_is_done(cluster: Cluster, bench: Bench) -> None:
    """It was given them; a task that waits for another argument still has not, and fails."""
    started, gate = bench.gate("started"), bench.gate()

    @jray.remote
    def total(array: np.ndarray, _: object = None) -> float:
        started.open()
        gate.wait()
        return float(array.sum())

    @jray.remote
    def late() -> None:
        gate.wait()

    ref = jray.put(np.ones(500_000))
    running = total.remote(ref)
    started.wait()
    waiting = total.remote(ref, late.remote())
    free(ref)
    others = [jray.put(np.zeros(500_000)) for _ in range(3)]
    gate.open()
    assert jray.get(running) == 500_000
    with pytest.raises(ObjectFreedError):
        jray.get(waiting)
    del others
