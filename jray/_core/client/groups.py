"""Owns what this process wants of placement groups: makes, finds, removes and waits for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from jray._core.engine import GroupPlan
from jray._core.ids import PlacementGroupID
from jray._core.resources import ResourceSet
from jray._core.rows import group_table_entry
from jray._core.specs import GroupSpec
from jray._core.strategies import selector_rules
from jray._core.wire import messages

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient

#: bundles of so many groups are remembered
_REMEMBERED = 256


class GroupMaker:
    """See `jray._core.engine.Groups`."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        self._bundles: dict[bytes, list[dict[str, float]]] = {}

    def create(self, plan: GroupPlan) -> bytes:
        client = self._client
        spec = group_spec(plan, client.job_id, client.namespace, client.detached_actor())
        if spec.name:
            client.ask("create_group", spec)  # the name may be taken
        else:
            client.node.tell(messages.CREATE_GROUP, spec)
        return spec.group_id

    def remove(self, group_id: bytes) -> None:
        # who holds a lease there is ended with the group: an idle worker need not
        self._client.leasing.return_idle_of(group_id)
        self._client.node.tell(messages.REMOVE_GROUP, group_id)

    def wait(self, group_id: bytes, timeout_s: float | None) -> bool:
        client = self._client
        answer = client.node.request_within(timeout_s, client.wait_blocking, messages.WAIT_GROUP, group_id)
        return bool(answer and answer[0])

    def find(self, name: str) -> bytes | None:
        found: bytes | None = self._client.ask("find_group", self._client.namespace, name)
        return found

    def table(self, group_id: bytes | None) -> dict[str, Any]:
        if group_id is None:
            rows = self._client.ask("groups")
            return {row["placement_group_id"]: group_table_entry(row) for row in rows}
        row = self._client.ask("group", group_id)
        return {} if row is None else group_table_entry(row)

    def bundles(self, group_id: bytes) -> list[dict[str, float]]:
        found = self._bundles.get(group_id)
        if found is None:
            row = self._client.ask("group", group_id)
            if row is None:
                return []
            found = self._bundles[group_id] = list(row["bundles"].values())
            if len(self._bundles) > _REMEMBERED:
                self._bundles.pop(next(iter(self._bundles)), None)
        return found


def group_spec(plan: GroupPlan, job_id: bytes, namespace: str, keeper: bytes) -> GroupSpec:
    """Return what the head is told of a new group.  Raises ValueError for quantities that cannot be."""
    return GroupSpec(
        group_id=os.urandom(PlacementGroupID.SIZE - len(job_id)) + job_id,
        name=plan.name,
        namespace=namespace,
        bundles=tuple(dict(ResourceSet.from_floats(bundle).items()) for bundle in plan.bundles),
        strategy=plan.strategy,
        job=job_id,
        is_detached=plan.is_detached,
        keeper=keeper,
        rules=tuple(map(selector_rules, plan.label_selectors)),
        preferred=plan.preferred,
    )
