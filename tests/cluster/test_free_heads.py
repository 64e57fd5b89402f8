"""Heads that outlive who started them: who finds them, what they are kept for, and how they end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import jray
from jray._core.client.finding import find_head
from jray._core.client.session import observe
from jray._core.config import Config
from jray._core.refs import current
from jray._heads import keepers
from jray._heads.cards import Head, survey
from jray._heads.keepers import Keeper
from jray._heads.processes import ProcessId
from jray.util.multiprocessing import Pool
from jray.util.state import list_actors
from tests.behaviour.support import PATIENCE_S, wait_until
from tests.cluster.processes import Done, Script, left_in

Command = Callable[..., Done]


def start(command: Command, *words: object, **environ: str) -> Head:
    """Start a head that stays, and return its card."""
    record = command("start", "--head", "--num-cpus=2", "--format=json", *words, **environ).data
    [head] = [head for head in survey(os.environ["JRAY_RUNTIME_DIR"]).heads if head.pid == record["pid"]]
    assert head.to_record() == record
    return head


@contextlib.contextmanager
def keeper() -> Iterator[subprocess.Popen[str]]:
    """A process that keeps heads, and does nothing else."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_head_outlives_its_starter_and_its_drivers(command: Command, script: Callable[..., Script]) -> None:
    """What a driver leaves behind that is meant to stay, the next one finds; the rest goes with it."""
    head = start(command)
    assert psutil.Process(head.pid).ppid() != os.getpid()
    first = script(
        """
        import jray, os
        jray.init(namespace="shared")
        @jray.remote
        class Counter:
            def __init__(self):
                self.count = 0
            def add(self):
                self.count += 1
                return self.count, os.getpid()
        kept = Counter.options(name="kept", lifetime="detached").remote()
        lost = Counter.options(name="lost").remote()
        big = jray.put(bytes(3_000_000))
        print(*jray.get([kept.add.remote(), lost.add.remote()]), flush=True)
        input()
        """
    )
    first.line()
    first.kill()
    context = jray.init(namespace="shared")
    assert context["address"] == head.address
    count, pid = jray.get(jray.get_actor("kept").add.remote(), timeout=PATIENCE_S)
    assert count == 2
    wait_until(lambda: [row["pid"] for row in context_actors("ALIVE")] == [pid], what="one actor")
    wait_until(lambda: jray.available_resources().keys() == jray.cluster_resources().keys(), what="all free")
    wait_until(lambda: store_bytes() == 0, what="an empty store")
    jray.shutdown()
    assert head.process.is_running()
    assert psutil.pid_exists(pid)


def context_actors(state: str) -> list[dict[str, object]]:
    return [row.asdict() for row in list_actors(filters=[("state", "=", state)])]


def store_bytes() -> int:
    return sum(store["used"] for store in current.client.cluster.stores().values())


def test_a_bare_init_joins_the_latest_that_stays_and_says_why(
    command: Command, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not one that belongs to a program; JRAY_ADDRESS comes before, "local" and resources start one."""
    start(command)
    latest = start(command)
    with caplog.at_level(logging.INFO, "jray"):
        context = jray.init()
    assert context["address"] == latest.address
    assert "jray start has started it to stay, and the latest of 2" in context["joined"]
    assert latest.address in caplog.text
    assert context["joined"] in caplog.text
    jray.shutdown()
    with pytest.raises(ValueError, match=r"num_cpus must not be provided.*address=\"local\""):
        jray.init(num_cpus=1)
    context = jray.init("local", num_cpus=1)
    assert context["address"] != latest.address
    assert context["joined"] == ""
    monkeypatch.setenv("JRAY_ADDRESS", "local")
    jray.shutdown()
    assert jray.init()["joined"] == ""


def test_auto_joins_also_what_belongs_to_a_program(script: Callable[..., Script]) -> None:
    """A bare init starts one beside it; without any head auto is an error that says how to start one."""
    with pytest.raises(ConnectionError, match="jray start --head"):
        jray.init("auto")
    program = script("import jray\nprint(jray.init(num_cpus=1)['address'], flush=True)\ninput()")
    address = program.line()
    context = jray.init("auto")
    assert context["address"] == address
    assert f"as long as the process {program.pid}" in context["joined"]
    jray.shutdown()
    assert jray.init(num_cpus=1)["address"] != address
    program.say()
    program.finish()


def test_a_pool_joins_a_head_that_stays(command: Command) -> None:
    """As in Ray: it starts one of its size only where there is none."""
    head = start(command)
    with Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
        assert jray.get_runtime_context().gcs_address == head.address


def test_a_session_is_an_address(command: Command) -> None:
    """As `jray ps` shows it; another name is answered with those that run."""
    head = start(command)
    assert jray.init(head.session)["address"] == head.address
    jray.shutdown()
    with pytest.raises(ConnectionError, match=f"'nonsense' is neither.*{head.session}"):
        jray.init("nonsense")


def test_a_kernel_finds_the_head_of_its_own_server(
    command: Command, script: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before others that are younger, by the pid that the server's kernels are started with."""
    own = start(command, f"--keep-with={os.getpid()}")
    start(command)
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
    context = jray.init()
    assert context["address"] == own.address
    assert context["joined"] == "it is the one of this kernel's Jupyter server"


def test_what_a_killed_head_left_goes_when_the_next_is_looked_for(
    command: Command, runtime_dir: Path
) -> None:
    """Its card counts for nothing, whoever has its pid now, and its files go."""
    head = start(command)
    head.process.signal(signal.SIGKILL)
    assert head.process.wait_ended(PATIENCE_S)
    with pytest.raises(ConnectionError):
        jray.init("auto")
    wait_until(lambda: left_in(runtime_dir) == set(), what="a clean directory")
    # the same card again, by the name of a process that lives, but started at another time
    folder = runtime_dir / f"jray-{os.geteuid()}-forged"
    folder.mkdir(mode=0o700)
    record = head.to_record() | {"pid": os.getpid(), "start_time": 1}
    (folder / "head.json").write_text(json.dumps(record))
    with pytest.raises(ConnectionError):
        jray.init("auto")
    assert not folder.exists()


def test_another_version_of_python_is_refused_with_both_named(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is sent that the other could not read."""
    start(command)
    monkeypatch.setattr(sys, "version_info", (3, 99, 1))
    with pytest.raises(
        RuntimeError, match=r"Version mismatch: .* Python 3\.\d\d and .* Python 3\.99 and .*jray stop"
    ):
        jray.init()
    assert not jray.is_initialized()


def test_an_unused_head_ends_by_itself(command: Command, runtime_dir: Path) -> None:
    """Once nobody has come for its time, files and all."""
    head = start(command, "--idle-timeout=6")
    assert head.idle_timeout_s == 6
    assert head.process.wait_ended(PATIENCE_S)
    wait_until(lambda: not os.listdir(runtime_dir), what="a clean directory")


def test_a_driver_holds_a_head_whose_time_is_over_and_an_observer_does_not(command: Command) -> None:
    """It ends when the last driver leaves, though somebody looks at it."""
    with keeper() as process:
        head = start(command, f"--keep-with={process.pid}", "--keep-for=0")
        jray.init()
        watching = observe(find_head(head.session), Config())
        process.kill()
        assert not head.process.wait_ended(1.0)
        assert [row["pid"] for row in watching.client.ask("nodes")] == [head.pid]
        jray.shutdown()
        assert head.process.wait_ended(PATIENCE_S)
        watching.close()


def test_a_head_outlives_its_keeper_for_the_time_agreed(command: Command, runtime_dir: Path) -> None:
    """A keeper that was killed has no last word: the head sees its end by itself."""
    with keeper() as process:
        head = start(command, f"--keep-with={process.pid}", "--keep-for=0.5")
        assert not head.process.wait_ended(1.0)
        process.kill()
        assert head.process.wait_ended(PATIENCE_S)
    wait_until(lambda: not os.listdir(runtime_dir), what="a clean directory")


def test_the_next_keeper_takes_a_head_over(command: Command) -> None:
    """Within the time that it was to outlive the first; then it ends with the second."""
    with keeper() as second:
        with keeper() as first:
            head = start(command, f"--keep-with={first.pid}", "--keep-for=1000")
        found = ProcessId.of(second.pid)
        assert found is not None
        assert keepers.take(head, Keeper(found, 0.0))
        assert keepers.read_keeper(head.folder) == Keeper(found, 0.0)
        assert not head.process.wait_ended(0.5)
    assert head.process.wait_ended(PATIENCE_S)


def test_a_keeper_that_cannot_be_read_ends_nothing(command: Command) -> None:
    """The one before holds on, and the head's log says so."""
    with keeper() as process:
        head = start(command, f"--keep-with={process.pid}", "--keep-for=0")
        (Path(head.folder) / "keeper.json").write_text("{}")
        head.process.signal(signal.SIGHUP)
        log = Path(head.session_dir) / "logs" / "head.log"
        wait_until(lambda: "cannot be read" in log.read_text(), what="a word in the log")
        assert head.process.is_running()
    assert head.process.wait_ended(PATIENCE_S)


def test_who_only_asks_has_no_job_and_is_no_driver(command: Command) -> None:
    """The command line joins a cluster without a trace in its lists."""
    start(command)
    jray.init()
    assert jray.get(jray.remote(lambda: 1).remote(), timeout=PATIENCE_S) == 1
    assert len(command("list", "jobs", "--format=json").data) == 1
    workers = command("list", "workers", "--format=json").data
    assert [row["pid"] for row in workers if row["worker_type"] == "DRIVER"] == [os.getpid()]
    assert {row["worker_type"] for row in workers} == {"DRIVER", "WORKER"}
