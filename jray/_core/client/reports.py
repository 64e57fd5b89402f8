"""Owns what a client tells of its tasks and objects when the cluster's state is asked for.

Nothing is reported while nobody asks: what is pending is in the owner's tables anyway, of what has ended a ring
keeps the last few thousand, and refs are found where Python keeps them.
"""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jray._core.clock import WallClock
from jray._core.filters import Filter, matches
from jray._core.refs import ATOM, ERROR, INLINE, PENDING, STORED, ObjectRef
from jray._core.rows import driver_task, error_type
from jray._core.serialization import deserialize
from jray.exceptions import (
    TaskCancelledError,
)

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient
    from jray._core.client.pending import PendingTask


class Reports:
    """Answers about this process, from its own tables."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        self._wall = WallClock()
        #: the last tasks of this owner that ended
        self.ended: deque[PendingTask] = deque(maxlen=client.config.task_history)
        #: in a worker: what runs here, as (task id, name, start, is blocked), and what ran, as (task id, start, end)
        self.running: Callable[[], list[tuple[bytes, str, float, bool]]] = list
        self.executed: Callable[[], list[tuple[bytes, float, float]]] = list
        #: in a worker: (actor class, name, cell, start, end, calls, failed, busy) of what ran for a cell since then
        self.spans: Callable[[int | None, float, float], Sequence[tuple[Any, ...]]] = lambda *_: ()

    def tell(self, kind: str, filters: Sequence[Any], limit: int, detail: bool) -> Any:
        """Return this process's part of an answer about "tasks", "objects" or "spans"."""
        return (
            self._tell_spans(*filters) if kind == "spans" else self._tell_rows(kind, filters, limit, detail)
        )

    def _tell_spans(
        self, job_id: bytes | None, cell: int | None, since_ms: float, resolution_ms: float
    ) -> list[tuple[Any, ...]]:
        """Return the fields of `jray._core.engine.Span`, for each; None: of all jobs."""
        client = self._client
        if job_id not in {None, client.job_id}:
            return []
        worker_id = "" if client.worker is None else client.worker.worker_id.hex()
        offset = self._wall.offset_s()
        return [
            (
                worker_id, client.pid, actor, name, of_cell, _ms(start + offset),
                None if end is None else _ms(end + offset), calls, failed, busy * 1000,
            )
            for actor, name, of_cell, start, end, calls, failed, busy in self.spans(
                cell, since_ms / 1000 - offset, resolution_ms / 1000
            )
        ]  # fmt: skip

    def _tell_rows(self, kind: str, filters: Sequence[Filter], limit: int, detail: bool) -> dict[str, Any]:
        """Return rows (at most *limit*), how many there are, and counts."""
        found = self._task_rows(detail=detail) if kind == "tasks" else self._object_rows()
        rows: list[dict[str, Any]] = []
        total = 0
        counts: Counter[tuple[str, ...]] = Counter()
        for row in found:
            if not matches(row, filters):
                continue
            total += 1
            if kind == "tasks":
                counts[row["name"], row["type"], row["state"]] += 1
            if len(rows) < limit:
                rows.append(row)
        answer: dict[str, Any] = {"rows": rows, "total": total, "counts": dict(counts)}
        if kind == "tasks":
            offset = self._wall.offset_s()
            answer["running"] = [
                (task_id, _ms(start + offset), blocked) for task_id, _, start, blocked in self.running()
            ]
            answer["executed"] = (
                [(task_id, _ms(start + offset), _ms(end + offset)) for task_id, start, end in self.executed()]
                if detail
                else []
            )
        return answer

    def status(self, ref: ObjectRef[Any]) -> str:
        """Return the state of the task that makes a pending ref."""
        with self._client.lock:
            task = ref._data
            if ref._state != PENDING:
                return "FAILED" if ref._state == ERROR else "FINISHED"
            return "NIL" if task is None else self._state_locked(task)[0]

    # -- tasks ------------------------------------------------------------------------------------

    def _task_rows(self, *, detail: bool) -> Iterator[dict[str, Any]]:
        client = self._client
        with client.lock:
            pending = list(client.tasks.pending.values())
            ended = list(self.ended)
            states = [self._state_locked(task) for task in pending]
        offset = self._wall.offset_s()
        for task, (state, place) in zip(pending, states, strict=True):
            if task.template.is_told:
                yield self._row(task, place, state, offset, detail=detail)
        for task in reversed(ended):
            if not task.template.is_told:
                continue
            place = task.actor if task.actor is not None else task.lease
            state = "FINISHED" if task.payload is None else "FAILED"
            yield self._row(task, place, state, offset, detail=detail)

    def _state_locked(self, task: Any) -> tuple[str, Any]:
        """Return a pending task's state, and the lease or actor it is on."""
        if task.unready > 0:
            return "PENDING_ARGS_AVAIL", task.actor
        actor, lease = task.actor, task.lease
        if actor is not None:
            if task.number not in actor.inflight:
                return "PENDING_NODE_ASSIGNMENT", actor
            if actor.is_ordered and next(iter(actor.inflight)) != task.number:
                return "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY", actor
            return "RUNNING", actor
        if lease is None or task.number not in lease.inflight:
            return "PENDING_NODE_ASSIGNMENT", None
        return ("RUNNING" if next(iter(lease.inflight)) == task.number else "SUBMITTED_TO_WORKER"), lease

    def _row(
        self, task: PendingTask, place: Any, state: str, offset: float, *, detail: bool
    ) -> dict[str, Any]:
        client, template, parent = self._client, task.template, task.parent
        wire = template.wire
        actor_id = task.actor.actor_id if task.actor is not None else None
        row: dict[str, Any] = {
            "task_id": client.task_id(task.number).hex(),
            "attempt_number": max(0, template.max_retries - task.retries_left),
            "name": wire.name,
            "state": state,
            "job_id": client.job_id.hex(),
            "actor_id": actor_id.hex() if actor_id else None,
            "type": "NORMAL_TASK" if task.actor is None else "ACTOR_TASK",
            "func_or_class_name": template.function_name,
            "parent_task_id": (driver_task(client.job_id) if parent is None else parent.task_id).hex(),
            "node_id": client.node_id.hex() if place is not None else None,
            "worker_id": worker_id.hex() if (worker_id := getattr(place, "worker_id", None)) else None,
            "worker_pid": None,
            "error_type": None,
            "cell": wire.cell,
            #: where it runs or ran, from which the asker finds the process
            "address": peer.address if (peer := getattr(place, "peer", None)) is not None else None,
        }
        if task.ended_s and task.payload is not None:
            # an error is a pickle, with classes of the user's: looked into once, or for its text
            if detail or task.error_type is None:
                failure = _exception(task.payload)
                task.error_type = error_type(failure)
                if detail:
                    row["error_message"] = _text_of(failure)
            row["error_type"] = task.error_type
        elif detail:
            row["error_message"] = None
        if detail:
            queue = getattr(template, "queue", None)
            row |= {
                "language": "PYTHON",
                "required_resources": {}
                if queue is None
                else {name: units / 10_000 for name, units in queue.units.items()},
                "runtime_env_info": dict(queue.details) if queue is not None else {},
                "placement_group_id": getattr(wire, "group", b"").hex() or None,
                "creation_time_ms": _ms(task.submitted_s + offset),
                "start_time_ms": None,
                "end_time_ms": _ms(task.ended_s + offset) if task.ended_s else None,
                "call_site": f"In[{wire.cell}]" if wire.cell else None,
            }
        return row

    # -- objects ----------------------------------------------------------------------------------

    def _object_rows(self) -> Iterator[dict[str, Any]]:
        client = self._client
        needed: Counter[bytes] = Counter()
        with client.lock:
            for task in client.tasks.pending.values():
                for ref in task.dependencies or ():
                    needed[ref._id] += 1
        viewed = client.arena.viewed()
        kind = "DRIVER" if client.worker is None else "WORKER"
        refs = [ref for ref in gc.get_objects() if isinstance(ref, ObjectRef) and ref._client is client]
        for ref in refs:
            if ref._id in client.objects.actor_of:
                reference = "ACTOR_HANDLE"
            elif needed[ref._id]:
                reference = "USED_BY_PENDING_TASK"
            elif id(ref) in viewed:
                reference = "PINNED_IN_MEMORY"
            else:
                reference = "LOCAL_REFERENCE"
            yield {
                "object_id": ref._id.hex(),
                "object_size": _size(ref),
                "task_status": "PENDING" if ref._state == PENDING else "FINISHED",
                "attempt_number": 0,
                "reference_type": reference,
                "call_site": ref.call_site() or "disabled",
                "type": kind,
                "pid": client.pid,
                "ip": "127.0.0.1",
                "is_owner": ref._owner is None,
            }


def _size(ref: ObjectRef[Any]) -> int:
    """Return the bytes of a value; -1: not known."""
    if ref._state == STORED:
        size: int = ref._data.size
        return size
    if ref._state in {INLINE, ERROR} and isinstance(ref._data, bytes):
        return len(ref._data)
    if ref._state == ATOM:
        return len(ref._data) if isinstance(ref._data, str | bytes) else 0
    return -1


def _exception(error: Any) -> BaseException:
    if isinstance(error, bytes):
        if not error:
            return TaskCancelledError("")
        try:
            error = deserialize(error)
        except Exception as failure:  # noqa: BLE001 -- whatever a user's class raises
            return RuntimeError(f"cannot be deserialized here: {failure!r}")
    assert isinstance(error, BaseException)
    return error


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001 -- a user's __str__
        return f"{type(error).__name__}, whose text cannot be made here: {failure!r}"


def _ms(seconds: float) -> float:
    return seconds * 1000
