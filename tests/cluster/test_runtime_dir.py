"""Where a session keeps its files: too long a path, no path at all, leftovers, and the card that others read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import jray
from jray.exceptions import RaySystemError
from tests.behaviour.support import wait_until
from tests.cluster.processes import Cluster, Script, left_in

CARD_KEYS = {
    "session", "pid", "start_time", "address", "session_dir", "store_dir", "spill_dir", "num_cpus", "owner_pid",
    "started_by", "idle_timeout_s", "python", "created_s",
}  # fmt: skip


def start_time_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


def check_card(card: dict[str, object], cluster: Cluster) -> None:
    assert card.keys() == CARD_KEYS
    assert card["session"] == cluster.session_dir.name
    assert card["address"] == cluster.info["address"]
    assert (card["session_dir"], card["store_dir"]) == (str(cluster.session_dir), str(cluster.store_dir))
    assert (card["started_by"], card["idle_timeout_s"]) == ("jray.init", None)
    assert (card["num_cpus"], card["owner_pid"], card["python"]) == (2, os.getpid(), sys.executable)
    assert isinstance(card["pid"], int)
    assert psutil.Process(card["pid"]).ppid() == os.getpid()
    assert card["start_time"] == start_time_of(card["pid"])
    assert isinstance(card["created_s"], float)
    assert abs(card["created_s"] - time.time()) < 60


def test_a_head_leaves_its_card_for_others(cluster: Cluster, runtime_dir: Path) -> None:
    """head.json says who the head is, in a directory that nobody else can read, and goes with it."""
    [folder] = runtime_dir.iterdir()
    assert folder == cluster.session_dir
    check_card(json.loads((folder / "head.json").read_text()), cluster)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(cluster.info["address"]).stat().st_mode) == 0o600
    jray.shutdown()
    assert list(runtime_dir.iterdir()) == []


def test_too_long_a_path_for_sockets_works(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a runtime directory of 200 characters sockets lie elsewhere, and the card where it is looked for."""
    folder = runtime_dir / ("long" * 50)
    monkeypatch.setenv("JRAY_RUNTIME_DIR", str(folder))
    cluster = Cluster(jray.init(num_cpus=2).address_info)
    assert jray.get(jray.remote(lambda: 1).remote(), timeout=20) == 1
    [card] = folder.glob("*/head.json")
    check_card(json.loads(card.read_text()), cluster)
    jray.shutdown()
    assert not cluster.session_dir.exists()
    assert list(folder.iterdir()) == []
    folder.rmdir()


@pytest.mark.parametrize("kind", ["file", "under a file", "read-only"])
def test_a_runtime_directory_that_cannot_be_used_says_so(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """init raises with the directory, the reason, and the variable to set."""
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    folder = {"file": blocker, "under a file": blocker / "run", "read-only": Path("/proc/self/task")}[kind]
    monkeypatch.setenv("JRAY_RUNTIME_DIR", str(folder))
    with pytest.raises(RaySystemError, match="JRAY_RUNTIME_DIR") as caught:
        jray.init(num_cpus=1)
    assert str(folder) in str(caught.value)
    assert not jray.is_initialized()


def test_a_runtime_directory_may_be_relative(
    tmp_path: Path, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path means the directory that it named at init, wherever driver and tasks go later."""
    monkeypatch.chdir(runtime_dir)
    monkeypatch.setenv("JRAY_RUNTIME_DIR", "run")
    jray.init(num_cpus=1)
    monkeypatch.chdir(tmp_path)

    @jray.remote(num_cpus=0)
    def task() -> str:
        os.chdir("/")
        return "done"

    assert jray.get([task.remote() for _ in range(3)], timeout=20) == ["done"] * 3
    assert len(list((runtime_dir / "run").iterdir())) == 1
    jray.shutdown()
    (runtime_dir / "run").rmdir()


KILLED = """
    import jray, os, sys, time
    print(jray.init(num_cpus=1).address_info["session_dir"])
    jray.put(bytes(1_000_000))
    print("ready", flush=True)
    sys.stdin.readline()
    print(jray.get(jray.remote(lambda: "alive").remote(), timeout=20), flush=True)
"""


def test_a_start_sweeps_what_the_dead_left_and_nothing_else(
    script: Callable[..., Script], runtime_dir: Path
) -> None:
    """A killed cluster's directories go with the next start; a living one's stay."""
    living, dead = script(KILLED), script(KILLED)
    folders = []
    for program in (living, dead):
        folders.append(Path(program.line()))
        assert program.line() == "ready"
    # all at once, so that nobody cleans up
    processes = psutil.Process(dead.pid).children(recursive=True)
    for process in processes:
        process.suspend()
    for process in [*processes, psutil.Process(dead.pid)]:
        process.kill()
    dead.process.wait()
    wait_until(lambda: left_in(runtime_dir) == {folders[1].name}, what="a dead session")
    shared = Path("/dev/shm", f"{folders[1].name}-store")
    assert shared.exists()
    jray.init(num_cpus=1)
    wait_until(lambda: not folders[1].exists() and not shared.exists(), what="the dead one's removal")
    assert folders[0].exists()
    living.say()
    assert living.finish()[0].split() == ["alive"]


def test_a_session_whose_directory_vanishes_ends_instead_of_hanging(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    """When someone deletes the session's directory no worker can start: that is said, and ends the cluster."""
    assert jray.get(jray.remote(lambda: 1).remote(), timeout=20) == 1
    pids = [worker.pid for worker in cluster.workers(2)]
    shutil.rmtree(cluster.session_dir)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(RaySystemError, match=r"jray\.init\(\)"):
        jray.get([jray.remote(lambda: 1).remote() for _ in range(4)], timeout=20)
    assert f"{cluster.session_dir} was removed" in capfd.readouterr().err
