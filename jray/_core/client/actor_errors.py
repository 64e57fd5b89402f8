"""Owns the errors of calls that an actor can't take, or no more, in jray's own engines."""

from __future__ import annotations

from typing import Any

from jray._core.machine.actors import ActorView
from jray._core.machine.groups import GROUP_REMOVED
from jray._core.serialization import deserialize
from jray._core.specs import SetupFailure
from jray.exceptions import (
    ActorDiedError,
    ActorPlacementGroupRemoved,
    ActorUnavailableError,
    ActorUnschedulableError,
    PendingCallsLimitExceeded,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
)


def check_outstanding(outstanding: int, most: int) -> None:
    """Raise PendingCallsLimitExceeded if an actor has as many calls outstanding as its handle allows."""
    if outstanding >= most:
        raise PendingCallsLimitExceeded(
            f"The handle has {outstanding} calls outstanding, and its max_pending_calls is {most}. Wait for some "
            "with jray.wait(), or raise the limit."
        )


def unavailable(view: ActorView) -> ActorUnavailableError:
    """Return the error of a call that was under way when its actor's process died, and that is not run again."""
    return ActorUnavailableError(
        "its process died in this call, and it restarts. Give the actor max_task_retries to have such calls "
        "run again.",
        view.actor_id.hex(),
        class_name=view.class_name,
        name=view.name,
        namespace=view.namespace,
    )


def died(actor_id: bytes, view: ActorView | None) -> RayError:
    """Return the error of a call to an actor that is dead, or never got a place."""
    cause = None if view is None else view.cause
    if view is None or cause is None:
        return ActorDiedError(actor_id=actor_id.hex(), error_msg="The actor is dead.")
    who: dict[str, Any] = {
        "actor_id": actor_id.hex(),
        "class_name": view.class_name,
        "name": view.name,
        "namespace": view.namespace,
    }
    if cause.init_error is not None:
        error = deserialize(cause.init_error)
        if isinstance(error, RayTaskError):
            return ActorDiedError(error, **who)
        return ActorDiedError(
            error_msg=f"Its constructor could not run: {error}", actor_init_failed=True, **who
        )
    if isinstance(cause.text, SetupFailure):
        return RuntimeEnvSetupError(f"The actor {view.class_name} cannot run. {cause.text}")
    if cause.is_unschedulable:
        return ActorUnschedulableError(f"The actor {view.class_name} cannot be scheduled: {cause.text}.")
    exit_cause = cause.exit_cause
    if cause.text == GROUP_REMOVED and exit_cause is None:  # it never had a process to die (Ray's rule)
        return ActorPlacementGroupRemoved(f"The actor {view.class_name} is dead: {cause.text}.")
    if exit_cause is not None:
        who |= {
            "pid": exit_cause.pid,
            "exit_code": exit_cause.exit_code,
            "signal": exit_cause.signal,
            "last_lines": exit_cause.last_lines.splitlines(),
        }
    return ActorDiedError(error_msg=f"The actor {view.class_name} is dead: {cause.text}.", **who)
