"""Owns the table of cells: the number that tasks carry, and what it takes to write to that cell again."""

from __future__ import annotations

import collections
import dataclasses
import threading
from typing import Any


def running_number(shell: Any, *, is_recorded: bool) -> int:
    """Return the n of In[n] of the running cell.

    From the list of inputs, because `execution_count` has moved on already in some versions of IPython and
    not in others.  `is_recorded` tells whether the cell is in that list yet.
    """
    inputs = shell.user_ns.get("In")
    if not isinstance(inputs, list):
        return int(shell.execution_count)
    return max(1, len(inputs) - is_recorded)


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One execution of a cell."""

    number: int  #: of this execution in this kernel, from 1
    parent: dict[str, Any]  #: header of the request that runs it: messages with this parent appear under it
    cell_id: str | None  #: what the front end calls the cell; None: it did not say (nbval, consoles)
    execution_count: int
    notebook: str | None  #: path of the notebook, where the front end tells it

    @property
    def msg_id(self) -> str:
        return str(self.parent.get("msg_id", ""))


class CellTable:
    """The cells run so far, oldest forgotten first.  Safe to use from any thread."""

    def __init__(self, max_cells: int = 4096) -> None:
        self._max_cells = max_cells
        self._cells: collections.OrderedDict[int, Cell] = collections.OrderedDict()
        self._last = 0
        self._lock = threading.Lock()

    def add(
        self, parent: dict[str, Any], *, cell_id: str | None, execution_count: int, notebook: str | None
    ) -> Cell:
        """Note that a cell starts."""
        with self._lock:
            self._last += 1
            cell = Cell(self._last, parent, cell_id, execution_count, notebook)
            self._cells[cell.number] = cell
            while len(self._cells) > self._max_cells:
                self._cells.popitem(last=False)
            return cell

    def get(self, number: int) -> Cell | None:
        """Return that cell; None: it never was, or is forgotten."""
        with self._lock:
            return self._cells.get(number)

    def numbers_of(self, execution_count: int) -> list[int]:
        """Return the numbers of the cells that were In[that], oldest first."""
        with self._lock:
            return [n for n, cell in self._cells.items() if cell.execution_count == execution_count]

    def label(self, number: int) -> str:
        """Return ``In[3]`` for a cell; "" for none, or one that is forgotten."""
        cell = self.get(number)
        return "" if cell is None else f"In[{cell.execution_count}]"

    def __len__(self) -> int:
        return len(self._cells)
