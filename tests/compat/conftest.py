"""Owns the running of programs written for Ray: each in a process of its own, with jray in Ray's place."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.behaviour import hygiene, support

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "programs"
#: seconds a program may take on a busy machine
PATIENCE_S = 100.0

os.environ.setdefault(support.RUN_VARIABLE, uuid.uuid4().hex)


@pytest.fixture(scope="module", autouse=True)
def leaves_nothing() -> Iterator[None]:
    """Check after the module that the machine looks as it did before."""
    before = hygiene.look()
    yield
    hygiene.check_nothing_left(before, PATIENCE_S)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """`run(*arguments)` gives what `python -m jray.compat arguments` prints, and fails where the program fails."""

    def run(*arguments: str, compat: bool = True, python: str = sys.executable, **environment: str) -> str:
        command = [python, *(["-m", "jray.compat"] if compat else []), *arguments]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        inherited = {name: text for name, text in os.environ.items() if name != "JRAY_ENGINE"}
        done = subprocess.run(
            command,
            env={**inherited, "PYTHONPATH": path, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def run_code(run: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    """`run_code(source)` runs that program and gives what it prints."""

    def run_code(source: str, *arguments: str, **settings: str) -> str:
        program = tmp_path / "program.py"
        program.write_text(textwrap.dedent(source))
        return run(str(program), *arguments, **settings)

    return run_code
