"""Owns the scheduling strategies that name a node, and what they mean for a cluster of one."""

from __future__ import annotations

from typing import Any

_NODE_ID_HEX_DIGITS = 56


class NodeAffinitySchedulingStrategy:
    """Run on the node with this id; elsewhere too, if `soft` and that node is gone.

    Raises ValueError for what is no node id.
    """

    def __init__(
        self,
        node_id: str,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        if not isinstance(node_id, str):
            node_id = node_id.hex()
        try:
            raw = bytes.fromhex(node_id)
        except ValueError:
            raw = b""
        if len(raw) * 2 != _NODE_ID_HEX_DIGITS or raw == b"\xff" * len(raw):
            raise ValueError(
                f"Invalid node_id {node_id!r}: a node's id is {_NODE_ID_HEX_DIGITS} hexadecimal digits."
            )
        self.node_id = raw.hex()
        self.soft = soft
        self._spill_on_unavailable = _spill_on_unavailable
        self._fail_on_unavailable = _fail_on_unavailable


def refusal(strategy: Any, node_id: bytes) -> str | None:
    """Return why nothing can ever run by *strategy* on a cluster whose one node is *node_id*; None if it can.

    Raises NotImplementedError for a strategy that jray does not know.
    """
    if strategy is None or strategy in ("DEFAULT", "SPREAD"):  # on one node all the same
        return None
    if isinstance(strategy, NodeAffinitySchedulingStrategy):
        if strategy.soft or strategy.node_id == node_id.hex():
            return None
        return f"it must run on the node {strategy.node_id}, which is not in the cluster"
    raise NotImplementedError(
        f"The scheduling strategy {type(strategy).__name__} is not supported by this version of jray; "
        'use None, "DEFAULT", "SPREAD" or NodeAffinitySchedulingStrategy.'
    )
