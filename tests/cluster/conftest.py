"""Owns the clusters of these tests: each has a directory of its own, and must leave nothing of itself."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import jray
from jray._core.store.sweep import sweep
from jray._heads.cards import survey
from jray._heads.ending import end_heads
from tests.behaviour import support
from tests.behaviour.support import Bench
from tests.cluster.processes import Cluster, Done, Script, left_in, run_command, start_script

cloudpickle.register_pickle_by_value(support)

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module", autouse=True)
def by_value(request: pytest.FixtureRequest) -> Iterator[None]:
    """Send what the module defines by value, as a notebook's definitions go."""
    module = sys.modules[request.module.__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """A runtime directory of the test's own, short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="jray-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def mark(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What all processes of the test carry.  Afterwards none of them runs, and nothing lies about."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv(support.RUN_VARIABLE, mark)
    monkeypatch.setenv("JRAY_RUNTIME_DIR", str(runtime_dir))
    monkeypatch.setenv("JRAY_VALIDATE", "1")
    # a process that is stopped for some seconds has still answered
    monkeypatch.setenv("JRAY_REPORT_TIMEOUT_S", "50")
    shared_before = left_in(SHARED_MEMORY)
    yield mark
    jray.shutdown()
    support.wait_until(
        lambda: not support.processes_marked(mark),
        what=lambda: f"all ended; left are {[(p.pid, p.cmdline()) for p in support.processes_marked(mark)]}",
    )
    assert list(runtime_dir.iterdir()) == []
    # others' sessions, which may end meanwhile, go by and by
    support.wait_until(
        lambda: left_in(SHARED_MEMORY) <= shared_before,
        what=lambda: f"no more in shared memory; left are {left_in(SHARED_MEMORY) - shared_before}",
    )


@pytest.fixture
def cluster() -> Cluster:
    """A cluster of 2 CPUs that this process started."""
    return Cluster(jray.init(num_cpus=2).address_info)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Gates and tallies that tasks and actors can use."""
    return Bench(str(tmp_path))


@pytest.fixture
def command(mark: str, runtime_dir: Path) -> Iterator[Callable[..., Done]]:
    """Run `jray` in a process of its own; whatever heads then stay are ended after the test."""
    yield run_command
    found = survey(str(runtime_dir))
    end_heads(found.heads, grace_s=support.PATIENCE_S)
    for place in {str(runtime_dir), *(place for head in found.heads + found.dead for place in head.places)}:
        sweep(place)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[..., Script]]:
    """Start a program in a process of its own, killed at the end of the test if it still runs."""
    started: list[Script] = []

    def start(
        text: str, *arguments: Any, env: dict[str, str] | None = None, prefix: tuple[str, ...] = ()
    ) -> Script:
        started.append(
            start_script(tmp_path, text, *arguments, env={**os.environ, **(env or {})}, prefix=prefix)
        )
        return started[-1]

    yield start
    for program in started:
        program.end()
