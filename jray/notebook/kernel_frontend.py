"""Owns the way of tasks' output to the cell that submitted them, in a kernel.

Each message is sent with the saved header of that cell's request as its parent, which works in every
ipykernel and also after the cell has ended.  (A print from a thread follows the latest cell instead.)
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
import time
from typing import Any, Protocol

from jray._core.frontend import Output
from jray.notebook.cells import Cell, CellTable
from jray.notebook.outbox import Message, Outbox

#: Writes within this time become one message; at most 50 messages a second and stream.
_GATHER_S = 0.02
#: No message waits once this much has gathered.
_GATHER_CHARACTERS = 64 * 1024


class WorkListener(Protocol):
    """Who hears when a cell begins to submit work."""

    known: set[int]  #: cells whose work is no news; read at every submit, without a lock

    def told_of_work(self, cell: int) -> None:
        """Some work of a cell is about to be submitted.  Called by any thread."""


class KernelFrontend:
    """The front end of a driver that runs in a Jupyter kernel.

    Cells are stamped per context, so that an asyncio task of an earlier cell keeps submitting for that one;
    threads, which have no context of a cell, submit for the latest.
    """

    def __init__(self, kernel: Any, cells: CellTable, outbox: Outbox) -> None:
        self._kernel = kernel
        self._cells = cells
        self._outbox = outbox
        self._latest = 0
        self._current: contextvars.ContextVar[int] = contextvars.ContextVar("jray_cell", default=0)
        #: guards the outbox; held for moments, never while sending
        self._lock = threading.Lock()
        #: held from taking messages to having sent them, so that two senders cannot swap them
        self._sending = threading.Lock()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._sender: threading.Thread | None = None
        self._is_closed = False
        self._listener: WorkListener | None = None

    @property
    def cell(self) -> int:
        cell = self._current.get() or self._latest
        listener = self._listener
        if listener is not None and cell not in listener.known:
            listener.told_of_work(cell)
        return cell

    def enter(self, cell: Cell) -> None:
        """Make *cell* the running one."""
        self._latest = cell.number
        self._current.set(cell.number)

    def write(self, output: Output) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._outbox.add(output, now_s=time.monotonic())
            is_large = self._outbox.size >= _GATHER_CHARACTERS
            if self._sender is None:
                self._sender = threading.Thread(target=self._send_loop, name="jray-output", daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter is going down
                    self._sender.start()
        self._wake.set()
        if is_large:
            self._hurry.set()

    def flush(self) -> None:
        # what the other sender has taken is not shown yet: this waits for it too
        if self._outbox or self._sending.locked():
            self._send(everything=True)

    def close(self) -> None:
        self.flush()
        with self._lock:
            self._is_closed = True
            sender, self._sender = self._sender, None
        self._wake.set()
        self._hurry.set()
        if sender is not None and sender is not threading.current_thread():
            sender.join(timeout=2)

    def hear_of_work(self, listener: WorkListener | None) -> None:
        """From now on tell *listener* of cells that submit work; None: nobody."""
        self._listener = listener

    def show(self, cell: int, data: dict[str, str], display_id: str, *, is_update: bool) -> None:
        """Show something under a cell, or in place of what was shown there by that id.  Called by any thread."""
        known = self._cells.get(cell)
        if known is None or self._is_closed:
            return
        content = {"data": data, "metadata": {}, "transient": {"display_id": display_id}}
        kind = "update_display_data" if is_update else "display_data"
        with self._sending:
            if cell == self._latest and not is_update:
                _flush_own()  # what the cell printed itself came first
            self._say(kind, content, known.parent, kind.encode())

    # -- inside -----------------------------------------------------------------------------------

    def _send_loop(self) -> None:
        while not self._is_closed:
            self._wake.wait()
            self._hurry.wait(_GATHER_S)
            self._hurry.clear()
            self._wake.clear()
            self._send(everything=False)
            if self._outbox.has_tails():
                self._wake.set()  # an unfinished line has a time to be shown at

    def _send(self, *, everything: bool) -> None:
        with self._sending:
            with self._lock:
                messages = self._outbox.take(now_s=time.monotonic(), everything=everything)
            if not messages:
                return
            if any(message.cell == self._latest for message in messages):
                _flush_own()  # what the cell printed itself came first
            for message in messages:
                self._post(message)

    def _post(self, message: Message) -> None:
        cell = self._cells.get(message.cell) or self._cells.get(self._latest)
        parent = {} if cell is None else cell.parent
        if message.stream:
            content: dict[str, Any] = {"name": message.stream, "text": message.text}
            kind, topic = "stream", f"stream.{message.stream}".encode()
        else:
            bundle = message.data or {}
            content = {
                "data": bundle.get("data", {}),
                "metadata": bundle.get("metadata", {}),
                "transient": {},
            }
            kind, topic = "display_data", b"display_data"
        self._say(kind, content, parent, topic)

    def _say(self, kind: str, content: dict[str, Any], parent: dict[str, Any], topic: bytes) -> None:
        # a kernel that is going down has closed its socket; there is nobody left to show it to
        with contextlib.suppress(OSError, AttributeError):
            self._kernel.session.send(self._kernel.iopub_socket, kind, content, parent=parent, ident=topic)


def _flush_own() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
