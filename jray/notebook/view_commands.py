"""Owns the commands that open views and look into tasks: panel, lens, logs, debug, interrupt."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from jray.notebook.arguments import option
from jray.notebook.context import Context
from jray.notebook.debugging import debug as debug_task
from jray.notebook.lens.live import MODES
from jray.notebook.panel import Panel
from jray.notebook.panel import panel as open_panel
from jray.notebook.stopping import POLICIES

if TYPE_CHECKING:
    from jray.notebook.guest import Guest

_TASK = option("task", nargs="?", metavar="TASK", completes="tasks", help="the beginning of a task's id.")

_MEANINGS = {
    "cancel": "cancel: interrupting a cell cancels the work that it has submitted.",
    "detach": "detach: when a cell is interrupted the work that it has submitted goes on.",
    "ask": "ask: interrupting a cell asks whether the work that it has submitted is to be cancelled.",
}

LENS_OPTIONS = (
    option(
        "what",
        nargs="?",
        metavar="on|off|auto|In[n]",
        completes="on off",
        help="switch the view under cells on or off, or let jray choose; or the cell to show (default: the last).",
    ),
)
LOGS_OPTIONS = (
    _TASK,
    option("--tail", metavar="N", type=int, help="only the last N lines (default: all)."),
)
DEBUG_OPTIONS = (
    _TASK,
    option("--step", action="store_true", help="stop at the first line instead of where it fails."),
)
INTERRUPT_OPTIONS = (
    option(
        "policy",
        nargs="?",
        choices=list(POLICIES),
        metavar="|".join(POLICIES),
        help="what interrupting a cell does to its work; without it: say which it is.",
    ),
)


def panel(_context: Context, _arguments: argparse.Namespace) -> Panel:
    """Return the live panel."""
    return open_panel()


def lens(context: Context, arguments: argparse.Namespace) -> Any:
    """Switch the lens, or return the picture of a cell's work."""
    found = _guest(context).lens
    if found is None:
        raise UsageError("There is no kernel that could show a lens: this shell is not a notebook.")
    what = arguments.what
    if what in MODES:
        found.mode = what
        return None
    if what is not None and context.cell_numbers(what) is None:
        raise UsageError(f"%jray lens takes {', '.join(MODES)} or a cell as In[3], not {what!r}.")
    try:
        return found.show(None if what is None else int("".join(filter(str.isdigit, what))))
    except LookupError as error:
        raise UsageError(str(error)) from None


def logs(context: Context, arguments: argparse.Namespace) -> Any:
    """Return all that a task wrote, or which tasks wrote."""
    try:
        return _guest(context).task_logs.of(arguments.task, tail=arguments.tail)
    except (LookupError, ValueError) as error:
        raise UsageError(str(error)) from None


def debug(context: Context, arguments: argparse.Namespace) -> Any:
    """Run a failed task again here, under the debugger."""
    try:
        return debug_task(context.shell, arguments.task or "", step=arguments.step)
    except (LookupError, ValueError, NotImplementedError) as error:
        raise UsageError(str(error)) from None


def interrupt(context: Context, arguments: argparse.Namespace) -> None:
    """Say or set what interrupting a cell does to its work."""
    guest = _guest(context)
    if arguments.policy is not None:
        guest.on_interrupt = arguments.policy
    sys.stdout.write(_MEANINGS[guest.on_interrupt] + "\n")


def _guest(context: Context) -> Guest:
    guest: Guest | None = context.guest
    if guest is None:
        raise UsageError("jray is not loaded here: %load_ext jray.")
    return guest
