"""Owns the packages of runtime environments that jobs have uploaded, until no job needs them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection


@dataclasses.dataclass(slots=True)
class _Package:
    pieces: list[bytes]
    #: those that refer to it
    jobs: set[bytes]


class Packages:
    """Packages by URI, each in pieces as they were sent.  What was not sealed by who uploads it is not there."""

    def __init__(self) -> None:
        self._sealed: dict[str, _Package] = {}
        #: what is on its way, by URI and job: two jobs may send the same
        self._arriving: dict[tuple[str, bytes], list[bytes]] = {}

    def has(self, job: bytes, uri: str) -> bool:
        """Tell whether a package is there; if so, it stays as long as that job."""
        package = self._sealed.get(uri)
        if package is None:
            self._arriving.pop((uri, job), None)
            return False
        package.jobs.add(job)
        return True

    def put(self, job: bytes, uri: str, piece: bytes) -> None:
        """Take the next piece."""
        self._arriving.setdefault((uri, job), []).append(piece)

    def seal(self, job: bytes, uri: str) -> None:
        """All pieces are there."""
        pieces = self._arriving.pop((uri, job), [])
        self._sealed.setdefault(uri, _Package(pieces, set())).jobs.add(job)

    def piece(self, uri: str, index: int) -> bytes | None:
        """Return one piece of a package; None: it has no more, or is not there."""
        package = self._sealed.get(uri)
        return package.pieces[index] if package is not None and index < len(package.pieces) else None

    def job_gone(self, job: bytes, needed: Collection[str]) -> None:
        """Drop what only that job needed, but for what is still `needed`: by detached actors, say."""
        for key in [key for key in self._arriving if key[1] == job]:
            del self._arriving[key]
        for uri, package in list(self._sealed.items()):
            package.jobs.discard(job)
            if not package.jobs and uri not in needed:
                del self._sealed[uri]

    def uris(self) -> list[str]:
        """Return the URIs of all packages that are there."""
        return list(self._sealed)
