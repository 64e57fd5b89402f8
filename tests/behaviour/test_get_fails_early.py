"""A `get` of several refs does not wait for the others once one has failed."""

from __future__ import annotations

import pytest

import jray
from tests.behaviour.support import Bench

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
def fail() -> None:
    raise ValueError("at once")


@pytest.mark.sentences("S65")
def test_a_failure_behind_a_task_that_hangs_is_raised(bench: Bench) -> None:
    """Whatever stands before it in the list."""
    gate = bench.gate()

    @jray.remote
    def wait() -> str:
        gate.wait()
        return "done"

    hanging = wait.remote()
    with pytest.raises(ValueError, match="at once"):
        jray.get([hanging, fail.remote()], timeout=60)
    gate.open()
    assert jray.get([hanging, hanging]) == ["done", "done"]


@pytest.mark.sentences("S65")
def test_a_failure_is_raised_in_a_task_too(bench: Bench) -> None:
    """There waiting gives the CPU back meanwhile."""
    gate = bench.gate()

    @jray.remote
    def wait() -> None:
        gate.wait()

    @jray.remote
    def both() -> str:
        try:
            jray.get([wait.remote(), fail.remote()], timeout=60)
        except ValueError as error:
            return str(error.args[0])
        return "no error"

    assert jray.get(both.remote()) == "at once"
    gate.open()
