"""The files that heads write are those that the extension reads."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jray_ext.manager import HeadManager

PROGRAM = """
import jray
jray.init(num_cpus=1)
print("ready", flush=True)
input()
jray.shutdown()
"""


@pytest.fixture
def short_runtime_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory whose path leaves room for that of a socket, unlike `tmp_path`."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    monkeypatch.setenv("JRAY_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_head_of_a_program_is_listed_while_it_runs(short_runtime_dir: Path) -> None:
    """`jray.init()` anywhere shows here, with who owns it; `jray.shutdown()` takes it away."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        (head,) = HeadManager().heads()
        program.stdin.write("\n")
    assert program.returncode == 0
    assert head.owner_pid == program.pid
    assert head.num_cpus == 1
    assert head.python == sys.executable
    assert HeadManager().heads() == []
