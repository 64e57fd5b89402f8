"""Stands for what Ray finds out about a machine."""

from __future__ import annotations

from jray._core.detect import detect_memory_bytes, detect_num_cpus

__all__ = ["get_num_cpus", "get_system_memory"]


def get_num_cpus() -> int:
    """Return how many CPUs this process may use."""
    return detect_num_cpus()


def get_system_memory() -> int:
    """Return the bytes of memory that this process may use."""
    return detect_memory_bytes()
