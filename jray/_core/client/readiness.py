"""Owns which of several refs and generators are ready: what `wait` answers."""

from __future__ import annotations

from typing import Any

from jray._core.refs import PENDING, ObjectRef


def is_ready(ref: Any) -> bool:
    """Tell whether a ref has a value or an error, or a generator an item or its end."""
    return ref._state != PENDING if isinstance(ref, ObjectRef) else ref._stream.has_next()


def split(refs: list[Any], num_returns: int) -> tuple[list[Any], list[Any]] | None:
    """Return (ready, others) if enough are ready, else None."""
    if num_returns == 1:  # one by one over many refs: the common pattern, so without a pass over all
        for index, ref in enumerate(refs):
            if is_ready(ref):
                return [ref], refs[:index] + refs[index + 1 :]
        return None
    ready, others = split_all(refs, num_returns)
    return (ready, others) if len(ready) >= num_returns else None


def split_all(refs: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
    """Return (ready, others): at most `num_returns` ready ones, both in the order of *refs*."""
    ready: list[Any] = []
    others: list[Any] = []
    for ref in refs:
        (ready if len(ready) < num_returns and is_ready(ref) else others).append(ref)
    return ready, others
