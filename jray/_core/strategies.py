"""Owns the scheduling strategies that name a node, and what they mean for a cluster of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_NODE_ID_HEX_DIGITS = 56


class LabelRule(NamedTuple):
    """What a node's label must be: one of *values*, or none of them; with no values, there or not there."""

    key: str
    values: tuple[str, ...]
    negated: bool = False

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a node with these labels is such."""
        found = self.key in labels and (not self.values or labels[self.key] in self.values)
        return found != self.negated

    def __str__(self) -> str:
        if not self.values:
            return f"{'without' if self.negated else 'with'} the label {self.key!r}"
        values = " or ".join(map(repr, self.values))
        return f"where {self.key!r} is {'not ' if self.negated else ''}{values}"


class Where(NamedTuple):
    """Where a task or actor may run, as its owner tells the scheduler; all empty: anywhere."""

    spread: bool = False  #: rather where nothing of the kind has just gone
    node_id: bytes = b""
    is_soft: bool = False  #: elsewhere, too, if that node is gone
    hard: tuple[LabelRule, ...] = ()
    soft: tuple[LabelRule, ...] = ()  #: if a node fits; else anywhere that `hard` allows
    group: bytes = b""  #: id of a placement group
    bundle: int = -1  #: number of its bundle; -1: any

    def labels_fit(self, labels: Mapping[str, str]) -> bool:
        return all(rule.fits(labels) for rule in self.hard)

    def wishes_fit(self, labels: Mapping[str, str]) -> bool:
        return all(rule.fits(labels) for rule in self.soft)

    def describe(self) -> str:
        """Return it as the end of "must run"; empty: anywhere."""
        if self.node_id:
            return f"on the node {self.node_id.hex()}"
        return " and ".join(map(str, self.hard))


#: anywhere, the usual way
ANYWHERE = Where()


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
