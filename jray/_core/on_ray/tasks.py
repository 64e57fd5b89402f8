"""Owns the submitting of functions to Ray."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ray

from jray._core.engine import FunctionPlan, Tally
from jray._core.on_ray import courier
from jray._core.on_ray.hosting import FunctionRunner
from jray._core.on_ray.options import task_keywords
from jray._core.refs import ObjectRef
from jray._core.resources import ResourceSet

if TYPE_CHECKING:
    from jray._core.on_ray.engine import RayEngine

_NO_KWARGS: dict[str, Any] = {}


class RayTemplate:
    """What all calls of a function or method, with certain options and from one cell, have in common."""

    __slots__ = ("call", "cell", "name", "num_returns", "request", "tally")

    def __init__(self, call: Any, num_returns: Any, name: str, request: ResourceSet, tally: Tally) -> None:
        #: takes the arguments and gives what Ray gives
        self.call = call
        self.num_returns = num_returns
        self.name = name
        #: what a call takes of a node
        self.request = request
        self.tally = tally
        self.cell = tally.cell


class RayTasks:
    """Runs functions."""

    def __init__(self, engine: RayEngine) -> None:
        self._engine = engine
        #: Ray's remote function for each of jray's
        self._functions: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def prepare(self, plan: FunctionPlan) -> RayTemplate:
        """Return the template of all calls by this plan."""
        engine = self._engine
        function = self._functions.get(plan.key)
        if function is None:
            function = self._functions[plan.key] = self._rays_function(plan)
        keywords = task_keywords(plan.options, is_generator=plan.is_generator)
        num_returns = keywords["num_returns"]
        name = plan.options.name or plan.function.__qualname__
        if num_returns == "streaming" and engine.is_remote_client:
            call = functools.partial(self._relayed, function, keywords, name)
        else:
            call = function.options(**keywords).remote
        return RayTemplate(
            call, num_returns, name, plan.options.resources_request, engine.watch.tally(plan.cell, name)
        )

    def _rays_function(self, plan: FunctionPlan) -> Any:
        self._engine.registrations.follow()
        user = plan.function
        entry = courier.function_entry(FunctionRunner(user), is_generator=plan.is_generator)
        entry.__module__, entry.__qualname__ = user.__module__, user.__qualname__
        entry.__name__, entry.__doc__ = user.__name__, user.__doc__
        # Ray takes this one with the function alone, as jray does
        max_calls = plan.options.max_calls
        return ray.remote(max_calls=max_calls)(entry) if max_calls else ray.remote(entry)

    def _relayed(self, function: Any, keywords: dict[str, Any], name: str, *args: Any, **kwargs: Any) -> Any:
        call = courier.FunctionCall(function, keywords)
        return self._engine.streams.started(call, args, kwargs, name)

    def submit(
        self, template: RayTemplate, args: tuple[Any, ...], kwargs: Mapping[str, Any] = _NO_KWARGS
    ) -> Any:
        """Submit a call; return its ref, refs, generator or None, as its num_returns says."""
        engine = self._engine
        try:
            result = submitted(engine, template.call, args, kwargs, template.cell)
        except Exception as error:  # noqa: BLE001 -- Ray's, translated
            raise engine.submit_error(error, args, kwargs) from None
        made = engine.refs_of_result(result, template.num_returns, template.name)
        return engine.watch.submitted(template.tally, made, template.request)


def submitted(
    engine: RayEngine, call: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], cell: int
) -> Any:
    """Call Ray with Ray's refs in the place of jray's, and tell the cell that the call is made from."""
    engine.registrations.follow()
    if ObjectRef in map(type, args):
        args = tuple(engine.rays_ref(arg) if type(arg) is ObjectRef else arg for arg in args)
    if kwargs:
        kwargs = {
            name: engine.rays_ref(arg) if type(arg) is ObjectRef else arg for name, arg in kwargs.items()
        }
    if cell:
        return call(*args, **kwargs, **{courier.CELL: engine.tag(cell)})
    return call(*args, **kwargs)
