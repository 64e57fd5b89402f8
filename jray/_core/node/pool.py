"""Owns the worker processes of a node: has them forked, ends them, and learns how they ended."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from jray._core.specs import ExitCause
from jray._core.wire import messages
from jray._core.wire.connection import Connection, Message, Reactor

_TAIL_BYTES = 4096
_TAIL_LINES = 20
#: exit causes remembered after the fact, for owners that ask late
_REMEMBERED = 10_000


@dataclasses.dataclass(slots=True)
class WorkerProcess:
    worker_id: bytes
    log_path: str
    pid: int = 0
    #: why the node ended it; "": it was not the node
    ended_because: str = ""


class WorkerPool:
    """Starts and ends workers through the zygote.  `on_exit(worker_id, cause)` is called once for each."""

    def __init__(
        self, zygote: socket.socket, reactor: Reactor, on_exit: Callable[[bytes, ExitCause], None]
    ) -> None:
        self._zygote = Connection(zygote, reactor, self._handle, lambda _: None)
        self._on_exit = on_exit
        self.processes: dict[bytes, WorkerProcess] = {}
        self._by_pid: dict[int, WorkerProcess] = {}
        self.causes: OrderedDict[bytes, ExitCause] = OrderedDict()

    def start(self, worker_id: bytes, settings: dict[str, Any]) -> None:
        """Have a worker forked with these settings; it registers by itself."""
        self.processes[worker_id] = WorkerProcess(worker_id, settings["log_path"])
        self._zygote.send((messages.FORK, worker_id, settings))

    def kill(self, worker_id: bytes, reason: str) -> None:
        """End a worker and all that it forked, at once."""
        process = self.processes.get(worker_id)
        if process is None:
            return
        process.ended_because = process.ended_because or reason
        if process.pid:
            _kill_group(process.pid)

    def _handle(self, _: Connection, message: Message) -> None:
        if message[0] == messages.FORKED:
            process = self.processes[message[1]]
            process.pid = message[2]
            self._by_pid[process.pid] = process
            if process.ended_because:  # killed before it was forked
                _kill_group(process.pid)
            return
        _, pid, status = message
        ended = self._by_pid.pop(pid, None)
        if ended is None:
            return
        del self.processes[ended.worker_id]
        _kill_group(pid)  # what it forked must not outlive it
        cause = ExitCause(
            pid=pid,
            exit_code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            last_lines=_tail(ended.log_path + ".err"),
            detail=ended.ended_because,
        )
        self.causes[ended.worker_id] = cause
        while len(self.causes) > _REMEMBERED:
            self.causes.popitem(last=False)
        self._on_exit(ended.worker_id, cause)

    def close(self) -> None:
        """End all workers; the zygote reaps them and ends."""
        for process in self.processes.values():
            if process.pid:
                _kill_group(process.pid)
        self._zygote.close()


def _kill_group(pid: int) -> None:
    # the group fails if the worker has not called setsid yet, the process alone if it is gone
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-_TAIL_LINES:])
