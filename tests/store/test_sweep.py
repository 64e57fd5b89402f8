"""Session directories: the dead's are removed, and nobody else's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jray._core.store.sweep import SessionInUse, claim, session_directory, sweep

Child = Callable[..., "subprocess.Popen[str]"]

CLAIMER = """
import os, sys
from jray._core.store.sweep import claim
lock = claim(sys.argv[1])
open(os.path.join(lock.directory, "segment-0-5"), "w").close()
print("claimed", flush=True)
sys.stdin.readline()
"""


def claimed_by(child: Child, directory: str) -> subprocess.Popen[str]:
    process = child(CLAIMER, directory)
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    return process


def test_a_killed_sessions_directory_is_removed_and_a_live_ones_is_not(tmp_path: Path, child: Child) -> None:
    """A sweep takes exactly what the dead left, however they died."""
    dead, live = (session_directory(str(tmp_path), name) for name in ("dead", "live"))
    doomed = claimed_by(child, dead)
    claimed_by(child, live)
    assert sweep(str(tmp_path)) == []
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.wait(30)
    assert sweep(str(tmp_path)) == [dead]
    assert os.listdir(tmp_path) == [os.path.basename(live)]
    assert sorted(os.listdir(live)) == ["lock", "segment-0-5"]


def test_an_own_live_session_is_not_swept(tmp_path: Path) -> None:
    """A process may sweep while it has a session itself."""
    directory = session_directory(str(tmp_path), "mine")
    with claim(directory) as lock:
        assert lock.directory == directory
        assert os.stat(directory).st_mode & 0o777 == 0o700
        assert sweep(str(tmp_path)) == []
        assert os.path.exists(directory)
    assert os.listdir(tmp_path) == []


def test_a_lock_is_not_inherited_by_programs(tmp_path: Path, child: Child) -> None:
    """A program that outlives the session's node does not keep its directory."""
    directory = session_directory(str(tmp_path), "s")
    lock = claim(directory)
    claimed_by(child, session_directory(str(tmp_path), "other"))
    lock.close()
    lock.close()
    assert sweep(str(tmp_path)) == [directory]


def test_a_live_sessions_directory_cannot_be_claimed(tmp_path: Path, child: Child) -> None:
    """Two sessions of one name are impossible, and the second leaves no trace."""
    directory = session_directory(str(tmp_path), "s")
    owner = claimed_by(child, directory)
    with pytest.raises(SessionInUse, match="a live session or another user has it"):
        claim(directory)
    assert os.listdir(tmp_path) == [os.path.basename(directory)]
    owner.kill()
    owner.wait(30)
    with claim(directory):
        assert os.listdir(directory) == ["lock"]


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    """Neither a linked directory nor a linked lock leads a sweep anywhere."""
    base, victim = tmp_path / "base", tmp_path / "victim"
    base.mkdir()
    victim.mkdir()
    (victim / "precious").touch()
    (victim / "lock").touch()
    linked = Path(session_directory(str(base), "linked"))
    linked.symlink_to(victim)
    half = Path(session_directory(str(base), "half"))
    half.mkdir()
    (half / "lock").symlink_to(victim / "lock")
    inside = Path(session_directory(str(base), "inside"))
    inside.mkdir()
    (inside / "lock").touch()
    (inside / "way-out").symlink_to(victim)
    assert sweep(str(base)) == [str(inside)]
    assert sorted(os.listdir(victim)) == ["lock", "precious"]
    assert linked.is_symlink()
    assert half.exists()


def test_other_names_and_other_users_are_left_alone(tmp_path: Path) -> None:
    """Only directories named for this user, and belonging to it, are looked at."""
    uid = os.geteuid()
    names = [f"jray-{uid + 1}-s", f"jray-{uid}-", "jray-x-s", f"xjray-{uid}-s", f"jray-{uid}-s.bak", "else"]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / f"jray-{uid}-file").touch()
    assert sweep(str(tmp_path)) == []
    assert len(os.listdir(tmp_path)) == len(names) + 1


def test_a_directory_given_to_another_user_is_left_alone(tmp_path: Path) -> None:
    """The name proves nothing: the owner is asked."""
    directory = session_directory(str(tmp_path), "s")
    os.mkdir(directory)
    try:
        os.chown(directory, os.geteuid() + 1, -1)
    except PermissionError:
        pytest.skip("only root can give a directory away")
    assert sweep(str(tmp_path)) == []


def test_what_an_interrupted_removal_left_is_removed(tmp_path: Path) -> None:
    """A session directory without its lock is rubbish: it gets its name together with the lock."""
    directory = session_directory(str(tmp_path), "s")
    os.mkdir(directory)
    Path(directory, "segment-0-5").touch()
    assert sweep(str(tmp_path)) == [directory]


def test_an_unfinished_claim_is_removed_when_its_process_is_dead(tmp_path: Path, child: Child) -> None:
    """A directory on its way to its name belongs to the process in it, alive or dead."""
    process = child("import sys; sys.stdin.readline()")
    directory = session_directory(str(tmp_path), "s")
    unfinished = f"{directory}.new-{process.pid}"
    os.mkdir(unfinished)
    assert sweep(str(tmp_path)) == []
    process.kill()
    process.wait(30)
    assert sweep(str(tmp_path)) == [unfinished]


def test_what_is_swept_gets_no_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of a dead session may still run for a moment, and make files by its name: the rest would stay."""
    directory = session_directory(str(tmp_path), "s")
    claim(directory).close()
    remove = shutil.rmtree

    def remove_while_others_write(path: str, **options: Any) -> None:
        with pytest.raises(FileNotFoundError):
            Path(directory, "late.sock").touch()
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", remove_while_others_write)
    assert sweep(str(tmp_path)) == [directory]
    assert os.listdir(tmp_path) == []


def test_a_removal_whose_process_died_is_finished(tmp_path: Path, child: Child) -> None:
    """By the next sweep, and not before: it belongs to the process in its name."""
    process = child("import sys; sys.stdin.readline()")
    half = f"{session_directory(str(tmp_path), 's')}.old-{process.pid}"
    os.mkdir(half)
    assert sweep(str(tmp_path)) == []
    process.kill()
    process.wait(30)
    assert sweep(str(tmp_path)) == [half]


def test_a_base_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    """The first start on a machine finds nothing to sweep."""
    assert sweep(str(tmp_path / "missing")) == []


def test_names_that_are_no_sessions_are_refused(tmp_path: Path) -> None:
    """A session's name cannot lead out of its base, and only session directories are claimed."""
    for name in ("", "a/b", "../x", ".", "a.b", "a\0b"):
        with pytest.raises(ValueError, match="a session's name is"):
            session_directory(str(tmp_path), name)
    with pytest.raises(ValueError, match="is not the path of a session directory"):
        claim(str(tmp_path / "jray-x"))
    with pytest.raises(FileNotFoundError):
        claim(session_directory(str(tmp_path / "missing"), "s"))
