"""Owns the translation of Ray's exceptions into jray's, which have the same names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import ray.exceptions as rays

from jray import exceptions

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: the first line of Ray's text of a failed task
_HEAD = re.compile(
    r"^(?P<title>\S*?)\(\) \(pid=(?P<pid>\d+), ip=(?P<ip>[^,)]+)"
    r"(?:, actor_id=(?P<actor_id>[0-9a-f]+), repr=(?P<repr>.*))?\)$"
)
#: files whose frames are the runtime's, not the user's
_RUNTIME_FRAME = re.compile(
    r'^  File ".*?/(?:jray/(?:_core/|[a-z_]+\.py)|ray/_private/|ray/cloudpickle/)[^"]*"|^  File "python/ray/'
)
_RAYS_PREFIX = "ray::"


def translated(error: BaseException) -> BaseException:
    """Return jray's exception for one of Ray's; any other as it is."""
    if not isinstance(error, rays.RayError):
        return error
    if isinstance(error, rays.RayTaskError):
        return task_error(error).as_instanceof_cause()
    made = _translated_by_class(error)
    return made.with_traceback(None)


def task_error(error: Any) -> exceptions.RayTaskError:
    """Return jray's error of a failed task, without the class of its cause.

    Everything but the cause is read from the text: an error that Ray has joined with its cause has no fields.
    """
    text = _COLOUR.sub("", str(error))
    head, _, body = text.partition("\n")
    facts = _HEAD.match(head)
    if facts is None:
        title, pid, ip, actor_id, actor_repr, body = "", None, None, None, None, text
    else:
        title, ip, actor_id, actor_repr = facts["title"], facts["ip"], facts["actor_id"], facts["repr"]
        pid = int(facts["pid"])
    name = title.removeprefix(_RAYS_PREFIX)
    cause = translated(error.cause) if isinstance(error.cause, BaseException) else exceptions.RayError(text)
    made = exceptions.RayTaskError(
        name,
        f"Traceback (most recent call last):\n{users_part(body)}",
        cause,
        proctitle=f"jray::{name}",
        pid=pid,
        ip=ip,
        actor_repr=actor_repr,
        actor_id=actor_id,
    )
    made.pid = pid
    return made


def users_part(body: str) -> str:
    """Return the text of a traceback without the frames of the runtime."""
    kept = []
    is_hidden = False
    for line in body.split("\n"):
        if line.startswith("  File "):
            is_hidden = _RUNTIME_FRAME.match(line) is not None
        elif not line.startswith("    "):
            is_hidden = False
        if not is_hidden:
            kept.append(line)
    return "\n".join(kept)


def _text(error: Any) -> str:
    return _COLOUR.sub("", str(error))


def _lost(cls: type[exceptions.ObjectLostError]) -> Callable[[Any], exceptions.RayError]:
    return lambda error: cls(error.object_ref_hex, error.owner_address, error.call_site or "")


def _with_text(cls: type[exceptions.RayError]) -> Callable[[Any], exceptions.RayError]:
    return lambda error: cls(_text(error))


def _argument(error: Any) -> str:
    """Return what the error was made with, without the advice that its class adds."""
    return str(error.args[0]) if error.args else ""


def _unavailable(error: Any) -> exceptions.ActorUnavailableError:
    made = exceptions.ActorUnavailableError("", error.actor_id)
    made.error_msg = _text(error)
    return made


#: how each is made, by the name that it has on both sides; a class comes with those that inherit from it in Ray
_MAKERS: dict[str, Callable[[Any], exceptions.RayError]] = {
    "TaskCancelledError": lambda error: exceptions.TaskCancelledError(
        None if error.task_id is None else error.task_id.hex(), error.error_message
    ),
    "WorkerCrashedError": lambda _: exceptions.WorkerCrashedError(
        "Ray keeps what it wrote in the worker's log of the session."
    ),
    "ActorDiedError": lambda error: exceptions.ActorDiedError(
        actor_id=error.actor_id,
        error_msg=_text(error),
        actor_init_failed=error.actor_init_failed,
        preempted=error.preempted,
    ),
    "ActorUnavailableError": _unavailable,
    "RayActorError": lambda error: exceptions.RayActorError(
        error.actor_id, _text(error), error.actor_init_failed, error.preempted
    ),
    "RaySystemError": lambda error: exceptions.RaySystemError(error.client_exc, error.traceback_str),
    "OwnerDiedError": _lost(exceptions.OwnerDiedError),
    "ObjectFreedError": _lost(exceptions.ObjectFreedError),
    "ObjectFetchTimedOutError": _lost(exceptions.ObjectFetchTimedOutError),
    "ReferenceCountingAssertionError": _lost(exceptions.ReferenceCountingAssertionError),
    "ObjectReconstructionFailedError": lambda error: exceptions.ObjectReconstructionFailedError(
        error.object_ref_hex,
        _name_of(getattr(error, "reason", None)),
        getattr(error, "reason_message", None),
        error.owner_address,
        error.call_site or "",
    ),
    "ObjectLostError": _lost(exceptions.ObjectLostError),
    "ObjectStoreFullError": lambda error: exceptions.ObjectStoreFullError(_argument(error)),
    "OutOfDiskError": lambda error: exceptions.OutOfDiskError(_argument(error)),
    "RuntimeEnvSetupError": lambda error: exceptions.RuntimeEnvSetupError(error.error_message),
    "TaskUnschedulableError": lambda error: exceptions.TaskUnschedulableError(error.error_message),
    "ActorUnschedulableError": lambda error: exceptions.ActorUnschedulableError(error.error_message),
    "LocalRayletDiedError": lambda _: exceptions.LocalRayletDiedError(),
    **{
        name: _with_text(getattr(exceptions, name))
        for name in (
            "ActorAlreadyExistsError", "ActorHandleNotFoundError", "ActorPlacementGroupRemoved", "AsyncioActorExit",
            "AuthenticationError", "GetTimeoutError", "NodeDiedError", "ObjectRefStreamEndOfStreamError",
            "OufOfBandObjectRefSerializationException", "OutOfMemoryError", "PendingCallsLimitExceeded",
            "PlasmaObjectNotAvailable", "RpcError", "TaskPlacementGroupRemoved", "UserCodeException",
        )
    },
}  # fmt: skip


def _translated_by_class(error: BaseException) -> BaseException:
    for cls in type(error).__mro__:
        maker = _MAKERS.get(cls.__name__)
        if maker is not None and cls.__module__ == rays.__name__:
            return maker(error)
    if type(error) is rays.RayError:
        return exceptions.RayError(_text(error))
    return exceptions.RayError(f"{type(error).__name__}: {_text(error)}")


def _name_of(reason: Any) -> str | None:
    return None if reason is None else str(getattr(reason, "name", reason))
