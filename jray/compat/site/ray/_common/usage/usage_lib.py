"""Stands for what libraries tell Ray's developers about their use: jray tells nobody anything."""

from __future__ import annotations

__all__ = ["record_extra_usage_tag", "record_library_usage", "usage_stats_enabled"]


def record_library_usage(library_usage: str) -> None:
    """Do nothing: there is nobody to tell that a library is used."""


def record_extra_usage_tag(key: object, value: str, gcs_client: object = None) -> None:
    """Do nothing: there is nobody to tell."""


def usage_stats_enabled() -> bool:
    """Tell that nothing is reported."""
    return False
