"""Owns the size of a map's chunks: it is told how long chunks took, and says how long the next should be.  Pure."""

from __future__ import annotations

#: how long a chunk should run: a hundred times what a task costs, and short enough to see progress
TARGET_S = 0.03
#: a chunk has at most this many times the items of the longest so far: a guess from little must not go far wrong
_GROWTH = 8
#: the weight of what was measured before, against the last chunk
_MEMORY = 0.5
#: most items of a chunk, however short they are
_MOST = 100_000


class Chunker:
    """Says how many items the next chunk gets.

    Chunks begin with one item and grow to what takes `TARGET_S`.  If the number of items is known, they get
    shorter again near the end, so that all workers end at about the same time.

    Args:
        fixed: the size of all chunks, if it is not to be found.
        total: how many items there are, if that is known.
        workers: how many chunks run at once.
    """

    def __init__(self, fixed: int | None = None, total: int | None = None, workers: int = 1) -> None:
        self._fixed = fixed
        self._left = total
        self._workers = workers
        self._longest = 0  #: items of the longest chunk that was measured
        self._items = 0.0  #: items measured, and the seconds they took; older ones weigh less
        self._seconds = 0.0

    def next_size(self) -> int:
        """Return how many items the next chunk should have: 1 or more."""
        if self._fixed is not None:
            return self._fixed
        if not self._items:
            return 1
        per_item_s = self._seconds / self._items
        size = _MOST if per_item_s * _MOST <= TARGET_S else int(TARGET_S / per_item_s)
        size = min(size, self._longest * _GROWTH)
        if self._left is not None:
            size = min(size, self._left // (2 * self._workers))
        return max(1, size)

    def gave(self, items: int) -> None:
        """Note that a chunk of so many items was made."""
        if self._left is not None:
            self._left = max(0, self._left - items)

    def took(self, items: int, seconds: float) -> None:
        """Note that a chunk of so many items took so long."""
        if items:
            self._longest = max(self._longest, items)
            self._items = self._items * _MEMORY + items
            self._seconds = self._seconds * _MEMORY + max(seconds, 0.0)
