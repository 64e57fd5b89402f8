"""Decides when the objects of a dead owner are free.  Pure.

Nobody can get such an object any more, but a process that got it before may still look at its bytes in
shared memory.  So each client is asked what it looks at, and an object stays until the last of them has
answered, dropped it, or died.
"""

from __future__ import annotations

from collections.abc import Iterable


class Orphans:
    """Objects whose owner died, and the clients that may have views of them."""

    def __init__(self) -> None:
        #: object -> clients that hold it, or have not said that they don't
        self._holders: dict[bytes, set[int]] = {}
        #: dead owner -> its objects, as long as somebody has to answer
        self._asked: dict[int, list[bytes]] = {}

    def owner_died(self, owner: int, object_ids: Iterable[bytes], clients: Iterable[int]) -> list[bytes]:
        """An owner died and *clients* are asked; return the objects that are free at once."""
        ids = list(object_ids)
        asked = set(clients)
        if not asked:
            return ids
        self._asked[owner] = ids
        for object_id in ids:
            self._holders[object_id] = set(asked)
        return []

    def answered(self, client: int, owner: int, held: Iterable[bytes]) -> list[bytes]:
        """A client says which objects of that owner it holds; return those that are free now."""
        keeps = set(held)
        return self._discard(client, [i for i in self._asked.get(owner, ()) if i not in keeps])

    def dropped(self, client: int, object_ids: Iterable[bytes]) -> list[bytes]:
        """A client has no view of these any more; return those that are free now."""
        return self._discard(client, object_ids)

    def client_gone(self, client: int) -> list[bytes]:
        """A client died; return the objects that are free now."""
        return self._discard(client, list(self._holders))

    def _discard(self, client: int, object_ids: Iterable[bytes]) -> list[bytes]:
        free = []
        for object_id in object_ids:
            holders = self._holders.get(object_id)
            if holders is None:
                continue
            holders.discard(client)
            if not holders:
                del self._holders[object_id]
                free.append(object_id)
        if free:
            self._asked = {
                owner: left
                for owner, ids in self._asked.items()
                if (left := [object_id for object_id in ids if object_id in self._holders])
            }
        return free

    def held(self) -> int:
        """Return how many orphans somebody may look at."""
        return len(self._holders)
