"""Owns the errors of calls: as they travel, which is as a copy, and with the frames that a debugger wants to see."""

from __future__ import annotations

import copy
import os
import sys
from types import TracebackType
from typing import Any

from jray._core.client.exits import ActorExit
from jray._core.client.outcomes import crash_error
from jray._core.serialization import deserialize, serialize
from jray._core.specs import ExitCause
from jray._core.worker.tracebacks import task_error
from jray.exceptions import RayError, RaySystemError, RayTaskError

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep


class Failure:
    """The error of a call that raised.

    It is a pickle, so that each `get` raises a new copy as it would from another process; beside it waits the
    exception itself, with its frames, for the first one.
    """

    __slots__ = ("_origin", "blob", "is_told")

    def __init__(self, blob: bytes, origin: BaseException | None = None) -> None:
        self.blob = blob
        self._origin = origin
        #: whether the user was told that nobody ever got it
        self.is_told = False

    @classmethod
    def of(
        cls, name: str, error: BaseException, *, actor_repr: str | None = None, actor_id: str | None = None
    ) -> Failure:
        """Return the failure of the call *name* that raised *error*."""
        frames = error.__traceback__
        if frames is not None and _is_ours(frames):
            # an error of jray's own about what the code returned: its frames would tell nothing
            frames = error.__traceback__ = None
        blob = task_error(name, error, actor_repr=actor_repr, actor_id=actor_id)
        error.__traceback__ = frames  # which went from it so that it could be pickled
        return cls(blob, error)

    @staticmethod
    def pickled(error: BaseException) -> bytes:
        """Return an error of jray's own as bytes."""
        return serialize(error).to_bytes()

    def load(self) -> BaseException:
        """Return a copy of the error as it was pickled; not for raising."""
        try:
            error: BaseException = deserialize(self.blob)
        except Exception as reason:  # noqa: BLE001 -- whatever a user's class raises
            return RaySystemError(f"the exception of a task cannot be deserialized here: {reason!r}")
        return error

    def exception(self) -> BaseException:
        """Return what `get` raises.  The first time it has the frames of the user's code, so that `pdb.pm` is there."""
        error = self.load()
        if isinstance(error, RayTaskError):
            error = error.as_instanceof_cause()
        origin, self._origin = self._origin, None
        if origin is not None:
            frames = users_frames(origin.__traceback__)
            cause: Any = getattr(error, "cause", None)
            if type(cause) is type(origin):
                cause.__cause__, cause.__context__ = origin.__cause__, origin.__context__
                cause.__suppress_context__ = origin.__suppress_context__
                cause.__traceback__ = frames
            error.__traceback__ = frames
        return error

    def take_frames(self) -> TracebackType | None:
        """Return the frames of the user's code, once."""
        origin, self._origin = self._origin, None
        return None if origin is None else users_frames(origin.__traceback__)


class Death:
    """The error of a call that its actor's death was faster than."""

    __slots__ = ("_error", "_reason")

    def __init__(self, error: BaseException, reason: Failure | None) -> None:
        self._error = error
        #: why there is no actor, if its constructor raised
        self._reason = reason

    def load(self) -> BaseException:
        return copy.copy(self._error)

    def exception(self) -> BaseException:
        """Return what `get` raises, with the constructor's frames the first time."""
        error = self.load()
        if self._reason is not None:
            error.__traceback__ = self._reason.take_frames()
        return error


def users_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return *trace* from the first frame on that isn't jray's; all of it where there is none."""
    found = trace
    while found is not None and found.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        found = found.tb_next
    return found or trace


def _is_ours(trace: TracebackType) -> bool:
    """Tell whether no frame of *trace* is the user's."""
    found: TracebackType | None = trace
    while found is not None and found.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        found = found.tb_next
    return found is None


def passes_on(error: BaseException) -> bool:
    """Tell whether *error* is the user's own word to this process, and no outcome of a task."""
    if isinstance(error, KeyboardInterrupt):
        return True
    bdb = sys.modules.get("bdb")
    return bdb is not None and isinstance(error, bdb.BdbQuit)


def exit_cause(error: SystemExit) -> ExitCause:
    """Return how a worker that raised *error* would have ended, saying on stderr what it would have said."""
    code: Any = error.code
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    return ExitCause(os.getpid(), code or 0, None, "", "It called sys.exit().")


def quiet_end(text: str) -> ExitCause:
    """Return how a worker ended that ended by itself, for that reason."""
    return ExitCause(os.getpid(), 0, None, "", text)


def crash(name: str, error: SystemExit) -> RayError:
    """Return the error of a task that called `sys.exit`."""
    return crash_error(name, exit_cause(error))


def is_crash(error: BaseException) -> bool:
    """Tell whether *error* would have ended a worker."""
    return isinstance(error, SystemExit) and not isinstance(error, ActorExit)
