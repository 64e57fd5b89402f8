"""Owns the worker processes of a node: has them forked, ends them, and learns how they ended."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from jray._core.node.strays import end_children, is_ending
from jray._core.specs import ExitCause, MemoryReport
from jray._core.wire import messages
from jray._core.wire.connection import Connection, Message, Reactor

_TAIL_BYTES = 4096
_TAIL_LINES = 20
#: where the interpreter's own report of a fatal error begins, and how much before it is of interest
_FATAL = "Fatal Python error"
_BEFORE_FATAL = 10
_GRACE_S = 5.0
#: this many zygotes that die within this long mean that the next will, too
_MOST_ZYGOTES = 3
_MOST_ZYGOTES_S = 30.0


@dataclasses.dataclass(slots=True)
class WorkerProcess:
    worker_id: bytes
    log_path: str
    pid: int = 0
    #: why the node ended it; "": it was not the node
    ended_because: str = ""
    memory: MemoryReport | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ZygoteProcess:
    """A zygote, as the node that is its parent knows it."""

    sock: socket.socket
    pid: int
    log: io.FileIO  #: what it writes to stdout and stderr


class WorkerPool:
    """Starts and ends workers through a zygote, and has another made when that dies.

    `on_exits([(worker_id, cause)...])` is called for those that ended at one time, once for each worker;
    `on_failure(text)` when nothing helps.
    """

    def __init__(
        self,
        zygote: ZygoteProcess,
        make_zygote: Callable[[], ZygoteProcess],
        reactor: Reactor,
        on_exits: Callable[[list[tuple[bytes, ExitCause]]], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self._make_zygote = make_zygote
        self._reactor = reactor
        self._on_exits = on_exits
        self._on_failure = on_failure
        self._is_closing = False
        self._deaths_s: deque[float] = deque(maxlen=_MOST_ZYGOTES)
        self._take_zygote(zygote)
        self.processes: dict[bytes, WorkerProcess] = {}
        self._by_pid: dict[int, WorkerProcess] = {}

    def start(self, worker_id: bytes, settings: dict[str, Any]) -> None:
        """Have a worker forked with these settings; it registers by itself."""
        self.processes[worker_id] = WorkerProcess(worker_id, settings["log_path"])
        self._connection.send((messages.FORK, worker_id, settings))

    def kill(self, worker_id: bytes, reason: str, memory: MemoryReport | None = None) -> None:
        """End a worker and all that it forked, at once."""
        process = self.processes.get(worker_id)
        if process is None:
            return
        process.memory = process.memory or memory
        process.ended_because = process.ended_because or reason
        if process.pid:
            _kill_group(process.pid)

    def disconnected(self, worker_id: bytes) -> None:
        """A worker closed its connection to the node: it is about to end, or else it is of no more use."""
        process = self.processes.get(worker_id)
        if process is not None and process.pid and not is_ending(process.pid):
            self.kill(worker_id, "jray ended it, because it had closed its connection to the node.")

    def close(self) -> None:
        """End the zygote, all workers, and what these started; blocks until they are gone."""
        self._is_closing = True
        # The zygote need not be asked: as it dies its children die too, or come here.
        end_children(_GRACE_S)
        self._connection.close()
        self._zygote.log.close()

    # -- what the zygote says -------------------------------------------------------------------------

    def _handle(self, _: Connection, message: Message) -> None:
        if message[0] == messages.FORKED:
            _, worker_id, pid, fault = message
            process = self.processes[worker_id]
            if fault:
                self._on_exits([self._ended(process, None, f"It could not be forked: {fault}.")])
                return
            process.pid = pid
            self._by_pid[process.pid] = process
            if process.ended_because:  # killed before it was forked
                _kill_group(process.pid)
            return
        _, pid, status = message
        process = self._by_pid[pid]
        self._on_exits([self._ended(process, status, process.ended_because)])

    def _ended(self, process: WorkerProcess, status: int | None, detail: str) -> tuple[bytes, ExitCause]:
        self._by_pid.pop(process.pid, None)
        del self.processes[process.worker_id]
        cause = ExitCause(
            pid=process.pid,
            exit_code=os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None,
            signal=os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None,
            # Python's stderr first: what the interpreter says at its death comes after that
            last_lines=(
                _tail_of(process.log_path + ".stderr") + "\n" + _tail_of(process.log_path + ".err")
            ).strip(),
            detail=detail,
            memory=process.memory,
        )
        return process.worker_id, cause

    # -- the zygote's end -----------------------------------------------------------------------------

    def _take_zygote(self, zygote: ZygoteProcess) -> None:
        self._zygote = zygote
        self._connection = Connection(zygote.sock, self._reactor, self._handle, self._zygote_gone)

    def _zygote_gone(self, _: Connection) -> None:
        """The zygote died, and its workers with it: have another made, and tell of the workers."""
        if self._is_closing:
            return
        dead = self._zygote
        statuses = end_children(_GRACE_S)
        how = _describe(statuses.get(dead.pid))
        said = _tail(dead.log)
        dead.log.close()
        self._deaths_s.append(time.monotonic())
        if len(self._deaths_s) == _MOST_ZYGOTES and self._deaths_s[-1] - self._deaths_s[0] < _MOST_ZYGOTES_S:
            self._is_closing = True
            self._on_failure(
                f"The process that starts workers {how}, {_MOST_ZYGOTES} times within {_MOST_ZYGOTES_S:.0f} s: "
                f"no worker can run. It said:\n{said or '(nothing)'}"
            )
            return
        # first, because who is told of a dead worker asks for another
        self._take_zygote(self._make_zygote())
        detail = f"The process that had started it (pid {dead.pid}) {how}."
        self._on_exits(
            [
                self._ended(process, statuses.get(process.pid), process.ended_because or detail)
                for process in list(self.processes.values())
            ]
        )


def _kill_group(pid: int) -> None:
    # the group fails if the worker has not called setsid yet, the process alone if it is gone
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def _describe(status: int | None) -> str:
    if status is None:
        return "ended"
    if os.WIFSIGNALED(status):
        return f"was killed by signal {os.WTERMSIG(status)}"
    return f"exited with code {os.WEXITSTATUS(status)}"


def _tail_of(path: str) -> str:
    try:
        with io.FileIO(path) as file:
            return _tail(file)
    except FileNotFoundError:
        return ""


def _tail(file: io.FileIO) -> str:
    size = os.fstat(file.fileno()).st_size
    data = os.pread(file.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    lines = data.decode("utf-8", "replace").splitlines()
    # its list of threads is long, and what matters is above it
    fatal = next((index for index, line in enumerate(lines) if line.startswith(_FATAL)), len(lines))
    first = max(0, min(fatal - _BEFORE_FATAL, len(lines) - _TAIL_LINES))
    return "\n".join(lines[first : first + _TAIL_LINES])
