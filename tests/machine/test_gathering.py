"""Questions that all clients answer together: complete when the last has told, left or run out of time."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from jray._core.machine.gathering import Gathering, Gatherings


def test_the_last_answer_completes_a_question() -> None:
    """Also where the clients answer several questions in turns."""
    gatherings = Gatherings()
    first = gatherings.begin(1, 10, {1, 2}, 5.0)
    second = gatherings.begin(2, 20, {1}, 5.0)
    assert gatherings.answered(first, 1, {"a": 1}) is None
    done = gatherings.answered(second, 1, {"b": 2})
    assert done is not None
    assert (done.asker, done.request, done.answers) == (2, 20, [(1, {"b": 2})])
    done = gatherings.answered(first, 2, {"a": 3})
    assert done is not None
    assert done.answers == [(1, {"a": 1}), (2, {"a": 3})]
    assert gatherings.next_deadline_s() is None


def test_who_leaves_is_not_waited_for() -> None:
    """Nor is an asker answered who has left."""
    gatherings = Gatherings()
    number = gatherings.begin(1, 10, {1, 2}, 5.0)
    gatherings.begin(2, 11, {1, 2}, 5.0)
    assert gatherings.answered(number, 1, {}) is None
    (done,) = gatherings.client_gone(2)
    assert (done.asker, done.waiting) == (1, set())
    assert gatherings.next_deadline_s() is None


def test_time_is_over_for_who_stays_silent() -> None:
    """The question is answered without it, and what it says later is too late."""
    gatherings = Gatherings()
    number = gatherings.begin(1, 10, {1, 2}, 5.0)
    assert gatherings.answered(number, 1, {}) is None
    assert gatherings.overdue(4.9) == []
    (late,) = gatherings.overdue(5.0)
    assert late.waiting == {2}
    assert gatherings.answered(number, 2, {}) is None


class GatheringsProgram(RuleBasedStateMachine):
    """Every question is completed exactly once, unless its asker leaves, with the answers that came in time."""

    def __init__(self) -> None:
        super().__init__()
        self.gatherings = Gatherings()
        self.clients = {0, 1, 2, 3}
        self.now = 0.0
        #: number -> (asker, deadline, waiting, answered)
        self.open: dict[int, tuple[int, float, set[int], list[int]]] = {}

    def completed(self, number: int, done: Gathering) -> None:
        asker, _, waiting, answered = self.open.pop(number)
        assert (done.asker, done.request) == (asker, number * 7)
        assert done.waiting == waiting
        assert [client for client, _ in done.answers] == answered

    @rule(asker=st.integers(0, 3), patience=st.integers(1, 5))
    def begin(self, asker: int, patience: int) -> None:
        if asker in self.clients:
            number = self.gatherings._number + 1
            assert self.gatherings.begin(asker, number * 7, self.clients, self.now + patience) == number
            self.open[number] = (asker, self.now + patience, set(self.clients), [])

    @rule(number=st.integers(1, 30), client=st.integers(0, 3))
    def answer(self, number: int, client: int) -> None:
        done = self.gatherings.answered(number, client, {})
        if number in self.open and client in self.open[number][2]:
            self.open[number][2].discard(client)
            self.open[number][3].append(client)
            if not self.open[number][2]:
                assert done is not None
                self.completed(number, done)
                return
        assert done is None

    @rule(client=st.integers(0, 3))
    def leave(self, client: int) -> None:
        self.clients.discard(client)
        for number in [number for number, question in self.open.items() if question[0] == client]:
            del self.open[number]
        for question in self.open.values():
            question[2].discard(client)
        done = self.gatherings.client_gone(client)
        complete = [number for number, question in self.open.items() if not question[2]]
        assert len(done) == len(complete)
        for number, gathering in zip(complete, done, strict=True):
            self.completed(number, gathering)

    @rule(seconds=st.integers(0, 3))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        late = self.gatherings.overdue(self.now)
        due = [number for number, question in self.open.items() if question[1] <= self.now]
        assert len(late) == len(due)
        for number, gathering in zip(due, late, strict=True):
            self.completed(number, gathering)


TestGatheringsProgram = GatheringsProgram.TestCase
