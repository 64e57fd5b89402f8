"""Owns what runs in Ray's workers: users' functions and actors, with jray's own names working inside them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import ray

from jray._core.frontend import Output, set_frontend
from jray._core.on_ray import courier, output, shipping
from jray._core.refs import current
from jray.actor import ActorMeta
from jray.exceptions import RayTaskError

_lock = threading.Lock()


def arrived(version: str, digest: str) -> shipping.Sources:
    """Make jray's names work in this process, which has just got jray's sources, or the first use of its own."""
    with _lock:
        sources = shipping.receive(version, digest)
        if current.client is None and ray.is_initialized():
            # here, because the engine is made of parts that make runners
            from jray._core.on_ray.engine import RayEngine  # noqa: PLC0415 -- see above

            is_worker = ray.get_runtime_context().worker.mode == ray.WORKER_MODE
            current.client = RayEngine(is_worker=is_worker)
            if is_worker:
                set_frontend(WorkerFrontend())
        return sources


class WorkerFrontend:
    """The front end of a worker: tasks that its tasks make belong to the same cell."""

    @property
    def cell(self) -> int:
        call = output.current_call.get()
        return 0 if call is None else call.cell

    def write(self, piece: Output) -> None:
        output.router().send(piece)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


# -- functions ----------------------------------------------------------------------------------------


class FunctionRunner:
    """Runs a user's function.  A pickle of it brings jray's sources first."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __reduce__(self) -> tuple[Any, ...]:
        return courier.unpack, (shipping.sources(), "FunctionRunner", (self.function,))

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the function, and return once what it wrote has been shown."""
        call = output.begin(kwargs.pop(courier.CELL, 0))
        try:
            return _checked(self.function(*_opened(args), **kwargs))
        finally:
            output.end(call)

    def stream(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
        """Run a generator function; before each item, what was written on the way is shown."""
        call = output.begin(kwargs.pop(courier.CELL, 0))
        try:
            for item in self.function(*_opened(args), **kwargs):
                output.settle(call)
                yield item
        finally:
            output.end(call)


def _opened(args: tuple[Any, ...]) -> tuple[Any, ...]:
    if ray.DynamicObjectRefGenerator in map(type, args):
        return tuple(map(current.client.opened, args))
    return args


def _checked(value: Any) -> Any:
    """Return what a task returned; a task's error, returned bare, is this task's error (Ray's rule)."""
    if isinstance(value, RayTaskError):
        raise value
    return value


# -- actors -------------------------------------------------------------------------------------------


class ActorRunner:
    """Makes the instance of an actor.  A pickle of it brings jray's sources first."""

    def __init__(self, cls: type, meta: ActorMeta) -> None:
        self.cls = cls
        self.meta = meta

    def __reduce__(self) -> tuple[Any, ...]:
        return courier.unpack, (shipping.sources(), "ActorRunner", (self.cls, self.meta))

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ActorHost:
        """Return the host of a new instance; raises what its constructor raises."""
        host = _own.host = ActorHost(self.meta)
        call = output.begin(kwargs.pop(courier.CELL, 0))
        try:
            host.instance = self.cls(*_opened(args), **kwargs)
        finally:
            output.end(call)
        return host


class ActorHost:
    """Runs the methods of this process's actor."""

    def __init__(self, meta: ActorMeta) -> None:
        self.meta = meta
        self.instance: Any = None

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = output.begin(kwargs.pop(courier.CELL, 0))
        try:
            return _checked(getattr(self.instance, name)(*_opened(args), **kwargs))
        finally:
            output.end(call)

    def apply(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function with the instance."""
        call = output.begin(kwargs.pop(courier.CELL, 0))
        try:
            return function(self.instance, *_opened(args), **kwargs)
        finally:
            output.end(call)

    def stream(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
        call = output.begin(kwargs.pop(courier.CELL, 0))
        try:
            for item in getattr(self.instance, name)(*_opened(args), **kwargs):
                output.settle(call)
                yield item
        finally:
            output.end(call)

    async def call_async(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = output.begin(kwargs.pop(courier.CELL, 0))
        try:
            return _checked(await getattr(self.instance, name)(*_opened(args), **kwargs))
        finally:
            await output.end_async(call)

    async def stream_async(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]:
        call = output.begin(kwargs.pop(courier.CELL, 0))
        try:
            async for item in getattr(self.instance, name)(*_opened(args), **kwargs):
                await output.settle_async(call)
                yield item
        finally:
            await output.end_async(call)


class _Own:
    """The actor of this process, if it is one."""

    def __init__(self) -> None:
        self.host: ActorHost | None = None


_own = _Own()


def own_host() -> ActorHost | None:
    """Return the host of the actor of this process; None in a driver and where tasks run."""
    return _own.host
