"""Owns the driving of event loops for those who wait outside the engine: in `await ref`, or on `ref.future()`."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from jray._core.inline.loops import ActorLoop

if TYPE_CHECKING:
    from jray._core.inline.core import InlineClient

#: how long what became ready may go unseen
_GLANCE_S = 0.01


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of the user's own that runs in this thread."""
    loop = asyncio._get_running_loop()
    return None if isinstance(loop, ActorLoop) else loop


class Ticker:
    """Gives actors' loops rounds from within a loop of the user's, while anything in that awaits them."""

    def __init__(self, client: InlineClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = weakref.ref(loop)
        self._watched: list[Callable[[], bool]] = []
        self._is_set = False

    def watch(self, is_done: Callable[[], bool]) -> None:
        loop = self._loop()
        assert loop is not None
        self._watched.append(is_done)
        if not self._is_set:
            self._is_set = True
            loop.call_soon(self._tick)

    def _tick(self) -> None:
        self._client.turns.pump()
        self._watched = [is_done for is_done in self._watched if not is_done()]
        loop = self._loop()
        if not self._watched or self._client.is_closing or loop is None:
            self._is_set = False
            return
        pauses = [pause for actor in self._client.turns.loops if (pause := actor.pause_s()) is not None]
        loop.call_later(max(0.0, min([_GLANCE_S, *pauses])), self._tick)


class Companion(threading.Thread):
    """Gives actors' loops rounds while somebody holds a future of what a coroutine makes."""

    def __init__(self, client: InlineClient, is_done: Callable[[], bool]) -> None:
        super().__init__(name="jray-inline", daemon=True)
        self._client = client
        self._watched = [is_done]
        self._is_over = False
        self.start()

    def watch(self, is_done: Callable[[], bool]) -> bool:
        """Drive until that is done, too; return False if this thread is about to end."""
        with self._client.lock:
            if not self._is_over:
                self._watched.append(is_done)
            return not self._is_over

    def run(self) -> None:
        client = self._client
        while True:
            client.turns.pump()
            with client.lock:
                self._watched = [is_done for is_done in self._watched if not is_done()]
                if not self._watched or client.is_closing:
                    self._is_over = True
                    return
            client.turns.pause(_GLANCE_S)

    def end(self) -> None:
        with self._client.lock:
            self._client.changed.notify_all()
        if threading.current_thread() is not self:
            self.join()
