"""Owns the forking of workers: a single-threaded process that has imported what every worker needs.

A fork of it costs about a millisecond and shares its memory; a new interpreter that imports numpy costs a
hundred times that.  It is also the workers' parent, so it reaps them and tells the node how they ended.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import sys
from typing import Any

from jray._core.wire import messages

_PR_SET_PDEATHSIG = 1
#: what workers would else import one by one: numpy if it is there, and what unpickled handles need
_PRELOADED = ("jray.api", "cloudpickle", "numpy")


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when *parent*, the process that forked it, dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


def serve(sock: socket.socket, node_pid: int) -> None:
    """Fork workers as the node asks, until it closes *sock*.  Never returns."""
    end_with_parent(node_pid)
    # A thread pool in here would not survive the fork; workers may still raise the number afterwards.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    run_worker = importlib.import_module("jray._core.worker.main").run
    for name in _PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            if name != "numpy":
                raise
    gc.collect()
    gc.freeze()  # or each worker's first collection would copy every page
    _Zygote(sock, run_worker).loop()
    os._exit(0)


class _Zygote:
    def __init__(self, sock: socket.socket, run_worker: Any) -> None:
        self._sock = sock
        self._run_worker = run_worker
        self._children: set[int] = set()
        self._signal_read, self._signal_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._signal_write, warn_on_full_buffer=False)
        self._buffer = b""

    def loop(self) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(self._signal_read, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._signal_read:
                    os.read(fd, 4096)
                    self._reap(os.WNOHANG)
                    continue
                data = self._sock.recv(65536)
                if not data:
                    self._end_all()
                    return
                self._buffer += data
                self._handle_buffer()

    def _handle_buffer(self) -> None:
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "little")
            if len(self._buffer) < end:
                return
            message = pickle.loads(self._buffer[4:end])
            self._buffer = self._buffer[end:]
            self._fork(message[1], message[2])

    def _fork(self, worker_id: bytes, settings: dict[str, Any]) -> None:
        zygote = os.getpid()
        pid = os.fork()
        if pid:
            self._children.add(pid)
            self._send((messages.FORKED, worker_id, pid))
            return
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            end_with_parent(zygote)
            for fd in (self._sock.fileno(), self._signal_read, self._signal_write):
                os.close(fd)
            self._run_worker(settings)
        except BaseException:  # noqa: BLE001 -- nothing may get back into the zygote's loop
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(70)
        os._exit(0)

    def _reap(self, options: int) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, options)
            except ChildProcessError:
                return
            if not pid:
                return
            self._children.discard(pid)
            self._send((messages.REAPED, pid, status))

    def _send(self, message: tuple[Any, ...]) -> None:
        data = pickle.dumps(message, 5)
        try:
            self._sock.sendall(len(data).to_bytes(4, "little") + data)
        except OSError:  # the node is gone: the next recv says so
            pass

    def _end_all(self) -> None:
        for pid in self._children:
            for kill in (os.killpg, os.kill):
                try:
                    kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass
        self._reap(0)
