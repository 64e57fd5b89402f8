"""`%%actor` over a runtime that only notes what it is asked for; `test_kernel_commands.py` has the real one."""

from __future__ import annotations

import linecache
import traceback
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell


@pytest.fixture
def made(magic_shell: InteractiveShell, runtime: Any) -> list[dict[str, Any]]:
    """What actors were asked for: class, options and arguments of each."""
    found: list[dict[str, Any]] = []

    def remote(cls: type) -> Any:
        def make(options: dict[str, Any]) -> Any:
            def call(*args: Any, **kwargs: Any) -> str:
                found.append({"cls": cls, "options": options, "args": args, "kwargs": kwargs})
                return f"handle {len(found)}"

            return SimpleNamespace(remote=call)

        return SimpleNamespace(options=lambda **options: make(options), remote=make({}).remote)

    runtime.remote = remote
    return found


CELL = "limit = 3\nclass Counter:\n    pass\n"


def run(shell: InteractiveShell, line: str, cell: str = CELL) -> None:
    shell.run_cell_magic("actor", line, cell)


def test_the_cell_runs_here_and_its_class_becomes_the_actor(
    magic_shell: InteractiveShell, made: list[dict[str, Any]]
) -> None:
    """The class and what stands beside it are the notebook's; the variable is the handle."""
    run(magic_shell, "counter")
    assert magic_shell.user_ns["counter"] == "handle 1"
    assert magic_shell.user_ns["limit"] == 3
    assert made[0]["cls"] is magic_shell.user_ns["Counter"]
    assert (made[0]["args"], made[0]["kwargs"], made[0]["options"]) == ((), {}, {})


@pytest.mark.parametrize(
    ("expression", "args", "kwargs"),
    [
        ("(n, 2)", (1, 2), {}),
        ("n", (1,), {}),
        ("{'n': n}", (), {"n": 1}),
        ("({'n': n},)", ({"n": 1},), {}),
        ("[n]", ([1],), {}),
        ("()", (), {}),
    ],
)
def test_arguments_are_evaluated_in_the_notebook(
    magic_shell: InteractiveShell,
    made: list[dict[str, Any]],
    expression: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """A tuple is several, a dict keywords, anything else one."""
    magic_shell.user_ns["n"] = 1
    run(magic_shell, f'counter --args "{expression}"')
    assert (made[0]["args"], made[0]["kwargs"]) == (args, kwargs)


def test_options_become_those_of_the_actor(magic_shell: InteractiveShell, made: list[dict[str, Any]]) -> None:
    """Each under its own name, and only those that were given."""
    run(magic_shell, "c --num-cpus 0.5 --max-restarts -1 --name bob --lifetime detached --get-if-exists")
    assert made[0]["options"] == {
        "num_cpus": 0.5, "max_restarts": -1, "name": "bob", "lifetime": "detached", "get_if_exists": True,
    }  # fmt: skip
    run(magic_shell, "d --max-concurrency 4 --max-task-retries 2 --memory 1GiB --resources a=1 --num-gpus 1")
    assert made[1]["options"] == {
        "max_concurrency": 4, "max_task_retries": 2, "memory": 2**30, "resources": {"a": 1.0}, "num_gpus": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "cell", "message"),
    [
        ("", CELL, "required: NAME"),
        ("counter", "x = 1", "defines none"),
        ("Counter", CELL, "Call the variable counter"),
        ("1x", CELL, "'1x' is not a name"),
        ("c --lifetime detached", CELL, "needs --name"),
        ("c --get-if-exists", CELL, "needs --name"),
        ("c --lifetime long", CELL, "invalid choice"),
        ("c --args '{1: 2}'", CELL, "a dict is taken for keywords"),
    ],
)
def test_what_makes_no_actor_is_said(
    magic_shell: InteractiveShell, made: list[dict[str, Any]], line: str, cell: str, message: str
) -> None:
    """Nothing is made, and the message has the remedy."""
    with pytest.raises(UsageError, match=message):
        run(magic_shell, line, cell)
    assert made == []


def test_errors_of_the_cell_stand_at_its_lines(
    magic_shell: InteractiveShell, made: list[dict[str, Any]]
) -> None:
    """Line 1 is the magic's."""
    with pytest.raises(ZeroDivisionError) as caught:
        run(magic_shell, "c", "class C:\n    n = 1 / 0\n")
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert frame.lineno == 3
    assert linecache.getline(frame.filename, 3) == "    n = 1 / 0\n"
    assert made == []
