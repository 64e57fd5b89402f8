"""What a ref of this engine tells of its object."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import jray
from jray._core.refs import RefFacts, current

pytestmark = pytest.mark.usefixtures("inline")


def facts(ref: Any) -> RefFacts:
    found: RefFacts = current.client.ref_facts(ref)
    return found


def test_refs_tell_what_is_known() -> None:
    @jray.remote(name="make")
    def make(length: int) -> Any:
        if length < 0:
            raise ValueError("no")
        return np.zeros(length)

    assert facts(make.remote(3))[:4] == ("ready", "make", 0, "ndarray float64 (3,)")
    assert facts(make.remote(300_000)).about == "ndarray float64 (300000,)"
    failed = make.remote(-1)
    assert (facts(failed).state, facts(failed).error) == ("failed", "ValueError: no")
    assert repr(failed.peek()) == "failed: ValueError: no"
    with pytest.raises(ValueError, match="no"):
        jray.get(failed)
    assert "min, mean, max: 0, 0, 0" in repr(make.remote(3).peek())
    value = jray.put([1])
    current.client.free([value])
    assert facts(value).state == "freed"
