"""Owns the forking of workers: a single-threaded process that has imported what every worker needs.

A fork of it costs about a millisecond and shares its memory; a new interpreter that imports numpy costs a
hundred times that.  It is also the workers' parent, so it reaps them and tells the node how they ended.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import select
import signal
import socket
import sys
from typing import Any

from jray._core.node.sacrifice import ZYGOTE_SCORE, offer
from jray._core.node.strays import adopt_orphans, end_children, end_strays, end_with_parent
from jray._core.wire import messages

#: what every worker needs: its main, what unpickled handles need, the pickler, and what takes displays
_NEEDED = ("jray.api", "jray.session", "cloudpickle", "jray.notebook.worker_display")
#: what many workers need, numpy where it is installed; imported when nobody waits for a fork
_WANTED = ("asyncio", "numpy")
#: nobody waits for a fork when none was asked for during this long
_QUIET_MS = 60
_GRACE_S = 5.0


def serve(sock: socket.socket, *, eager: bool, is_awaited: bool = False) -> None:
    """Fork workers as the node asks, until it closes *sock*; never returns.

    `eager`: import all there is to import before the first fork, and not after it.
    `is_awaited`: tell the node when the first fork may be asked for.
    """
    adopt_orphans()
    offer(ZYGOTE_SCORE)
    # The node is told of a death in here and kills what this process leaves: one signal must not reach both.
    os.setsid()
    # A thread pool in here would not survive the fork; workers may still raise the number afterwards.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    run_worker = importlib.import_module("jray._core.worker.main").run
    for name in _NEEDED:
        importlib.import_module(name)
    zygote = _Zygote(sock, run_worker)
    if eager:
        zygote.preload()
    else:
        _share_memory()
    if is_awaited:
        zygote.tell((messages.INTERPRETER,))
    try:
        zygote.loop()
    finally:  # what runs on would have nobody
        end_children(_GRACE_S)
    os._exit(0)


def _share_memory() -> None:
    gc.freeze()  # or each worker's first collection would copy every page
    gc.enable()


class _Zygote:
    def __init__(self, sock: socket.socket, run_worker: Any) -> None:
        self._sock = sock
        self._run_worker = run_worker
        self._children: set[int] = set()
        self._has_preloaded = False
        self._signal_read, self._signal_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._signal_write, warn_on_full_buffer=False)
        self._buffer = b""

    def preload(self) -> None:
        """Import what many workers need."""
        self._has_preloaded = True
        gc.disable()
        for name in _WANTED:
            try:
                importlib.import_module(name)
            except ImportError:
                pass
        _share_memory()

    def loop(self) -> None:
        """Fork and reap until the node closes its end, or dies."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(self._signal_read, select.POLLIN)
        while True:
            ready = poll.poll(None if self._has_preloaded else _QUIET_MS)
            if not ready:
                self.preload()
            for fd, _ in ready:
                if fd == self._signal_read:
                    os.read(fd, 4096)
                    self._reap()
                    continue
                try:
                    data = self._sock.recv(65536)
                except ConnectionResetError:  # the node died before it read all
                    return
                if not data:
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
        try:
            pid = os.fork()
        except OSError as error:  # too many processes: those that run must not suffer for it
            self.tell((messages.FORKED, worker_id, 0, error.strerror))
            return
        if pid:
            self._children.add(pid)
            self.tell((messages.FORKED, worker_id, pid, ""))
            return
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            end_with_parent(zygote)
            adopt_orphans()
            for fd in (self._sock.fileno(), self._signal_read, self._signal_write):
                os.close(fd)
            self._run_worker(settings)
        except BaseException:  # noqa: BLE001 -- nothing may get back into the zygote's loop
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(70)
        os._exit(0)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                break
            if pid in self._children:
                self._children.discard(pid)
                self.tell((messages.REAPED, pid, status))
        end_strays(self._children)

    def tell(self, message: tuple[Any, ...]) -> None:
        """Send the node a message."""
        data = pickle.dumps(message, 5)
        try:
            self._sock.sendall(len(data).to_bytes(4, "little") + data)
        except OSError:  # the node is gone: the next recv says so
            pass
