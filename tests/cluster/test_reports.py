"""What the processes of a cluster tell about their tasks and objects when they are asked."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
import pytest

import jray
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
