"""Owns the translation of jray's options into Ray's keywords: the same words, what is left at its default left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import ray.util.scheduling_strategies as strategies

from jray._core.on_ray.groups import rays_group
from jray._core.options import ActorOptions, MethodOptions, TaskOptions
from jray._core.strategies import (
    LabelMatchExpression,
    NodeLabelSchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

#: handled where they are used
_OWN_WAY = {"num_returns", "get_if_exists", "_request"}


def task_keywords(options: TaskOptions, *, is_generator: bool) -> dict[str, Any]:
    """Return the keywords of `ray.remote` for a function."""
    keywords = _changed(options, keep={"num_cpus", "max_retries"})
    keywords.pop("max_calls", None)  # given with the function
    keywords["num_returns"] = options.returns(is_generator)
    return keywords


def actor_keywords(options: ActorOptions) -> dict[str, Any]:
    """Return the keywords of `ray.remote` for a class."""
    keywords = _changed(options)
    keywords.pop("concurrency_groups", None)  # given with the class
    return keywords


def method_keywords(options: MethodOptions, *, is_generator: bool) -> dict[str, Any]:
    """Return the keywords of a call; without any, Ray's way to call is shorter."""
    keywords = _changed(options)
    returns = options.returns(is_generator)
    if returns != ("streaming" if is_generator else 1):
        keywords["num_returns"] = returns
    return keywords


def _changed(options: Any, keep: Iterable[str] = ()) -> dict[str, Any]:
    """Return the fields that differ from their defaults, as Ray takes them."""
    found = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name in _OWN_WAY or (field.name not in keep and value == field.default):
            continue
        if field.name == "scheduling_strategy":
            value = rays_strategy(value)
        elif field.name == "placement_group":
            value = rays_group(value)
        elif field.name == "retry_exceptions" and isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, Mapping):
            value = dict(value)
        found[field.name] = value
    return found


def rays_strategy(strategy: Any) -> Any:
    """Return Ray's strategy of the same name for one of jray's; Ray's own, and text, as they are."""
    if strategy is None or isinstance(strategy, str) or type(strategy).__module__ == strategies.__name__:
        return strategy
    rays = getattr(strategies, type(strategy).__name__, None)
    if rays is None:
        raise NotImplementedError(f"Ray has no scheduling strategy {type(strategy).__name__}.")
    if isinstance(strategy, PlacementGroupSchedulingStrategy):
        return rays(**{**vars(strategy), "placement_group": rays_group(strategy.placement_group)})
    if isinstance(strategy, NodeLabelSchedulingStrategy):
        return rays(_rays_labels(strategy.hard), soft=_rays_labels(strategy.soft))
    return rays(**vars(strategy))


def _rays_labels(expressions: Iterable[LabelMatchExpression]) -> dict[str, Any]:
    """Return a map of labels to Ray's operators of the same names."""
    found = {}
    for key, operator in expressions:
        found[key] = getattr(strategies, type(operator).__name__)(*getattr(operator, "values", ()))
    return found
