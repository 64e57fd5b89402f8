"""Owns `%jray cancel`: which tasks are meant, and what became of them."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterable
from typing import Any

from IPython.core.error import UsageError

from jray._core.engine import Engine, Stopped
from jray._core.refs import PENDING, ObjectRef
from jray.exceptions import RayError
from jray.notebook.arguments import option, unquote
from jray.notebook.context import Context, closest
from jray.notebook.holders import held_in
from jray.notebook.inventory import task_rows
from jray.notebook.listing import count
from jray.notebook.memory import referred

CANCEL_OPTIONS = (
    option(
        "what",
        nargs="?",
        metavar="TASK|In[n]|NAME",
        type=unquote,
        completes="cancellable",
        help="the beginning of a task's id, a cell, a function, or a variable that holds ObjectRefs.",
    ),
    option("--all", action="store_true", help="everything that this notebook has submitted."),
    option(
        "--force",
        action="store_true",
        help="end the processes that run it; calls of actors are only cancelled.",
    ),
)
#: shortest beginning of an id that is taken for one
SHORTEST_ID = 4
_STARTED = frozenset({"RUNNING", "SUBMITTED_TO_WORKER"})


def cancel(context: Context, arguments: argparse.Namespace) -> None:
    """Cancel what is meant, and say how much was running and waiting."""
    engine = context.engine()
    if arguments.all == (arguments.what is not None):
        raise UsageError("%jray cancel takes a task, a cell, a name, or --all.")
    if arguments.all:
        found = _stop_cells(engine, {tally.cell for tally in engine.watch.tallies()}, force=arguments.force)
    elif arguments.what.startswith("In") and (numbers := context.cell_numbers(arguments.what)):
        found = _stop_cells(engine, numbers, force=arguments.force)
    else:
        found = _cancel_what(context, arguments.what, force=arguments.force)
    if not found.running + found.waiting:
        text = "nothing was running or waiting"
    else:
        parts = [
            f"{number} {word}"
            for number, word in ((found.running, "running"), (found.waiting, "waiting"))
            if number
        ]
        text = f"cancelled {' and '.join(parts)} {'task' if found.running + found.waiting == 1 else 'tasks'}"
    sys.stdout.write(f"jray: {text}.\n")


def _stop_cells(engine: Engine, numbers: Iterable[int], *, force: bool) -> Stopped:
    stopped = [engine.watch.stop(number, force=force) for number in sorted(numbers, reverse=True)]
    return Stopped(sum(found.running for found in stopped), sum(found.waiting for found in stopped))


def pending_refs(engine: Engine) -> dict[str, list[ObjectRef[Any]]]:
    """Return, by the id of the task that makes it, the references of this process that have no value yet.

    Whoever owns a task keeps its references until it is done, so none is missing.
    """
    found: dict[str, list[ObjectRef[Any]]] = {}
    for ref in gc.get_objects():
        if isinstance(ref, ObjectRef) and ref._client is engine and ref._state == PENDING:
            found.setdefault(ref.task_id().hex(), []).append(ref)
    return found


def _cancel_what(context: Context, what: str, *, force: bool) -> Stopped:
    """Cancel what makes the refs that a variable holds, the open tasks of a name, or one task."""
    engine = context.engine()
    value = referred(context, what)
    if value is not None and (held := list(held_in(value, ObjectRef))):
        return _cancel_refs(engine, [ref for ref in held if ref._state == PENDING], force=force)
    rows, _ = task_rows(context)
    pending = [row for row in rows if row["status"] in {"waiting", "running"}]
    meant = [row for row in pending if what in (row["name"], row["func_or_class_name"])]
    if not meant:
        meant = tasks_beginning_with(rows, what)
    if not meant:
        known = {row["name"] for row in pending}
        raise UsageError(
            f"{what!r} is no variable with ObjectRefs, no task that waits or runs, and no beginning of a task's id"
            f"{closest(what, known) or '.'} %jray tasks --all lists tasks with their ids."
        )
    # by name: there may be more tasks than were looked at
    name = what if any(row["name"] == what for row in meant) else None
    try:
        return engine.watch.cancel(
            [row["task_id"] for row in meant if row["name"] != name], name=name, force=force
        )
    except NotImplementedError as error:
        raise UsageError(str(error)) from None


def tasks_beginning_with(rows: list[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
    """Return the tasks whose ids begin so; raises UsageError where several tasks do."""
    text = prefix.lower()
    if len(text) < SHORTEST_ID or not all(letter in "0123456789abcdef" for letter in text):
        return []
    found = [row for row in rows if row["task_id"].startswith(text)]
    if len({row["task_id"] for row in found}) > 1:
        raise UsageError(
            f"{count(len(found), 'task')} have ids that begin with {prefix!r}; give more of the id."
        )
    return found


def _cancel_refs(engine: Engine, refs: list[ObjectRef[Any]], *, force: bool) -> Stopped:
    running = waiting = 0
    for ref in {ref.task_id(): ref for ref in reversed(refs)}.values():
        if ref.status() in _STARTED:
            running += 1
        else:
            waiting += 1
        try:
            engine.cancel(ref, force=force, recursive=True)
        except ValueError:  # a call of an actor is never forced
            engine.cancel(ref, force=False, recursive=True)
        except RayError:  # it ended meanwhile
            continue
    return Stopped(running, waiting)
