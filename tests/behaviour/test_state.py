"""The state API: what runs, what there is, and what became of it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import jray
from jray.job_config import JobConfig
from jray.util import state
from jray.util.state import common
from jray.util.state.exception import RayStateApiException
from tests.behaviour import differences, engine
from tests.behaviour.conftest import init, wants_no_shared_cluster
from tests.behaviour.support import Bench, wait_until

pytestmark = [
    pytest.mark.usefixtures("observed"),
    pytest.mark.differs(
        "inline", "a task has ended when its call returns, so that there is nothing to watch"
    ),
]


@pytest.fixture(scope="module")
def told_which_cluster() -> Iterator[None]:
    """Ray looks for clusters on the whole machine, so that `observed` must tell it which one is meant."""
    yield
    os.environ.pop("RAY_ADDRESS", None)
    jray.shutdown()


@pytest.fixture
def observed(told_which_cluster: None, request: pytest.FixtureRequest) -> None:
    """A cluster of this module's own: Ray's tells its state through its dashboard, which takes long to start."""
    if wants_no_shared_cluster(request.node):
        return
    if jray.is_initialized() and jray.get_runtime_context().namespace == "observed":
        return
    jray.shutdown()
    os.environ.pop("RAY_ADDRESS", None)
    context = init(num_cpus=2, include_dashboard=engine.ON_RAY, log_to_driver=False, namespace="observed")
    if engine.ON_RAY:
        os.environ["RAY_ADDRESS"] = context.address_info["gcs_address"]
        wait_until(state.list_nodes, timeout=60)


@jray.remote
class Watched:
    def pid(self) -> int:
        return os.getpid()

    def say(self, text: str) -> int:
        print(text, flush=True)
        return os.getpid()

    def fail(self) -> None:
        raise KeyError("watched")


@jray.remote
def wait_at(gate: Any) -> None:
    gate.wait()


@jray.remote
def fail() -> None:
    raise ZeroDivisionError


def existing(row: Any) -> Any:
    """Return a row that must be there."""
    assert row is not None
    return row


def the_actor(actor: Any) -> Any:
    """The actor's row, once it is what the test waits for."""
    (row,) = state.list_actors(filters=[("actor_id", "=", actor._actor_id.hex())])
    return row


def tasks(name: str, **options: Any) -> list[Any]:
    return list(state.list_tasks(filters=[("name", "=", name)], **options))


def until_state(name: str, wanted: str, count: int = 1) -> list[Any]:
    """Wait until so many tasks of that name are in that state, and return their rows."""

    def found() -> list[Any]:
        rows = tasks(name, detail=True)
        return rows if [row.state for row in rows] == [wanted] * count else []

    return wait_until(found, what=lambda: f"{name} {wanted}; there are {tasks(name)}")


# -- actors -----------------------------------------------------------------------------------------------


def test_an_actor_is_told() -> None:
    """Whose it is, what it is called, and which process it is."""
    actor = Watched.options(name="told").remote()
    pid = jray.get(actor.pid.remote())
    wait_until(lambda: the_actor(actor).state == "ALIVE")
    row = the_actor(actor)
    context = jray.get_runtime_context()
    assert (row.class_name, row.name, row.pid) == ("Watched", "told", pid)
    assert (row.job_id, row.node_id, row.ray_namespace) == (
        context.get_job_id(),
        context.get_node_id(),
        "observed",
    )
    assert row.num_restarts is None  # a detail
    told = existing(state.get_actor(actor._actor_id.hex()))
    assert (told.name, told.num_restarts, told.is_detached) == ("told", 0, False)
    jray.kill(actor)


def test_an_actor_is_told_by_the_name_that_its_class_gives_it() -> None:
    """Only where the class says how: an instance of any other has none."""

    @jray.remote
    class Named:
        def __repr__(self) -> str:
            return "called so"

        def ready(self) -> None: ...

    @jray.remote
    class Plain:
        def ready(self) -> None: ...

    actors = [Named.remote(), Plain.remote()]
    jray.get([actor.ready.remote() for actor in actors])
    names = [existing(state.get_actor(actor._actor_id.hex())).repr_name for actor in actors]
    assert names == ["called so", ""]


def test_a_dead_actor_is_told_with_its_cause() -> None:
    """It stays in the list."""
    actor = Watched.options(name="dead").remote()
    jray.get(actor.pid.remote())
    jray.kill(actor)
    wait_until(lambda: the_actor(actor).state == "DEAD")
    dead = existing(state.get_actor(actor._actor_id.hex()))
    assert "kill" in dead.death_cause["actor_died_error_context"]["error_message"]
    assert dead.name in [row.name for row in state.list_actors(filters=[("state", "=", "DEAD")])]


def test_what_is_not_there_is_none() -> None:
    """An id that nothing has is no error."""
    assert state.get_actor("00" * 16) is None
    assert state.get_task("00" * 24) is None
    assert state.get_node("00" * 28) is None
    assert state.get_worker("00" * 28) is None
    assert state.get_job("nothing") is None
    assert state.get_placement_group("00" * 18) is None
    assert not state.get_objects("00" * 28)
    assert state.list_placement_groups() == []


# -- filters ----------------------------------------------------------------------------------------------


@jray.remote
class Filtered:
    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def pair(observed: None) -> tuple[int, int]:
    """The process ids of two actors, "Ann" and "Bert", of a class that no other test uses; they stay."""
    options = {"lifetime": "detached", "get_if_exists": True}
    actors = [Filtered.options(name=name, **options).remote() for name in ("Ann", "Bert")]
    ann, bert = jray.get([actor.pid.remote() for actor in actors])
    wait_until(lambda: len(names(("state", "=", "ALIVE"))) == 2)
    return ann, bert


def names(*filters: tuple[str, str, Any], **options: Any) -> list[str]:
    rows = state.list_actors(filters=[("class_name", "=", "Filtered"), *filters], **options)
    return sorted(row.name or "" for row in rows)


def test_text_is_filtered_in_any_case(pair: tuple[int, int]) -> None:
    """Columns, too."""
    assert names(("name", "=", "aNN")) == ["Ann"]
    assert names(("NAME", "=", "Ann")) == ["Ann"]
    assert names(("name", "!=", "ann")) == ["Bert"]
    assert names(("name", "=", "")) == []
    assert names(("state", "=", "alive")) == ["Ann", "Bert"]


def test_an_actor_without_a_name_has_an_empty_one() -> None:
    """By which it is found."""
    actor = Watched.remote()
    jray.get(actor.pid.remote())
    assert the_actor(actor).name == ""
    filters = [("actor_id", "=", actor._actor_id.hex()), ("name", "=", "")]
    assert len(state.list_actors(filters=filters)) == 1
    jray.kill(actor)


def test_a_number_is_filtered_also_as_text(pair: tuple[int, int]) -> None:
    """As a command line gives it."""
    assert names(("pid", "=", pair[0])) == ["Ann"]
    assert names(("pid", "=", str(pair[0]))) == ["Ann"]
    assert names(("pid", "=", pair[0]), ("name", "=", "nobody")) == []


@differences.not_equal_is_the_contrary
def test_a_number_is_filtered_out(pair: tuple[int, int]) -> None:
    """!= is the contrary of =."""
    assert names(("pid", "!=", pair[0])) == ["Bert"]


def test_a_bool_is_filtered_also_as_text() -> None:
    """The text false is not true."""

    def count(*filters: Any) -> int:
        # Ray takes what a filter of workers left out for something that is missing
        return len(state.list_workers(filters=filters, raise_on_missing_output=False))

    # Workers start and end by themselves, also between two questions.
    wait_until(lambda: 1 <= count(("is_alive", "=", True)) == count(("is_alive", "=", "true")))
    assert count(("worker_type", "=", "driver"), ("is_alive", "=", "1")) == 1
    assert count(("worker_type", "=", "driver"), ("is_alive", "=", "False")) == 0


@pytest.mark.parametrize(
    "entry", [("nope", "=", 1), ("num_restarts", "=", 0), ("pid", "=", "many")], ids=lambda entry: entry[0]
)
def test_a_filter_that_cannot_be_is_refused(pair: tuple[int, int], entry: tuple[str, str, Any]) -> None:
    """By RayStateApiException that has its name or its value."""
    with pytest.raises(RayStateApiException, match=entry[2] if entry[0] == "pid" else entry[0]):
        state.list_actors(filters=[entry])


@pytest.mark.parametrize("entry", [("pid", ">", 1), ("pid", "=")], ids=["sign", "length"])
def test_what_is_no_filter_is_a_value_error(entry: Any) -> None:
    """Before anybody is asked."""
    with pytest.raises(ValueError):  # noqa: PT011 -- the words differ
        state.list_actors(filters=[entry])


def test_contradicting_filters_find_nothing(pair: tuple[int, int]) -> None:
    """With a warning."""
    with pytest.warns(UserWarning, match="state"):
        assert names(("state", "=", "ALIVE"), ("state", "=", "DEAD")) == []


def test_a_limit_bounds_the_rows(pair: tuple[int, int]) -> None:
    """It is from 0 to 10 000, and `_explain` says when it leaves something out."""
    assert len(names(limit=1)) == 1
    assert names(limit=0) == []
    assert len(names(limit=10_000)) == 2
    for limit in (-1, 10_001):
        with pytest.raises(RayStateApiException):
            names(limit=limit)
    with pytest.warns(UserWarning, match="2"):
        names(limit=1, _explain=True)


# -- rows -------------------------------------------------------------------------------------------------


def test_a_row_is_read_by_attribute_and_by_key(pair: tuple[int, int]) -> None:
    """`get` takes a default; what is no column is no attribute."""
    (row,) = state.list_actors(filters=[("name", "=", "Ann"), ("class_name", "=", "Filtered")])
    assert isinstance(row, common.ActorState)
    assert row.name == row["name"] == row.get("name") == row.asdict()["name"] == "Ann"
    assert row.get("nope", 5) == 5
    with pytest.raises(AttributeError):
        row["nope"]
    (again,) = state.list_actors(filters=[("name", "=", "Ann"), ("class_name", "=", "Filtered")])
    assert row == again


_ALWAYS = {
    "ActorState": "actor_id class_name state job_id name node_id pid ray_namespace",
    "TaskState": "task_id attempt_number name state job_id actor_id type func_or_class_name parent_task_id node_id "
    "worker_id worker_pid error_type",
    "ObjectState": "object_id object_size task_status attempt_number reference_type call_site type pid ip",
    "NodeState": "node_id node_ip is_head_node state state_message node_name resources_total labels",
    "WorkerState": "worker_id is_alive worker_type exit_type node_id ip pid",
    "JobState": "job_id submission_id entrypoint type status message error_type driver_info",
    "PlacementGroupState": "placement_group_id name creator_job_id state",
    "RuntimeEnvState": "runtime_env success creation_time_ms node_id",
    "ClusterEventState": "severity time source_type message event_id",
}
_DETAIL = {
    "ActorState": "serialized_runtime_env required_resources death_cause is_detached placement_group_id repr_name "
    "num_restarts num_restarts_due_to_lineage_reconstruction num_restarts_due_to_node_preemption call_site "
    "label_selector fallback_strategy",
    "TaskState": "language required_resources runtime_env_info placement_group_id events profiling_data "
    "creation_time_ms start_time_ms end_time_ms task_log_info error_message is_debugger_paused call_site "
    "label_selector fallback_strategy",
    "ObjectState": "",
    "NodeState": "start_time_ms end_time_ms",
    "WorkerState": "exit_detail worker_launch_time_ms worker_launched_time_ms start_time_ms end_time_ms "
    "debugger_port num_paused_threads",
    "JobState": "start_time end_time metadata runtime_env driver_agent_http_address driver_node_id driver_exit_code",
    "PlacementGroupState": "bundles is_detached stats topology_strategy topology_assignments",
    "RuntimeEnvState": "ref_cnt error",
    "ClusterEventState": "custom_fields",
}


@pytest.mark.parametrize("name", _ALWAYS)
def test_the_columns_are_rays(name: str) -> None:
    """With and without detail."""
    schema = getattr(common, name)
    assert schema.base_columns() == set(_ALWAYS[name].split())
    assert schema.columns() - schema.base_columns() == set(_DETAIL[name].split())


_UNFILTERED = {
    "ActorState": "serialized_runtime_env required_resources death_cause is_detached num_restarts "
    "num_restarts_due_to_lineage_reconstruction num_restarts_due_to_node_preemption call_site label_selector "
    "fallback_strategy",
    "TaskState": "required_resources runtime_env_info events profiling_data creation_time_ms start_time_ms "
    "end_time_ms task_log_info error_message call_site label_selector fallback_strategy",
    "ObjectState": "",
    "NodeState": "state_message resources_total labels start_time_ms end_time_ms",
    "WorkerState": "exit_detail worker_launch_time_ms worker_launched_time_ms start_time_ms end_time_ms",
    "JobState": "entrypoint message error_type driver_info start_time end_time metadata runtime_env "
    "driver_agent_http_address driver_node_id driver_exit_code",
    "PlacementGroupState": "bundles stats topology_strategy topology_assignments",
    "RuntimeEnvState": "creation_time_ms ref_cnt",
    "ClusterEventState": "time message custom_fields",
}


@pytest.mark.parametrize("name", _UNFILTERED)
def test_the_columns_to_filter_by_are_rays(name: str) -> None:
    """All but these."""
    schema = getattr(common, name)
    assert schema.columns() - schema.filterable_columns() == set(_UNFILTERED[name].split())


# -- tasks ------------------------------------------------------------------------------------------------


def test_a_task_is_told_while_it_runs_and_when_it_has_ended(bench: Bench) -> None:
    """Where, since when, and until when."""
    gate = bench.gate()
    ref = wait_at.options(name="gated").remote(gate)
    (running,) = until_state("gated", "RUNNING")
    context = jray.get_runtime_context()
    assert running.task_id == ref.task_id().hex()
    assert (running.func_or_class_name, running.type) == ("wait_at", "NORMAL_TASK")
    assert (running.job_id, running.node_id) == (context.get_job_id(), context.get_node_id())
    assert running.worker_pid not in {None, os.getpid()}
    assert running.end_time_ms is None
    gate.open()
    jray.get(ref)
    (ended,) = until_state("gated", "FINISHED")
    assert ended.creation_time_ms <= ended.start_time_ms <= ended.end_time_ms
    assert ended.worker_pid == running.worker_pid
    assert (ended.error_type, ended.attempt_number, ended.actor_id) == (None, 0, None)
    assert ended.required_resources == {"CPU": 1.0}
    (plain,) = tasks("gated")
    assert plain.start_time_ms is None  # a detail
    assert existing(state.get_task(ref.task_id().hex())).name == "gated"


def test_a_failed_task_is_told_with_its_error() -> None:
    """By Ray's name for the kind, and as text."""
    ref = fail.options(name="failing", max_retries=0).remote()
    jray.wait([ref])
    (row,) = until_state("failing", "FAILED")
    assert row.error_type == "TASK_EXECUTION_EXCEPTION"
    assert "ZeroDivisionError" in row.error_message


def test_a_call_is_told_with_its_actor() -> None:
    """Its name is the class's and the method's."""
    actor = Watched.remote()
    jray.get(actor.pid.remote())

    def calls() -> list[Any]:
        rows = state.list_tasks(
            filters=[("actor_id", "=", actor._actor_id.hex()), ("type", "=", "ACTOR_TASK")]
        )
        return [(row.name, row.func_or_class_name, row.state) for row in rows]

    wait_until(lambda: calls() == [("Watched.pid", "Watched.pid", "FINISHED")], what=lambda: str(calls()))
    jray.kill(actor)


def test_tasks_are_filtered_by_state(bench: Bench) -> None:
    """What waits for a CPU is not what runs."""
    gate = bench.gate()
    refs = [wait_at.options(name="queue").remote(gate) for _ in range(4)]

    def states() -> dict[str, int]:
        found = {row.task_id: row.state for row in tasks("queue")}
        by_state = {
            wanted: len(state.list_tasks(filters=[("name", "=", "queue"), ("state", "=", wanted)]))
            for wanted in set(found.values())
        }
        return by_state if sum(by_state.values()) == len(found) else {}

    def two_run() -> bool:
        found = states()
        return found.get("RUNNING") == 2 and sum(found.values()) == 4

    wait_until(two_run, what=lambda: f"two of four running; {states()}")
    gate.open()
    jray.get(refs)
    wait_until(lambda: states() == {"FINISHED": 4})


@pytest.mark.differs("ray", "its list says RUNNING of such a task")
def test_a_task_that_waits_in_get_says_so(bench: Bench) -> None:
    """And is found by that state."""
    gate = bench.gate()

    @jray.remote
    def wait_for_child(gate: Any) -> None:
        jray.get(wait_at.remote(gate))

    ref = wait_for_child.options(name="parent").remote(gate)
    (parent,) = until_state("parent", "RUNNING_IN_RAY_GET")
    found = state.list_tasks(filters=[("state", "=", "RUNNING_IN_RAY_GET"), ("name", "=", "parent")])
    assert [row.task_id for row in found] == [parent.task_id]
    children = wait_until(lambda: state.list_tasks(filters=[("parent_task_id", "=", parent.task_id)]))
    assert [row.name for row in children] == ["wait_at"]
    gate.open()
    jray.get(ref)


def test_tasks_are_summarized_by_name() -> None:
    """How many there are in each state."""
    refs = [fail.options(name="summed", max_retries=0).remote() for _ in range(3)]
    jray.wait(refs, num_returns=3)
    until_state("summed", "FAILED", 3)
    summary = state.summarize_tasks()["cluster"]
    assert summary["summary_by"] == "func_name"
    assert summary["summary"]["summed"] == {
        "func_or_class_name": "summed",
        "type": "NORMAL_TASK",
        "state_counts": {"FAILED": 3},
    }
    assert summary["total_tasks"] >= 3
    assert summary["total_actor_tasks"] >= 0


def test_actors_are_summarized_by_class(pair: tuple[int, int]) -> None:
    """How many there are in each state."""
    summary = state.summarize_actors()["cluster"]
    assert summary["summary"]["Filtered"] == {"class_name": "Filtered", "state_counts": {"ALIVE": 2}}
    assert summary["total_actors"] >= 2


# -- objects, nodes, workers, jobs --------------------------------------------------------------------------


def test_an_object_is_told_by_who_holds_it() -> None:
    """With its size, and as often as it is held."""
    ref = jray.put(b"x" * 300_000)
    filters = [("object_id", "=", ref.hex())]
    (row,) = wait_until(lambda: state.list_objects(filters=filters))
    assert (row.pid, row.type, row.reference_type) == (os.getpid(), "DRIVER", "LOCAL_REFERENCE")
    assert 300_000 <= row.object_size < 301_000
    assert [other.object_size for other in state.get_objects(ref.hex())] == [row.object_size]
    summary = state.summarize_objects()["cluster"]
    assert summary["total_objects"] >= 1
    assert summary["total_size_mb"] >= 300_000 / 1024**2
    del ref
    wait_until(lambda: not state.list_objects(filters=filters))


def test_the_node_the_driver_and_the_job_are_told() -> None:
    """By the ids that the runtime context gives."""
    context = jray.get_runtime_context()
    (node,) = state.list_nodes()
    assert (node.node_id, node.state, node.is_head_node) == (context.get_node_id(), "ALIVE", True)
    assert node.resources_total["CPU"] == 2
    assert existing(state.get_node(node.node_id)).node_ip == node.node_ip
    (driver,) = state.list_workers(filters=[("pid", "=", os.getpid())])
    assert (driver.worker_id, driver.worker_type, driver.is_alive) == (
        context.get_worker_id(),
        "DRIVER",
        True,
    )
    assert existing(state.get_worker(driver.worker_id)).pid == os.getpid()
    (job,) = state.list_jobs(filters=[("job_id", "=", context.get_job_id())])
    assert (job["type"], job["status"], job.submission_id) == ("DRIVER", "RUNNING", None)
    assert existing(job.driver_info).pid == str(os.getpid())


def test_a_worker_that_was_killed_is_told_dead() -> None:
    """It stays in the list."""
    actor = Watched.remote()
    pid = jray.get(actor.pid.remote())
    (worker,) = wait_until(lambda: state.list_workers(filters=[("pid", "=", pid)]))
    assert (worker.is_alive, worker.worker_type) == (True, "WORKER")
    os.kill(pid, signal.SIGKILL)

    def dead() -> list[Any]:
        rows = state.list_workers(filters=[("pid", "=", pid), ("is_alive", "=", False)], detail=True)
        return [row for row in rows if row.exit_type is not None]  # how it ended is known a moment later

    (row,) = wait_until(dead, what=lambda: str(state.list_workers(filters=[("pid", "=", pid)])))
    assert row.worker_id == worker.worker_id
    assert row.exit_type == "SYSTEM_ERROR"


# -- the timeline -----------------------------------------------------------------------------------------


@pytest.mark.sentences("S142")
def test_the_timeline_has_an_event_for_each_task(tmp_path: Path) -> None:
    """In microseconds, as trace viewers read them; with a file name it is written there."""
    jray.get([jray.remote(lambda: None).options(name="on the line").remote() for _ in range(2)])

    def events() -> list[dict[str, Any]]:
        return [event for event in jray.timeline() or () if event.get("cat") == "task::on the line"]

    wait_until(lambda: len(events()) == 2, what=lambda: f"two events; {events()}")
    for event in events():
        assert event["ph"] == "X"
        assert event["dur"] >= 0
        assert isinstance(event["name"], str)
    path = tmp_path / "trace.json"
    assert jray.timeline(str(path)) is None
    written = [event for event in json.loads(path.read_text()) if event.get("cat") == "task::on the line"]
    assert sorted(event["ts"] for event in written) == sorted(event["ts"] for event in events())


@pytest.mark.sentences("S142")
@pytest.mark.usefixtures("no_cluster")
def test_there_is_no_timeline_without_a_cluster() -> None:
    """RuntimeError, and nothing is started."""
    with pytest.raises(RuntimeError):
        jray.timeline()
    assert not jray.is_initialized()


# -- what is jray's alone -----------------------------------------------------------------------------------


@pytest.mark.sentences("S155")
@differences.state_is_of_this_session
@pytest.mark.usefixtures("no_cluster")
def test_without_a_session_there_is_nobody_to_ask() -> None:
    """Nothing is started, and the error says what to do."""
    for ask in (state.list_actors, state.summarize_tasks, state.list_logs):
        with pytest.raises(RayStateApiException, match=r"jray\.init"):
            ask()
    with pytest.raises(ConnectionError, match=r"jray\.init"):
        state.get_actor("00" * 16)
    assert not jray.is_initialized()


@differences.state_is_of_this_session
def test_another_clusters_address_is_refused() -> None:
    """This session's own address is as good as none."""
    address = jray.get_runtime_context().gcs_address
    assert state.list_nodes(address=address) == state.list_nodes("auto") == state.list_nodes()
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:6379.*jray\.init\(address"):
        state.list_nodes(address="127.0.0.1:6379")


@pytest.mark.only("jray", "Ray answers with what its events say")
def test_cluster_events_are_refused() -> None:
    """With where to look instead."""
    with pytest.raises(NotImplementedError, match="list_workers"):
        state.list_cluster_events()


@pytest.mark.only("jray", "a stopped worker of Ray is not asked")
def test_a_process_that_does_not_answer_is_said(
    monkeypatch: pytest.MonkeyPatch, fresh: Callable[..., Any]
) -> None:
    """As an error, unless the caller takes what there is."""
    monkeypatch.setenv("JRAY_REPORT_TIMEOUT_S", "0.1")
    fresh()
    actor = Watched.remote()
    pid = jray.get(actor.pid.remote())
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    try:
        with pytest.raises(RayStateApiException, match=f"{pid}.*raise_on_missing_output=False"):
            state.list_tasks()
        wait_until(lambda: state.list_tasks(raise_on_missing_output=False))  # this process may be late, too
        with pytest.warns(UserWarning, match=str(pid)):
            state.list_tasks(raise_on_missing_output=False, _explain=True)
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.only("jray", "a stopped worker of Ray is not asked")
def test_a_call_may_say_how_long_it_waits_for_answers(
    monkeypatch: pytest.MonkeyPatch, fresh: Callable[..., Any]
) -> None:
    """Its timeout is honoured, and not the setting."""
    monkeypatch.setenv("JRAY_REPORT_TIMEOUT_S", "3600")
    fresh()
    actor = Watched.remote()
    pid = jray.get(actor.pid.remote())
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    try:
        with pytest.raises(RayStateApiException, match=str(pid)):
            state.list_tasks(timeout=0.1)
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.only("jray", "Ray adds facts of its own")
def test_a_job_is_told_with_its_metadata_and_environment(fresh: Callable[..., Any]) -> None:
    fresh(job_config=JobConfig(metadata={"team": "a"}), runtime_env={"env_vars": {"KEY": "value"}})
    (job,) = state.list_jobs(detail=True)
    assert job.metadata == {"team": "a"}
    assert job.runtime_env == {"env_vars": {"KEY": "value"}}


# -- logs -------------------------------------------------------------------------------------------------


@pytest.fixture
def talker(observed: None) -> Iterator[tuple[str, int]]:
    """An actor that has written two lines to stdout and, as C code does, one more; its id and its process id."""
    actor = Watched.remote()
    pid = jray.get(actor.say.remote("first line"))
    jray.get(actor.say.remote("second line \x1b[31mred\x1b[0m ü"))
    jray.get(actor.__ray_call__.remote(lambda _: os.write(1, b"raw\n")))
    yield actor._actor_id.hex(), pid
    jray.kill(actor)


def of_logs(test: Any) -> Any:
    """Mark a test of log files."""
    return pytest.mark.only("jray", "Ray's log files are told by an agent that starts a minute later")(test)


@of_logs
def test_log_files_are_listed_by_group(talker: tuple[str, int]) -> None:
    """Those of the workers, and the head's."""
    groups = state.list_logs()
    assert set(groups) == {"worker_out", "worker_err", "internal"}
    assert "head.log" in groups["internal"]
    node_id = jray.get_runtime_context().get_node_id()
    assert state.list_logs(node_id=node_id, glob_filter="head*") == {"internal": ["head.log"]}
    with pytest.raises(RayStateApiException, match="node_id '00'"):
        state.list_logs(node_id="00")


@of_logs
def test_the_log_of_an_actor_or_a_process_is_read(talker: tuple[str, int]) -> None:
    """What it wrote to stdout, from Python and from below, or to stderr."""
    actor_id, pid = talker
    text = "".join(state.get_log(actor_id=actor_id))
    assert text == "first line\nsecond line \x1b[31mred\x1b[0m ü\nraw\n"
    assert "".join(state.get_log(pid=pid)) == text
    assert b"".join(state.get_log(pid=pid, encoding=None)) == text.encode()
    assert "".join(state.get_log(pid=pid, tail=1)) == "raw\n"
    assert "second line red ü\n" in "".join(state.get_log(pid=pid, filter_ansi_code=True))
    assert "".join(state.get_log(pid=pid, suffix="err")) == ""


@of_logs
def test_a_log_file_is_read_by_name(talker: tuple[str, int]) -> None:
    """Only those in the session's directory."""
    texts = ["".join(state.get_log(filename=name)) for name in state.list_logs()["worker_out"]]
    assert any("first line" in text for text in texts)
    for name in ("nothing.log", "../head.json", "/etc/passwd"):
        with pytest.raises(RayStateApiException, match="list_logs"):
            state.get_log(filename=name)


@of_logs
def test_a_log_is_followed() -> None:
    """What is written later comes too."""
    actor = Watched.remote()
    pid = jray.get(actor.say.remote("early"))
    lines = state.get_log(pid=pid, follow=True, _interval=0.01)
    assert next(lines) == "early\n"
    jray.get(actor.say.remote("late"))
    assert next(lines) == "late\n"
    jray.kill(actor)


@of_logs
def test_a_log_that_cannot_be_found_is_said(talker: tuple[str, int]) -> None:
    """And what to do instead."""
    with pytest.raises(ValueError, match="filename, actor_id or pid"):
        state.get_log()
    with pytest.raises(ValueError, match="'out' or 'err'"):
        state.get_log(pid=talker[1], suffix="log")
    with pytest.raises(RayStateApiException, match="No actor"):
        state.get_log(actor_id="00" * 16)
    with pytest.raises(RayStateApiException, match="pid 1"):
        state.get_log(pid=1)
    with pytest.raises(NotImplementedError, match="submission_id"):
        state.get_log(submission_id="x")
    ref = wait_at.remote(None)
    jray.wait([ref])
    with pytest.raises(NotImplementedError, match=r"get_log\(pid=[0-9]+\)"):
        state.get_log(task_id=ref.task_id().hex())
