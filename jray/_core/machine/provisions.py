"""Decides which parts of runtime environments a node makes, for whom, and which it removes.  Pure.

An environment is made of parts (an unpacked package, a virtual environment, an interpreter that runs), each known by
a key that says what is in it, so that whoever wants the same has the same.

    (unknown) --wanted--> QUEUED --its needs are there--> MAKING --made--> READY --removed, lost--> (unknown)
                             |                              |
                             +--nobody waits any more-------+--failed--> (unknown)

Waiters are told `Ready` or `Failed` once, and have a while to use what they waited for.  What somebody uses, waits for
or was just told of is never removed, nor what these need: an environment larger than the quota can be used, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Sequence

QUEUED = "QUEUED"
MAKING = "MAKING"
READY = "READY"
#: what a waiter was told of is kept for it so long
_HELD_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One part of an environment."""

    key: str
    needs: tuple[
        str, ...
    ] = ()  #: keys of what must be there before it can be made, and as long as it is there
    keep_s: float | None = (
        None  #: is removed when nobody has used it for so long; None: when its room is needed
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Make:
    """Make this part; `made` or `failed` follows."""

    part: Part


@dataclasses.dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this part any more: stop making it.  Nothing follows."""

    key: str


@dataclasses.dataclass(frozen=True, slots=True)
class Remove:
    """Give up this part, which is there."""

    key: str


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """All that this waiter wants is there."""

    waiter: Hashable


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """Something that this waiter wants can't be made."""

    waiter: Hashable
    reason: str


Action = Make | Cancel | Remove | Ready | Failed


@dataclasses.dataclass(slots=True, eq=False)
class _Record:
    part: Part
    state: str = QUEUED
    size: int = 0
    used_s: float = 0.0
    #: in the order they came
    waiters: dict[Hashable, None] = dataclasses.field(default_factory=dict)
    users: set[Hashable] = dataclasses.field(default_factory=set)


@dataclasses.dataclass(frozen=True, slots=True)
class _Holder:
    """As a user of parts: a waiter that was told of them."""

    waiter: Hashable


@dataclasses.dataclass(slots=True, eq=False)
class _Wait:
    keys: tuple[str, ...]
    deadline_s: float | None


class Provisions:
    """The parts on one node.  Each event returns the actions to carry out, in order.

    Parts that nobody uses stay until all together have more than `quota_bytes`; at most `most_at_once` are being made.
    """

    def __init__(self, quota_bytes: int, most_at_once: int) -> None:
        self._quota_bytes = quota_bytes
        self._most_at_once = most_at_once
        self._records: dict[str, _Record] = {}
        self._waits: dict[Hashable, _Wait] = {}
        self._uses: dict[Hashable, tuple[str, ...]] = {}
        #: waiters that were told, and until when what they waited for is held for them
        self._held: dict[Hashable, float] = {}

    # -- who wants what ---------------------------------------------------------------------------

    def want(
        self, waiter: Hashable, parts: Sequence[Part], *, now_s: float, deadline_s: float | None
    ) -> list[Action]:
        """Somebody waits for these parts, each after what it needs; who waits already goes on to wait for the same."""
        if waiter in self._waits:
            return []
        self._waits[waiter] = _Wait(tuple(part.key for part in parts), deadline_s)
        for part in parts:
            self._records.setdefault(part.key, _Record(part)).waiters[waiter] = None
        return self._settle([waiter], now_s) + self._go_on()

    def give_up(self, waiter: Hashable) -> list[Action]:
        """Somebody waits no more, nor needs what it was told of."""
        self._let_go(waiter)
        return self._stop_waiting(waiter) + self._go_on()

    def overdue(self, now_s: float) -> list[Action]:
        """Fail those who have waited too long."""
        late = [
            waiter
            for waiter, wait in self._waits.items()
            if wait.deadline_s is not None and wait.deadline_s <= now_s
        ]
        actions: list[Action] = []
        for waiter in late:
            actions += [*self._stop_waiting(waiter), Failed(waiter, "")]
        return actions + self._go_on()

    def use(self, user: Hashable, waiter: Hashable, keys: Iterable[str], *, now_s: float) -> bool:
        """Somebody, for whom *waiter* may have waited, uses these parts from now on; tell whether all are there."""
        keys = tuple(keys)
        if not all(self._is_ready(key) for key in keys):
            return False
        self._hold(user, keys, now_s)
        self._let_go(waiter)
        return True

    def release(self, user: Hashable, *, now_s: float) -> list[Action]:
        """Somebody uses nothing any more."""
        for key in self._drop(user):
            self._records[key].used_s = now_s
        return self._make_room()

    # -- what becomes of parts --------------------------------------------------------------------

    def made(self, key: str, size: int, *, now_s: float) -> list[Action]:
        """A part is there, and takes so many bytes of disk."""
        record = self._records.get(key)
        if record is None or record.state != MAKING:
            return []
        record.state, record.size, record.used_s = READY, size, now_s
        return self._settle(list(record.waiters), now_s) + self._go_on()

    def failed(self, key: str, reason: str) -> list[Action]:
        """A part can't be made."""
        record = self._records.get(key)
        if record is None or record.state != MAKING:
            return []
        waiters = list(record.waiters)
        del self._records[key]
        actions: list[Action] = []
        for waiter in waiters:
            actions += [*self._stop_waiting(waiter), Failed(waiter, reason)]
        return actions + self._go_on()

    def lost(self, key: str) -> list[Action]:
        """A part that was there is no more: an interpreter's process has died.  Who waits has it made again."""
        record = self._records.get(key)
        if record is None or record.state != READY:
            return []
        for user in record.users:
            self._uses[user] = tuple(used for used in self._uses[user] if used != key)
        record.users.clear()
        record.state, record.size = QUEUED, 0
        if not record.waiters:
            del self._records[key]
        return self._go_on()

    def tick(self, *, now_s: float) -> list[Action]:
        """Remove what is kept for a while only, and nobody has used for that long."""
        for waiter in [waiter for waiter, until_s in self._held.items() if until_s <= now_s]:
            self._let_go(waiter)
        old = [
            record
            for record in self._records.values()
            if record.part.keep_s is not None
            and record.state == READY
            and not self._is_needed(record)
            and now_s - record.used_s >= record.part.keep_s
        ]
        return [*(self._remove(record) for record in old), *self._make_room()]

    # -- questions --------------------------------------------------------------------------------

    def waiters(self, key: str) -> list[Hashable]:
        """Return who waits for that part."""
        record = self._records.get(key)
        return [] if record is None else list(record.waiters)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there, nor wanted."""
        return not self._records

    def interested(self) -> list[Hashable]:
        """Return who waits for something, or was just told of it."""
        return [*self._waits, *(waiter for waiter in self._held if waiter not in self._waits)]

    def next_deadline_s(self) -> float | None:
        """Return when `overdue` or `tick` has something to do, if nothing else happens before."""
        moments = [wait.deadline_s for wait in self._waits.values() if wait.deadline_s is not None]
        moments += self._held.values()
        moments += [
            record.used_s + record.part.keep_s
            for record in self._records.values()
            if record.part.keep_s is not None and record.state == READY and not self._is_needed(record)
        ]
        return min(moments, default=None)

    @property
    def size(self) -> int:
        """How many bytes all parts have."""
        return sum(record.size for record in self._records.values())

    def rows(self) -> list[tuple[str, str, int, int]]:
        """Return (key, state, bytes, number of users) of each part."""
        return [(key, record.state, record.size, len(record.users)) for key, record in self._records.items()]

    def check_invariants(self) -> None:
        """Raise AssertionError unless the books agree with each other."""
        making = [record for record in self._records.values() if record.state == MAKING]
        assert len(making) <= self._most_at_once, "too much at once"
        for key, record in self._records.items():
            assert record.part.key == key, "a part under another's key"
            assert record.state == READY or record.waiters, f"{key} is {record.state} for nobody"
            assert record.state == READY or not record.users, f"{key} is used and {record.state}"
            assert all(key in self._waits[waiter].keys for waiter in record.waiters), "waiters miscounted"
            assert all(key in self._uses[user] for user in record.users), "users miscounted"
            if record.state != QUEUED:
                assert all(self._is_ready(need) for need in record.part.needs), f"{key} lacks what it needs"
        for waiter, wait in self._waits.items():
            assert all(waiter in self._records[key].waiters for key in wait.keys), "waits miscounted"
            assert not all(self._is_ready(key) for key in wait.keys), "waits for what is there"
        for user, keys in self._uses.items():
            assert all(user in self._records[key].users for key in keys), "uses miscounted"
        assert all(_Holder(waiter) in self._uses for waiter in self._held), "held for nobody"
        assert self.size <= self._quota_bytes or not self._spare(), "too much is kept"
        if len(making) < self._most_at_once:
            assert not any(self._can_be_made(record) for record in self._records.values()), "nobody makes it"

    # -- inside -----------------------------------------------------------------------------------

    def _is_ready(self, key: str) -> bool:
        record = self._records.get(key)
        return record is not None and record.state == READY

    def _can_be_made(self, record: _Record) -> bool:
        return record.state == QUEUED and all(self._is_ready(need) for need in record.part.needs)

    def _is_needed(self, record: _Record) -> bool:
        """Tell whether somebody uses it or waits for it, or another part that is there needs it."""
        key = record.part.key
        return bool(
            record.users
            or record.waiters
            or any(key in other.part.needs for other in self._records.values() if other.state != QUEUED)
        )

    def _go_on(self) -> list[Action]:
        return self._make_what_can_be() + self._make_room()

    def _make_what_can_be(self) -> list[Action]:
        room = self._most_at_once - sum(record.state == MAKING for record in self._records.values())
        actions: list[Action] = []
        for record in self._records.values():
            if len(actions) < room and self._can_be_made(record):
                record.state = MAKING
                actions.append(Make(record.part))
        return actions

    def _settle(self, waiters: Iterable[Hashable], now_s: float) -> list[Action]:
        """Tell those of the waiters for whom everything is there, and hold it for them."""
        actions: list[Action] = []
        for waiter in waiters:
            keys = self._waits[waiter].keys
            if all(self._is_ready(key) for key in keys):
                self._let_go(waiter)
                self._hold(_Holder(waiter), keys, now_s)
                self._held[waiter] = now_s + _HELD_S
                actions += [*self._stop_waiting(waiter), Ready(waiter)]
        return actions

    def _hold(self, user: Hashable, keys: tuple[str, ...], now_s: float) -> None:
        self._uses[user] = keys
        for key in keys:
            self._records[key].users.add(user)
            self._records[key].used_s = now_s

    def _let_go(self, waiter: Hashable) -> None:
        """What was held for a waiter that was told is held no longer."""
        if self._held.pop(waiter, None) is not None:
            self._drop(_Holder(waiter))

    def _drop(self, user: Hashable) -> tuple[str, ...]:
        keys = self._uses.pop(user, ())
        for key in keys:
            self._records[key].users.discard(user)
        return keys

    def _stop_waiting(self, waiter: Hashable) -> list[Action]:
        wait = self._waits.pop(waiter, None)
        actions: list[Action] = []
        for key in () if wait is None else wait.keys:
            record = self._records.get(key)
            if record is None:
                continue
            record.waiters.pop(waiter, None)
            if record.state != READY and not record.waiters:
                del self._records[key]
                if record.state == MAKING:
                    actions.append(Cancel(key))
        return actions

    def _spare(self) -> list[_Record]:
        """Return what may be removed to make room, the one that was used longest ago first."""
        found = [
            record
            for record in self._records.values()
            if record.state == READY and record.size and not self._is_needed(record)
        ]
        return sorted(found, key=lambda record: record.used_s)

    def _make_room(self) -> list[Action]:
        actions: list[Action] = []
        while self.size > self._quota_bytes and (spare := self._spare()):
            actions.append(self._remove(spare[0]))
        return actions

    def _remove(self, record: _Record) -> Remove:
        del self._records[record.part.key]
        return Remove(record.part.key)
