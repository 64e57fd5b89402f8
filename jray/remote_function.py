"""Owns `RemoteFunction`: what `@jray.remote` makes of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar

from jray._core.engine import FunctionPlan
from jray._core.frontend import get_frontend
from jray._core.options import TaskOptions
from jray._core.refs import current
from jray._core.signature import CallShape
from jray._core.strategies import NOBODY

P = ParamSpec("P")
R = TypeVar("R")

#: variants made by `.options` that a function remembers: loops over a few settings hit them
_REMEMBERED = 64


class RemoteFunction(Generic[P, R]):
    """A function whose calls run as tasks: `f.remote(...)` returns at once, with an `ObjectRef`."""

    def __init__(self, function: Callable[P, R], options: TaskOptions) -> None:
        if inspect.iscoroutinefunction(function):
            raise ValueError(
                f"'async def' should not be used for remote tasks, and {function.__qualname__} is one. Wrap the "
                "coroutine: def task(): return asyncio.run(coroutine()); or make it a method of an actor."
            )
        functools.update_wrapper(self, function)
        self._function = function
        self._function_name = f"{function.__module__}.{function.__qualname__}"
        self._is_generator = inspect.isgeneratorfunction(function)
        self._default_options = options
        self._shape = CallShape.of(function)
        self._least, self._most = self._shape.least, self._shape.most
        self._variants: dict[Any, _Variant] = {}
        self._own = _Variant(self, options)

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the function as a task; return its `ObjectRef`, or as `num_returns` says.

        Arguments that are `ObjectRef`s are replaced by their values before it runs.  Raises TypeError if
        the arguments do not fit the function or cannot be pickled.
        """
        own = self._own
        template = own.template
        client = current.client
        if (
            client is None
            or own.client is not client
            or client.is_in_group
            or own.cell != get_frontend().cell
        ):
            template = own.prepare()
            client = own.client
        if kwargs:
            self._shape.check(args, kwargs)
            return client.tasks.submit(template, args, kwargs)
        if not self._least <= len(args) <= self._most:
            self._shape.check(args, kwargs)
        return client.tasks.submit(template, args)

    def options(self, **options: Any) -> OptionsOfFunction:
        """Return something with `.remote`, whose calls use these options over the function's own."""
        try:
            key = tuple(sorted(options.items()))
            known = self._variants.get(key)
        except TypeError:  # a value that cannot be hashed or compared
            key, known = None, None
        if known is None:
            updated = self._default_options.updated(options, is_generator=self._is_generator)
            known = _Variant(self, updated)
            if key is not None and len(self._variants) < _REMEMBERED:
                self._variants[key] = known
        return OptionsOfFunction(self, known)

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported: task graphs are made by passing refs."""
        raise NotImplementedError(
            "bind() (ray.dag) is not part of jray. Pass the ObjectRef that .remote() returns to the next task instead."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f"Remote functions cannot be called directly. Instead of running '{self._function_name}()', "
            f"try '{self._function_name}.remote()'."
        )

    def __repr__(self) -> str:
        return f"<jray remote function {self._function_name}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"_function": self._function, "_default_options": self._default_options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_function"], state["_default_options"])  # type: ignore[misc]


class OptionsOfFunction:
    """A remote function with other options."""

    __slots__ = ("_function", "_variant")

    def __init__(self, function: RemoteFunction[..., Any], variant: _Variant) -> None:
        self._function = function
        self._variant = variant

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the function as a task with these options."""
        variant = self._variant
        template = variant.prepare()
        self._function._shape.check(args, kwargs)
        return variant.client.tasks.submit(template, args, kwargs)

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported: see `RemoteFunction.bind`."""
        self._function.bind()


class _Variant:
    """A function with certain options, and what the current client and cell made of them."""

    __slots__ = ("_caller", "_function", "_options", "cell", "client", "template")

    def __init__(self, function: RemoteFunction[..., Any], options: TaskOptions) -> None:
        self._function = function
        self._options = options
        self.client: Any = None
        self.cell = -1
        self._caller = NOBODY
        self.template: Any = None

    def prepare(self) -> Any:
        """Return the template for the current client, cell and placement group."""
        client = current.client or current.require()
        cell = get_frontend().cell
        caller = client.caller() if client.is_in_group else NOBODY
        if self.client is client and self.cell == cell and self._caller == caller:
            return self.template
        self._options.check_at_submit()
        function = self._function
        self.template = client.tasks.prepare(
            FunctionPlan(
                key=function,
                function=function._function,
                full_name=function._function_name,
                is_generator=function._is_generator,
                options=self._options,
                cell=cell,
                caller=caller,
            )
        )
        self.client = client
        self.cell = cell
        self._caller = caller
        return self.template
