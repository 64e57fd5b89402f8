"""Owns what tasks write in a Ray worker: tags each piece with its call and sends it to the driver's collector.

What goes through `sys.stdout` and `sys.stderr` is known by its call.  What is written to the descriptors behind
them, by C code and child processes, is read back from the worker's log file, and counted to the call that runs,
or ran last.  Everything also stays in that log, where Ray's own tools look for it.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import io
import os
import stat
import sys
import threading
from collections.abc import Iterator
from typing import Any

import ray

from jray._core.frontend import Output, OutputKind
from jray._core.on_ray import courier
from jray._core.on_ray.whereabouts import task_id_here

#: what is written is sent at the latest when this much has gathered
_FLUSH_CHARACTERS = 64 * 1024
#: ... or when this long has passed
_FLUSH_S = 0.05
#: how often the log is looked at for what others wrote
_WATCH_S = 0.2
#: longer than the collector lets a writer wait; for one that has died
_PATIENCE_S = 5.0
#: lines by which Ray marks in a log which task wrote what
_MARKS = (":job_id:", ":task_name:", ":actor_name:")

#: a call's tag is its cell, then its number among the calls of the driver in this many bits
_NUMBER_BITS = 40
_MOST_NUMBER = (1 << _NUMBER_BITS) - 1

#: (kind, text, data, cell, task name, pid, task id): see `jray._core.frontend.Output`
Piece = tuple[str, str, Any, int, str, int, str]


def make_tag(cell: int, number: int) -> int:
    """Return what a call says of itself, as one number."""
    return cell << _NUMBER_BITS | number & _MOST_NUMBER


class Call:
    """A task or a call of a method, as far as its output is concerned."""

    __slots__ = ("_name", "_task_id", "cell", "has_written", "number", "token")

    def __init__(self, tag: int) -> None:
        self.cell, self.number = tag >> _NUMBER_BITS, tag & _MOST_NUMBER
        #: whether something it wrote may not have been shown yet
        self.has_written = False
        self.token: contextvars.Token[Call | None] | None = None
        self._name: str | None = None
        self._task_id = ""

    def piece(self, kind: str, text: str, data: dict[str, Any] | None = None) -> Piece:
        if self._name is None:
            context = ray.get_runtime_context()
            self._name = str(context.get_task_name() or "worker")
            own = (task_id_here() or bytes(8)).hex()
            # begins with the number, as ids of jray's own do: front ends order the output of tasks by it
            self._task_id = f"{self.number:016x}{own[16:]}" if self.number else own
        return kind, text, data, self.cell, self._name, os.getpid(), self._task_id


current_call: contextvars.ContextVar[Call | None] = contextvars.ContextVar("jray_call", default=None)


class Router:
    """Gathers what this worker's tasks write and sends it to the collector of its job; thread-safe.

    Without a collector, because the driver does not want output or has gone, everything stays in the log.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: held from taking what was gathered to having sent it, so that two senders cannot swap it
        self._sending = threading.Lock()
        self._held: list[Piece] = []
        self._size = 0
        self._collector: Any = None
        self._is_off = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        #: the call that counts as the writer of what nobody is known to have written
        self.latest: Call | None = None
        self.running = 0
        self.streams: list[TaskStream] = []

    def install(self) -> None:
        """Have this process's prints go through here."""
        self.streams = [
            TaskStream(self, OutputKind.STDOUT, sys.stdout, 1),
            TaskStream(self, OutputKind.STDERR, sys.stderr, 2),
        ]
        sys.stdout, sys.stderr = self.streams
        # by name: what tasks display is the notebook's matter, and this row knows no notebook
        importlib.import_module("jray.notebook.worker_display").install(self.display)

    def write(self, call: Call, kind: str, text: str) -> None:
        """Take text that *call* wrote."""
        if self._is_off:
            return
        call.has_written = True
        piece = call.piece(kind, text)
        with self._lock:
            last = self._held[-1] if self._held else None
            if last is not None and last[0] == kind and last[3:] == piece[3:]:
                self._held[-1] = (kind, last[1] + text, *piece[2:])
            else:
                self._held.append(piece)
            self._size += len(text)
            is_large = self._size >= _FLUSH_CHARACTERS
        if is_large:
            self.flush()
        else:
            self.watch()

    def display(self, data: dict[str, Any]) -> None:
        """Take a mime bundle that the calling task displays."""
        call = current_call.get() or self.latest
        if call is None or self._is_off:
            return
        for stream in self.streams:  # what others wrote until now is shown before
            stream.catch_up(call)
        call.has_written = True
        with self._lock:
            self._held.append(call.piece(OutputKind.DISPLAY, "", data))
        self.watch()

    def send(self, output: Output) -> None:
        """Take output that is complete."""
        with self._lock:
            self._held.append(
                (
                    output.kind,
                    output.text,
                    output.data,
                    output.cell,
                    output.task_name,
                    output.pid,
                    output.task_id,
                )
            )
        self.watch()

    def flush(self, *, wants_answer: bool = False) -> Any:
        """Send what was gathered; with `wants_answer` return Ray's ref that is ready once it has been shown."""
        with self._sending:
            for stream in self.streams:
                stream.catch_up(self.latest)
            with self._lock:
                held, self._held, self._size = self._held, [], 0
            if self._is_off or not (held or wants_answer):
                return None
            collector = self._find_collector()
            if collector is None:
                self._is_off = True
                return None
            try:
                answer = collector.push.remote(held, wants_answer)
            except ray.exceptions.RayError:
                self._is_off = True
                return None
            return answer if wants_answer else None

    def _find_collector(self) -> Any:
        if self._collector is None:
            job_id = ray.get_runtime_context().get_job_id()
            with contextlib.suppress(ValueError, ray.exceptions.RayError):
                self._collector = ray.get_actor(collector_name(job_id), namespace=courier.NAMESPACE)
        return self._collector

    def has_raw(self) -> bool:
        return any(stream.has_raw() for stream in self.streams)

    # -- the thread that looks now and then ---------------------------------------------------------

    def watch(self) -> None:
        """Have what is gathered sent soon, and the log looked at while calls run."""
        if self._wake.is_set():
            return
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="jray-output", daemon=True)
            self._thread.start()

    def _loop(self) -> None:
        pause = threading.Event()
        while True:
            self._wake.wait()
            pause.wait(_FLUSH_S if self._held else _WATCH_S)
            if self._held or self.has_raw():
                self.flush()
            elif not self.running or self._is_off:
                self._wake.clear()


class TaskStream(io.TextIOBase):
    """Stands for sys.stdout or sys.stderr in a worker; what is written goes to the log as well."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, router: Router, kind: str, log: Any, fd: int) -> None:
        self._router = router
        self._kind = kind
        self._log = log
        self._lock = threading.RLock()
        self._fd = fd
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        self._path = f"/proc/self/fd/{fd}" if is_file else None
        #: how far the log is known
        self._position = os.fstat(fd).st_size if is_file else 0

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if not text:
            return 0
        call = current_call.get()
        if call is None and not text.startswith(_MARKS) and not _is_rays_thread():
            call = self._router.latest
        with self._lock:
            self.catch_up(call)
            self._log.write(text)
            self._log.flush()
            if self._path is not None:
                self._position = os.fstat(self._fd).st_size
        if call is not None:
            self._router.write(call, self._kind, text)
        return len(text)

    def has_raw(self) -> bool:
        return self._path is not None and os.fstat(self._fd).st_size > self._position

    def catch_up(self, call: Call | None) -> None:
        """Take what others wrote to the descriptor since the last time as what *call* wrote."""
        if not self.has_raw():
            return
        with self._lock, open(self._path or "", "rb") as file:
            file.seek(self._position)
            data = file.read()
            self._position += len(data)
        lines = data.decode("utf-8", "backslashreplace").splitlines(keepends=True)
        text = "".join(line for line in lines if not line.startswith(_MARKS))
        if text and call is not None:
            self._router.write(call, self._kind, text)

    def flush(self) -> None:
        self._log.flush()

    def fileno(self) -> int:
        return self._fd

    @property
    def buffer(self) -> Any:
        return self._log.buffer

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False


def _is_rays_thread() -> bool:
    """Tell whether this is the thread that Ray runs tasks in: between two calls, it is Ray that writes there."""
    return threading.current_thread() is threading.main_thread()


def collector_name(job_id: str) -> str:
    """Return the name of the actor that gathers the output of a job."""
    return f"output of {job_id}"


# -- one router per worker ------------------------------------------------------------------------------


class _Here:
    def __init__(self) -> None:
        self.router: Router | None = None
        self.lock = threading.Lock()


_here = _Here()


def router() -> Router:
    """Return this process's router, made when the first call begins."""
    if _here.router is None:
        with _here.lock:
            if _here.router is None:
                made = Router()
                made.install()
                _here.router = made
    return _here.router


def begin(tag: int) -> Call:
    """Note that a call begins in this context."""
    call = Call(tag)
    here = router()
    here.latest = call
    here.running += 1
    here.watch()
    call.token = current_call.set(call)
    return call


def settle(call: Call) -> None:
    """Return once what *call* wrote so far has been shown."""
    here = router()
    if not (call.has_written or here.has_raw()):
        return
    call.has_written = False
    answer = here.flush(wants_answer=True)
    if answer is not None:
        # not `ray.get`: it would lend this task's CPU to another one meanwhile
        with contextlib.suppress(ray.exceptions.RayError, TimeoutError):
            answer.future().result(_PATIENCE_S)


async def settle_async(call: Call) -> None:
    """Do as `settle` does, on an event loop."""
    here = router()
    if not (call.has_written or here.has_raw()):
        return
    call.has_written = False
    answer = here.flush(wants_answer=True)
    if answer is not None:
        with contextlib.suppress(ray.exceptions.RayError):
            await answer


@contextlib.contextmanager
def _ended(call: Call) -> Iterator[None]:
    try:
        yield
    finally:
        router().running -= 1
        if call.token is not None:
            with contextlib.suppress(ValueError):  # a generator may be closed in another context
                current_call.reset(call.token)


def end(call: Call) -> None:
    """Note that a call has ended, once what it wrote has been shown."""
    with _ended(call):
        settle(call)


async def end_async(call: Call) -> None:
    """Do as `end` does, on an event loop."""
    with _ended(call):
        await settle_async(call)
