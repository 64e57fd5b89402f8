"""Decides how long an owner keeps an object for other processes.  Pure.

A borrower counts as one holder per `ObjectRef` it made, so that a release and a new borrow that cross on
the wire cannot cancel wrongly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


class Borrows:
    """Who holds which of our objects, counted per borrower."""

    def __init__(self) -> None:
        self._by_borrower: dict[str, Counter[bytes]] = {}
        self._holders: Counter[bytes] = Counter()

    def add(self, borrower: str, ref_ids: Iterable[bytes]) -> list[bytes]:
        """*borrower* holds one reference more to each; return those nobody held before."""
        new = []
        mine = self._by_borrower.setdefault(borrower, Counter())
        for ref_id in ref_ids:
            if not self._holders[ref_id]:
                new.append(ref_id)
            self._holders[ref_id] += 1
            mine[ref_id] += 1
        if not mine:
            del self._by_borrower[borrower]
        return new

    def release(self, borrower: str, ref_ids: Iterable[bytes]) -> list[bytes]:
        """*borrower* holds one reference less to each; return those nobody holds any more.

        A release of what is not held is ignored: the borrower was declared dead meanwhile.
        """
        mine = self._by_borrower.get(borrower)
        if mine is None:
            return []
        free = [ref_id for ref_id in ref_ids if mine[ref_id] > 0 and self._drop(mine, ref_id, 1)]
        if not mine:
            del self._by_borrower[borrower]
        return free

    def gone(self, borrower: str) -> list[bytes]:
        """*borrower* died; return the objects nobody holds any more."""
        mine = self._by_borrower.pop(borrower, Counter())
        return [ref_id for ref_id, count in list(mine.items()) if self._drop(mine, ref_id, count)]

    def _drop(self, mine: Counter[bytes], ref_id: bytes, count: int) -> bool:
        mine[ref_id] -= count
        if not mine[ref_id]:
            del mine[ref_id]
        self._holders[ref_id] -= count
        if self._holders[ref_id]:
            return False
        del self._holders[ref_id]
        return True

    def held(self) -> int:
        """Return how many objects somebody holds."""
        return len(self._holders)

    def check_invariants(self) -> None:
        total: Counter[bytes] = Counter()
        for mine in self._by_borrower.values():
            assert mine, "a borrower of nothing"
            assert all(count > 0 for count in mine.values()), "a borrower with a count of zero"
            total.update(mine)
        assert total == self._holders, "the holders do not add up"
