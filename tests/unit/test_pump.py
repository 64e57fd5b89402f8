"""Who reads the sockets: the thread that waits, and not the I/O thread for it, again and again."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator

import pytest

from jray._core.client.interrupts import BorrowedHandlerShield, Shields
from jray._core.client.pump import Pump, Waiter
from jray._core.wire.connection import Reactor

PATIENCE_S = 30.0
ROUNDS = 20


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.close()


class Echo:
    """A pipe that says something to whoever waits, once he does; it remembers which thread has read that."""

    def __init__(self, reactor: Reactor) -> None:
        self.read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.waiter = Waiter()
        self.threads: list[str] = []
        reactor.add(self.read, select.EPOLLIN, self._ready)

    def say(self, pump: Pump) -> None:
        """Answer each waiter after the thread that waits has gone to sleep, or polls itself."""
        for _ in range(ROUNDS):
            waiter = self.waiter
            while waiter not in pump._lock_waiters and not pump._user_since_s:
                time.sleep(0.0005)
            os.write(self._write, b"x")
            while self.waiter is waiter:
                time.sleep(0.0005)

    def _ready(self, _: int) -> None:
        os.read(self.read, 1)
        self.threads.append(threading.current_thread().name)
        self.waiter.notify()

    def close(self) -> None:
        os.close(self.read)
        os.close(self._write)


def test_a_thread_that_comes_again_at_once_reads_itself(reactor: Reactor) -> None:
    """The I/O thread reads for whoever comes first; it must not keep the sockets from who comes back."""
    # so long that nothing on this machine takes longer
    pump = Pump(reactor, Shields(BorrowedHandlerShield(reactor.wake)), lambda: None, handover_s=PATIENCE_S)
    echo = Echo(reactor)
    speaker = threading.Thread(target=echo.say, args=(pump,), daemon=True)
    pump.start()
    speaker.start()
    try:
        for _ in range(ROUNDS):
            assert pump.wait(echo.waiter, PATIENCE_S)
            echo.waiter = Waiter()
    finally:
        pump.close()
        speaker.join(PATIENCE_S)
        echo.close()
    # It is more than once where this thread is back before that one has let go of the sockets.
    assert echo.threads.count("jray-io") < ROUNDS / 2, echo.threads
