"""A driver dies by any signal: soon there is nothing of it, whatever its tasks had started.

Two seconds are the promise; the tests wait longer, for a machine may stop any process for that long.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.behaviour.support import PATIENCE_S, is_running, processes_marked, wait_until
from tests.cluster.processes import Script

#: a driver with everything that may stay behind: it prints a line when all of it runs
BUSY = """
    import json, os, subprocess, sys, time
    import jray

    folder = sys.argv[1]
    context = jray.init(num_cpus=8)

    def leave(name, pid=None):
        with open(f"{folder}/{name}.new", "w") as file:
            file.write(str(pid or os.getpid()))
        os.rename(f"{folder}/{name}.new", f"{folder}/{name}")

    @jray.remote
    def runs():
        leave("task")
        time.sleep(600)

    @jray.remote
    def starts_programs():
        leave("parent")
        for own_session in (False, True):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                start_new_session=own_session)
            leave(f"program-{own_session}", child.pid)
        time.sleep(600)

    @jray.remote
    def makes_daemons():
        for name in ("daemon", "second-daemon"):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    leave(name)
                    time.sleep(600)
                os._exit(0)
            os.wait()
        return "made"

    @jray.remote
    class Actor:
        def runs(self):
            child = os.fork()
            leave("actors-child" if child == 0 else "actor")
            time.sleep(600)

    actor = Actor.remote()
    big = jray.put(bytes(3_000_000))
    refs = [runs.remote(), starts_programs.remote(), actor.runs.remote()]
    jray.get(makes_daemons.remote())
    names = ["task", "parent", "program-False", "program-True", "daemon", "second-daemon", "actor", "actors-child"]
    while not all(os.path.exists(f"{folder}/{name}") for name in names):
        time.sleep(0.01)
    print(json.dumps([context.address_info, {name: int(open(f"{folder}/{name}").read()) for name in names}]))
    sys.stdout.flush()
    sys.stdin.readline()
    if sys.argv[2] == "wait":
        time.sleep(600)
    if sys.argv[2] == "get":
        jray.get(refs)
    if sys.argv[2] == "raise":
        raise ZeroDivisionError
    if sys.argv[2] == "_exit":
        os._exit(5)
    if sys.argv[2] == "shutdown":
        from jray._core.client import launching
        launching._GRACE_S = 600  # a head that does not end by itself is waited for in vain
        jray.shutdown()
        print("shut down")
"""


def start_busy(
    script: Callable[..., Script], folder: Path, mark: str, how: str
) -> tuple[Script, dict[str, str], set[int]]:
    """Start the busy driver; return it, what its `init` returned, and its other processes."""
    program = script(BUSY, folder, how)
    info, pids = json.loads(program.line())

    def find() -> set[int]:
        found = {process.pid for process in processes_marked(mark, besides=[program.pid])}
        return found if set(pids.values()) <= found else set()

    # a process that was just made may not show its environment yet
    found = wait_until(find, what="all in sight: a process that nobody sees cannot be looked for")
    program.say("go on")
    return program, info, found


@pytest.mark.parametrize(
    ("how", "number"),
    [("wait", signal.SIGKILL), ("get", signal.SIGKILL), ("wait", signal.SIGTERM), ("get", signal.SIGTERM)],
)
def test_nothing_is_left_two_seconds_after_a_driver_was_killed(
    script: Callable[..., Script], tmp_path: Path, runtime_dir: Path, mark: str, how: str, number: int
) -> None:
    """Tasks, actors, programs they started, daemons, files and shared memory are gone."""
    program, info, found = start_busy(script, tmp_path, mark, how)
    program.kill(number)
    wait_until(
        lambda: not any(map(is_running, found)),
        what=lambda: f"all ended; left are {[p for p in psutil.process_iter() if p.pid in found]}",
    )
    wait_until(lambda: not os.listdir(runtime_dir), what="a clean runtime directory")
    assert not os.path.exists(info["object_store_address"])


@pytest.mark.parametrize("how", ["return", "raise", "_exit"])
def test_nothing_is_left_of_a_driver_that_ends(
    script: Callable[..., Script], tmp_path: Path, runtime_dir: Path, mark: str, how: str
) -> None:
    """A driver need not shut down, however it ends."""
    program, info, found = start_busy(script, tmp_path, mark, how)
    program.process.wait(timeout=PATIENCE_S)
    wait_until(lambda: not any(map(is_running, found)), what="all ended")
    wait_until(lambda: not os.listdir(runtime_dir), what="a clean runtime directory")
    assert not os.path.exists(info["object_store_address"])


def test_shutdown_is_quick_and_thorough(
    script: Callable[..., Script], tmp_path: Path, runtime_dir: Path, mark: str
) -> None:
    """shutdown in the midst of work waits for nobody's grace; when it returns nothing is left."""
    program, info, found = start_busy(script, tmp_path, mark, "shutdown")
    assert program.line() == "shut down"
    assert not any(map(is_running, found))
    assert not os.listdir(runtime_dir)
    assert not os.path.exists(info["object_store_address"])
