"""Owns the questions that all clients answer together: who was asked, what they said, until when to wait.  Pure."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(slots=True)
class Gathering:
    """One question and its answers so far."""

    asker: int  #: client that wants them
    request: int  #: of the asker
    deadline_s: float
    waiting: set[int]  #: clients that have not answered
    answers: list[tuple[int, Any]] = dataclasses.field(default_factory=list)


class Gatherings:
    """The open questions, by number."""

    def __init__(self) -> None:
        self._open: dict[int, Gathering] = {}
        self._number = 0

    def begin(self, asker: int, request: int, clients: set[int], deadline_s: float) -> int:
        """Open a question to *clients*; return its number."""
        self._number += 1
        self._open[self._number] = Gathering(asker, request, deadline_s, set(clients))
        return self._number

    def answered(self, number: int, client: int, answer: Any) -> Gathering | None:
        """Take an answer; return the question if it was the last."""
        gathering = self._open.get(number)
        if gathering is None or client not in gathering.waiting:
            return None  # too late
        gathering.answers.append((client, answer))
        return self._without(number, client)

    def client_gone(self, client: int) -> list[Gathering]:
        """A client left; return the questions that waited for nobody else."""
        for number in [number for number, gathering in self._open.items() if gathering.asker == client]:
            del self._open[number]
        waiting = [number for number, gathering in self._open.items() if client in gathering.waiting]
        return [done for number in waiting if (done := self._without(number, client)) is not None]

    def overdue(self, now_s: float) -> list[Gathering]:
        """Return the questions whose time is over, and close them; whoever still waits is in `waiting`."""
        late = [number for number, gathering in self._open.items() if gathering.deadline_s <= now_s]
        return [self._open.pop(number) for number in late]

    def next_deadline_s(self) -> float | None:
        return min((gathering.deadline_s for gathering in self._open.values()), default=None)

    def _without(self, number: int, client: int) -> Gathering | None:
        gathering = self._open[number]
        gathering.waiting.discard(client)
        return None if gathering.waiting else self._open.pop(number)
