# ruff: noqa: RUF009 -- what `_column` returns is a field, not a value
"""Owns the rows of the state API: which columns each kind of thing has, and which can be filtered by."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Self

__all__ = [
    "DEFAULT_LIMIT",
    "DEFAULT_RPC_TIMEOUT",
    "ActorState",
    "ClusterEventState",
    "DriverInfo",
    "JobState",
    "NodeState",
    "ObjectState",
    "PlacementGroupState",
    "RuntimeEnvState",
    "StateSchema",
    "TaskState",
    "WorkerState",
]

DEFAULT_LIMIT = 100
DEFAULT_RPC_TIMEOUT = 30  #: seconds
#: most rows that one call may ask for
MAX_LIMIT = 10_000


def _column(*, filterable: bool = True, detail: bool = False) -> Any:
    """Declare a column; one of detail is None unless detail was asked for."""
    return dataclasses.field(default=None, metadata={"filterable": filterable, "detail": detail})


class StateSchema:
    """A row: its columns are attributes, and `row["column"]` and `row.get("column")` read them too."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Return the row as an object; what is not a column is left out."""
        columns = cls.columns()
        return cls(**{name: value for name, value in row.items() if name in columns})

    @classmethod
    @functools.cache
    def _fields(cls) -> Mapping[str, dataclasses.Field[Any]]:
        return {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]

    @classmethod
    def list_columns(cls, detail: bool = True) -> list[str]:
        """Return the names of the columns in their order."""
        return [name for name, field in cls._fields().items() if detail or not field.metadata["detail"]]

    @classmethod
    def columns(cls) -> set[str]:
        return set(cls.list_columns())

    @classmethod
    def base_columns(cls) -> set[str]:
        """Return the columns that are there without `detail=True`."""
        return set(cls.list_columns(detail=False))

    @classmethod
    def filterable_columns(cls) -> set[str]:
        return {name for name, field in cls._fields().items() if field.metadata["filterable"]}

    @classmethod
    @functools.cache
    def column_types(cls) -> Mapping[str, type]:
        """Return the type of each column's values that are not None."""
        return {
            name: _plain(hint) for name, hint in typing.get_type_hints(cls).items() if name in cls._fields()
        }

    def asdict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    def __getitem__(self, column: str) -> Any:
        return getattr(self, column)

    def __setitem__(self, column: str, value: Any) -> None:
        setattr(self, column, value)

    def get(self, column: str, default: Any = None) -> Any:
        return getattr(self, column, default)


def _plain(hint: Any) -> type:
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    plain: type = typing.get_origin(hint) or hint
    return plain


@dataclasses.dataclass
class ActorState(StateSchema):
    """An actor."""

    actor_id: str = _column()
    class_name: str = _column()
    #: DEPENDENCIES_UNREADY, PENDING_CREATION, ALIVE, RESTARTING or DEAD
    state: str = _column()
    job_id: str = _column()
    name: str | None = _column()
    node_id: str | None = _column()
    pid: int | None = _column()  #: 0 until it has a process
    ray_namespace: str | None = _column()
    serialized_runtime_env: str | None = _column(filterable=False, detail=True)
    required_resources: dict[str, float] | None = _column(filterable=False, detail=True)
    death_cause: dict[str, Any] | None = _column(filterable=False, detail=True)
    is_detached: bool | None = _column(filterable=False, detail=True)
    placement_group_id: str | None = _column(detail=True)
    repr_name: str | None = _column(detail=True)
    num_restarts: int | None = _column(filterable=False, detail=True)
    num_restarts_due_to_lineage_reconstruction: int | None = _column(filterable=False, detail=True)
    num_restarts_due_to_node_preemption: int | None = _column(filterable=False, detail=True)
    call_site: str | None = _column(filterable=False, detail=True)
    label_selector: dict[str, str] | None = _column(filterable=False, detail=True)
    fallback_strategy: dict[str, Any] | None = _column(filterable=False, detail=True)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Return the row as an object, a cause of death that is text where Ray has it."""
        state = super().from_row(row)
        if isinstance(state.death_cause, str):
            state.death_cause = {"actor_died_error_context": {"error_message": state.death_cause}}
        return state


@dataclasses.dataclass
class PlacementGroupState(StateSchema):
    """A placement group."""

    placement_group_id: str = _column()
    name: str = _column()
    creator_job_id: str = _column()
    #: PENDING, CREATED, REMOVED or RESCHEDULING
    state: str = _column()
    bundles: list[dict[str, Any]] | None = _column(filterable=False, detail=True)
    is_detached: bool | None = _column(detail=True)
    stats: dict[str, Any] | None = _column(filterable=False, detail=True)
    topology_strategy: dict[str, str] | None = _column(filterable=False, detail=True)
    topology_assignments: dict[str, str] | None = _column(filterable=False, detail=True)


@dataclasses.dataclass
class NodeState(StateSchema):
    """A node."""

    node_id: str = _column()
    node_ip: str = _column()
    is_head_node: bool = _column()
    state: str = _column()  #: ALIVE or DEAD
    state_message: str | None = _column(filterable=False)
    node_name: str = _column()
    resources_total: dict[str, float] = _column(filterable=False)
    labels: dict[str, str] = _column(filterable=False)
    start_time_ms: int | None = _column(filterable=False, detail=True)
    end_time_ms: int | None = _column(filterable=False, detail=True)


@dataclasses.dataclass
class WorkerState(StateSchema):
    """A process that runs tasks or an actor, or a driver."""

    worker_id: str = _column()
    is_alive: bool = _column()
    worker_type: str = _column()  #: WORKER or DRIVER
    #: SYSTEM_ERROR, INTENDED_SYSTEM_EXIT, USER_ERROR, INTENDED_USER_EXIT or NODE_OUT_OF_MEMORY
    exit_type: str | None = _column()
    node_id: str = _column()
    ip: str = _column()
    pid: int = _column()
    exit_detail: str | None = _column(filterable=False, detail=True)
    worker_launch_time_ms: int | None = _column(filterable=False, detail=True)  #: its start was asked for
    worker_launched_time_ms: int | None = _column(filterable=False, detail=True)  #: it was started
    start_time_ms: int | None = _column(filterable=False, detail=True)  #: it can be used
    end_time_ms: int | None = _column(filterable=False, detail=True)  #: it ended
    debugger_port: int | None = _column(detail=True)
    num_paused_threads: int | None = _column(detail=True)


@dataclasses.dataclass
class DriverInfo:
    """The process of a job's driver."""

    id: str
    node_ip_address: str
    pid: str


@dataclasses.dataclass
class JobState(StateSchema):
    """A job: what a driver does between joining the cluster and leaving it."""

    type: str = _column()  #: DRIVER or SUBMISSION
    job_id: str | None = _column()
    submission_id: str | None = _column()
    driver_info: DriverInfo | None = _column(filterable=False)
    status: str = _column()  #: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED
    entrypoint: str = _column(filterable=False)
    message: str | None = _column(filterable=False)
    error_type: str | None = _column(filterable=False)
    start_time: int | None = _column(filterable=False, detail=True)  #: ms since the epoch
    end_time: int | None = _column(filterable=False, detail=True)  #: ms since the epoch
    metadata: dict[str, str] | None = _column(filterable=False, detail=True)
    runtime_env: dict[str, Any] | None = _column(filterable=False, detail=True)
    driver_agent_http_address: str | None = _column(filterable=False, detail=True)
    driver_node_id: str | None = _column(filterable=False, detail=True)
    driver_exit_code: int | None = _column(filterable=False, detail=True)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Return the row as an object, its driver as one too."""
        state = super().from_row(row)
        if isinstance(state.driver_info, Mapping):
            driver = state.driver_info
            state.driver_info = DriverInfo(driver["id"], driver["node_ip_address"], str(driver["pid"]))
        return state


_TASK_TIMES = ("creation_time_ms", "start_time_ms", "end_time_ms")


@dataclasses.dataclass
class TaskState(StateSchema):
    """One attempt of a task."""

    task_id: str = _column()
    attempt_number: int = _column()
    name: str = _column()
    #: one of Ray's: PENDING_ARGS_AVAIL, PENDING_NODE_ASSIGNMENT, SUBMITTED_TO_WORKER,
    #: PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY, RUNNING, RUNNING_IN_RAY_GET, FINISHED, FAILED ...
    state: str = _column()
    job_id: str = _column()
    actor_id: str | None = _column()
    type: str = _column()  #: NORMAL_TASK, ACTOR_CREATION_TASK, ACTOR_TASK or DRIVER_TASK
    func_or_class_name: str = _column()
    parent_task_id: str = _column()
    node_id: str | None = _column()
    worker_id: str | None = _column()
    worker_pid: int | None = _column()
    error_type: str | None = _column()
    language: str | None = _column(detail=True)
    required_resources: dict[str, float] | None = _column(filterable=False, detail=True)
    runtime_env_info: dict[str, Any] | None = _column(filterable=False, detail=True)
    placement_group_id: str | None = _column(detail=True)
    events: list[dict[str, Any]] | None = _column(filterable=False, detail=True)
    profiling_data: dict[str, Any] | None = _column(filterable=False, detail=True)
    creation_time_ms: int | None = _column(filterable=False, detail=True)
    start_time_ms: int | None = _column(filterable=False, detail=True)
    end_time_ms: int | None = _column(filterable=False, detail=True)
    task_log_info: dict[str, Any] | None = _column(filterable=False, detail=True)
    error_message: str | None = _column(filterable=False, detail=True)
    is_debugger_paused: bool | None = _column(detail=True)
    call_site: str | None = _column(filterable=False, detail=True)
    label_selector: dict[str, str] | None = _column(filterable=False, detail=True)
    fallback_strategy: dict[str, Any] | None = _column(filterable=False, detail=True)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Return the row as an object, its times in whole milliseconds."""
        times = {name: int(time) for name in _TASK_TIMES if (time := row.get(name)) is not None}
        return super().from_row({**row, **times})


@dataclasses.dataclass
class ObjectState(StateSchema):
    """What one process holds of an object."""

    object_id: str = _column()
    object_size: int = _column()  #: bytes; -1: not known
    task_status: str = _column()  #: of the task that makes it
    attempt_number: int = _column()
    #: LOCAL_REFERENCE, PINNED_IN_MEMORY, USED_BY_PENDING_TASK, CAPTURED_IN_OBJECT, ACTOR_HANDLE or UNKNOWN_STATUS
    reference_type: str = _column()
    call_site: str = _column()
    type: str = _column()  #: WORKER or DRIVER, of the process that holds the reference
    pid: int = _column()
    ip: str = _column()


@dataclasses.dataclass
class RuntimeEnvState(StateSchema):
    """A runtime environment that was made on a node."""

    runtime_env: dict[str, Any] = _column()
    success: bool = _column()
    creation_time_ms: float | None = _column(filterable=False)
    node_id: str = _column()
    ref_cnt: int | None = _column(filterable=False, detail=True)
    error: str | None = _column(detail=True)


@dataclasses.dataclass
class ClusterEventState(StateSchema):
    """Something of note that happened to the cluster."""

    severity: str = _column()
    time: str = _column(filterable=False)
    source_type: str = _column()
    message: str = _column(filterable=False)
    event_id: str = _column()
    custom_fields: dict[str, Any] | None = _column(filterable=False, detail=True)
