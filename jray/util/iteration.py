"""Owns ways to take many results one by one: `as_completed`, `map_unordered`, and `map`, which makes chunks."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from itertools import islice
from time import perf_counter
from typing import Any, NoReturn

from jray._core.options import TaskOptions
from jray._core.refs import ObjectRef, current
from jray._core.serialization import deserialize
from jray._core.worker.tracebacks import task_error
from jray.api import cluster_resources, get, remote, wait
from jray.exceptions import RayTaskError
from jray.remote_function import OptionsOfFunction, RemoteFunction
from jray.util.chunks import Chunker
from jray.util.tqdm import tqdm

#: `as_completed` looks at so many refs at a time.  What was submitted first is mostly done first, and waiting
#: costs time for each ref that is waited for.
_WINDOW = 256
#: ... and at all the others when the window was quiet for this long
_QUIET_S = 0.05
#: chunks of a `map` that are on their way or wait for their turn, for each that can run at once
_AHEAD = 4


# -- refs that exist ------------------------------------------------------------------------------------


def as_completed(
    refs: Iterable[ObjectRef[Any]], *, chunk_size: int = 10, yield_obj_refs: bool = False, **wait_options: Any
) -> Iterator[Any]:
    """Return an iterator of the values of *refs* as they come, with `yield_obj_refs` of the refs themselves.

    It waits until `chunk_size` more are ready (with many refs it may lose patience before), and yields all that
    are ready then; 1 gives each at once.  An exception of a task is raised, which ends the iteration.
    `wait_options` are those of `jray.wait` except `num_returns`; after a `timeout` what is ready is yielded,
    be it less, and the waiting goes on.
    """
    _check_chunk_size(chunk_size, wait_options)
    return _completed(list(refs), chunk_size, wait_options, as_refs=yield_obj_refs)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **wait_options: Any,
) -> Iterator[Any]:
    """Return an iterator of the results of `fn.remote(item)` as they come.

    At most `backpressure_size` calls (None: any number) are under way; *items* may be endless.  `fn` is
    anything with `.remote`; the rest is as for `as_completed`.
    """
    if backpressure_size is not None and backpressure_size < 1:
        raise ValueError(f"backpressure_size must be 1 or more, or None, not {backpressure_size}.")
    _check_chunk_size(chunk_size, wait_options)
    return _mapped(fn, items, backpressure_size, chunk_size, wait_options, as_refs=yield_obj_refs)


def _check_chunk_size(chunk_size: int, wait_options: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be 1 or more, not {chunk_size}.")
    if "num_returns" in wait_options:
        raise ValueError("num_returns is what chunk_size says: give chunk_size instead.")


def _completed(
    refs: Sequence[ObjectRef[Any]], chunk_size: int, wait_options: dict[str, Any], *, as_refs: bool
) -> Iterator[Any]:
    size = max(_WINDOW, chunk_size)
    window: list[ObjectRef[Any]] = []
    others = deque(refs)
    quiet_s = _QUIET_S
    while window or others:
        while others and len(window) < size:
            window.append(others.popleft())
        options = wait_options
        if others:
            timeout_s = wait_options.get("timeout")
            options = wait_options | {"timeout": quiet_s if timeout_s is None else min(timeout_s, quiet_s)}
        ready, window = wait(window, num_returns=min(chunk_size, len(window)), **options)
        if ready:
            also, window = _all_ready(window, wait_options)
        else:
            start = perf_counter()
            also, left = _all_ready(list(others), wait_options)
            others = deque(left)
            quiet_s = max(
                _QUIET_S, 10 * (perf_counter() - start)
            )  # a small part of the time goes into looking
        for ref in (*ready, *also):
            yield ref if as_refs else get(ref)


def _all_ready(
    refs: list[ObjectRef[Any]], wait_options: dict[str, Any]
) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
    return wait(refs, **(wait_options | {"num_returns": len(refs), "timeout": 0})) if refs else ([], [])


def _mapped(
    fn: Any,
    items: Iterable[Any],
    backpressure_size: int | None,
    chunk_size: int,
    wait_options: dict[str, Any],
    *,
    as_refs: bool,
) -> Iterator[Any]:
    refs: list[ObjectRef[Any]] = []
    for item in items:
        refs.append(fn.remote(item))
        if backpressure_size is not None and len(refs) >= backpressure_size:
            ready, refs = wait(refs, num_returns=min(chunk_size, len(refs)), **wait_options)
            also, refs = _all_ready(refs, wait_options)
            for ref in (*ready, *also):
                yield ref if as_refs else get(ref)
    yield from _completed(refs, chunk_size, wait_options, as_refs=as_refs)


# -- a function over items --------------------------------------------------------------------------------


def map(  # noqa: A001 -- it is what the builtin is, in parallel
    fn: Any,
    items: Iterable[Any],
    *,
    chunk_size: int | None = None,
    max_in_flight: int | None = None,
    ordered: bool = True,
    progress: bool | Callable[[int, int | None], object] = False,
    **options: Any,
) -> Generator[Any, None, None]:
    """Return an iterator of `fn(item)` for each item, computed by tasks.

    Items go to tasks in chunks.  How many make a chunk is found while it runs, so that short calls cost
    little and long ones are spread evenly.  Nothing happens before the first `next`; *items* are read only as
    far ahead as results are under way, so they may be endless.  When the iterator is closed, dropped or
    interrupted, what is still under way is cancelled.

    Args:
        fn: a function, or a remote function with its options.  It is pickled once.
        items: an item that is an ObjectRef stands for its value.
        chunk_size: items of each chunk; default: as many as take some tens of milliseconds.
        max_in_flight: most chunks that run, wait or have results that were not taken; default: four for each
            that can run at once.  This bounds the memory that results take.
        ordered: yield results in the order of *items*; otherwise chunk by chunk, as they come.
        progress: True shows a bar; a function is called with (items done, how many there are or None).
        options: of the tasks, as for `@jray.remote`; they go over those of a remote function.

    Raises:
        TypeError, ValueError: an argument is wrong.
        The exception of an item, in its place, as `jray.get` would; the others are cancelled.
    """
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be 1 or more, or None, not {chunk_size}.")
    if max_in_flight is not None and max_in_flight < 1:
        raise ValueError(f"max_in_flight must be 1 or more, or None, not {max_in_flight}.")
    if not isinstance(progress, bool) and not callable(progress):
        raise TypeError(f"progress must be True, False or a function, not {progress!r}.")
    runner = _chunk_runner(fn, options)
    iterator = iter(items)
    total = len(items) if isinstance(items, Sized) else None
    return _map(runner, iterator, total, chunk_size, max_in_flight, progress, ordered=ordered)


def _map(
    runner: RemoteFunction[..., Any],
    items: Iterator[Any],
    total: int | None,
    chunk_size: int | None,
    most: int | None,
    progress: bool | Callable[[int, int | None], object],
    *,
    ordered: bool,
) -> Generator[Any, None, None]:
    at_once = _at_once(runner._default_options)
    source = _Source(items, Chunker(chunk_size, total, at_once))
    most = most or at_once * _AHEAD
    tell, finish = _teller(progress, total, str(runner._default_options.name))
    #: chunks under way, oldest first
    under_way: deque[ObjectRef[Any]] = deque()
    done = 0
    try:
        while True:
            while len(under_way) < most and (chunk := source.next_chunk()):
                under_way.append(runner.remote(chunk))
            if not under_way:
                break
            ref = under_way[0] if ordered else wait(list(under_way))[0][0]
            values, failure, seconds = get(ref)
            under_way.remove(ref)  # at the front, or near it
            source.chunker.took(len(values), seconds)
            while len(under_way) < most and not failure and (chunk := source.next_chunk()):
                under_way.append(runner.remote(chunk))  # before the caller takes its time with these values
            done += len(values)
            tell(done)
            yield from values
            if failure is not None:
                _raise(failure)
        source.raise_if_broken()
    finally:
        finish()
        _cancel_all(under_way)


class _Source:
    """The items, in chunks.  An exception of their iterator ends them, and is kept."""

    def __init__(self, items: Iterator[Any], chunker: Chunker) -> None:
        self._items = items
        self.chunker = chunker
        self._broken: BaseException | None = None

    def next_chunk(self) -> list[Any]:
        """Return the next items; an empty list at the end."""
        chunk: list[Any] = []
        if self._broken is None:
            try:
                chunk.extend(islice(self._items, self.chunker.next_size()))
            except Exception as error:  # noqa: BLE001 -- raised once what came before has been yielded
                self._broken = error
        self.chunker.gave(len(chunk))
        return chunk

    def raise_if_broken(self) -> None:
        if self._broken is not None:
            raise self._broken


def _chunk_runner(fn: Any, options: dict[str, Any]) -> RemoteFunction[..., Any]:
    """Return a remote function that runs a chunk of items."""
    base: TaskOptions | None = None
    if isinstance(fn, OptionsOfFunction):
        base, fn = fn._variant._options, fn._function._function
    elif isinstance(fn, RemoteFunction):
        base, fn = fn._default_options, fn._function
    if hasattr(fn, "remote") or not callable(fn):
        raise TypeError(
            f"map() takes a function or a remote function, not {fn!r}. For methods of actors use ActorPool."
        )
    if inspect.isgeneratorfunction(fn) or inspect.iscoroutinefunction(fn):
        raise TypeError(
            f"map() takes a function that returns its result; {fn!r} is a generator or coroutine."
        )
    name = str(getattr(fn, "__qualname__", type(fn).__qualname__))

    def run_chunk(items: list[Any]) -> tuple[list[Any], bytes | None, float]:
        return run_items(fn, name, items)

    if base is None:
        made: RemoteFunction[..., Any] = remote(**options)(run_chunk) if options else remote(run_chunk)
    else:
        made = RemoteFunction(run_chunk, base.updated(options))
    settled = made._default_options
    if settled.num_returns not in (None, 1):
        raise ValueError(
            f"map() gives one result for each item; num_returns={settled.num_returns!r} cannot be."
        )
    if settled.name is None:
        made = RemoteFunction(run_chunk, settled.updated({"name": name}))
    return made


def run_items(
    fn: Callable[[Any], Any], name: str, items: Sequence[Any]
) -> tuple[list[Any], bytes | None, float]:
    """Return (results, the error that stopped it, seconds).  Runs in a worker."""
    start = perf_counter()
    values: list[Any] = []
    try:
        for item in items:
            values.append(fn(get(item) if isinstance(item, ObjectRef) else item))  # noqa: PERF401 -- kept on errors
    except Exception as error:  # noqa: BLE001 -- it is the item's outcome
        return values, task_error(name, error), perf_counter() - start
    return values, None, perf_counter() - start


def _raise(failure: bytes) -> NoReturn:
    error: RayTaskError = deserialize(failure)
    raise error.as_instanceof_cause()


def _at_once(options: TaskOptions) -> int:
    """Return how many tasks of these options run at once, as far as CPUs decide it."""
    current.require()
    cpus = cluster_resources().get("CPU", 1.0)
    return max(1, int(cpus / (options.num_cpus or 1)))


def _cancel_all(refs: Iterable[ObjectRef[Any]]) -> None:
    client = current.client
    for ref in refs:
        if client is not None and ref._client is client:  # or the session ended first
            client.cancel(ref, force=False, recursive=True)


def _teller(
    progress: bool | Callable[[int, int | None], object], total: int | None, name: str
) -> tuple[Callable[[int], object], Callable[[], object]]:
    """Return what is called with the number of items done, and what at the end."""
    if progress is True:
        bar = tqdm(total=total, desc=name)
        return lambda done: bar.update(done - bar.n), bar.close
    if progress is False:
        return lambda _: None, lambda: None
    told = progress
    return lambda done: told(done, total), lambda: None
