"""Stands for Ray's constants: the one that means something here."""

from __future__ import annotations

from jray._core.resources import UNITS

__all__ = ["MIN_RESOURCE_GRANULARITY"]

#: the least amount of a resource that can be asked for
MIN_RESOURCE_GRANULARITY = 1 / UNITS
