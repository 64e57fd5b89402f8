"""Owns who reads the sockets of a client: a user thread that waits, or else the I/O thread.

A thread that waits for a value reads the sockets itself, because handing each message over from another
thread costs two switches of the interpreter lock.  While user threads come and go quickly the I/O thread
keeps away, waking every few milliseconds to see whether they still do; when no user thread came for that
long it takes over, and a user thread that comes then waits for it, once.

    poller (one at a time, holds `_role`)      others
    -------------------------------------      ------------------------------------------
    user thread in `wait`                      user threads: on their waiter's lock;
                                               I/O thread: parked, or asleep for `handover_s`
    I/O thread in `_run`                       user threads: on their waiter's lock
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Any

from jray._core.client.interrupts import Shield, Shields
from jray._core.wire.connection import Reactor

#: Longest that a blocked main thread goes without looking at its signals, where a lock and not the reactor
#: holds it: lock waits are interruptible, so this only bounds a missed hand-over.
_LOCK_SLICE_S = 0.25


class Waiter:
    """Something to wait for: done after `remaining` calls of `notify`, which need the client's lock."""

    __slots__ = ("done", "lock", "remaining")

    def __init__(self, remaining: int = 1) -> None:
        self.remaining = remaining
        self.done = remaining <= 0
        self.lock: Any = None

    def notify(self, _: object = None) -> None:
        self.remaining -= 1
        if self.remaining <= 0 and not self.done:
            self.done = True
            if self.lock is not None:
                self.lock.release()


class Pump:
    """Runs a reactor from whichever thread has the best reason to.

    `housekeeping()` is called by the polling thread before each poll and after it: it must be cheap, and
    may run user callbacks.
    """

    def __init__(
        self, reactor: Reactor, shields: Shields, housekeeping: Callable[[], None], handover_s: float
    ) -> None:
        self.reactor = reactor
        self._shields = shields
        self._housekeeping = housekeeping
        self._handover_s = handover_s
        self._role = threading.Lock()
        self._io_wake = threading.Semaphore(0)
        self._io_is_parked = False
        #: the thread that holds `_role`; it may poll again from inside a callback
        self._poller: int | None = None
        self._user_since_s = 0.0  #: when the polling user thread came; 0: there is none
        self._user_left_s = 0.0
        #: what threads wait for that are not polling
        self._lock_waiters: set[Waiter] = set()
        #: callbacks that no thread waits for: the I/O thread must not keep away
        self.watchers = 0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_count = 0
        self._is_closing = False
        #: whether this is a forked child's copy
        self.is_forgotten = False
        self._thread = threading.Thread(target=self._run, name="jray-io", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # -- waiting ----------------------------------------------------------------------------------

    def wait(self, waiter: Waiter, timeout_s: float | None) -> bool:
        """Block until *waiter* is done or the time is over; return whether it is done.

        An interrupt of the main thread is raised from here, with no message half handled.
        """
        deadline = None if timeout_s is None else monotonic() + timeout_s
        while not waiter.done:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left < 0:
                return False
            if self._role.acquire(blocking=False):
                self._poll_as_user(waiter, deadline)
            elif self._poller == get_ident():
                # inside a callback, which an interrupt must not cut short: it comes when the outer wait looks
                self._poll_until(waiter, deadline, None)
            else:
                self._wait_for_poller(waiter, left)
        return True

    def _poll_as_user(self, waiter: Waiter, deadline: float | None) -> None:
        shield = self._shields.current()
        shield.enter()
        try:
            self._poller = get_ident()
            self._user_since_s = monotonic()
            self._poll_until(waiter, deadline, shield)
        finally:
            self._user_since_s = 0.0
            self._user_left_s = monotonic()
            self._poller = None
            self._role.release()
            if self._io_is_parked or self._is_waited_for:
                self._io_wake.release()
            shield.leave()

    def _poll_until(self, waiter: Waiter, deadline: float | None, shield: Shield | None) -> None:
        reactor = self.reactor
        now = 0.0
        self._housekeeping()
        while not waiter.done and not self._is_closing and (shield is None or not shield.wants_out):
            if self._timers or deadline is not None:
                now = monotonic()
                self._run_timers(now)
                if deadline is not None and now >= deadline:
                    break
            reactor.poll_eagerly(self._time_left(deadline, now))
            self._housekeeping()

    @property
    def _is_waited_for(self) -> bool:
        """Whether some thread waits that is not polling, and what for has not come."""
        return any(not waiter.done for waiter in tuple(self._lock_waiters))

    def _wait_for_poller(self, waiter: Waiter, left: float | None) -> None:
        if waiter.lock is None:
            waiter.lock = threading.Lock()
            waiter.lock.acquire()
        self._lock_waiters.add(waiter)
        try:
            if not waiter.done:
                waiter.lock.acquire(timeout=_LOCK_SLICE_S if left is None else min(left, _LOCK_SLICE_S))
        finally:
            self._lock_waiters.discard(waiter)
        # From now on this thread is likely to be back soon: let the I/O thread keep away.
        self._user_left_s = monotonic()

    def poll_nowait(self) -> None:
        """Handle what has arrived, if no other thread is doing so, and let the I/O thread keep away.

        A thread that submits without ever waiting calls this now and then: if the I/O thread read beside
        it, each of its system calls would cost a turn of the interpreter lock, 5 ms.
        """
        self._user_left_s = monotonic()
        if self._role.acquire(blocking=False):
            shield = self._shields.current()
            shield.enter()
            try:
                self._poller = get_ident()
                self.reactor.poll(0)
                if self._timers:  # the I/O thread keeps away, and somebody may wait for the rest of an answer
                    self._run_timers(monotonic())
                self._housekeeping()
            finally:
                self._user_left_s = monotonic()
                self._poller = None
                self._role.release()
                if self._is_waited_for:
                    self._io_wake.release()
                shield.leave()

    def catch_up(self, timeout_s: float) -> None:
        """Return once what has arrived before is handled, or the time is over."""
        if self._poller is None:
            self.poll_nowait()
            return
        # the poller runs timers after the round in which it handles what its sockets have
        handled = threading.Event()
        self.call_later(0.0, handled.set)
        self.nudge()
        handled.wait(timeout_s)

    # -- timers -----------------------------------------------------------------------------------

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Run *callback* in the polling thread once `delay_s` have passed."""
        self._timer_count += 1
        due = monotonic() + delay_s
        heapq.heappush(self._timers, (due, self._timer_count, callback))
        if self._timers[0][0] >= due:
            self.nudge()

    def _run_timers(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def _time_left(self, deadline: float | None, now: float) -> float | None:
        if self._timers:
            due = self._timers[0][0]
            deadline = due if deadline is None else min(due, deadline)
        return None if deadline is None else max(0.0, deadline - now)

    def nudge(self) -> None:
        """Let housekeeping run soon.  Safe in finalizers and signal handlers."""
        poller = self._poller
        if poller is not None and poller != get_ident():
            self.reactor.wake()

    # -- the I/O thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_closing:
            now = monotonic()
            since = self._user_since_s
            if since:
                if now - since >= self._handover_s and not self._is_waited_for:
                    self._io_is_parked = True
                    # checked again after the flag is up: the user thread looks at the flag when it leaves
                    if self._user_since_s:
                        self._io_wake.acquire()
                    self._io_is_parked = False
                else:
                    self._io_wake.acquire(timeout=self._handover_s)
                continue
            if now - self._user_left_s < self._handover_s and not self._is_waited_for and not self.watchers:
                self._io_wake.acquire(timeout=self._handover_s)
                continue
            if not self._role.acquire(timeout=self._handover_s):
                continue
            try:
                # before housekeeping: what comes after it then wakes the poll
                self._poller = get_ident()
                self._housekeeping()
                now = monotonic()
                self._run_timers(now)
                if not self._is_closing:
                    self.reactor.poll(self._time_left(None, now))
                self._housekeeping()
                if self._lock_waiters and not self._is_waited_for:
                    # They have what they waited for, are about to run, and likely to be back soon.  To poll again at
                    # once would be to have them wait for this thread again and again.
                    self._user_left_s = monotonic()
            finally:
                self._poller = None
                self._role.release()

    def forget(self) -> None:
        """In a forked child: there is no I/O thread here, and nothing to poll."""
        self._is_closing = True
        self.is_forgotten = True

    def close(self) -> None:
        """Stop the I/O thread; blocks until it has ended.  Waiting threads return."""
        self._is_closing = True
        self._io_wake.release()
        self.reactor.wake()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(5)
