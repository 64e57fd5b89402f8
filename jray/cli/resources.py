"""Owns the kinds of things that `jray list` and `jray get` tell of, by Ray's names for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jray.util.state import api, common


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """A kind of thing."""

    schema: type[common.StateSchema]
    lister: Callable[..., list[Any]]
    getter: Callable[..., Any] | None = None


RESOURCES = {
    "actors": Resource(common.ActorState, api.list_actors, api.get_actor),
    "jobs": Resource(common.JobState, api.list_jobs, api.get_job),
    "nodes": Resource(common.NodeState, api.list_nodes, api.get_node),
    "objects": Resource(common.ObjectState, api.list_objects, api.get_objects),
    "placement-groups": Resource(
        common.PlacementGroupState, api.list_placement_groups, api.get_placement_group
    ),
    "runtime-envs": Resource(common.RuntimeEnvState, api.list_runtime_envs),
    "tasks": Resource(common.TaskState, api.list_tasks, api.get_task),
    "workers": Resource(common.WorkerState, api.list_workers, api.get_worker),
    "cluster-events": Resource(common.ClusterEventState, api.list_cluster_events),
}
