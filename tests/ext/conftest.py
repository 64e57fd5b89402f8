"""Fixtures of the server extension's tests: a server in this process, and heads made of files."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Not as a plugin for the whole suite: it would give every test an event loop and a server to clean up.
from pytest_jupyter.jupyter_server import *  # noqa: F403

WriteHead = Callable[..., dict[str, Any]]


@pytest.fixture
def runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty runtime directory, which the server looks into."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setenv("JRAY_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture
def write_head(runtime_dir: Path) -> WriteHead:
    """Write the files of a head that this process plays; keywords replace or add keys."""

    def write(session: str, /, **changes: Any) -> dict[str, Any]:
        folder = runtime_dir / f"jray-{os.geteuid()}-{session}"
        folder.mkdir(mode=0o700)
        record = {
            "session": session,
            "pid": os.getpid(),
            "start_time": int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19]),
            "address": str(folder / "head.sock"),
            "session_dir": str(folder),
            "store_dir": str(folder),
            "spill_dir": str(folder),
            "num_cpus": 2,
            "owner_pid": os.getppid(),
            "started_by": "jray.init",
            "idle_timeout_s": None,
            "python": sys.executable,
            "created_s": time.time(),
        } | changes
        (folder / "head.json").write_text(json.dumps(record))
        return record

    return write


@pytest.fixture  # type: ignore[no-redef]
def jp_server_config() -> dict[str, Any]:
    """The extension is on, and a route that forgets to ask who calls is an error."""
    return {"ServerApp": {"jpserver_extensions": {"jray_ext": True}, "allow_unauthenticated_access": False}}
