"""Owns the columns of the rows about the cluster's state that several processes or engines make.

Ray's keys.  Ids are hexadecimal text, times milliseconds since the epoch.
"""

from __future__ import annotations

import json
from typing import Any

from jray._core.machine import actors as machine
from jray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    OutOfMemoryError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskUnschedulableError,
    WorkerCrashedError,
    exit_in_words,
)

#: Ray's names for what ended a task, by the class of its error
_ERROR_TYPES: list[tuple[type[BaseException], str]] = [
    (TaskCancelledError, "TASK_CANCELLED"),
    (RayTaskError, "TASK_EXECUTION_EXCEPTION"),
    (OutOfMemoryError, "OUT_OF_MEMORY"),
    (WorkerCrashedError, "WORKER_DIED"),
    (ActorDiedError, "ACTOR_DIED"),
    (ActorUnavailableError, "ACTOR_UNAVAILABLE"),
    (TaskUnschedulableError, "TASK_UNSCHEDULABLE_ERROR"),
    (RuntimeEnvSetupError, "RUNTIME_ENV_SETUP_FAILED"),
]


def error_type(error: BaseException) -> str:
    """Return Ray's name for what ended a task."""
    return next((name for kind, name in _ERROR_TYPES if isinstance(error, kind)), "TASK_EXECUTION_EXCEPTION")


def driver_task(job_id: bytes) -> bytes:
    """Return the id that stands for the driver as a parent of tasks."""
    return b"\xff" * 20 + job_id


def node_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row of the state API for one of `jray.nodes()`."""
    return {
        "node_id": row["NodeID"],
        "node_ip": row["NodeManagerAddress"],
        "is_head_node": True,
        "state": "ALIVE" if row["Alive"] else "DEAD",
        "state_message": None,
        "node_name": row["NodeName"],
        "resources_total": row["Resources"],
        "labels": row["Labels"],
        "start_time_ms": None,
        "end_time_ms": None,
    }


def _death_in_words(cause: machine.DeathCause) -> str:
    died = cause.exit_cause
    return cause.text if died is None else f"{cause.text}: it {exit_in_words(died.exit_code, died.signal)}"


def actor_row(record: machine.ActorRecord) -> dict[str, Any]:
    """Return the row of an actor; who asks knows its node."""
    spec, cause = record.spec, record.cause
    return {
        "actor_id": spec.actor_id.hex(),
        "class_name": spec.class_name,
        "state": record.state,
        "job_id": spec.job.hex(),
        "name": spec.name or "",
        "node_id": None,
        "worker_id": record.worker_id.hex() if record.worker_id else None,
        "pid": record.pid,
        "ray_namespace": spec.namespace,
        "serialized_runtime_env": json.dumps({name: dict(value) for name, value in spec.runtime_env}),
        "required_resources": {name: units / 10_000 for name, units in spec.running_request.items()},
        "death_cause": _death_in_words(cause) if cause is not None and record.state == machine.DEAD else None,
        "is_detached": spec.is_detached,
        "placement_group_id": None,
        "repr_name": record.repr_name,
        "num_restarts": record.restarts,
        "num_restarts_due_to_lineage_reconstruction": 0,
        "num_restarts_due_to_node_preemption": 0,
        "call_site": f"In[{spec.cell}]" if spec.cell else None,
        "label_selector": {},
        "cell": spec.cell,
    }
