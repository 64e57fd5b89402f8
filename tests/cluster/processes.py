"""Owns what these tests see of a cluster from outside, its processes and files, and drivers of their own."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any

import psutil

from jray._core.refs import current
from tests.behaviour.support import PATIENCE_S, ROOT, wait_until


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A running cluster, by what `init` returned."""

    info: dict[str, Any]

    @property
    def session_dir(self) -> Path:
        return Path(self.info["session_dir"])

    @property
    def store_dir(self) -> Path:
        return Path(self.info["object_store_address"])

    @property
    def card(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.session_dir / "head.json").read_text())
        return record

    @property
    def head(self) -> psutil.Process:
        return psutil.Process(self.card["pid"])

    @property
    def zygote(self) -> psutil.Process:
        """The process that forks workers: the head's only child, as long as the first one lives."""
        [zygote] = self.head.children()
        return zygote

    def workers(self, count: int) -> list[psutil.Process]:
        """The worker processes that have come up, once there are that many."""

        def find() -> list[psutil.Process]:
            registered = {row["pid"] for row in current.client.ask("clients") if row["is_alive"]}
            found = [child for child in self.zygote.children() if child.pid in registered]
            return found if len(found) >= count else []

        return wait_until(find, what=f"{count} workers")


@dataclasses.dataclass
class Script:
    """A program in a process of its own."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """Return the next line that it prints, without its end; AssertionError if it ends first."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            raise AssertionError(f"exit {self.process.wait()}\n{self.process.stderr.read()}")
        return line.rstrip("\n")

    def say(self, line: str = "") -> None:
        """Give it a line to read."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def finish(self, timeout: float = 50.0) -> tuple[str, str]:
        """Wait for a good end and return what it printed: (stdout, stderr)."""
        out, err = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, f"exit {self.process.returncode}\n{out}\n{err}"
        return out, err

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it by a signal and wait until it is gone."""
        self.process.send_signal(number)
        self.process.wait(timeout=PATIENCE_S)

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self.process.communicate()


@dataclasses.dataclass(frozen=True)
class Done:
    """A command line of jray that was run."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What it wrote with --format=json."""
        return json.loads(self.out)


def run_command(*words: object, expect: int = 0, cwd: Path | None = None, **environ: str) -> Done:
    """Run `jray` with these words to its end, which must have that status."""
    done = subprocess.run(
        [sys.executable, "-m", "jray", *map(str, words)],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=PATIENCE_S * 3, cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
    )  # fmt: skip
    assert done.returncode == expect, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return Done(done.returncode, done.stdout, done.stderr)


def start_script(
    folder: Path, text: str, *arguments: Any, env: dict[str, str], prefix: tuple[str, ...] = ()
) -> Script:
    path = folder / f"script_{uuid.uuid4().hex[:8]}.py"
    path.write_text(textwrap.dedent(text))
    return Script(
        subprocess.Popen(
            [*prefix, sys.executable, str(path), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**env, "PYTHONPATH": str(ROOT)},
            cwd=folder,
            start_new_session=True,
        )
    )


def left_in(folder: Path) -> set[str]:
    """The names of sessions' directories in *folder* that no living head holds."""
    return {path.name for path in folder.glob("jray-[0-9]*") if not _is_held(path / "lock")}


def _is_held(lock: Path) -> bool:
    try:
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # it is just being removed
        return not lock.parent.exists()
    return False


def can_have_mounts_of_its_own() -> bool:
    """Tell whether a program may be started with file systems that nobody else sees."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=1m", "jray-test", "/dev/shm"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )
