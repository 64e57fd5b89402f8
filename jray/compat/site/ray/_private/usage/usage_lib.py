"""Stands for what libraries tell Ray's developers, under the name of earlier versions."""

from __future__ import annotations

from ray._common.usage.usage_lib import record_extra_usage_tag, record_library_usage, usage_stats_enabled

__all__ = ["record_extra_usage_tag", "record_library_usage", "usage_stats_enabled"]
