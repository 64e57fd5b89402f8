"""Owns the protection of the client's state against KeyboardInterrupt.

A signal's handler may raise between any two bytecodes of the main thread; raised in the middle of a
message it would lose that message.  A shield makes the interrupt wait for the next safe point, where
`leave` raises it.  Only the main thread ever needs one: others never see the signal.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C module: `signal` converts to enums, for 4 us a call
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

_SIGINT = _signal.SIGINT


class Shield(Protocol):
    """Between `enter` and `leave` an interrupt only sets `pending`."""

    pending: bool

    @property
    def wants_out(self) -> bool:
        """Tell whether the next `leave` raises."""

    def enter(self) -> None: ...
    def leave(self) -> None: ...


class NoShield:
    """For threads other than the main one."""

    pending = False
    wants_out = False

    def enter(self) -> None:
        pass

    def leave(self) -> None:
        pass


class BorrowedHandlerShield:
    """For a driver, where the handler of SIGINT is the user's: it is replaced while shielded, then called.

    `wake` must make the reactor's `poll` return; it is called from the handler.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.pending = False
        self._depth = 0
        self._previous: Any = None
        self._wake = wake

    @property
    def wants_out(self) -> bool:
        return self.pending and self._depth == 1

    def enter(self) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        previous = _signal.getsignal(_SIGINT)
        # SIG_IGN, SIG_DFL and handlers of C code (None) run no Python between bytecodes
        if callable(previous):
            self._previous = previous
            _signal.signal(_SIGINT, self._note)

    def leave(self) -> None:
        self._depth -= 1
        if self._depth:
            return
        previous, self._previous = self._previous, None
        if previous is None:
            return
        _signal.signal(_SIGINT, previous)
        if self.pending:
            self.pending = False
            previous(_SIGINT, None)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.pending = True
        self._wake()


class OwnHandlerShield:
    """For a worker, where SIGINT is jray's own: it means that the running task is to be cancelled."""

    def __init__(self, wake: Callable[[], None], is_wanted: Callable[[], bool]) -> None:
        self.pending = False
        self._depth = 0
        self._wake = wake
        #: asked at the moment of raising: the task to cancel may have ended meanwhile
        self._is_wanted = is_wanted

    def install(self) -> None:
        _signal.signal(_SIGINT, self._note)

    @property
    def wants_out(self) -> bool:
        return self.pending and self._depth == 1

    def enter(self) -> None:
        self._depth += 1

    def leave(self) -> None:
        self._depth -= 1
        if self.pending and not self._depth:
            self.pending = False
            if self._is_wanted():
                raise KeyboardInterrupt

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self._depth:
            self.pending = True
            self._wake()
        elif self._is_wanted():
            raise KeyboardInterrupt


_NO_SHIELD = NoShield()


class Shields:
    """Gives each thread its shield."""

    __slots__ = ("_main", "_main_ident")

    def __init__(self, main: Shield) -> None:
        self._main = main
        self._main_ident = threading.main_thread().ident

    def current(self) -> Shield:
        return self._main if threading.get_ident() == self._main_ident else _NO_SHIELD
