"""Which process is meant, which head is found, and who keeps one: without any head."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jray._core.client.finding import find_head
from jray._core.daemon import keeping
from jray._core.daemon.keeping import Keeping
from jray._core.wire.connection import Reactor
from jray._heads import trees
from jray._heads.cards import Head
from jray._heads.keepers import Keeper, read_keeper, write_keeper
from jray._heads.processes import ProcessId, started_s

MakeHead = Callable[..., Head]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits to be told to end."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def process(child: subprocess.Popen[bytes]) -> ProcessId:
    found = ProcessId.of(child.pid)
    assert found is not None
    return found


@pytest.fixture(params=[True, False], ids=["told", "looked at"])
def is_told(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the kernel tells of a process's end; where it does not, one has to look."""
    if not request.param:

        def refuse(*_: object) -> int:
            raise OSError(errno.ENOSYS, "not in this kernel")

        monkeypatch.setattr(os, "pidfd_open", refuse)
    return bool(request.param)


# -- processes ----------------------------------------------------------------------------------------


def test_a_process_is_waited_for(child: subprocess.Popen[bytes], process: ProcessId, is_told: bool) -> None:
    """Also one that has ended and nobody has asked how."""
    assert process.is_running()
    assert not process.wait_ended(0.05)
    assert process.signal(signal.SIGTERM)
    assert process.wait_ended(30.0)
    assert not process.is_running()
    assert not process.signal(signal.SIGTERM)
    assert process.wait_ended(0.0)
    with pytest.raises(ProcessLookupError):
        process.watch()


def test_another_of_the_same_pid_is_another(process: ProcessId, is_told: bool) -> None:
    """It is neither signalled nor waited for."""
    other = ProcessId(process.pid, process.start_time + 1)
    assert not other.is_running()
    assert not other.signal(signal.SIGKILL)
    assert other.wait_ended(0.0)
    assert process.is_running()


def test_when_a_process_started_is_told() -> None:
    """In the time of day."""
    assert abs(time.time() - started_s(ProcessId.own())) < 24 * 3600


def test_memory_is_that_of_the_process() -> None:
    """None once it is gone."""
    told = trees.memory_bytes(os.getpid())
    assert told is not None
    assert 2**20 < told < 2**32
    assert trees.memory_bytes(2**22 + 1) is None


# -- keepers ------------------------------------------------------------------------------------------


def test_a_keeper_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Where there is no file there is none."""
    assert read_keeper(str(tmp_path)) is None
    for keeper in (Keeper(ProcessId(1, 2), 3.5), Keeper(ProcessId(1, 2), None)):
        write_keeper(str(tmp_path), keeper)
        assert read_keeper(str(tmp_path)) == keeper
    assert os.listdir(tmp_path) == ["keeper.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"pid": 1}',
        '{"pid": "1", "start_time": 1, "keep_s": 1}',
        '{"pid": 1, "start_time": 1, "keep_s": -1}',
    ],
)
def test_a_text_that_is_no_keeper_is_an_error(text: str) -> None:
    """And not somebody with strange numbers."""
    with pytest.raises(ValueError, match=r"keeper.json|Expecting value|kept for a number of seconds"):
        Keeper.from_json(text)


def test_the_end_of_a_keeper_is_noticed(
    tmp_path: Path,
    child: subprocess.Popen[bytes],
    process: ProcessId,
    is_told: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Told by the kernel, or by looking; a word of SIGHUP brings the next keeper in time."""
    monkeypatch.setattr(keeping, "_LOOK_S", 0.01)
    reactor = Reactor()
    ends: list[str] = []
    users: list[str] = []
    before = signal.getsignal(signal.SIGHUP)
    watched = Keeping(
        str(tmp_path), None, Keeper(process, 1000.0).to_json(), reactor, lambda: bool(users), ends.append
    )
    try:
        watched.advance()
        assert (watched.next_deadline_s() is None) == is_told
        child.kill()
        deadline = time.monotonic() + 30
        # the time to come, of the keeper's end and 1000 s more, or of the next look
        while (watched.next_deadline_s() or 0.0) < time.monotonic() + 900:
            assert time.monotonic() < deadline
            reactor.poll(0.01)
            watched.advance()
        assert ends == []
        write_keeper(str(tmp_path), Keeper(process, 0.0))
        os.kill(os.getpid(), signal.SIGHUP)
        users.append("somebody")
        watched.advance()
        assert ends == []
        users.clear()
        watched.advance()
        assert ends == ["the process that kept it has been gone for 0 s"]
    finally:
        watched.close()
        reactor.close()
        signal.signal(signal.SIGHUP, before)


# -- which head ---------------------------------------------------------------------------------------


@pytest.fixture
def make_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeHead:
    """Write the card of a head that this process plays; each is younger than the one before."""
    monkeypatch.setenv("JRAY_RUNTIME_DIR", str(tmp_path))
    made: list[Head] = []

    def make(owner_pid: int | None = None, process: ProcessId | None = None) -> Head:
        process, name = process or ProcessId.own(), f"s{len(made)}"
        folder = tmp_path / f"jray-{os.geteuid()}-{name}"
        folder.mkdir(mode=0o700)
        made.append(
            Head(
                session=name, pid=process.pid, start_time=process.start_time, address=f"/{name}.sock",
                session_dir=str(folder), store_dir=str(folder), spill_dir=str(folder), num_cpus=1,
                owner_pid=owner_pid, started_by="a test", idle_timeout_s=None, python="",
                created_s=float(len(made)), folder=str(folder),
            )
        )  # fmt: skip
        made[-1].write()
        return made[-1]

    return make


def test_none_means_the_latest_that_stays(make_head: MakeHead) -> None:
    """Or none, where there are only those of programs."""
    assert find_head(None, {}).address is None
    make_head(owner_pid=1)
    assert find_head(None, {}).address is None
    make_head()
    found = find_head(None, {})
    assert (found.address, found.why) == ("/s1.sock", "a test has started it to stay")
    make_head()
    make_head(owner_pid=1)
    found = find_head(None, {})
    assert (found.address, found.why) == ("/s2.sock", "a test has started it to stay, and the latest of 2")


def test_auto_means_also_those_of_programs(make_head: MakeHead) -> None:
    """After those that stay; none at all is an error."""
    with pytest.raises(ConnectionError, match="Could not find any running jray head"):
        find_head("auto", {})
    make_head(owner_pid=7)
    found = find_head("auto", {})
    assert (found.address, found.why) == ("/s0.sock", "it runs, as long as the process 7")
    make_head()
    make_head(owner_pid=7)
    assert find_head("auto", {}).address == "/s1.sock"


@pytest.mark.parametrize("address", [None, "auto"])
def test_the_environment_comes_first(make_head: MakeHead, address: str | None) -> None:
    """jray's own variable before Ray's; an empty one is none; what is given comes before both."""
    make_head()
    assert find_head(address, {"JRAY_ADDRESS": "/a", "RAY_ADDRESS": "/b"}).address == "/a"
    found = find_head(address, {"JRAY_ADDRESS": "", "RAY_ADDRESS": "/b"})
    assert (found.address, found.why) == ("/b", "RAY_ADDRESS names it")
    assert find_head("/c", {"JRAY_ADDRESS": "/a"}).address == "/c"
    assert find_head(address, {"JRAY_ADDRESS": "auto"}).address == "/s0.sock"
    assert find_head(address, {"JRAY_ADDRESS": "local"}).address is None
    assert find_head("local", {"JRAY_ADDRESS": "/a"}).address is None
    assert find_head(address, {"JRAY_ADDRESS": "s0"}).address == "/s0.sock"


def test_a_kernel_s_own_server_comes_before_others(make_head: MakeHead, process: ProcessId) -> None:
    """It is known by its pid; a keeper that cannot be read is nobody."""
    first, second = make_head(), make_head()
    write_keeper(first.folder, Keeper(process, None))
    (Path(second.folder) / "keeper.json").write_text("{")
    assert find_head(None, {"JPY_PARENT_PID": str(process.pid)}).address == "/s0.sock"
    assert find_head(None, {"JPY_PARENT_PID": "1"}).address == "/s1.sock"


def test_cards_of_the_dead_count_for_nothing_and_go(make_head: MakeHead) -> None:
    """Whoever finds them removes what lies there."""
    dead = make_head(process=ProcessId(os.getpid(), 1))
    make_head()
    assert find_head(None, {}).address == "/s1.sock"
    assert not os.path.exists(dead.folder)


def test_a_name_that_nothing_has_is_answered_with_those_that_run(make_head: MakeHead) -> None:
    """And with what an address is."""
    with pytest.raises(
        ConnectionError, match="neither the path of a head's socket nor the session of a running head"
    ):
        find_head("10.0.0.1:6379", {})
    make_head()
    with pytest.raises(ConnectionError, match=r"running head \(s0\)"):
        find_head("s9", {})
