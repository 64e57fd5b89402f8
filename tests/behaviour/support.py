"""Owns what the behaviour tests synchronise and observe with; nothing here asks which engine runs.

Everything is picklable by value and works through files, so that it can be used inside tasks and actors.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import psutil

T = TypeVar("T")

#: Seconds a condition may take.  It costs nothing when things go well.
PATIENCE_S = 30.0
#: Seconds a process may take that starts a cluster, and all that it does there: Ray needs many on a busy machine.
START_S = 240.0
#: Seconds between two looks.
_TICK_S = 0.005
ROOT = Path(__file__).resolve().parents[2]
#: Each process of a test run carries this variable, however it was started; its value tells runs apart.
RUN_VARIABLE = "JRAY_TEST_RUN"

#: A program that a shell runs in the background ignores SIGINT, and so do its children unless they say otherwise.
_PRELUDE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from tests.behaviour import engine; engine.install()\n"
)


def be_interruptible() -> None:
    """Take SIGINT as Python does, also where a shell started this process in the background, with it ignored.

    What this process starts inherits that, and Ray's workers, for one, are not cancelled then.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_until(
    predicate: Callable[[], T], timeout: float = PATIENCE_S, what: str | Callable[[], str] = "the condition"
) -> T:
    """Call *predicate* until it gives something true, and return that; AssertionError after *timeout* s."""
    deadline = time.monotonic() + timeout
    while True:
        # before the look: what has happened is seen, however long this process was kept from looking
        is_last = time.monotonic() > deadline
        value = predicate()
        if value:
            return value
        if is_last:
            text = what if isinstance(what, str) else what()
            message = f"not within {timeout} s: {text}"
            raise AssertionError(message)
        time.sleep(_TICK_S)


@dataclass(frozen=True)
class Gate:
    """A door that any process can open and any process can wait at."""

    path: str

    def open(self) -> None:
        Path(self.path).touch()

    def is_open(self) -> bool:
        return Path(self.path).exists()

    def wait(self, timeout: float = PATIENCE_S) -> None:
        wait_until(self.is_open, timeout, f"gate {self.path} opened")


@dataclass(frozen=True)
class Tally:
    """A count that any process can add to, with a note for each mark, kept in order."""

    path: str

    def add(self, note: object = "") -> int:
        """Add a mark and return how many there are now."""
        with open(self.path, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(note) + "\n")
            file.flush()
            file.seek(0)
            return sum(1 for _ in file)

    def notes(self) -> list[object]:
        with contextlib.suppress(FileNotFoundError), open(self.path) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return [json.loads(line) for line in file]
        return []

    def count(self) -> int:
        return len(self.notes())

    def wait_for(self, count: int, timeout: float = PATIENCE_S) -> None:
        wait_until(lambda: self.count() >= count, timeout, lambda: f"{count} marks; there are {self.notes()}")


@dataclass(frozen=True)
class Meter:
    """Measures how much of something is in use at once, over all processes, and the most there ever was."""

    path: str

    @contextlib.contextmanager
    def use(self, amount: float = 1) -> Iterator[None]:
        self._change(amount)
        try:
            yield
        finally:
            self._change(-amount)

    def _change(self, amount: float) -> None:
        with open(self.path, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            now, peak = json.loads(file.read() or "[0, 0]")
            now = round(now + amount, 6)
            file.truncate(0)
            file.write(json.dumps([now, max(now, peak)]))

    def _read(self) -> tuple[float, float]:
        with contextlib.suppress(FileNotFoundError), open(self.path) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            now, peak = json.loads(file.read() or "[0, 0]")
            return now, peak
        return 0, 0

    def now(self) -> float:
        return self._read()[0]

    def peak(self) -> float:
        return self._read()[1]


@dataclass(frozen=True)
class Bench:
    """A fresh folder's worth of gates, tallies and meters, by name."""

    folder: str

    def gate(self, name: str = "gate") -> Gate:
        return Gate(f"{self.folder}/{name}")

    def tally(self, name: str = "tally") -> Tally:
        return Tally(f"{self.folder}/{name}")

    def meter(self, name: str = "meter") -> Meter:
        return Meter(f"{self.folder}/{name}")


@dataclass
class Driver:
    """A driver script that runs in a process of its own."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def finish(self, timeout: float = START_S) -> str:
        """Wait for a good end and return what it printed; AssertionError with its output for a bad one."""
        out, err = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, f"exit {self.process.returncode}\n{out}\n{err}"
        return out

    def end(self, timeout: float = START_S) -> tuple[int, str, str]:
        """Wait for the end, good or bad: (exit code, stdout, stderr)."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err


def start_driver(
    folder: Path,
    text: str,
    *arguments: object,
    env: dict[str, str] | None = None,
    mark: str | None = None,
    output: IO[str] | None = None,
) -> Driver:
    """Start *text* as a script under the engine under test.

    The script finds *arguments* in `sys.argv[1:]`.  All processes it ever starts carry *mark*, for
    `processes_marked`.  What it writes goes to *output*, or is kept for `Driver.finish`.
    """
    script = folder / f"driver_{uuid.uuid4().hex[:8]}.py"
    script.write_text(_PRELUDE + textwrap.dedent(text))
    environment = dict(os.environ) | (env or {}) | {"PYTHONPATH": str(ROOT)}
    if mark is not None:
        environment[RUN_VARIABLE] = mark
    process = subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if output is None else output,
        stderr=subprocess.PIPE if output is None else subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    return Driver(process)


def run_driver(folder: Path, text: str, *arguments: object, env: dict[str, str] | None = None) -> str:
    """Run *text* as `start_driver` does, to its good end, and return what it printed."""
    driver = start_driver(folder, text, *arguments, env=env)
    try:
        return driver.finish()
    finally:
        if driver.process.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.process.communicate()


def processes_marked(mark: str, *, besides: Sequence[int] = ()) -> list[psutil.Process]:
    """The live processes whose environment carries *mark*, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid in besides or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(RUN_VARIABLE) == mark:
                found.append(process)
    return found


def is_running(pid: int) -> bool:
    """Tell whether *pid* is a process that still runs code; one that is dead but not yet waited for is not."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def is_ever_within(limit_s: float, measure: Callable[[], float]) -> bool:
    """Tell whether any of three measurements is below *limit_s*, looking no further than to the first.

    A machine that stalls makes one of them long.  What waits for a time-out is long each time.
    """
    return any(measure() < limit_s for _ in range(3))


def wait_gone(*pids: int, timeout: float = PATIENCE_S) -> None:
    """Wait until none of *pids* runs any more."""
    wait_until(
        lambda: not any(map(is_running, pids)),
        timeout,
        lambda: f"the end of processes {[pid for pid in pids if is_running(pid)]}",
    )
