"""Copies of other nodes' objects: fetched once, kept while somebody reads, dropped when they are to be."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jray._core.machine.copies import Copies

A, B = b"a", b"b"


def test_an_object_is_fetched_once_for_all_who_want_it() -> None:
    copies = Copies()
    assert copies.wanted(A, 10, 1, 100) == "fetch"
    assert copies.wanted(A, 10, 2, 200) == "coming"
    assert copies.fetched(A) == [(1, 100), (2, 200)]
    assert copies.wanted(A, 10, 3, 300) == "here"
    assert copies.here() == [A]


def test_what_cannot_be_had_is_asked_for_anew() -> None:
    copies = Copies()
    copies.wanted(A, 10, 1, 100)
    assert copies.failed(A) == [(1, 100)]
    assert copies.released(1, [A]) == []
    assert copies.wanted(A, 10, 1, 101) == "fetch"


def test_what_is_read_stays_though_it_is_freed() -> None:
    copies = Copies()
    copies.wanted(A, 10, 1, 100)
    copies.fetched(A)
    copies.wanted(A, 10, 1, 101)
    assert copies.freed([A]) == []
    assert copies.released(1, [A]) == []  # it was asked for twice
    assert copies.released(1, [A]) == [A]
    assert A not in copies


def test_room_is_made_with_the_oldest_that_nobody_reads() -> None:
    copies = Copies()
    for number, object_id in enumerate((A, B, b"c")):
        copies.wanted(object_id, 10, 1, number)
        copies.fetched(object_id)
    copies.released(1, [A, b"c"])
    copies.wanted(A, 10, 2, 9)
    copies.released(2, [A])  # wanted last
    assert copies.evict(5) == [b"c"]
    assert copies.evict(100) == [A]
    assert copies.here() == [B]


def test_a_copy_becomes_the_object_that_was_lost() -> None:
    copies = Copies()
    copies.wanted(A, 10, 1, 100)
    assert not copies.adopted(A)  # it is still on its way
    copies.fetched(A)
    assert copies.adopted(A)
    assert copies.released(1, [A]) == []
    assert copies.evict(10) == []


IDS = st.sampled_from([b"a", b"b", b"c", b"d"])
CLIENTS = st.integers(1, 3)


class Program(RuleBasedStateMachine):
    """Whatever is asked, in whatever order: nothing that is read goes, and nothing stays that nobody can want."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = Copies()
        self.readers: dict[bytes, Counter[int]] = {}
        self.coming: set[bytes] = set()
        self.here: set[bytes] = set()
        self.freed: set[bytes] = set()
        self.requests = 0

    def _gone(self, object_ids: list[bytes]) -> None:
        for object_id in object_ids:
            assert object_id in self.here
            assert not self.readers[object_id].total(), "a copy went that somebody reads"
            self.here.discard(object_id)
            self.freed.discard(object_id)
            del self.readers[object_id]

    @rule(object_id=IDS, client=CLIENTS)
    def want(self, object_id: bytes, client: int) -> None:
        self.requests += 1
        state = self.copies.wanted(object_id, 10, client, self.requests)
        expected = "here" if object_id in self.here else "coming" if object_id in self.coming else "fetch"
        assert state == expected
        if state == "fetch":
            self.coming.add(object_id)
            self.readers[object_id] = Counter()
        self.readers[object_id][client] += 1

    @precondition(lambda self: self.coming)
    @rule(data=st.data(), is_good=st.booleans())
    def arrive(self, data: st.DataObject, is_good: bool) -> None:
        object_id = data.draw(st.sampled_from(sorted(self.coming)))
        self.coming.discard(object_id)
        if not is_good:
            self.copies.failed(object_id)
            del self.readers[object_id]
            self.freed.discard(object_id)
            return
        is_doomed = self.copies.is_doomed(object_id)
        assert is_doomed == (object_id in self.freed)
        self.copies.fetched(object_id)
        self.here.add(object_id)
        if is_doomed:
            self._gone(self.copies.freed([object_id]))

    @rule(object_id=IDS, client=CLIENTS)
    def give_back(self, object_id: bytes, client: int) -> None:
        if object_id in self.readers and self.readers[object_id][client]:
            self.readers[object_id][client] -= 1
        self._gone(self.copies.released(client, [object_id]))

    @rule(client=CLIENTS)
    def die(self, client: int) -> None:
        for readers in self.readers.values():
            readers.pop(client, None)
        self._gone(self.copies.client_gone(client))

    @rule(object_id=IDS)
    def free(self, object_id: bytes) -> None:
        if object_id in self.readers:
            self.freed.add(object_id)
        self._gone(self.copies.freed([object_id]))

    @rule(wanted=st.integers(0, 40))
    def evict(self, wanted: int) -> None:
        idle = [object_id for object_id in self.here if not self.readers[object_id].total()]
        gone = self.copies.evict(wanted)
        assert len(gone) >= min(len(idle), -(-wanted // 10))
        self._gone(gone)

    @invariant()
    def what_is_here_is_known(self) -> None:
        assert set(self.copies.here()) == self.here
        for object_id in self.freed & self.here:
            assert self.readers[object_id].total(), "a freed object's copy stays though nobody reads it"


TestProgram = Program.TestCase
TestProgram.settings = settings(stateful_step_count=40)
