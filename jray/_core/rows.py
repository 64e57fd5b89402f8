"""Owns the columns of the rows about the cluster's state that several processes or engines make.

Ray's keys.  Ids are hexadecimal text, times milliseconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jray._core.machine import actors as machine
from jray._core.machine.groups import CREATED, REMOVED
from jray._core.resources import UNITS
from jray._core.specs import GroupSpec
from jray.exceptions import (
    ActorDiedError,
    ActorPlacementGroupRemoved,
    ActorUnavailableError,
    ActorUnschedulableError,
    OutOfMemoryError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskPlacementGroupRemoved,
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
    (TaskPlacementGroupRemoved, "TASK_PLACEMENT_GROUP_REMOVED"),
    (ActorUnschedulableError, "ACTOR_UNSCHEDULABLE_ERROR"),
    (ActorPlacementGroupRemoved, "ACTOR_PLACEMENT_GROUP_REMOVED"),
    (RuntimeEnvSetupError, "RUNTIME_ENV_SETUP_FAILED"),
]


def error_type(error: BaseException) -> str:
    """Return Ray's name for what ended a task."""
    return next((name for kind, name in _ERROR_TYPES if isinstance(error, kind)), "TASK_EXECUTION_EXCEPTION")


def driver_task(job_id: bytes) -> bytes:
    """Return the id that stands for the driver as a parent of tasks."""
    return b"\xff" * 20 + job_id


def node_row(
    row: dict[str, Any],
    *,
    is_head: bool = True,
    reason: str = "",
    joined_s: float | None = None,
    left_s: float | None = None,
) -> dict[str, Any]:
    """Return the row of the state API for one of `jray.nodes()`; *reason* is why it is gone, times are Unix times."""
    return {
        "node_id": row["NodeID"],
        "node_ip": row["NodeManagerAddress"],
        "is_head_node": is_head,
        "state": "ALIVE" if row["Alive"] else "DEAD",
        "state_message": reason or None,
        "node_name": row["NodeName"],
        "resources_total": row["Resources"],
        "labels": row["Labels"],
        "start_time_ms": None if joined_s is None else int(joined_s * 1000),
        "end_time_ms": None if left_s is None else int(left_s * 1000),
    }


def _death_in_words(cause: machine.DeathCause) -> str:
    died = cause.exit_cause
    return cause.text if died is None else f"{cause.text}: it {exit_in_words(died.exit_code, died.signal)}"


def actor_row(record: machine.ActorRecord) -> dict[str, Any]:
    """Return the row of an actor."""
    spec, cause = record.spec, record.cause
    return {
        "actor_id": spec.actor_id.hex(),
        "class_name": spec.class_name,
        "state": record.state,
        "job_id": spec.job.hex(),
        "name": spec.name or "",
        "node_id": record.node_id.hex() if record.worker_id else None,
        "worker_id": record.worker_id.hex() if record.worker_id else None,
        "pid": record.pid,
        "ray_namespace": spec.namespace,
        "serialized_runtime_env": json.dumps({name: dict(value) for name, value in spec.runtime_env}),
        "required_resources": {name: units / 10_000 for name, units in spec.running_request.items()},
        "death_cause": _death_in_words(cause) if cause is not None and record.state == machine.DEAD else None,
        "is_detached": spec.is_detached,
        "placement_group_id": spec.where.group.hex() or None,
        "repr_name": record.repr_name,
        "num_restarts": record.restarts,
        "num_restarts_due_to_lineage_reconstruction": 0,
        "num_restarts_due_to_node_preemption": 0,
        "call_site": f"In[{spec.cell}]" if spec.cell else None,
        "label_selector": {},
        "cell": spec.cell,
    }


def group_row(
    spec: GroupSpec, state: str, nodes: Mapping[int, bytes], *, reason: str = "", took_s: float = 0.0
) -> dict[str, Any]:
    """Return what there is to tell of a placement group: the rows below are parts of it."""
    return {
        "placement_group_id": spec.group_id.hex(),
        "name": spec.name,
        "bundles": {
            i: {name: units / UNITS for name, units in bundle.items()}
            for i, bundle in enumerate(spec.bundles)
        },
        "bundles_to_node_id": {i: nodes.get(i, b"").hex() for i in range(len(spec.bundles))},
        "strategy": spec.strategy,
        "state": state,
        "stats": {
            "end_to_end_creation_latency_ms": took_s * 1000,
            "scheduling_latency_ms": took_s * 1000,
            "scheduling_attempt": 1,
            "highest_retry_delay_ms": 0.0,
            "scheduling_state": _SCHEDULING_STATES.get(state, "QUEUED"),
        }
        | ({"waiting_reason": reason} if reason else {}),
        "creator_job_id": spec.job.hex(),
        "is_detached": spec.is_detached,
    }


_SCHEDULING_STATES = {CREATED: "FINISHED", REMOVED: "REMOVED"}


def group_table_entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Ray's `placement_group_table` tells of a group."""
    return {key: value for key, value in row.items() if key not in {"creator_job_id", "is_detached"}}


def group_state(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of the state API for a placement group."""
    group_id, nodes = row["placement_group_id"], row["bundles_to_node_id"]
    return {
        "placement_group_id": group_id,
        "name": row["name"],
        "creator_job_id": row["creator_job_id"],
        "state": row["state"],
        "bundles": [
            {
                "bundle_id": {"placement_group_id": group_id, "bundle_index": i},
                "unit_resources": resources,
                "node_id": nodes[i] or None,
            }
            for i, resources in row["bundles"].items()
        ],
        "is_detached": row["is_detached"],
        "stats": row["stats"],
        "topology_strategy": None,
        "topology_assignments": None,
    }
