"""Owns what front ends are shown of this process's calls on a Ray cluster: see `jray._core.engine.Watch`.

Ray keeps no counts by cell, so the adapter does: a weak reference to what each call gave its caller, and Ray is asked
which of these are ready when somebody looks.  What the caller dropped meanwhile counts as finished, for nobody can ask
for it any more.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
from ray.experimental import get_local_object_locations

from jray._core.engine import Demand, Span, Stopped, Tally
from jray._core.generator import ObjectRefGenerator
from jray._core.on_ray.errors import translated
from jray._core.refs import ObjectRef
from jray._core.resources import ResourceSet
from jray._core.tallies import TallyBook
from jray._core.worker.spans import span_rows
from jray.exceptions import RaySystemError, TaskCancelledError

if TYPE_CHECKING:
    from jray._core.on_ray.engine import RayEngine

#: calls whose cell is remembered, which is as many as Ray tells of
_MOST_CELLS = 10_000
#: bytes of an object's id that are its task's
_TASK_ID_BYTES = 24


class _Submitted:
    """A call that had no outcome when it was last looked at."""

    __slots__ = ("made", "request", "tally")

    def __init__(self, tally: Tally, made: Any, request: ResourceSet | None) -> None:
        self.tally = tally
        #: weakly: a ref of jray's, or a stream
        self.made = weakref.ref(made)
        #: None: of an actor, whose calls wait for no resources
        self.request = request


@dataclass(frozen=True, slots=True)
class _Ran:
    """A row of Ray's state API as `span_rows` takes it."""

    number: int
    name: str
    template: Tally  #: has the cell
    started_s: float
    ended_s: float
    has_failed: bool
    submitted_ms: float | None
    ready_s: float = 0.0  #: Ray does not say


class RayWatch:
    """Counts by weak references; spans from Ray's state API."""

    def __init__(self, engine: RayEngine) -> None:
        self._engine = engine
        self._book = TallyBook()
        self._lock = threading.Lock()
        self._submitted: list[_Submitted] = []
        #: cells by the id of the task
        self._cells: OrderedDict[bytes, int] = OrderedDict()

    # -- counting -----------------------------------------------------------------------------------

    def tally(self, cell: int, name: str, *, is_actor_call: bool = False) -> Tally:
        """Return the counts of a function's calls from a cell, which its templates share."""
        return self._book.tally(cell, name, is_actor_call=is_actor_call)

    def submitted(self, tally: Tally, result: Any, request: ResourceSet | None) -> Any:
        """Count a call by what its caller gets, and return that; without returns Ray tells nothing of its end."""
        made = result[0] if isinstance(result, list) else result
        if isinstance(made, ObjectRefGenerator):
            made = made._stream
        with self._lock:
            tally.submitted += 1
            if made is None:
                tally.finished += 1
                return result
            self._submitted.append(_Submitted(tally, made, request))
            if tally.cell:
                self._cells[_task_id(made)] = tally.cell
                if len(self._cells) > _MOST_CELLS:
                    self._cells.popitem(last=False)
            if not len(self._submitted) % _MOST_CELLS:
                self._forget_dropped()
        return result

    def _forget_dropped(self) -> None:
        """Count what nobody can ask for any more; the lock is held."""
        left = []
        for call in self._submitted:
            if call.made() is None:
                call.tally.finished += 1
            else:
                left.append(call)
        self._submitted = left

    def look(self) -> None:
        """Count what has ended since the last look: one question to Ray, which answers at once."""
        with self._lock:
            self._forget_dropped()
            held = [(call, made) for call in self._submitted if (made := call.made()) is not None]
            probes = {id(call): _probe(made) for call, made in held}
            wanted = list({probe for probe in probes.values() if probe is not None})
            ready = set()
            if wanted:
                found, _ = ray.wait(wanted, num_returns=len(wanted), timeout=0, fetch_local=False)
                ready = set(found)
            ended = {
                id(call): probes[id(call)]
                for call, made in held
                if probes[id(call)] in ready or (probes[id(call)] is None and made.is_finished())
            }
            errors = self._errors([probe for probe in ended.values() if probe is not None])
            for call, _ in held:
                if id(call) in ended:
                    _count(call.tally, errors.get(ended[id(call)]))
            self._submitted = [call for call in self._submitted if id(call) not in ended]

    def _errors(self, ready: list[Any]) -> dict[Any, BaseException]:
        """Return the errors among these.

        They are small, and so in this process's memory already: what is somewhere in a store is a value, and left there.
        A client by ray:// has no such memory, and learns of failures only as it gets them.
        """
        if self._engine.is_remote_client or not ready:
            return {}
        errors: dict[Any, BaseException] = {}
        places = get_local_object_locations(ready)
        for rays in ready:
            if places.get(rays, {}).get("node_ids"):
                continue
            try:
                ray.get(rays, timeout=0)
            except ray.exceptions.GetTimeoutError:
                continue
            except Exception as error:  # noqa: BLE001 -- of any class of the user's
                errors[rays] = translated(error)
        return errors

    def failed(self, ref: ObjectRef[Any], error: BaseException) -> None:
        """Count the failure of a call that its caller has just got."""
        with self._lock:
            for index, call in enumerate(self._submitted):
                if call.made() is ref:
                    del self._submitted[index]
                    _count(call.tally, error)
                    return

    # -- what is asked ------------------------------------------------------------------------------

    def tallies(self, cell: int | None = None) -> list[Tally]:
        """Return snapshots; `running` is always 0, for Ray tells no owner which of its tasks have begun."""
        self.look()
        return [snapshot for _, snapshot in self._book.snapshots(cell)]

    def spans(self, cell: int | None, since_ms: float, resolution_ms: float) -> list[Span]:
        """Ask Ray's state API, of at most 10 000 tasks and a second late; [] where there is no dashboard to ask."""
        job = self._engine.job_id.hex()
        try:
            rows = self._engine.cluster.rows("tasks", filters=[("job_id", "=", job)], detail=True).rows
        except RaySystemError:
            return []
        cells = self._cells_of(rows)
        ran: dict[tuple[str, int, str], list[_Ran]] = defaultdict(list)
        running: dict[tuple[str, int, str], list[_Ran]] = defaultdict(list)
        for row in rows:
            of_cell = cells.get(row["task_id"], 0)
            start, end = row["start_time_ms"], row["end_time_ms"]
            if not start or row["type"] == "ACTOR_CREATION_TASK" or cell not in (None, of_cell):
                continue
            actor = row["func_or_class_name"].partition(".")[0] if row["type"] == "ACTOR_TASK" else ""
            worker = row["worker_id"] or "", row["worker_pid"] or 0, actor
            made = _Ran(
                1,
                row["name"],
                Tally(of_cell, row["name"]),
                start / 1000,
                (end or 0) / 1000,
                row["state"] == "FAILED",
                row.get("creation_time_ms") or None,
            )
            (ran if end else running)[worker].append(made)
        spans = [
            Span(
                worker_id,
                pid,
                actor,
                row.name,
                row.cell,
                row.start_s * 1000,
                None if row.end_s is None else row.end_s * 1000,
                row.calls,
                row.failed,
                row.busy_s * 1000,
                submitted_ms=row.first.submitted_ms,
            )
            for worker_id, pid, actor in dict.fromkeys([*ran, *running])
            for row in span_rows(
                running[worker_id, pid, actor],
                sorted(ran[worker_id, pid, actor], key=lambda made: made.ended_s),
                cell,
                since_ms / 1000,
                resolution_ms / 1000,
            )
        ]
        return sorted(spans, key=lambda span: span.start_ms)

    def _cells_of(self, rows: Iterable[dict[str, Any]]) -> dict[str, int]:
        """Return the cell of each task: that from which it, or what submitted it, was submitted here."""
        with self._lock:
            found = {task_id.hex(): cell for task_id, cell in self._cells.items()}
        parents = {row["task_id"]: row["parent_task_id"] for row in rows}
        for task_id in parents:
            path = []
            at: str | None = task_id
            while at is not None and at not in found and at in parents and at not in path:
                path.append(at)
                at = parents[at]
            for each in path:
                found[each] = found.get(at or "", 0)
        return found

    def demands(self) -> list[Demand]:
        """Return what certainly waits of this process's tasks: more are out than fit into the cluster at once.

        What actors wait for, and other processes, Ray tells nobody but its dashboard.
        """
        self.look()
        total = {
            name: round(quantity * 10_000) for name, quantity in self._engine.cluster.resources().items()
        }
        waiting: dict[int, list[_Submitted]] = defaultdict(list)
        with self._lock:
            for call in self._submitted:
                if call.request is not None:
                    waiting[id(call.tally)].append(call)
        demands = []
        for calls in waiting.values():
            tally, request = calls[0].tally, calls[0].request
            assert request is not None
            units = dict(request.items())
            if not units:
                continue
            name, fit = min(
                ((name, total.get(name, 0) // amount) for name, amount in units.items()),
                key=lambda pair: pair[1],
            )
            if len(calls) > fit:
                has = total.get(name, 0) / 10_000
                reason = f"needs {units[name] / 10_000:g} {name}, the cluster has {has:g}"
                demands.append(Demand(tally.name, tally.cell, len(calls) - fit, reason))
        return demands

    def stop(self, cell: int, *, force: bool) -> Stopped:
        """Cancel a cell's calls; Ray does not say which of them ran, so all count as running."""
        found = self._held(lambda call, _: call.tally.cell == cell)
        self._cancel(found, force=force)
        return Stopped(len(found), 0)

    def cancel(self, task_ids: Collection[str] = (), *, name: str | None = None, force: bool) -> Stopped:
        """Cancel what this process has a ref of: Ray cancels by these alone, and by name it is what was submitted here.

        Raises NotImplementedError if there is no ref of one of these ids, after it has cancelled the others.
        """
        wanted = {bytes.fromhex(task_id) for task_id in task_ids}
        found = self._held(
            lambda call, task_id: task_id in wanted or (name is not None and call.tally.name == name)
        )
        missing = wanted - found.keys()
        if missing:
            found |= self._arrived(missing)
            missing -= found.keys()
        self._cancel(found, force=force)
        if missing:
            some = ", ".join(sorted(task_id.hex()[:16] for task_id in missing)[:3])
            raise NotImplementedError(
                f"Ray cancels a task by its ObjectRef only, and this process has none of {some}"
                f"{f' and {len(missing) - 3} more' * (len(missing) > 3)}: what has not ended is to be cancelled where it "
                "was submitted."
            )
        return Stopped(len(found), 0)

    def _held(self, is_meant: Callable[[_Submitted, bytes], bool]) -> dict[bytes, tuple[Any, bool]]:
        """Return calls without an outcome: by task id, what the caller got, and whether it may be forced."""
        self.look()
        found = {}
        with self._lock:
            # the newest first: what waits for others' results goes before these do
            for call in reversed(self._submitted):
                made = call.made()
                if made is not None and is_meant(call, task_id := _task_id(made)):
                    found[task_id] = made, not call.tally.is_actor_call
        return found

    def _arrived(self, task_ids: Collection[bytes]) -> dict[bytes, tuple[Any, bool]]:
        """Return the same for refs that this process was given, and for further returns of its own calls."""
        refs = {
            ref._id[:_TASK_ID_BYTES]: ref
            for ref in gc.get_objects()
            if type(ref) is ObjectRef and ref._client is self._engine and ref._id[:_TASK_ID_BYTES] in task_ids
        }
        if not refs:
            return {}
        _, pending = ray.wait(
            [ref._data for ref in refs.values()], num_returns=len(refs), timeout=0, fetch_local=False
        )
        return {task_id: (ref, True) for task_id, ref in refs.items() if ref._data in pending}

    def _cancel(self, found: Mapping[bytes, tuple[Any, bool]], *, force: bool) -> None:
        for made, may_be_forced in found.values():
            cancel = (
                partial(self._engine.cancel, made, recursive=True)
                if isinstance(made, ObjectRef)
                else partial(made.cancel, recursive=True)
            )
            try:
                cancel(force=force and may_be_forced)
            except ValueError:  # a call of an actor, as it turns out, which is never forced
                cancel(force=False)


def _task_id(made: Any) -> bytes:
    if isinstance(made, ObjectRef):
        return made._id[:_TASK_ID_BYTES]
    task_id: bytes = made.task_id()
    return task_id


def _probe(made: Any) -> Any:
    """Return Ray's ref that is ready once the call has ended; None: the stream itself knows."""
    return made._data if isinstance(made, ObjectRef) else made.completed()


def _count(tally: Tally, error: BaseException | None) -> None:
    if error is None:
        tally.finished += 1
        return
    tally.failed += 1
    if isinstance(error, TaskCancelledError):
        tally.cancelled += 1
    else:
        tally.last_error = error.with_traceback(None)
