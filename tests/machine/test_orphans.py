"""The objects of a dead owner stay as long as somebody may look at them, and no longer."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jray._core.machine.orphans import Orphans


def test_without_anybody_to_ask_all_is_free_at_once() -> None:
    """Objects of an owner that nobody else shared a cluster with are free when it dies."""
    orphans = Orphans()
    assert orphans.owner_died(1, [b"a", b"b"], []) == [b"a", b"b"]
    assert orphans.held() == 0


def test_an_object_waits_for_every_answer() -> None:
    """It is free only when the last client has said that it does not hold it."""
    orphans = Orphans()
    assert orphans.owner_died(1, [b"a"], [2, 3]) == []
    assert orphans.answered(2, 1, []) == []
    assert orphans.answered(3, 1, []) == [b"a"]


def test_a_held_object_is_free_when_it_is_dropped() -> None:
    """A view keeps it; dropping the view frees it, once."""
    orphans = Orphans()
    orphans.owner_died(1, [b"a", b"b"], [2])
    assert orphans.answered(2, 1, [b"a"]) == [b"b"]
    assert orphans.dropped(2, [b"a"]) == [b"a"]
    assert orphans.dropped(2, [b"a"]) == []


def test_a_dead_holder_holds_nothing() -> None:
    """The death of the last that held an object, or had not answered, frees it."""
    orphans = Orphans()
    orphans.owner_died(1, [b"a"], [2, 3])
    orphans.answered(2, 1, [b"a"])
    assert orphans.client_gone(3) == []
    assert orphans.client_gone(2) == [b"a"]


class OrphansProgram(RuleBasedStateMachine):
    """Random deaths, answers and drops against a plain account of who may hold what."""

    def __init__(self) -> None:
        super().__init__()
        self.orphans = Orphans()
        self.alive = set(range(6))
        self.may_hold: dict[bytes, set[int]] = {}
        self.owner_of: dict[bytes, int] = {}
        self.made = 0

    def _expect(self, freed: list[bytes]) -> None:
        gone = [object_id for object_id, holders in self.may_hold.items() if not holders]
        assert sorted(freed) == sorted(gone)
        for object_id in gone:
            del self.may_hold[object_id]

    @rule(owner=st.integers(0, 5), count=st.integers(0, 3))
    def die(self, owner: int, count: int) -> None:
        if owner not in self.alive:
            return
        self.alive.discard(owner)
        for holders in self.may_hold.values():
            holders.discard(owner)
        self._expect(self.orphans.client_gone(owner))
        ids = [f"{self.made + n}".encode() for n in range(count)]
        self.made += count
        for object_id in ids:
            self.may_hold[object_id] = set(self.alive)
            self.owner_of[object_id] = owner
        self._expect(self.orphans.owner_died(owner, ids, self.alive))

    @rule(client=st.integers(0, 5), owner=st.integers(0, 5), data=st.data())
    def answer(self, client: int, owner: int, data: st.DataObject) -> None:
        if client not in self.alive:
            return
        asked = sorted(i for i in self.may_hold if self.owner_of[i] == owner and client in self.may_hold[i])
        held = data.draw(st.lists(st.sampled_from(asked), unique=True)) if asked else []
        for object_id in set(asked) - set(held):
            self.may_hold[object_id].discard(client)
        self._expect(self.orphans.answered(client, owner, held))

    @rule(client=st.integers(0, 5), data=st.data())
    def drop(self, client: int, data: st.DataObject) -> None:
        mine = sorted(i for i, holders in self.may_hold.items() if client in holders)
        dropped = data.draw(st.lists(st.sampled_from(mine), unique=True)) if mine else []
        for object_id in dropped:
            self.may_hold[object_id].discard(client)
        self._expect(self.orphans.dropped(client, dropped))

    @invariant()
    def the_account_agrees(self) -> None:
        assert self.orphans.held() == len(self.may_hold)


TestOrphansProgram = OrphansProgram.TestCase
