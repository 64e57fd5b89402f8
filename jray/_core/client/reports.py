"""Owns what a client tells of its tasks and objects when the cluster's state is asked for.

Nothing is reported while nobody asks: what is pending is in the owner's tables anyway, of what has ended a ring
keeps the last few thousand, and refs are found where Python keeps them.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from jray._core.client.holdings import Holdings
from jray._core.client.selection import Selection
from jray._core.clock import WallClock
from jray._core.environments import as_dict
from jray._core.filters import Filter, matches
from jray._core.ids import object_id
from jray._core.refs import ERROR, PENDING, ObjectRef
from jray._core.rows import driver_task, error_type
from jray._core.serialization import deserialize
from jray._core.wire import messages
from jray.exceptions import TaskCancelledError

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient
    from jray._core.client.pending import PendingTask

#: an answer is made in pieces of this many seconds, and the client's lock is held for so many tasks at once
_PIECE_S = 0.005
_TASKS_AT_ONCE = 1000
_ROWS_AT_ONCE = 20


class Reports:
    """Answers about this process, from its own tables."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        self._wall = WallClock()
        self._holdings = Holdings(client)
        #: the last tasks of this owner that ended
        self.ended: deque[PendingTask] = deque(maxlen=client.config.task_history)
        #: in a worker: what runs here, as (task id, name, start, is blocked), and what ran of these, as (id, start, end)
        self.running: Callable[[], list[tuple[bytes, str, float, bool]]] = list
        self.executed: Callable[[Collection[bytes]], list[tuple[bytes, float, float]]] = lambda _: []
        #: in a worker, of what ran for a cell since then: (actor class, name, cell, start, end, calls, failed, seconds
        #: of the calls, seconds of bringing arguments, id of the first task)
        self.spans: Callable[[int | None, float, float], Sequence[tuple[Any, ...]]] = lambda *_: ()

    def on_tell(self, number: int, kind: str, filters: Sequence[Any], limit: int, detail: bool) -> None:
        """Tell the head this process's part of an answer about "tasks", their "times", "objects" or "spans".

        Called by who polls, which may be the user's own thread that waits for results: a long answer is made in pieces,
        with what arrives meanwhile handled between them.
        """
        if kind == "spans":
            self._client.node.tell(messages.TOLD, number, self._tell_spans(*filters))
        elif kind == "times":
            self._client.node.tell(messages.TOLD, number, self._tell_times(frozenset(filters)))
        else:
            self._go_on(number, self._rows_in_pieces(kind, filters, limit, detail=detail))

    def _go_on(self, number: int, pieces: Generator[None, None, dict[str, Any]]) -> None:
        client = self._client
        until_s = monotonic() + _PIECE_S
        try:
            next(pieces)
            while monotonic() < until_s:
                next(pieces)
        except StopIteration as done:
            client.node.tell(messages.TOLD, number, done.value)
        except Exception:  # noqa: BLE001 -- a defect of jray; without this it would end the thread that polls
            sys.stderr.write("A defect of jray, please report it:\n")
            traceback.print_exc(file=sys.stderr)
        else:
            client.pump.call_later(0.0, lambda: self._go_on(number, pieces))

    def _tell_spans(
        self, job_id: bytes | None, cell: int | None, since_ms: float, resolution_ms: float
    ) -> list[tuple[Any, ...]]:
        """Return the fields of `jray._core.engine.Span` for each, with a task instead of its time; None: of all jobs."""
        client = self._client
        if job_id not in {None, client.job_id}:
            return []
        worker_id = "" if client.worker is None else client.worker.worker_id.hex()
        offset = self._wall.offset_s()
        return [
            (
                worker_id, client.pid, actor, name, of_cell, _ms(start + offset),
                None if end is None else _ms(end + offset), calls, failed, _ms(busy), _ms(bringing), task_id,
            )
            for actor, name, of_cell, start, end, calls, failed, busy, bringing, task_id in self.spans(
                cell, since_ms / 1000 - offset, resolution_ms / 1000
            )
        ]  # fmt: skip

    def submitted_ms(self, task_ids: Iterable[bytes]) -> dict[bytes, float]:
        """Return when those of these tasks were submitted that this process owns and knows, and that ran but once."""
        client = self._client
        numbers = {client.number_of(object_id(task_id, 0)): task_id for task_id in task_ids}
        with client.lock:
            pending = client.tasks.pending
            found = [pending[number] for number in numbers if number in pending]
            if len(found) < len(numbers):
                found += [task for task in self.ended if task.number in numbers]
        offset = self._wall.offset_s()
        return {
            numbers[task.number]: _ms(task.submitted_s + offset)
            for task in found
            if task.retries_left == task.template.max_retries
        }

    def _tell_times(self, task_ids: Collection[bytes]) -> list[tuple[bytes, float, float]]:
        offset = self._wall.offset_s()
        return [
            (task_id, _ms(start + offset), _ms(end + offset))
            for task_id, start, end in self.executed(task_ids)
        ]

    def _rows_in_pieces(
        self, kind: str, filters: Sequence[Filter], limit: int, *, detail: bool
    ) -> Generator[None, None, dict[str, Any]]:
        """Return rows (at most *limit*), how many there are, and counts."""
        if kind != "tasks":
            return (yield from self._holdings.rows(filters, limit))
        answer = yield from self._task_rows(filters, limit, detail=detail)
        offset = self._wall.offset_s()
        answer["running"] = [
            (task_id, _ms(start + offset), blocked) for task_id, _, start, blocked in self.running()
        ]
        return answer

    def status(self, ref: ObjectRef[Any]) -> str:
        """Return the state of the task that makes a pending ref."""
        with self._client.lock:
            task = ref._data
            if ref._state != PENDING:
                return "FAILED" if ref._state == ERROR else "FINISHED"
            if task is None:
                return "NIL"
            running = () if task.actor is None else task.actor.running_locked()
            return self._state_locked(task, {call.number for call in running})[0]

    # -- tasks ------------------------------------------------------------------------------------

    def _task_rows(
        self, filters: Sequence[Filter], limit: int, *, detail: bool
    ) -> Generator[None, None, dict[str, Any]]:
        client = self._client
        selection = Selection(filters)
        with client.lock:
            tasks = list(client.tasks.pending.values()) if selection.takes_pending else []
            tasks += reversed(self.ended)
        offset = self._wall.offset_s()
        rows: list[dict[str, Any]] = []
        #: how many there are in each state, by what tells the template; None: its calls are not wanted
        groups: dict[int, defaultdict[str, int] | None] = {}
        keys: dict[int, tuple[str, str]] = {}
        for start in range(0, len(tasks), _TASKS_AT_ONCE):
            found: list[tuple[PendingTask, Any, str, defaultdict[str, int]]] = []
            room = sys.maxsize if selection.of_row else limit - len(rows)
            with client.lock:
                running = {call.number for call in client.actors.running_locked()}
                # written for few bytecodes: there may be a hundred thousand
                for task in tasks[start : start + _TASKS_AT_ONCE]:
                    which = id(task.template)
                    if which not in groups:
                        shared = self._shared(task)
                        is_wanted = task.template.is_told and selection.takes_calls(shared)
                        groups[which] = defaultdict(int) if is_wanted else None
                        keys[which] = shared["name"], shared["type"]
                    group = groups[which]
                    if group is None:
                        continue
                    place = task.lease
                    if task.ended_s:  # before or since the list was made
                        state = "FINISHED" if task.payload is None else "FAILED"
                        if task.actor is not None:
                            place = task.actor
                    elif place is None and task.actor is None and task.unready <= 0:
                        state = "PENDING_NODE_ASSIGNMENT"  # which most are where there are many
                    else:
                        state, place = self._state_locked(task, running)
                    if selection.of_state and not selection.takes_state(state):
                        continue
                    group[state] += 1
                    if room > 0:
                        room -= 1
                        found.append((task, place, state, group))
            yield
            for count, (task, place, state, group) in enumerate(found, 1):
                row = self._row(task, place, state, offset, detail=detail)
                if not matches(row, selection.of_row):
                    group[state] -= 1
                elif len(rows) < limit:
                    rows.append(row)
                if not count % _ROWS_AT_ONCE:
                    yield
        counts: Counter[tuple[str, ...]] = Counter()
        for which, by_state in groups.items():
            for state, count in (by_state or {}).items():
                if count:
                    counts[*keys[which], state] += count
        return {"rows": rows, "total": sum(counts.values()), "counts": dict(counts)}

    def _shared(self, task: PendingTask) -> dict[str, Any]:
        """Return the columns that all calls by a task's template share."""
        template = task.template
        return {
            "name": template.wire.name,
            "job_id": self._client.job_id.hex(),
            "type": "NORMAL_TASK" if task.actor is None else "ACTOR_TASK",
            "func_or_class_name": template.function_name,
            "cell": template.wire.cell,
        }

    def _state_locked(self, task: Any, running: set[int]) -> tuple[str, Any]:
        """Return a pending task's state, and the lease or actor it is on; `running` are calls of actors."""
        if task.unready > 0:
            return "PENDING_ARGS_AVAIL", task.actor
        actor, lease = task.actor, task.lease
        if actor is not None:
            if task.number not in actor.inflight:
                return "PENDING_NODE_ASSIGNMENT", actor
            waits = task.number not in running
            return "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY" if waits else "RUNNING", actor
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
            **self._shared(task),
            "task_id": client.task_id(task.number).hex(),
            "attempt_number": max(0, template.max_retries - task.retries_left),
            "state": state,
            "actor_id": actor_id.hex() if actor_id else None,
            "parent_task_id": (driver_task(client.job_id) if parent is None else parent.task_id).hex(),
            "node_id": client.node_id.hex() if place is not None else None,
            "worker_id": worker_id.hex() if (worker_id := getattr(place, "worker_id", None)) else None,
            "worker_pid": None,
            "error_type": None,
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
                "runtime_env_info": as_dict(queue.details) if queue is not None else {},
                "placement_group_id": getattr(wire, "group", b"").hex() or None,
                "creation_time_ms": _ms(task.submitted_s + offset),
                "start_time_ms": None,
                "end_time_ms": _ms(task.ended_s + offset) if task.ended_s else None,
                "call_site": f"In[{wire.cell}]" if wire.cell else None,
            }
        return row


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
