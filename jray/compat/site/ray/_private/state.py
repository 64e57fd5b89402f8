"""Stands for Ray's tables of the cluster, in the shapes that its internals give them."""

from __future__ import annotations

from typing import Any

from jray import nodes
from jray._core.refs import current
from jray.util import get_node_ip_address
from jray.util.state import get_actor, list_actors

__all__ = ["actors", "available_resources_per_node", "state"]


#: the most that the state API lists
_LIMIT = 10_000


def actors(actor_id: str | None = None) -> dict[str, Any]:
    """Return the row of the actor with that id in hex ({} if there is none), or all rows by id."""
    if actor_id is None:
        return {row.actor_id: _row(row) for row in list_actors(limit=_LIMIT)}
    found = get_actor(actor_id)
    return {} if found is None else _row(found)


def _row(row: Any) -> dict[str, Any]:
    return {
        "ActorID": row.actor_id,
        "ActorClassName": row.class_name,
        "JobID": row.job_id,
        "Name": row.name,
        "State": row.state,
        "Pid": row.pid,
        "Address": {"NodeID": row.node_id, "IPAddress": get_node_ip_address(), "Port": 0},
    }


def available_resources_per_node() -> dict[str, dict[str, float]]:
    """Return what is free of each resource, by the id of the node in hex."""
    free = current.require().cluster.available()
    return {row["NodeID"]: dict(free) for row in nodes()}


class _State:
    """The same by the names of an earlier Ray."""

    _available_resources_per_node = staticmethod(available_resources_per_node)
    actor_table = staticmethod(actors)
    node_table = staticmethod(nodes)


state = _State()
