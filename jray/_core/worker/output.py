"""Owns what tasks write: tags each piece with its task and sends it to where the task came from.

What goes through `sys.stdout` and `sys.stderr` is known by its task.  What is written to the descriptors
behind them, by C code and child processes, goes to a file first, and is counted to the task that runs, or
ran last, in the main thread.

    log_path.log, .stderr    what Python code wrote
    log_path.out, .err       what was written to descriptors 1 and 2
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from jray._core.frontend import Output, OutputKind
from jray._core.wire import messages
from jray._core.worker.running import RunningTask, current_task

#: what is written is sent at the latest when this much has gathered
_FLUSH_CHARACTERS = 64 * 1024
#: ... or when this long has passed
FLUSH_S = 0.02


class OutputRouter:
    """Gathers what tasks write, and sends it to their owners; thread-safe.

    `arm()` is called when something was gathered, and must have `flush` called within `FLUSH_S`;
    `to_node` sends what belongs to no task.
    """

    def __init__(self, log_path: str, to_node: Callable[..., None], arm: Callable[[], None]) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._log = os.open(log_path + ".log", flags, 0o600)
        self._err_log = os.open(log_path + ".stderr", flags, 0o600)
        self._raw = [
            _RawFile(os.open(log_path + suffix, os.O_RDONLY | os.O_CLOEXEC), kind)
            for suffix, kind in ((".out", OutputKind.STDOUT), (".err", OutputKind.STDERR))
        ]
        self._to_node = to_node
        self._arm = arm
        self._lock = threading.Lock()
        self._held: list[tuple[RunningTask | None, str, list[str]]] = []
        self._size = 0
        self._pid = os.getpid()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a forked child: what was gathered is its parent's to send, and another thread may have held the lock."""
        self._lock = threading.Lock()
        self._held = []
        self._size = 0

    def write(self, kind: str, text: str) -> None:
        """Take text that the calling task wrote."""
        data = text.encode("utf-8", "backslashreplace")
        os.write(self._err_log if kind == OutputKind.STDERR else self._log, data)
        task = current_task.get()
        with self._lock:
            if self._held and self._held[-1][0] is task and self._held[-1][1] == kind:
                self._held[-1][2].append(text)
            else:
                self._held.append((task, kind, [text]))
            is_first = not self._size
            self._size += len(text)
        if self._size >= _FLUSH_CHARACTERS:
            self.flush()
        elif is_first:
            self._arm()

    def display(self, data: dict[str, Any]) -> None:
        """Send a mime bundle that the calling task displays."""
        self.flush()
        task = current_task.get()
        with self._lock:
            self._send(task, OutputKind.DISPLAY, "", data)

    def flush(self) -> None:
        """Send all that was gathered.  What another thread is sending is sent when this returns."""
        if not self._held and not self._lock.locked():
            return
        with self._lock:
            held, self._held = self._held, []
            self._size = 0
            for task, kind, texts in held:
                self._send(task, kind, "".join(texts), None)

    def forward_raw(self, task: RunningTask | None) -> None:
        """Send what was written to the descriptors since the last time, as *task*'s."""
        for raw in self._raw:
            # what another thread has read it may not have sent yet
            if os.fstat(raw.fd).st_size == raw.position and not self._lock.locked():
                continue
            with self._lock:
                data = os.pread(raw.fd, os.fstat(raw.fd).st_size - raw.position, raw.position)
                raw.position += len(data)
                if data:
                    self._send(task, raw.kind, data.decode("utf-8", "backslashreplace"), None)

    def _send(self, task: RunningTask | None, kind: str, text: str, data: dict[str, Any] | None) -> None:
        if task is None:
            self._to_node(0, kind, text, data, "worker", self._pid, "")
        else:
            task.peer.connection.send(
                (
                    messages.OUTPUT,
                    task.template.cell,
                    kind,
                    text,
                    data,
                    task.name,
                    self._pid,
                    task.task_id.hex(),
                )
            )


class _RawFile:
    """A file that a descriptor of this process writes, and how far it has been read."""

    __slots__ = ("fd", "kind", "position")

    def __init__(self, fd: int, kind: str) -> None:
        self.fd = fd
        self.kind = kind
        self.position = os.fstat(fd).st_size


class TaskStream(io.TextIOBase):
    """Stands for sys.stdout or sys.stderr in a worker."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, router: OutputRouter, kind: str, raw: Any) -> None:
        self._router = router
        self._kind = kind
        #: the stream of the log file: code that wants bytes or a descriptor gets these
        self._raw = raw

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self._router.write(self._kind, text)
        return len(text)

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        return int(self._raw.fileno())

    @property
    def buffer(self) -> Any:
        return self._raw.buffer

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False


def install(router: OutputRouter) -> None:
    """Have this process's prints go through *router*."""
    sys.stdout = TaskStream(router, OutputKind.STDOUT, sys.__stdout__)
    sys.stderr = TaskStream(router, OutputKind.STDERR, sys.__stderr__)


class ForwardingFrontend:
    """The front end of a worker: passes on what the tasks that its tasks made write, up to the driver."""

    def __init__(self, current: Callable[[], RunningTask | None], to_node: Callable[..., None]) -> None:
        self._current = current
        self._to_node = to_node

    @property
    def cell(self) -> int:
        task = current_task.get()
        return task.template.cell if task is not None else 0

    def write(self, output: Output) -> None:
        fields = (
            output.cell,
            output.kind,
            output.text,
            output.data,
            output.task_name,
            output.pid,
            output.task_id,
        )
        task = self._current()
        if task is None or not task.peer.connection.send((messages.OUTPUT, *fields)):
            self._to_node(*fields)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
