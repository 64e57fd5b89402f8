"""Owns a client's connection to its node: requests with replies, and one-way messages."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from typing import Any

from jray._core.client.pump import Pump, Waiter
from jray._core.wire.connection import Connection, Handler, Message, Reactor
from jray.exceptions import RaySystemError


class NodeLink:
    """Talks to the node, which on one machine is the head as well."""

    def __init__(
        self,
        sock: socket.socket,
        reactor: Reactor,
        lock: Any,
        on_message: Handler,
        on_close: Callable[[], None],
    ) -> None:
        self._lock = lock
        self._on_close = on_close
        self._requests = itertools.count(1)
        self._pending: dict[int, tuple[Waiter, list[Any]]] = {}
        self.connection = Connection(sock, reactor, on_message, self._closed)
        self.pump: Pump

    def tell(self, *message: Any) -> None:
        """Send a message that has no answer."""
        self.connection.send(message)

    def request(self, kind: int, *arguments: Any, timeout_s: float | None = None) -> Any:
        """Send a request and block for its reply.

        Raises RaySystemError if the node is gone, refused, or did not answer in time.
        """
        answer = self.request_within(timeout_s, self.pump.wait, kind, *arguments)
        if not answer:
            raise RaySystemError("the head did not answer in time")
        return answer[0]

    def request_within(
        self,
        timeout_s: float | None,
        wait: Callable[[Waiter, float | None], object],
        kind: int,
        *arguments: Any,
    ) -> tuple[Any, ...]:
        """Send a request and block, by `wait(waiter, timeout_s)`, for (its reply,); () if that takes too long.

        Raises RaySystemError if the node is gone or refused.
        """
        waiter, box = Waiter(), []  # type: ignore[var-annotated]
        number = next(self._requests)
        with self._lock:
            self._pending[number] = (waiter, box)
        if not self.connection.send((kind, number, *arguments)):
            self._pending.pop(number, None)
            raise RaySystemError(GONE)
        try:
            wait(waiter, timeout_s)
        finally:
            self._pending.pop(number, None)
        if not box:
            if not self.connection.is_open:
                raise RaySystemError(GONE)
            return ()
        is_error, value = box
        if is_error:
            raise RaySystemError(value)
        return (value,)

    def request_later(self, kind: int, *arguments: Any, callback: Callable[[Any], None]) -> None:
        """Send a request; `callback(value)` runs with the client's lock held when the reply comes.

        The client's lock is held by the caller.  If the node is gone the callback never runs.
        """
        number = next(self._requests)
        self._pending[number] = (_Callback(callback), [])  # type: ignore[assignment]
        self.connection.send((kind, number, *arguments))

    def replied(self, message: Message) -> None:
        """Handle messages.REPLY; the client's lock is held."""
        _, number, is_error, value = message
        waiter, box = self._pending.pop(number, (None, []))
        box += (is_error, value)
        if waiter is not None:
            waiter.notify(None if is_error else value)

    def _closed(self, _: Connection) -> None:
        with self._lock:
            for waiter, _box in self._pending.values():
                if isinstance(waiter, Waiter):
                    waiter.notify()
            self._pending.clear()
        self._on_close()


class _Callback:
    __slots__ = ("notify",)

    def __init__(self, callback: Callable[[Any], None]) -> None:
        self.notify = callback


GONE = (
    "The connection to the head is lost: its process ended. "
    "Call jray.shutdown(), then jray.init() to start or join another."
)
