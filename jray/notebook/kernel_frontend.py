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
from typing import Any

from jray._core.frontend import Output
from jray.notebook.cells import Cell, CellTable
from jray.notebook.outbox import Message, Outbox

#: Writes within this time become one message; at most 50 messages a second and stream.
_GATHER_S = 0.02
#: No message waits once this much has gathered.
_GATHER_CHARACTERS = 64 * 1024


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

    @property
    def cell(self) -> int:
        return self._current.get() or self._latest

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
                # what the cell printed itself came first
                for stream in (sys.stdout, sys.stderr):
                    with contextlib.suppress(OSError, ValueError):
                        stream.flush()
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
        # a kernel that is going down has closed its socket; there is nobody left to show it to
        with contextlib.suppress(OSError, AttributeError):
            self._kernel.session.send(self._kernel.iopub_socket, kind, content, parent=parent, ident=topic)
