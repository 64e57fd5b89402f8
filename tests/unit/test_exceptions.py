"""Exceptions keep their class, their fields and their text wherever they are carried."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Self

import cloudpickle
import pytest

from jray import exceptions
from jray.exceptions import (
    ActorAlreadyExistsError,
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    JrayInternalError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    OwnerDiedError,
    RayActorError,
    RayError,
    RaySystemError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    UnserializableException,
    WorkerCrashedError,
)

TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "cell.py", line 2, in f\n'
    '    raise ValueError("boom")\n'
    "ValueError: boom\n"
)


def task_error(cause: BaseException | None = None, **fields: Any) -> RayTaskError:
    return RayTaskError(
        "f", TRACEBACK, ValueError("boom") if cause is None else cause, **{"pid": 123} | fields
    )


def dual(cause: BaseException) -> Any:
    return task_error(cause).as_instanceof_cause()


#: One of each class, with every field set to something that isn't its default.
SAMPLES: list[RayError] = [
    RayError("why", 3),
    task_error(proctitle="p", ip="10.0.0.1", actor_repr="<A>", actor_id="ab"),
    exceptions.UserCodeException("why"),
    TaskCancelledError("ab", "because"),
    WorkerCrashedError("why", task_name="f", pid=7, exit_code=3, last_lines=["one", "two"]),
    RayActorError("ab", "why", True, True, class_name="A", name="a", namespace="n", pid=7, ip="10.0.0.1"),
    ActorDiedError(task_error(actor_id="ab"), class_name="A", name="a", pid=7, signal=9, last_lines=["x"]),
    ActorUnavailableError(
        "restarting", b"\xab", class_name="A", name="a", namespace="n", pid=7, ip="10.0.0.1"
    ),
    exceptions.AsyncioActorExit(),
    GetTimeoutError("2 of 3 are not ready"),
    exceptions.PlasmaObjectNotAvailable("why"),
    ObjectLostError("ab", "10.0.0.1:5", "cell.py:3"),
    exceptions.ObjectFetchTimedOutError("ab", b"10.0.0.1:5", "cell.py:3"),
    exceptions.ObjectFreedError("ab"),
    ObjectReconstructionFailedError("ab", "PUT", None, "10.0.0.1:5", "cell.py:3"),
    OwnerDiedError("ab"),
    exceptions.ReferenceCountingAssertionError("ab"),
    exceptions.ObjectRefStreamEndOfStreamError(),
    ObjectStoreFullError(
        "why", needed_bytes=5, free_bytes=4, capacity_bytes=9, pinned_bytes=5, pinned_objects=1
    ),
    OutOfDiskError("why", path="/spill", needed_bytes=5, free_bytes=4, capacity_bytes=9),
    OutOfMemoryError(
        "why", task_name="f", pid=7, worker_bytes=3, used_bytes=9, total_bytes=10, threshold=0.8
    ),
    exceptions.NodeDiedError("why"),
    exceptions.LocalRayletDiedError("why"),
    RuntimeEnvSetupError("why"),
    exceptions.TaskUnschedulableError("why"),
    exceptions.ActorUnschedulableError("why"),
    exceptions.TaskPlacementGroupRemoved(),
    exceptions.ActorPlacementGroupRemoved(),
    exceptions.PendingCallsLimitExceeded("why"),
    ActorAlreadyExistsError("why"),
    exceptions.ActorHandleNotFoundError("why"),
    exceptions.AuthenticationError("why"),
    exceptions.RpcError("why", 4),
    exceptions.OufOfBandObjectRefSerializationException("why"),
    UnserializableException("text"),
    RaySystemError("why", "trace"),
    exceptions.StreamingGeneratorReplayInconsistentError("why"),
    JrayInternalError("why", task_id="ab"),
]

#: Name -> the names of all its bases that matter to a handler, as Ray has them.
RAY_BASES = {
    "RayTaskError": {"RayError"},
    "TaskCancelledError": {"RayError"},
    "WorkerCrashedError": {"RayError"},
    "RayActorError": {"RayError"},
    "ActorDiedError": {"RayError", "RayActorError"},
    "ActorUnavailableError": {"RayError", "RayActorError"},
    "AsyncioActorExit": {"RayError"},
    "GetTimeoutError": {"RayError", "TimeoutError", "OSError"},
    "ObjectLostError": {"RayError"},
    "ObjectFetchTimedOutError": {"RayError", "ObjectLostError"},
    "ObjectFreedError": {"RayError", "ObjectLostError"},
    "ObjectReconstructionFailedError": {"RayError", "ObjectLostError"},
    "OwnerDiedError": {"RayError", "ObjectLostError"},
    "ReferenceCountingAssertionError": {"RayError", "ObjectLostError", "AssertionError"},
    "ObjectStoreFullError": {"RayError"},
    "OutOfDiskError": {"RayError"},
    "OutOfMemoryError": {"RayError"},
    "NodeDiedError": {"RayError"},
    "LocalRayletDiedError": {"RayError"},
    "RuntimeEnvSetupError": {"RayError"},
    "TaskUnschedulableError": {"RayError"},
    "ActorUnschedulableError": {"RayError"},
    "TaskPlacementGroupRemoved": {"RayError"},
    "ActorPlacementGroupRemoved": {"RayError"},
    "PendingCallsLimitExceeded": {"RayError"},
    "ActorAlreadyExistsError": {"RayError", "ValueError"},
    "ActorHandleNotFoundError": {"RayError", "ValueError"},
    "AuthenticationError": {"RayError"},
    "RaySystemError": {"RayError"},
    "StreamingGeneratorReplayInconsistentError": {"RayError", "RaySystemError"},
    "UnserializableException": {"RayError"},
    "UserCodeException": {"RayError"},
    "PlasmaObjectNotAvailable": {"RayError"},
    "ObjectRefStreamEndOfStreamError": {"RayError"},
    "RpcError": {"RayError"},
    "OufOfBandObjectRefSerializationException": {"RayError"},
}


def comparable(value: Any) -> Any:
    """*value* with exceptions, which compare by identity, replaced by what can be compared."""
    if isinstance(value, BaseException):
        return type(value), value.args and str(value.args), comparable(vars(value))
    return {name: comparable(item) for name, item in value.items()} if isinstance(value, dict) else value


def carry_over(error: RayError, way: str) -> Any:
    """*error* after a trip by *way*."""
    ways: dict[str, Callable[[], Any]] = {
        "pickle": lambda: pickle.loads(pickle.dumps(error)),
        "cloudpickle": lambda: cloudpickle.loads(cloudpickle.dumps(error)),
        "copy": lambda: copy.copy(error),
        "deepcopy": lambda: copy.deepcopy(error),
        "bytes": lambda: RayError.from_bytes(error.to_bytes()),
    }
    return ways[way]()


WAYS = ["pickle", "cloudpickle", "copy", "deepcopy", "bytes"]


# --- the tree -------------------------------------------------------------------------------------


def test_all_names_every_exception_and_nothing_else() -> None:
    """`__all__` is the set of exception classes that the module defines."""
    defined = {
        name
        for name, value in vars(exceptions).items()
        if inspect.isclass(value)
        and issubclass(value, BaseException)
        and value.__module__ == "jray.exceptions"
    }
    assert defined == set(exceptions.__all__)
    assert len(exceptions.__all__) == len(defined)


def test_docstring_draws_the_tree_that_is() -> None:
    """Each class stands in the docstring once, below its first base of ours."""
    drawn: dict[str, str] = {}
    path: list[str] = []
    assert exceptions.__doc__ is not None
    for line in exceptions.__doc__.splitlines():
        if "──" not in line:
            continue
        marker = line.index("──")
        depth = marker // 4
        name = line[marker + 2 :].split()[0]
        path[depth:] = [name]
        drawn[name] = path[depth - 1] if depth else "Exception"
    actual = {
        name: next(
            base.__name__ for base in getattr(exceptions, name).__mro__[1:] if issubclass(base, RayError)
        )
        for name in exceptions.__all__
        if name != "RayError"
    } | {"RayError": "Exception"}
    assert drawn == actual


@pytest.mark.parametrize("name", sorted(RAY_BASES))
def test_handler_written_for_ray_catches_the_same(name: str) -> None:
    """Every class has the bases it has in Ray."""
    bases = {base.__name__ for base in getattr(exceptions, name).__mro__[1:]}
    assert bases - {"Exception", "BaseException", "object"} == RAY_BASES[name]


def test_samples_cover_every_class() -> None:
    """No exception escapes the tests that loop over the samples."""
    assert {type(sample).__name__ for sample in SAMPLES} == set(exceptions.__all__)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
@pytest.mark.parametrize("carry", WAYS)
def test_exception_survives_being_carried(sample: RayError, carry: str) -> None:
    """Class, fields, args and text are the same on the other side."""
    carried = carry_over(sample, carry)
    assert type(carried) is type(sample)
    assert comparable(carried) == comparable(sample)
    assert str(carried) == str(sample)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_every_field_shows_in_the_text_or_is_readable(sample: RayError) -> None:
    """The text is one for a person: not empty, no exclamation mark, no trailing space."""
    text = str(sample)
    if type(sample) not in (exceptions.AsyncioActorExit, exceptions.ObjectRefStreamEndOfStreamError):
        assert text
    assert "!" not in text
    assert text == text.rstrip()


@pytest.mark.parametrize(
    "name",
    [
        "AsyncioActorExit",
        "ActorDiedError",
        "ActorPlacementGroupRemoved",
        "ActorUnavailableError",
        "GetTimeoutError",
        "LocalRayletDiedError",
        "NodeDiedError",
        "ObjectStoreFullError",
        "OutOfDiskError",
        "OutOfMemoryError",
        "PendingCallsLimitExceeded",
        "RayActorError",
        "RayError",
        "RuntimeEnvSetupError",
        "TaskCancelledError",
        "TaskPlacementGroupRemoved",
        "WorkerCrashedError",
    ],
)
def test_exception_without_fields_can_be_made_and_printed(name: str) -> None:
    """What can be built bare in Ray can be here, and says something."""
    str(getattr(exceptions, name)())


def test_note_added_to_an_error_travels_with_it() -> None:
    """`add_note` text is there after pickling."""
    error = GetTimeoutError("late")
    error.add_note("from cell 3")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["from cell 3"]


def test_subclass_with_its_own_arguments_survives_pickling() -> None:
    """A user's subclass needs no __reduce__, whatever its __init__ takes."""

    class Mine(RayActorError):
        def __init__(self, *, detail: str) -> None:
            super().__init__("ab", detail)
            self.detail = detail

    carried = cloudpickle.loads(cloudpickle.dumps(Mine(detail="d")))
    assert (carried.detail, str(carried)) == ("d", str(Mine(detail="d")))


def test_module_imports_nothing_of_ours_and_nothing_heavy() -> None:
    """A worker's start pays for this module, so it stays on the standard library."""
    script = (
        "import sys, importlib.util as u\n"
        "before = set(sys.modules)\n"
        "spec = u.spec_from_file_location('e', sys.argv[1]); m = u.module_from_spec(spec)\n"
        "sys.modules['e'] = m; spec.loader.exec_module(m)\n"
        "print(*(set(sys.modules) - before))"
    )
    command = [sys.executable, "-c", script, exceptions.__file__]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert "e" in loaded
    top_level = {name.partition(".")[0] for name in loaded - {"e"}}
    assert top_level <= set(sys.stdlib_module_names)
    assert not top_level & {"asyncio", "dataclasses", "inspect", "typing_extensions"}


# --- an error of the user's code ------------------------------------------------------------------


class Plain(Exception):
    pass


class Fields(Exception):
    def __init__(self, code: int, *, pid: str) -> None:
        super().__init__("fields")
        self.code = code
        self.pid = pid

    def __reduce__(self) -> Any:
        return _make_fields, (self.code, self.pid)

    @property
    def doubled(self) -> int:
        return self.code * 2


def _make_fields(code: int, pid: str) -> Fields:
    return Fields(code, pid=pid)


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class OddNew(Exception):
    def __new__(cls, first: int, second: int) -> Self:
        return super().__new__(cls, first, second)

    def __init__(self, first: int, second: int) -> None:
        super().__init__(first, second)
        self.total = first + second


class ReadOnlyArgs(Exception):
    @property
    def args(self) -> tuple[Any, ...]:  # type: ignore[override]
        return ("fixed",)


class Final(Exception):
    def __init_subclass__(cls) -> None:
        raise TypeError("this class is final")


class Group(ExceptionGroup[Exception]):
    def derive(self, excs: Any) -> Any:
        derived = Group(self.message, excs)
        derived.code = self.code
        return derived

    code = 0


CAUSES: list[BaseException] = [
    ValueError("boom"),
    KeyError("k"),
    StopIteration(3),
    OSError(2, "nope", "file"),
    ConnectionResetError(104, "reset"),
    UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    KeyboardInterrupt(),
    SystemExit(4),
    AttributeError("a", name="n", obj=3),
    ImportError("no", name="mod", path="p"),
    SyntaxError("bad", ("cell.py", 3, 4, "x =")),
    ExceptionGroup("g", [ValueError(1), KeyError(2)]),
    Plain("a", 1),
    Fields(5, pid="mine"),
    Slotted(6),
    OddNew(1, 2),
    ReadOnlyArgs("x"),
    WorkerCrashedError("gone", pid=9),
    ActorDiedError(actor_id="ab"),
]


def _name(cause: BaseException) -> str:
    return type(cause).__name__


@pytest.mark.parametrize("cause", CAUSES, ids=_name)
def test_error_is_an_instance_of_its_cause(cause: BaseException) -> None:
    """The raised object is of both classes, is named after both, and its args are the cause."""
    error = dual(cause)
    assert isinstance(error, RayTaskError)
    assert isinstance(error, type(cause))
    assert type(error).__name__ == type(error).__qualname__ == f"RayTaskError({type(cause).__name__})"
    assert type(error).__module__ == "jray.exceptions"
    assert error.cause is cause
    assert error.args == (cause,)
    assert str(error) == str(task_error(cause))


@pytest.mark.parametrize("cause", CAUSES, ids=_name)
@pytest.mark.parametrize("carry", WAYS)
def test_dual_error_survives_being_carried(cause: BaseException, carry: str) -> None:
    """A dual error is still of both classes on the other side, with cause, text and own attributes."""
    error = dual(cause)
    error.seen_by = "handler"
    carried = carry_over(error, carry)
    if carry == "bytes":  # what crosses is the error itself; its dual is made where it is raised
        carried = carried.as_instanceof_cause()
    else:
        assert carried.seen_by == "handler"
    assert type(carried) is type(error)
    assert str(carried) == str(error)
    assert comparable(carried.cause) == comparable(cause)
    assert carried.args == (carried.cause,)
    assert carried.traceback_str == error.traceback_str


@pytest.mark.parametrize(
    ("cause", "fields"),
    [
        (Fields(5, pid="mine"), {"code": 5, "pid": "mine", "doubled": 10}),
        (Slotted(6), {"code": 6}),
        (OddNew(1, 2), {"total": 3}),
        (OSError(2, "nope", "file"), {"errno": 2, "strerror": "nope", "filename": "file"}),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), {"encoding": "utf-8", "end": 1, "object": b"x"}),
        (StopIteration(3), {"value": 3}),
        (SystemExit(4), {"code": 4}),
        (AttributeError("a", name="n", obj=3), {"name": "n", "obj": 3}),
        (SyntaxError("bad", ("cell.py", 3, 4, "x =")), {"lineno": 3, "text": "x ="}),
        (ExceptionGroup("g", [Plain()]), {"message": "g"}),
        (WorkerCrashedError("gone", pid=9, signal=11), {"signal": 11, "pid": 9}),
        (
            ActorDiedError(actor_id="ab", actor_init_failed=True),
            {"actor_id": "ab", "actor_init_failed": True},
        ),
    ],
    ids=lambda value: _name(value) if isinstance(value, BaseException) else "",
)
def test_attributes_of_the_cause_are_readable(cause: BaseException, fields: dict[str, Any]) -> None:
    """Fields of the cause are read from the error, also where they live in C or in slots."""
    error = dual(cause)
    assert {name: getattr(error, name) for name in fields} == fields


def test_cause_wins_over_the_task_error_for_a_name_both_have() -> None:
    """A handler that reads `.pid` of its own exception gets what it put there."""
    assert dual(Fields(5, pid="mine")).pid == "mine"
    assert dual(ValueError()).pid == 123


def test_attribute_that_nobody_has_is_an_attribute_error() -> None:
    """Proxying doesn't invent attributes."""
    error = dual(ValueError())
    assert not hasattr(error, "nothing")
    with pytest.raises(AttributeError, match="nothing"):
        _ = error.nothing


def test_dual_class_is_made_once_per_cause_class() -> None:
    """Raising the same class a thousand times makes one class."""
    assert type(dual(Plain("a"))) is type(dual(Plain("b")))


def test_except_clause_of_the_cause_catches_the_error() -> None:
    """A handler for the user's class catches it, and one for RayTaskError does too."""
    with pytest.raises(KeyError):
        raise dual(KeyError("k"))
    with pytest.raises(RayTaskError):
        raise dual(KeyError("k"))


def test_except_star_splits_a_remote_group() -> None:
    """`except*` finds the members of an ExceptionGroup that a task raised."""
    caught: list[BaseException] = []
    try:
        raise dual(ExceptionGroup("g", [ValueError(1), ExceptionGroup("h", [KeyError(2), ValueError(3)])]))
    except* ValueError as group:
        caught.extend(group.exceptions)
    except* KeyError as group:
        caught.extend(group.exceptions)
    assert len(caught) == 3  # ValueError(1), the group that held ValueError(3), the one that held KeyError(2)


def test_except_star_catches_a_remote_exception_that_is_no_group() -> None:
    """A naked dual error is caught by `except*` of its cause."""
    caught: list[BaseException] = []
    try:
        raise dual(ValueError(1))
    except* ValueError as group:
        caught.extend(group.exceptions)
    assert [type(error).__name__ for error in caught] == ["RayTaskError(ValueError)"]


def test_user_group_with_derive_is_split_by_its_own_rule() -> None:
    """`derive` of a user's group runs on the error and finds the group's fields."""
    group = Group("g", [ValueError(1), KeyError(2)])
    group.code = 7
    matched, rest = dual(group).split(ValueError)
    assert (type(matched), matched.code, matched.message) == (Group, 7, "g")
    assert (type(rest), rest.code) == (Group, 7)


@pytest.mark.parametrize("cause", [Final("x"), BaseExceptionGroup("b", [KeyboardInterrupt()])], ids=_name)
def test_cause_that_cannot_be_subclassed_gives_a_plain_error(
    cause: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """The error stays a RayTaskError with its cause, and one warning names the class."""
    error = task_error(cause)
    with caplog.at_level(logging.WARNING, "jray.exceptions"):
        assert error.as_instanceof_cause() is error
    assert error.cause is cause
    (record,) = caplog.records
    assert _name(cause) in record.getMessage()


@pytest.mark.parametrize("cause", [Exception("e"), RayError("r"), BaseException("b")], ids=_name)
def test_error_that_is_an_instance_already_stays_as_it_is(cause: BaseException) -> None:
    """A cause whose class RayTaskError has among its bases needs no other class."""
    error = task_error(cause)
    assert error.as_instanceof_cause() is error


def test_dual_error_is_its_own_dual() -> None:
    """Asking twice changes nothing."""
    error = dual(ValueError())
    assert error.as_instanceof_cause() is error


def test_handler_may_make_another_error_of_the_same_class() -> None:
    """`raise type(error)("more")` gives an error of both classes with the new text."""
    made = type(dual(ValueError("boom")))("boom and more")
    assert isinstance(made, ValueError)
    assert "boom and more" in str(made)
    assert made.cause.args == ("boom and more",)
    assert isinstance(pickle.loads(pickle.dumps(made)), ValueError)
    assert "text" in str(type(dual(Fields(1, pid="p")))("text"))  # its __init__ wants more than a text


def test_error_that_passed_through_several_tasks_has_one_cause() -> None:
    """A task error about a task error is about the first one's cause."""
    inner = dual(ValueError("boom"))
    outer = RayTaskError("g", f"Traceback (most recent call last):\n  frame of g\n{inner}", inner, pid=456)
    assert outer.cause is inner.cause
    error = outer.as_instanceof_cause()
    assert type(error) is type(inner)
    assert str(error).startswith("jray::g() (pid=456)\n  frame of g\njray::f() (pid=123)\n")


def test_text_is_a_header_and_the_remote_traceback() -> None:
    """The header takes the place of the traceback's own first line."""
    assert str(task_error()) == (
        'jray::f() (pid=123)\n  File "cell.py", line 2, in f\n    raise ValueError("boom")\nValueError: boom'
    )


def test_header_says_where_the_method_ran() -> None:
    """Node, actor id and actor repr are in the header when they are known."""
    error = task_error(proctitle="jray::A.m", ip="10.0.0.1", actor_repr="A(3)", actor_id="ab")
    assert str(error).split("\n")[0] == "jray::A.m() (pid=123, ip=10.0.0.1, actor_id=ab, repr=A(3))"


def test_python_prints_the_remote_traceback() -> None:
    """An uncaught error shows the remote frames below the local ones."""
    try:
        raise dual(ValueError("boom"))
    except ValueError as error:
        printed = "".join(traceback.format_exception(error))
    assert "jray.exceptions.RayTaskError(ValueError): jray::f() (pid=123)" in printed
    assert printed.rstrip().endswith("ValueError: boom")


@pytest.mark.parametrize("make", [task_error, lambda: dual(ValueError("boom"))], ids=["plain", "dual"])
def test_notebook_shows_the_users_frames_and_then_where_they_ran(make: Any) -> None:
    """IPython is given the remote traceback as it is and one line on task, node and process."""
    assert make()._render_traceback_() == [*TRACEBACK.rstrip().split("\n"), "", "in task f() in process 123"]
    where = task_error(ip="10.0.0.1", actor_repr="A(3)")._render_traceback_()[-1]
    assert where == "in task f() of actor A(3) on node 10.0.0.1 in process 123"


def test_task_that_never_ran_names_its_argument_as_the_reason() -> None:
    """The consumer of a failed task raises the producer's exception, and its text tells of both."""
    error: Any = RayTaskError.from_failed_argument("g", task_error()).as_instanceof_cause()
    assert isinstance(error, ValueError)
    assert str(error) == (
        "jray::g()\n"
        "  At least one of the input arguments for this task could not be computed:\n"
        f"jray.exceptions.RayTaskError: {task_error()}"
    )


def test_task_whose_argument_lost_its_worker_raises_that_too() -> None:
    """A consumer of a crashed task is caught as WorkerCrashedError."""
    error = RayTaskError.from_failed_argument("g", WorkerCrashedError(pid=7, signal=signal.SIGKILL))
    with pytest.raises(WorkerCrashedError, match="SIGKILL"):
        raise error.as_instanceof_cause()


# --- errors that can't be carried whole -----------------------------------------------------------


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


@pytest.mark.parametrize("make", [task_error, dual], ids=["plain", "dual"])
def test_cause_that_cannot_be_pickled_arrives_as_text(make: Any) -> None:
    """The error gets home with a RayError for its cause, which names the class and says why."""
    carried = RayError.from_bytes(make(Unpicklable()).to_bytes())
    assert isinstance(carried, RayTaskError)
    assert type(carried.cause) is RayError
    assert "Unpicklable" in str(carried.cause)
    assert "lock" in str(carried.cause)
    assert str(carried) == str(task_error())


def test_error_that_cannot_be_pickled_arrives_as_text(caplog: pytest.LogCaptureFixture) -> None:
    """Any other error that can't be pickled becomes an UnserializableException with its text."""
    error = JrayInternalError("broken", lock=threading.Lock())
    with caplog.at_level(logging.WARNING, "jray.exceptions"):
        carried = RayError.from_bytes(error.to_bytes())
    assert isinstance(carried, UnserializableException)
    assert "broken" in str(carried)
    assert "JrayInternalError" in caplog.text


def test_error_whose_class_is_missing_here_arrives_as_text() -> None:
    """What this process cannot unpickle is raised with the text it was sent with."""

    def loads(_: bytes) -> Any:
        raise AttributeError("no class Gone in __main__")

    carried = RayError.from_bytes(task_error().to_bytes(), loads)
    assert isinstance(carried, UnserializableException)
    assert "ValueError: boom" in str(carried)


def test_local_exception_class_travels_with_cloudpickle() -> None:
    """A class made in a function comes back whole when the runtime's pickler is used."""

    class Local(Exception):
        pass

    data = task_error(Local("x")).to_bytes(cloudpickle.dumps)
    carried = RayError.from_bytes(data, cloudpickle.loads)
    assert isinstance(carried, RayTaskError)
    assert type(carried.cause).__name__ == "Local"
    assert type(carried.as_instanceof_cause()).__name__ == "RayTaskError(Local)"


# --- what the texts say ---------------------------------------------------------------------------


def test_crashed_worker_tells_signal_and_last_lines() -> None:
    """The text names task, process, signal and what it last wrote."""
    error = WorkerCrashedError(
        task_name="f", pid=7, signal=signal.SIGSEGV, last_lines=["Fatal Python error", "  in f"]
    )
    assert str(error) == (
        "The worker (pid 7) killed by SIGSEGV while it ran task f.\n"
        "Last lines of its stderr:\n"
        "  Fatal Python error\n"
        "    in f"
    ).replace("killed", "was killed")


def test_crashed_worker_tells_its_exit_status() -> None:
    """The text names the status a process chose itself; an unknown signal keeps its number."""
    assert (
        str(WorkerCrashedError(task_name="f", exit_code=3))
        == "The worker exited with status 3 while it ran task f."
    )
    assert "was killed by signal 250" in str(WorkerCrashedError(signal=250))
    assert str(WorkerCrashedError()) == "The worker ended unexpectedly while it ran a task."


def test_full_store_measures_and_offers_a_remedy() -> None:
    """The text says what was asked for, what there is, who holds it, and what to do."""
    error = ObjectStoreFullError(
        needed_bytes=812 * 2**20,
        free_bytes=96 * 2**20,
        capacity_bytes=2 * 2**30,
        pinned_bytes=int(1.8 * 2**30),
        pinned_objects=3,
    )
    assert str(error) == (
        "Cannot store 812 MiB: the store has 96 MiB free of 2.0 GiB, and 1.8 GiB is pinned "
        "by 3 live ObjectRefs. "
        "Delete references and arrays you no longer need, or start with jray.init(object_store_memory=...)."
    )


def test_full_store_says_what_it_knows() -> None:
    """Numbers that aren't known are left out, and the remedy stays."""
    assert str(ObjectStoreFullError(needed_bytes=2**20)).startswith(
        "Cannot store 1.0 MiB: the object store is full. Delete references"
    )
    assert str(ObjectStoreFullError()).startswith("The object store is full. Delete references")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10 * 2**20, "10 MiB"),
        (2**30, "1.0 GiB"),
        (2**55, "32768 TiB"),
    ],
)
def test_sizes_are_said_as_people_say_them(size_bytes: int, text: str) -> None:
    """Sizes in texts are in the unit that gives a short number."""
    assert f"Cannot store {text}:" in str(
        ObjectStoreFullError(needed_bytes=size_bytes, free_bytes=0, capacity_bytes=1)
    )


def test_out_of_memory_gives_the_numbers() -> None:
    """The text says how full the node was, against which limit, and whose worker went."""
    text = str(
        OutOfMemoryError(
            task_name="f",
            pid=7,
            worker_bytes=2**30,
            used_bytes=15 * 2**30,
            total_bytes=16 * 2**30,
            threshold=0.9,
        )
    )
    for part in ("15 GiB of 16 GiB", "90%", "pid 7", "task f", "1.0 GiB", "num_cpus"):
        assert part in text


def test_actor_that_failed_to_start_shows_its_init_traceback() -> None:
    """The error of a method carries the traceback of `__init__`, in text and in a notebook."""
    error = ActorDiedError(task_error(actor_id="ab"), class_name="A")
    assert error.actor_init_failed
    assert error.actor_id == "ab"
    assert ActorDiedError.from_task_error(task_error()).actor_init_failed
    assert "ValueError: boom" in str(error)
    assert error._render_traceback_()[: len(TRACEBACK.splitlines())] == TRACEBACK.splitlines()


def test_dead_actor_names_itself_and_its_end() -> None:
    """The text holds class, id, name, process and how it ended."""
    text = str(ActorDiedError(actor_id="ab", class_name="A", name="a", namespace="n", pid=7, signal=9))
    for part in ("class_name: A", "actor_id: ab", "name: a", "namespace: n", "pid: 7", "SIGKILL"):
        assert part in text


def test_unavailable_actor_warns_that_the_call_may_have_run() -> None:
    """The text says that the outcome of the call isn't known."""
    error = ActorUnavailableError("it is restarting", b"\xab\xcd")
    assert error.actor_id == "abcd"
    assert "actor abcd is unavailable: it is restarting" in str(error)
    assert "may or may not" in str(error)


def test_lost_object_says_which_why_and_where_it_was_made() -> None:
    """The text of each kind of loss names the object, the reason and the place of its creation."""
    text = str(ObjectReconstructionFailedError("ab", "RETRIES_DISABLED", None, "10.0.0.1:5", "cell.py:3"))
    for part in ("Object ab", "RETRIES_DISABLED", "max_retries=0", "10.0.0.1:5", "cell.py:3"):
        assert part in text
    assert "owner" in str(OwnerDiedError("ab"))


def test_system_error_has_the_head_that_programs_look_for() -> None:
    """The text starts as in Ray, and carries a traceback where there is one."""
    assert str(RaySystemError("not started")) == "System error: not started"
    assert str(RaySystemError("x", "trace")) == "System error: x\ntraceback: trace"


def test_cancelled_task_is_named() -> None:
    """The text names the task where its id is known."""
    assert str(TaskCancelledError("ab")) == "Task ab was cancelled."
    assert str(TaskCancelledError(error_message="By its parent.")) == "A task was cancelled. By its parent."


def test_internal_error_asks_to_be_reported() -> None:
    """A broken promise of ours shows the fields and asks for a report."""
    text = str(JrayInternalError("the ledger is off", resource="CPU"))
    assert "resource: 'CPU'" in text
    assert "report" in text
