"""Errors of the user's code: their class, cause, text and way home."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

import jray
from jray.exceptions import RayError, RayTaskError

pytestmark = pytest.mark.usefixtures("cluster")


class Refused(Exception):
    """Has attributes, and an `__init__` that its args don't fit."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason

    def __reduce__(self) -> Any:
        return restore_refused, (self.code, self.reason)


def restore_refused(code: int, reason: str) -> Refused:
    return Refused(code, reason=reason)


class Final(Exception):
    def __init_subclass__(cls) -> None:
        message = "Final can't be subclassed"
        raise TypeError(message)


class Locked(Exception):
    """Can't be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


@jray.remote(max_retries=0)
def raising(make: Callable[[], BaseException]) -> None:
    raise make()


def caught(make: Callable[[], BaseException]) -> BaseException:
    with pytest.raises(BaseException) as info:  # noqa: PT011 - the class is what the tests look at
        jray.get(raising.remote(make))
    return info.value


@pytest.mark.sentences("S74")
def test_except_with_the_original_class_catches() -> None:
    """What `get` raises is both RayTaskError and the class that the task raised."""
    error = caught(lambda: ValueError("no good"))
    assert isinstance(error, ValueError)
    assert isinstance(error, RayTaskError)
    assert isinstance(error, RayError)
    assert type(error).__name__ == "RayTaskError(ValueError)"
    assert isinstance(error.cause, ValueError)
    assert error.cause.args == ("no good",)


@pytest.mark.sentences("S74")
def test_base_classes_catch_too() -> None:
    """A KeyError from a task is caught as LookupError."""
    assert isinstance(caught(lambda: KeyError("k")), LookupError)


@pytest.mark.sentences("S74", "S152")
def test_attributes_of_the_original_can_be_read() -> None:
    """Attributes of a user's exception are those of the raised one, whatever its `__init__` wants."""
    error: Any = caught(lambda: Refused(7, reason="busy"))
    assert isinstance(error, Refused)
    assert (error.code, error.reason) == (7, "busy")


@pytest.mark.sentences("S152")
def test_args_hold_the_cause() -> None:
    """`args` of what is raised is the cause alone."""
    error: Any = caught(lambda: ValueError(1, 2))
    assert error.args == (error.cause,)
    assert error.cause.args == (1, 2)


@pytest.mark.sentences("S152")
@pytest.mark.parametrize(
    "make",
    [
        lambda: KeyError("k"),
        lambda: StopIteration(3),
        lambda: FileNotFoundError(2, "no such file", "name"),
        lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        lambda: ZeroDivisionError(),
        lambda: AssertionError("a"),
        lambda: NotImplementedError(),
        lambda: ImportError("x", name="y"),
        lambda: RecursionError("deep"),
    ],
    ids=[
        "KeyError",
        "StopIteration",
        "OSError",
        "Unicode",
        "ZeroDivision",
        "Assertion",
        "NotImplemented",
        "Import",
        "Recursion",
    ],
)
def test_builtin_exceptions_keep_their_class(make: Callable[[], BaseException]) -> None:
    """Exceptions with odd constructors come back as instances of their class too."""
    original = make()
    error: Any = caught(make)
    assert isinstance(error, type(original))
    assert type(error).__name__ == f"RayTaskError({type(original).__name__})"
    assert error.cause.args == original.args


@pytest.mark.sentences("S75")
def test_all_returns_raise_the_same_error() -> None:
    """Each of the returns of a failed task raises its exception."""

    @jray.remote(num_returns=3, max_retries=0)
    def three() -> None:
        raise ValueError("for all")

    for ref in three.remote():
        with pytest.raises(ValueError, match="for all"):
            jray.get(ref)


@pytest.mark.sentences("S75")
def test_an_error_is_raised_at_each_get() -> None:
    """The same ref raises again and again."""
    ref = raising.remote(lambda: ValueError("again"))
    for _ in range(3):
        with pytest.raises(ValueError, match="again"):
            jray.get(ref)


@pytest.mark.sentences("S76")
def test_a_final_class_degrades_to_a_plain_task_error() -> None:
    """An exception that can't be subclassed is raised as RayTaskError with `.cause`."""
    error: Any = caught(lambda: Final("last"))
    assert type(error) is RayTaskError
    assert isinstance(error.cause, Final)
    assert "last" in str(error)


@pytest.mark.sentences("S76")
def test_an_unpicklable_exception_comes_home_as_text() -> None:
    """`.cause` is then a RayError with the text, and the error's own text has the traceback."""
    error: Any = caught(lambda: Locked("held"))
    assert isinstance(error, RayTaskError)
    assert isinstance(error.cause, RayError)
    assert "held" in str(error)


@pytest.mark.sentences("S77")
def test_an_exception_group_can_be_split() -> None:
    """`except*` takes what it names out of a group that a task raised."""
    ref = raising.remote(lambda: ExceptionGroup("several", [ValueError("v"), KeyError("k")]))
    seen: list[str] = []
    try:
        jray.get(ref)
    except* ValueError as group:
        seen += [f"ValueError {each.args}" for each in group.exceptions]
    except* KeyError as group:
        seen += [f"KeyError {each.args}" for each in group.exceptions]
    assert seen == ["ValueError ('v',)", "KeyError ('k',)"]


@pytest.mark.sentences("S78")
def test_the_text_is_the_remote_traceback() -> None:
    """`str(error)` tells the function, the process, and the user's frames; no frame of the runtime."""

    def innermost() -> None:
        message = "deep down"
        raise ValueError(message)

    @jray.remote
    def outermost() -> None:
        innermost()

    with pytest.raises(ValueError, match="deep down") as info:
        jray.get(outermost.remote())
    text = str(info.value)
    assert "outermost()" in text.splitlines()[0]
    assert "pid=" in text.splitlines()[0]
    assert "in outermost" in text
    assert "in innermost" in text
    assert "ValueError: deep down" in text
    frames = [line for line in text.splitlines() if line.lstrip().startswith("File ")]
    assert [frame for frame in frames if f"{jray.__path__[0]}/" in frame] == []


@pytest.mark.sentences("S78")
def test_a_chained_exception_shows_both() -> None:
    """`raise ... from ...` keeps the first exception in the text."""

    @jray.remote
    def chain() -> None:
        try:
            1 / 0  # noqa: B018 - for the error
        except ZeroDivisionError as error:
            message = "second"
            raise ValueError(message) from error

    with pytest.raises(ValueError, match="second") as info:
        jray.get(chain.remote())
    assert "ZeroDivisionError" in str(info.value)


@pytest.mark.sentences("S78")
def test_an_error_of_an_actor_method_names_the_actor() -> None:
    """The head of the text has class and method."""

    @jray.remote
    class Thrower:
        def throw(self) -> None:
            raise ValueError("thrown")

    thrower = Thrower.remote()
    with pytest.raises(ValueError, match="thrown") as info:
        jray.get(thrower.throw.remote())
    assert "Thrower.throw()" in str(info.value).splitlines()[0]


@pytest.mark.sentences("S74")
def test_an_error_passes_through_nested_gets() -> None:
    """A task that gets a failed ref fails with the same class, and the root is the cause."""

    @jray.remote
    def outer() -> None:
        jray.get(raising.remote(lambda: Refused(3, reason="inner")))

    with pytest.raises(Refused) as info:
        jray.get(outer.remote())
    assert info.value.code == 3
    assert isinstance(info.value, RayTaskError)


@pytest.mark.sentences("S74")
def test_a_task_can_catch_what_its_child_raised() -> None:
    """`except` with the original class works in a task as well."""

    @jray.remote
    def guard() -> str:
        try:
            jray.get(raising.remote(lambda: Refused(1, reason="x")))
        except Refused as error:
            return f"caught {error.code}"
        return "nothing"

    assert jray.get(guard.remote()) == "caught 1"


@pytest.mark.sentences("S74")
def test_a_raised_error_can_be_printed_and_pickled() -> None:
    """What `get` raised can go through a task again as a value, and be formatted by `traceback`."""
    error = caught(lambda: Refused(2, reason="travels"))
    assert "Refused" in "".join(traceback.format_exception(error))
    (back,) = jray.get(jray.remote(lambda nested: nested).remote([error]))
    assert isinstance(back, Refused)
    assert back.code == 2


@pytest.mark.sentences("S74")
def test_a_task_error_that_is_returned_is_raised() -> None:
    """A task that returns, bare, an error that it got from `get` fails with that error."""

    @jray.remote
    def give_back() -> BaseException | None:
        try:
            jray.get(raising.remote(lambda: Refused(4, reason="returned")))
        except Refused as error:
            return error
        return None

    with pytest.raises(Refused):
        jray.get(give_back.remote())


@pytest.mark.sentences("S152")
def test_keyboard_interrupt_raised_by_the_user_comes_home() -> None:
    """A task that raises KeyboardInterrupt itself doesn't interrupt the driver unasked: `get` raises."""
    error = caught(lambda: KeyboardInterrupt())
    assert isinstance(error, RayError)


@pytest.mark.sentences("S74")
def test_an_exception_value_is_not_an_exception() -> None:
    """An exception that a task returns, and doesn't raise, is a value."""
    value = jray.get(jray.remote(lambda: ValueError("as a value")).remote())
    assert type(value) is ValueError
    assert jray.get(jray.put(KeyError("k"))).args == ("k",)


@pytest.mark.sentences("S78")
def test_notes_are_in_the_text() -> None:
    """add_note() reaches the driver."""

    @jray.remote
    def noted() -> None:
        error = ValueError("with note")
        error.add_note("look here")
        raise error

    with pytest.raises(ValueError, match="with note") as info:
        jray.get(noted.remote())
    assert "look here" in str(info.value)


@pytest.mark.sentences("S74")
def test_deep_recursion_is_an_ordinary_error() -> None:
    """A runaway recursion fails its task with RecursionError and costs no worker."""

    @jray.remote(max_retries=0)
    def forever(n: int) -> int:
        return deeper(n)

    def deeper(n: int) -> int:
        return deeper(n + 1)

    with pytest.raises(RecursionError):
        jray.get(forever.remote(sys.maxsize))
