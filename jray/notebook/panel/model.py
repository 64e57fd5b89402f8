"""Owns what the panel shows, as plain data: rows of each tab, the window a view asks for, and how one becomes the next.

Pure: it is handed what the cluster told, and knows no cluster, thread, widget or time.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jray._core.engine import Tally
from jray.notebook.tables import Column, Table, in_order, matches
from jray.notebook.task_logs import LoggedTask

#: tabs in their order, each with its columns
TABS: dict[str, tuple[Column, ...]] = {
    "tasks": (
        Column("name", "Function"),
        Column("cell", "Cell"),
        Column("states", "States", "states"),
        Column("total", "Calls", "count"),
        Column("duration", "Mean time", "seconds"),
        Column("error", "Last error"),
    ),
    "actors": (
        Column("class", "Class"),
        Column("name", "Name"),
        Column("state", "State"),
        Column("queue", "Queue", "count"),
        Column("memory", "Memory", "bytes"),
        Column("restarts", "Restarts", "count"),
        Column("pid", "pid", "count"),
        Column("cell", "Cell"),
        Column("note", "Why it ended"),
    ),
    "objects": (
        Column("id", "Object"),
        Column("size", "Size", "bytes"),
        Column("reference", "Kind of reference"),
        Column("holder", "Held by"),
        Column("cell", "Cell"),
        Column("where", "Made at"),
    ),
    "nodes": (
        Column("host", "Node"),
        Column("state", "State"),
        Column("cpu", "CPU", "share"),
        Column("gpu", "GPU", "share"),
        Column("memory", "Memory", "share", "bytes"),
        Column("store", "Object store", "share", "bytes"),
    ),
    "groups": (
        Column("id", "Placement group"),
        Column("name", "Name"),
        Column("state", "State"),
        Column("bundles", "Bundles", "count"),
    ),
    "logs": (
        Column("process", "Task or process"),
        Column("cell", "Cell"),
        Column("size", "Wrote", "bytes"),
        Column("line", "Last lines"),
    ),
}
TITLES = {
    "tasks": "Tasks",
    "actors": "Actors",
    "objects": "Objects",
    "nodes": "Nodes",
    "groups": "Placement groups",
    "logs": "Logs",
}
#: most rows that a view gets at once
MOST_ROWS = 300
#: most bytes of one message
MOST_BYTES = 64 * 1024
_LONGEST_TEXT = 300
#: an object's id begins with that of the task that made it
_TASK_ID_DIGITS = 48
_STATES = {"FINISHED": "finished", "FAILED": "failed", "RUNNING": "running"}
#: of a task's states in the order they are drawn
_ORDER = ("failed", "cancelled", "finished", "running", "waiting")
_KINDS = {
    "LOCAL_REFERENCE": "a variable",
    "PINNED_IN_MEMORY": "a view of its memory",
    "USED_BY_PENDING_TASK": "an argument that waits",
    "ACTOR_HANDLE": "an actor's handle",
    "CAPTURED_IN_OBJECT": "inside another object",
}

#: columns that are left out where no row has a value
_OPTIONAL = frozenset(
    {("nodes", "gpu"), ("actors", "note"), ("objects", "where"), ("logs", "cell"), ("logs", "size")}
)

#: the n of In[n], or what else a cell is called; "" for no cell
Labels = Callable[[int], str]
#: JSON: what a view shows; see `view_of`
State = dict[str, Any]
#: JSON: see `diff`
Change = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of a tab."""

    key: str  #: tells it from the others of its tab, also later
    cells: Mapping[str, Any]  #: by the key of the column
    parent: str | None = None  #: key of the row it is shown under
    #: what can be done about it: (verb, on the button, whom it hits)
    actions: tuple[tuple[str, str, str], ...] = ()
    opens: bool = False  #: there are rows under it, told when it is expanded


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """One tab at one moment."""

    tab: str
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()

    def table(self) -> Table:
        """Return the rows that are under no other, to be read at leisure."""
        rows = [row.cells for row in self.rows if row.parent is None]
        return Table(TITLES[self.tab], self.columns(), rows, self.notes)

    def columns(self) -> tuple[Column, ...]:
        """Return the tab's columns, without those that often are empty and are now."""
        return tuple(
            column
            for column in TABS[self.tab]
            if (self.tab, column.key) not in _OPTIONAL or any(row.cells.get(column.key) for row in self.rows)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What a view wants to see."""

    tab: str = "tasks"
    by: str = "function"  #: or "cell": what calls are counted by
    sort: str = ""  #: key of a column; "": as they came
    descending: bool = False
    filter: str = ""
    offset: int = 0
    count: int = 100
    expanded: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Request:
        """Return what the front end asks for.

        Raises:
            ValueError: it names a tab, a grouping or a column that isn't there.
        """
        tab, by, sort = (
            str(given.get("tab", "tasks")),
            str(given.get("by", "function")),
            str(given.get("sort", "")),
        )
        if tab not in TABS:
            raise ValueError(f"The panel has no tab {tab!r}, but {', '.join(TABS)}.")
        if by not in ("function", "cell"):
            raise ValueError(f"Tasks are counted by function or by cell, not by {by!r}.")
        if sort and sort not in {column.key for column in TABS[tab]}:
            raise ValueError(f"The tab {tab!r} has no column {sort!r}.")
        return cls(
            tab=tab,
            by=by,
            sort=sort,
            descending=bool(given.get("descending")),
            filter=str(given.get("filter", "")),
            offset=max(0, int(given.get("offset", 0))),
            count=min(MOST_ROWS, max(1, int(given.get("count", 100)))),
            expanded=tuple(str(key) for key in given.get("expanded", ())),
        )


# --- rows of the tabs ------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class _Group:
    name: str
    cells: set[int]
    states: dict[str, int]
    error: str | None = None
    elapsed_s: float = 0.0
    timed: int = 0

    def add(self, states: Mapping[str, int]) -> None:
        for state, count in states.items():
            self.states[state] = self.states.get(state, 0) + count


def task_rows(
    tallies: Iterable[Tally],
    counts: Mapping[tuple[str, ...], int],
    ended: Iterable[Mapping[str, Any]],
    single: Mapping[str, Sequence[Mapping[str, Any]]],
    errors: Callable[[Tally], str],
    labels: Labels,
    by: str,
) -> tuple[Row, ...]:
    """Return calls counted by function, or by cell, and single ones under those that are expanded.

    What this process submitted is in *tallies*; *counts* tells of other processes' tasks too, by (name, type, state).
    *ended* are tasks that did, with times; *single* those asked for, by the key of the row they belong under.
    """
    groups: dict[str, _Group] = {}

    def group_of(name: str, cell: int | None) -> _Group:
        key = group_key(name, cell, by)
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(name, set(), {})
        if cell is not None:
            group.cells.add(cell)
        return group

    own: set[str] = set()
    for tally in tallies:
        own.add(tally.name)
        group = group_of(tally.name, tally.cell)
        group.add(
            {
                "failed": tally.failed - tally.cancelled,
                "cancelled": tally.cancelled,
                "finished": tally.finished,
                "running": tally.running,
                "waiting": tally.waiting,
            }
        )
        if tally.failed:
            group.error = errors(tally) or group.error
    for (name, _, state), count in counts.items():
        if name not in own:  # submitted by tasks or by other drivers
            group_of(name, None).add({_STATES.get(state, "waiting"): count})
    for task in ended:
        elapsed_s = _elapsed_s(task)
        name = str(task["name"])
        found = groups.get(group_key(name, task.get("cell") if name in own else None, by))
        if found is not None and elapsed_s is not None:
            found.elapsed_s += elapsed_s
            found.timed += 1
    return tuple(_group_rows(groups, single, labels, by))


def _group_rows(
    groups: Mapping[str, _Group], single: Mapping[str, Sequence[Mapping[str, Any]]], labels: Labels, by: str
) -> Iterator[Row]:
    for key, group in groups.items():
        states = {state: group.states[state] for state in _ORDER if group.states.get(state)}
        is_active = bool(states.get("running") or states.get("waiting"))
        cells = sorted(cell for cell in group.cells if cell)
        if by == "cell":
            actions: tuple[tuple[str, str, str], ...] = tuple(
                ("stop-cell", f"Cancel all of {labels(cell)}", str(cell)) for cell in cells
            )
        else:
            actions = (("cancel-function", f"Cancel {group.name}", group.name),)
        yield Row(
            key,
            {
                "name": group.name,
                "cell": _cut(", ".join(filter(None, map(labels, cells)))),
                "states": states,
                "total": sum(states.values()),
                "duration": group.elapsed_s / group.timed if group.timed else None,
                "error": _cut(group.error) if group.error else None,
            },
            actions=actions if is_active else (),
            opens=True,
        )
        for task in single.get(key, ()):
            yield _task_row(task, key, labels)


def _task_row(task: Mapping[str, Any], parent: str, labels: Labels) -> Row:
    task_id, state = str(task["task_id"]), str(task["state"])
    error = task.get("error_message")
    return Row(
        f"task:{task_id}:{task.get('attempt_number', 0)}",
        {
            "name": task_id[:16],
            "cell": labels(task.get("cell") or 0),
            "states": {_STATES.get(state, "waiting"): 1},
            "total": None,
            "duration": _elapsed_s(task),
            "error": _cut(_last_line(str(error))) if error else _reason(state),
        },
        parent=parent,
        actions=() if state in ("FINISHED", "FAILED") else (("cancel-task", "Cancel this task", task_id),),
    )


def group_key(name: str, cell: int | None, by: str) -> str:
    """Return the key of the row that counts calls of a function from a cell."""
    return f"{'' if cell is None else cell}:{name}" if by == "cell" else f":{name}"


def actor_rows(
    actors: Iterable[Mapping[str, Any]],
    queues: Mapping[str, int],
    memory: Mapping[int, int],
    labels: Labels,
) -> tuple[Row, ...]:
    """Return a row for each actor; *queues* are calls without an outcome by actor, *memory* bytes by pid."""
    rows = []
    for actor in actors:
        actor_id, state, pid = str(actor["actor_id"]), str(actor["state"]), actor.get("pid") or None
        is_dead = state == "DEAD"
        shown = f"{actor['class_name']} {actor.get('name') or actor_id[:8]}"
        rows.append(
            Row(
                f"actor:{actor_id}",
                {
                    "class": actor["class_name"],
                    "name": actor.get("name") or actor_id[:8],
                    "state": state.lower(),
                    "queue": None if is_dead else queues.get(actor_id, 0),
                    "memory": None if is_dead or pid is None else memory.get(pid),
                    "restarts": int(actor.get("num_restarts") or 0),
                    "pid": str(pid) if pid else None,
                    "cell": labels(actor.get("cell") or 0),
                    "note": _cut(_death(actor.get("death_cause"))),
                },
                actions=() if is_dead else (("kill", f"Kill {shown}", actor_id),),
            )
        )
    return tuple(rows)


def object_rows(
    objects: Iterable[Mapping[str, Any]], cells: Mapping[str, int], labels: Labels, own_pid: int
) -> tuple[Row, ...]:
    """Return a row for each reference that some process holds to an object, the largest objects first.

    *cells* are those that submitted the tasks that made them, by the task's id.
    """
    rows = []
    seen: dict[str, int] = {}
    for held in objects:
        object_id, kind, size = str(held["object_id"]), str(held["reference_type"]), held.get("object_size")
        holder = f"{str(held.get('type', '')).lower()} pid {held.get('pid')}"
        key = f"object:{object_id}:{held.get('pid')}:{kind}"
        seen[key] = seen.get(key, 0) + 1
        site = str(held.get("call_site") or "")
        is_own = held.get("pid") == own_pid and held.get("is_owner", True) and kind != "ACTOR_HANDLE"
        rows.append(
            Row(
                key if seen[key] == 1 else f"{key}:{seen[key]}",
                {
                    "id": object_id[:16],
                    "size": size if isinstance(size, int) and size >= 0 else None,
                    "reference": _KINDS.get(kind, kind.lower().replace("_", " ")),
                    "holder": "this process" if held.get("pid") == own_pid else holder,
                    "cell": labels(cells.get(object_id[:_TASK_ID_DIGITS], 0)),
                    "where": "" if site == "disabled" else _cut(site),
                },
                actions=(("free", f"Free {object_id[:16]}", object_id),)
                if is_own and held.get("task_status") != "PENDING"
                else (),
            )
        )
    return tuple(sorted(rows, key=lambda row: -(row.cells["size"] or 0)))


def node_rows(
    nodes: Sequence[Mapping[str, Any]], total: Mapping[str, float], available: Mapping[str, float]
) -> tuple[Row, ...]:
    """Return a row for each node; what is in use is known of all of them together only."""

    def share(name: str, of: Mapping[str, float]) -> list[float] | None:
        return [max(0.0, of[name] - available.get(name, 0.0)), of[name]] if of.get(name) else None

    def cells(host: str, state: str, of: Mapping[str, float]) -> dict[str, Any]:
        return {
            "host": host,
            "state": state,
            "cpu": share("CPU", of),
            "gpu": share("GPU", of),
            "memory": share("memory", of),
            "store": share("object_store_memory", of),
        }

    if len(nodes) == 1:
        (node,) = nodes
        return (
            Row(f"node:{node['NodeID']}", cells(_host(node), "alive" if node["Alive"] else "dead", total)),
        )
    rows = [Row("nodes", cells("all nodes", "", total))]
    rows += [
        Row(
            f"node:{node['NodeID']}",
            {"host": _host(node), "state": "alive" if node["Alive"] else "dead"},
        )
        for node in nodes
    ]
    return tuple(rows)


def group_rows(groups: Iterable[Mapping[str, Any]]) -> tuple[Row, ...]:
    """Return a row for each placement group."""
    return tuple(
        Row(
            f"group:{group['placement_group_id']}",
            {
                "id": str(group["placement_group_id"])[:16],
                "name": group.get("name") or "",
                "state": str(group["state"]).lower(),
                "bundles": len(group.get("bundles") or ()),
            },
        )
        for group in groups
    )


def task_log_rows(
    tasks: Iterable[tuple[LoggedTask, str]], lines: Mapping[str, Sequence[str]], labels: Labels
) -> tuple[Row, ...]:
    """Return a row for each task that wrote, and under it its last lines, by the task's id, where they were asked for."""
    rows = []
    for task, last in tasks:
        key = log_key(task.task_id)
        rows.append(
            Row(
                key,
                {
                    "process": f"{task.name} {task.task_id[:8]}",
                    "cell": labels(task.cell),
                    "size": task.size_bytes,
                    "line": _cut(last),
                },
                opens=True,
            )
        )
        rows += [
            Row(f"{key}:{number}", {"line": _cut(line)}, parent=key)
            for number, line in enumerate(lines.get(task.task_id, ()))
        ]
    return tuple(rows)


def log_key(task_id: str) -> str:
    """Return the key of the row of what a task wrote."""
    return f"log:{task_id}"


def log_rows(tails: Iterable[tuple[str, Sequence[str]]]) -> tuple[Row, ...]:
    """Return a row for each of the last lines of some processes: (what it is called, its lines)."""
    return tuple(
        Row(f"log:{name}:{number}", {"process": name, "line": _cut(line)})
        for name, lines in tails
        for number, line in enumerate(lines)
    )


def _host(node: Mapping[str, Any]) -> str:
    return f"{node.get('NodeManagerHostname') or node.get('NodeManagerAddress') or ''} {str(node['NodeID'])[:8]}".strip()


def _elapsed_s(task: Mapping[str, Any]) -> float | None:
    start, end = task.get("start_time_ms"), task.get("end_time_ms")
    return None if start is None or end is None else max(0.0, (end - start) / 1000)


def _reason(state: str) -> str | None:
    return {
        "PENDING_ARGS_AVAIL": "waits for its arguments",
        "PENDING_NODE_ASSIGNMENT": "waits for a worker",
        "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY": "waits for its actor",
    }.get(state)


def _death(cause: Any) -> str:
    if isinstance(cause, Mapping):
        inner = next(iter(cause.values()), None)
        cause = inner.get("error_message", "") if isinstance(inner, Mapping) else inner
    return str(cause).strip().split("\n", 1)[0] if cause else ""


def _last_line(text: str) -> str:
    """Return what a traceback ends with."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


# --- what a view shows -----------------------------------------------------------------------------


def view_of(snapshot: Snapshot, request: Request, ribbon: str = "") -> State:
    """Return the part of a tab that a view asked for, filtered and sorted.

    An expanded row is followed by those under it, wherever it is.
    """
    columns = snapshot.columns()
    children: dict[str, list[Row]] = {}
    for row in snapshot.rows:
        if row.parent is not None:
            children.setdefault(row.parent, []).append(row)
    shown: list[Row] = []
    for row in _sorted([row for row in snapshot.rows if row.parent is None], request, columns):
        under = children.get(row.key, []) if row.key in request.expanded else []
        if not matches(row.cells, columns, request.filter):
            under = [child for child in under if matches(child.cells, columns, request.filter)]
            if not under:
                continue
        shown += [row, *_sorted(under, request, columns)]
    offset = min(request.offset, max(0, len(shown) - request.count))
    window = shown[offset : offset + request.count]
    return {
        "tab": snapshot.tab,
        "columns": [dataclasses.asdict(column) for column in columns],
        "total": len(shown),
        "offset": offset,
        "notes": list(snapshot.notes),
        "ribbon": ribbon,
        "order": [row.key for row in window],
        "rows": {row.key: _json_of(row) for row in window},
    }


def _sorted(rows: list[Row], request: Request, columns: Sequence[Column]) -> list[Row]:
    column = next((column for column in columns if column.key == request.sort), None)
    if column is None:
        return rows
    by_cells = {id(row.cells): row for row in rows}
    ordered = in_order([row.cells for row in rows], column, descending=request.descending)
    return [by_cells[id(cells)] for cells in ordered]


def _json_of(row: Row) -> dict[str, Any]:
    return {
        "cells": {key: value for key, value in row.cells.items() if value is not None},
        "under": row.parent is not None,
        "actions": [list(action) for action in row.actions],
        "opens": row.opens,
    }


def diff(old: State, new: State) -> Change:
    """Return what makes *new* of *old*, empty if they are the same."""
    change: Change = {}
    fields = {
        key: value for key, value in new.items() if key not in ("rows", "order") and old.get(key) != value
    }
    if fields:
        change["fields"] = fields
    known = old.get("rows", {})
    rows = {key: row for key, row in new["rows"].items() if known.get(key) != row}
    if rows:
        change["rows"] = rows
    if old.get("order") != new["order"]:
        change["order"] = new["order"]
    return change


def apply(old: State, change: Change) -> State:
    """Return what *old* becomes; what the front end does, too."""
    order: list[str] = change["order"] if "order" in change else old.get("order", [])
    rows = {**old.get("rows", {}), **change.get("rows", {})}
    return {**old, **change.get("fields", {}), "order": order, "rows": {key: rows[key] for key in order}}


def parts(change: Change, most_bytes: int = MOST_BYTES) -> list[Change]:
    """Return a change as messages of at most so many bytes; all but the last say that more follows.

    A part is to be applied when its last one is there.  One row may not be larger than a message.
    """
    rest = {key: value for key, value in change.items() if key != "rows"}
    room = most_bytes - len(json.dumps(rest)) - 256  # for the envelope
    found: list[Change] = []
    batch: dict[str, Any] = {}
    size = 0
    for key, row in change.get("rows", {}).items():
        length = len(json.dumps({key: row}))
        if batch and size + length > room:
            found.append({"rows": batch, "more": True})
            batch, size = {}, 0
        batch[key] = row
        size += length
    return [*found, {**rest, **({"rows": batch} if batch else {})}]
