"""The timeline: rows of tasks as trace events."""

from __future__ import annotations

from typing import Any

from jray._core.timeline import trace_events


def row(start: float | None, end: float | None = None, **others: Any) -> dict[str, Any]:
    return {
        "task_id": "aa", "job_id": "01", "attempt_number": 0, "name": "f", "func_or_class_name": "f",
        "actor_id": None, "state": "FINISHED", "error_type": None, "node_id": "n", "worker_pid": 1,
        "start_time_ms": start, "end_time_ms": end,
    } | others  # fmt: skip


def tasks(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] == "X"]


def names(events: list[dict[str, Any]]) -> dict[tuple[str, int, int | None], str]:
    return {
        (event["name"], event["pid"], event.get("tid")): event["args"]["name"]
        for event in events
        if event["ph"] == "M"
    }


def test_a_task_is_a_complete_event_in_microseconds() -> None:
    """With what one wants to know of it when one clicks on it."""
    (event,) = tasks(
        trace_events([row(1000, 1002.5, name="g", state="FAILED", error_type="WORKER_DIED")], 5000)
    )
    assert (event["ts"], event["dur"], event["name"], event["cat"]) == (1_000_000, 2500, "g", "task::g")
    assert event["args"] == {
        "task_id": "aa", "job_id": "01", "attempt_number": 0, "func_or_class_name": "f", "actor_id": None,
        "state": "FAILED", "error_type": "WORKER_DIED",
    }  # fmt: skip


def test_what_runs_lasts_until_now_and_what_waits_is_not_there() -> None:
    """A task has an event once it has started."""
    (event,) = tasks(
        trace_events([row(1000, state="RUNNING"), row(None, state="PENDING_NODE_ASSIGNMENT")], 1200)
    )
    assert event["dur"] == 200_000


def test_clocks_that_disagree_make_no_negative_duration() -> None:
    """The start is the worker's, the end may be the owner's."""
    (event,) = tasks(trace_events([row(1000, 999)], 1200))
    assert event["dur"] == 0


def test_tasks_one_after_the_other_share_a_lane_in_the_order_of_their_starts() -> None:
    """Whatever the order of the rows."""
    events = trace_events([row(20, 30, name="b"), row(10, 20, name="a"), row(30, 31, name="c")], 100)
    assert [event["name"] for event in tasks(events)] == ["a", "b", "c"]
    assert len({event["tid"] for event in tasks(events)}) == 1


def test_tasks_that_overlap_in_one_worker_have_lanes_of_their_own() -> None:
    """And a lane that is free again is used again."""
    events = trace_events([row(0, 10), row(1, 5), row(2, 12), row(5, 6)], 100)
    lanes = [event["tid"] for event in tasks(events)]
    assert len(set(lanes)) == 3
    assert lanes[3] == lanes[1]
    assert sorted(text for (kind, *_), text in names(events).items() if kind == "thread_name") == [
        "worker 1",
        "worker 1 (1)",
        "worker 1 (2)",
    ]


def test_workers_and_nodes_are_apart_and_named() -> None:
    """Trace viewers take numbers only, so the names are events of their own."""
    events = trace_events([row(0, 1), row(0, 1, worker_pid=2), row(0, 1, node_id="m", worker_pid=2)], 100)
    first, second, third = tasks(events)
    assert first["pid"] == second["pid"] != third["pid"]
    assert len({first["tid"], second["tid"], third["tid"]}) == 3
    found = names(events)
    assert found["process_name", first["pid"], None] == "Node n"
    assert found["process_name", third["pid"], None] == "Node m"
    assert found["thread_name", third["pid"], third["tid"]] == "worker 2"


def test_no_tasks_no_events() -> None:
    """An empty trace is a trace."""
    assert trace_events([], 100) == []
