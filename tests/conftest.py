"""Owns what all tests have in common: how long a generated test may take, and that it is the same in each run."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# A machine may stop a process for seconds wherever it likes: that says nothing about an example.
settings.register_profile(
    "jray", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("jray")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse to run beside a head that stays: clusters that tests mean to start would be that one."""
    if os.environ.get("JRAY_TEST_ENGINE") == "ray":
        return
    from jray._heads.cards import runtime_dir, survey  # noqa: PLC0415 -- where Ray is tested that is what `jray` names

    stays = [head.session for head in survey(runtime_dir()).heads if head.is_free]
    if stays and "JRAY_ADDRESS" not in os.environ:
        pytest.exit(
            f"These heads of yours stay in {runtime_dir()}, and tests would join them: {', '.join(stays)}. End them by "
            "`jray stop`, or set JRAY_RUNTIME_DIR to another directory, of a short name.",
            returncode=4,
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        is_generated = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if is_generated and item.get_closest_marker("timeout") is None:
            # hundreds of examples compute for long, and wait for nothing that may not come
            item.add_marker(pytest.mark.timeout(300))
