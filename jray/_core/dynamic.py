"""Owns `DynamicObjectRefGenerator`: the value of a task with `num_returns="dynamic"`, which Ray has deprecated."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from jray._core.refs import ObjectRef


class DynamicObjectRefGenerator:
    """The refs of all that a task yielded, in order; iterating takes them out, so that their objects can go."""

    def __init__(self, refs: Iterable[ObjectRef[Any]]) -> None:
        self._refs = deque(refs)

    def __iter__(self) -> Iterator[ObjectRef[Any]]:
        while self._refs:
            yield self._refs.popleft()

    def __len__(self) -> int:
        return len(self._refs)


DynamicObjectRefGenerator.__module__ = "jray"
