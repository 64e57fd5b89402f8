"""Owns `ActorPool`: which actor of a set works on which value, and in which order results are handed out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any, TypeVar

import jray
from jray.exceptions import (
    ActorDiedError,
    ActorPlacementGroupRemoved,
    ActorUnschedulableError,
    RayTaskError,
)

V = TypeVar("V")

#: what says that an actor will never answer again
_ENDS = (ActorDiedError, ActorPlacementGroupRemoved, ActorUnschedulableError)
_PASSED_OVER = (
    "get_next() can't return results that get_next_unordered() has passed over: "
    "take the rest with get_next_unordered() too."
)


class _Work:
    """One submitted value."""

    __slots__ = ("actor", "failure", "fn", "index", "is_ignored", "result", "unready", "value")

    def __init__(self, index: int, fn: Callable[[Any, Any], Any], value: Any) -> None:
        self.index = index
        self.fn = fn
        self.value = value
        #: that works on it; None: it has none yet, or could not be started
        self.actor: Any = None
        #: what `fn` returned
        self.result: Any = None
        #: what `fn` raised when an actor came free for the value
        self.failure: Exception | None = None
        #: those parts of the result that are not known to be ready
        self.unready: list[Any] = []
        #: nobody will ask for the result
        self.is_ignored = False

    def start(self, actor: Any) -> None:
        """Call `fn`; whatever it raises is the caller's."""
        result = self.fn(actor, self.value)
        parts = result if isinstance(result, list) else [result]
        for part in parts:
            if not isinstance(part, jray.ObjectRef | jray.ObjectRefGenerator):
                raise TypeError(
                    f"The function given to an ActorPool must return the ref of a call, as in "
                    f"`lambda actor, value: actor.method.remote(value)`; it returned {part!r}."
                )
        self.result, self.unready, self.actor = result, list(parts), actor

    @property
    def is_done(self) -> bool:
        return not self.unready and (self.actor is not None or self.failure is not None)


class ActorPool:
    """A set of actors that share work: each works on one value at a time.

        pool = ActorPool([Worker.remote(), Worker.remote()])
        list(pool.map(lambda worker, value: worker.double.remote(value), [1, 2, 3, 4]))   # [2, 4, 6, 8]

    An actor is given its next value when the result of the one before is taken, so at most as many results as
    there are actors wait to be taken.  An actor that dies leaves the pool; the value it worked on raises
    ActorDiedError when its turn comes.  Not thread-safe, and not picklable: a pool belongs to its process.
    """

    def __init__(self, actors: Iterable[Any]) -> None:
        self._idle: list[Any] = list(actors)
        #: being worked on, by index
        self._running: dict[int, _Work] = {}
        #: without an actor yet, oldest first; may hold ignored ones
        self._waiting: deque[_Work] = deque()
        #: being worked on although nobody wants the result: their actors are busy all the same
        self._ignored: list[_Work] = []
        #: how many results nobody has taken
        self._untaken = 0
        self._next_index = 0
        #: `get_next` returns no result of a lower index
        self._next_in_order = 0
        #: counts the calls of `map` and `map_unordered`
        self._maps = 0

    # -- many values ------------------------------------------------------------------------------

    def map(self, fn: Callable[[Any, V], Any], values: Iterable[V]) -> Iterator[Any]:
        """Submit all values; return an iterator over the results, in the order of the values.

        `fn(actor, value)` returns the ref of a call.  The iterator blocks for each result, and raises what
        the call raised; later results can then be had by `get_next`.  Results of earlier submissions that
        nobody has taken are dropped, whatever they are.
        """
        self._begin_map(fn, values)
        return self._results(self._maps, self.get_next)

    def map_unordered(self, fn: Callable[[Any, V], Any], values: Iterable[V]) -> Iterator[Any]:
        """Submit all values as `map` does; return an iterator over the results as they come."""
        self._begin_map(fn, values)
        return self._results(self._maps, self.get_next_unordered)

    def _begin_map(self, fn: Callable[[Any, V], Any], values: Iterable[V]) -> None:
        for work in [*self._running.values(), *self._waiting]:
            self._ignore(work)
        self._maps += 1
        for value in values:
            self.submit(fn, value)

    def _results(self, number: int, take: Callable[[], Any]) -> Iterator[Any]:
        while True:
            if number != self._maps:
                raise RuntimeError(
                    "The results of this map were dropped when the same ActorPool began another one. "
                    "Take all results first, or use a pool for each."
                )
            if not self.has_next():
                return
            yield take()

    # -- one value --------------------------------------------------------------------------------

    def submit(self, fn: Callable[[Any, V], Any], value: V) -> None:
        """Have `fn(actor, value)` called with an actor: now if one is idle, else when one comes free.

        What `fn` raises is raised here in the first case, and in place of the result in the second.
        """
        self._reap()
        work = _Work(self._next_index, fn, value)
        if self._idle:
            work.start(self._idle[-1])
            self._idle.pop()
            self._running[work.index] = work
        else:
            self._waiting.append(work)
        self._next_index += 1
        self._untaken += 1

    def has_next(self) -> bool:
        """Tell whether there is a result to wait for or to take."""
        return self._untaken > 0

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return the next result in the order of submission; blocks for it, at most `timeout` seconds.

        Raises:
            StopIteration: all results have been taken.
            TimeoutError: it is not there in time.  With `ignore_if_timedout` it never will be: the next call
                is for the result after it.  The actor is back in the pool once it has finished.
            ValueError: `get_next_unordered` has returned a later one already.
            ActorDiedError: the actor died, or there was none left for this value.
            Whatever the call raised.
        """
        if not self.has_next():
            raise StopIteration("All results have been taken.")
        work = self._running.get(self._next_in_order) or self._first_waiting()
        if work is None:
            raise ValueError(_PASSED_OVER)
        return self._get([work], timeout, ignore_if_timedout)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return the result that comes first; blocks for it, at most `timeout` seconds.

        Raises what `get_next` does, but no ValueError.  If none is there in time, `ignore_if_timedout` gives
        up the one that was submitted first.
        """
        if not self.has_next():
            raise StopIteration("All results have been taken.")
        running = list(self._running.values())
        if not running:
            first = self._first_waiting()
            assert first is not None, "a result that is not taken is running or waiting"
            running = [first]
        return self._get(running, timeout, ignore_if_timedout)

    def _get(self, candidates: list[_Work], timeout: float | None, ignore_if_timedout: bool) -> Any:
        work = self._wait(candidates, timeout)
        if work is not None:
            return self._take(work)
        text = f"No result within {timeout} s"
        if not ignore_if_timedout:
            raise TimeoutError(f"{text}; the call goes on.")
        self._ignore(candidates[0])
        raise TimeoutError(f"{text}; the call goes on, but its result is ignored.")

    def _wait(self, candidates: list[_Work], timeout: float | None) -> _Work | None:
        """Block until one of the candidates is done, or can never be; return it, or None at the time-out."""
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            self._reap()
            for work in candidates:
                if work.is_done or not self._can_come(work):
                    return work
            started = [work for work in candidates if work.actor is not None]
            # an ignored call that ends sets an actor free for what waits
            watched = {work.unready[-1]: work for work in [*started, *self._ignored]}
            if not watched:
                raise ValueError(_PASSED_OVER)
            left = None if deadline is None or timeout is None else max(0.0, deadline - monotonic())
            if timeout is not None and timeout < 0:
                left = timeout  # `wait` refuses it
            ready, _ = jray.wait(list(watched), timeout=left)
            if not ready:
                return None
            watched[ready[0]].unready.pop()

    def _can_come(self, work: _Work) -> bool:
        return bool(work.actor is not None or self._running or self._ignored or self._idle)

    def _take(self, work: _Work) -> Any:
        self._forget(work)
        is_alive = True
        try:
            if work.failure is not None:
                raise work.failure
            if work.actor is None:
                raise ActorDiedError(
                    error_msg="The pool has no actor left that could work on this value; add one with push()."
                )
            return jray.get(work.result)
        except _ENDS as error:
            is_alive = not _is_end_of(work.actor, error)
            raise
        finally:
            if work.actor is not None and is_alive:
                self._idle.append(work.actor)
            self._start_waiting()

    def _forget(self, work: _Work) -> None:
        """Count *work* as taken."""
        if self._running.pop(work.index, None) is None:
            self._waiting.remove(work)
        self._untaken -= 1
        self._next_in_order = max(self._next_in_order, work.index + 1)

    def _ignore(self, work: _Work) -> None:
        if work.is_ignored:
            return
        work.is_ignored = True
        if self._running.pop(work.index, None) is not None and work.actor is not None:
            self._ignored.append(work)
        self._untaken -= 1
        self._next_in_order = max(self._next_in_order, work.index + 1)

    def _first_waiting(self) -> _Work | None:
        return next((work for work in self._waiting if not work.is_ignored), None)

    def _start_waiting(self) -> None:
        while self._idle and self._waiting:
            work = self._waiting[0]  # it stays there if an interrupt strikes
            try:
                work.start(self._idle[-1])
            except Exception as error:  # noqa: BLE001 -- whatever the user's function raises is this value's outcome
                work.failure = error
            else:
                self._idle.pop()
            self._waiting.popleft()
            if not work.is_ignored:
                self._running[work.index] = work
            elif work.actor is not None:
                self._ignored.append(work)

    def _reap(self) -> None:
        """Take back the actors that have finished what nobody wants; does not block."""
        for work in list(self._ignored):
            while work.unready and jray.wait([work.unready[-1]], timeout=0)[0]:
                work.unready.pop()
            if work.unready:
                continue
            self._ignored.remove(work)
            try:
                jray.get(work.result)
            except Exception as error:  # noqa: BLE001 -- nobody wants to know what the call raised
                if _is_end_of(work.actor, error):
                    continue
            self._idle.append(work.actor)
        self._start_waiting()

    # -- the actors -------------------------------------------------------------------------------

    def has_free(self) -> bool:
        """Tell whether an actor is idle."""
        self._reap()
        return bool(self._idle)

    def pop_idle(self) -> Any | None:
        """Take an idle actor out of the pool and return it; None if all are busy."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Add an actor, which starts on what waits.  Raises ValueError if it is in the pool already."""
        busy = [work.actor for work in [*self._running.values(), *self._ignored]]
        if actor in self._idle or actor in busy:
            raise ValueError(f"{actor!r} is in this ActorPool already.")
        self._idle.append(actor)
        self._start_waiting()


def _is_end_of(actor: Any, error: BaseException) -> bool:
    """Tell whether *error* says that *actor* is gone for good; it may be of another that its method called."""
    if not isinstance(error, _ENDS) or isinstance(error, RayTaskError):
        return False
    actor_id = getattr(error, "actor_id", None)
    return not actor_id or actor is None or bool(actor_id == actor._actor_id.hex())


ActorPool.__module__ = "jray.util"
