"""Owns the way of packages from the head to a node's disk, piece by piece, so that no message is large."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

#: called with why a package is not there, or with "" once its file is whole
Done = Callable[[str], None]


@dataclasses.dataclass(slots=True, eq=False)
class _Fetch:
    path: str
    done: Done
    received: int = 0


class PackageFetcher:
    """Writes packages to files.  `ask(uri, index)` has a piece sent, by `arrived`, at once or later."""

    def __init__(self, ask: Callable[[str, int], None]) -> None:
        self._ask = ask
        self._fetches: dict[str, list[_Fetch]] = {}
        #: pieces that have arrived and are not handled: one that comes at once is not handled within the asking for it
        self._arrived: list[tuple[str, int, bytes | None]] = []
        self._is_handling = False

    def fetch(self, uri: str, path: str, done: Done) -> None:
        """Write a package to a new file.  Who wants one that is on its way already has it sent again."""
        waiting = self._fetches.setdefault(uri, [])
        waiting.append(_Fetch(path, done))
        if len(waiting) == 1:
            self._ask(uri, 0)

    def arrived(self, uri: str, index: int, piece: bytes | None) -> None:
        """A piece has come; None: there are no more."""
        self._arrived.append((uri, index, piece))
        if self._is_handling:
            return
        self._is_handling = True
        try:
            while self._arrived:
                self._take(*self._arrived.pop(0))
        finally:
            self._is_handling = False

    def _take(self, uri: str, index: int, piece: bytes | None) -> None:
        fetch = self._fetches[uri][0]
        if piece is not None:
            try:
                with open(fetch.path, "ab", opener=_private) as file:
                    file.write(piece)
            except OSError as error:
                self._end(uri, f"it cannot be written to {fetch.path}: {error.strerror}")
            else:
                self._ask(uri, index + 1)
        elif index == 0:
            self._end(uri, "no job that runs has uploaded it")
        else:
            self._end(uri, "")

    def _end(self, uri: str, fault: str) -> None:
        waiting = self._fetches[uri]
        fetch = waiting.pop(0)
        if waiting:
            self._ask(uri, 0)
        else:
            del self._fetches[uri]
        fetch.done(fault)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
