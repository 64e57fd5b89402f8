"""Owns what a front end (a notebook, a terminal) gives the runtime: the running cell, and where output goes.

Nothing here knows a notebook; `jray.notebook` brings its own front end and sets it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol, TextIO


class OutputKind:
    """What an `Output` holds."""

    STDOUT = "stdout"
    STDERR = "stderr"
    DISPLAY = "display"
    NOTICE = "notice"


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """A piece of what a task wrote or displayed, or a word of jray's own."""

    cell: int  #: the value of `Frontend.cell` when the task was submitted; 0: no cell
    kind: str  #: one of `OutputKind`; a notice is a message of jray itself, e.g. an infeasible request
    text: str  #: for stdout, stderr and notice
    #: for display: {"data": mime bundle, "metadata": {...}}, with "transient" and "update" where it is updated in place;
    #: for a notice that may come often: {"same": what is equal in all of them}
    data: dict[str, Any] | None
    task_name: str
    pid: int
    task_id: str


class Frontend(Protocol):
    """Where tasks come from and where what they write is shown."""

    @property
    def cell(self) -> int:
        """The running cell.  Read at every submit: must be cheap."""

    def write(self, output: Output) -> None:
        """Take *output* to be shown.  Called from any thread; never blocks, never raises."""

    def flush(self) -> None:
        """Show what was taken so far.  Called by the thread whose `get` is about to return."""

    def close(self) -> None:
        """Show what is left; nothing is written after."""


class TerminalFrontend:
    """Prints whole lines, each behind ``(name pid=123)``, to sys.stdout and sys.stderr."""

    cell = 0

    #: A line that never ends is shown in pieces of this many characters.
    LONGEST_LINE = 8192

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: the unfinished line of each (task, pid, kind), and who writes it
        self._tails: dict[tuple[str, int, str], tuple[str, str]] = {}

    def write(self, output: Output) -> None:
        if output.kind == OutputKind.NOTICE:
            self._print(sys.stderr, [output.text.rstrip("\n")])
            return
        kind = OutputKind.STDOUT if output.kind == OutputKind.DISPLAY else output.kind
        text = _plain_text(output.data) if output.kind == OutputKind.DISPLAY else output.text
        key = (output.task_id, output.pid, kind)
        prefix = f"({output.task_name} pid={output.pid}) "
        with self._lock:
            tail, _ = self._tails.pop(key, ("", ""))
            *lines, tail = (tail + text).split("\n")
            while len(tail) > self.LONGEST_LINE:
                lines.append(tail[: self.LONGEST_LINE])
                tail = tail[self.LONGEST_LINE :]
            if tail:
                self._tails[key] = (tail, prefix)
        self._print(_stream(kind), [prefix + line for line in lines])

    def flush(self) -> None:
        if not self._tails:
            return
        with self._lock:
            tails, self._tails = self._tails, {}
        for (_, _, kind), (tail, prefix) in tails.items():
            self._print(_stream(kind), [prefix + tail])

    def close(self) -> None:
        self.flush()

    @staticmethod
    def _print(stream: TextIO | None, lines: list[str]) -> None:
        if not lines or stream is None:
            return
        # a closed or broken terminal must not stop the thread that reads the workers' sockets
        with contextlib.suppress(OSError, ValueError):
            stream.write("\n".join([*lines, ""]))
            stream.flush()


def _stream(kind: str) -> TextIO | None:
    return sys.stderr if kind == OutputKind.STDERR else sys.stdout


def _plain_text(bundle: dict[str, Any] | None) -> str:
    text = ((bundle or {}).get("data") or {}).get("text/plain", "")
    return f"{text}\n" if text else ""


class _Current:
    """The front end of this process."""

    def __init__(self) -> None:
        self.frontend: Frontend = TerminalFrontend()
        self.store_fills: Callable[[int, int], None] = lambda *_: None


_current = _Current()


def set_frontend(frontend: Frontend | None) -> None:
    """Make *frontend* this process's front end; None: the terminal."""
    _current.frontend = TerminalFrontend() if frontend is None else frontend


def get_frontend() -> Frontend:
    """Return this process's front end."""
    return _current.frontend


def hear_of_filling(listener: Callable[[int, int], None] | None) -> None:
    """Have *listener* called with (bytes in use, bytes there are) when a store is nearly full, once; None: nobody.

    It is called by the thread that reads the sockets, and must not block.
    """
    _current.store_fills = (lambda *_: None) if listener is None else listener


def store_fills(used: int, capacity: int) -> None:
    """Tell whoever wants to hear of it that a store is nearly full."""
    _current.store_fills(used, capacity)
