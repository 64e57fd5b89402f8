"""Owns how errors of tasks are shown in a notebook: the user's own lines on both sides, and one line on where.

First the lines of the notebook that led to the call, drawn by IPython; then those of the task; frames of jray,
of the pickler and of IPython are left out.  All of the remote traceback is in `error.traceback_str`, and `%tb`
shows the error again.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
import IPython

import jray
from jray._core.refs import current
from jray.exceptions import RayTaskError

_IPYTHON = os.path.dirname(os.path.abspath(IPython.__file__)) + os.sep
_OWN = (os.path.dirname(os.path.abspath(jray.__file__)) + os.sep,)
_HIDDEN = (*_OWN, os.path.dirname(os.path.abspath(cloudpickle.__file__)) + os.sep, _IPYTHON)
#: What runs a magic: the frames before it are of a call that nobody wrote.
_MAGIC_FRAMES = frozenset({"run_cell_magic", "run_line_magic"})
#: A line of an error's text is cut at this many characters, and the text at so many lines.
_LONGEST_LINE = 2000
_MOST_LINES = 200
_FRAME = re.compile(r'^(\s*)File "([^"]+)", line (\d+)')


class Tracebacks:
    """Draws errors that jray had a part in; others are IPython's as ever."""

    def __init__(self, shell: Any, cell: Callable[[], int]) -> None:
        self._shell = shell
        #: the number of the cell that runs
        self._cell = cell
        self._original: Any = None

    def install(self) -> None:
        """Draw from now on."""
        self._original = self._shell.showtraceback
        self._shell.showtraceback = self._show

    def remove(self) -> None:
        """Leave errors to IPython again; if another has taken this one's place, that one stays."""
        if self._shell.__dict__.get("showtraceback") == self._show:
            del self._shell.__dict__["showtraceback"]

    def _show(self, exc_tuple: Any = None, *arguments: Any, **options: Any) -> None:
        error: Any = exc_tuple[1] if exc_tuple else sys.exc_info()[1] or getattr(sys, "last_value", None)
        lines = None
        # an error that brings its own drawing, on itself and not by its class, knows better
        if isinstance(error, BaseException) and "_render_traceback_" not in vars(error):
            if is_of_cell(error):  # without frames, for nobody's code has run
                self._original(exc_tuple)
                return
            try:
                lines = self.lines(error)
            except Exception:  # noqa: BLE001 -- drawing an error must not hide it: IPython draws it then
                lines = None
        if lines is None or error is None:
            self._original(exc_tuple, *arguments, **options)
            return
        if isinstance(error, SyntaxError):  # of a task: IPython would draw where jray raised it here
            self._shell._get_exc_info(exc_tuple)  # what %tb and %debug look at
            self._shell._showtraceback(type(error), error, lines)
            return
        error._render_traceback_ = lambda: lines  # IPython's protocol
        try:
            self._original(exc_tuple, *arguments, **options)
        finally:
            del error._render_traceback_

    def lines(self, error: BaseException) -> list[str] | None:
        """Return what is shown for *error*; None: jray had no part in it."""
        is_remote = callable(getattr(type(error), "_render_traceback_", None))
        frames, has_own = _users_frames(error.__traceback__)
        if not is_remote:
            if not has_own or isinstance(error, SyntaxError) or not frames:
                return None
            _strip_chain(error)
            return self._drawn(error, frames)
        remote = [self._with_cell(line) for line in cut(error._render_traceback_())]  # type: ignore[attr-defined]
        remote[-1] += same_error(error, self._cell())
        if not frames:
            return remote
        # the error's own text is the remote traceback: here only its kind is wanted
        stand_in = type(type(error).__name__, (Exception,), {"__module__": "builtins"})("")
        local = self._drawn(stand_in, frames)
        return [*local[:-1], *remote]

    # -- inside -----------------------------------------------------------------------------------

    def _drawn(self, error: BaseException, frames: Sequence[types.TracebackType]) -> list[str]:
        chain: types.TracebackType | None = None
        for frame in reversed(frames):
            chain = types.TracebackType(chain, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
        drawn: list[str] = self._shell.InteractiveTB.structured_traceback(
            type(error), error, chain, tb_offset=0
        )
        return drawn

    def _with_cell(self, line: str) -> str:
        """Name the cell where a line of a traceback names the file that IPython made of it."""
        found = _FRAME.match(line)
        named = found and self._shell.compile.format_code_name(found[2])
        if not found or not named:
            return line
        return f"{found[1]}{' '.join(named)}, line {found[3]}{line[found.end() :]}"


def _users_frames(trace: types.TracebackType | None) -> tuple[list[types.TracebackType], bool]:
    """Return the frames of the user's code, and whether some were jray's."""
    frames: list[types.TracebackType] = []
    has_own = False
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith(_IPYTHON) and code.co_name in _MAGIC_FRAMES:
            frames.clear()
        elif code.co_filename.startswith(_OWN):
            has_own = True
        elif not code.co_filename.startswith(_HIDDEN):
            frames.append(trace)
        trace = trace.tb_next
    return frames, has_own


def is_of_cell(error: BaseException) -> bool:
    """Tell whether *error* is what jray found when it read a cell that is no Python."""
    if not isinstance(error, SyntaxError) or isinstance(error, RayTaskError):
        return False
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    while files and files[-1] == ast.__file__:
        files.pop()
    return bool(files) and files[-1].startswith(_OWN)


def _strip_chain(error: BaseException) -> None:
    """Take frames that are not the user's from the errors that led to this one."""
    seen = {id(error)}
    other = error.__cause__ or error.__context__
    while other is not None and id(other) not in seen:
        seen.add(id(other))
        frames, has_own = _users_frames(other.__traceback__)
        if has_own:
            chain: types.TracebackType | None = None
            for frame in reversed(frames):
                chain = types.TracebackType(chain, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
            other.__traceback__ = chain
        other = other.__cause__ or other.__context__


def cut(lines: Sequence[str]) -> list[str]:
    """Return *lines* with long ones, and too many, cut with a note; the last two always stay."""
    short = []
    for line in lines:
        more = len(line) - _LONGEST_LINE
        note = f"... ({more:,} more characters; error.cause has them)".replace(",", " ")
        short.append(f"{line[:_LONGEST_LINE]}{note}" if more > 0 else line)
    if len(short) <= _MOST_LINES:
        return short
    half = _MOST_LINES // 2
    left_out = len(short) - 2 * half
    return [*short[:half], f"... ({left_out} more lines; error.traceback_str has them)", *short[-half:]]


def same_error(error: BaseException, cell: int) -> str:
    """Return a clause on how many other calls of the cell failed so; empty if none did."""
    watch = getattr(current.client, "watch", None)
    name = getattr(error, "function_name", None)
    if watch is None or not name:
        return ""
    tally = next((tally for tally in watch.tallies(cell) if tally.name == name), None)
    if tally is None or tally.failed - tally.cancelled < 2:
        return ""
    failed = tally.failed - tally.cancelled
    calls = f"{tally.submitted} {'calls' if tally.is_actor_call else 'tasks'}"
    if not hasattr(watch, "errors"):  # other engines do not keep them
        return f"; {failed} of {calls} failed"
    kept = watch.errors(cell, name)
    same = sum(kind_of(other) == kind_of(error) for other in kept)
    others = failed - len(kept)  # too long ago to be known
    if same < 2 and not others:
        return f"; {failed - 1} of {calls} failed otherwise"
    return f"; the same error in {same}{'+' if others else ''} of {calls}"


def kind_of(error: BaseException) -> tuple[type[BaseException], str]:
    """Return what equal errors have in common."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return type(cause), str(cause)
