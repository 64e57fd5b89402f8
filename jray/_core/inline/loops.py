"""Owns the event loops of async actors, which run a round at a time in whatever thread has time for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jray._core.inline.core import InlineClient
    from jray._core.inline.lives import Life

#: rounds that cancelled coroutines get to end
_ROUNDS_TO_END = 100
#: seconds that a thread of `asyncio.to_thread` may take to end; one that is stuck is left behind
_THREAD_S = 1.0


class ActorLoop(asyncio.SelectorEventLoop):
    """The loop of one life of an async actor.

    It may be given a round while another loop runs in the same thread: a notebook's, or another actor's.
    """

    def __init__(self, client: InlineClient, life: Life) -> None:
        super().__init__()
        self._client = client
        self._life = life
        #: whether some thread gives it a round
        self.is_claimed = False
        #: whether it is to be closed after this round
        self.is_doomed = False
        #: whether a descriptor of its is ready
        self.is_poked = False
        #: what a coroutine raised that is the user's own word
        self.passing: BaseException | None = None

    # asyncio has no public way to ask whether a loop has anything to do; these two fields of its base class have
    # been the same since Python 3.4
    _ready: Any
    _scheduled: Any
    _selector: Any
    _default_executor: Any

    def has_work(self) -> bool:
        """Tell whether a round would do anything."""
        if self._ready or self.is_poked:
            return True
        pause = self.pause_s()
        return pause is not None and pause <= 0

    def pause_s(self) -> float | None:
        """Return the seconds until a timer is due; None if none is set."""
        dues = [timer.when() for timer in self._scheduled if not timer.cancelled()]
        return min(dues) - self.time() if dues else None

    def may_go_on(self) -> bool:
        """Tell whether it will have something to do by itself: a timer, a socket, a child process."""
        return bool(self._ready) or self.pause_s() is not None or len(self._selector.get_map()) > 1

    def fileno(self) -> int:
        """Return the descriptor that is ready when any that the loop watches is."""
        return int(self._selector.fileno())

    def round(self) -> None:
        """Run what is ready, once; raises what `failures.passes_on`."""
        frames = self._client.stack.frames
        frames.append(self)
        surroundings = self._client.surroundings.enter(self._life.variables)
        self.is_poked = False
        try:
            with _no_running_loop():
                self.stop()  # so that `run_forever` makes one round, as its documentation says
                self.run_forever()
        finally:
            self._client.surroundings.leave(surroundings)
            frames.pop()
        passing, self.passing = self.passing, None
        if passing is not None:
            raise passing

    def finish(self) -> None:
        """Cancel all that runs, give it a few rounds to end, and close."""
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it may ignore that it was cancelled
            task.cancel()
        for _ in range(_ROUNDS_TO_END):
            if not self._ready:
                break
            self.round()
        executor = self._default_executor
        self.close()
        for thread in () if executor is None else executor._threads:
            thread.join(_THREAD_S)

    def descriptors(self) -> list[int]:
        return [self.fileno(), *(key.fd for key in self._selector.get_map().values())]

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make this what `asyncio.get_event_loop()` gives, though it does not run."""
        policy = asyncio.get_event_loop_policy()
        local = getattr(policy, "_local", None)
        before = (getattr(local, "_loop", None), getattr(local, "_set_called", False))
        asyncio.set_event_loop(self)
        try:
            with _no_running_loop():
                yield
        finally:
            asyncio.set_event_loop(before[0])
            if local is not None:
                local._set_called = before[1]


@contextlib.contextmanager
def _no_running_loop() -> Iterator[None]:
    """Let another loop run in this thread while one runs already."""
    outer = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(outer)
