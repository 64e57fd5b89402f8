"""Owns `Executor`: the standard library's interface to tasks."""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any, TypeVar

import jray
from jray._core.refs import current
from jray.exceptions import GetTimeoutError, RaySystemError, RayTaskError

T = TypeVar("T")

#: how long to wait for another thread to notice the end of a task, before looking again
_SETTLING_S = 0.05
#: How long a call may have begun without this process having read of it, if nothing is very slow; and how
#: long it is taken for granted that everything older has been read.
_NEWS_S = 0.002
_OLD_NEWS_S = 0.01


class Executor(concurrent.futures.Executor):
    """A `concurrent.futures.Executor` whose calls are jray tasks.

        with Executor(num_cpus=2) as executor:
            future = executor.submit(simulate, seed=1)
            rows = list(executor.map(load, paths, chunksize=16))

    It goes wherever the standard library's executors go: `concurrent.futures.wait` and `as_completed`,
    `loop.run_in_executor`.  What differs from a process pool:

    - There is no pool.  The cluster runs as many calls at once as their `options` let it; `max_workers` is
      how many may be in the cluster at once, running or not, and None leaves that open.
    - A pending future is one whose call has not begun, also if it is in the cluster already.  Cancelling it
      cancels the task.  What runs cannot be cancelled; a call that begins at that very moment is interrupted.
    - Functions from notebooks, lambdas and closures can be called.  They are sent as they are when `submit`
      or `map` is called.  An ObjectRef among the arguments is replaced by its value.
    - A call whose worker dies is run again, up to `max_retries` times.
    - Calls end with the session: leave by `with` or `shutdown` what must be finished.

    Inside a task, wait with `result`, `exception`, `map` or `shutdown`: they lend the task's CPU to others
    meanwhile, and `concurrent.futures.wait` does not.
    """

    def __init__(self, max_workers: int | None = None, **options: Any) -> None:
        """Make an executor; `options` are those of `@jray.remote` for each call, such as `num_gpus=1`.

        Raises ValueError or TypeError for a wrong option, and for those about several results: a future has
        one.
        """
        if max_workers is not None and max_workers <= 0:
            raise ValueError(f"max_workers must be at least 1, got {max_workers}")
        for name in ("num_returns", "_generator_backpressure_num_objects"):
            if name in options:
                raise ValueError(f"{name} can't be chosen here: a future has one result.")
        self._max_workers = max_workers
        self._options = {**options, "num_returns": "streaming"}
        self._call = jray.remote(**self._options)(_call)
        self._lock = threading.Lock()
        #: something ended
        self._changed = threading.Condition(self._lock)
        self._is_shut_down = False
        #: neither done nor cancelled
        self._open: set[_CallFuture[Any]] = set()
        #: not in the cluster yet, oldest first; may hold cancelled ones
        self._waiting: deque[_CallFuture[Any]] = deque()
        #: in the cluster, or on the way there
        self._in_flight: set[_CallFuture[Any]] = set()
        #: when a thread last gave the news of the cluster time to arrive
        self._listened_s = 0.0

    # -- the standard interface -------------------------------------------------------------------------

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[T]:
        """Call `fn(*args, **kwargs)` in a task; return its future.

        Does not wait for the call.  Whatever goes wrong with it, also that something cannot be pickled, is
        the future's exception: the function's own comes as it was raised, caused by a RayTaskError with the
        traceback of the worker.  With `max_workers`, arguments must not change before the call is in the
        cluster.  Raises RuntimeError after `shutdown`.
        """
        function = self._call
        if "name" not in self._options:
            function = function.options(name=_name_of(fn))
        # by position: a keyword may have any name, also one that `remote` knows
        return self._submit(function, (fn, tuple(kwargs), *args, *kwargs.values()))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call `fn` with the items of *iterables*, as the builtin `map`; return an iterator over the results.

        Results come in order.  Each task does `chunksize` calls.  All are submitted at once; with
        `buffersize` at most so many tasks are submitted beyond the result that is asked for.  The iterator
        raises what a call raised, or TimeoutError for a result that is not there `timeout` seconds after
        `map` was called; what is still pending is cancelled when it is done, has raised or is closed.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, got {chunksize}")
        if buffersize is not None and buffersize < 1:
            raise ValueError(f"buffersize must be at least 1, got {buffersize}")
        deadline = None if timeout is None else monotonic() + timeout
        function = jray.remote(**self._options)(_runner(fn, is_batched=chunksize > 1))
        calls: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if chunksize > 1:
            calls = _batches(calls, chunksize)
        futures = (self._submit(function, call) for call in calls)
        pending = deque(itertools.islice(futures, buffersize))
        results = _results(pending, futures if buffersize is not None else iter(()), deadline)
        return _chained(results) if chunksize > 1 else results

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; with `cancel_futures` cancel those that have not begun.

        Blocks until all others are done, unless `wait` is false; then they go on.
        """
        with self._lock:
            self._is_shut_down = True
            futures = list(self._open)
        if cancel_futures:
            for future in futures:
                future.cancel()
        if wait:
            for future in futures:
                future._wait(None)
            with self._lock:
                while self._open:
                    self._changed.wait()

    # -- calls on their way -------------------------------------------------------------------------------

    def _submit(self, function: Any, args: tuple[Any, ...]) -> concurrent.futures.Future[Any]:
        future: _CallFuture[Any] = _CallFuture(self, current.client or current.require(), function, args)
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("This executor takes no more calls: it was shut down.")
            self._open.add(future)
            self._waiting.append(future)
        self._fill()
        return future

    def _fill(self) -> None:
        """Bring what waits into the cluster, as far as there is room."""
        while True:
            with self._lock:
                if not self._waiting or (
                    self._max_workers is not None and len(self._in_flight) >= self._max_workers
                ):
                    return
                future = self._waiting.popleft()
                if future.cancelled():
                    continue
                self._in_flight.add(future)
            try:
                future._start()
            except Exception as error:  # noqa: BLE001 -- what cannot be sent is the future's own misfortune
                self._left_cluster(future)
                future._settle(None, error)
                self._close(future)

    def _on_task_end(self, future: _CallFuture[Any]) -> None:
        """Give the future its result; called when its task has ended, from whichever thread saw it."""
        self._left_cluster(future)
        self._fill()
        value, error = future._outcome()
        future._settle(value, error)
        self._close(future)

    def _left_cluster(self, future: _CallFuture[Any]) -> None:
        with self._lock:
            self._in_flight.discard(future)
            self._changed.notify_all()

    def _close(self, future: _CallFuture[Any]) -> None:
        """Forget a future that is done or cancelled."""
        with self._lock:
            self._open.discard(future)
            self._changed.notify_all()

    def _listen(self, future: _CallFuture[Any]) -> None:
        """Give the news that a call has begun a moment to arrive, if it is not already here."""
        items = future._items
        if items is not None and monotonic() - self._listened_s > _OLD_NEWS_S:
            future._client.wait([items], 1, _NEWS_S)
            self._listened_s = monotonic()

    def _wait_for_change(self, timeout_s: float | None) -> None:
        """Block until a call in the cluster ends, or for `timeout_s`; a task lends its CPU meanwhile."""
        with self._lock:
            sent = [future for future in self._in_flight if future._end is not None]
        ends = [future._end for future in sent]
        if sent and not sent[0]._client.wait(ends, 1, timeout_s)[0]:
            return
        with self._lock:
            if len(ends) <= len(self._in_flight):  # nobody has noticed the end yet, or one is being submitted
                self._changed.wait(_SETTLING_S)


class _CallFuture(concurrent.futures.Future[T]):
    """The future of a call.

    For the base class it is pending until it is done, or somebody asks whether it runs: only the task itself
    knows, which says so by its first item.
    """

    def __init__(self, executor: Executor, client: Any, function: Any, args: tuple[Any, ...]) -> None:
        super().__init__()
        self._executor = executor
        #: Of the session that the call belongs to.  Asked directly: `jray.get` would start another session
        #: when this one has ended.
        self._client = client
        #: what to submit; None once it is
        self._request: tuple[Any, tuple[Any, ...]] | None = (function, args)
        #: what the task yields: that it has begun, and its result
        self._items: Any = None
        #: the ref that has a value when the task has ended
        self._end: Any = None
        self._turn = threading.Lock()
        self._has_left_pending = False

    # -- what the user asks -------------------------------------------------------------------------------

    def running(self) -> bool:
        """Tell whether the function is being called."""
        if not self.done() and self._has_begun():
            self._leave_pending()
        return super().running()

    def cancel(self) -> bool:
        """Cancel the call if it has not begun, and its task; return whether it is cancelled."""
        if self.cancelled():
            return True
        self._executor._listen(self)
        if self.running() or not super().cancel():
            return False
        self._leave_pending()
        self._executor._close(self)
        items = self._items
        if items is not None:
            self._client.cancel(items, force=False, recursive=True)
        return True

    def result(self, timeout: float | None = None) -> T:
        """Return the function's result; block for it, at most `timeout` seconds.

        Raises what it raised; TimeoutError; or CancelledError if the future is cancelled.
        """
        return super().result(self._wait(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the function raised, or None; block for it as `result`."""
        return super().exception(self._wait(timeout))

    def _wait(self, timeout: float | None) -> float | None:
        """Wait so that a task lends its CPU; return how long to wait yet."""
        deadline = None if timeout is None else monotonic() + timeout
        while not self.done():
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return 0
            if self._end is None:
                self._executor._wait_for_change(left)
                continue
            try:
                self._client.get((self._end,), left)
            except GetTimeoutError:
                return 0
            break
        return None

    # -- what the executor does -----------------------------------------------------------------------------

    def _start(self) -> None:
        request, self._request = self._request, None
        assert request is not None, "a call is submitted once"
        if self._client is not current.client:
            raise RaySystemError("the session was shut down before the call was in the cluster")
        function, args = request
        items = function.remote(*args)
        self._end = items.completed()
        self._items = items
        if self.cancelled():  # by another thread while it was being submitted
            self._client.cancel(items, force=False, recursive=True)
        self._end._on_completed(lambda _: self._executor._on_task_end(self))

    def _outcome(self) -> tuple[Any, BaseException | None]:
        """Return what the task ended with: (result, None), or (None, exception)."""
        *_, last = self._items
        self._items = None  # the stored result may go when the user's copy does
        try:
            return self._client.get((last,), None)[0], None
        except RayTaskError as error:
            cause = error.cause
            if not isinstance(cause, BaseException):
                return None, error
            cause.__cause__ = error
            return None, cause
        except BaseException as error:  # noqa: BLE001 -- whatever it is, it is how the call ended
            return None, error

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if not self._leave_pending():
            return  # cancelled
        if error is None:
            self.set_result(value)
        else:
            self.set_exception(error)

    def _has_begun(self) -> bool:
        items = self._items
        return items is not None and bool(self._client.wait([items], 1, 0)[0])

    def _leave_pending(self) -> bool:
        """Say to the base class that the call runs, or to those who wait that it is cancelled.

        Return whether it may get a result.
        """
        with self._turn:
            if not self._has_left_pending:
                self._has_left_pending = True
                return self.set_running_or_notify_cancel()
        return not self.cancelled()


def _results(
    pending: deque[concurrent.futures.Future[Any]],
    more: Iterator[concurrent.futures.Future[Any]],
    deadline: float | None,
) -> Iterator[Any]:
    try:
        while pending:
            pending.extend(itertools.islice(more, 1))
            yield pending[0].result(None if deadline is None else max(0.0, deadline - monotonic()))
            pending.popleft()
    finally:
        for future in reversed(pending):
            future.cancel()


def _batches(calls: Iterator[tuple[Any, ...]], size: int) -> Iterator[tuple[Any, ...]]:
    while batch := tuple(itertools.islice(calls, size)):
        yield batch


def _chained(results: Iterator[Iterable[T]]) -> Iterator[T]:
    for batch in results:
        yield from batch


# -- what runs in the worker ----------------------------------------------------------------------------


def _call(fn: Callable[..., Any], names: tuple[str, ...], *values: Any) -> Iterator[Any]:
    """Yield to say that the call has begun, then yield its result.

    The last of *values* are keyword arguments of those names.
    """
    yield None
    count = len(values) - len(names)
    yield fn(*values[:count], **dict(zip(names, values[count:], strict=True)))


def _runner(fn: Callable[..., Any], *, is_batched: bool) -> Callable[..., Iterator[Any]]:
    """Return what `_call` is for one function, which need not be sent with each call then."""

    def run(*items: Any) -> Iterator[Any]:
        yield None
        yield [fn(*map(_value, args)) for args in items] if is_batched else fn(*items)

    run.__name__ = run.__qualname__ = _name_of(fn)
    return run


def _value(argument: Any) -> Any:
    return jray.get(argument) if isinstance(argument, jray.ObjectRef) else argument


def _name_of(fn: Callable[..., Any]) -> str:
    return str(getattr(fn, "__qualname__", type(fn).__qualname__))


Executor.__module__ = "jray.util"
