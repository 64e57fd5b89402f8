"""Owns `%%actor`: a cell that defines a class becomes a living actor under a name of the notebook."""

from __future__ import annotations

import argparse
import ast
import linecache
import sys
from typing import Any

from IPython.core.error import UsageError

from jray.actor import ActorHandle
from jray.notebook.arguments import given
from jray.notebook.cell_syntax import reading
from jray.notebook.cells import running_number
from jray.notebook.remote import Runtime, source_name

_OPTIONS = (
    "num_cpus", "num_gpus", "memory", "resources", "max_concurrency", "max_restarts", "max_task_retries", "name",
    "lifetime",
)  # fmt: skip


class ActorCells:
    """Makes the actors of a shell's `%%actor` cells, and ends those that are made again."""

    def __init__(self, shell: Any, runtime: Runtime) -> None:
        self._shell = shell
        self._runtime = runtime
        #: variable -> the actor that a cell made for it last
        self._made: dict[str, ActorHandle] = {}

    def run(self, arguments: argparse.Namespace, line: str, cell: str) -> None:
        """Define what the cell defines, make an actor of its class, and bind its handle.

        Raises UsageError for a cell without a class, and whatever the cell or the arguments' expression raises.
        """
        variable = arguments.variable
        if not variable.isidentifier():
            raise UsageError(
                f"{variable!r} is not a name; %%actor takes the variable for the handle, as in %%actor counter."
            )
        if arguments.lifetime and not arguments.name:
            raise UsageError(
                "--lifetime detached needs --name: without one nobody could find the actor again."
            )
        if arguments.get_if_exists and not arguments.name:
            raise UsageError("--get-if-exists needs --name: it looks for a living actor of that name.")
        class_name = self._define(line, cell, variable)
        args, kwargs = self._constructor_arguments(arguments.args)
        cls = self._shell.user_ns[class_name]
        actor_class = cls if hasattr(cls, "remote") else self._runtime.remote(cls)
        options = given(arguments, _OPTIONS)
        if arguments.get_if_exists:
            options["get_if_exists"] = True
        else:
            self._end_former(variable)
        handle = (actor_class.options(**options) if options else actor_class).remote(*args, **kwargs)
        self._made[variable] = self._shell.user_ns[variable] = handle

    # -- inside -----------------------------------------------------------------------------------

    def _define(self, line: str, cell: str, variable: str) -> str:
        """Run the cell here, and return the name of its class."""
        label = f"In[{running_number(self._shell, is_recorded=True)}]"
        magic = f"%%actor {line}".rstrip()
        text = f"{magic}\n{cell}"
        filename = source_name(label, text).replace("remote cell", "actor cell")
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        python = self._shell.transform_cell(cell)
        with reading(self._shell, magic, python):
            tree = ast.parse(python, filename)
        ast.increment_lineno(tree, 1)  # as it stands in the notebook, below the magic
        classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        if not classes:
            raise UsageError(
                "The cell of %%actor defines one class, which becomes the actor; this one defines none. "
                "Other statements beside it run in the notebook."
            )
        name = classes[-1]
        if name == variable:
            other = variable.lower() if variable != variable.lower() else f"a_{variable}"
            raise UsageError(
                f"%%actor {variable}: the class and the variable for its handle have one name, and only one of them "
                f"could keep it. Call the variable {other}."
            )
        exec(compile(tree, filename, "exec", dont_inherit=True), self._shell.user_ns)  # noqa: S102 -- the user's cell
        return name

    def _constructor_arguments(self, expression: str | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if expression is None:
            return (), {}
        value = self._shell.ev(expression)
        if isinstance(value, tuple):
            return value, {}
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise UsageError(
                    "--args: a dict is taken for keywords; give ({...},) to pass it as one argument."
                )
            return (), value
        return (value,), {}

    def _end_former(self, variable: str) -> None:
        """End the actor that an earlier run made for this variable, if the variable still holds it."""
        former = self._made.pop(variable, None)
        if former is None or self._shell.user_ns.get(variable) is not former:
            return
        try:
            self._runtime.kill(former)
        except self._runtime.exceptions.RayError:  # it went with its session
            return
        except ValueError:  # ActorHandleNotFoundError of an engine of its own
            return
        sys.stdout.write(
            f"jray: a new actor takes the place of the one that `{variable}` was; that one was ended.\n"
        )
