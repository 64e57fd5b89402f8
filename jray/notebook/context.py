"""Owns what the commands of `%jray` work with: the shell, the runtime, its engine, the table of cells."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

from IPython.core.error import UsageError

from jray._core.engine import Engine
from jray._core.refs import current
from jray.notebook.cells import CellTable
from jray.notebook.remote import Runtime

_CELL = re.compile(r"(?:In\s*\[\s*(\d+)\s*\]|(\d+))")


def current_engine() -> Engine | None:
    """Return the engine of this process's session, or None.  Starts nothing."""
    engine: Engine | None = current.client
    return engine


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """The surroundings of a command."""

    shell: Any
    runtime: Runtime
    cells: CellTable
    find_engine: Callable[[], Engine | None] = current_engine
    #: whether the same notebook must show the same each time: ids, pids and times are left out
    is_deterministic: Callable[[], bool] = lambda: False
    #: what jray has put into the shell (`jray.notebook.guest.Guest`); None: nothing but magics
    guest: Any = None

    @property
    def namespace(self) -> dict[str, Any]:
        """The notebook's variables."""
        namespace: dict[str, Any] = self.shell.user_ns
        return namespace

    def engine(self) -> Engine:
        """Return the engine of this session.  Raises UsageError if there is none."""
        engine = self.find_engine()
        if engine is None:
            raise UsageError(
                "jray is not running. Start it with %jray start, or join a cluster: %jray connect ADDRESS."
            )
        return engine

    def cell_numbers(self, text: str) -> list[int] | None:
        """Return the numbers of the cells meant by ``In[3]``; None: the text means no cell.

        Raises UsageError for a cell that was not run since jray came into this notebook.
        """
        match = _CELL.fullmatch(text.strip())
        if match is None:
            return None
        execution_count = int(match[1] or match[2])
        numbers = self.cells.numbers_of(execution_count)
        if not numbers:
            raise UsageError(f"In[{execution_count}] was not run since jray is loaded here.")
        return numbers


def closest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'tasks'?`` for a word that is nearly one of the known; else ""."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
