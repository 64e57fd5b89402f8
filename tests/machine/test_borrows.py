"""Objects lent to other processes: kept exactly as long as one of them holds a reference."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jray._core.machine.borrows import Borrows
from jray._core.machine.orphans import Orphans

X, Y = b"x", b"y"


def test_an_object_is_free_when_its_last_borrower_lets_go() -> None:
    """Each of them counts; who comes first is told so."""
    borrows = Borrows()
    assert borrows.add("a", [X, Y]) == [X, Y]
    assert borrows.add("b", [X]) == []
    assert borrows.release("a", [X, Y]) == [Y]
    assert borrows.release("b", [X]) == [X]
    assert borrows.held() == 0
    borrows.check_invariants()


def test_a_release_that_crosses_a_new_borrow_takes_back_one_of_the_two() -> None:
    """The borrower dropped its old reference, and got a new one before the owner heard of that."""
    borrows = Borrows()
    borrows.add("a", [X])
    borrows.add("a", [X])
    assert borrows.release("a", [X]) == []
    assert borrows.held() == 1


def test_a_dead_borrower_holds_nothing() -> None:
    """However often it borrowed; what it still says about that is too late."""
    borrows = Borrows()
    borrows.add("a", [X, X, Y])
    borrows.add("b", [Y])
    assert borrows.gone("a") == [X]
    assert borrows.release("a", [X, Y]) == []
    assert borrows.gone("a") == []
    assert borrows.held() == 1
    borrows.check_invariants()


def test_a_release_of_what_is_not_held_changes_nothing() -> None:
    """Neither for that borrower nor for another."""
    borrows = Borrows()
    borrows.add("a", [X])
    assert borrows.release("b", [X]) == []
    assert borrows.release("a", [Y]) == []
    assert borrows.release("a", [X, X]) == [X]
    borrows.check_invariants()


class BorrowsProgram(RuleBasedStateMachine):
    """Counts by itself what each borrower holds."""

    borrowers = st.sampled_from(["a", "b", "c"])
    ids = st.lists(st.sampled_from([b"1", b"2", b"3"]), max_size=4)

    def __init__(self) -> None:
        super().__init__()
        self.borrows = Borrows()
        self.model: Counter[tuple[str, bytes]] = Counter()

    def held(self) -> set[bytes]:
        return {ref_id for (_, ref_id), count in self.model.items() if count > 0}

    @rule(borrower=borrowers, ids=ids)
    def add(self, borrower: str, ids: list[bytes]) -> None:
        before = self.held()
        new = self.borrows.add(borrower, ids)
        self.model.update((borrower, ref_id) for ref_id in ids)
        assert new == [ref_id for ref_id in dict.fromkeys(ids) if ref_id not in before]

    @rule(borrower=borrowers, ids=ids)
    def release(self, borrower: str, ids: list[bytes]) -> None:
        before = self.held()
        free = self.borrows.release(borrower, ids)
        for ref_id in ids:
            self.model[borrower, ref_id] = max(0, self.model[borrower, ref_id] - 1)
        assert sorted(free) == sorted(before - self.held())

    @rule(borrower=borrowers)
    def gone(self, borrower: str) -> None:
        before = self.held()
        free = self.borrows.gone(borrower)
        for key in list(self.model):
            if key[0] == borrower:
                del self.model[key]
        assert sorted(free) == sorted(before - self.held())

    @invariant()
    def counts_agree(self) -> None:
        self.borrows.check_invariants()
        assert self.borrows.held() == len(self.held())

    def teardown(self) -> None:
        for borrower in ("a", "b", "c"):
            self.borrows.gone(borrower)
        assert self.borrows.held() == 0


TestBorrowsProgram = BorrowsProgram.TestCase
TestBorrowsProgram.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, database=None
)


# --- objects of dead owners -----------------------------------------------------------------------


def test_orphans_nobody_can_look_at_are_free_at_once() -> None:
    """There is nobody to ask."""
    assert Orphans().owner_died(1, [X, Y], []) == [X, Y]


def test_an_orphan_is_free_when_all_have_answered_that_they_do_not_hold_it() -> None:
    """Those who hold it drop it later; those who die count as having answered."""
    orphans = Orphans()
    assert orphans.owner_died(1, [X, Y], [2, 3]) == []
    assert orphans.answered(2, 1, [X]) == []
    assert orphans.answered(3, 1, []) == [Y]
    assert orphans.held() == 1
    assert orphans.client_gone(3) == []
    assert orphans.dropped(2, [X]) == [X]
    assert orphans.held() == 0
    assert orphans._asked == {}


def test_a_client_that_dies_frees_what_only_it_had_to_answer_for() -> None:
    """For each dead owner."""
    orphans = Orphans()
    orphans.owner_died(1, [X], [3])
    orphans.owner_died(2, [Y], [3, 4])
    assert orphans.client_gone(3) == [X]
    assert orphans.client_gone(4) == [Y]
    assert orphans._asked == {}
