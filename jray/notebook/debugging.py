"""Owns the debugging of a failed task in its notebook: it runs again here, with its arguments, under IPython's pdb."""

from __future__ import annotations

import bdb
import inspect
import sys
from typing import Any

from jray._core.inline.failures import users_frames
from jray.util.failures import failed_call, run


def debug(shell: Any, prefix: str = "", *, step: bool = False) -> Any:
    """Run the failed call whose task id begins with *prefix* (the latest, without one) again in this process.

    If it raises, its traceback is shown and the debugger entered where it was raised; with *step* the debugger is
    entered at its first line.  Returns what the call returns.  Where nobody can be asked, as in a notebook that is run
    as a whole, the traceback is all.

    Raises ValueError if no such call is remembered, NotImplementedError for a method of an actor, LookupError if its
    arguments were not kept.
    """
    call = failed_call(prefix)
    # what these raise is no failure of the task
    function = call.function()
    args, kwargs = call.arguments()
    sys.stdout.write(
        f"jray: {call.name}(), task {call.task_id[:8]}, runs again here. It raised {call.error}\n"
    )
    if step and can_ask(shell):
        debugger = shell.InteractiveTB.debugger_cls()
        try:
            if inspect.isgeneratorfunction(function):  # its code runs only as its items are taken
                return debugger.runcall(list, function(*args, **kwargs))
            return debugger.runcall(function, *args, **kwargs)
        except bdb.BdbQuit:
            return None
    try:
        result = run(function, args, kwargs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 -- whatever the task raises is what is wanted
        shell.showtraceback((type(error), error, users_frames(error.__traceback__)))
        if can_ask(shell):
            shell.debugger(force=True)
        else:
            sys.stdout.write("jray: nobody can be asked here, so there is no debugger.\n")
        return None
    sys.stdout.write("jray: this time it raised nothing.\n")
    return result


def can_ask(shell: Any) -> bool:
    """Tell whether a debugger can ask for commands."""
    kernel = getattr(shell, "kernel", None)
    return kernel is None or bool(getattr(kernel, "_allow_stdin", False))
