"""Owns what is told of this process as a cluster."""

from __future__ import annotations

import gc
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jray._core.clock import WallClock
from jray._core.engine import Rows
from jray._core.filters import Filter, matches
from jray._core.ids import TASK_ID_SIZE
from jray._core.inline.calls import IS_DONE, IS_PAUSED, NEEDS_ACTOR, NEEDS_ARGUMENTS, RUNS, Call, TaskTemplate
from jray._core.inline.failures import Death, Failure
from jray._core.inline.objects import ADDRESS
from jray._core.refs import PENDING, ObjectRef
from jray._core.rows import actor_row, driver_task, error_type, node_row
from jray._core.serialization import deserialize

if TYPE_CHECKING:
    from jray._core.inline.core import InlineClient


class InlineCluster:
    """See `jray._core.engine.Cluster`."""

    def __init__(
        self,
        client: InlineClient,
        *,
        labels: Mapping[str, str],
        node_name: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        self._client = client
        self._labels = dict(labels)
        self._node_name = node_name or socket.gethostname()
        self._metadata = dict(metadata)
        self._started_s = time.time()
        self._wall = WallClock()
        #: the last calls that ended, and the error of each
        self._ended: deque[tuple[Call, Any]] = deque(maxlen=client.config.task_history)

    def nodes(self) -> list[dict[str, Any]]:
        node_id = self._client.node_id.hex()
        return [
            {
                "NodeID": node_id,
                "Alive": True,
                "NodeManagerAddress": "127.0.0.1",
                "NodeManagerHostname": socket.gethostname(),
                "NodeName": self._node_name,
                "ObjectStoreSocketName": ADDRESS,
                "RayletSocketName": ADDRESS,
                "Resources": self.resources(),
                "Labels": {"ray.io/node-id": node_id, **self._labels},
                "alive": True,
            }
        ]

    def resources(self) -> dict[str, float]:
        client = self._client
        total = client.turns.resources.total.to_floats()
        return {**total, "object_store_memory": float(client.objects.capacity)}

    def available(self) -> dict[str, float]:
        client = self._client
        with client.operation():
            with client.lock:
                free = client.turns.resources.available.to_floats()
            free["object_store_memory"] = float(client.objects.capacity - client.objects.used_bytes())
        return {name: quantity for name, quantity in free.items() if quantity > 0}

    def log_names(self, node_id: str) -> list[str]:  # noqa: ARG002 -- nobody writes any here
        return []

    def log_piece(self, node_id: str, name: str, start: int) -> bytes | None:  # noqa: ARG002 -- as above
        return None

    def actor_names(self, namespace: str | None) -> list[tuple[str, str]]:
        names = self._client.actors.names()
        return [(where, name) for where, name in names if namespace in {None, where}]

    # -- rows -----------------------------------------------------------------------------------------

    def ended(self, call: Call, error: Any) -> None:
        """Remember a call that is over, without the frames of its error."""
        if call.stream is not None or call.template.function_name:
            self._ended.append((call, error.blob if isinstance(error, Failure) else error))

    def ended_calls(self) -> list[Call]:
        """Return the last calls that ended, in the order of their ends."""
        with self._client.lock:
            return [call for call, _ in self._ended]

    def ended_call(self, object_id: bytes) -> Call | None:
        """Return the call that made this object, if it is remembered."""
        task_id = object_id[:TASK_ID_SIZE]
        return next((call for call, _ in reversed(self._ended) if call.task_id == task_id), None)

    def state_of(self, call: Call) -> str:
        """Return what a call waits for or does, by Ray's names."""
        if call.phase is RUNS and not call.started_s:  # a coroutine that its group has no room for
            return "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY"
        if call.phase is NEEDS_ACTOR and call.actor is not None and call.actor.life is not None:
            return "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY"
        return _STATES.get(call.phase, "PENDING_NODE_ASSIGNMENT")

    def rows(
        self,
        kind: str,
        *,
        filters: Sequence[Filter] = (),
        limit: int = 10_000,
        detail: bool = False,
        timeout_s: float | None = None,  # noqa: ARG002 -- nobody else is asked
    ) -> Rows:
        makers: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
            "tasks": lambda: self._task_rows(detail=detail),
            "actors": self._actor_rows,
            "objects": self._object_rows,
            "nodes": lambda: map(node_row, self.nodes()),
            "workers": self._worker_rows,
            "jobs": self._job_rows,
            "placement_groups": self._client.groups.rows,
        }
        if kind not in makers:
            raise ValueError(f"There are no rows of kind {kind!r}.")
        rows = [row for row in makers[kind]() if matches(row, filters)]
        counts: Counter[tuple[str, ...]] = Counter()
        if kind == "tasks":
            counts.update((row["func_or_class_name"], row["type"], row["state"]) for row in rows)
        return Rows(rows[:limit], len(rows), counts=dict(counts))

    def _task_rows(self, *, detail: bool) -> Iterator[dict[str, Any]]:
        with self._client.lock:
            pending = list(self._client.pending.values())
            ended = list(self._ended)
        for call in pending:
            if call.template.is_told:
                yield self._task_row(call, self.state_of(call), None, detail=detail)
        for call, error in reversed(ended):
            if call.template.is_told:
                yield self._task_row(call, "FINISHED" if error is None else "FAILED", error, detail=detail)

    def _task_row(self, call: Call, state: str, error: Any, *, detail: bool) -> dict[str, Any]:
        client, template, actor = self._client, call.template, call.actor
        offset = self._wall.offset_s()
        has_begun = bool(call.started_s)
        worker_id = call.life.worker_id if call.life is not None else client.worker_id
        failure = deserialize(error) if isinstance(error, bytes) else error
        if isinstance(failure, Death):
            failure = failure.load()
        row: dict[str, Any] = {
            "task_id": call.task_id.hex(),
            "attempt_number": max(0, template.max_retries - call.retries_left),
            "name": call.name,
            "state": state,
            "job_id": client.job_id.hex(),
            "actor_id": None if actor is None else actor.actor_id.hex(),
            "type": "NORMAL_TASK" if actor is None else "ACTOR_TASK",
            "func_or_class_name": call.name if actor is None else template.function_name,
            "parent_task_id": (
                driver_task(client.job_id) if call.parent is None else call.parent.task_id
            ).hex(),
            "node_id": client.node_id.hex() if has_begun else None,
            "worker_id": worker_id.hex() if has_begun else None,
            "worker_pid": client.pid if has_begun else None,
            "error_type": None if failure is None else error_type(failure),
            "cell": template.cell,
        }
        if detail:
            is_task = isinstance(template, TaskTemplate)
            row |= {
                "error_message": None if failure is None else str(failure),
                "language": "PYTHON",
                "required_resources": template.request.to_floats() if is_task else {},  # type: ignore[attr-defined]
                "runtime_env_info": {name: dict(value) for name, value in call.environment},
                "placement_group_id": template.where.group.hex() or None if is_task else None,  # type: ignore[attr-defined]
                "creation_time_ms": int((call.submitted_s + offset) * 1000),
                "start_time_ms": int((call.started_s + offset) * 1000) if has_begun else None,
                "end_time_ms": int((call.ended_s + offset) * 1000) if call.ended_s else None,
                "call_site": f"In[{template.cell}]" if template.cell else None,
            }
        return row

    def _actor_rows(self) -> Iterator[dict[str, Any]]:
        node_id = self._client.node_id.hex()
        for record in self._client.lives.records():
            row = actor_row(record)
            yield row | {"node_id": node_id if row["worker_id"] else None}

    def _object_rows(self) -> Iterator[dict[str, Any]]:
        client = self._client
        needed = {id(ref) for call in list(client.pending.values()) for ref in call.dependencies}
        for ref in [ref for ref in gc.get_objects() if isinstance(ref, ObjectRef) and ref._client is client]:
            if client.actors.is_kept_by(ref._id):
                kind = "ACTOR_HANDLE"
            else:
                kind = "USED_BY_PENDING_TASK" if id(ref) in needed else "LOCAL_REFERENCE"
            yield {
                "object_id": ref._id.hex(),
                "object_size": _size_of(ref),
                "task_status": "PENDING" if ref._state == PENDING else "FINISHED",
                "attempt_number": 0,
                "reference_type": kind,
                "call_site": ref.call_site() or "disabled",
                "type": "DRIVER",
                "pid": client.pid,
                "ip": "127.0.0.1",
                "is_owner": True,
            }

    def _worker_rows(self) -> list[dict[str, Any]]:
        """Return one row: the driver, which is all there is."""
        client = self._client
        return [
            {
                "worker_id": (client.job_id + b"\xff" * 24).hex(),
                "is_alive": True,
                "worker_type": "DRIVER",
                "exit_type": None,
                "node_id": client.node_id.hex(),
                "ip": "127.0.0.1",
                "pid": client.pid,
                "job_id": client.job_id.hex(),
                "address": ADDRESS,
            }
        ]

    def _job_rows(self) -> list[dict[str, Any]]:
        client = self._client
        job_id = client.job_id.hex()
        return [
            {
                "job_id": job_id,
                "submission_id": None,
                "entrypoint": " ".join(sys.argv) or "python",
                "type": "DRIVER",
                "status": "RUNNING",
                "message": None,
                "error_type": None,
                "driver_info": {"id": job_id, "node_ip_address": "127.0.0.1", "pid": client.pid},
                "start_time": int(self._started_s * 1000),
                "end_time": None,
                "namespace": client.namespace,
                "metadata": self._metadata,
                "runtime_env": {name: dict(value) for name, value in client.runtime_env},
            }
        ]


def _size_of(ref: ObjectRef[Any]) -> int:
    """Return the bytes of a value; -1: there is none yet."""
    data = ref._data
    if ref._state == PENDING:
        return -1
    if isinstance(data, Failure):
        return len(data.blob)
    return len(data) if isinstance(data, str | bytes | bytearray) else 0


_STATES = {
    NEEDS_ARGUMENTS: "PENDING_ARGS_AVAIL",
    RUNS: "RUNNING",
    IS_PAUSED: "RUNNING",
    IS_DONE: "FINISHED",
}
