"""Refs of a session that has ended are refused, and start nothing."""

from __future__ import annotations

from typing import Any

import pytest

import jray
from jray.exceptions import RaySystemError


@pytest.mark.parametrize("ask", [jray.get, lambda ref: jray.get([ref]), lambda ref: jray.wait([ref])])
def test_an_old_ref_starts_no_new_cluster(ask: Any) -> None:
    """Nobody could answer for it there."""
    jray.init(num_cpus=1)
    ref = jray.put([1])
    jray.shutdown()
    with pytest.raises(RaySystemError, match="session that has ended"):
        ask(ref)
    assert not jray.is_initialized()


def test_an_actor_class_can_make_its_own_kind() -> None:
    """Though it is pickled inside itself."""

    @jray.remote
    class Node:
        def child(self) -> Any:
            return Node.remote()

        def value(self) -> int:
            return 42

    jray.init(num_cpus=1)
    node = Node.remote()
    child = jray.get(node.child.remote())
    assert jray.get(child.value.remote()) == 42
