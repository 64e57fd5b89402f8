"""Owns what front ends are shown while work runs: counts by cell and function, spans of workers, what is stopped."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from jray._core.engine import Demand, Holder, Span, Stopped, Tally
from jray._core.serialization import deserialize
from jray._core.tallies import TallyBook
from jray.exceptions import TaskCancelledError

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient


class Watching:
    """The counts of this process, and questions to the others: see `jray._core.engine.Watch`."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        self._book = TallyBook()

    def tally(self, cell: int, name: str, *, is_actor_call: bool = False) -> Tally:
        """Return the counts of a function's calls from a cell, which its templates share."""
        return self._book.tally(cell, name, is_actor_call=is_actor_call)

    def tallies(self, cell: int | None = None) -> list[Tally]:
        """Return snapshots of the counts."""
        client = self._client
        with client.lock:
            found = {id(tally): copy for tally, copy in self._book.snapshots(cell)}
            if any(tally.submitted > tally.ended for tally in found.values()):
                for task in [*client.leasing.running_locked(), *client.actors.running_locked()]:
                    tally = found.get(id(task.template.tally))
                    if tally is not None:
                        tally.running += 1
        return list(found.values())

    def errors(self, cell: int, name: str) -> list[BaseException]:
        """Return the errors of a function's calls from a cell, as far as they are remembered, without cancellations."""
        client = self._client
        with client.lock:
            found = [
                task.payload
                for task in client.reports.ended
                if task.payload is not None and _cell_of(task) == cell and task.name == name
            ]
        errors = []
        for blob in found:
            try:
                error = deserialize(blob) if isinstance(blob, bytes) else blob
            except Exception as failure:  # noqa: BLE001 -- whatever a user's class raises
                error = failure
            if isinstance(error, BaseException) and not isinstance(error, TaskCancelledError):
                errors.append(error)
        return errors

    def spans(self, cell: int | None, since_ms: float, resolution_ms: float) -> list[Span]:
        """Ask all workers what they ran; cells of other jobs have the same numbers, and are left out."""
        job_id = None if cell is None else self._client.job_id
        answers, _ = self._client.ask("tell", "spans", (job_id, cell, since_ms, resolution_ms), 0, False)
        rows = [row for answer in answers for row in answer]
        # workers know when they ran a task, and who submitted it knows since when it waited
        submitted = self._client.reports.submitted_ms(row[-1] for row in rows)
        spans = [Span(*row[:-1])._replace(submitted_ms=submitted.get(row[-1])) for row in rows]
        return sorted(spans, key=lambda span: span.start_ms)

    def demands(self) -> list[Demand]:
        """Ask the node what waits for resources."""
        return [
            Demand(name, cell, wanted, reason, tuple(Holder(*holder) for holder in holders))
            for name, cell, wanted, reason, holders in self._client.ask("waiting")
        ]

    def stop(self, cell: int, *, force: bool) -> Stopped:
        """Cancel what a cell has submitted."""
        return Stopped(*self._client.tasks.cancel_all(lambda task: _cell_of(task) == cell, force=force))

    def cancel(self, task_ids: Collection[str] = (), *, name: str | None = None, force: bool) -> Stopped:
        """Cancel tasks: this process's at once, and others' by asking all clients for theirs."""
        client = self._client
        wanted = [bytes.fromhex(task_id) for task_id in task_ids]
        if name is None and all(client.number_of_task(task_id) in client.tasks.pending for task_id in wanted):
            return self.cancel_own(wanted, None, force=force)
        answers, _ = client.ask("cancel", wanted, name, force)
        return Stopped(sum(running for running, _ in answers), sum(waiting for _, waiting in answers))

    def cancel_own(self, task_ids: Iterable[bytes], name: str | None, *, force: bool) -> Stopped:
        """Cancel those that this process has submitted of these tasks and of those of that name."""
        numbers = {self._client.number_of_task(task_id) for task_id in task_ids}
        found = self._client.tasks.cancel_all(
            lambda task: task.number in numbers or (name is not None and task.name == name), force=force
        )
        return Stopped(*found)


def _cell_of(task: Any) -> int:
    cell: int = task.template.wire.cell
    return cell
