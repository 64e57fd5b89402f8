"""Owns the decision which worker of a pool runs which chunk, and when a worker is replaced.  Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

C = TypeVar("C")


class Roster(Generic[C]):
    """Chunks that wait, in order, and who is free.

    A worker has at most one chunk: two tasks that wait for each other must not queue behind one another.
    """

    def __init__(self, workers: int, most_chunks: int | None = None) -> None:
        #: a worker is replaced after this many chunks; None: never
        self._most_chunks = most_chunks
        self._waiting: deque[C] = deque()
        self._free: deque[int] = deque(range(workers))
        self._done = [0] * workers
        self._running: dict[int, C] = {}

    def add(self, chunk: C) -> None:
        self._waiting.append(chunk)

    def assign(self) -> Iterator[tuple[int, C]]:
        """Yield (worker, chunk) for all that can start now."""
        while self._waiting and self._free:
            worker = self._free.popleft()
            chunk = self._running[worker] = self._waiting.popleft()
            yield worker, chunk

    def finish(self, worker: int, *, died: bool = False) -> tuple[C, bool]:
        """Note that a worker has ended its chunk; return the chunk, and whether to replace the worker."""
        chunk = self._running.pop(worker)
        self._free.append(worker)
        self._done[worker] += 1
        is_spent = died or self._done[worker] == self._most_chunks
        if is_spent:
            self._done[worker] = 0
        return chunk, is_spent

    def drop(self) -> list[C]:
        """Forget all chunks, those that run too, and return them."""
        dropped = [*self._running.values(), *self._waiting]
        self._free.extend(self._running)
        self._running.clear()
        self._waiting.clear()
        return dropped

    @property
    def is_idle(self) -> bool:
        return not self._running and not self._waiting
