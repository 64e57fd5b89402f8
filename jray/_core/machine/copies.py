"""Decides about a node's copies of objects that lie on other nodes.  Pure.

However many clients want an object, it is fetched once.  A copy is kept, also while nobody reads it, until the
object is freed or its room is needed; what somebody reads stays until he does not any more.

    (none) --wanted--> FETCHING --fetched--> HERE --freed, evicted, nobody reads--> (none)
                          +--failed--> (none)
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable


@dataclasses.dataclass(slots=True)
class _Copy:
    size: int
    is_here: bool = False
    #: the object is freed: the copy goes with its last reader
    is_doomed: bool = False
    #: how often each client has asked for it and not given it back
    readers: Counter[int] = dataclasses.field(default_factory=Counter)
    #: (client, request) of those who wait for it
    waiting: list[tuple[int, int]] = dataclasses.field(default_factory=list)


class Copies:
    """The copies that are here, or on their way."""

    def __init__(self) -> None:
        #: the one wanted last at the end
        self._copies: dict[bytes, _Copy] = {}

    # -- events -----------------------------------------------------------------------------------

    def wanted(self, object_id: bytes, size: int, client: int, request: int) -> str:
        """A client wants to read an object; return "here", "coming" (another wants it too) or "fetch"."""
        copy = self._copies.pop(object_id, None)
        answer = "fetch" if copy is None else "here" if copy.is_here else "coming"
        if copy is None:
            copy = _Copy(size)
        self._copies[object_id] = copy
        copy.readers[client] += 1
        if not copy.is_here:
            copy.waiting.append((client, request))
        return answer

    def fetched(self, object_id: bytes) -> list[tuple[int, int]]:
        """Its bytes are here; return who waits for them."""
        copy = self._copies[object_id]
        copy.is_here = True
        waiting, copy.waiting = copy.waiting, []
        return waiting

    def failed(self, object_id: bytes) -> list[tuple[int, int]]:
        """It cannot be had; return who waits for it."""
        return self._copies.pop(object_id).waiting

    def released(self, client: int, object_ids: Iterable[bytes]) -> list[bytes]:
        """A client gives back one reading of each; return those to be dropped now."""
        gone = []
        for object_id in object_ids:
            copy = self._copies.get(object_id)
            if copy is not None and copy.readers[client]:
                copy.readers[client] -= 1
                if not copy.readers[client]:
                    del copy.readers[client]
                if self._is_over(copy):
                    gone.append(object_id)
        return self._dropped(gone)

    def client_gone(self, client: int) -> list[bytes]:
        """A client ended; return the copies to be dropped now."""
        gone = []
        for object_id, copy in self._copies.items():
            copy.waiting = [entry for entry in copy.waiting if entry[0] != client]
            if copy.readers.pop(client, 0) and self._is_over(copy):
                gone.append(object_id)
        return self._dropped(gone)

    def freed(self, object_ids: Iterable[bytes]) -> list[bytes]:
        """Objects are freed; return those whose copies are to be dropped now."""
        gone = []
        for object_id in object_ids:
            copy = self._copies.get(object_id)
            if copy is not None:
                copy.is_doomed = True
                if self._is_over(copy):
                    gone.append(object_id)
        return self._dropped(gone)

    def evict(self, wanted: int) -> list[bytes]:
        """Room is needed: return copies to be dropped, of so many bytes if nobody reads as many, the oldest first."""
        gone = []
        for object_id, copy in self._copies.items():
            if wanted <= 0:
                break
            if copy.is_here and not copy.readers:
                gone.append(object_id)
                wanted -= copy.size
        return self._dropped(gone)

    def adopted(self, object_id: bytes) -> bool:
        """The object's own place is lost: let its copy be the object from now on, if there is one."""
        copy = self._copies.get(object_id)
        if copy is None or not copy.is_here or copy.is_doomed:
            return False
        del self._copies[object_id]
        return True

    def _is_over(self, copy: _Copy) -> bool:
        return copy.is_doomed and copy.is_here and not copy.readers

    def _dropped(self, object_ids: list[bytes]) -> list[bytes]:
        for object_id in object_ids:
            del self._copies[object_id]
        return object_ids

    # -- questions --------------------------------------------------------------------------------

    def __contains__(self, object_id: bytes) -> bool:
        return object_id in self._copies

    def is_doomed(self, object_id: bytes) -> bool:
        """Tell whether the object was freed while its copy was on the way."""
        return self._copies[object_id].is_doomed

    def here(self) -> list[bytes]:
        """Return the ids of the copies that are here, the one wanted last at the end."""
        return [object_id for object_id, copy in self._copies.items() if copy.is_here]
