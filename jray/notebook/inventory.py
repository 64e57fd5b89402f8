"""Owns the commands that list what a cluster has: tasks, actors, objects, nodes."""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from IPython.core.error import UsageError

from jray._core.engine import Rows
from jray._core.refs import ObjectRef
from jray._core.sketch import human_size
from jray.notebook.arguments import amount, option, unquote
from jray.notebook.context import Context, closest
from jray.notebook.holders import holders_of, viewers_of
from jray.notebook.lines import line_label
from jray.notebook.listing import Column, Listing, count, human_time

_WAITING = frozenset(
    {
        "PENDING_ARGS_AVAIL",
        "PENDING_NODE_ASSIGNMENT",
        "PENDING_OBJ_STORE_MEM_AVAIL",
        "PENDING_ARGS_FETCH",
        "SUBMITTED_TO_WORKER",
        "PENDING_ACTOR_TASK_ARGS_FETCH",
        "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY",
    }
)
_RUNNING = frozenset({"RUNNING", "RUNNING_IN_RAY_GET", "RUNNING_IN_RAY_WAIT"})
#: Ray's states as people say them
STATES: dict[str, frozenset[str]] = {
    "waiting": _WAITING,
    "running": _RUNNING,
    "finished": frozenset({"FINISHED"}),
    "failed": frozenset({"FAILED"}),
}
_MOST_ROWS = 10_000
_ID_DIGITS = 8

ID = Column("id", show=lambda text: text[:_ID_DIGITS], varies=True)
CELL = Column("cell")

LIMIT = option("--limit", metavar="N", type=int, default=50, help="rows to show (default: 50).")
TASK_OPTIONS = (
    option(
        "--state",
        metavar="STATE",
        choices=[*STATES, *sorted({state for found in STATES.values() for state in found})],
        completes="states",
        help="waiting, running, finished, failed, or one of Ray's names of states.",
    ),
    option(
        "--name", metavar="NAME", type=unquote, completes="functions", help="those of this function or name."
    ),
    option(
        "--cell", metavar="In[n]", type=unquote, completes="cells", help="those that this cell submitted."
    ),
    option("--failed", action="store_true", help="those that failed, each with its error."),
    option("--all", action="store_true", help="a row for each task, not for each function and cell."),
    LIMIT,
)
ACTOR_OPTIONS = (
    option(
        "--state",
        metavar="STATE",
        choices=["alive", "pending", "restarting", "dead"],
        completes="actor states",
        help="alive, pending, restarting or dead (default: all but dead).",
    ),
    option("--name", metavar="NAME", type=unquote, completes="actors", help="those of this class or name."),
    LIMIT,
)
OBJECT_OPTIONS = (
    option("--all", action="store_true", help="also those without a value yet, and empty ones."),
    option("--min-size", metavar="MB", type=amount, default=0, help="those of at least this many megabytes."),
    LIMIT,
)


def state_of(row: dict[str, Any]) -> str:
    """Return waiting, running, finished or failed."""
    return next(
        (word for word, states in STATES.items() if row["state"] in states), str(row["state"]).lower()
    )


def ask(context: Context, kind: str, *, detail: bool = False) -> Rows:
    """Return the rows of a kind.  Raises RaySystemError where the engine can't tell."""
    return context.engine().cluster.rows(kind, limit=_MOST_ROWS, detail=detail)


def cell_label(context: Context, row: dict[str, Any]) -> str:
    """Return ``In[3]`` for what this notebook submitted; "" for what others did."""
    is_ours = row.get("job_id") == context.engine().job_id.hex()
    return context.cells.label(row.get("cell") or 0) if is_ours else ""


def task_rows(context: Context, *, detail: bool = False) -> tuple[list[dict[str, Any]], list[str]]:
    """Return (rows of tasks with `cell` as a label and `status` in a word, what is missing)."""
    answer = ask(context, "tasks", detail=detail)
    rows = [
        {
            **row,
            "id": row["task_id"],
            "status": state_of(row),
            "cell_number": row.get("cell") or 0,
            "cell": cell_label(context, row),
        }
        for row in answer.rows
    ]
    notes = list(answer.warnings)
    if answer.total > len(rows):
        notes.append(f"Only the first {len(rows)} of {answer.total} tasks were looked at.")
    return rows, notes


# -- tasks ----------------------------------------------------------------------------------------------


def list_tasks(context: Context, arguments: argparse.Namespace) -> Listing:
    """Return the tasks, grouped by function and cell unless single ones are asked for."""
    rows, notes = task_rows(context, detail=True)
    rows = _matching(context, rows, arguments)
    has_singles = arguments.all or arguments.failed or arguments.state == "failed"
    title = f"{count(len(rows), 'task')}: {_totals(rows)}" if rows else "No tasks."
    if has_singles:
        return _singles(context, title, rows, arguments.limit, notes)
    groups = _groups(rows)
    shown = groups[: arguments.limit]
    if len(shown) < len(groups):
        notes.append(f"{len(groups) - len(shown)} more functions and cells: --limit N shows them.")
    columns = (
        Column("name", "function"),
        CELL,
        *(Column(word, is_number=True, show=lambda n: str(n or "")) for word in STATES),
        Column("typical_ms", "typical time", show=human_time, is_number=True, varies=True),
    )
    return Listing(title, columns, shown, tuple(notes), context.is_deterministic())


def _matching(
    context: Context, rows: list[dict[str, Any]], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    if arguments.failed and arguments.state not in {None, "failed", "FAILED"}:
        raise UsageError(f"--failed and --state {arguments.state} leave no task; give one of them.")
    wanted = "failed" if arguments.failed else arguments.state
    if wanted is not None:
        states = STATES.get(wanted, frozenset({wanted}))
        rows = [row for row in rows if row["state"] in states]
    if arguments.name is not None:
        known = {row["name"] for row in rows} | {row["func_or_class_name"] for row in rows}
        if arguments.name not in known:
            raise UsageError(
                f"There is no task of the name {arguments.name!r}{closest(arguments.name, known) or '.'}"
            )
        rows = [row for row in rows if arguments.name in (row["name"], row["func_or_class_name"])]
    if arguments.cell is not None:
        numbers = context.cell_numbers(arguments.cell)
        if numbers is None:
            raise UsageError(f"--cell {arguments.cell}: give a cell as In[3] or 3.")
        rows = [row for row in rows if row["cell_number"] in numbers and row["cell"]]
    return rows


def _totals(rows: Iterable[dict[str, Any]]) -> str:
    found = Counter(row["status"] for row in rows)
    return ", ".join(
        f"{found[word]} {word}" for word in [*STATES, *sorted(set(found) - set(STATES))] if found[word]
    )


def _groups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each function and cell; what is not done comes first, then the newest cell."""
    members: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        members.setdefault((row["name"], row["cell"], row["cell_number"]), []).append(row)
    groups = []
    for (name, cell, number), group in members.items():
        found = Counter(row["status"] for row in group)
        times = sorted(took for row in group if (took := duration_ms(row)) is not None)
        groups.append(
            {
                "name": name,
                "cell": cell,
                "cell_number": number,
                **{word: found[word] for word in STATES},
                "typical_ms": times[len(times) // 2] if times else None,
            }
        )
    return sorted(
        groups, key=lambda row: (not row["running"] + row["waiting"], -row["cell_number"], row["name"])
    )


def duration_ms(row: dict[str, Any]) -> float | None:
    """Return how long a task ran, or has run; None: it is not known."""
    start, end = row.get("start_time_ms"), row.get("end_time_ms")
    if start is None:
        return None
    if end is None:
        return max(0.0, time.time() * 1000 - start) if row["status"] == "running" else None
    return max(0.0, float(end) - float(start))


def _singles(
    context: Context, title: str, rows: list[dict[str, Any]], limit: int, notes: list[str]
) -> Listing:
    shown = [{**row, "took_ms": duration_ms(row), "error": error_of(row)} for row in rows[:limit]]
    if len(shown) < len(rows):
        notes.append(f"{len(rows) - len(shown)} more: --limit N shows them.")
    columns = (
        ID,
        Column("name"),
        CELL,
        Column("status", "state"),
        Column("took_ms", "time", show=human_time, is_number=True, varies=True),
        Column("worker_pid", "pid", is_number=True, varies=True),
        Column("error"),
    )
    return Listing(title, columns, shown, tuple(notes), context.is_deterministic())


def error_of(row: dict[str, Any]) -> str | None:
    """Return what a failed task's error says, in a line, without its traceback; None: it did not fail."""
    if row["status"] != "failed":
        return None
    # what follows are facts about a process: its pid, its last words
    text = _FACTS.split(str(row.get("error_message") or ""), maxsplit=1)[0]
    lines = [line for line in text.splitlines() if line.strip()]
    frames = [index for index, line in enumerate(lines) if line.startswith("  ")]
    if frames:
        lines = lines[frames[-1] + 1 :] or lines
    elif len(lines) > 1 and lines[0].endswith(")") and "::" in lines[0]:  # where it ran, and no frame
        del lines[0]
    return " ".join(" ".join(lines).split()) or row.get("error_type")


#: where the text of an error that a process caused goes on with facts about it
_FACTS = re.compile(r"\n(?=\t\w+: |Last lines of its stderr:)")


# -- actors ---------------------------------------------------------------------------------------------

_ACTOR_STATES = {
    "ALIVE": "alive",
    "PENDING_CREATION": "pending",
    "DEPENDENCIES_UNREADY": "pending",
    "RESTARTING": "restarting",
    "DEAD": "dead",
}


def actor_rows(context: Context) -> list[dict[str, Any]]:
    """Return the rows of all actors, with what they have to do."""
    rows = ask(context, "actors", detail=True).rows
    queues: Counter[str] = Counter()
    if rows:
        tasks, _ = task_rows(context)
        queues.update(
            row["actor_id"] for row in tasks if row["status"] in {"waiting", "running"} and row["actor_id"]
        )
    return [
        {
            **row,
            "id": row["actor_id"],
            "status": _ACTOR_STATES.get(row["state"], str(row["state"]).lower()),
            "cell": cell_label(context, row),
            "calls": queues[row["actor_id"]],
            "why_dead": cause_of_death(row),
        }
        for row in rows
    ]


def cause_of_death(row: dict[str, Any]) -> str | None:
    """Return why an actor died, in a line; None: it did not, or nobody knows."""
    cause = row.get("death_cause")
    if isinstance(cause, dict):  # Ray's: {kind of context: {"error_message": ...}}
        cause = next(
            (str(part.get("error_message")) for part in cause.values() if isinstance(part, dict)), None
        )
    return " ".join(str(cause).split()) if cause else None


def list_actors(context: Context, arguments: argparse.Namespace) -> Listing:
    """Return the actors."""
    rows = actor_rows(context)
    dead = sum(row["status"] == "dead" for row in rows)
    notes = []
    if arguments.state is None:
        rows = [row for row in rows if row["status"] != "dead"]
        if dead:
            notes.append(f"{count(dead, 'actor')} died or ended: %jray actors --state dead shows why.")
    else:
        rows = [row for row in rows if row["status"] == arguments.state]
    if arguments.name is not None:
        rows = [row for row in rows if arguments.name in (row["name"], row["class_name"])]
    columns = (
        ID,
        Column("class_name", "class"),
        Column("name"),
        CELL,
        Column("status", "state"),
        Column("calls", "calls to do", is_number=True),
        Column("required_resources", "holds", show=amounts),
        Column("num_restarts", "restarts", is_number=True, show=lambda n: str(n or "")),
        Column("pid", is_number=True, varies=True, show=lambda pid: str(pid or "")),
        *([Column("why_dead", "why")] if arguments.state == "dead" else []),
    )
    title = f"{count(len(rows), 'actor')}" if rows else "No actors."
    if len(rows) > arguments.limit:
        notes.append(f"{len(rows) - arguments.limit} more: --limit N shows them.")
    return Listing(title, columns, rows[: arguments.limit], tuple(notes), context.is_deterministic())


def amounts(resources: Any) -> str:
    """Return ``2 CPU, 1 license`` for amounts of resources."""
    if not isinstance(resources, dict):
        return ""
    return ", ".join(
        f"{human_size(number)} {name}" if name == "memory" else f"{number:g} {name}"
        for name, number in sorted(resources.items())
        if number
    )


# -- objects --------------------------------------------------------------------------------------------

_REFERENCES = {
    "LOCAL_REFERENCE": "reference",
    "PINNED_IN_MEMORY": "being read",
    "USED_BY_PENDING_TASK": "argument of a task",
    "CAPTURED_IN_OBJECT": "inside another object",
    "ACTOR_HANDLE": "actor's handle",
}
#: 24 bytes of a task's id begin the ids of what it returns
_TASK_DIGITS = 48


def object_rows(context: Context) -> list[dict[str, Any]]:
    """Return the rows of all references, the largest first, each with what made it and what holds it here."""
    engine = context.engine()
    makers = {row["task_id"]: row for row in task_rows(context)[0]}
    held = holders_of(context.shell, ObjectRef)
    own = {ref._id.hex(): names for ref, names in held.values()}
    for ref, names in viewers_of(context.shell).values():
        own[ref._id.hex()] = own.get(ref._id.hex(), []) + [f"a view in {name}" for name in names]
    is_driver = engine.whereabouts().worker_id is None
    rows = []
    for row in ask(context, "objects").rows:
        maker = makers.get(row["object_id"][:_TASK_DIGITS])
        is_here = row["type"] == "DRIVER" and is_driver and row["object_id"] in own
        made_by, cell = _origin(context, row, maker)
        rows.append(
            {
                **row,
                "id": row["object_id"],
                "made_by": made_by,
                "cell": cell,
                "kind": _kind(row),
                "holder": ", ".join(own[row["object_id"]]) if is_here else _process(row),
                "size": row["object_size"] if row["object_size"] >= 0 else None,
                "place": "on disk" if row.get("is_spilled") else "",
            }
        )
    return sorted(rows, key=lambda row: (-(row["size"] or 0), row["made_by"], row["holder"]))


def _origin(context: Context, row: dict[str, Any], maker: dict[str, Any] | None) -> tuple[str, str]:
    """Return (what made an object, in which cell and line); "": whoever tells of this reference does not know."""
    if row.get("made") is None:
        return ("", "") if maker is None else (f"{maker['name']}()", maker["cell"])
    what, number, site = row["made"]
    # a task's name, or words
    made_by = what if " " in what else f"{what}()"
    cell = cell_label(context, {**row, "cell": number})
    if site is None:
        return made_by, cell
    line = line_label(context.shell, *site)
    # code that an earlier cell defined is there, and was run by this one
    return made_by, line if not cell or line.startswith(f"{cell},") else f"{cell}: {line}"


def _kind(row: dict[str, Any]) -> str:
    kind = _REFERENCES.get(row["reference_type"], row["reference_type"].lower())
    return f"{kind}, lent" if row.get("is_lent") else kind


def _process(row: dict[str, Any]) -> str:
    """Return which process holds a reference, and what in it."""
    holder = row.get("holder") or ("a driver" if row["type"] == "DRIVER" else "a worker")
    return str(holder)


def list_objects(context: Context, arguments: argparse.Namespace) -> Listing:
    """Return the references."""
    rows = object_rows(context)
    if not arguments.all:
        rows = [row for row in rows if row["size"]]
    rows = [row for row in rows if (row["size"] or 0) >= arguments.min_size * 1_000_000]
    total = sum({row["object_id"]: row["size"] or 0 for row in rows}.values())
    columns = (
        ID,
        Column("size", show=human_size, is_number=True),
        Column("made_by", "made by"),
        CELL,
        Column("kind", "what refers to it"),
        Column("holder", "held by"),
        Column("pid", is_number=True, varies=True),
    )
    notes = (
        [f"{len(rows) - arguments.limit} more: --limit N shows them."] if len(rows) > arguments.limit else []
    )
    things = len({row["object_id"] for row in rows})
    title = f"{count(things, 'object')}, {human_size(total)}" if rows else "No objects."
    return Listing(title, columns, rows[: arguments.limit], tuple(notes), context.is_deterministic())


# -- nodes ----------------------------------------------------------------------------------------------


def list_nodes(context: Context, _arguments: argparse.Namespace) -> Listing:
    """Return the nodes."""
    rows = [
        {
            **row,
            "id": row["node_id"],
            "name": row.get("node_name") or row.get("node_ip"),
            "status": str(row["state"]).lower(),
            "offers": _offers(row.get("resources_total") or {}),
        }
        for row in ask(context, "nodes", detail=True).rows
    ]
    columns: Sequence[Column] = (
        ID,
        Column("name", varies=True),
        Column("status", "state"),
        Column("offers", show=amounts),
        Column("store", show=human_size, is_number=True),
    )
    for row in rows:
        row["store"] = (row.get("resources_total") or {}).get("object_store_memory")
    title = count(len(rows), "node")
    return Listing(title, tuple(columns), rows, (), context.is_deterministic())


def _offers(resources: dict[str, float]) -> dict[str, float]:
    hidden = {"object_store_memory"}
    return {name: n for name, n in resources.items() if name not in hidden and not name.startswith("node:")}
