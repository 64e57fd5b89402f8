"""What the processes of a cluster tell about their tasks and objects when they are asked."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import jray
from jray._core.client import reports
from jray._core.filters import matches
from jray._core.refs import current
from tests.behaviour.support import Bench, wait_until
from tests.cluster.processes import Cluster


def rows(kind: str, **options: Any) -> list[dict[str, Any]]:
    return current.client.cluster.rows(kind, **options).rows


def one(**wanted: Any) -> dict[str, Any]:
    """Return the one task that has these values."""
    (row,) = rows("tasks", filters=[(key, "=", value) for key, value in wanted.items()], detail=True)
    return row


@jray.remote
def wait_at(gate: Any) -> None:
    gate.wait()


@jray.remote
def wait_for_child(gate: Any) -> None:
    jray.get(wait_at.options(name="child").remote(gate))


def test_a_task_is_told_in_each_of_its_states(cluster: Cluster, bench: Bench) -> None:
    """By its owner, with what its worker knows: where it runs, since when, and whether it waits in get."""
    gate = bench.gate()
    parent = wait_for_child.options(name="parent").remote(gate)
    dependent = wait_at.options(name="dependent").remote(parent)
    wait_until(lambda: one(name="parent")["state"] == "RUNNING_IN_RAY_GET")
    # its owner says RUNNING from when it was sent, its worker from when it began
    wait_until(lambda: one(name="child")["state"] == "RUNNING" and one(name="child")["start_time_ms"])
    child, told = one(name="child"), one(name="parent")
    assert told["task_id"] == parent.task_id().hex()
    assert child["parent_task_id"] == told["task_id"]
    assert {child["worker_pid"], told["worker_pid"]} <= {worker.pid for worker in cluster.workers(2)}
    assert child["worker_pid"] != told["worker_pid"]
    assert child["creation_time_ms"] <= child["start_time_ms"]
    assert child["end_time_ms"] is None
    assert one(name="dependent")["state"] == "PENDING_ARGS_AVAIL"
    gate.open()
    with pytest.raises(AttributeError):  # it was given None for a gate
        jray.get(dependent)
    ended, failed = one(name="parent"), one(name="dependent")
    assert (ended["state"], failed["state"]) == ("FINISHED", "FAILED")
    assert ended["start_time_ms"] <= ended["end_time_ms"]
    assert failed["error_type"] == "TASK_EXECUTION_EXCEPTION"
    assert "AttributeError" in failed["error_message"]


def test_queued_tasks_are_counted_and_the_rows_are_limited(cluster: Cluster, bench: Bench) -> None:
    """The counts are of all, so that a summary needs no rows."""
    gate = bench.gate()
    refs = [wait_at.remote(gate) for _ in range(100)]
    refs[-1].task_id()
    wait_until(lambda: len(rows("tasks", filters=[("state", "=", "RUNNING")])) == 2)
    answer = current.client.cluster.rows("tasks", limit=5)
    assert (len(answer.rows), answer.total) == (5, 100)
    assert sum(answer.counts.values()) == 100
    assert {key[:2] for key in answer.counts} == {("wait_at", "NORMAL_TASK")}
    gate.open()
    jray.get(refs)


def test_a_call_of_an_actor_has_the_id_of_its_ref(cluster: Cluster) -> None:
    """Also as the actor sees it, whichever of the two connected first."""

    @jray.remote
    class Actor:
        def ids(self) -> tuple[str | None, str | None]:
            context = jray.get_runtime_context()
            return context.get_task_id(), context.get_actor_id()

    actor = Actor.remote()
    ref = actor.ids.remote()
    task_id, actor_id = jray.get(ref)
    assert task_id == ref.task_id().hex()
    row = one(task_id=task_id)
    assert (row["type"], row["actor_id"], row["func_or_class_name"]) == ("ACTOR_TASK", actor_id, "Actor.ids")
    assert row["start_time_ms"] is not None


def test_a_process_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    """What the others know is told all the same."""
    monkeypatch.setenv("JRAY_REPORT_TIMEOUT_S", "0.3")
    jray.init(num_cpus=1)
    pids = bench.tally()

    @jray.remote
    def stop() -> None:
        pids.add(os.getpid())
        os.kill(os.getpid(), signal.SIGSTOP)

    ref = stop.remote()
    pids.wait_for(1)
    [pid] = pids.notes()
    assert isinstance(pid, int)
    wait_until(
        lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, what="a process that is stopped"
    )
    warning = f"The process {pid} did not answer in time: what it owns is missing."

    def is_told() -> bool:
        """Unless another process was late, too."""
        answer = current.client.cluster.rows("tasks")
        assert warning in answer.warnings
        return answer.warnings == [warning] and [row["worker_pid"] for row in answer.rows] == [pid]

    wait_until(is_told, what="the row of the task, and one warning")
    os.kill(pid, signal.SIGCONT)
    jray.get(ref)


def test_only_the_last_tasks_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a driver's memory would grow with every task it ever ran; and no argument or result is kept with them."""
    monkeypatch.setenv("JRAY_TASK_HISTORY", "10")
    jray.init(num_cpus=1)
    jray.get([jray.remote(lambda: None).remote() for _ in range(50)])
    assert current.client.cluster.rows("tasks").total == 10


def test_objects_are_told_by_whoever_holds_them(cluster: Cluster) -> None:
    """With their size, and gone when the last ref is."""
    ref = jray.put(bytes(200_000))
    (row,) = rows("objects", filters=[("object_id", "=", ref.hex())])
    assert row["object_size"] >= 200_000
    assert (row["pid"], row["type"]) == (os.getpid(), "DRIVER")
    wanted = ref.hex()
    del ref
    assert rows("objects", filters=[("object_id", "=", wanted)]) == []


def test_calls_without_task_events_are_not_told(cluster: Cluster) -> None:
    """Of a function, of an actor, of one call: as the option says."""

    @jray.remote(enable_task_events=False)
    class Silent:
        def work(self) -> None: ...

    @jray.remote
    def work() -> None: ...

    silent = Silent.remote()
    jray.get([silent.work.remote(), work.options(enable_task_events=False).remote()])
    assert rows("tasks") == []
    jray.get([silent.work.options(enable_task_events=True).remote(), work.options(name="work").remote()])
    assert sorted(row["name"] for row in rows("tasks")) == ["Silent.work", "work"]


FILTERS: list[list[tuple[str, str, Any]]] = [
    [],
    *([("state", sign, state)] for sign in ("=", "!=") for state in ("finished", "FAILED", "RUNNING")),
    [("state", "=", "PENDING_NODE_ASSIGNMENT")],
    [("state", "!=", "PENDING_NODE_ASSIGNMENT"), ("name", "=", "held")],
    [("state", "=", "PENDING_ARGS_AVAIL")],
    [("name", "=", "HELD")],
    [("name", "!=", "held"), ("type", "=", "NORMAL_TASK")],
    [("type", "=", "ACTOR_TASK"), ("state", "=", "PENDING_NODE_ASSIGNMENT")],
    [("cell", "=", 1)],
    [("error_type", "=", "TASK_EXECUTION_EXCEPTION"), ("state", "=", "FAILED")],
    [("attempt_number", "=", 0), ("name", "=", "held")],
    [("job_id", "!=", "none")],
    [("no_such_column", "=", None), ("state", "=", "FINISHED")],
]


@pytest.mark.parametrize("piece_s", [0.0, 3600.0])
def test_filters_and_limits_are_the_owners_and_change_no_answer(
    cluster: Cluster, bench: Bench, monkeypatch: pytest.MonkeyPatch, piece_s: float
) -> None:
    """What is asked with filters is what they leave of everything, however many pieces the answer is made in."""
    monkeypatch.setattr(reports, "_PIECE_S", piece_s)
    monkeypatch.setattr(reports, "_TASKS_AT_ONCE", 7)

    @jray.remote
    def fails() -> None:
        raise ValueError("no")

    @jray.remote
    class Actor:
        def work(self) -> None: ...

    jray.get([jray.remote(lambda: 1).options(name="short").remote() for _ in range(30)])
    for ref in [fails.remote() for _ in range(3)]:
        with pytest.raises(ValueError, match="no"):
            jray.get(ref)
    gate = bench.gate()
    refs = [wait_at.options(name="held").remote(gate) for _ in range(40)]
    refs += [wait_at.options(name="later").remote(refs[0]) for _ in range(4)]
    starved = Actor.options(resources={"nothing": 1}).remote()
    refs += [starved.work.remote() for _ in range(5)]
    wait_until(lambda: sum(row["state"] == "RUNNING" for row in rows("tasks")) == 2)
    # what was sent and has not begun comes back from a worker that turns out busy
    wait_until(lambda: not rows("tasks", filters=[("state", "=", "SUBMITTED_TO_WORKER")]))
    every = rows("tasks")
    for filters in FILTERS:
        wanted = [row["task_id"] for row in every if matches(row, filters)]
        found = current.client.cluster.rows("tasks", filters=filters)
        assert ([row["task_id"] for row in found.rows], found.total) == (wanted, len(wanted)), filters
        few = current.client.cluster.rows("tasks", filters=filters, limit=3)
        assert ([row["task_id"] for row in few.rows], few.total) == (wanted[:3], len(wanted)), filters
    counts = current.client.cluster.rows("tasks", limit=1).counts
    assert sum(counts.values()) == len(every) == 82
    assert counts["short", "NORMAL_TASK", "FINISHED"] == 30
    gate.open()


def test_a_thread_that_only_submits_answers_to_the_end(
    cluster: Cluster, bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It keeps the I/O thread away, and looks for what has arrived itself."""
    monkeypatch.setattr(reports, "_PIECE_S", 0.0)
    monkeypatch.setattr(reports, "_TASKS_AT_ONCE", 10)
    answered = tmp_path / "answered"

    @jray.remote(num_cpus=0)
    def asks() -> None:
        client = sys.modules["jray._core.refs"].current.client
        answer = client.cluster.rows("tasks", filters=[("name", "=", "held")], limit=1, timeout_s=60)
        partial = answered.with_suffix(".part")
        partial.write_text(f"{answer.total} {answer.warnings}")
        partial.rename(answered)

    gate = bench.gate()
    refs = [wait_at.options(name="held").remote(gate) for _ in range(200)]
    refs.append(asks.remote())

    deadline = time.monotonic() + 90
    while not answered.exists():
        assert time.monotonic() < deadline
        for _ in range(100):  # what `submit` does now and then
            current.client.pump.poll_nowait()
    assert answered.read_text() == "200 []"
    gate.open()
    jray.get(refs)


def test_a_long_answer_lets_others_have_their_turn(
    cluster: Cluster, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made in pieces, between which what has arrived is handled; no piece keeps the lock."""
    monkeypatch.setattr(reports, "_PIECE_S", 0.0)
    monkeypatch.setattr(reports, "_TASKS_AT_ONCE", 10)
    gate = bench.gate()
    refs = [wait_at.remote(gate) for _ in range(200)]
    client = current.client
    pieces = []
    go_on = client.reports._go_on

    def counted(*given: Any) -> None:
        assert not client.lock.locked()
        pieces.append(given)
        go_on(*given)

    monkeypatch.setattr(client.reports, "_go_on", counted)
    assert client.cluster.rows("tasks", limit=1).total == 200
    assert len(pieces) >= 20
    gate.open()
    jray.get(refs)
