"""Failed calls of a notebook are remembered with their arguments, within bounds, and run again here."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import jray
from jray._core.frontend import TerminalFrontend, set_frontend
from jray._core.refs import current
from jray.util.failures import failed_call, failed_calls, rerun
from tests.behaviour.support import wait_until
from tests.cluster.processes import Cluster


class Cells(TerminalFrontend):
    """A front end whose cell the test chooses."""

    cell = 1


@pytest.fixture
def cells() -> Iterator[Cells]:
    frontend = Cells()
    set_frontend(frontend)
    yield frontend
    set_frontend(None)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls, and 1 MB, are kept; set before the cluster starts."""
    monkeypatch.setenv("JRAY_FAILED_CALLS", "2")
    monkeypatch.setenv("JRAY_FAILED_CALLS_BYTES", "1000000")


@jray.remote
def divide(x: Any, *, by: Any = 0, label: str = "") -> Any:
    """Tell where it runs by what it raises."""
    if by:
        return x / by
    raise ZeroDivisionError(f"{label}{os.getpid()}")


def fail(*args: Any, **kwargs: Any) -> str:
    """Make a call that fails, and return its task id."""
    ref = divide.remote(*args, **kwargs)
    with pytest.raises(ZeroDivisionError):
        jray.get(ref)
    return str(ref.task_id().hex())


@pytest.mark.usefixtures("cells", "cluster")
class TestInANotebook:
    def test_a_failed_call_runs_again_here(self) -> None:
        task_id = fail(1, label="in ")
        call = failed_call(task_id[:8])
        assert (call.name, call.is_actor_call) == ("divide", False)
        assert call.error.startswith("ZeroDivisionError: in ")
        with pytest.raises(ZeroDivisionError, match=f"^in {os.getpid()}$"):
            call.rerun()
        with pytest.raises(ZeroDivisionError, match=f"^in {os.getpid()}$"):
            rerun()

    def test_its_arguments_are_those_it_had(self) -> None:
        """Plain, pickled, refs, refs inside, and so large that they are stored."""
        small, large = jray.put([1, 2]), jray.put(np.arange(100_000))
        args, kwargs = failed_call(fail(7)).arguments()
        assert (args, kwargs) == ((7,), {})
        args, kwargs = failed_call(fail(small, label="l")).arguments()
        assert (args, kwargs) == (([1, 2],), {"label": "l"})
        inside = {"ref": large}
        task_id = fail(inside, by=jray.put(0))
        del inside, large, small
        gc.collect()
        args, kwargs = failed_call(task_id).arguments()
        assert jray.get(args[0]["ref"]).sum() == np.arange(100_000).sum()
        assert kwargs == {"by": 0}
        args, _ = failed_call(fail(np.ones(300_000))).arguments()
        assert args[0].sum() == 300_000

    def test_the_code_is_what_ran(self) -> None:
        """Though the name means something else by now."""
        task_id = fail(1)
        assert failed_call(task_id).function().__name__ == "divide"
        assert failed_call(task_id).function()(6, by=3) == 2

    def test_only_what_raised_is_remembered(self) -> None:
        """Neither what succeeded, nor what was cancelled, nor what never ran because an argument failed."""
        assert jray.get(divide.remote(4, by=2)) == 2
        refs: list[Any] = []
        for _ in range(2):  # one after the other: two at once may end in any order
            refs.append(divide.remote(jray.put(1)))
            with pytest.raises(ZeroDivisionError):
                jray.get(refs[-1])
        with pytest.raises(ZeroDivisionError):
            jray.get(divide.remote(refs[0], by=1))
        assert [call.task_id for call in failed_calls()] == [ref.task_id().hex() for ref in reversed(refs)]

    def test_errors_tell_the_id(self) -> None:
        """Of the task whose code raised, also where it is another's argument."""
        ref = divide.remote(1)
        for failed in (ref, divide.remote(ref, by=1)):
            with pytest.raises(ZeroDivisionError) as caught:
                jray.get(failed)
            rendered: Any = caught.value
            assert rendered._render_traceback_()[-1].endswith(f", task {ref.task_id().hex()[:8]}")

    def test_a_method_of_an_actor_has_arguments_but_does_not_run_here(self) -> None:
        @jray.remote
        class Divider:
            def divide(self, x: int) -> float:
                return x / 0

        divider = Divider.remote()
        with pytest.raises(ZeroDivisionError) as caught:
            jray.get(divider.divide.remote(3))
        rendered: Any = caught.value
        call = failed_call(rendered._render_traceback_()[-1].rpartition(" ")[2])
        assert call.is_actor_call
        assert call.arguments() == ((3,), {})
        with pytest.raises(NotImplementedError, match=r"ran in an actor.*arguments\(\)"):
            call.rerun()

    def test_an_actor_among_the_arguments_does_not_outlive_its_handles(self) -> None:
        @jray.remote
        class Short:
            pass

        short = Short.options(name="short").remote()
        fail([short])
        del short
        gc.collect()
        wait_until(lambda: not jray.util.list_named_actors())

    def test_a_generator_runs_to_its_end(self) -> None:
        @jray.remote
        def items() -> Iterator[int]:
            yield 1
            raise ZeroDivisionError("later")

        with pytest.raises(ZeroDivisionError):
            jray.get(list(items.remote()))
        with pytest.raises(ZeroDivisionError, match=r"^later$"):
            rerun()

    def test_what_is_not_there_is_said_with_what_is(self) -> None:
        with pytest.raises(ValueError, match="No call from a cell of this notebook has raised"):
            failed_call("ab")
        task_id = fail(1)
        with pytest.raises(
            ValueError, match=rf"begins with 'xyz'. The latest are {task_id[:8]} divide\(\): Zero"
        ):
            failed_call("xyz")
        others = [fail(1) for _ in range(17)]  # the first of 16 digits comes twice
        first = max(others, key=lambda other: [o[0] for o in others].count(other[0]))[0]
        with pytest.raises(ValueError, match=r"failed calls have ids that begin with .* Give more of it"):
            failed_call(first)


def test_the_oldest_are_forgotten_with_their_refs(limits: None, cells: Cells) -> None:
    """By number and by bytes; what is too large for itself is remembered without arguments."""
    jray.init(num_cpus=1)
    ids = [fail(n) for n in range(3)]
    assert [call.task_id for call in failed_calls()] == [ids[2], ids[1]]
    client: Any = current.client
    value = jray.put(np.zeros(90_000))
    fail(value)
    fail(jray.put(np.zeros(50_000)))
    assert [call.arguments()[0][0].size for call in failed_calls()] == [50_000]
    assert client.failures._size < 1_000_000
    fail(np.zeros(900_000))
    with pytest.raises(LookupError, match=r"take 6\.9 MiB.*may take 977 KiB\. Set JRAY_FAILED_CALLS_BYTES"):
        failed_calls()[0].rerun()


def test_a_script_keeps_none(cluster: Cluster) -> None:
    fail(1)
    assert failed_calls() == []


def test_without_a_session_there_is_none() -> None:
    assert failed_calls() == []


def test_other_engines_say_why_not() -> None:
    jray.init(engine="inline")
    with pytest.raises(NotImplementedError, match="very process: use %debug"):
        failed_calls()
