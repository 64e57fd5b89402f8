"""Which files count as a running head of this user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jray._heads.cards import Head
from jray._heads.cards import runtime_dir as find_runtime_dir
from jray_ext.manager import HeadManager

WriteHead = Callable[..., dict[str, Any]]


def sessions() -> list[str]:
    return [found.head.session for found in HeadManager().heads()]


def test_head_is_listed_with_everything_it_says_of_itself(write_head: WriteHead) -> None:
    """A head's record has the keys of its file, with their values."""
    record = write_head("s1")
    [found] = HeadManager().heads()
    assert found.head.to_record() == record
    assert found.to_record() == record | {"keeper": None}


def test_key_of_a_later_version_is_ignored(write_head: WriteHead) -> None:
    """A newer head with more to say is still listed."""
    write_head("s1", nodes=3)
    assert sessions() == ["s1"]


def test_heads_come_oldest_first(write_head: WriteHead) -> None:
    """The order is that of creation, not of names."""
    now = time.time()
    write_head("a", created_s=now)
    write_head("b", created_s=now - 1)
    assert sessions() == ["b", "a"]


def test_nothing_is_listed_where_there_is_no_runtime_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine on which no head ever ran has an empty list and no error."""
    monkeypatch.setenv("JRAY_RUNTIME_DIR", str(tmp_path / "nowhere"))
    assert sessions() == []


def test_dead_head_is_skipped(write_head: WriteHead) -> None:
    """What a killed head left behind is not a head."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    write_head("dead", pid=process.pid)
    assert sessions() == []


def test_zombie_head_is_skipped(write_head: WriteHead) -> None:
    """A head that has ended is not running, though its parent has not asked for its status yet."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        stat = Path(f"/proc/{process.pid}/stat").read_bytes()
        write_head("zombie", pid=process.pid, start_time=int(stat.rpartition(b")")[2].split()[19]))
        assert sessions() == []


def test_pid_that_another_process_has_now_is_skipped(write_head: WriteHead) -> None:
    """A process that started at another time is not the head that wrote the file."""
    write_head("reused", start_time=1)
    assert sessions() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"pid": "12"},
        {"pid": True},
        {"pid": -1},
        {"pid": 2**70},
        {"session": None},
        {"owner_pid": "1"},
        {"start_time": 1.5},
        {"created_s": None},
        {"num_cpus": []},
    ],
    ids=str,
)
def test_value_of_a_wrong_type_hides_the_head_alone(write_head: WriteHead, changes: dict[str, Any]) -> None:
    """A malformed record costs its own line of the list and no other."""
    write_head("bad", **changes)
    write_head("good")
    assert sessions() == ["good"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"session": "s1"}', "\udcff"], ids=repr)
def test_text_that_is_no_record_hides_the_head_alone(
    write_head: WriteHead, runtime_dir: Path, text: str
) -> None:
    """So does a file that was cut off or holds something else."""
    write_head("good")
    write_head("bad")
    path = runtime_dir / f"jray-{os.geteuid()}-bad" / "head.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert sessions() == ["good"]


def test_head_without_its_file_is_skipped(runtime_dir: Path) -> None:
    """A directory whose head has not written its file yet is no head."""
    (runtime_dir / f"jray-{os.geteuid()}-new").mkdir(mode=0o700)
    assert sessions() == []


def test_head_of_another_user_is_skipped(write_head: WriteHead, runtime_dir: Path) -> None:
    """Another uid in the name of the directory means another user."""
    write_head("theirs")
    (runtime_dir / f"jray-{os.geteuid()}-theirs").rename(runtime_dir / f"jray-{os.geteuid() + 1}-theirs")
    assert sessions() == []


def test_directory_that_others_can_enter_is_skipped(write_head: WriteHead, runtime_dir: Path) -> None:
    """A head's directory has mode 0700; what others can write into is not believed."""
    write_head("open")
    (runtime_dir / f"jray-{os.geteuid()}-open").chmod(0o755)
    assert sessions() == []


def test_link_to_a_directory_is_skipped(write_head: WriteHead, runtime_dir: Path, tmp_path: Path) -> None:
    """A link is somebody's pointer to elsewhere, not a head's directory."""
    write_head("linked")
    folder = runtime_dir / f"jray-{os.geteuid()}-linked"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert sessions() == []


def test_head_that_ends_with_no_process_is_listed(write_head: WriteHead) -> None:
    """A head may have no owner."""
    write_head("free", owner_pid=None)
    assert sessions() == ["free"]


def test_record_survives_json(write_head: WriteHead) -> None:
    """What is read is what was written."""
    record = write_head("s1")
    assert Head(**record) == Head.from_json(json.dumps(record))
    assert Head(**record).to_record() == record


def test_runtime_directory_is_the_chosen_then_the_sessions_then_tmp(tmp_path: Path) -> None:
    """JRAY_RUNTIME_DIR wins; $XDG_RUNTIME_DIR/jray counts only if it exists."""
    (tmp_path / "with" / "jray").mkdir(parents=True)
    (tmp_path / "without").mkdir()
    chosen = {"JRAY_RUNTIME_DIR": "/chosen", "XDG_RUNTIME_DIR": str(tmp_path / "with")}
    assert find_runtime_dir(chosen) == "/chosen"
    assert find_runtime_dir({"XDG_RUNTIME_DIR": str(tmp_path / "with")}) == str(tmp_path / "with" / "jray")
    assert find_runtime_dir({"XDG_RUNTIME_DIR": str(tmp_path / "without")}) == "/tmp"
    assert find_runtime_dir({}) == "/tmp"
