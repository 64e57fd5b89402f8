"""Owns the way of tasks' output to the cell that submitted them, in a kernel.

Each message is sent with the saved header of that cell's request as its parent, which works in every
ipykernel and also after the cell has ended.  (A print from a thread follows the latest cell instead.)
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import sys
import threading
import time
from typing import Any, Protocol

from jray._core.frontend import Output, OutputKind
from jray.notebook.bars import Bars, final_line
from jray.notebook.cells import Cell, CellTable
from jray.notebook.outbox import Message, Outbox
from jray.notebook.task_logs import TaskLogs
from jray.util.tqdm import BAR_MIME

#: Writes within this time become one message; at most 50 messages a second and stream.
_GATHER_S = 0.02
#: No message waits once this much has gathered.
_GATHER_CHARACTERS = 64 * 1024
#: ... but many messages at once are followed by a pause, so that there are about 100 a second, whatever is written.
_MESSAGE_S = 0.01
_LONGEST_PAUSE_S = 1.0


class WorkListener(Protocol):
    """Who hears when a cell begins to submit work."""

    known: set[int]  #: cells whose work is no news; read at every submit, without a lock

    def told_of_work(self, cell: int) -> None:
        """Some work of a cell is about to be submitted.  Called by any thread."""


class KernelFrontend:
    """The front end of a driver that runs in a Jupyter kernel.

    Cells are stamped per context, so that an asyncio task of an earlier cell keeps submitting for that one;
    threads, which have no context of a cell, submit for the latest.

    All that tasks write goes to *logs*, too. Progress bars of tasks are drawn as *bars*; without, where output is to
    be the same in every run, each is told in a line at its end, and displays are not updated in place.
    """

    def __init__(
        self,
        kernel: Any,
        cells: CellTable,
        outbox: Outbox,
        *,
        logs: TaskLogs | None = None,
        bars: Bars | None = None,
    ) -> None:
        self._kernel = kernel
        self._cells = cells
        self._outbox = outbox
        self._logs = logs
        self._bars = bars
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

    @property
    def latest(self) -> int:
        """The cell that began last, whoever asks: the end of a cell that awaits is told in another context."""
        return self._latest

    def enter(self, cell: Cell) -> None:
        """Make *cell* the running one."""
        self._latest = cell.number
        self._current.set(cell.number)

    def write(self, output: Output) -> None:
        bar = _bar_of(output)
        if bar is None and self._logs is not None:
            self._logs.add(output)
        with self._lock:
            if self._is_closed:
                return
            if bar is None:
                self._add(output)
            elif self._bars is not None:
                self._bars.update(output.cell, (output.task_id, output.pid), output.task_name, bar)
            elif bar["state"] != "running":
                line = dataclasses.replace(output, kind=OutputKind.STDERR, text=final_line(bar), data=None)
                self._outbox.add(line, now_s=time.monotonic())
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
        if self._outbox or self._bars or self._sending.locked():
            self._send(everything=True)

    def end_cell(self) -> None:
        """Show what was taken so far, and tell what was held back."""
        if self._outbox or self._bars or self._sending.locked():
            self._send(everything=True, final=True)

    def close(self) -> None:
        self.end_cell()
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

    def _add(self, output: Output) -> None:
        if self._bars is None and output.kind == OutputKind.DISPLAY and (output.data or {}).get("update"):
            return
        self._outbox.add(output, now_s=time.monotonic())

    def _send_loop(self) -> None:
        sent = 0
        while not self._is_closed:
            self._wake.wait()
            if sent > _GATHER_S / _MESSAGE_S:
                self._pause(min(sent * _MESSAGE_S, _LONGEST_PAUSE_S))
            else:
                self._hurry.wait(_GATHER_S)
            self._hurry.clear()
            self._wake.clear()
            sent = self._send(everything=False)
            if self._outbox.has_tails() or self._bars:
                self._wake.set()  # it has a time to be shown at

    def _pause(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while not self._is_closed and (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.05))

    def _send(self, *, everything: bool, final: bool = False) -> int:
        """Show what is to be shown now; return how many messages that took."""
        with self._sending:
            with self._lock:
                now_s = time.monotonic()
                messages = self._outbox.take(now_s=now_s, everything=everything, final=final)
                if self._bars is not None:
                    drawn = self._bars.take(now_s=now_s, everything=everything)
                    messages += [Message(drawing.cell, "", [], drawing.data) for drawing in drawn]
            if not messages:
                return 0
            if any(message.cell == self._latest for message in messages):
                _flush_own()  # what the cell printed itself came first
            for message in messages:
                self._post(message)
            return len(messages)

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
                "transient": bundle.get("transient", {}),
            }
            kind = "update_display_data" if bundle.get("update") else "display_data"
            topic = kind.encode()
        self._say(kind, content, parent, topic)

    def _say(self, kind: str, content: dict[str, Any], parent: dict[str, Any], topic: bytes) -> None:
        # a kernel that is going down has closed its socket; there is nobody left to show it to
        with contextlib.suppress(OSError, AttributeError):
            self._kernel.session.send(self._kernel.iopub_socket, kind, content, parent=parent, ident=topic)


def _bar_of(output: Output) -> dict[str, Any] | None:
    """Return the state of a progress bar that *output* tells, if it does."""
    if output.kind != OutputKind.DISPLAY:
        return None
    bar: dict[str, Any] | None = ((output.data or {}).get("data") or {}).get(BAR_MIME)
    return bar


def _flush_own() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
