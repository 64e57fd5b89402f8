"""Owns what the panel's buttons do: cancel, kill and free, each answered in a sentence."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from jray._core.engine import Engine
from jray._core.refs import ObjectRef


def act(engine: Engine, verb: str, target: str) -> str:
    """Do what a button says, and return what came of it.

    Raises:
        ValueError: there is no such verb, or nothing it could be done to.
    """
    doers: dict[str, Callable[[Engine, str], str]] = {
        "stop-cell": _stop_cell,
        "cancel-function": _cancel_function,
        "cancel-task": _cancel_task,
        "kill": _kill,
        "free": _free,
    }
    if verb not in doers:
        raise ValueError(f"The panel can do {', '.join(doers)}, but not {verb!r}.")
    return doers[verb](engine, target)


def _stop_cell(engine: Engine, cell: str) -> str:
    stopped = engine.watch.stop(int(cell), force=False)
    return f"Cancelled {stopped.running} running and {stopped.waiting} waiting."


def _cancel_function(engine: Engine, name: str) -> str:
    rows = engine.cluster.rows("tasks", filters=[("name", "=", name)], limit=100_000).rows
    active = {row["task_id"] for row in rows if row["state"] not in ("FINISHED", "FAILED")}
    if not active:
        return f"Nothing of {name} runs or waits any more."
    return _cancel(engine, active)


def _cancel_task(engine: Engine, task_id: str) -> str:
    return _cancel(engine, {task_id})


def _cancel(engine: Engine, task_ids: set[str]) -> str:
    """Cancel the tasks that refs of this process are of: a task is cancelled by its ref."""
    found = {}
    for ref in _refs(engine):
        task_id = ref.task_id().hex()
        if task_id in task_ids:
            found[task_id] = ref
    for ref in found.values():
        engine.cancel(ref, force=False, recursive=True)
    missing = len(task_ids) - len(found)
    if not found:
        raise ValueError(
            "This process holds no ObjectRef of it, so it cannot cancel it. Cancel the whole cell."
        )
    text = f"Cancelled {len(found)} task{'s' * (len(found) != 1)}."
    return (
        f"{text} Of {missing} more this process holds no ObjectRef; cancel their cells." if missing else text
    )


def _kill(engine: Engine, actor_id: str) -> str:
    engine.actors.kill(bytes.fromhex(actor_id), no_restart=True)
    return f"Killed the actor {actor_id[:8]}."


def _free(engine: Engine, object_id: str) -> str:
    refs = [ref for ref in _refs(engine) if ref.hex() == object_id]
    if not refs:
        raise ValueError(
            "This process holds no ObjectRef of it any more: it is free, or another process's to free."
        )
    engine.free(refs[:1])
    return f"Freed {object_id[:16]}: getting it raises ObjectFreedError from now on."


def _refs(engine: Engine) -> list[ObjectRef[Any]]:
    # `type`: asking an object for its class may run code of the user's
    return [ref for ref in gc.get_objects() if type(ref) is ObjectRef and ref._client is engine]
