"""Owns sockets: framing of messages on a stream, and the only code that opens, reads or writes one.

A frame is a 4-byte little-endian size and a pickled tuple.  Nothing is unpickled that a process of
another user may have sent: sockets lie in a directory of mode 0700, and the user at the other end is
checked besides, on both sides.
"""

from __future__ import annotations

import errno
import os
import pickle
import select
import socket
import struct
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from time import monotonic, perf_counter
from typing import Any

Message = tuple[Any, ...]
Handler = Callable[["Connection", Message], None]

_CHUNK = 256 * 1024
#: a reactor that looks in vain again and again goes that many polls without, a power of 2 less 1
_MOST_CALM = 63
#: Linux's sun_path is 108 bytes, with its final zero
_MAX_PATH = 107
_PEERCRED = struct.Struct("3i")


class Reactor:
    """Wait for sockets and hand over what arrives.  One thread at a time may call `poll`."""

    def __init__(self, spin_us: float = 0.0) -> None:
        self._spin_s = spin_us / 1e6 if len(os.sched_getaffinity(0)) > 1 else 0.0
        #: polls still to go without spinning, and how many it was the last time
        self._calm = self._calm_after_miss = 0
        self._epoll = select.epoll()
        self._sources: dict[int, Callable[[int], None]] = {}
        #: shared by all connections: only the polling thread reads
        self.buffer = bytearray(_CHUNK)
        self.view = memoryview(self.buffer)
        self._is_closed = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.add(self._wake_read, select.EPOLLIN, self._drain_wake)

    def fileno(self) -> int:
        """Return a descriptor that is readable when `poll` has something to do."""
        return self._epoll.fileno()

    def fds(self) -> list[int]:
        """Return the reactor's own descriptors."""
        return [self._epoll.fileno(), self._wake_read, self._wake_write]

    def add(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        self._sources[fd] = callback
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        if fd in self._sources and not self._is_closed:
            self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        if self._sources.pop(fd, None) is not None and not self._is_closed:
            self._epoll.unregister(fd)

    def poll(self, timeout_s: float | None) -> int:
        """Wait up to `timeout_s` (None: for ever), run the callbacks of what is ready, return how many."""
        events = self._epoll.poll(-1 if timeout_s is None else timeout_s)
        sources = self._sources
        for fd, event in events:
            callback = sources.get(fd)
            if callback is not None:
                callback(event)
        return len(events)

    def poll_eagerly(self, timeout_s: float | None) -> int:
        """Do as `poll`, but look again and again for a moment before going to sleep.

        On a computer of several cores an answer is often microseconds away, while the way from sleep to running
        costs tens of them: in exchange of small messages this is up to five times as fast.  Looking in
        vain makes the next polls do without.
        """
        spin_s = self._spin_s
        if not spin_s:
            return self.poll(timeout_s)
        if self._calm:
            self._calm -= 1
            return self.poll(timeout_s)
        if timeout_s is not None and timeout_s < spin_s:
            return self.poll(timeout_s)
        end = perf_counter() + spin_s
        while True:
            found = self.poll(0)
            if found:
                self._calm_after_miss = 0
                return found
            if perf_counter() > end:
                break
            os.sched_yield()  # who is to answer may wait for this very core
        self._calm = self._calm_after_miss = min(_MOST_CALM, 2 * self._calm_after_miss + 1)
        return self.poll(timeout_s)

    def wake(self) -> None:
        """Make a `poll` in another thread return.  Safe in signal handlers and finalizers."""
        if self._is_closed:  # the descriptor's number may be another file's by now
            return
        try:
            os.write(self._wake_write, b"w")
        except BlockingIOError:  # a wake-up is already on its way
            pass
        except OSError as error:
            if not (self._is_closed and error.errno == errno.EBADF):
                raise

    def _drain_wake(self, _: int) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close the reactor's own descriptors.  In a forked child, too: the parent's reactor goes on."""
        if self._is_closed:
            return
        self._is_closed = True
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)


class Connection:
    """A stream of messages.  `send` from any thread; messages arrive in the reactor's thread.

    `on_message(connection, message)` is called for each; `on_close(connection)` once, when the other side
    is gone or a malformed frame arrived.  What `on_message` raises is printed, and the next message is
    handled: one bad message must not end the process.  `peer` is free for the user's own record.
    """

    __slots__ = (
        "_backlog", "_inbox", "_lock", "_on_close", "_on_message", "_partial", "_reactor", "_sock", "fd",
        "is_open", "known", "peer",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        reactor: Reactor,
        on_message: Handler,
        on_close: Callable[[Connection], None],
        peer: Any = None,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self.fd = sock.fileno()
        self._reactor = reactor
        self._on_message = on_message
        self._on_close = on_close
        self._lock = threading.Lock()
        self._backlog = bytearray()
        #: the beginning of a frame whose end has not arrived
        self._partial = bytearray()
        #: messages that have arrived and are not handled
        self._inbox: deque[Message] = deque()
        self.is_open = True
        self.peer: Any = peer
        #: numbers of the definitions that the other side has
        self.known: set[Any] = set()
        reactor.add(self.fd, select.EPOLLIN, self._ready)

    def send(self, message: Message) -> bool:
        """Send, or queue what the socket does not take now.  Return False if the other side is gone.

        Raises ValueError, and sends nothing, if the message has 4 GiB or more.
        """
        frame = _frame(message)
        with self._lock:
            if not self.is_open:
                return False
            if self._backlog:
                self._backlog += frame
                return True
            try:
                sent = self._sock.send(frame)
            except BlockingIOError:
                sent = 0
            except OSError:
                return False  # the reader sees the same and closes
            if sent < len(frame):
                self._backlog += memoryview(frame)[sent:]
                self._reactor.change(self.fd, select.EPOLLIN | select.EPOLLOUT)
        return True

    def hand_over(self, on_message: Handler, on_close: Callable[[Connection], None]) -> None:
        """Let others handle what arrives from now on; called in the reactor's thread."""
        self._on_message = on_message
        self._on_close = on_close

    def has_arrived(self) -> bool:
        """Tell whether something has arrived that nobody has read; from any thread."""
        if not self.is_open:
            return False
        arrived = select.poll()
        arrived.register(self.fd, select.POLLIN)
        return bool(arrived.poll(0))

    @property
    def backlog_bytes(self) -> int:
        return len(self._backlog)

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._read()

    def _flush(self) -> bool:
        """Send more of the backlog; return False if the other side is gone."""
        with self._lock:
            try:
                sent = self._sock.send(self._backlog)
            except BlockingIOError:
                return True
            except OSError:  # the reader sees the same and closes
                self._backlog.clear()
                self._reactor.change(self.fd, select.EPOLLIN)
                return False
            del self._backlog[:sent]
            if not self._backlog:
                self._reactor.change(self.fd, select.EPOLLIN)
            return True

    def _read(self) -> None:
        reactor = self._reactor
        try:
            size = self._sock.recv_into(reactor.buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._handle_inbox()
            self.close()
            return
        if self._partial:
            self._partial += reactor.view[:size]
            if len(self._partial) < 4 or len(self._partial) < 4 + int.from_bytes(self._partial[:4], "little"):
                return
            whole, self._partial = self._partial, bytearray()
            view = memoryview(whole)
            size = len(whole)
        else:
            view = reactor.view
        position = 0
        # Messages are unpickled before any is handled: a handler may poll, and so reuse the buffer.
        inbox = self._inbox
        try:
            while size - position >= 4:
                end = position + 4 + int.from_bytes(view[position : position + 4], "little")
                if end > size:
                    break
                inbox.append(pickle.loads(view[position + 4 : end]))
                position = end
        except Exception:  # noqa: BLE001 -- unpickling raises whatever it likes
            print("jray: a message cannot be read, so its connection ends:", file=sys.stderr)  # noqa: T201
            traceback.print_exc()
            self._handle_inbox()
            self.close()
            return
        if position < size:
            self._partial = bytearray(view[position:size])
        self._handle_inbox()

    def _handle_inbox(self) -> None:
        # The inbox is the connection's, and not a list of this call: a handler that polls may read on, and
        # what it reads comes after what has arrived before.
        inbox = self._inbox
        while inbox:
            message = inbox.popleft()
            try:
                self._on_message(self, message)
            except Exception:  # noqa: BLE001 -- a defect, or a bad message: neither may cost the messages after it
                traceback.print_exc()
            if not self.is_open:  # closed by the handler
                inbox.clear()

    def drain(self, timeout_s: float) -> bool:
        """Block until everything queued has been sent.  Return False if that took longer, or cannot be."""
        deadline = monotonic() + timeout_s
        writable = select.poll()
        writable.register(self.fd, select.POLLOUT)
        while self._backlog and self.is_open:
            if not writable.poll(max(0.0, deadline - monotonic()) * 1000) or not self._flush():
                return False
        return not self._backlog

    def close(self) -> None:
        with self._lock:
            if not self.is_open:
                return
            self.is_open = False
            self._reactor.remove(self.fd)
            self._sock.close()
        self._on_close(self)

    def detach(self) -> socket.socket:
        """Return the socket, blocking, for another use; nobody is told.  For the reactor's thread."""
        with self._lock:
            self.is_open = False
            self._reactor.remove(self.fd)
        self._sock.setblocking(True)
        return self._sock

    def forget(self) -> None:
        """In a forked child: close its copy of the socket, and tell nobody.

        Neither the user nor the reactor: the kernel's part of that is one with the parent's.
        """
        self.is_open = False
        self._sock.close()


class Listener:
    """A listening Unix socket at *path*; calls `on_accept(socket)` for each peer of the same user."""

    def __init__(self, path: str, reactor: Reactor, on_accept: Callable[[socket.socket], None]) -> None:
        check_path(path)
        self.path = path
        self._reactor = reactor
        self._on_accept = on_accept
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._sock.bind(path)
            os.chmod(path, 0o600)
            self._sock.listen(512)
        except BaseException:
            self._sock.close()
            raise
        self._sock.setblocking(False)
        #: kept for when there are no descriptors left: see `_turn_away`
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        reactor.add(self._sock.fileno(), select.EPOLLIN, self._accept)

    def fileno(self) -> int:
        return self._sock.fileno()

    def _accept(self, _: int) -> None:
        try:
            sock, _address = self._sock.accept()
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                self._turn_away()
            return
        if _peer_uid(sock) != os.geteuid():
            sock.close()
            return
        self._on_accept(sock)

    def _turn_away(self) -> None:
        """Close a connection that nothing can serve: left alone it would wake `poll` again and again."""
        os.close(self._spare)
        try:
            self._sock.accept()[0].close()
        except OSError:
            pass
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        if self._sock.fileno() < 0:
            return
        self._reactor.remove(self._sock.fileno())
        self._sock.close()
        os.close(self._spare)
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass

    def forget(self) -> None:
        """In a forked child: close its copy of the socket; the parent goes on listening."""
        self._sock.close()
        os.close(self._spare)


def _peer_uid(sock: socket.socket) -> int:
    _, uid, _ = _PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    return int(uid)


def check_path(path: str) -> None:
    """Raise ValueError if *path* is too long for a Unix socket."""
    if len(os.fsencode(path)) > _MAX_PATH:
        raise ValueError(
            f"The socket path {path!r} has {len(os.fsencode(path))} bytes, a Unix socket takes {_MAX_PATH}; "
            "set JRAY_RUNTIME_DIR to a shorter directory."
        )


def connect(path: str) -> socket.socket:
    """Return a socket connected to the listener at *path*.

    Raises OSError if nobody listens; PermissionError, which is one, if it is another user's process.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
        is_ours = _peer_uid(sock) == os.geteuid()
    except BaseException:
        sock.close()
        raise
    if not is_ours:
        sock.close()
        raise PermissionError(errno.EPERM, "the process that listens there is another user's", path)
    return sock


def send_frame(sock: socket.socket, message: Message) -> None:
    """Send a message on a blocking socket that no `Connection` has."""
    sock.sendall(_frame(message))


def _frame(message: Message) -> bytes:
    data = pickle.dumps(message, 5)
    try:
        return len(data).to_bytes(4, "little") + data
    except OverflowError:
        raise ValueError(
            f"A message of {len(data) / 2**30:.1f} GiB cannot be sent, the limit is 4 GiB. Put what is large "
            "with jray.put() and pass the reference."
        ) from None


def socket_pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
