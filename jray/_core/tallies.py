"""Owns the table of tallies that engines keep: by cell and function, those called longest ago forgotten first."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict

from jray._core.engine import Tally

#: counts of the functions called longest ago are forgotten beyond this many
_MOST = 4096


class TallyBook:
    """The tallies of one process.  Who counts in them holds a lock of its own; this one is for the table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: OrderedDict[tuple[int, str], Tally] = OrderedDict()

    def tally(self, cell: int, name: str, *, is_actor_call: bool = False) -> Tally:
        """Return the counts of a function's calls from a cell, which its templates share."""
        with self._lock:
            tally = self._tallies.get((cell, name))
            if tally is None:
                tally = self._tallies[cell, name] = Tally(cell, name, is_actor_call)
                if len(self._tallies) > _MOST:
                    self._tallies.popitem(last=False)
            return tally

    def snapshots(self, cell: int | None = None) -> list[tuple[Tally, Tally]]:
        """Return (the tally, a copy of it) of a cell, or of all, in the order of their first calls."""
        with self._lock:
            found = list(self._tallies.values())
        return [(tally, dataclasses.replace(tally)) for tally in found if cell is None or tally.cell == cell]
