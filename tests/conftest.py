"""Owns what all tests have in common: how long a generated test may take, and that it is the same in each run."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# A machine may stop a process for seconds wherever it likes: that says nothing about an example.
settings.register_profile(
    "jray", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("jray")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        is_generated = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if is_generated and item.get_closest_marker("timeout") is None:
            # hundreds of examples compute for long, and wait for nothing that may not come
            item.add_marker(pytest.mark.timeout(300))
