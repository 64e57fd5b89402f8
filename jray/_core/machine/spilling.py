"""Decides which objects leave a full store for the disk.  Pure.

Only an object's owner knows who may be reading it, so it goes in a round of four steps: all clients are asked for
objects that nobody reads, oldest first; as many of the offered as are needed are copied to one file; their owners are
asked to take the copies for the objects; what they took is freed in the store.  Until its owner has answered, an
object is in both places, and a read of either gives the same bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Offer(NamedTuple):
    """An object that its owner could do without in the store."""

    object_id: bytes
    segment: int
    offset: int
    size: int  #: bytes


class Ask(NamedTuple):
    """Ask these clients what they can offer, up to so many bytes each."""

    round: int
    clients: tuple[int, ...]
    wanted: int


class Copy(NamedTuple):
    """Copy these to one file, in this order."""

    round: int
    offers: tuple[Offer, ...]


class Move(NamedTuple):
    """Ask a client to take the copies: those numbered `places` of the file."""

    round: int
    client: int
    places: tuple[int, ...]


class Settle(NamedTuple):
    """An owner has answered, or died: free in the store what it took, on disk what it did not."""

    round: int
    client: int
    taken: tuple[int, ...]  #: as in `Move`
    refused: tuple[int, ...]


class Ended(NamedTuple):
    """The round is over."""

    round: int
    freed: int  #: bytes


Action = Ask | Copy | Move | Settle | Ended


class Spilling:
    """One round at a time."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.round = 0  #: the one that goes on; 0: none
        self._wanted = 0
        self._asked: set[int] = set()
        self._offers: dict[int, Sequence[Offer]] = {}
        #: what is being copied or moved, and whose it is
        self._chosen: list[tuple[int, Offer]] = []
        #: owners that have not answered `Move`
        self._movers: dict[int, tuple[int, ...]] = {}
        self._is_copying = False
        self._freed = 0

    @property
    def is_asking(self) -> bool:
        return bool(self._asked)

    def begin(self, wanted: int, clients: Iterable[int]) -> list[Action]:
        """Start a round for *wanted* bytes.  Nothing may be going on."""
        assert not self.round, "a round goes on"
        self.round = next(self._numbers)
        self._wanted = wanted
        self._freed = 0
        self._offers = {}
        self._chosen = []
        self._movers = {}
        self._asked = set(clients)
        if not self._asked:
            return self._end()
        return [Ask(self.round, tuple(sorted(self._asked)), wanted)]

    def offered(self, round_: int, client: int, offers: Sequence[Offer]) -> list[Action]:
        """A client answered; late ones are ignored."""
        if round_ != self.round or client not in self._asked:
            return []
        self._asked.discard(client)
        self._offers[client] = offers
        return [] if self._asked else self._choose()

    def overdue(self) -> list[Action]:
        """Wait for offers no longer."""
        if not self._asked:
            return []
        self._asked.clear()
        return self._choose()

    def copied(self, round_: int) -> list[Action]:
        """The file is written."""
        assert round_ == self.round
        assert self._is_copying
        self._is_copying = False
        by_client: dict[int, list[int]] = {}
        for place, (client, _) in enumerate(self._chosen):
            by_client.setdefault(client, []).append(place)
        self._movers = {client: tuple(places) for client, places in by_client.items() if client}
        actions: list[Action] = [Move(round_, client, places) for client, places in self._movers.items()]
        if dead := tuple(by_client.get(0, ())):
            actions.append(Settle(round_, 0, (), dead))
        return actions if self._movers else [*actions, *self._end()]

    def failed(self, round_: int) -> list[Action]:
        """The file could not be written; all stays where it is."""
        assert round_ == self.round
        assert self._is_copying
        self._is_copying = False
        return self._end()

    def moved(self, round_: int, client: int, taken: Iterable[int]) -> list[Action]:
        """An owner took these of the copies it was asked to take."""
        places = self._movers.pop(client, None) if round_ == self.round else None
        if places is None:
            return []
        took = tuple(place for place in taken if place in places)
        refused = tuple(place for place in places if place not in took)
        self._freed += sum(self._chosen[place][1].size for place in took)
        settled = Settle(round_, client, took, refused)
        return [settled] if self._movers else [settled, *self._end()]

    def client_gone(self, client: int) -> list[Action]:
        """A client died: it offers nothing, and takes nothing."""
        if client in self._asked:
            return self.offered(self.round, client, ())
        self._offers.pop(client, None)
        if self._is_copying:
            self._chosen = [(0 if owner == client else owner, offer) for owner, offer in self._chosen]
        return self.moved(self.round, client, ())

    def _choose(self) -> list[Action]:
        """Take the oldest of each in turn until there is enough."""
        size = 0
        turns = itertools.zip_longest(
            *([(client, offer) for offer in offers] for client, offers in sorted(self._offers.items()))
        )
        for found in itertools.chain.from_iterable(turns):
            if found is None or size >= self._wanted:
                continue
            self._chosen.append(found)
            size += found[1].size
        if not self._chosen:
            return self._end()
        self._is_copying = True
        return [Copy(self.round, tuple(offer for _, offer in self._chosen))]

    def _end(self) -> list[Action]:
        ended = Ended(self.round, self._freed)
        self.round = 0
        return [ended]
