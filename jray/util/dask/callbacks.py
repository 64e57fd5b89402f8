"""Owns what a user can have called while a Dask graph runs: here, and in the tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

from dask.callbacks import Callback
from dask.diagnostics import ProgressBar


class RayCallback(NamedTuple):
    """The functions of one `RayDaskCallback`; None: it has not this one."""

    ray_presubmit: Callable[..., Any] | None
    ray_postsubmit: Callable[..., Any] | None
    ray_pretask: Callable[..., Any] | None
    ray_posttask: Callable[..., Any] | None
    ray_postsubmit_all: Callable[..., Any] | None
    ray_finish: Callable[..., Any] | None


class RayCallbacks(NamedTuple):
    """The functions of all active callbacks, by kind.

    The two kinds that run in tasks keep a place for each callback, since what the first returns is handed to
    the second of the same.
    """

    ray_presubmit_cbs: list[Callable[..., Any]]
    ray_postsubmit_cbs: list[Callable[..., Any]]
    ray_pretask_cbs: list[Callable[..., Any] | None]
    ray_posttask_cbs: list[Callable[..., Any] | None]
    ray_postsubmit_all_cbs: list[Callable[..., Any]]
    ray_finish_cbs: list[Callable[..., Any]]


class RayDaskCallback(Callback):  # type: ignore[misc]  # Dask's classes have no annotations
    """Functions to call while a graph runs; active as a context manager, or between `register` and `unregister`.

    Give them as keywords, or define them in a subclass with an underscore before the name:

    - `ray_presubmit(task, key, deps)`: before a task is submitted; what it returns, unless None, is taken for
      the result, and the task is not submitted.
    - `ray_postsubmit(task, key, deps, object_ref)`: after that.
    - `ray_pretask(key, values)`: in the worker, before the task; what it returns is `pre_state` below.
    - `ray_posttask(key, result, pre_state)`: in the worker, after the task.
    - `ray_postsubmit_all(object_refs, dsk)`: when all are submitted.
    - `ray_finish(result)`: when all are done.

    Those of `dask.callbacks.Callback` may be given too.
    """

    ray_active: set[RayCallback] = set()  # noqa: RUF012 -- exchanged by `local_ray_callbacks`, as Dask's own

    def __init__(self, **functions: Any) -> None:
        for name in RayCallback._fields:
            function = functions.pop(name, None)
            if function is not None:
                setattr(self, f"_{name}", function)
        super().__init__(**functions)

    @property
    def _ray_callback(self) -> RayCallback:
        return RayCallback(*(getattr(self, f"_{name}", None) for name in RayCallback._fields))

    def __enter__(self) -> Self:
        RayDaskCallback.ray_active.add(self._ray_callback)
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        RayDaskCallback.ray_active.discard(self._ray_callback)

    def register(self) -> None:
        RayDaskCallback.ray_active.add(self._ray_callback)
        super().register()

    def unregister(self) -> None:
        RayDaskCallback.ray_active.remove(self._ray_callback)
        super().unregister()


class ProgressBarCallback(RayDaskCallback):
    """Shows Dask's progress bar while the tasks of a graph run."""

    def __init__(self, **settings: Any) -> None:
        """Make one; *settings* are those of `dask.diagnostics.ProgressBar`."""
        super().__init__()
        self._bar = ProgressBar(**settings)

    @property
    def _callback(self) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self._bar._callback
        return found


@contextlib.contextmanager
def local_ray_callbacks(callbacks: Iterable[Any] | None = None) -> Iterator[tuple[RayCallback, ...]]:
    """Give the callbacks of a computation: *callbacks*, or else the active ones, inactive for those inside it."""
    if callbacks is not None:
        yield tuple(
            callback if isinstance(callback, RayCallback) else _known(callback) for callback in callbacks
        )
        return
    active, RayDaskCallback.ray_active = RayDaskCallback.ray_active, set()
    try:
        yield tuple(active)
    finally:
        RayDaskCallback.ray_active = active


def _known(callback: Any) -> RayCallback:
    if not isinstance(callback, RayDaskCallback):
        raise TypeError(f"ray_callbacks are of class RayDaskCallback, got {callback!r}.")
    return callback._ray_callback


def unpack_ray_callbacks(callbacks: Iterable[RayCallback]) -> RayCallbacks:
    """Return the functions of *callbacks* by kind."""
    found = list(callbacks)
    return RayCallbacks(
        [c.ray_presubmit for c in found if c.ray_presubmit],
        [c.ray_postsubmit for c in found if c.ray_postsubmit],
        [c.ray_pretask for c in found],
        [c.ray_posttask for c in found],
        [c.ray_postsubmit_all for c in found if c.ray_postsubmit_all],
        [c.ray_finish for c in found if c.ray_finish],
    )
