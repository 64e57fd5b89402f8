"""Owns jray's presence in one shell: hooks, front end, magics and matcher, put in and taken out again."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any

from IPython.core.error import UsageError

import jray
from jray._core.frontend import Output, OutputKind, hear_of_filling, set_frontend
from jray._core.refs import current
from jray.exceptions import RaySystemError
from jray.notebook.bars import Bars
from jray.notebook.candidates import LiveCandidates
from jray.notebook.cells import CellTable, running_number
from jray.notebook.command_table import COMMANDS
from jray.notebook.completion import ArgumentMatcher
from jray.notebook.context import Context
from jray.notebook.kernel_frontend import KernelFrontend
from jray.notebook.lens import CellLens
from jray.notebook.looks import Looks
from jray.notebook.magics import JrayMagics
from jray.notebook.memory import filling_hint
from jray.notebook.outbox import Outbox
from jray.notebook.stopping import Policy, Stopping, is_interrupt, policy_from_environ, policy_of
from jray.notebook.task_logs import TaskLogs
from jray.notebook.throttle import limits_from_environ
from jray.notebook.tracebacks import Tracebacks

_TRUE = frozenset({"1", "true", "yes", "on"})


class Guest:
    """What jray has put into a shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._cells = CellTable()
        #: what tasks wrote, shown or not
        self.task_logs = TaskLogs(_logs_directory)
        self._frontend: KernelFrontend | None = None
        #: the view of each cell's work; None where there is no kernel to show it
        self.lens: CellLens | None = None
        self._magics: JrayMagics | None = None
        self._matcher: ArgumentMatcher | None = None
        self._looks: Looks | None = None
        #: whether the first cell is to bring in what a kernel's start could not
        self._is_awaiting = False
        self._tracebacks: Tracebacks | None = None
        self._on_interrupt = policy_from_environ()

    @property
    def cells(self) -> CellTable:
        return self._cells

    @property
    def on_interrupt(self) -> Policy:
        """What interrupting a cell does to the work it has submitted: "cancel", "detach" or "ask".

        `JRAY_ON_INTERRUPT` says what it is at first.  Setting another name raises ValueError.
        """
        return self._on_interrupt

    @on_interrupt.setter
    def on_interrupt(self, name: str) -> None:
        self._on_interrupt = policy_of(name)

    def attend(self) -> None:
        """Show refs with what is known of them; route output to cells, if the shell belongs to a kernel.

        Doing it again changes nothing.
        """
        if self._looks is None:
            self._looks = Looks(self._shell, self._cells, self._is_noninteractive)
            self._looks.install()
        kernel = getattr(self._shell, "kernel", None)
        if self._frontend is not None or kernel is None:
            return
        if not self._request().get("header"):
            # the kernel starts, and no cell runs yet: only a cell's request tells what kind of front end there is
            if not self._is_awaiting:
                self._is_awaiting = True
                self._shell.events.register("pre_run_cell", self._on_first_cell)
            return
        is_same_each_time = self._is_noninteractive()
        outbox = Outbox(
            with_prefix=_is_on("JRAY_LOG_PREFIX"),
            is_ordered=is_same_each_time,
            limits=None if is_same_each_time else limits_from_environ(),
        )
        self._frontend = KernelFrontend(
            kernel, self._cells, outbox, logs=self.task_logs, bars=None if is_same_each_time else Bars()
        )
        mode = os.environ.get("JRAY_LENS", "auto").lower()
        self.lens = CellLens(self._frontend, self._cells, mode=mode, is_repeatable=is_same_each_time)
        self._shell.events.register("pre_run_cell", self._on_cell)
        self._shell.events.register("post_run_cell", self._on_cell_end)
        self._enter_cell(None, is_recorded=True)  # the one that is running brought us here
        set_frontend(self._frontend)
        if not is_same_each_time:  # when it comes is chance
            hear_of_filling(self._on_store_fills)
        frontend = self._frontend
        self._tracebacks = Tracebacks(self._shell, lambda: frontend.latest)
        self._tracebacks.install()

    def load(self) -> None:
        """Add the magics and their completion.  Doing it again changes nothing."""
        self.attend()
        if self._magics is None:
            runtime: Any = jray  # a module is a `Runtime`, which mypy sees only when it is annotated so
            context = Context(
                self._shell, runtime, self._cells, is_deterministic=self._is_noninteractive, guest=self
            )
            self._magics = JrayMagics(self._shell, runtime, context)
            self._shell.register_magics(self._magics)
            self._matcher = ArgumentMatcher(
                self._shell, self._magics.option_tables, COMMANDS, LiveCandidates(context)
            )
            self._matcher.install()

    def add_magic(self, name: str, options: dict[str, Any]) -> None:
        """Add `%%name` and `%name`, and the magics they are made of: see `jray.new_magic`."""
        self.load()
        assert self._magics is not None
        self._magics.add(name, options)

    def leave(self) -> None:
        """Take everything out again."""
        self._stop_awaiting()
        if self._matcher is not None:
            self._matcher.remove()
        if self._magics is not None:
            self._magics.remove()
        if self._looks is not None:
            self._looks.remove()
        if self._frontend is not None:
            self._shell.events.unregister("pre_run_cell", self._on_cell)
            self._shell.events.unregister("post_run_cell", self._on_cell_end)
            set_frontend(None)
            hear_of_filling(None)
            if self._tracebacks is not None:
                self._tracebacks.remove()
            if self.lens is not None:
                self.lens.close()
            self._frontend.close()
            self.task_logs.close()
        self._frontend = self._magics = self._matcher = self._looks = self._tracebacks = None
        self.lens = None

    # -- hooks ------------------------------------------------------------------------------------

    def _on_first_cell(self, info: Any = None) -> None:
        self._stop_awaiting()
        self.attend()
        if self._frontend is not None:
            self._on_cell(info)

    def _stop_awaiting(self) -> None:
        if self._is_awaiting:
            self._is_awaiting = False
            self._shell.events.unregister("pre_run_cell", self._on_first_cell)

    def _on_cell(self, info: Any = None) -> None:
        self._enter_cell(getattr(info, "cell_id", None), is_recorded=False)

    def _on_cell_end(self, result: Any = None) -> None:
        if self._frontend is None:
            return
        if current.client is not None and is_interrupt(getattr(result, "error_in_exec", None)):
            cell = self._frontend.latest
            Stopping(current.client.watch, self._say, self._ask).on_interrupt(cell, self._on_interrupt)
        self._frontend.end_cell()
        if self.lens is not None:
            self.lens.left()

    def _on_store_fills(self, used: int, capacity: int) -> None:
        # What holds it others must be asked, which whoever calls this must not wait for.
        threading.Thread(
            target=self._hint_at_filling, args=(used, capacity), name="jray-hint", daemon=True
        ).start()

    def _hint_at_filling(self, used: int, capacity: int) -> None:
        runtime: Any = jray
        context = Context(self._shell, runtime, self._cells, guest=self)
        # the session may end meanwhile
        with contextlib.suppress(RaySystemError, UsageError):
            self._say(filling_hint(context, used, capacity))

    def _say(self, text: str) -> None:
        """Show a line of jray's own under the cell that runs or just ran, now."""
        if self._frontend is not None:
            self._frontend.write(Output(self._frontend.latest, OutputKind.NOTICE, text, None, "jray", 0, ""))
            self._frontend.flush()

    @staticmethod
    def _ask(question: str) -> str:
        return input(question)

    def _enter_cell(self, cell_id: str | None, *, is_recorded: bool) -> None:
        request = self._request()
        cell = self._cells.add(
            request.get("header", {}),
            cell_id=cell_id or request.get("metadata", {}).get("cellId"),
            execution_count=running_number(self._shell, is_recorded=is_recorded),
            notebook=self._notebook(),
        )
        if self._frontend is not None:
            self._frontend.enter(cell)
        if self.lens is not None:
            self.lens.entered(cell.number)

    def _request(self) -> dict[str, Any]:
        get_parent = getattr(self._shell, "get_parent", None)
        return (get_parent() if get_parent is not None else None) or {}

    def _notebook(self) -> str | None:
        # Jupyter Server tells by the environment, VS Code by a variable
        return os.environ.get("JPY_SESSION_NAME") or self._shell.user_ns.get("__vsc_ipynb_file__")

    def _is_noninteractive(self) -> bool:
        """Tell whether the same notebook must show the same output each time."""
        chosen = os.environ.get("JRAY_NONINTERACTIVE")
        if chosen is not None:
            return chosen.lower() in _TRUE
        # Front ends that people look at name the cell or the notebook; nbval and nbclient do neither.
        names_cell = bool(self._request().get("metadata", {}).get("cellId"))
        return not names_cell and self._notebook() is None and "COLAB_RELEASE_TAG" not in os.environ


def _logs_directory() -> str | None:
    """Return where this process's session keeps logs; None: nowhere, or where others must not write."""
    client = current.client
    if client is None or client.engine_name != "jray":
        return None
    directory = os.path.join(client.session_dir, "logs")
    return directory if os.path.isdir(directory) else None


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in _TRUE


def guest_of(shell: Any) -> Guest:
    """Return jray's presence in *shell*, made when there is none."""
    if "jray" not in shell.meta:
        shell.meta.jray = Guest(shell)
    guest: Guest = shell.meta.jray
    return guest
