"""The scheduling strategies that are objects."""

from jray._core.strategies import NodeAffinitySchedulingStrategy

__all__ = ["NodeAffinitySchedulingStrategy"]
