"""Owns the environment variables that tasks and actors have of their own, while their code runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping


class Entry:
    """Code that runs with these variables."""

    __slots__ = ("variables",)

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables


class Surroundings:
    """Makes `os.environ` that of the code which runs, and what it was after it.

    It is one for all threads: where several run tasks with different variables at once, each sees those of the
    one that began last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        #: the variables that are set now, and what the process itself has in their place
        self._applied: Mapping[str, str] = {}
        self._original: dict[str, str | None] = {}

    def enter(self, variables: Mapping[str, str]) -> Entry | None:
        """Set the variables; give back what this returns with `leave`."""
        if not variables and not self._entries:
            return None
        entry = Entry(variables)
        with self._lock:
            self._entries.append(entry)
            self._apply(variables)
        return entry

    def leave(self, entry: Entry | None) -> None:
        if entry is None:
            return
        with self._lock:
            self._entries.remove(entry)
            self._apply(self._entries[-1].variables if self._entries else {})

    def _apply(self, variables: Mapping[str, str]) -> None:
        for name in self._applied.keys() - variables.keys():
            original = self._original.pop(name)
            if original is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = original
        for name, text in variables.items():
            if name not in self._applied:
                self._original[name] = os.environ.get(name)
            os.environ[name] = text
        self._applied = variables
