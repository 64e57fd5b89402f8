"""Ray's exceptions, translated: each has its namesake in jray, with the same fields."""

from __future__ import annotations

from typing import Any

import pytest

from jray import exceptions

rays: Any = pytest.importorskip("ray.exceptions", reason="Ray is not installed here: pip install 'jray[ray]'")
errors: Any = pytest.importorskip("jray._core.on_ray.errors")


def made() -> list[BaseException]:
    """One of each of Ray's exceptions that a program can meet."""
    lost = ("ab" * 28, b"", "here")
    return [
        rays.RayError("text"),
        rays.TaskCancelledError(error_message="why"),
        rays.WorkerCrashedError(),
        rays.ActorDiedError(),
        rays.ActorUnavailableError("busy", None),
        rays.GetTimeoutError("late"),
        rays.ObjectStoreFullError("full"),
        rays.OutOfDiskError("full"),
        rays.OutOfMemoryError("memory"),
        rays.NodeDiedError("node"),
        rays.LocalRayletDiedError(),
        rays.RaySystemError("system"),
        rays.RuntimeEnvSetupError("env"),
        rays.TaskUnschedulableError("nowhere"),
        rays.ActorUnschedulableError("nowhere"),
        rays.TaskPlacementGroupRemoved(),
        rays.ActorPlacementGroupRemoved(),
        rays.PendingCallsLimitExceeded("many"),
        rays.ActorAlreadyExistsError("taken"),
        rays.ObjectLostError(*lost),
        rays.OwnerDiedError(*lost),
        rays.ObjectFreedError(*lost),
        rays.ObjectFetchTimedOutError(*lost),
        rays.ReferenceCountingAssertionError(*lost),
    ]


@pytest.mark.parametrize("error", made(), ids=lambda error: type(error).__name__)
def test_each_has_its_namesake(error: BaseException) -> None:
    """An exception of Ray's becomes jray's of the same name, and can be shown."""
    found = errors.translated(error)
    assert type(found) is getattr(exceptions, type(error).__name__)
    assert str(found)


def test_fields_are_kept() -> None:
    """What handlers ask of an error is there."""
    lost = errors.translated(rays.OwnerDiedError("ab" * 28, b"", "here"))
    assert lost.object_ref_hex == "ab" * 28
    assert lost.call_site == "here"
    assert errors.translated(rays.TaskCancelledError(error_message="why")).error_message == "why"
    assert errors.translated(rays.RuntimeEnvSetupError("env")).error_message == "env"


def test_an_unknown_one_is_a_ray_error_with_its_name() -> None:
    """A class that only Ray has becomes a RayError whose text names it."""
    new_error = type("NewError", (rays.RayError,), {})
    found = errors.translated(new_error("what"))
    assert type(found) is exceptions.RayError
    assert str(found) == "NewError: what"


def test_other_exceptions_stay_as_they_are() -> None:
    """What is not Ray's is not touched."""
    error = KeyError("mine")
    assert errors.translated(error) is error


def test_a_task_error_is_read_from_its_text() -> None:
    """Function, process and the user's frames come from the text, as a joined error has no fields of its own."""
    traceback = (
        "Traceback (most recent call last):\n"
        '  File "/site-packages/jray/_core/on_ray/hosting.py", line 70, in run\n'
        "    return self.function(*args)\n"
        "           ^^^^^^^^^^^^^^^^^^^^\n"
        '  File "/home/me/program.py", line 3, in f\n'
        "    raise ValueError(1)\n"
        "ValueError: 1\n"
    )
    plain = rays.RayTaskError("f", traceback, ValueError(1), proctitle="ray::f", pid=7, ip="1.2.3.4")
    found = errors.translated(plain.as_instanceof_cause())
    assert isinstance(found, ValueError)
    assert isinstance(found, exceptions.RayTaskError)
    assert (found.function_name, found.pid, found.ip) == ("f", 7, "1.2.3.4")
    assert found.traceback_str == (
        "Traceback (most recent call last):\n"
        '  File "/home/me/program.py", line 3, in f\n'
        "    raise ValueError(1)\n"
        "ValueError: 1"
    )
