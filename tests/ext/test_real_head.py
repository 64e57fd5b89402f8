"""Real heads: listed, started, kept and ended by the extension, and what becomes of them when servers end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tornado.httpclient import HTTPResponse

from jray._heads.cards import survey
from jray._heads.ending import end_heads
from jray._heads.processes import ProcessId
from jray_ext.manager import HeadManager, KeptHead
from tests.behaviour.support import ROOT, wait_until
from tests.ext.server import PATIENCE_S, Server

pytestmark = pytest.mark.timeout(
    300
)  # servers take seconds to start, and many more on a machine that is busy

Fetch = Callable[..., Awaitable[HTTPResponse]]

PROGRAM = """
import jray
jray.init(num_cpus=1)
print("ready", flush=True)
input()
jray.shutdown()
"""
JOINS = """
import jray
context = jray.init()
print(context["address"], context["joined"], sep="|")
"""


@pytest.fixture
def short_runtime_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory whose path leaves room for that of a socket, unlike `tmp_path`; its heads end with the test."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    monkeypatch.setenv("JRAY_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield folder
    end_heads(survey(str(folder)).heads, grace_s=PATIENCE_S)
    wait_until(lambda: os.listdir(folder) == [], PATIENCE_S, "an empty runtime directory")
    folder.rmdir()


@pytest.fixture
def manager(short_runtime_dir: Path) -> HeadManager:
    return HeadManager(num_cpus=1)


def joined(**environ: str) -> list[str]:
    """What a program says that calls jray.init: the head's address and why that one."""
    done = subprocess.run(
        [sys.executable, "-c", JOINS],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environ},
    )
    return done.stdout.strip().split("|")


def test_head_of_a_program_is_listed_while_it_runs(manager: HeadManager) -> None:
    """`jray.init()` anywhere shows here, with who owns it; `jray.shutdown()` takes it away."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        (found,) = manager.heads()
        program.stdin.write("\n")
    assert program.returncode == 0
    assert found.head.owner_pid == program.pid
    assert found.head.num_cpus == 1
    assert found.head.python == sys.executable
    assert manager.heads() == []


async def test_a_head_is_started_kept_and_ended(
    short_runtime_dir: Path, jp_fetch: Fetch, jp_base_url: str
) -> None:
    """201 and where it is; the server's kernels join it before others; 204 when it is gone."""
    body = {"num_cpus": 2, "resources": {"gadget": 3}, "labels": {"zone": "a"}, "keep_s": 5, "idle_s": 1000}
    response = await jp_fetch("jray", "api", "heads", method="POST", body=json.dumps(body))
    record = json.loads(response.body)
    assert response.code == 201
    assert response.headers["Location"] == f"{jp_base_url}jray/api/heads/{record['session']}"
    assert record["started_by"] == "jupyter"
    assert record["owner_pid"] is None
    assert (record["num_cpus"], record["idle_timeout_s"]) == (2, 1000)
    assert record["keeper"] == {"pid": os.getpid(), "keep_s": 5}
    other = json.loads((await jp_fetch("jray", "api", "heads", method="POST", body="{}")).body)
    session = record["session"]
    assert joined()[0] == other["address"], "the latest"
    patched = await jp_fetch(
        "jray", "api", "heads", other["session"], method="PATCH", body='{"keep_s": null}'
    )
    assert json.loads(patched.body)["keeper"] == {"pid": os.getpid(), "keep_s": None}
    gone = await jp_fetch("jray", "api", "heads", other["session"], method="DELETE")
    assert (gone.code, gone.body) == (204, b"")
    listed = json.loads((await jp_fetch("jray", "api", "heads")).body)
    assert [head["session"] for head in listed] == [session]
    assert joined(JPY_PARENT_PID=str(os.getpid())) == [
        record["address"], "it is the one of this kernel's Jupyter server",
    ]  # fmt: skip


async def test_a_head_runs_by_the_python_of_a_kernel(
    short_runtime_dir: Path, jp_fetch: Fetch, tmp_path: Path, jp_data_dir: Path
) -> None:
    """A kernel of another language has none."""
    python = tmp_path / "python-of-a-kernel"
    python.symlink_to(sys.executable)
    for name, program in (("mine", python), ("other", "/usr/bin/julia")):
        folder = jp_data_dir / "kernels" / name
        folder.mkdir(parents=True)
        spec = {"argv": [str(program), "-f", "{connection_file}"], "display_name": name, "language": name}
        (folder / "kernel.json").write_text(json.dumps(spec))
    response = await jp_fetch("jray", "api", "heads", method="POST", body='{"kernel_name": "mine"}')
    assert json.loads(response.body)["python"] == str(python)
    with pytest.raises(Exception, match="400"):
        await jp_fetch("jray", "api", "heads", method="POST", body='{"kernel_name": "other"}')


def test_a_command_that_fails_is_told_in_its_own_words(manager: HeadManager, tmp_path: Path) -> None:
    """And one that is not there by its name."""
    manager.head_command = [sys.executable, "-c", "import sys; sys.exit('no room')"]
    with pytest.raises(Exception, match=r"^no room$"):
        manager.start()
    manager.head_command = [str(tmp_path / "nowhere")]
    with pytest.raises(Exception, match=r"nowhere cannot be run: No such file or directory\."):
        manager.start()


def test_kernels_look_where_the_server_looks(
    short_runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime directory of the configuration goes into their environment, and no other."""
    HeadManager().publish()
    assert os.environ["JRAY_RUNTIME_DIR"] == str(short_runtime_dir)
    HeadManager(runtime_dir="/elsewhere").publish()
    assert os.environ["JRAY_RUNTIME_DIR"] == "/elsewhere"


def test_only_heads_of_servers_that_are_gone_are_taken_over(manager: HeadManager) -> None:
    """Not those that another server keeps, and not what a user has started."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        process = ProcessId.of(other.pid)
        assert process is not None
        orphan, kept, free = manager.start({"keep_s": 1000}), manager.start(), manager.start()
        assert manager.own_heads() == [orphan, kept, free]
        command = [sys.executable, "-m", "jray", "start", "--head", "--num-cpus=1", "--keep-for=1000"]
        for started_by in ("jupyter", "jray start"):
            subprocess.run(
                [*command, f"--keep-with={other.pid}", f"--started-by={started_by}"],
                check=True,
                capture_output=True,
            )
        assert manager.take_over() == []
        other.kill()
        other.wait()
        taken: list[KeptHead] = manager.take_over()
    assert [found.head.started_by for found in taken] == ["jupyter"]
    assert [found.keeper.keep_s for found in taken if found.keeper] == [1000]
    assert len(manager.own_heads()) == 4


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.promise("T5")
def test_nothing_is_left_once_the_time_after_a_server_is_over(
    short_runtime_dir: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """However the server has ended; a head that outlives it goes over to the server that comes next."""
    with Server(tmp_path / "server", HeadManager__num_cpus=1) as server:
        ends = server.ask("POST", "jray/api/heads", {"keep_s": 0})
        stays = server.ask("POST", "jray/api/heads", {"keep_s": 1000})
        server.end(number)
    assert ProcessId(ends["pid"], ends["start_time"]).wait_ended(PATIENCE_S)
    wait_until(lambda: len(os.listdir(short_runtime_dir)) == 1, PATIENCE_S, "nothing of that one")
    assert not os.path.exists(ends["store_dir"])
    assert [found.head.session for found in HeadManager().heads()] == [stays["session"]]
    if number == signal.SIGTERM:  # what comes next is the same
        return
    with Server(tmp_path / "server", JrayExtApp__auto_start=True) as server:
        kept = {"pid": server.process.pid, "keep_s": 1000}
        wait_until(
            lambda: [head["keeper"] for head in server.heads()] == [kept],
            PATIENCE_S,
            "the same head, and no other",
        )
