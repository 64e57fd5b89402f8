"""Owns what the panel's buttons do: cancel, kill and free, each answered in a sentence."""

from __future__ import annotations

import gc
from collections.abc import Callable

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
    found = sum(engine.watch.cancel(name=name, force=False))
    return (
        f"Cancelled {found} task{'s' * (found != 1)}."
        if found
        else f"Nothing of {name} that can be cancelled here runs or waits."
    )


def _cancel_task(engine: Engine, task_id: str) -> str:
    return (
        "Cancelled the task." if sum(engine.watch.cancel([task_id], force=False)) else "It has ended already."
    )


def _kill(engine: Engine, actor_id: str) -> str:
    engine.actors.kill(bytes.fromhex(actor_id), no_restart=True)
    return f"Killed the actor {actor_id[:8]}."


def _free(engine: Engine, object_id: str) -> str:
    # `type`: asking an object for its class may run code of the user's
    refs = [
        ref
        for ref in gc.get_objects()
        if type(ref) is ObjectRef and ref._client is engine and ref.hex() == object_id
    ]
    if not refs:
        raise ValueError(
            "This process holds no ObjectRef of it any more: it is free, or another process's to free."
        )
    engine.free(refs[:1])
    return f"Freed {object_id[:16]}: getting it raises ObjectFreedError from now on."
