"""Owns where objects lie: `get_object_locations`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jray._core.refs import ObjectRef, current

#: more objects than one cluster can have
_ALL = 1 << 62


def get_object_locations(
    obj_refs: Sequence[ObjectRef[Any]],
    timeout_ms: int = -1,
) -> dict[ObjectRef[Any], dict[str, Any]]:
    """Return for each ref where its object is: `{"node_ids": [...], "object_size": bytes, "did_spill": False}`.

    An object that is not there yet is on no node, and its size None; one that nobody knows is left out.  Asks every
    process of the cluster and waits for the answers; `timeout_ms` is accepted, for that waiting has an end of
    its own.

    Raises RuntimeError before `jray.init`, TypeError for what is no list of refs.
    """
    del timeout_ms
    client = current.client
    if client is None:
        raise RuntimeError("jray is not started here: call jray.init() first.")
    if isinstance(obj_refs, ObjectRef) or not all(isinstance(ref, ObjectRef) for ref in obj_refs):
        raise TypeError(f"get_object_locations() takes a list of jray.ObjectRef, got {obj_refs!r}.")
    sizes: dict[str, int] = {}
    for row in client.cluster.rows("objects", limit=_ALL).rows:
        sizes[row["object_id"]] = max(row["object_size"], sizes.get(row["object_id"], -1))
    node_id = client.node_id.hex()
    return {ref: _location(node_id, sizes[ref._id.hex()]) for ref in obj_refs if ref._id.hex() in sizes}


def get_local_object_locations(obj_refs: Sequence[ObjectRef[Any]]) -> dict[ObjectRef[Any], dict[str, Any]]:
    """Return what `get_object_locations` does."""
    return get_object_locations(obj_refs)


def _location(node_id: str, size: int) -> dict[str, Any]:
    """Return an object's location; of size -1 it is not there yet."""
    is_there = size >= 0
    return {
        "node_ids": [node_id] if is_there else [],
        "object_size": size if is_there else None,
        "did_spill": False,
    }
