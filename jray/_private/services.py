"""Owns where this node is, by the names of Ray's `_private.services`."""

from __future__ import annotations

import os

from jray._core.refs import current


def get_node_ip_address(address: str | None = None) -> str:
    """Return the address of this node; `address`, of a host to reach, changes nothing."""
    del address  # jray's nodes are all reached the same way
    if current.client is None:
        return "127.0.0.1"
    own = current.client.node_id.hex()
    rows = current.client.cluster.nodes()
    return next((str(row["NodeManagerAddress"]) for row in rows if row["NodeID"] == own), "127.0.0.1")


def get_node_instance_id() -> str:
    """Return what the cloud calls this machine, if whoever started it said so in RAY_CLOUD_INSTANCE_ID."""
    return os.environ.get("RAY_CLOUD_INSTANCE_ID", "")
