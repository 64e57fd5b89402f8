"""What a question to the state API means: filters, limits, and how rows are added up."""

from __future__ import annotations

from typing import Any

import pytest

from jray._core.filters import matches
from jray.util.state import queries
from jray.util.state.common import ActorState, JobState, StateSchema, WorkerState
from jray.util.state.exception import RayStateApiException

ROWS: list[dict[str, Any]] = [
    {"name": "Bob", "pid": 7, "state": "ALIVE"},
    {"name": "", "pid": 70, "state": "DEAD"},
    {"name": None, "pid": 0, "state": "DEAD"},
]


def pids(*filters: tuple[str, str, Any]) -> list[int]:
    checked = queries.checked_filters(ActorState, filters)
    assert checked is not None
    return [row["pid"] for row in ROWS if matches(row, checked)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], [7, 70, 0]),
        ([("name", "=", "bOB")], [7]),
        ([("NAME", "=", "Bob")], [7]),
        ([("name", "!=", "bob")], [70, 0]),
        ([("name", "=", "")], [70]),
        ([("name", "=", None)], [0]),
        ([("pid", "=", "007")], [7]),
        ([("pid", "!=", 7)], [70, 0]),
        ([("pid", "!=", "7")], [70, 0]),
        ([("state", "=", "dead"), ("pid", "!=", 0)], [70]),
        ([("state", "=", "DEAD"), ("state", "=", "dead")], [70, 0]),
    ],
)
def test_all_filters_must_match(filters: list[tuple[str, str, Any]], expected: list[int]) -> None:
    """Text is compared in any case, numbers as numbers, and None finds what is not set."""
    assert pids(*filters) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), ("True", True), ("1", True), (1, True), ("false", False), (0, False)],
)
def test_a_bool_may_be_given_as_text(value: object, expected: bool) -> None:
    """The text False is not true."""
    assert queries.checked_filters(WorkerState, [("is_alive", "=", value)]) == (("is_alive", "=", expected),)


def test_contradicting_filters_match_nothing() -> None:
    """There is nothing to ask for, which is said."""
    with pytest.warns(UserWarning, match="state = 'alive' and state = 'dead'"):
        assert queries.checked_filters(ActorState, [("state", "=", "ALIVE"), ("state", "=", "DEAD")]) is None


@pytest.mark.parametrize("entry", [("pid", ">", 1), ("pid", "="), ("pid", "==", 1), ()])
def test_what_is_no_filter_is_a_value_error(entry: tuple[Any, ...]) -> None:
    """A filter has a column, one of two signs and a value."""
    with pytest.raises(ValueError, match="="):
        queries.checked_filters(ActorState, [entry])


@pytest.mark.parametrize(
    ("schema", "entry", "said"),
    [
        (ActorState, ("nope", "=", 1), "nope.*actor_id, class_name"),
        (ActorState, ("num_restarts", "=", 0), "num_restarts"),
        (ActorState, ("pid", "=", "many"), "pid by 'many'.*number"),
        (WorkerState, ("is_alive", "=", "maybe"), "is_alive by 'maybe'.*True or False"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(
    schema: type[StateSchema], entry: tuple[str, str, Any], said: str
) -> None:
    """Whether or not there are rows, and with what to do instead."""
    with pytest.raises(RayStateApiException, match=said):
        queries.checked_filters(schema, [entry])


@pytest.mark.parametrize("limit", [-1, 10_001])
def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    """At most 10 000 rows, and not less than none."""
    with pytest.raises(RayStateApiException, match=str(limit)):
        queries.checked_limit(limit)
    assert queries.checked_limit(10_000) == 10_000


def test_tasks_are_counted_by_name_and_state() -> None:
    """From counts of all, whatever the rows were limited to."""
    counts: dict[tuple[str, ...], int] = {
        ("f", "NORMAL_TASK", "FINISHED"): 5,
        ("f", "NORMAL_TASK", "RUNNING"): 1,
        ("A.go", "ACTOR_TASK", "FAILED"): 2,
        ("A.__init__", "ACTOR_CREATION_TASK", "FINISHED"): 1,
    }
    summary = queries.task_summary(counts)
    assert summary["summary"]["f"] == {
        "func_or_class_name": "f",
        "type": "NORMAL_TASK",
        "state_counts": {"FINISHED": 5, "RUNNING": 1},
    }
    assert (summary["total_tasks"], summary["total_actor_tasks"], summary["total_actor_scheduled"]) == (
        6,
        2,
        1,
    )


def test_objects_are_added_up_by_call_site() -> None:
    """A size that nobody knows counts nothing, and processes count once."""
    row = {
        "task_status": "FINISHED",
        "attempt_number": 0,
        "reference_type": "LOCAL_REFERENCE",
        "ip": "127.0.0.1",
    }
    rows = [
        {**row, "call_site": "here", "object_size": 1024**2, "pid": 1},
        {**row, "call_site": "here", "object_size": 1024**2, "pid": 1},
        {**row, "call_site": "there", "object_size": -1, "pid": 2},
    ]
    summary = queries.object_summary(rows)
    assert (summary["total_objects"], summary["total_size_mb"]) == (3, 2.0)
    assert summary["summary"]["here"]["total_num_workers"] == 1
    assert summary["summary"]["here"]["ref_type_counts"] == {"LOCAL_REFERENCE": 2}
    assert summary["summary"]["there"]["total_size_mb"] == 0
    assert summary["callsite_enabled"]


def test_nothing_adds_up_to_nothing() -> None:
    """An empty cluster has summaries too."""
    assert queries.task_summary({})["summary"] == {}
    assert queries.actor_summary([]) == {"summary": {}, "total_actors": 0, "summary_by": "class"}
    assert queries.object_summary([])["total_size_mb"] == 0


def test_a_row_is_read_by_attribute_and_by_key() -> None:
    """And compares by value; what is no column is left out."""
    row = ActorState.from_row({"actor_id": "aa", "state": "DEAD", "cell": 3, "death_cause": "it was killed"})
    assert row.state == row["state"] == row.get("state") == "DEAD"
    assert row.pid is None
    assert row.get("cell", "nothing") == "nothing"
    assert row.death_cause == {"actor_died_error_context": {"error_message": "it was killed"}}
    assert row == ActorState.from_row(row.asdict())
    with pytest.raises(AttributeError, match="cell"):
        row["cell"]


def test_the_driver_of_a_job_is_an_object() -> None:
    """With attributes, as in Ray."""
    driver = {"id": "01000000", "node_ip_address": "127.0.0.1", "pid": "12"}
    job = JobState.from_row({"job_id": "01000000", "driver_info": driver})
    assert job.driver_info is not None
    assert job.driver_info.pid == "12"
    assert JobState.from_row({"job_id": "01000000"}).driver_info is None
