"""A store that objects of all sizes come to and go from: what is free can be used, as far as it is needed."""

from __future__ import annotations

import pytest

from tools.measure_memory import fragment


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(3))
def test_random_puts_and_frees_of_all_sizes_lose_next_to_nothing(seed: int) -> None:
    """From 1 KB to 50 MB, in a store that is nearly always nearly full: no put fails for which there were bytes enough.

    `python tools/measure_memory.py fragmentation` does this a hundred thousand times.
    """
    found = fragment(3000, 1000**3, seed)
    assert found.refused == 0
    assert found.lost <= 0.15
