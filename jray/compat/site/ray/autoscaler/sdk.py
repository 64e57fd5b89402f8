"""Stands for the hints to Ray's autoscaler, which libraries give where there is one or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["request_resources"]


def request_resources(
    num_cpus: int | None = None,
    bundles: Sequence[Mapping[str, float]] | None = None,
    bundle_label_selectors: Sequence[Mapping[str, str]] | None = None,
) -> None:
    """Take a hint about resources that will be needed; nobody is there to follow it."""
