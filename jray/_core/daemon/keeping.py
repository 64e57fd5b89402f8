"""Owns what keeps a head without an owner alive: looks at its users, and at the process that is its keeper."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable

from jray._core.machine.lifetime import Lifetime
from jray._core.wire.connection import Reactor
from jray._heads.keepers import Keeper, read_keeper, write_keeper

#: how often the keeper is looked at where the kernel cannot tell of its end
_LOOK_S = 2.0


class Keeping:
    """A part of the loop of `Host`; it calls `end(why)` once the head's time is over.

    `is_in_use()` tells whether somebody uses the head.  *keeper* is the text of the file that names the first one, should
    there be one.  That file is read at the first `advance`, and again after each SIGHUP.
    """

    def __init__(
        self,
        folder: str,
        idle_timeout_s: float | None,
        keeper: str | None,
        reactor: Reactor,
        is_in_use: Callable[[], bool],
        end: Callable[[str], None],
    ) -> None:
        self._folder = folder
        if keeper is not None:
            write_keeper(folder, Keeper.from_json(keeper))
        self._reactor = reactor
        self._is_in_use = is_in_use
        self._end = end
        self._lifetime = Lifetime(idle_timeout_s, time.monotonic())
        self._keeper: Keeper | None = None
        #: readable once the keeper has ended
        self._keeper_fd: int | None = None
        self._next_look_s: float | None = None
        self._is_changed = True
        signal.signal(signal.SIGHUP, self._changed)

    def _changed(self, *_: object) -> None:
        self._is_changed = True
        self._reactor.wake()

    def next_deadline_s(self) -> float | None:
        if self._is_changed:
            return 0.0  # at once
        moments = (self._lifetime.next_deadline_s(), self._next_look_s)
        return min((at for at in moments if at is not None), default=None)

    def advance(self) -> None:
        """Take note of what has changed, and end the head if that is due."""
        if self._is_changed:
            self._is_changed = False
            self._read()
        now_s = time.monotonic()
        if self._next_look_s is not None and now_s >= self._next_look_s:
            self._look()
        self._lifetime.used(now_s, is_in_use=self._is_in_use())
        why = self._lifetime.reason_to_end(now_s)
        if why is not None:
            self._end(why)

    def close(self) -> None:
        self._next_look_s = None
        if self._keeper_fd is not None:
            self._reactor.remove(self._keeper_fd)
            os.close(self._keeper_fd)
            self._keeper_fd = None

    def _read(self) -> None:
        try:
            keeper = read_keeper(self._folder)
        except (OSError, ValueError) as error:
            # the old one holds on: a slip of somebody's pen must not end a cluster
            print(f"Who keeps this head cannot be read: {error}", flush=True)  # noqa: T201 -- the log
            return
        if keeper is None or keeper == self._keeper:
            return
        self.close()
        self._keeper = keeper
        self._lifetime.kept(keeper.keep_s)
        try:
            self._keeper_fd = keeper.process.watch()
        except ProcessLookupError:
            self._lifetime.keeper_gone(time.monotonic())
            return
        if self._keeper_fd is None:
            self._next_look_s = time.monotonic() + _LOOK_S
        else:
            self._reactor.add(self._keeper_fd, select.EPOLLIN, self._keeper_ended)

    def _look(self) -> None:
        assert self._keeper is not None
        if self._keeper.process.is_running():
            self._next_look_s = time.monotonic() + _LOOK_S
        else:
            self._keeper_ended(0)

    def _keeper_ended(self, _events: int) -> None:
        self.close()
        self._lifetime.keeper_gone(time.monotonic())
