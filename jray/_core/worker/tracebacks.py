"""Owns the traceback that travels with a task's exception: the user's frames, without jray's and the pickler's."""

from __future__ import annotations

import linecache
import os
import socket
import traceback
from importlib.util import find_spec

from jray._core.serialization import deserialize, serialize
from jray.exceptions import RayTaskError

_PICKLER = find_spec("cloudpickle")  # found, not imported: it costs 20 ms
#: where the code is that is not the user's: jray's own, and the pickler's
_PACKAGES = (
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep,
    *((os.path.dirname(_PICKLER.origin) + os.sep,) if _PICKLER is not None and _PICKLER.origin else ()),
)


def _without_own_frames(told: traceback.TracebackException) -> traceback.TracebackException:
    """Leave only the user's frames, also of the exceptions that led to this one."""
    own = [frame for frame in told.stack if frame.filename.startswith(_PACKAGES)]
    if len(own) < len(told.stack):  # an error raised by jray itself keeps what there is
        told.stack[:] = [frame for frame in told.stack if not frame.filename.startswith(_PACKAGES)]
    for other in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        if other is not None:
            _without_own_frames(other)
    return told


def remember_sources(sources: dict[str, str]) -> None:
    """Let tracebacks show the lines of code that came without a file."""
    for name, text in sources.items():
        # without a time of change, linecache never looks for the file
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)


def users_traceback(error: BaseException) -> str:
    """Return the text of a traceback that shows the user's frames."""
    return "".join(_without_own_frames(traceback.TracebackException.from_exception(error)).format())


def task_error(
    name: str,
    error: BaseException,
    *,
    actor_repr: str | None = None,
    actor_id: str | None = None,
    task_id: bytes | None = None,
) -> bytes:
    """Return, serialized, the RayTaskError that stands for *error* in other processes."""
    failed = RayTaskError(
        name, users_traceback(error), error, None, os.getpid(), _address(), actor_repr, actor_id
    )
    failed.task_id = None if task_id is None else task_id.hex()
    error.__traceback__ = None
    try:
        serialized = serialize(failed)
        blob = serialized.to_bytes()
        for ref in serialized.refs:  # as pickled by hand: nobody will tell when the error is gone
            ref._client.objects.pin_forever(ref)
        deserialize(blob)  # an exception that pickles but does not unpickle would hide what happened
    except Exception as reason:  # noqa: BLE001 -- a user's __reduce__ may raise anything
        opaque = failed.with_opaque_cause(reason)
        opaque.task_id = failed.task_id
        return serialize(opaque).to_bytes()
    return blob


def _address() -> str:
    return socket.gethostname()
