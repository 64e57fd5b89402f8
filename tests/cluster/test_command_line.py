"""What the command `jray` does to clusters and tells of them, run as a shell runs it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import jray
from jray._heads.cards import Head, survey
from jray.cluster_utils import Cluster
from tests.behaviour.support import PATIENCE_S, ROOT, Bench, is_running, wait_gone, wait_until
from tests.cluster.processes import Done, Script, left_in

Command = Callable[..., Done]


@jray.remote
def square(n: int) -> int:
    return n * n


@jray.remote
class Counter:
    def __init__(self) -> None:
        print("counter made")
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


@pytest.fixture
def head(command: Command) -> Head:
    """A head that stays."""
    command("start", "--head", "--num-cpus=2", "--resources=gadget=3", "--labels=zone=a,disk=fast")
    [found] = survey(os.environ["JRAY_RUNTIME_DIR"]).heads
    return found


# -- start and stop -----------------------------------------------------------------------------------


def test_start_offers_what_it_was_told(command: Command, head: Head) -> None:
    """CPUs, resources and labels of its options, as jray.init's keywords have them."""
    jray.init()
    resources = jray.cluster_resources()
    assert (resources["CPU"], resources["gadget"]) == (2, 3)
    [node] = jray.nodes()
    assert {"zone": "a", "disk": "fast"}.items() <= node["Labels"].items()


def test_start_says_how_to_join_and_stop_what_was_started(command: Command) -> None:
    """In words that can be pasted."""
    said = command("start", "--head", "--num-cpus=1").out
    [head] = survey(os.environ["JRAY_RUNTIME_DIR"]).heads
    assert f"jray.init({head.session!r})" in said
    assert f"jray stop {head.session}" in said
    again = command("start", "--head", "--num-cpus=1")
    assert "1 other head of yours" in again.err


def test_a_node_joins_a_head_that_runs_and_ends_with_it(command: Command) -> None:
    """A node is a process of its own, whose resources are the cluster's."""
    head = command("start", "--head", "--num-cpus=1", "--format=json").data
    node = command(
        "start", f"--address={head['session']}", "--num-cpus=2", "--resources=far=1", "--format=json"
    ).data
    assert node["head"] == head["address"]
    again = command("start", "--address=auto", "--num-cpus=1").out
    assert "Started a node with 1 CPUs" in again
    rows = command("list", "nodes", "--format=json").data
    assert len(rows) == 3
    assert {row["node_id"] for row in rows} > {node["node_id"]}
    assert command("status", "--format=json").data["usage"]["CPU"]["total"] == 4
    jray.init()

    @jray.remote(resources={"far": 1})
    def where() -> str:
        return jray.get_runtime_context().get_node_id()

    assert jray.get(where.remote()) == node["node_id"]
    jray.shutdown()
    command("stop")
    wait_gone(node["pid"])


def test_a_node_that_cannot_join_says_why(command: Command, runtime_dir: Path) -> None:
    """There is no such head, or the options are those of a head."""
    assert "names no running head" in command("start", "--address=local", expect=2).err
    assert "is neither the path" in command("start", "--address=nonsense", expect=1).err
    said = command("start", f"--address={runtime_dir}/nobody.sock", expect=1).err
    assert f"No head of jray listens at {runtime_dir}/nobody.sock" in said
    assert "--idle-timeout" in command("start", "--address=auto", "--idle-timeout=9", expect=2).err
    assert left_in(runtime_dir) == set()


def test_a_head_that_cannot_start_says_why_and_leaves_nothing(
    command: Command, tmp_path: Path, runtime_dir: Path
) -> None:
    """A directory that cannot be made, or a head that does not come up in its time."""
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    said = command("start", "--head", f"--temp-dir={blocker}/run", expect=1).err
    assert str(blocker) in said
    said = command("start", "--head", expect=1, JRAY_HEAD_START_TIMEOUT_S="0").err
    assert "did not start" in said
    assert left_in(runtime_dir) == set()


def test_files_go_where_they_are_told_and_the_card_where_it_is_looked_for(
    command: Command, tmp_path: Path, runtime_dir: Path
) -> None:
    """--temp-dir hides a head from nobody."""
    record = command("start", "--head", "--num-cpus=1", f"--temp-dir={tmp_path}", "--format=json").data
    [folder] = runtime_dir.iterdir()
    assert record["session_dir"] != str(folder)
    assert jray.init()["address"] == record["address"]
    jray.shutdown()
    command("stop")
    assert not os.path.exists(record["session_dir"])
    assert list(tmp_path.glob("jray-*")) == []


def test_block_stays_until_it_is_asked_to_end(command: Command, runtime_dir: Path) -> None:
    """And takes its head along; when the head ends before, so does the command, with status 1."""
    for ends_head in (False, True):
        with subprocess.Popen(
            [sys.executable, "-m", "jray", "start", "--head", "--block", "--num-cpus=1", "--format=json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as blocked:  # fmt: skip
            assert blocked.stdout is not None
            record = json.loads(blocked.stdout.readline())
            if ends_head:
                os.kill(record["pid"], signal.SIGTERM)
            else:
                blocked.send_signal(signal.SIGINT)
            assert blocked.wait(PATIENCE_S) == (1 if ends_head else 130)
        wait_until(lambda: not os.listdir(runtime_dir), what="a clean directory")


def test_stop_ends_all_heads_and_names_them(
    command: Command, script: Callable[..., Script], head: Head, runtime_dir: Path
) -> None:
    """Also that of a program, which learns it; a second time there is nothing to end."""
    program = script(
        """
        import jray
        print(jray.init("local", num_cpus=1)["address"], flush=True)
        ref = jray.remote(lambda: __import__("time").sleep(600)).remote()
        try:
            jray.get(ref)
        except jray.exceptions.RaySystemError:
            print("head gone", flush=True)
        """
    )
    program.line()
    said = command("stop").out
    assert f"Ended the head of session {head.session} (pid {head.pid}, started by jray start)" in said
    assert f"of the program with pid {program.pid}" in said
    assert program.line() == "head gone"
    assert not head.process.is_running()
    program.finish()
    wait_until(lambda: not os.listdir(runtime_dir), what="a clean directory")
    assert "No head of yours is running" in command("stop").out


def test_stop_ends_the_named_and_no_other(command: Command, head: Head) -> None:
    """An unknown name ends none, and is answered with those that run."""
    other = command("start", "--head", "--num-cpus=1", "--format=json").data
    said = command("stop", head.session, "nonsense", expect=1).err
    assert "nonsense" in said
    assert other["session"] in said
    assert head.process.is_running()
    [ended] = command("stop", head.session, "--format=json").data
    assert ended == {"session": head.session, "pid": head.pid, "how": "ended"}
    assert [left.pid for left in survey(os.environ["JRAY_RUNTIME_DIR"]).heads] == [other["pid"]]


@pytest.mark.parametrize("force", [False, True])
def test_stop_kills_a_head_that_does_not_end(
    command: Command, head: Head, runtime_dir: Path, force: bool
) -> None:
    """After its grace, or at once; with its workers, also stopped ones, and with all that it had on disk."""
    jray.init()
    counter = Counter.remote()
    assert jray.get(counter.add.remote(), timeout=PATIENCE_S) == 1
    [zygote] = psutil.Process(head.pid).children()
    pids = [head.pid, zygote.pid]
    for pid in pids:  # first who might end a worker
        os.kill(pid, signal.SIGSTOP)
    for worker in zygote.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.suspend()
            pids.append(worker.pid)
    said = command("stop", *(["--force"] if force else ["--grace-period=0.5"])).out
    assert f"Killed the head of session {head.session}" in said
    assert not any(map(is_running, pids))
    assert os.listdir(runtime_dir) == []
    assert not os.path.exists(head.store_dir)


def test_stop_kills_what_a_dead_head_has_left_running(command: Command, head: Head) -> None:
    """A zygote that was stopped when its head was killed."""
    [zygote] = psutil.Process(head.pid).children()
    zygote.suspend()
    head.process.signal(signal.SIGKILL)
    assert head.process.wait_ended(PATIENCE_S)
    assert [row["kind"] for row in command("ps", "--format=json").data] == ["stray"]
    assert str(zygote.pid) in command("stop").out
    assert not is_running(zygote.pid)


def test_ps_shows_every_process_and_whose_it_is(
    command: Command, head: Head, script: Callable[..., Script], bench: Bench
) -> None:
    """Head, zygote, workers, what tasks have started, and drivers; memory is never more than there is."""
    program = script(
        """
        import jray, subprocess, sys, time
        jray.init()
        @jray.remote
        def work(path):
            child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
            with open(path, "w") as file:
                file.write(str(child.pid))
            time.sleep(600)
        ref = work.remote(sys.argv[1])
        print("begun", flush=True)
        input()
        """,
        Path(bench.folder) / "child",
    )
    program.line()

    def kinds() -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for row in command("ps", "--format=json").data:
            assert row["session"] == head.session
            assert abs(time.time() - row["started_s"]) < 600
            assert row["memory_bytes"] is None or 0 < row["memory_bytes"] < 2**33
            found.setdefault(row["kind"], []).append(row["pid"])
        return found

    found = wait_until(lambda: kinds() if "child" in kinds() else {}, what="a child")
    assert found["head"] == [head.pid]
    assert found["driver"] == [program.pid]
    [zygote] = found["zygote"]
    assert psutil.Process(zygote).ppid() == head.pid
    assert {psutil.Process(pid).ppid() for pid in found["worker"]} == {zygote}
    assert "child" in command("ps").out
    program.kill()
    wait_until(lambda: kinds().keys() == {"head", "zygote"}, what="the driver's processes gone")


def test_further_nodes_are_shown_and_end_with_their_head(command: Command) -> None:
    """Those on this machine; each has a store of its own."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    assert cluster.head_node is not None
    rows = command("ps", "--format=json").data
    assert [row["pid"] for row in rows if row["kind"] == "head"] == [cluster.head_node.pid]
    assert [row["pid"] for row in rows if row["kind"] == "node"] == [node.pid]
    assert len([row for row in rows if row["kind"] == "zygote"]) == 2
    assert len(command("list", "nodes", "--format=json").data) == 2
    assert "Nodes: 2" in command("status", "--verbose").out
    assert command("memory", "--stats-only").out.count("Object store of node") == 2
    os.kill(node.pid, signal.SIGSTOP)
    command("stop", "--grace-period=0.5")
    assert not is_running(node.pid)
    assert not is_running(cluster.head_node.pid)
    cluster.shutdown()


# -- what runs ----------------------------------------------------------------------------------------


@pytest.fixture
def busy(head: Head) -> Iterator[Any]:
    """A cluster with an actor that is called, tasks that have run, and one that waits for what there is not."""
    jray.init(namespace="busy")
    counter = Counter.options(name="counter <b>").remote()
    assert jray.get([counter.add.remote(), square.remote(2)], timeout=PATIENCE_S) == [1, 4]
    waiting = square.options(resources={"unobtainable": 1}, name="waits").remote(1)
    kept = jray.put(bytes(2_000_000))
    yield counter
    del waiting, kept
    jray.shutdown()


def test_status_says_what_is_in_use_and_what_waits(command: Command, head: Head, busy: Any) -> None:
    """For people and for programs."""

    def look() -> dict[str, Any]:
        found: dict[str, Any] = command("status", "--format=json").data
        return found if found["demands"] else {}

    told = wait_until(look, what="a demand")
    assert told["usage"]["CPU"]["total"] == 2
    assert told["usage"]["gadget"] == {"used": 0, "total": 3}
    assert told["head"] == head.to_record()
    [demand] = told["demands"]
    assert demand["name"] == "waits"
    assert "unobtainable" in demand["reason"]
    text = command("status", "--verbose").out
    assert head.session in text
    assert "0/3 gadget" in text
    assert "1 x waits" in text


def test_list_shows_rows_and_filters_them(command: Command, head: Head, busy: Any) -> None:
    """As a table, as JSON, as YAML; columns of detail only with --detail."""
    [row] = command("list", "actors", "--format=json").data
    assert (row["class_name"], row["state"], row["name"]) == ("Counter", "ALIVE", "counter <b>")
    assert "death_cause" not in row
    assert command("list", "actors", "--filter", "STATE=dead", "--format=json").data == []
    assert "No actors that match" in command("list", "actors", "--filter", "state=DEAD").err
    assert "counter <b>" in command("list", "actors", "--filter", "state!=DEAD").out
    detailed = command("list", "actors", "--detail").out
    assert '  name: "counter <b>"\n' in detailed
    assert "  death_cause: null\n" in detailed
    tasks = command("list", "tasks", "--filter=state=FINISHED", "--format=json").data
    assert {"square", "Counter.add"} <= {task["name"] for task in tasks}
    limited = command("list", "tasks", "--limit=1", "--format=json")
    assert len(limited.data) == 1
    assert "raise limit" in limited.err
    assert "Cannot filter by 'cats'" in command("list", "tasks", "--filter=cats=1", expect=1).err
    assert "jray keeps no cluster events" in command("list", "cluster-events", expect=1).err


def test_each_kind_of_thing_has_a_list(command: Command, head: Head, busy: Any) -> None:
    """Under Ray's names."""
    found = {
        kind: command("list", kind, "--format=json").data
        for kind in ("nodes", "workers", "jobs", "objects", "placement-groups", "runtime-envs")
    }
    assert [row["state"] for row in found["nodes"]] == ["ALIVE"]
    assert {row["worker_type"] for row in found["workers"]} == {"DRIVER", "WORKER"}
    assert [row["status"] for row in found["jobs"]] == ["RUNNING"]
    assert any(row["object_size"] > 2_000_000 for row in found["objects"])
    assert found["placement-groups"] == found["runtime-envs"] == []


def test_get_shows_one_with_all_details(command: Command, head: Head, busy: Any) -> None:
    """An id that nothing has is an error."""
    [row] = command("list", "actors", "--format=json").data
    found = command("get", "actors", row["actor_id"], "--format=json").data
    assert row.items() <= found.items()
    assert found["num_restarts"] == 0
    assert 'class_name: "Counter"' in command("get", "actors", row["actor_id"]).out
    assert "Counter" in command("get", "actors", row["actor_id"], "--format=table").out
    assert "`jray list actors` has ids" in command("get", "actors", "ab" * 16, expect=1).err


def test_summary_and_memory_count(command: Command, head: Head, busy: Any) -> None:
    """Tasks by function, actors by class, references by node and size."""
    tasks = command("summary", "tasks", "--format=json").data
    assert tasks["summary"]["square"]["state_counts"]["FINISHED"] == 1
    assert "Counter" in command("summary", "actors").out
    assert "total_objects" in command("summary", "objects").out
    assert "FINISHED: 1" in command("summary", "tasks").out
    memory = command("memory", "--units=MB", "--sort-by=OBJECT_SIZE").out
    assert "1.91 MB" in memory
    assert "Object store: 1.9" in memory
    held = command("memory", "--format=json", "--group-by=STACK_TRACE").data
    assert sum(row["object_size"] >= 2_000_000 for rows in held["groups"].values() for row in rows) == 1
    stats = command("memory", "--stats-only", "--format=json").data
    assert stats.keys() == {"stores"}


def test_logs_are_named_read_and_followed(command: Command, head: Head, busy: Any) -> None:
    """By file, by worker, by actor; what is followed ends with the head."""
    assert "head.log" in command("logs").out
    assert "head.log" in command("logs", "--format=json").data["internal"]
    [actor] = command("list", "actors", "--format=json").data
    assert "counter made" in command("logs", "actor", "--id", actor["actor_id"]).out
    assert "counter made" in command("logs", "worker", "--pid", actor["pid"]).out
    assert command("logs", "worker", "--pid", actor["pid"], "--tail=0").out == ""
    assert "give the worker's --pid" in command("logs", "worker", expect=2).err
    assert command("logs", "cluster", "nothing*", expect=1).out == ""
    with subprocess.Popen(
        [sys.executable, "-m", "jray", "logs", "worker", "--pid", str(actor["pid"]), "--follow", "--interval=0.05"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as following:  # fmt: skip
        assert following.stdout is not None
        assert following.stdout.readline() == "counter made\n"
        jray.shutdown()
        command("stop")
        assert following.wait(PATIENCE_S) == 0


def test_timeline_and_health(command: Command, head: Head, busy: Any, tmp_path: Path) -> None:
    """A trace in a file; a status for scripts."""
    assert "usage: jray timeline" in command("timeline", "--help").out
    command("timeline", f"--output={tmp_path}/trace.json")
    assert any(event["name"] == "square" for event in json.loads((tmp_path / "trace.json").read_text()))
    command("health-check")
    command("health-check", f"--address={head.session}")
    assert "'nonsense' is neither" in command("health-check", "--address=nonsense", expect=1).err
    assert "`ray status`" in command("health-check", expect=1, RAY_ADDRESS="ray://host:10001").err


def test_where_nothing_runs_every_question_says_so(command: Command) -> None:
    """With what to do, and status 1."""
    for words in (
        ["status"],
        ["list", "tasks"],
        ["summary", "actors"],
        ["memory"],
        ["logs"],
        ["health-check"],
    ):
        assert "jray start --head" in command(*words, expect=1).err
    assert "No head of yours is running" in command("ps").out


def test_the_environment_chooses_the_head(command: Command, head: Head) -> None:
    """JRAY_ADDRESS, and --address before it."""
    other = command("start", "--head", "--num-cpus=1", "--format=json").data
    asked = command("status", "--format=json", JRAY_ADDRESS=head.address).data
    assert asked["head"]["pid"] == head.pid
    asked = command(
        "status", f"--address={other['session']}", "--format=json", JRAY_ADDRESS=head.address
    ).data
    assert asked["head"]["pid"] == other["pid"]


def test_a_command_starts_without_the_heavy_libraries(command: Command, head: Head) -> None:
    """A shell's user waits for every import."""
    code = (
        "import sys\nfrom jray.cli import main\nstatus = main(['list', 'tasks'])\n"
        "print([name for name in ('numpy', 'IPython', 'tornado', 'pandas', 'psutil') if name in sys.modules], status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "[] 0\n"


def test_versions_and_help(command: Command) -> None:
    """Of the whole and of each command."""
    assert command("--version").out == f"jray, version {jray.__version__}\n"
    assert "start a head that stays" in command("--help").out
    assert "usage: jray [-h] [--version] COMMAND" in command("--help").out
    assert command().out == command("--help").out
    assert "--idle-timeout" in command("start", "--help").out
    assert "--port" not in command("start", "--help").out
