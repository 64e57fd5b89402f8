"""More than the object store holds: it goes to disk, comes back as it was, and leaves no file."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jray
from tests.behaviour.support import wait_until

MB = 10**6
STORE = 100 * MB
SIZE = 10 * MB


def array(n: int) -> Any:
    return np.full(SIZE, n % 251, dtype="uint8")


def is_whole(value: Any, n: int) -> bool:
    return len(value) == SIZE and int(value.min()) == int(value.max()) == n % 251


def files(place: Path) -> list[Path]:
    return [Path(folder, name) for folder, _, names in os.walk(place) for name in names if name != "lock"]


@pytest.mark.differs("inline", "objects are in the process's own memory, which has no store to be full")
@pytest.mark.sentences("S129", "S130")
@pytest.mark.timeout(240)
def test_a_job_four_times_its_store(fresh: Callable[..., Any], tmp_path: Path) -> None:
    """Puts and results are all there, as values and as arguments; the files go with the refs."""
    fresh(object_store_memory=STORE, object_spilling_directory=str(tmp_path))

    @jray.remote
    def double(value: Any) -> Any:
        return (value.astype("uint16") * 2 % 251).astype("uint8")

    @jray.remote
    def check(value: Any, n: int) -> bool:
        return is_whole(value, n * 2 % 251)

    refs = [jray.put(array(n)) for n in range(20)]
    doubled = [double.remote(ref) for ref in refs]
    assert all(jray.get([check.remote(ref, n) for n, ref in enumerate(doubled)], timeout=100))
    assert files(tmp_path)
    assert all(is_whole(jray.get(ref), n) for n, ref in enumerate(refs))
    del refs, doubled
    gc.collect()
    wait_until(lambda: not files(tmp_path), 60, lambda: f"no files left; {files(tmp_path)}")
