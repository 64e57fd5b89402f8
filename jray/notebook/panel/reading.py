"""Owns the questions that the panel puts to an engine: what the cluster told becomes the rows of a tab."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jray._core.engine import Engine, Tally
from jray.notebook.panel import model
from jray.notebook.panel.model import Labels, Snapshot
from jray.notebook.task_logs import TaskLogs

#: most rows that are asked for: the newest, of which durations are taken and which single tasks are shown
_MOST_ENDED = 500
_MOST_SINGLE = 300
_MOST_ROWS = 2000
_MOST_LINES = 200
_LOG_FILES = 12
_LOG_LINES = 10
_TAIL_BYTES = 4096
_MEBIBYTE = 1 << 20


class Reader:
    """Reads tabs, one engine's at a time.  For one thread."""

    def __init__(self, labels: Labels, task_logs: TaskLogs | None = None) -> None:
        self._labels = labels
        self._task_logs = task_logs
        #: the last lines of tasks, by (task id, how much it had written)
        self._lines: dict[tuple[str, int], list[str]] = {}
        #: the last error's line, by (cell, function, how many had failed): unpickled once
        self._errors: dict[tuple[int, str, int], str] = {}
        self._counts: dict[tuple[str, ...], int] = {}
        self._ended: list[dict[str, Any]] = []
        #: how many calls had finished, and the counts, when `_ended` was asked for
        self._finished: tuple[int, dict[tuple[str, ...], int]] | None = None
        self._single: dict[str, list[dict[str, Any]]] = {}
        self._warnings: list[str] = []

    def forget(self) -> None:
        """Begin anew, with another engine."""
        self._errors.clear()
        self._lines.clear()
        self._finished = None
        self._counts, self._ended, self._single, self._warnings = {}, [], {}, []

    def ask_tasks(self, engine: Engine, expanded: Sequence[str]) -> None:
        """Ask every process for its tasks; `tasks` shows what they said.  Costly on a busy cluster."""
        every = engine.cluster.rows("tasks", limit=1)
        # the counts of a process that remembers as much as it can stay the same, but it counts its own for ever
        finished = sum(tally.finished for tally in engine.watch.tallies()), every.counts
        self._counts, self._warnings = every.counts, every.warnings
        if finished != self._finished:
            self._finished = finished
            ended = [("state", "=", "FINISHED")]
            self._ended = engine.cluster.rows("tasks", filters=ended, limit=_MOST_ENDED, detail=True).rows
        self._single = {}
        for key in expanded:
            cell, _, name = key.partition(":")
            of_function = [("name", "=", name)]
            rows = engine.cluster.rows("tasks", filters=of_function, limit=_MOST_ROWS, detail=True).rows
            self._single[key] = [
                row for row in rows if not cell or not row.get("cell") or str(row["cell"]) == cell
            ][:_MOST_SINGLE]

    def tasks(self, engine: Engine, by: str) -> Snapshot:
        """Return the calls: this process's as they are now, others' as of the last `ask_tasks`.  Cheap."""
        tallies = engine.watch.tallies()
        rows = model.task_rows(
            tallies, self._counts, self._ended, self._single, self._error_line, self._labels, by
        )
        notes = [*self._warnings]
        if any(len(single) >= _MOST_SINGLE for single in self._single.values()):
            notes.append(f"Of each function at most {_MOST_SINGLE} tasks are listed, those under way first.")
        return Snapshot("tasks", rows, tuple(notes))

    def actors(self, engine: Engine) -> Snapshot:
        """Return the actors, with what waits for each."""
        actors = engine.cluster.rows("actors", limit=_MOST_ROWS, detail=True)
        queues: Counter[str] = Counter()
        for state in ("PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY", "PENDING_NODE_ASSIGNMENT"):
            filters = [("type", "=", "ACTOR_TASK"), ("state", "=", state)]
            waiting = (
                engine.cluster.rows("tasks", filters=filters, limit=_MOST_ROWS).rows if actors.rows else ()
            )
            queues.update(str(task["actor_id"]) for task in waiting)
        here = engine.node_id.hex()
        pids = [row["pid"] for row in actors.rows if row.get("pid") and row.get("node_id") == here]
        memory = {pid: size for pid in pids if (size := _resident_bytes(pid)) is not None}
        return Snapshot(
            "actors", model.actor_rows(actors.rows, queues, memory, self._labels), _notes("actors", actors)
        )

    def objects(self, engine: Engine) -> Snapshot:
        """Return who holds which objects."""
        objects = engine.cluster.rows("objects", limit=_MOST_ROWS, detail=True)
        tasks = engine.cluster.rows("tasks", limit=_MOST_ROWS).rows if objects.rows else ()
        cells = {str(task["task_id"]): int(task.get("cell") or 0) for task in tasks}
        rows = model.object_rows(objects.rows, cells, self._labels, os.getpid())
        return Snapshot("objects", rows, _notes("references", objects))

    def nodes(self, engine: Engine) -> Snapshot:
        """Return the nodes and what of them is in use."""
        cluster = engine.cluster
        rows = model.node_rows(cluster.nodes(), cluster.resources(), cluster.available())
        return Snapshot("nodes", rows)

    def groups(self, engine: Engine) -> Snapshot:
        """Return the placement groups, removed ones too."""
        groups = engine.cluster.rows("placement_groups", limit=_MOST_ROWS, detail=True)
        return Snapshot("groups", model.group_rows(groups.rows), _notes("placement groups", groups))

    def logs(self, engine: Engine, expanded: Sequence[str]) -> Snapshot:
        """Return what tasks wrote, whole where it is expanded; the last lines of workers where no task's is kept here."""
        tasks = [] if self._task_logs is None else self._task_logs.last_lines(_MOST_SINGLE)
        if self._task_logs is not None and tasks:
            wanted = [task for task, _ in tasks if model.log_key(task.task_id) in expanded]
            self._lines = {
                (task.task_id, task.size_bytes): self._lines.get((task.task_id, task.size_bytes))
                or _lines_of(self._task_logs, task.task_id)
                for task in wanted
            }
            lines = {task_id: found for (task_id, _), found in self._lines.items()}
            notes = []
            if len(tasks) == _MOST_SINGLE:
                notes.append(f"The {_MOST_SINGLE} tasks that wrote last; %jray logs lists more.")
            if any(len(found) == _MOST_LINES for found in lines.values()):
                notes.append(f"The last {_MOST_LINES} lines of each task; %jray logs ID has all of them.")
            return Snapshot("logs", model.task_log_rows(tasks, lines, self._labels), tuple(notes))
        folder = Path(engine.whereabouts().session_dir or os.devnull) / "logs"
        rows = model.log_rows(_tails(folder))
        return Snapshot("logs", rows, () if rows else ("No task has written anything.",))

    def _error_line(self, tally: Tally) -> str:
        key = (tally.cell, tally.name, tally.failed)
        if key not in self._errors:
            if len(self._errors) > _MOST_ROWS:
                self._errors.clear()
            self._errors[key] = _line_of(tally.last_error)
        return self._errors[key]


def _notes(of_what: str, answer: Any) -> tuple[str, ...]:
    notes = list(answer.warnings)
    if answer.total > len(answer.rows):
        notes.append(f"{len(answer.rows):,} of {answer.total:,} {of_what} are listed.")
    return tuple(notes)


def _line_of(error: Any) -> str:
    if isinstance(error, bytes):
        try:
            error = pickle.loads(error)
        except Exception as problem:  # noqa: BLE001 -- the user's classes say what they like when they are made
            return f"an error that cannot be read here ({type(problem).__name__}: {problem})"
    if error is None:
        return ""
    cause = getattr(error, "cause", None) or error
    first = next((line for line in str(cause).splitlines() if line.strip()), "")
    return f"{type(cause).__name__}: {first}" if first else type(cause).__name__


def _lines_of(task_logs: TaskLogs, task_id: str) -> list[str]:
    try:
        log = task_logs.of(task_id, tail=_MOST_LINES)
    except LookupError:  # its session has ended
        return []
    return str(log).splitlines()[-_MOST_LINES:]


def _resident_bytes(pid: int) -> int | None:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    # in whole mebibytes: what flutters below would be news all the time
    return pages * os.sysconf("SC_PAGE_SIZE") // _MEBIBYTE * _MEBIBYTE


def _tails(folder: Path) -> list[tuple[str, list[str]]]:
    """Return the last lines of the files written last, as (file, lines)."""
    try:
        files = [
            (entry.stat().st_mtime, entry.name)
            for entry in os.scandir(folder)
            if entry.name.startswith("worker-") and entry.stat().st_size
        ]
    except OSError:  # no processes, or gone since
        return []
    found = []
    for _, name in sorted(files, reverse=True)[:_LOG_FILES]:
        try:
            with (folder / name).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - _TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()[-_LOG_LINES:]
        except OSError:
            continue
        found.append((name, [line for line in lines if line.strip()]))
    return found
