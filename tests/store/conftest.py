"""What the tests of the store share: a directory in shared memory, and child processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHM = Path("/dev/shm")


@pytest.fixture
def shm_dir() -> Iterator[str]:
    """A directory in shared memory, or in the temporary directory where there is none."""
    base = SHM if os.access(SHM, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="jray-test-", dir=base) as directory:
        yield directory


@pytest.fixture
def small_shm(tmp_path: Path) -> Iterator[str]:
    """A tmpfs of 64 MB, as containers have; skips where it cannot be mounted."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "jray-test", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"mounting a tmpfs is not permitted here: {exc}")
    try:
        yield str(tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)  # noqa: S607 -- as mount above


Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def child() -> Iterator[Child]:
    """Start a Python program with arguments and pipes; what still runs at the end of the test is killed."""
    children: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        children.append(process)
        return process

    yield start
    for process in children:
        process.kill()
        process.communicate()
