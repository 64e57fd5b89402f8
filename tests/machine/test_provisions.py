"""What a node makes of runtime environments, for whom, and what it removes."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jray._core.machine.provisions import (
    Action,
    Cancel,
    Failed,
    Make,
    Part,
    Provisions,
    Ready,
    Remove,
)

FILES = Part("files")
PACKAGES = Part("packages", needs=("files",))
PYTHON = Part("python", needs=("packages",), keep_s=60.0)
ALL = (FILES, PACKAGES, PYTHON)


def make(quota: int = 1000, most_at_once: int = 4) -> Provisions:
    return Provisions(quota, most_at_once)


def want(
    provisions: Provisions,
    waiter: Hashable,
    *parts: Part,
    now_s: float = 0.0,
    deadline_s: float | None = None,
) -> list[Action]:
    actions = provisions.want(waiter, parts, now_s=now_s, deadline_s=deadline_s)
    provisions.check_invariants()
    return actions


def test_parts_are_made_after_what_they_need_and_once_for_all() -> None:
    """However many wait, each part is made once; all are told when the last is there."""
    provisions = make()
    assert want(provisions, "a", *ALL) == [Make(FILES)]
    for waiter in range(50):
        assert want(provisions, waiter, *ALL) == []
    assert provisions.made("files", 1, now_s=1) == [Make(PACKAGES)]
    assert provisions.made("packages", 1, now_s=2) == [Make(PYTHON)]
    ready = provisions.made("python", 0, now_s=3)
    assert {action.waiter for action in ready if isinstance(action, Ready)} == {"a", *range(50)}
    assert len(ready) == 51
    assert want(provisions, "late", *ALL) == [Ready("late")]


def test_a_failure_fails_who_waits_for_it_and_nobody_else() -> None:
    """The next who wants it has it tried again."""
    provisions = make()
    other = Part("other")
    assert want(provisions, "a", FILES, PACKAGES) == [Make(FILES)]
    assert want(provisions, "b", FILES, other) == [Make(other)]
    assert want(provisions, "c", other) == []
    assert provisions.failed("files", "no room") == [Failed("a", "no room"), Failed("b", "no room")]
    assert provisions.made("other", 1, now_s=1) == [Ready("c")]
    assert want(provisions, "a", FILES) == [Make(FILES)]


def test_what_nobody_waits_for_any_more_is_not_made() -> None:
    """What is under way is stopped; what others want goes on."""
    provisions = make()
    want(provisions, "a", FILES, PACKAGES)
    want(provisions, "b", FILES)
    assert provisions.give_up("b") == []
    assert provisions.give_up("a") == [Cancel("files")]
    assert provisions.give_up("a") == []
    assert provisions.made("files", 1, now_s=1) == []
    assert provisions.rows() == []


def test_who_has_waited_too_long_fails() -> None:
    """Each waits as long as it said, for the same part, too."""
    provisions = make()
    want(provisions, "a", FILES, deadline_s=5)
    want(provisions, "b", FILES, deadline_s=7)
    want(provisions, "c", FILES)
    assert provisions.next_deadline_s() == 5
    assert provisions.overdue(4.9) == []
    assert provisions.overdue(5) == [Failed("a", "")]
    assert provisions.overdue(8) == [Failed("b", "")]
    assert provisions.made("files", 1, now_s=9) == [Ready("c")]


def test_no_more_is_made_at_once_than_allowed() -> None:
    """The rest comes in turn."""
    provisions = make(most_at_once=2)
    parts = [Part(f"p{number}") for number in range(3)]
    assert want(provisions, "a", *parts) == [Make(parts[0]), Make(parts[1])]
    assert provisions.failed("p1", "broken") == [Cancel("p0"), Failed("a", "broken")]
    assert want(provisions, "b", *parts) == [Make(parts[0]), Make(parts[1])]
    assert provisions.made("p0", 1, now_s=1) == [Make(parts[2])]


def test_the_part_used_longest_ago_makes_room() -> None:
    """Until what is left fits the quota; what is in use stays, and so does what it needs."""
    provisions = make(quota=100)
    old, used, new = Part("old"), Part("used"), Part("new")
    for now, part in enumerate((old, used)):
        want(provisions, part.key, part, now_s=now)
        provisions.made(part.key, 50, now_s=now)
        assert provisions.use(f"worker of {part.key}", part.key, [part.key], now_s=now)
    want(provisions, "n", new)
    assert provisions.made("new", 30, now_s=9) == [Ready("n")]
    provisions.check_invariants()
    assert provisions.release("worker of old", now_s=10) == [Remove("old")]
    assert provisions.release("worker of used", now_s=11) == []
    assert provisions.size == 80
    assert not provisions.use("w", "n", ["old", "new"], now_s=12)
    assert want(provisions, "again", old) == [Make(old)]


def test_an_environment_larger_than_the_quota_can_be_used() -> None:
    """It is held for who waited until that one uses it, or has had a minute to."""
    provisions = make(quota=10)
    want(provisions, "a", FILES, PACKAGES)
    provisions.made("files", 50, now_s=1)
    assert provisions.made("packages", 50, now_s=2) == [Ready("a")]
    assert provisions.use("worker", "a", ["files", "packages"], now_s=3)
    assert provisions.release("worker", now_s=4) == [Remove("packages"), Remove("files")]
    want(provisions, "b", FILES)
    provisions.made("files", 50, now_s=5)
    assert provisions.next_deadline_s() == 65
    assert provisions.tick(now_s=64) == []
    assert provisions.tick(now_s=65) == [Remove("files")]


def test_an_interpreter_ends_when_it_was_unused_for_a_while() -> None:
    """What it needs stays, and it is started again when it is wanted again."""
    provisions = make()
    want(provisions, "a", *ALL)
    for key in ("files", "packages", "python"):
        provisions.made(key, 1, now_s=0)
    assert provisions.use("worker", "a", [part.key for part in ALL], now_s=1)
    assert provisions.tick(now_s=100) == []
    assert provisions.next_deadline_s() is None
    provisions.release("worker", now_s=100)
    assert provisions.next_deadline_s() == 160
    assert provisions.tick(now_s=160) == [Remove("python")]
    assert want(provisions, "b", *ALL) == [Make(PYTHON)]


def test_an_interpreter_that_died_is_wanted_anew() -> None:
    """Its users are gone with it."""
    provisions = make()
    want(provisions, "a", *ALL)
    for key in ("files", "packages", "python"):
        provisions.made(key, 1, now_s=0)
    provisions.use("worker", "a", [part.key for part in ALL], now_s=1)
    assert provisions.lost("python") == []
    provisions.check_invariants()
    assert not provisions.use("other", "a", [part.key for part in ALL], now_s=2)
    assert want(provisions, "a", *ALL) == [Make(PYTHON)]
    provisions.release("worker", now_s=3)
    provisions.check_invariants()


class ProvisionsProgram(RuleBasedStateMachine):
    """Plays environments, workers and the makers of parts, and keeps books of its own."""

    PARTS = (
        Part("f1"),
        Part("f2"),
        Part("p1", ("f1",)),
        Part("p2"),
        Part("i1", ("p1",), 10.0),
        Part("i2", ("p2",), 10.0),
    )
    RECIPES = ((0,), (0, 1), (0, 2, 4), (3, 5), (0, 1, 2, 4), (1, 3, 5))

    def __init__(self) -> None:
        super().__init__()
        self.provisions = Provisions(100, 2)
        self.now_s = 0.0
        self.waiting: set[int] = set()
        self.there: set[str] = set()
        self.making: set[str] = set()
        self.users: dict[str, tuple[str, ...]] = {}
        self.numbers = 0

    def keys(self, recipe: int) -> tuple[str, ...]:
        return tuple(self.PARTS[index].key for index in self.RECIPES[recipe])

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Make):
                assert action.part.key not in self.making | self.there
                assert set(action.part.needs) <= self.there
                self.making.add(action.part.key)
            elif isinstance(action, Cancel):
                self.making.remove(action.key)
            elif isinstance(action, Remove):
                self.there.remove(action.key)
                assert not any(action.key in keys for keys in self.users.values())
            elif isinstance(action, Ready):
                self.waiting.remove(action.waiter)  # type: ignore[arg-type]
                assert set(self.keys(action.waiter)) <= self.there  # type: ignore[arg-type]
            else:
                self.waiting.remove(action.waiter)  # type: ignore[arg-type]

    @rule(recipe=st.integers(0, len(RECIPES) - 1), patience_s=st.none() | st.floats(1, 20))
    def want(self, recipe: int, patience_s: float | None) -> None:
        self.waiting.add(recipe)
        deadline = None if patience_s is None else self.now_s + patience_s
        parts = [self.PARTS[index] for index in self.RECIPES[recipe]]
        self.perform(self.provisions.want(recipe, parts, now_s=self.now_s, deadline_s=deadline))

    @precondition(lambda self: self.making)
    @rule(data=st.data(), size=st.integers(0, 60))
    def made(self, data: st.DataObject, size: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.making)))
        self.making.remove(key)
        self.there.add(key)
        self.perform(self.provisions.made(key, size, now_s=self.now_s))

    @precondition(lambda self: self.making)
    @rule(data=st.data())
    def failed(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.making)))
        self.making.remove(key)
        self.perform(self.provisions.failed(key, "broken"))

    @precondition(lambda self: self.there & {"i1", "i2"})
    @rule(data=st.data())
    def lost(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.there & {"i1", "i2"})))
        self.there.remove(key)
        self.users = {user: tuple(k for k in keys if k != key) for user, keys in self.users.items()}
        self.perform(self.provisions.lost(key))

    @rule(recipe=st.integers(0, len(RECIPES) - 1))
    def use(self, recipe: int) -> None:
        self.numbers += 1
        user, keys = f"w{self.numbers}", self.keys(recipe)
        if self.provisions.use(user, recipe, keys, now_s=self.now_s):
            assert set(keys) <= self.there
            self.users[user] = keys
        else:
            assert not set(keys) <= self.there

    @precondition(lambda self: self.users)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        user = data.draw(st.sampled_from(sorted(self.users)))
        del self.users[user]
        self.perform(self.provisions.release(user, now_s=self.now_s))

    @rule(recipe=st.integers(0, len(RECIPES) - 1))
    def give_up(self, recipe: int) -> None:
        self.waiting.discard(recipe)
        self.perform(self.provisions.give_up(recipe))

    @rule(step_s=st.floats(0, 30))
    def time_passes(self, step_s: float) -> None:
        self.now_s += step_s
        self.perform(self.provisions.overdue(self.now_s))
        self.perform(self.provisions.tick(now_s=self.now_s))

    @invariant()
    def books_agree(self) -> None:
        self.provisions.check_invariants()
        assert set(self.provisions.interested()) >= self.waiting
        assert {key for key, state, _, _ in self.provisions.rows() if state == "READY"} == self.there
        assert bool(self.making) or not self.waiting, "who waits is forgotten"


TestProvisionsProgram = ProvisionsProgram.TestCase
TestProvisionsProgram.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, derandomize=True, database=None
)
