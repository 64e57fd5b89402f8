"""Every exception of jray, one tree, importing nothing of ours.

Exception
└── RayError                                   base of all that the runtime raises
    ├── RayTaskError                           the user's code raised; get() raises RayTaskError(Cause)
    ├── UserCodeException                      wraps an exception of the user's code for a library
    ├── TaskCancelledError
    ├── WorkerCrashedError                     a worker process died in a task
    ├── RayActorError
    │   ├── ActorDiedError                     for good
    │   └── ActorUnavailableError              for now
    ├── AsyncioActorExit
    ├── GetTimeoutError                        also a TimeoutError
    ├── PlasmaObjectNotAvailable
    ├── ObjectLostError
    │   ├── ObjectFetchTimedOutError
    │   ├── ObjectFreedError
    │   ├── ObjectReconstructionFailedError
    │   ├── OwnerDiedError
    │   └── ReferenceCountingAssertionError    also an AssertionError
    ├── ObjectRefStreamEndOfStreamError
    ├── ObjectStoreFullError
    ├── OutOfDiskError
    ├── OutOfMemoryError
    ├── NodeDiedError
    ├── LocalRayletDiedError
    ├── RuntimeEnvSetupError
    ├── TaskUnschedulableError
    ├── ActorUnschedulableError
    ├── TaskPlacementGroupRemoved
    ├── ActorPlacementGroupRemoved
    ├── PendingCallsLimitExceeded
    ├── ActorAlreadyExistsError                also a ValueError
    ├── ActorHandleNotFoundError               also a ValueError
    ├── AuthenticationError
    ├── RpcError
    ├── OufOfBandObjectRefSerializationException
    ├── UnserializableException                an error that could not be unpickled here
    ├── RaySystemError
    │   └── StreamingGeneratorReplayInconsistentError
    └── JrayInternalError                      our fault: please report

Names, bases and public fields are Ray's; what Ray has for other languages, compiled graphs and
direct tensor transport is absent, because jray has none of those. Each exception is built from
fields, its text is made from the fields when it is asked for, and both survive pickling.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import signal as signal_module
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

__all__ = [
    "ActorAlreadyExistsError",
    "ActorDiedError",
    "ActorHandleNotFoundError",
    "ActorPlacementGroupRemoved",
    "ActorUnavailableError",
    "ActorUnschedulableError",
    "AsyncioActorExit",
    "AuthenticationError",
    "GetTimeoutError",
    "JrayInternalError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "ObjectRefStreamEndOfStreamError",
    "ObjectStoreFullError",
    "OufOfBandObjectRefSerializationException",
    "OutOfDiskError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "PendingCallsLimitExceeded",
    "PlasmaObjectNotAvailable",
    "RayActorError",
    "RayError",
    "RaySystemError",
    "RayTaskError",
    "ReferenceCountingAssertionError",
    "RpcError",
    "RuntimeEnvSetupError",
    "StreamingGeneratorReplayInconsistentError",
    "TaskCancelledError",
    "TaskPlacementGroupRemoved",
    "TaskUnschedulableError",
    "UnserializableException",
    "UserCodeException",
    "WorkerCrashedError",
]

logger = logging.getLogger(__name__)

# How many dual classes are kept for reuse. A notebook that redefines its exception class in a loop
# makes a new one each time, so the cache must have an end.
_DUAL_CLASSES_KEPT = 256

_TRACEBACK_HEAD = "Traceback (most recent call last):"
_FAILED_ARGUMENT = "At least one of the input arguments for this task could not be computed:"


def _size(size_bytes: int) -> str:
    """*size_bytes* as people say it: ``812 MiB``, ``2.0 GiB``."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1024 or unit == "TiB":
            break
    return f"{size:.1f} {unit}" if size < 10 else f"{size:.0f} {unit}"


def _restore(cls: type[RayError], args: tuple[Any, ...]) -> RayError:
    # `__init__` is passed over on purpose: the fields come back as state, and keyword-only ones would
    # be lost on a call with `args` alone.
    error = cls.__new__(cls, *args)
    error.args = args
    return error


class RayError(Exception):
    """Base of every exception that the runtime raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args), self.__dict__.copy()

    def to_bytes(self, dumps: Callable[[object], bytes] = pickle.dumps) -> bytes:
        """This error as bytes that `from_bytes` can always read.

        Beside the pickle made by *dumps* they hold the error's text, for a reader that lacks its class.
        An error that *dumps* cannot pickle travels as text alone.
        """
        text = f"{type(self).__qualname__}: {self}"
        try:
            pickled = dumps(self)
        except Exception as exc:  # noqa: BLE001  a user's __reduce__ raises anything; the error must get home
            logger.warning(
                "%s is not serializable (%r); only its text is sent.", type(self).__qualname__, exc
            )
            pickled = None
        return pickle.dumps((pickled, text))

    @staticmethod
    def from_bytes(data: bytes, loads: Callable[[bytes], Any] = pickle.loads) -> RayError:
        """The error that `to_bytes` wrote, or `UnserializableException` with its text."""
        pickled, text = pickle.loads(data)
        if pickled is None:
            return UnserializableException(text)
        try:
            error = loads(pickled)
        except Exception:  # noqa: BLE001  a user's class may be missing here or fail in any way
            return UnserializableException(text)
        return error if isinstance(error, RayError) else UnserializableException(text)


class JrayInternalError(RayError):
    """A promise of jray's own code was broken: never the user's fault."""

    def __init__(self, what: str, **fields: object) -> None:
        super().__init__(what)
        self.what = what
        self.fields = fields

    def __str__(self) -> str:
        known = "".join(f"\n  {name}: {value!r}" for name, value in self.fields.items())
        return f"{self.what}{known}\nThis is a bug in jray. Please report it with the text above."


# --- the user's code ------------------------------------------------------------------------------


class RayTaskError(RayError):
    """A task or an actor method raised.

    `get` raises `as_instanceof_cause()`, so that ``except ValueError`` catches a remote ``ValueError``.
    A task error whose cause is another task error takes over that one's cause: there is one cause
    however many tasks it passed through.
    """

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        actor_repr: str | None = None,
        actor_id: str | None = None,
    ) -> None:
        self.cause: BaseException = cause.cause if isinstance(cause, RayTaskError) else cause
        super().__init__(function_name, traceback_str, self.cause, proctitle, pid, ip)
        self.function_name = function_name
        #: The remote traceback as text, frames of the runtime already taken out.
        self.traceback_str = traceback_str
        self.proctitle = proctitle or f"jray::{function_name}"
        self.pid: int | None = pid or os.getpid()
        self.ip = ip
        self.actor_repr = actor_repr
        self._actor_id = actor_id
        #: hexadecimal; None: not known
        self.task_id: str | None = None

    @classmethod
    def from_failed_argument(
        cls,
        function_name: str,
        error: BaseException,
        *,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        actor_repr: str | None = None,
        actor_id: str | None = None,
    ) -> RayTaskError:
        """The error of a task that never ran because *error* is what one of its arguments became.

        Its `pid` is None unless it is given: no process ran the task.
        """
        text = f"  {_FAILED_ARGUMENT}\n{type(error).__module__}.{type(error).__qualname__}: {error}"
        failed = cls(function_name, text, error, proctitle, pid, ip, actor_repr, actor_id)
        failed.pid = pid
        return failed

    def with_opaque_cause(self, reason: BaseException) -> RayTaskError:
        """A copy with a `RayError` for its cause, telling of the one that can't be pickled for *reason*."""
        name = f"{type(self.cause).__module__}.{type(self.cause).__qualname__}"
        told = RayError(
            f"The exception {name} is not serializable ({reason}), so only its text came back. "
            f"Give it picklable attributes, or a __reduce__, to get it whole.\n{self.traceback_str}"
        )
        return RayTaskError(
            self.function_name,
            self.traceback_str,
            told,
            self.proctitle,
            self.pid,
            self.ip,
            self.actor_repr,
            self._actor_id,
        )

    def as_instanceof_cause(self) -> RayError:
        """This error as an instance of the class of its cause too.

        The class is named ``RayTaskError(Cause)``; `args` is ``(cause,)`` and attributes of the cause
        can be read from it. If the cause's class cannot be subclassed, a warning is logged and the
        result is this error as it is.
        """
        cause_cls = type(self.cause)
        if issubclass(RayTaskError, cause_cls):
            return self
        try:
            return _make_dual(self)
        except Exception as exc:  # noqa: BLE001  subclassing runs the user's metaclass and __init_subclass__
            logger.warning(
                "%s.%s can't be subclassed (%s: %s), so it is raised as a plain RayTaskError. "
                "`.cause` holds the original exception.",
                cause_cls.__module__,
                cause_cls.__qualname__,
                type(exc).__name__,
                exc,
            )
            return self

    def to_bytes(self, dumps: Callable[[object], bytes] = pickle.dumps) -> bytes:
        try:
            dumps(self.cause)
        except Exception as exc:  # noqa: BLE001  see RayError.to_bytes
            return super(RayTaskError, self.with_opaque_cause(exc)).to_bytes(dumps)
        return super().to_bytes(dumps)

    def __str__(self) -> str:
        known = {"pid": self.pid, "ip": self.ip, "actor_id": self._actor_id, "repr": self.actor_repr}
        where = ", ".join(f"{label}={value}" for label, value in known.items() if value)
        header = f"{self.proctitle}()" + (f" ({where})" if where else "")
        body = self.traceback_str.strip("\n")
        if body.startswith(_TRACEBACK_HEAD):
            body = body[len(_TRACEBACK_HEAD) :].lstrip("\n")
        return f"{header}\n{body}" if body else header

    def _render_traceback_(self) -> list[str]:
        """What IPython shows for this error: the user's frames, then one line on where they ran."""
        frames = self.traceback_str.strip("\n").split("\n")
        parts = [f"in task {self.function_name}()"]
        if self.actor_repr:
            parts.append(f"of actor {self.actor_repr}")
        if self.ip:
            parts.append(f"on node {self.ip}")
        if self.pid:
            parts.append(f"in process {self.pid}")
        number = f", task {self.task_id[:8]}" if self.task_id else ""
        return [*frames, "", " ".join(parts) + number]


class _DualMixin:
    """What every ``RayTaskError(Cause)`` class adds to its two bases."""

    cause: BaseException
    _task_error: RayTaskError
    _dual_args: tuple[Any, ...]
    _cause_cls: type[BaseException]

    @property
    def args(self) -> tuple[Any, ...]:
        return self._dual_args

    @args.setter
    def args(self, value: Sequence[Any]) -> None:
        self.__dict__["_dual_args"] = tuple(value)

    def __init__(self, *args: Any) -> None:
        # `_make_dual` fills the instance without it. It is for `raise type(error)("more")`, which people
        # write: that makes a new cause of the same class, here.
        cause = args[0] if args and isinstance(args[0], BaseException) else _made_here(self._cause_cls, args)
        error = RayTaskError(self._cause_cls.__name__, f"{type(cause).__name__}: {cause}", cause)
        self.__dict__.update(cause=cause, _task_error=error, _dual_args=(cause,))

    def __reduce__(self) -> tuple[Any, ...]:
        copied = vars(self.cause)
        extra = {
            name: value
            for name, value in self.__dict__.items()
            if name not in _DUAL_FIELDS and not (name in copied and copied[name] is value)
        }
        return _restore_dual, (self._task_error,), extra or None

    def __getattr__(self, name: str) -> Any:
        # The cause comes first: its own `pid` or `ip` is what the user's handler means.
        if name in _DUAL_FIELDS:  # an instance under construction has no cause to ask
            raise AttributeError(name)
        try:
            return getattr(self.cause, name)
        except AttributeError:
            return getattr(self._task_error, name)

    def __str__(self) -> str:
        return str(self._task_error)

    def to_bytes(self, dumps: Callable[[object], bytes] = pickle.dumps) -> bytes:
        return self._task_error.to_bytes(dumps)

    def as_instanceof_cause(self) -> Any:
        return self

    def with_opaque_cause(self, reason: BaseException) -> RayTaskError:
        return self._task_error.with_opaque_cause(reason)

    def _render_traceback_(self) -> list[str]:
        return self._task_error._render_traceback_()


_DUAL_FIELDS = frozenset({"cause", "_task_error", "_dual_args"})


def _made_here(cause_cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    try:
        return cause_cls(*args)
    except Exception:  # noqa: BLE001  the user's __init__ may want other arguments, and the text matters more
        return RayError(*args)


def _cause_property(name: str) -> property:
    def read(self: Any) -> Any:
        return getattr(self.cause, name)

    def write(self: Any, value: Any) -> None:
        setattr(self.cause, name, value)

    return property(read, write)


@functools.lru_cache(maxsize=_DUAL_CLASSES_KEPT)
def _dual_class(cause_cls: type[BaseException]) -> tuple[type[Any], Callable[..., Any]]:
    """The class ``RayTaskError(Cause)`` and the function that allocates an instance of it.

    Raises whatever the cause's class raises when it is subclassed.
    """
    body: dict[str, Any] = {
        name: value
        for name, value in vars(_DualMixin).items()
        if callable(value) or isinstance(value, property)
    }
    body["__module__"] = __name__
    body["_cause_cls"] = cause_cls
    for base in cause_cls.__mro__:
        if base in RayTaskError.__mro__:
            continue
        for name, value in vars(base).items():
            # Fields that live in the C struct or in __slots__ (OSError.errno, UnicodeError.start) exist
            # on the new instance but are empty, so __getattr__ would never be asked for them.
            is_in_struct = isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType)
            if is_in_struct and name not in body and not name.startswith("__"):
                body[name] = _cause_property(name)
    name = f"RayTaskError({cause_cls.__name__})"
    cls = types.new_class(name, (RayTaskError, cause_cls), exec_body=lambda namespace: namespace.update(body))
    cls.__qualname__ = name
    # The nearest __new__ written in C allocates the right struct. One that the user wrote may want other
    # arguments than the exception was finally left with, so it is passed over.
    new = next(
        vars(base)["__new__"]
        for base in cls.__mro__
        if isinstance(vars(base).get("__new__"), types.BuiltinFunctionType)
    )
    return cls, new


def _make_dual(error: RayTaskError) -> RayTaskError:
    cause = error.cause
    cls, new = _dual_class(type(cause))  # type: ignore[arg-type]  # mypy takes no class for hashable
    # A group's __new__ checks its arguments; all others take any.
    dual = (
        new(cls, cause.message, cause.exceptions)
        if isinstance(cause, BaseExceptionGroup)
        else new(cls, cause)
    )
    # Copied, not only proxied: a default on the user's class would hide the attribute of the instance.
    dual.__dict__.update(vars(cause))
    dual.__dict__.update(cause=cause, _task_error=error, _dual_args=(cause,))
    assert isinstance(dual, RayTaskError)
    return dual


def _restore_dual(error: RayTaskError) -> RayError:
    return error.as_instanceof_cause()


class UserCodeException(RayError):
    """Wraps an exception of the user's code; the exception itself is its ``__cause__``."""


class TaskCancelledError(RayError):
    """The task was cancelled before it had a result."""

    def __init__(self, task_id: object = None, error_message: str | None = None) -> None:
        super().__init__()
        #: The id of the task that was cancelled, or None where it isn't known.
        self.task_id = task_id
        self.error_message = error_message

    def __str__(self) -> str:
        subject = "A task" if self.task_id is None else f"Task {self.task_id}"
        return f"{subject} was cancelled." + (f" {self.error_message}" if self.error_message else "")


# --- processes ------------------------------------------------------------------------------------


def _signal_name(number: int) -> str:
    try:
        return signal_module.Signals(number).name
    except ValueError:
        return f"signal {number}"


def exit_in_words(exit_code: int | None, signal: int | None) -> str:
    if signal is not None:
        return f"was killed by {_signal_name(signal)}"
    if exit_code is not None:
        return f"exited with status {exit_code}"
    return "ended unexpectedly"


def _last_lines_text(last_lines: Sequence[str]) -> str:
    if not last_lines:
        return ""
    return "\nLast lines of its stderr:\n" + "\n".join(f"  {line}" for line in last_lines)


class WorkerCrashedError(RayError):
    """The worker process died in the middle of a task, and no retry was left."""

    def __init__(
        self,
        message: str = "",
        *,
        task_name: str | None = None,
        pid: int | None = None,
        exit_code: int | None = None,
        signal: int | None = None,
        last_lines: Sequence[str] = (),
    ) -> None:
        super().__init__(*([message] if message else []))
        self.message = message
        self.task_name = task_name
        self.pid = pid
        #: Status the process exited with; None if a signal ended it or it isn't known.
        self.exit_code = exit_code
        #: Number of the signal that ended the process, or None.
        self.signal = signal
        #: The last lines the process wrote to stderr, oldest first.
        self.last_lines = tuple(last_lines)

    def __str__(self) -> str:
        who = "The worker" if self.pid is None else f"The worker (pid {self.pid})"
        task = "a task" if self.task_name is None else f"task {self.task_name}"
        text = f"{who} {exit_in_words(self.exit_code, self.signal)} while it ran {task}."
        if self.message:
            text += f" {self.message}"
        return text + _last_lines_text(self.last_lines)


class NodeDiedError(RayError):
    """The node is dead, or can't be reached."""

    def __init__(self, message: str = "The node died.") -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class LocalRayletDiedError(RayError):
    """The node process on this machine died (Ray calls it the raylet)."""

    def __str__(self) -> str:
        detail = super().__str__()
        return "The node process of this machine died." + (
            f" {detail}" if detail else " Call jray.shutdown() and jray.init() to start another."
        )


class OutOfMemoryError(RayError):
    """The node ran low on memory, and this task or actor was ended to save the rest."""

    def __init__(
        self,
        message: str = "",
        *,
        task_name: str | None = None,
        pid: int | None = None,
        worker_bytes: int | None = None,
        used_bytes: int | None = None,
        total_bytes: int | None = None,
        threshold: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.task_name = task_name
        self.pid = pid
        #: Memory of the worker that was ended.
        self.worker_bytes = worker_bytes
        self.used_bytes = used_bytes
        self.total_bytes = total_bytes
        #: Fraction of `total_bytes` above which workers are ended.
        self.threshold = threshold

    def __str__(self) -> str:
        if self.used_bytes is None or self.total_bytes is None:
            return self.message or "The node ran out of memory and the worker of this task was ended."
        limit = "" if self.threshold is None else f", above the limit of {self.threshold:.0%}"
        who = "the worker" if self.pid is None else f"the worker (pid {self.pid})"
        task = "" if self.task_name is None else f" of task {self.task_name}"
        held = "" if self.worker_bytes is None else f", which held {_size(self.worker_bytes)}"
        text = (
            f"The node uses {_size(self.used_bytes)} of {_size(self.total_bytes)} memory{limit}, "
            f"so {who}{task}{held}, was ended. "
            "Run fewer such tasks at once by giving them a larger num_cpus or memory."
        )
        return f"{text} {self.message}" if self.message else text


# --- actors ---------------------------------------------------------------------------------------


class RayActorError(RayError):
    """An actor could not finish a call; raised as one of its two subclasses."""

    BASE_ERROR_MSG: ClassVar[str] = "The actor could not finish this call."

    def __init__(
        self,
        actor_id: str | None = None,
        error_msg: str | None = None,
        actor_init_failed: bool = False,
        preempted: bool = False,
        *,
        class_name: str | None = None,
        name: str | None = None,
        namespace: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        exit_code: int | None = None,
        signal: int | None = None,
        last_lines: Sequence[str] = (),
    ) -> None:
        super().__init__()
        #: Hexadecimal id of the actor.
        self.actor_id = actor_id
        #: What happened, in a sentence.
        self.error_msg = self.BASE_ERROR_MSG if error_msg is None else error_msg
        self._actor_init_failed = actor_init_failed
        self._preempted = preempted
        self.class_name = class_name
        #: The name it was registered under, or None.
        self.name = name
        self.namespace = namespace
        self.pid = pid
        self.ip = ip
        self.exit_code = exit_code
        self.signal = signal
        self.last_lines = tuple(last_lines)

    @property
    def actor_init_failed(self) -> bool:
        """Whether the actor's ``__init__`` raised."""
        return self._actor_init_failed

    @property
    def preempted(self) -> bool:
        """Whether it died because its node was taken away."""
        return self._preempted

    def __str__(self) -> str:
        lines = [self.error_msg]
        if self.exit_code is not None or self.signal is not None:
            lines.append(f"Its process {exit_in_words(self.exit_code, self.signal)}.")
        for label in ("class_name", "actor_id", "name", "namespace", "pid", "ip"):
            value = getattr(self, label)
            if value not in (None, ""):
                lines.append(f"\t{label}: {value}")
        return "\n".join(lines) + _last_lines_text(self.last_lines)


class ActorDiedError(RayActorError):
    """The actor is dead, and will not be restarted.

    *cause* is the error its ``__init__`` raised, if that is what it died of.
    """

    BASE_ERROR_MSG: ClassVar[str] = "The actor died before it finished this call."

    def __init__(
        self,
        cause: RayTaskError | None = None,
        *,
        actor_id: str | None = None,
        error_msg: str | None = None,
        actor_init_failed: bool = False,
        preempted: bool = False,
        class_name: str | None = None,
        name: str | None = None,
        namespace: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        exit_code: int | None = None,
        signal: int | None = None,
        last_lines: Sequence[str] = (),
    ) -> None:
        if cause is not None:
            actor_init_failed = True
            actor_id = actor_id or cause._actor_id
            if error_msg is None:
                error_msg = "The actor died because its __init__ raised."
        super().__init__(
            actor_id,
            error_msg,
            actor_init_failed,
            preempted,
            class_name=class_name,
            name=name,
            namespace=namespace,
            pid=pid,
            ip=ip,
            exit_code=exit_code,
            signal=signal,
            last_lines=last_lines,
        )
        self.cause = cause

    @staticmethod
    def from_task_error(task_error: RayTaskError) -> ActorDiedError:
        """The error of an actor whose ``__init__`` raised *task_error*."""
        return ActorDiedError(task_error)

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.cause is None else f"{text}\n{self.cause}"

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the frames of a failed ``__init__`` first, then what became of the actor."""
        head = [] if self.cause is None else self.cause._render_traceback_()
        return [*head, *f"{type(self).__name__}: {super().__str__()}".split("\n")]


class ActorUnavailableError(RayActorError):
    """The actor can't be reached at present; the call may or may not have been carried out."""

    BASE_ERROR_MSG: ClassVar[str] = "The actor is unavailable."

    def __init__(
        self,
        error_message: str = "",
        actor_id: str | bytes | None = None,
        *,
        class_name: str | None = None,
        name: str | None = None,
        namespace: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
    ) -> None:
        hex_id = actor_id.hex() if isinstance(actor_id, bytes) else actor_id
        what = "The actor" if hex_id is None else f"The actor {hex_id}"
        why = f": {error_message.rstrip('.')}" if error_message else ""
        super().__init__(
            hex_id,
            f"{what} is unavailable{why}. The call may or may not have been carried out.",
            class_name=class_name,
            name=name,
            namespace=namespace,
            pid=pid,
            ip=ip,
        )


class AsyncioActorExit(RayError):
    """Raised inside an async actor by ``exit_actor()``."""


class PendingCallsLimitExceeded(RayError):
    """The handle has `max_pending_calls` unanswered calls already."""


class ActorAlreadyExistsError(ValueError, RayError):
    """The name is taken by a live actor of the namespace."""

    def __init__(self, error_message: str) -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return self.error_message


class ActorHandleNotFoundError(ValueError, RayError):
    """The handle belongs to no actor of this session, often because it comes from an earlier one."""

    def __init__(self, error_message: str) -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return self.error_message


# --- objects --------------------------------------------------------------------------------------


class GetTimeoutError(RayError, TimeoutError):
    """`get` waited as long as it was told to; the tasks go on."""


class PlasmaObjectNotAvailable(RayError):
    """An object was not in the store in time."""


class ObjectRefStreamEndOfStreamError(RayError):
    """A streaming generator has no further item."""


class ObjectLostError(RayError):
    """Every copy of the object is gone."""

    def __init__(
        self,
        object_ref_hex: str,
        owner_address: str | bytes | None = None,
        call_site: str = "",
    ) -> None:
        super().__init__(object_ref_hex, owner_address, call_site)
        self.object_ref_hex = object_ref_hex
        #: Address of the process that owns the object, or None where it isn't known.
        self.owner_address = owner_address
        #: Where its ObjectRef was made, or "".
        self.call_site = call_site

    def _reason(self) -> str:
        return "All copies of it are lost."

    def __str__(self) -> str:
        text = f"Object {self.object_ref_hex} can't be retrieved. {self._reason()}"
        if self.owner_address:
            owner = self.owner_address
            text += f"\nIts owner: {owner.decode(errors='replace') if isinstance(owner, bytes) else owner}"
        if self.call_site:
            text += f"\nIts ObjectRef was made at: {self.call_site}"
        return text


class ObjectFetchTimedOutError(ObjectLostError):
    """No copy of the object was found in time."""

    def _reason(self) -> str:
        return "No node that holds a copy was found in time."


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was deleted while a reference to it was alive."""

    def _reason(self) -> str:
        return "It was deleted while a reference to it was alive. This is a bug in jray; please report it."


class ObjectFreedError(ObjectLostError):
    """The object was freed by hand."""

    def _reason(self) -> str:
        return (
            "It was freed by an explicit call of `free`. Free an object only when nobody needs it any more."
        )


class OwnerDiedError(ObjectLostError):
    """The process that owns the object has died."""

    def _reason(self) -> str:
        return (
            "Its owner, the process that called `.remote()` or `put` for it, has exited. "
            "Make objects that are to outlive a worker in the driver or in an actor."
        )


class ObjectReconstructionFailedError(ObjectLostError):
    """The object is lost, and running its task again is not possible."""

    #: Why an object can't be made again, by `reason`.
    REASON_MESSAGES: ClassVar[Mapping[str, str]] = {
        "MAX_ATTEMPTS_EXCEEDED": "Its task used up its retries. Raise max_retries in @jray.remote.",
        "LINEAGE_EVICTED": "The record of how it was made was dropped to save memory.",
        "PUT": "It was made by put(), so there is no task to run again. Return it from a task instead.",
        "RETRIES_DISABLED": "Its task has max_retries=0. Allow retries in @jray.remote.",
        "BORROWED": "Only its owner can make it again, and this process borrowed it.",
        "REF_NOT_FOUND": "Its owner knows no such reference.",
        "TASK_CANCELLED": "Its task was cancelled.",
        "LINEAGE_DISABLED": "Making lost objects again is switched off in this session.",
    }

    def __init__(
        self,
        object_ref_hex: str,
        reason: str | None = None,
        reason_message: str | None = None,
        owner_address: str | bytes | None = None,
        call_site: str = "",
    ) -> None:
        super().__init__(object_ref_hex, owner_address, call_site)
        #: A key of `REASON_MESSAGES`, or None where it isn't known.
        self.reason = reason
        self.reason_message = reason_message or self.REASON_MESSAGES.get(
            reason or "", "The reason isn't known."
        )

    def _reason(self) -> str:
        reason = self.reason or "UNKNOWN"
        return f"All copies of it are lost, and it can't be made again [{reason}]: {self.reason_message}"


class ObjectStoreFullError(RayError):
    """The object does not fit into the store, and nothing more can be moved out of it."""

    def __init__(
        self,
        message: str = "",
        *,
        needed_bytes: int | None = None,
        free_bytes: int | None = None,
        capacity_bytes: int | None = None,
        pinned_bytes: int | None = None,
        pinned_objects: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes
        self.capacity_bytes = capacity_bytes
        #: Bytes held by objects that are still referred to.
        self.pinned_bytes = pinned_bytes
        self.pinned_objects = pinned_objects

    def __str__(self) -> str:
        text = self.message
        if self.needed_bytes is not None and self.free_bytes is not None and self.capacity_bytes is not None:
            measured = (
                f"Cannot store {_size(self.needed_bytes)}: the store has {_size(self.free_bytes)} free "
                f"of {_size(self.capacity_bytes)}"
            )
            if self.pinned_bytes is not None:
                measured += f", and {_size(self.pinned_bytes)} is pinned"
                if self.pinned_objects is not None:
                    measured += (
                        f" by {self.pinned_objects} live ObjectRef{'' if self.pinned_objects == 1 else 's'}"
                    )
            text = f"{measured}." + (f" {text}" if text else "")
        elif self.needed_bytes is not None:
            text = f"Cannot store {_size(self.needed_bytes)}: the object store is full." + (
                f" {text}" if text else ""
            )
        elif not text:
            text = "The object store is full."
        return (
            f"{text} Delete references and arrays you no longer need, "
            "or start with jray.init(object_store_memory=...)."
        )


class OutOfDiskError(RayError):
    """Neither the store nor the disk it spills to has room for the object."""

    def __init__(
        self,
        message: str = "",
        *,
        path: str | None = None,
        needed_bytes: int | None = None,
        free_bytes: int | None = None,
        capacity_bytes: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        #: The directory that objects are spilled to.
        self.path = path
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes
        self.capacity_bytes = capacity_bytes

    def __str__(self) -> str:
        where = "the disk" if self.path is None else f"the disk of {self.path}"
        text = f"The object store is full, and {where} has no room to spill to"
        if self.needed_bytes is not None:
            text += f" {_size(self.needed_bytes)}"
        if self.free_bytes is not None and self.capacity_bytes is not None:
            text += f": {_size(self.free_bytes)} is free of {_size(self.capacity_bytes)}"
        text += ". Free disk space, or choose another place with jray.init(object_spilling_directory=...)."
        return f"{self.message} {text}" if self.message else text


class OufOfBandObjectRefSerializationException(RayError):
    """An ObjectRef was pickled by other means than the runtime's, which hides it from reference counting.

    The spelling is Ray's.
    """


class UnserializableException(RayError):
    """An exception arrived that can't be unpickled here; its text did."""

    def __init__(self, original_stack_trace: str) -> None:
        super().__init__(original_stack_trace)
        self._original_stack_trace = original_stack_trace

    def __str__(self) -> str:
        return (
            "An exception came back that can't be unpickled in this process; make its class importable "
            f"here, or give it a __reduce__. Its text:\n{self._original_stack_trace}"
        )


# --- scheduling -----------------------------------------------------------------------------------


class TaskUnschedulableError(RayError):
    """No node may run the task, for example because the node it is bound to is dead."""

    def __init__(self, error_message: str) -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return f"The task can't be scheduled: {self.error_message}"


class ActorUnschedulableError(RayError):
    """No node may host the actor, for example because the node it is bound to is dead."""

    def __init__(self, error_message: str) -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return f"The actor can't be scheduled: {self.error_message}"


class TaskPlacementGroupRemoved(RayError):
    """The placement group of the task was removed."""

    def __str__(self) -> str:
        return super().__str__() or "The placement group of this task was removed."


class ActorPlacementGroupRemoved(RayError):
    """The placement group of the actor was removed."""

    def __str__(self) -> str:
        return super().__str__() or "The placement group of this actor was removed."


class RuntimeEnvSetupError(RayError):
    """The runtime environment could not be made."""

    def __init__(self, error_message: str | None = None) -> None:
        super().__init__(*([error_message] if error_message else []))
        #: Why, with the log of the build where there is one.
        self.error_message = error_message

    def __str__(self) -> str:
        text = "The runtime environment could not be set up."
        return f"{text}\n{self.error_message}" if self.error_message else text


# --- the system -----------------------------------------------------------------------------------


class RaySystemError(RayError):
    """The runtime can't do what was asked: not started, gone, or unable to read a value."""

    def __init__(self, client_exc: object, traceback_str: str | None = None) -> None:
        super().__init__(client_exc, traceback_str)
        self.client_exc = client_exc
        self.traceback_str = traceback_str

    def __str__(self) -> str:
        text = f"System error: {self.client_exc}"
        return f"{text}\ntraceback: {self.traceback_str}" if self.traceback_str else text


class StreamingGeneratorReplayInconsistentError(RaySystemError):
    """A generator that was run again gave another number of items than the first time."""


class AuthenticationError(RayError):
    """The other side did not accept our secret, or we have none."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class RpcError(RayError):
    """A message between two processes of the runtime was not answered."""

    def __init__(self, message: str, rpc_code: int | None = None) -> None:
        super().__init__(message, rpc_code)
        self.message = message
        self.rpc_code = rpc_code

    def __str__(self) -> str:
        return self.message
