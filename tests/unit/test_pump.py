"""Who reads the sockets: the thread that waits, and not the I/O thread for it, again and again."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator

import pytest

from jray._core.client.interrupts import BorrowedHandlerShield, Shields
from jray._core.client.pump import Pump, Waiter
from jray._core.wire.connection import Reactor

PATIENCE_S = 30.0


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.close()


class Echo:
    """A pipe whose reader notifies a waiter, and remembers in which thread."""

    def __init__(self, reactor: Reactor) -> None:
        self.read, self.write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.waiter = Waiter()
        self.threads: list[str] = []
        reactor.add(self.read, select.EPOLLIN, self._ready)

    def _ready(self, _: int) -> None:
        os.read(self.read, 1)
        self.threads.append(threading.current_thread().name)
        self.waiter.notify()

    def close(self) -> None:
        os.close(self.read)
        os.close(self.write)


def test_a_thread_that_comes_again_at_once_reads_itself(reactor: Reactor) -> None:
    """The I/O thread reads for whoever comes first; it must not keep the sockets from who comes back."""
    shields = Shields(BorrowedHandlerShield(reactor.wake))
    # so long that nothing on this machine takes longer
    pump = Pump(reactor, shields, lambda: None, handover_s=PATIENCE_S)
    echo = Echo(reactor)
    pump.start()
    try:
        # nobody waits: the I/O thread takes over, and answers the first
        for _ in range(20):
            echo.waiter = Waiter()
            os.write(echo.write, b"x")
            assert pump.wait(echo.waiter, PATIENCE_S)
    finally:
        pump.close()
        echo.close()
    assert echo.threads.count("jray-io") <= 1, echo.threads
