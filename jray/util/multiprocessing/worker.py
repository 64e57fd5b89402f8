"""Owns what runs in a pool's actors: the initializer, and chunks of calls."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jray._core.worker.tracebacks import task_error
from jray.api import remote

#: how the items of a chunk become calls
APPLY, MAP, STARMAP = "apply", "map", "starmap"

_CALLS: dict[str, Callable[[Callable[..., Any], Any], Any]] = {
    APPLY: lambda function, item: function(*item[0], **item[1]),
    MAP: lambda function, item: function(item),
    STARMAP: lambda function, item: function(*item),
}


class PoolWorker:
    """Runs chunks, one at a time, in a process that the pool's initializer has prepared."""

    def __init__(self, start_with: tuple[Callable[..., object] | None, Sequence[Any]]) -> None:
        self._kept = KeptGlobals()
        initializer, initargs = start_with
        if initializer is not None:
            with self._kept.of(initializer):
                initializer(*initargs)

    def ready(self) -> None:
        """Return once the initializer has run."""

    def run(
        self, function: Callable[..., Any], how: str, items: Sequence[Any]
    ) -> tuple[list[Any], dict[int, bytes]]:
        """Return (results, failures): a failure is a serialized RayTaskError, by the number of its item."""
        call = _CALLS[how]
        results: list[Any] = []
        failures: dict[int, bytes] = {}
        with self._kept.of(function):
            for number, item in enumerate(items):
                try:
                    results.append(call(function, item))
                except Exception as error:  # noqa: BLE001 -- it is the outcome of this item
                    failures[number] = task_error(_name(function), error)
                    results.append(None)
        return results, failures


class KeptGlobals:
    """Module globals that functions sent by value have set in this process.

    Such a function brings a copy of its module's globals along, another one each time.  What an initializer
    sets with `global` would be lost with its copy; here the next function of that module finds it.
    """

    def __init__(self) -> None:
        self._by_module: dict[str, dict[str, Any]] = {}

    def of(self, function: Callable[..., Any]) -> _Scope:
        """Return a context in which the globals of *function* are as code in this process left them."""
        while isinstance(function, partial):
            function = function.func
        function = getattr(function, "__func__", function)
        if not isinstance(function, types.FunctionType):
            return _Scope({}, {})
        namespace = function.__globals__
        module = sys.modules.get(function.__module__)
        if module is not None and vars(module) is namespace:
            return _Scope({}, {})  # sent by name: its globals are the module's own and stay by themselves
        return _Scope(namespace, self._by_module.setdefault(function.__module__, {}))


class _Scope:
    def __init__(self, namespace: dict[str, Any], kept: dict[str, Any]) -> None:
        self._namespace = namespace
        self._kept = kept
        self._before: dict[str, Any] = {}

    def __enter__(self) -> None:
        self._namespace.update(self._kept)
        self._before = dict(self._namespace)

    def __exit__(self, *_: object) -> None:
        missing = object()
        for name, value in self._namespace.items():
            if self._before.get(name, missing) is not value and name != "__builtins__":
                self._kept[name] = value


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


#: an actor that takes no CPU while it waits for work, as Ray's pool has it
PoolActor = remote(num_cpus=0)(PoolWorker)
