"""Owns `Pool`: the interface of `multiprocessing.Pool`, with actors for processes."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from itertools import islice
from types import TracebackType
from typing import Any, NoReturn, Self

from jray._core.client.finding import find_head
from jray._core.refs import current
from jray.api import cluster_resources
from jray.session import init
from jray.util.multiprocessing.foreman import Chunk, Foreman
from jray.util.multiprocessing.results import AsyncResult, IMapIterator
from jray.util.multiprocessing.worker import APPLY, MAP, STARMAP, PoolActor

logger = logging.getLogger("jray")

#: as in `multiprocessing`: each worker gets about this many chunks of a map
_CHUNKS_PER_WORKER = 4


class Pool:
    """Workers that run functions, each an actor of its own; they end with the pool.

    Args:
        processes: how many workers; default: as many as the cluster has CPUs.
        initializer, initargs: called by each worker as it starts.  What it sets with `global` is seen by the
            functions of the same module that run there, also of a notebook.
        maxtasksperchild: a worker is replaced after so many tasks; a chunk of a map is one.
        context: has no meaning here; anything but None is said to be ignored.
        ray_address: where to join if jray is not started yet: see `jray.init`.
        ray_remote_args: options of the workers, as for `@jray.remote`.  They take no CPU unless it says so.

    Raises:
        ValueError: the cluster has fewer CPUs than `processes`, or a number is out of range.
        ActorDiedError: the initializer raised.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: Mapping[str, Any] | None = None,
    ) -> None:
        if processes is not None and processes < 1:
            raise ValueError(f"Number of processes must be at least 1, not {processes}.")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, not {initializer!r}.")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild < 1):
            raise ValueError(f"maxtasksperchild must be a positive int or None, not {maxtasksperchild!r}.")
        if context is not None:
            logger.warning(
                "Pool(context=%r) is ignored: workers are actors, started by the cluster and not by a start method.",
                context,
            )
        if current.client is None:
            _start(ray_address, processes)
        self._size = _check_size(processes)
        actor_class = PoolActor.options(**ray_remote_args) if ray_remote_args else PoolActor
        start_with = current.client.put((initializer, tuple(initargs or ())))
        self._foreman = Foreman(lambda: actor_class.remote(start_with), self._size, maxtasksperchild)
        self._iterators: weakref.WeakSet[IMapIterator] = weakref.WeakSet()
        self._is_closed = False
        self._finalizer = weakref.finalize(self, self._foreman.terminate)
        # at exit `jray.shutdown` ends the workers
        self._finalizer.atexit = False

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("a pool cannot be pickled: it belongs to the process that made it")

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "running"
        return f"<{type(self).__name__} of {self._size} workers, {state}>"

    # -- one call -----------------------------------------------------------------------------------

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        kwds: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return `func(*args, **kwargs)`, run by a worker; blocks.  `kwds` is multiprocessing's name for `kwargs`."""
        return self.apply_async(func, args, kwargs, kwds=kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        kwds: Mapping[str, Any] | None = None,
    ) -> AsyncResult:
        """Have a worker run `func(*args, **kwargs)`.

        One of the callbacks is called with the outcome, by a thread of the pool, before `get` returns it.
        """
        self._check_running()
        call = (tuple(args or ()), {**(kwargs or {}), **(kwds or {})})
        result = AsyncResult(self, 1, callback, error_callback, is_single=True)
        self._foreman.give(Chunk(result, 0, self._foreman.put(func), APPLY, self._foreman.put([call])))
        return result

    # -- many calls ---------------------------------------------------------------------------------

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Return `[func(item) for item in iterable]`, run by the workers in chunks; blocks.

        If items raise, all of them run nevertheless, and then the error of the first is raised.
        """
        return self.map_async(func, iterable, chunksize).get()  # type: ignore[no-any-return]

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Begin what `map` does; the callbacks are as for `apply_async`, and get the whole list."""
        return self._map(func, MAP, iterable, chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """Return `[func(*item) for item in iterable]`, as `map` does."""
        return self.starmap_async(func, iterable, chunksize).get()  # type: ignore[no-any-return]

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Begin what `starmap` does; the callbacks are as for `map_async`."""
        return self._map(func, STARMAP, iterable, chunksize, callback, error_callback)

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> Iterator[Any]:
        """Return an iterator of the results, in order; *iterable* is read as results are taken.

        Its `next(timeout)` raises multiprocessing.TimeoutError.  An error is raised where its result would be,
        and the results after it can still be taken.
        """
        return self._imap(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> Iterator[Any]:
        """Return an iterator as `imap` does, of results as they come."""
        return self._imap(func, iterable, chunksize, ordered=False)

    def _map(
        self,
        func: Callable[..., Any],
        how: str,
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callable[[list[Any]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> AsyncResult:
        self._check_running()
        items = iterable if isinstance(iterable, Sized) else list(iterable)
        if chunksize is None:
            chunksize = -(-len(items) // (self._size * _CHUNKS_PER_WORKER)) or 1
        _check_chunksize(chunksize)
        function = self._foreman.put(func)  # once for all chunks
        chunks = [self._foreman.put(chunk) for chunk in _chunked(items, chunksize)]
        result = AsyncResult(self, len(chunks), callback, error_callback, is_single=False)
        for index, chunk in enumerate(chunks):
            self._foreman.give(Chunk(result, index, function, how, chunk))
        return result

    def _imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int, *, ordered: bool
    ) -> IMapIterator:
        self._check_running()
        _check_chunksize(chunksize)
        function = self._foreman.put(func)
        foreman = self._foreman
        foreman.expect_more()

        def submit(iterator: IMapIterator, index: int, items: list[Any]) -> None:
            foreman.give(Chunk(iterator, index, function, MAP, foreman.put(items)))

        iterator = IMapIterator(
            self, submit, foreman.expect_no_more, iterable, chunksize, self._size, ordered=ordered
        )
        self._iterators.add(iterator)
        return iterator

    # -- its end ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more work; the workers end once they have done what they were given."""
        self._is_closed = True
        self._foreman.close()

    def terminate(self) -> None:
        """End the workers now.  Results that are not there yet raise ActorDiedError."""
        self._is_closed = True
        self._finalizer()

    def join(self) -> None:
        """Block until all work is done and the workers have ended.

        What is still to be read of the items of an `imap` is read now.  Raises ValueError before `close` or
        `terminate`.
        """
        if not self._is_closed:
            raise ValueError("Pool is still running")
        for iterator in list(self._iterators):
            iterator.read_all(is_over=lambda: self._foreman.is_over or not self._finalizer.alive)
        self._foreman.join()

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    def _check_running(self) -> None:
        if self._is_closed:
            raise ValueError("Pool not running")


def _start(address: str | None, processes: int | None) -> None:
    """Join the cluster at *address*, or the one that a bare init joins; if there is none, start one of that size."""
    wanted = address or os.environ.get("JRAY_ADDRESS") or os.environ.get("RAY_ADDRESS")
    starts = wanted == "local" or (not wanted and find_head(None).address is None)
    init(address, num_cpus=processes if starts else None)


def _check_size(processes: int | None) -> int:
    cpus = int(cluster_resources().get("CPU", 0))
    if processes is None:
        processes = cpus
    if processes > cpus:
        raise ValueError(
            f"Tried to start a pool with {processes} processes, but the cluster has only {cpus} CPUs. Give fewer "
            "processes, or call jray.init(num_cpus=...) with more."
        )
    return processes


def _check_chunksize(chunksize: int) -> None:
    if chunksize < 1:
        raise ValueError(f"Chunksize must be 1 or more, not {chunksize}.")


def _chunked(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
