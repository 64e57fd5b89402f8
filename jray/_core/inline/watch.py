"""Owns what front ends are shown of the calls in this process: see `jray._core.engine.Watch`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from jray._core.clock import WallClock
from jray._core.engine import Demand, Span, Stopped, Tally
from jray._core.inline.calls import IS_PAUSED, RUNS, Call
from jray._core.inline.local_actor import LocalActor
from jray._core.tallies import TallyBook
from jray._core.worker.spans import span_rows

if TYPE_CHECKING:
    from jray._core.inline.core import InlineClient


class InlineWatch:
    """Counts, spans and demands from the tables of the session, which hold everything that there is."""

    def __init__(self, client: InlineClient) -> None:
        self._client = client
        self._wall = WallClock()
        self._book = TallyBook()

    def tally(self, cell: int, name: str, *, is_actor_call: bool = False) -> Tally:
        """Return the counts of a function's calls from a cell, which its templates share."""
        return self._book.tally(cell, name, is_actor_call=is_actor_call)

    def tallies(self, cell: int | None = None) -> list[Tally]:
        """Return snapshots of the counts; what tasks submit is counted too, for it is submitted here."""
        client = self._client
        with client.lock:
            found = self._book.snapshots(cell)
            snapshots = {id(tally): snapshot for tally, snapshot in found}
            for call in client.pending.values():
                snapshot = snapshots.get(id(call.template.tally))
                if snapshot is not None and _has_begun(call):
                    snapshot.running += 1
        return [snapshot for _, snapshot in found]

    def spans(self, cell: int | None, since_ms: float, resolution_ms: float) -> list[Span]:
        """Return what ran: tasks as if in one worker, the calls of an actor in one for each of its lives."""
        client = self._client
        offset = self._wall.offset_s()
        with client.lock:
            pending = [call for call in client.pending.values() if _has_begun(call)]
        running: dict[tuple[str, str], list[Call]] = defaultdict(list)
        ran: dict[tuple[str, str], list[Call]] = defaultdict(list)
        for call in pending:
            running[self._worker_of(call)].append(call)
        for call in client.cluster.ended_calls():
            if call.started_s:
                ran[self._worker_of(call)].append(call)
        spans = [
            Span(
                worker_id,
                client.pid,
                actor,
                row.name,
                row.cell,
                (row.start_s + offset) * 1000,
                None if row.end_s is None else (row.end_s + offset) * 1000,
                row.calls,
                row.failed,
                row.busy_s * 1000,
                submitted_ms=(row.first.submitted_s + offset) * 1000,
            )
            for worker_id, actor in dict.fromkeys([*ran, *running])
            for row in span_rows(
                running[worker_id, actor],
                ran[worker_id, actor],
                cell,
                since_ms / 1000 - offset,
                resolution_ms / 1000,
            )
        ]
        return sorted(spans, key=lambda span: span.start_ms)

    def _worker_of(self, call: Call) -> tuple[str, str]:
        """Return what would be the worker's id, and the class of its actor."""
        life = call.life
        if life is None:
            return self._client.worker_id.hex(), ""
        return life.worker_id.hex(), life.actor.spec.class_name

    def demands(self) -> list[Demand]:
        """Return the tasks and actors that wait for resources."""
        wanted: dict[tuple[str, int, str], int] = {}
        for job, reason in self._client.turns.waiting():
            name = f"actor {job.name}" if isinstance(job, LocalActor) else job.name
            key = name, job.cell, reason
            wanted[key] = wanted.get(key, 0) + 1
        return [Demand(name, cell, count, reason) for (name, cell, reason), count in wanted.items()]

    def stop(self, cell: int, *, force: bool) -> Stopped:
        """Cancel a cell's calls.

        There is no process to end, so *force* changes nothing: what runs in this very thread comes to its end, told by
        `is_canceled()`; what else waits, is paused or is a coroutine ends now.
        """
        del force
        return self._cancel(lambda call: call.template.cell == cell)

    def cancel(self, task_ids: Collection[str] = (), *, name: str | None = None, force: bool) -> Stopped:
        """Cancel calls by their ids or their name, as `stop` does a cell's."""
        del force
        wanted = {bytes.fromhex(task_id) for task_id in task_ids}
        return self._cancel(
            lambda call: (
                call.template.tally is not None  # no constructor, which has no row either
                and (call.task_id in wanted or (name is not None and call.name == name))
            )
        )

    def _cancel(self, is_meant: Callable[[Call], bool]) -> Stopped:
        client = self._client
        with client.lock:
            # the newest first: what waits for others' results goes before these do
            calls = [call for call in reversed(client.pending.values()) if is_meant(call)]
        running = sum(map(_has_begun, calls))
        for call in calls:
            if not call.is_done:
                client.cancel_call(call, recursive=True)
        return Stopped(running, len(calls) - running)


def _has_begun(call: Call) -> bool:
    return call.phase in {RUNS, IS_PAUSED} and bool(call.started_s)
