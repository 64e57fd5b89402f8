"""Decides what the options of a task or actor, and who submits it, say about where it may run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jray._core.options import ActorOptions, TaskOptions
from jray._core.resources import CPU, ResourceSet
from jray._core.strategies import (
    ANYWHERE,
    Caller,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    PlacementGroupSchedulingStrategy,
    Where,
    selector_rules,
)

Bundles = Sequence[Mapping[str, float]]

#: what stands in the options for the group of whoever submits, if it wants its children there
_CALLERS = "default"
_DEPRECATED = tuple(name for name, option in TaskOptions.TABLE.items() if option.is_deprecated)


class Placement(NamedTuple):
    """Where something may run, and whether its children go to the same group."""

    where: Where
    captures: bool = False


def placement(
    options: TaskOptions | ActorOptions,
    caller: Caller,
    name: str,
    bundles_of: Callable[[bytes], Bundles],
) -> Placement:
    """Return where *name*, with these options, may run.

    Raises ValueError for a bundle that its placement group has not, and for what fits in no bundle of it, TypeError
    for what is no placement group, NotImplementedError for a strategy that jray does not know or cannot follow.
    """
    strategy = options.scheduling_strategy
    if not isinstance(strategy, PlacementGroupSchedulingStrategy):
        _warn_if_deprecated(options)
    wishes = _wishes(options)
    if wishes is None:
        return Placement(_without_group(options))
    group, bundle, captures = wishes
    if captures is None:
        captures = caller.captures
    if _is_callers(group):
        group_id = caller.group if captures else b""
        bundles = bundles_of(group_id) if group_id else ()
    elif group is None:
        group_id, bundles = b"", ()
    else:
        group_id, bundles = _known(group)
    _check_index(group_id, bundle, bundles)
    if not group_id:
        return Placement(_without_group(options))
    _check_shape(options, name, bundles)
    return Placement(Where(group=group_id, bundle=bundle), captures)


def _wishes(options: TaskOptions | ActorOptions) -> tuple[Any, int, bool | None] | None:
    """Return the group, bundle and captures that the options name; None: they don't want one."""
    strategy = options.scheduling_strategy
    if isinstance(strategy, PlacementGroupSchedulingStrategy):
        return (
            strategy.placement_group,
            strategy.placement_group_bundle_index,
            strategy.placement_group_capture_child_tasks,
        )
    if strategy is None:
        return (
            options.placement_group,
            options.placement_group_bundle_index,
            options.placement_group_capture_child_tasks,
        )
    return None


def _is_callers(group: Any) -> bool:
    return isinstance(group, str) and group == _CALLERS


def _known(group: Any) -> tuple[bytes, Bundles]:
    """Return id and bundles of a `jray.util.placement_group.PlacementGroup`: that class is of a higher row."""
    try:
        if group.is_empty:
            return b"", ()
        return group.id.binary(), group.bundle_specs
    except AttributeError:
        raise TypeError(
            f"placement_group must be a PlacementGroup or None, not {group!r} (a {type(group).__name__})."
        ) from None


def _check_index(group_id: bytes, bundle: int, bundles: Bundles) -> None:
    if not group_id:
        if bundle != -1:
            raise ValueError("If placement group is not set, the value of bundle index must be -1.")
    elif not -1 <= bundle < len(bundles):
        raise ValueError(
            f"placement group bundle index {bundle} is invalid. Valid placement group indexes: 0-{len(bundles)}"
        )


def _check_shape(options: TaskOptions | ActorOptions, name: str, bundles: Bundles) -> None:
    request = options.running_request if isinstance(options, ActorOptions) else options.resources_request
    sets = [ResourceSet.from_floats(bundle) for bundle in bundles]
    if not any(map(request.fits_in, sets)):
        raise ValueError(
            f"Cannot schedule {name} with the placement group because the resource request {request.to_floats()} "
            f"cannot fit into any bundles for the placement group, {list(bundles)}."
        )
    if isinstance(options, ActorOptions) and not any(map(options.placement_request.fits_in, sets)):
        raise ValueError(
            f"Cannot schedule {name} with the placement group because the actor requires "
            f"{options.placement_request.to_floats()[CPU]:g} CPU for creation, but it cannot fit into any bundles for "
            f"the placement group, {list(bundles)}. Consider creating a placement group with CPU resources."
        )


def _without_group(options: TaskOptions | ActorOptions) -> Where:
    strategy = options.scheduling_strategy
    if isinstance(strategy, NodeAffinitySchedulingStrategy):
        if strategy._spill_on_unavailable or strategy._fail_on_unavailable:
            raise NotImplementedError(
                "_spill_on_unavailable and _fail_on_unavailable are not supported: what is to run on a node that is "
                "busy waits for it. Leave them out, and cancel what waits too long."
            )
        return Where(node_id=bytes.fromhex(strategy.node_id), is_soft=strategy.soft)
    hard = selector_rules(options.label_selector)
    fallbacks = tuple(selector_rules(entry["label_selector"]) for entry in options.fallback_strategy or ())
    if isinstance(strategy, NodeLabelSchedulingStrategy):
        return Where(
            hard=hard + tuple(expression.rule() for expression in strategy.hard),
            soft=tuple(expression.rule() for expression in strategy.soft),
        )
    if strategy is not None and not isinstance(strategy, str | PlacementGroupSchedulingStrategy):
        raise NotImplementedError(
            f"The scheduling strategy {type(strategy).__name__} is not supported by this version of jray; use None, "
            '"DEFAULT", "SPREAD" or one of those in jray.util.scheduling_strategies.'
        )
    if not hard and not fallbacks and strategy != "SPREAD":
        return ANYWHERE
    return Where(spread=strategy == "SPREAD", hard=hard, fallbacks=fallbacks)


def _warn_if_deprecated(options: TaskOptions | ActorOptions) -> None:
    for keyword in _DEPRECATED:
        value = getattr(options, keyword)
        if value != options.TABLE[keyword].default and value is not False:
            warnings.warn(
                f"{keyword} parameter is deprecated. Use scheduling_strategy=PlacementGroupSchedulingStrategy(...) "
                "instead.",
                DeprecationWarning,
                stacklevel=6,
            )
