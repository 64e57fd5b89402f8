"""Owns what reaches a Ray worker before jray does: it travels by value, and makes jray importable there.

A worker of a remote cluster need not have jray.  Whatever jray sends holds, ahead of everything that refers to
jray, a call of `install`: it leaves an installed jray with the same sources alone, and otherwise unpacks the
driver's, which the cluster's key-value store holds, into the directory of Ray's session.

Nothing here may import jray at the top, or refer to it otherwise than by name.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import io
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

#: namespace of jray's keys in the cluster's key-value store, and of its own actors
NAMESPACE = "_jray"
#: keyword by which a call tells the cell it comes from
CELL = "_jray_cell"

_HOSTING = "jray._core.on_ray.hosting"


# -- making jray importable ---------------------------------------------------------------------------


def sources_of(folder: str) -> dict[str, bytes]:
    """Return the Python files of the package in *folder*, by their paths under the folder's parent."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            if name.endswith((".py", ".typed")):
                path = os.path.join(root, name)
                with open(path, "rb") as file:
                    found[os.path.relpath(path, os.path.dirname(folder))] = file.read()
    return found


def digest_of(sources: dict[str, bytes]) -> str:
    """Return what names these files with their contents."""
    digest = hashlib.blake2b(digest_size=12)
    for path in sorted(sources):
        digest.update(f"{path}\0{len(sources[path])}\0".encode())
        digest.update(sources[path])
    return digest.hexdigest()


def install(version: str, digest: str) -> Any:
    """Make the jray with that digest importable in this process; return what stands for it here."""
    if "jray" not in sys.modules:
        spec = importlib.util.find_spec("jray")
        is_same = (
            spec is not None
            and spec.origin is not None
            and digest_of(sources_of(os.path.dirname(spec.origin))) == digest
        )
        if not is_same:
            _unpack_sources(digest)
    try:
        hosting = importlib.import_module(_HOSTING)
    except ImportError as error:
        raise ImportError(
            f"This worker imported a jray of its own, {sys.modules['jray'].__file__}, which cannot serve a driver "
            f"with jray {version}: {error}. Install jray {version} on the cluster, or none."
        ) from error
    return hosting.arrived(version, digest)


def _unpack_sources(digest: str) -> None:
    import ray  # noqa: PLC0415 -- a worker has it; the process that only ships this need not

    context = ray.get_runtime_context()
    home = os.path.join(context.get_temp_dir(), context.get_session_name())
    folder = os.path.join(home, f"jray_{digest}")
    if not os.path.isdir(folder):
        key_value = importlib.import_module("ray.experimental.internal_kv")
        archive = key_value._internal_kv_get(f"jray_{digest}".encode(), namespace=NAMESPACE.encode())
        if archive is None:
            raise ImportError(f"The cluster's key-value store has lost jray's sources, jray_{digest}.")
        draft = tempfile.mkdtemp(prefix=f"jray_{digest}.", dir=home)
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            files.extractall(draft)
        try:
            os.rename(draft, folder)
        except OSError:  # another worker of this node was faster
            shutil.rmtree(draft, ignore_errors=True)
    sys.path.insert(0, folder)


def unpack(_sources: Any, kind: str, fields: tuple[Any, ...]) -> Any:
    """Return the thing of *kind* that `hosting` makes of *fields*; `_sources` has been installed by then."""
    return getattr(importlib.import_module(_HOSTING), kind)(*fields)


# -- what Ray runs ------------------------------------------------------------------------------------


def function_entry(runner: Any, *, is_generator: bool) -> Callable[..., Any]:
    """Return the function that Ray is to run for *runner*."""
    if is_generator:

        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            # not `yield from`: Ray sends objects of its own into a generator, which iterators don't take
            for item in runner.stream(args, kwargs):  # noqa: UP028
                yield item

        return stream

    def run(*args: Any, **kwargs: Any) -> Any:
        return runner.run(args, kwargs)

    return run


def actor_entry(runner: Any, class_name: str, methods: Sequence[tuple[str, str, str]]) -> type:
    """Return the class that Ray is to make an actor of; *methods* are (name on Ray, name, kind)."""

    def start(self: Any, *args: Any, **kwargs: Any) -> None:
        self._jray_host = runner.start(args, kwargs)

    entries = {on_ray: _method_entry(name, kind) for on_ray, name, kind in methods}
    return type(class_name, (), {"__init__": start, "_jray_apply": _method_entry("", "apply"), **entries})


def _method_entry(name: str, kind: str) -> Callable[..., Any]:
    if kind == "async":

        async def call_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await self._jray_host.call_async(name, args, kwargs)

        return call_async
    if kind == "stream":

        def stream(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
            for item in self._jray_host.stream(name, args, kwargs):  # noqa: UP028 -- as above
                yield item

        return stream
    if kind == "async stream":

        async def stream_async(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async for item in self._jray_host.stream_async(name, args, kwargs):
                yield item

        return stream_async
    if kind == "apply":

        def apply(self: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
            return self._jray_host.apply(function, args, kwargs)

        return apply
    if kind == "shutdown":

        def shut_down(self: Any) -> None:
            instance = self._jray_host.instance
            hook = getattr(instance, "__jray_shutdown__", None) or instance.__ray_shutdown__
            hook()

        return shut_down
    if kind == "plain":

        def plain(self: Any, *args: Any) -> Any:
            return getattr(self._jray_host.instance, name)(*args)

        return plain

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._jray_host.call(name, args, kwargs)

    return call


# -- actors of jray's own -----------------------------------------------------------------------------


class Collector:
    """Gathers what the tasks of one driver write, until the driver takes it.  Runs as an async actor."""

    #: seconds that a writer waits for the driver to have shown what it wrote
    PATIENCE_S = 2.0
    #: seconds that the driver waits in one call
    ROUND_S = 20.0

    def __init__(self) -> None:
        self._pieces: list[Any] = []
        #: batches that came, and the number of those that the driver has shown
        self._came = self._shown = 0
        self._change = asyncio.Event()
        self._is_closed = False

    async def push(self, pieces: list[Any], wants_answer: bool) -> None:
        """Take pieces of output; with `wants_answer` return once they have been shown, or the driver is slow."""
        self._pieces.extend(pieces)
        self._came += 1
        number = self._came
        self._notify()
        if wants_answer:
            await self._wait_until(lambda: self._shown >= number, self.PATIENCE_S)

    async def pull(self, shown: int) -> tuple[int, list[Any]] | None:
        """Return (number, pieces) when there are some; None at the end.  Everything up to *shown* has been shown."""
        if shown > self._shown:
            self._shown = shown
            self._notify()
        await self._wait_until(lambda: bool(self._pieces) or self._is_closed, self.ROUND_S)
        if self._is_closed and not self._pieces:
            return None
        pieces, self._pieces = self._pieces, []
        return self._came, pieces

    async def close(self) -> None:
        """Let `pull` come to its end."""
        self._is_closed = True
        self._notify()

    def _notify(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()

    async def _wait_until(self, is_so: Callable[[], bool], patience_s: float) -> None:
        deadline_s = time.monotonic() + patience_s
        while not is_so():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return
            change = self._change
            try:
                await asyncio.wait_for(change.wait(), left_s)
            except TimeoutError:
                return


class Relay:
    """Starts streaming tasks for a driver that is not part of the cluster, and hands on their refs."""

    def __init__(self) -> None:
        self._streams: dict[int, Any] = {}
        self._tasks: dict[tuple[int, int], asyncio.Task[Any]] = {}
        self._count = 0

    async def start(
        self, _sources: Any, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[int, bytes]:
        """Return the number of a new stream, and the id of its task."""
        self._count += 1
        stream = self._streams[self._count] = call(*args, **kwargs)
        return self._count, stream.completed().task_id().binary()

    async def next(self, number: int) -> list[Any] | None:
        """Return the next ref in a list; None at the end."""
        try:
            return [await self._streams[number].__anext__()]
        except StopAsyncIteration:
            return None

    async def completed(self, number: int) -> None:
        """Return once the task has ended."""
        await self._streams[number].completed()

    async def cancel(self, number: int, force: bool, recursive: bool) -> None:
        import ray  # noqa: PLC0415 -- see above

        ray.cancel(self._streams[number], force=force, recursive=recursive)

    async def drop(self, number: int) -> None:
        """Forget a stream."""
        self._streams.pop(number, None)


def state_rows(
    kind: str, filters: list[tuple[str, str, Any]], limit: int, timeout_s: float | None = None
) -> list[dict[str, Any]]:
    """Return rows of Ray's state API, with every column."""
    import dataclasses  # noqa: PLC0415 -- for one function of those that travel

    state = importlib.import_module("ray.util.state")
    ask = getattr(state, f"list_{kind}")
    # without it Ray looks for clusters on this machine, and may find several
    address = importlib.import_module("ray").get_runtime_context().gcs_address
    patience = {} if timeout_s is None else {"timeout": timeout_s}
    found = ask(
        address, filters=filters or None, limit=limit, detail=True, raise_on_missing_output=False, **patience
    )
    # jobs are of a class that has no fields of its own to list
    rows = [row.dict() if kind == "jobs" else dataclasses.asdict(row) for row in found]
    return [{key: getattr(value, "value", value) for key, value in row.items()} for row in rows]


def named_actors() -> list[tuple[str, str]]:
    """Return (namespace, name) of the living named actors."""
    import ray.util  # noqa: PLC0415 -- see above

    return [(row["namespace"], row["name"]) for row in ray.util.list_named_actors(all_namespaces=True)]


class FunctionCall:
    """A streaming call of a function, made where it is called."""

    def __init__(self, function: Any, keywords: dict[str, Any]) -> None:
        self._function = function
        self._keywords = keywords

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function.options(**self._keywords).remote(*args, **kwargs)


class MethodCall:
    """A streaming call of an actor's method, made where it is called."""

    def __init__(self, handle: Any, method: str, keywords: dict[str, Any]) -> None:
        self._handle = handle
        self._method = method
        self._keywords = keywords

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._handle, self._method).options(**self._keywords).remote(*args, **kwargs)


def actor_facts(handle: Any) -> tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return what Ray's handle knows of its actor: the class's name, then signatures, returns, generators by method."""
    return (
        str(handle._ray_actor_creation_function_descriptor.class_name),
        dict(handle._ray_method_signatures),
        dict(handle._ray_method_num_returns),
        dict(handle._ray_method_is_generator),
    )
