"""Owns the items of streaming generators: Ray's own streams, and those that a relay reads for a remote client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ray

from jray._core.on_ray import courier, shipping
from jray._core.on_ray.errors import translated
from jray._core.refs import ObjectRef

if TYPE_CHECKING:
    from jray._core.on_ray.engine import RayEngine


class RayStream:
    """A `jray._core.generator.ItemStream` over Ray's ObjectRefGenerator."""

    def __init__(self, engine: RayEngine, rays: Any, name: str) -> None:
        self._engine = engine
        self._rays = rays
        self.name = name

    def waitable(self) -> Any:
        """Return what `ray.wait` takes."""
        return self._rays

    def has_next(self) -> bool:
        return bool(self._rays.next_ready() or self._rays.is_finished())

    def when_next(self, callback: Callable[[object], None]) -> None:
        # a thread each: Ray tells an event loop alone, and only one that reads the item too
        def wait() -> None:
            ray.wait([self._rays], timeout=None)
            callback(None)

        threading.Thread(target=wait, name="jray-next-item", daemon=True).start()

    def wait_next(self, timeout_s: float | None) -> bool:
        for round_s in self._engine.rounds(timeout_s):
            ready, _ = ray.wait([self._rays], timeout=round_s)
            if ready:
                return True
        return False

    def take(self) -> ObjectRef[Any] | None:
        try:
            return self._engine.ref_of(next(self._rays))
        except StopIteration:
            return None

    def end_ref(self) -> ObjectRef[Any]:
        return self._engine.ref_of(self.completed())

    def completed(self) -> Any:
        """Return Ray's ref that is ready once the task has ended."""
        return self._rays.completed()

    def ready_count(self) -> int:
        return int(self._rays.next_ready() and not self._rays.is_finished())

    def is_finished(self) -> bool:
        return bool(self._rays.is_finished())

    def task_id(self) -> bytes:
        task_id: bytes = self._rays.completed().task_id().binary()
        return task_id

    def cancel(self, *, force: bool, recursive: bool) -> None:
        ray.cancel(self._rays, force=force, recursive=recursive)


class RelayedStream:
    """A stream that an actor of ours reads: Ray has none for a process that is not part of the cluster."""

    def __init__(self, engine: RayEngine, relay: Any, number: int, task_id: bytes, name: str) -> None:
        self._engine = engine
        self._relay = relay
        self._number = number
        self._task_id = task_id
        self.name = name
        #: Ray's ref of the answer that holds the next item
        self._coming: Any = None
        self._is_finished = False

    def __del__(self) -> None:
        if ray.is_initialized():
            self._relay.drop.remote(self._number)

    def waitable(self) -> Any:
        """Return what `ray.wait` takes: it is ready once there is an item, or the end."""
        if self._coming is None:
            self._coming = self._relay.next.remote(self._number)
        return self._coming

    def has_next(self) -> bool:
        return self._is_finished or bool(ray.wait([self.waitable()], timeout=0)[0])

    def when_next(self, callback: Callable[[object], None]) -> None:
        self.waitable()._on_completed(callback)

    def wait_next(self, timeout_s: float | None) -> bool:
        for round_s in self._engine.rounds(timeout_s):
            if self._is_finished or ray.wait([self.waitable()], timeout=round_s)[0]:
                return True
        return False

    def take(self) -> ObjectRef[Any] | None:
        if self._is_finished:
            return None
        try:
            answer = ray.get(self.waitable())
        except ray.exceptions.RayError as error:
            raise translated(error) from None
        if answer is None:
            self._is_finished = True
            return None
        self._coming = None
        return self._engine.ref_of(answer[0])

    def end_ref(self) -> ObjectRef[Any]:
        return self._engine.ref_of(self._relay.completed.remote(self._number))

    def completed(self) -> None:
        """There is no such ref here: the end is known once all items were taken."""

    def ready_count(self) -> int:
        return int(self.has_next() and not self._is_finished)

    def is_finished(self) -> bool:
        return self._is_finished

    def task_id(self) -> bytes:
        return self._task_id

    def cancel(self, *, force: bool, recursive: bool) -> None:
        ray.get(self._relay.cancel.remote(self._number, force, recursive))


class Streams:
    """Opens streams."""

    def __init__(self, engine: RayEngine) -> None:
        self._engine = engine
        self._relay: Any = None

    def opened(self, rays: Any, name: str) -> RayStream | RelayedStream:
        """Return the stream for what a streaming call returned."""
        return rays if isinstance(rays, RelayedStream) else RayStream(self._engine, rays, name)

    def started(self, call: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str) -> Any:
        """Have the relay start `call(*args, **kwargs)`; `call` is a bound `.remote`, made on the cluster."""
        if self._relay is None:
            self._relay = ray.remote(num_cpus=0, max_concurrency=1000)(courier.Relay).remote()
        number, task_id = ray.get(self._relay.start.remote(shipping.sources(), call, args, dict(kwargs)))
        return RelayedStream(self._engine, self._relay, number, task_id, name)
