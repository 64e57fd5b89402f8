"""Owns which runtime environments one process can have: variables, and nothing that another process would need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jray._core.environments import Environment, normalize, parse

_POSSIBLE = {"env_vars", "config"}


def environment_of(runtime_env: Mapping[str, Any] | None, parent: Environment = ()) -> Environment:
    """Return what `normalize` returns; raises NotImplementedError for what only another process can have."""
    others = sorted(parse(runtime_env).keys() - _POSSIBLE)
    if others:
        raise NotImplementedError(
            f"runtime_env has {', '.join(others)}, which needs a process of its own, and engine='inline' runs everything "
            "in this one. Leave it out here, where what this process has is there anyway, or choose engine='jray'."
        )
    return normalize(runtime_env, parent)
