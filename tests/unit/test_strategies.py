"""Scheduling strategies on a cluster of one node."""

from __future__ import annotations

from typing import Any

import pytest

from jray._core.ids import NodeID
from jray._core.strategies import NodeAffinitySchedulingStrategy, refusal

HERE = NodeID(b"n" * 28)
ELSEWHERE = NodeID(b"m" * 28)


@pytest.mark.parametrize("strategy", [None, "DEFAULT", "SPREAD"])
def test_strategies_that_name_no_node_fit_everywhere(strategy: Any) -> None:
    """One node is all there is to spread over."""
    assert refusal(strategy, HERE.binary()) is None


@pytest.mark.parametrize("node_id", [HERE, HERE.hex(), HERE.hex().upper()], ids=["id", "hex", "capitals"])
def test_the_named_node_fits(node_id: Any) -> None:
    """However its id is written."""
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    assert strategy.node_id == HERE.hex()
    assert refusal(strategy, HERE.binary()) is None


def test_another_node_fits_only_softly() -> None:
    """The reason names it."""
    assert refusal(NodeAffinitySchedulingStrategy(ELSEWHERE.hex(), soft=True), HERE.binary()) is None
    reason = refusal(NodeAffinitySchedulingStrategy(ELSEWHERE.hex(), soft=False), HERE.binary())
    assert reason == f"it must run on the node {ELSEWHERE.hex()}, which is not in the cluster"


@pytest.mark.parametrize("node_id", ["", "abc", "x" * 56, "ff" * 28, "ab" * 27, "ab " * 18 + "ab"])
def test_what_is_no_nodes_id_is_refused(node_id: str) -> None:
    """With what one looks like."""
    with pytest.raises(ValueError, match=r"Invalid node_id .*56 hexadecimal digits"):
        NodeAffinitySchedulingStrategy(node_id, soft=False)


def test_a_strategy_unknown_here_is_refused_by_name() -> None:
    """With those there are."""

    class PlacementGroupSchedulingStrategy:
        pass

    with pytest.raises(
        NotImplementedError, match=r"PlacementGroupSchedulingStrategy is not supported.*use None"
    ):
        refusal(PlacementGroupSchedulingStrategy(), HERE.binary())
