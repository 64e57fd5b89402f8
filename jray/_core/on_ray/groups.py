"""Owns the passing on of placement groups to Ray: theirs are Ray's, by the same ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from jray._core.engine import GroupPlan
from jray._core.on_ray.errors import translated

if TYPE_CHECKING:
    from jray._core.on_ray.engine import RayEngine


def rays_group(group: Any) -> Any:
    """Return Ray's handle to the group of one of jray's; Ray's own, and what is no handle, as they are."""
    if not hasattr(group, "bundle_cache") or isinstance(group, PlacementGroup):
        return group
    return _handle(group.id.binary(), group.bundle_cache)


def _handle(group_id: bytes, bundles: list[dict[str, float]] | None = None) -> Any:
    return PlacementGroup(ray.PlacementGroupID(group_id), bundles)


class RayGroups:
    """See `jray._core.engine.Groups`."""

    def __init__(self, engine: RayEngine) -> None:
        self._engine = engine

    def create(self, plan: GroupPlan) -> bytes:
        try:
            group = placement_group(
                [dict(bundle) for bundle in plan.bundles],
                strategy=plan.strategy,
                name=plan.name,
                lifetime="detached" if plan.is_detached else None,
                bundle_label_selector=[dict(selector) for selector in plan.label_selectors] or None,
                _soft_target_node_id=plan.preferred.hex() or None,
            )
        except ray.exceptions.RayError as error:
            raise translated(error) from None
        group_id: bytes = group.id.binary()
        return group_id

    def remove(self, group_id: bytes) -> None:
        remove_placement_group(_handle(group_id))

    def wait(self, group_id: bytes, timeout_s: float | None) -> bool:
        group = _handle(group_id)
        return any(group.wait(round_s) for round_s in self._engine.rounds(timeout_s))

    def find(self, name: str) -> bytes | None:
        try:
            group_id: bytes = get_placement_group(name).id.binary()
        except ValueError:
            return None
        return group_id

    def table(self, group_id: bytes | None) -> dict[str, Any]:
        found: dict[str, Any] | None = placement_group_table(None if group_id is None else _handle(group_id))
        return found or {}

    def bundles(self, group_id: bytes) -> list[dict[str, float]]:
        return list(self.table(group_id).get("bundles", {}).values())
