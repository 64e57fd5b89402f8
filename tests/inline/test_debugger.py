"""Debuggers: breakpoints inside tasks and actors, and the frames of an error afterwards."""

from __future__ import annotations

import pdb  # noqa: T100 - what the tests are about
import traceback
from pathlib import Path
from typing import Any

import pytest

import jray
from tests.inline.test_one_process import run

PROGRAM = """
    import asyncio
    import jray

    jray.init(engine="inline", num_cpus=1)

    @jray.remote
    def task(x):
        secret = x * 7
        breakpoint()
        return secret + 1

    @jray.remote
    class Actor:
        async def method(self, x):
            await asyncio.sleep(0)
            hidden = x * 11
            breakpoint()
            return hidden

    ref = task.remote(6)
    print("result", jray.get(ref))
    print("result", jray.get(Actor.remote().method.remote(3)))
"""


def test_a_breakpoint_in_a_task_stops_there() -> None:
    """pdb reads commands, sees and changes the locals of the task, or of the coroutine, and goes on."""
    output = run(PROGRAM, stdin="p secret\nsecret = 100\nc\np hidden\nup\nc\n")
    assert "42" in output
    assert "result 101" in output
    assert "33" in output
    assert "result 33" in output


def test_quitting_the_debugger_ends_the_program() -> None:
    """The command "quit" in a task isn't the task's error: it goes through to the program."""
    script = """
        import bdb, jray
        jray.init(engine="inline", num_cpus=1)

        @jray.remote
        def task():
            breakpoint()
            return 1

        try:
            task.remote()
        except bdb.BdbQuit:
            print("has quit")
    """
    assert "has quit" in run(script, stdin="q\n")


def innermost(error: BaseException) -> Any:
    frames = list(traceback.walk_tb(error.__traceback__))
    return frames[-1][0]


@pytest.mark.usefixtures("inline")
def test_the_frames_of_a_task_are_there_after_it() -> None:
    """The traceback of what `get` raises, and that of its cause, end in the line that raised, with its locals."""

    def deep(x: int) -> float:
        evidence = x + 1
        return evidence / 0

    @jray.remote
    def task() -> float:
        return deep(41)

    ref = task.remote()
    with pytest.raises(ZeroDivisionError) as caught:
        jray.get(ref)
    frame = innermost(caught.value)
    assert frame.f_code.co_name == "deep"
    assert frame.f_locals["evidence"] == 42
    assert innermost(caught.value.cause) is frame
    names = [each.f_code.co_name for each, _ in traceback.walk_tb(caught.value.cause.__traceback__)]
    assert names == ["task", "deep"]
    with pytest.raises(ZeroDivisionError):
        jray.get(ref)  # again: with the text, and without the frames
    debugger = pdb.Pdb(nosigint=True, readrc=False)
    debugger.reset()
    debugger.setup(None, caught.value.__traceback__)
    assert debugger.curframe is frame


@pytest.mark.usefixtures("inline")
def test_the_frames_of_methods_and_constructors_are_there_too() -> None:
    """A method's, a coroutine's, a generator's and a constructor's."""

    @jray.remote
    class Actor:
        def method(self) -> None:
            in_method = 1
            raise ValueError(in_method)

        def items(self) -> Any:
            yield 1
            in_items = 2
            raise ValueError(in_items)

    @jray.remote
    class Async:
        async def method(self) -> None:
            in_coroutine = 3
            raise ValueError(in_coroutine)

    @jray.remote
    class Broken:
        def __init__(self) -> None:
            in_init = 4
            raise ValueError(in_init)

        def ping(self) -> None:
            pass

    actor, coroutine, broken = Actor.remote(), Async.remote(), Broken.remote()
    _, last = actor.items.remote()
    for ref, local in (
        (actor.method.remote(), "in_method"),
        (last, "in_items"),
        (coroutine.method.remote(), "in_coroutine"),
        (broken.ping.remote(), "in_init"),
    ):
        with pytest.raises((ValueError, jray.exceptions.ActorDiedError)) as caught:
            jray.get(ref)
        assert local in innermost(caught.value).f_locals


@pytest.mark.usefixtures("inline")
def test_a_chain_of_causes_can_be_walked() -> None:
    """`raise ... from ...` is there for a debugger that goes from one exception to the next."""

    @jray.remote
    def chain() -> None:
        try:
            1 / 0  # noqa: B018 - for the error
        except ZeroDivisionError as error:
            raise ValueError("second") from error

    with pytest.raises(ValueError, match="second") as caught:
        jray.get(chain.remote())
    assert isinstance(caught.value.cause.__cause__, ZeroDivisionError)


@pytest.mark.usefixtures("inline")
def test_an_error_that_nobody_gets_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """When the last ref goes, at once: the frames that are kept for a debugger don't keep the ref."""

    @jray.remote
    def fail() -> None:
        raise ValueError("nobody asked")

    fail.remote()
    assert capsys.readouterr().err.count("ValueError: nobody asked") == 1


def test_breakpoints_by_line_hit_in_a_task(tmp_path: Path) -> None:
    """`break file:line` of a program run under pdb stops in a function that was pickled by value."""
    program = tmp_path / "program.py"
    program.write_text(
        "import jray\n"
        "jray.init(engine='inline', num_cpus=1)\n"
        "@jray.remote\n"
        "def task(x):\n"
        "    y = x + 1\n"
        "    return y\n"
        "print('result', jray.get(task.remote(1)))\n"
    )
    script = f"""
        import runpy, sys
        sys.argv = ["pdb", {str(program)!r}]
        runpy.run_module("pdb", run_name="__main__")
    """
    output = run(script, stdin=f"b {program}:6\nc\np 'y is', y\nc\nq\n")
    assert "('y is', 2)" in output
    assert "result 2" in output
