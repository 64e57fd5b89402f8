"""Stands for what Ray finds out about a machine, under the name of earlier versions."""

from __future__ import annotations

from ray._common.utils import get_num_cpus, get_system_memory

__all__ = ["get_num_cpus", "get_system_memory"]
