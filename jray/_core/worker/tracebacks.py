"""Owns the traceback that travels with a task's exception: the user's frames, without jray's."""

from __future__ import annotations

import os
import socket
import traceback
from types import TracebackType

from jray._core.serialization import deserialize, serialize
from jray.exceptions import RayTaskError

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep


def user_part(trace: TracebackType | None) -> TracebackType | None:
    """Return *trace* from the first frame on that is not jray's."""
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            return trace
        trace = trace.tb_next
    return None


def task_error(
    name: str, error: BaseException, *, actor_repr: str | None = None, actor_id: str | None = None
) -> bytes:
    """Return, serialized, the RayTaskError that stands for *error* in other processes."""
    text = "".join(traceback.format_exception(type(error), error, user_part(error.__traceback__)))
    failed = RayTaskError(name, text, error, None, os.getpid(), _address(), actor_repr, actor_id)
    error.__traceback__ = None
    try:
        blob = serialize(failed).to_bytes()
        deserialize(blob)  # an exception that pickles but does not unpickle would hide what happened
    except Exception as reason:  # noqa: BLE001 -- a user's __reduce__ may raise anything
        return serialize(failed.with_opaque_cause(reason)).to_bytes()
    return blob


def _address() -> str:
    return socket.gethostname()
