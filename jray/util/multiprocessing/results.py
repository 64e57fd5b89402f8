"""Owns what a pool hands out for its results: `AsyncResult`, and the iterators of `imap`."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing import TimeoutError  # noqa: A004 -- the name is the standard library's
from typing import Any, Protocol

logger = logging.getLogger("jray")


class Job(Protocol):
    """What takes the outcome of chunks.  Its methods are called by the pool's thread."""

    def deliver(self, index: int, results: list[Any], errors: dict[int, BaseException]) -> None:
        """Take the outcome of chunk *index*; the result of an item that has an error means nothing."""

    def fail(self, index: int, error: BaseException) -> None:
        """Take the news that chunk *index* has no outcome: its worker died, or the pool was terminated."""


class AsyncResult:
    """The result of `apply_async`, `map_async` or `starmap_async`, which may still be under way."""

    def __init__(
        self,
        pool: Any,
        chunks: int,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        *,
        is_single: bool,
    ) -> None:
        self._pool = pool  #: a pool lives as long as somebody waits for its results
        self._parts: list[list[Any]] = [[]] * chunks
        self._left = chunks
        #: the first failed item, in the order of items: where it is, and its error
        self._error: tuple[tuple[int, int], BaseException] | None = None
        self._callback = callback
        self._error_callback = error_callback
        self._is_single = is_single
        self._value: Any = None
        self._done = threading.Event()
        if not chunks:
            self._finish()

    def ready(self) -> bool:
        """Tell whether the result is there, or the error."""
        return self._done.is_set()

    def successful(self) -> bool:
        """Tell whether there was no error.  Raises ValueError before the result is ready."""
        if not self.ready():
            raise ValueError(f"{self!r} is not ready: call wait() first")
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Block until the result is ready, or for `timeout` seconds."""
        self._done.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return the result, or raise the first error in the order of the items; blocks.

        Raises multiprocessing.TimeoutError after `timeout` seconds.
        """
        if not self._done.wait(timeout):
            raise TimeoutError
        if self._error is not None:
            raise self._error[1]
        return self._value

    # -- for the pool's thread --------------------------------------------------------------------

    def deliver(self, index: int, results: list[Any], errors: dict[int, BaseException]) -> None:
        self._parts[index] = results
        if errors:
            number = min(errors)
            self._note((index, number), errors[number])
        self._count()

    def fail(self, index: int, error: BaseException) -> None:
        self._note((index, 0), error)
        self._count()

    def _note(self, place: tuple[int, int], error: BaseException) -> None:
        if self._error is None or place < self._error[0]:
            self._error = place, error

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            self._finish()

    def _finish(self) -> None:
        if self._error is None:
            flat = [result for part in self._parts for result in part]
            self._value = flat[0] if self._is_single else flat
            _call(self._callback, self._value)
        else:
            _call(self._error_callback, self._error[1])
        self._parts = []
        self._pool = None
        self._done.set()


def _call(callback: Callable[[Any], object] | None, value: Any) -> None:
    if callback is None:
        return
    try:
        callback(value)
    except Exception:
        # it is the user's, and other results are waiting for this thread
        logger.exception("The callback %r of a pool's result raised:", callback)


class IMapIterator:
    """The results of `imap` or `imap_unordered`.

    Items are read by whoever takes results, and only so far ahead that the workers have something to do, so
    that the items may be endless.
    """

    #: chunks that are on their way or wait to be taken, for each worker
    _AHEAD = 4

    def __init__(
        self,
        pool: Any,
        submit: Callable[[IMapIterator, int, list[Any]], None],
        when_read: Callable[[], object],
        items: Iterable[Any],
        chunksize: int,
        workers: int,
        *,
        ordered: bool,
    ) -> None:
        self._pool: Any = pool  #: a pool lives as long as somebody takes its results
        self._submit = submit
        #: called when this needs the workers for nothing more than what was submitted
        self._when_read = weakref.finalize(self, when_read)
        self._when_read.atexit = False
        self._reading = threading.Lock()
        self._items = iter(items)
        self._chunksize = chunksize
        self._most = workers * self._AHEAD
        self._ordered = ordered
        self._submitted = 0  #: chunks
        self._begun = 0  #: chunks whose results are being taken, or have been
        self._is_exhausted = False
        #: what reading the items raised; it comes after the results of those before
        self._broken: BaseException | None = None
        self._outcomes: deque[tuple[Any, BaseException | None]] = deque()  #: of the chunk that is being taken
        self._arrived: dict[int, list[tuple[Any, BaseException | None]]] = {}
        self._changed = threading.Condition()
        self._top_up()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result or raise its error; blocks, and after an error one can go on.

        Raises multiprocessing.TimeoutError after `timeout` seconds, StopIteration at the end.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._outcomes:
            self._top_up()
            if self._begun == self._submitted:
                self._pool = None
                broken, self._broken = self._broken, None
                if broken is not None:
                    raise broken
                raise StopIteration
            with self._changed:
                index = self._next_index()
                if index is None:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        raise TimeoutError
                    self._changed.wait(left)
                    continue
                self._outcomes.extend(self._arrived.pop(index))
                self._begun += 1
        result, error = self._outcomes.popleft()
        if error is not None:
            raise error
        return result

    def _next_index(self) -> int | None:
        if self._ordered:
            return self._begun if self._begun in self._arrived else None
        return next(iter(self._arrived), None)

    def read_all(self, is_over: Callable[[], bool]) -> None:
        """Read the items to their end, or until `is_over()`, and submit them."""
        with self._reading:
            while not self._is_exhausted and not is_over():
                self._read_chunk()

    def _top_up(self) -> None:
        with self._reading:
            while not self._is_exhausted and self._submitted - self._begun < self._most:
                self._read_chunk()

    def _read_chunk(self) -> None:
        chunk: list[Any] = []
        try:
            chunk.extend(islice(self._items, self._chunksize))
        except Exception as error:  # noqa: BLE001 -- raised once what came before has been taken
            self._broken = error
        self._is_exhausted = len(chunk) < self._chunksize
        if chunk:
            self._submit(self, self._submitted, chunk)
            self._submitted += 1
        if self._is_exhausted:
            self._when_read()

    # -- for the pool's thread --------------------------------------------------------------------

    def deliver(self, index: int, results: list[Any], errors: dict[int, BaseException]) -> None:
        outcomes = [(result, errors.get(number)) for number, result in enumerate(results)]
        with self._changed:
            self._arrived[index] = outcomes
            self._changed.notify_all()

    def fail(self, index: int, error: BaseException) -> None:
        self.deliver(index, [None], {0: error})
