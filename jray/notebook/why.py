"""Owns `%jray why`: the reason why something is not done, in a sentence that says what to do or wait for."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from typing import Any

from IPython.core.error import UsageError

from jray._core.refs import PENDING, ObjectRef
from jray.actor import ActorHandle
from jray.notebook.arguments import option
from jray.notebook.cancelling import pending_refs, tasks_beginning_with
from jray.notebook.context import Context, closest
from jray.notebook.holders import held_in
from jray.notebook.inventory import actor_rows, amounts, cause_of_death, duration_ms, error_of, task_rows
from jray.notebook.listing import Column, Listing, count, human_time, is_cut
from jray.notebook.memory import referred

WHY_OPTIONS = (
    option(
        "what",
        nargs="*",
        metavar="REF|TASK",
        completes="refs",
        help="a variable that holds ObjectRefs or an actor, as in refs[3], a function, or the beginning of a task's id; "
        "without it: everything that waits.",
    ),
)
_DONE = frozenset({"finished", "failed"})
#: actors that are not there yet, or not again
_COMING = frozenset({"pending", "restarting"})
_MOST_NAMED = 4


def why(context: Context, arguments: argparse.Namespace) -> Listing:
    """Return what is asked about, and what it waits for."""
    context.engine()
    facts = Facts.ask(context)
    if not arguments.what:
        rows = [row for row in facts.tasks if row["status"] not in _DONE]
        actors = [row for row in facts.actors.values() if row["status"] in _COMING]
        return _listing(context, facts, rows, actors)
    # one expression with spaces in it, or several names
    whole = " ".join(arguments.what)
    found = _about(context, facts, whole)
    several = [] if found is not None else [_about(context, facts, word) for word in arguments.what]
    if found is None and None in several:
        names = {row["name"] for row in facts.tasks}
        what = arguments.what[several.index(None)]
        raise UsageError(
            f"{what!r} is no variable with ObjectRefs or an actor, no function of a task, and no beginning of a task's id"
            f"{closest(what, names) or '.'} %jray tasks --all lists tasks with their ids."
        )
    parts = [part for part in (found, *several) if part is not None]
    return _listing(
        context,
        facts,
        [row for tasks, _ in parts for row in tasks],
        [row for _, actors in parts for row in actors],
    )


def _about(
    context: Context, facts: Facts, what: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """Return the tasks and actors that *what* means; None: it means none."""
    value = referred(context, what)
    if isinstance(value, ActorHandle):
        row = facts.actors.get(value._actor_id.hex())
        return [], [_unknown_actor(value) if row is None else row]
    if value is not None and (refs := list(held_in(value, ObjectRef))):
        wanted = {ref.task_id().hex() for ref in refs}
        rows = [row for row in facts.tasks if row["task_id"] in wanted]
        known = {row["task_id"] for row in rows}
        return rows + [_bare_row(ref) for ref in refs if ref.task_id().hex() not in known], []
    rows = [row for row in facts.tasks if what in (row["name"], row["func_or_class_name"])]
    rows = rows or tasks_beginning_with(facts.tasks, what)
    return (rows, []) if rows else None


def _bare_row(ref: ObjectRef[Any]) -> dict[str, Any]:
    """Return what is known of an object that no task of the tables makes: put, borrowed, or long done."""
    status = "waiting" if ref._state == PENDING else "failed" if ref.status() == "FAILED" else "finished"
    return {
        "task_id": ref.task_id().hex(), "name": "an object", "cell": "", "status": status, "state": "NIL",
        "actor_id": None, "type": "", "error_message": str(ref.exception()) if status == "failed" else None,
    }  # fmt: skip


def _unknown_actor(handle: ActorHandle) -> dict[str, Any]:
    return {
        "actor_id": handle._actor_id.hex(), "class_name": handle._jray_meta.class_name, "cell": "", "status": "unknown",
        "calls": 0,
    }  # fmt: skip


def _listing(
    context: Context, facts: Facts, tasks: list[dict[str, Any]], actors: list[dict[str, Any]]
) -> Listing:
    groups: Counter[tuple[str, str, str, str]] = Counter()
    for row in actors:
        groups[f"actor {row['class_name']}", row["cell"], row["status"], facts.why_actor(row)] += 1
    for row in tasks:
        groups[
            f"{row['name']}()" if row["type"] else row["name"],
            row["cell"],
            row["status"],
            facts.why_task(row),
        ] += 1
    rows: list[dict[str, Any]] = [
        {"what": what, "cell": cell, "status": status, "count": number, "reason": reason}
        for (what, cell, status, reason), number in groups.items()
    ]
    columns = (
        Column("what"),
        Column("cell"),
        Column("count", "", is_number=True, show=lambda n: f"x {n}" if n > 1 else ""),
        Column("status", "state"),
        Column("reason", "why"),
    )
    open_ones = sum(row["status"] not in _DONE for row in tasks) + sum(
        row["status"] in _COMING for row in actors
    )
    if open_ones:
        title = f"{open_ones} not done"
    elif tasks:
        title = "All done."
    else:
        title = count(len(actors), "actor") if actors else "Nothing waits."
    notes = [f"{row['what']}: {row['reason']}" for row in rows if is_cut(row["reason"])]
    return Listing(title, columns, rows, tuple(notes), context.is_deterministic())


@dataclasses.dataclass(slots=True)
class Facts:
    """What is known of tasks and actors at one moment, and what follows from it."""

    tasks: list[dict[str, Any]]
    actors: dict[str, dict[str, Any]]
    demands: dict[tuple[str, int], str]  #: (name, cell number) -> what it waits for
    refs: dict[str, list[ObjectRef[Any]]]  #: task id -> its refs in this process
    is_deterministic: bool

    @classmethod
    def ask(cls, context: Context) -> Facts:
        engine = context.engine()
        rows, _ = task_rows(context, detail=True)
        return cls(
            rows,
            {row["actor_id"]: row for row in actor_rows(context)},
            {(demand.name, demand.cell): demand.reason for demand in engine.watch.demands()},
            pending_refs(engine),
            context.is_deterministic(),
        )

    # -- tasks ------------------------------------------------------------------------------------

    def why_task(self, row: dict[str, Any]) -> str:
        """Return what a task waits for, or what it does, or how it ended."""
        if row["status"] == "finished":
            return "it is done"
        if row["status"] == "failed":
            return self._failure(row)
        if row["status"] == "running":
            return self._running(row)
        if row["state"] == "PENDING_ARGS_AVAIL":
            return self._arguments(row)
        if row["actor_id"]:
            return self._queue_of_actor(row)
        if row["state"] == "SUBMITTED_TO_WORKER":
            return "it is next on a worker, when what runs there ends"
        if row["state"] == "NIL":
            return "another process makes it, and only that one could tell more"
        return self._resources(row)

    def _failure(self, row: dict[str, Any]) -> str:
        return f"it failed: {error_of(row) or 'get() raises its error'}"

    def _running(self, row: dict[str, Any]) -> str:
        where, since = "", ""
        if not self.is_deterministic:
            where = f" in process {row['worker_pid']}" if row.get("worker_pid") else ""
            took = duration_ms(row)
            since = f" for {human_time(took)}" if took is not None else ""
        if row["state"] == "RUNNING":
            return f"it runs{since}{where}"
        children = [
            child for child in self.tasks
            if child.get("parent_task_id") == row["task_id"] and child["status"] not in _DONE
        ]  # fmt: skip
        awaited = self._named(children)
        return f"it runs{since}{where}, and waits in jray.get" + (f" for {awaited}" if awaited else "")

    def _arguments(self, row: dict[str, Any]) -> str:
        by_id = {task["task_id"]: task for task in self.tasks}
        waiting: dict[str, dict[str, Any]] = {}
        unknown = 0
        for ref in self.refs.get(row["task_id"], ()):
            # the engines' record of the task; of an engine that keeps none nothing more is known
            for argument in getattr(ref._data, "dependencies", None) or ():
                if argument._state != PENDING:
                    continue
                task = by_id.get(argument.task_id().hex())
                if task is None:
                    unknown += 1
                else:
                    waiting[task["task_id"]] = task
        named = self._named(list(waiting.values()))
        if unknown:
            named += f"{' and ' if named else ''}{count(unknown, 'object')} of other processes"
        return f"it waits for its arguments: {named}" if named else "it waits for its arguments"

    def _named(self, rows: list[dict[str, Any]]) -> str:
        """Return ``f() In[3] (running), 2 x g() (waiting)``."""
        found = Counter((row["name"], row["cell"], row["status"]) for row in rows)
        parts = [
            f"{f'{number} x ' if number > 1 else ''}{name}(){f' {cell}' if cell else ''} ({status})"
            for (name, cell, status), number in list(found.items())[:_MOST_NAMED]
        ]
        if len(found) > _MOST_NAMED:
            parts.append(f"and {len(found) - _MOST_NAMED} more")
        return ", ".join(parts)

    def _resources(self, row: dict[str, Any]) -> str:
        wanted = row.get("required_resources") or {}
        reason = self.demands.get((row["name"], row["cell_number"])) or self._like(wanted)
        if reason is None:
            asked = amounts(wanted)
            reason = f"it waits for a worker with {asked}" if asked else "it waits for a worker"
        return f"{reason}{self._holders(set(wanted))}"

    def _like(self, wanted: dict[str, float]) -> str | None:
        """Return what another waits for that wants the same: tasks of one kind ask for workers together."""
        for task in self.tasks:
            reason = self.demands.get((task["name"], task["cell_number"]))
            if (
                reason is not None
                and task["status"] == "waiting"
                and task.get("required_resources") == wanted
            ):
                return reason
        return None

    def _holders(self, names: set[str]) -> str:
        """Return `` (held by f() In[3] (running), actor Trainer)`` for resources."""
        running = [
            row for row in self.tasks
            if row["status"] == "running" and names & set(row.get("required_resources") or ())
            and row["state"] == "RUNNING"
        ]  # fmt: skip
        holders = [self._named(running)] if running else []
        found = Counter(
            (row["class_name"], row["cell"])
            for row in self.actors.values()
            if row["status"] in {"alive", "restarting"}
            and any((row.get("required_resources") or {}).get(name) for name in names)
        )
        holders += [
            f"{f'{number} x ' if number > 1 else ''}actor {name}{f' {cell}' if cell else ''}"
            for (name, cell), number in found.items()
        ]
        return f" (held by {', '.join(holders)})" if holders else ""

    # -- actors -----------------------------------------------------------------------------------

    def _queue_of_actor(self, row: dict[str, Any]) -> str:
        actor = self.actors.get(row["actor_id"])
        if actor is None:
            return "it waits for its actor, of which nothing is known"
        name = f"actor {actor['class_name']}"
        if actor["status"] == "dead":
            return f"its {name} is dead: {actor['why_dead'] or 'nobody knows why'}"
        if actor["status"] != "alive":
            return f"its {name} is {actor['status']}: {self.why_actor(actor)}"
        before = sum(
            other["actor_id"] == row["actor_id"]
            and other["status"] in {"waiting", "running"}
            and (other.get("creation_time_ms") or 0) < (row.get("creation_time_ms") or 0)
            for other in self.tasks
        )
        if before:
            return f"{count(before, 'call')} of the {name} {'comes' if before == 1 else 'come'} before it"
        return f"it is on its way to the {name}"

    def why_actor(self, row: dict[str, Any]) -> str:
        """Return why an actor is what it is."""
        if row["status"] == "alive":
            return f"it is alive, with {count(row['calls'], 'call')} to do"
        if row["status"] == "dead":
            return f"it is dead: {cause_of_death(row) or 'nobody knows why'}"
        if row["status"] == "unknown":
            return "this cluster does not know it: it was of an earlier one, or died long ago"
        reason = next(
            (reason for (name, _), reason in self.demands.items() if name == f"actor {row['class_name']}"),
            None,
        )
        if reason is not None:
            return f"{reason}{self._holders(set(row.get('required_resources') or ()) or {'CPU'})}"
        return "its process starts, or its constructor runs"
