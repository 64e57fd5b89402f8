"""When a head that nobody owns ends by itself."""

from __future__ import annotations

import pytest

from jray._core.machine.lifetime import Lifetime


def test_without_a_timeout_and_a_keeper_it_stays() -> None:
    """Nothing that could end it, nothing to wake up for."""
    life = Lifetime(None, 0.0)
    assert life.next_deadline_s() is None
    assert life.reason_to_end(1e9) is None


def test_it_ends_when_nobody_has_come() -> None:
    """The time without use begins with the head."""
    life = Lifetime(10.0, 5.0)
    assert life.next_deadline_s() == 15.0
    assert life.reason_to_end(14.9) is None
    assert life.reason_to_end(15.0) == "nobody has used it for 10 s"


def test_use_stops_the_clock_and_its_end_starts_it_anew() -> None:
    """What counts is the last use, not the sum; being told of the same thing twice changes nothing."""
    life = Lifetime(10.0, 0.0)
    life.used(9.0, is_in_use=True)
    assert life.next_deadline_s() is None
    assert life.reason_to_end(1e6) is None
    life.used(100.0, is_in_use=False)
    life.used(105.0, is_in_use=False)
    assert life.next_deadline_s() == 110.0
    assert life.reason_to_end(110.0)


def test_a_keeper_that_lives_ends_nothing() -> None:
    """Whatever its patience."""
    life = Lifetime(None, 0.0)
    life.kept(0.0)
    assert life.next_deadline_s() is None


def test_it_outlives_its_keeper_for_the_time_agreed() -> None:
    """And says so."""
    life = Lifetime(None, 0.0)
    life.kept(60.0)
    life.keeper_gone(100.0)
    assert life.next_deadline_s() == 160.0
    assert life.reason_to_end(159.0) is None
    assert life.reason_to_end(160.0) == "the process that kept it has been gone for 60 s"


def test_a_second_word_of_the_keepers_end_delays_nothing() -> None:
    """Its end is one."""
    life = Lifetime(None, 0.0)
    life.kept(60.0)
    life.keeper_gone(100.0)
    life.keeper_gone(150.0)
    assert life.next_deadline_s() == 160.0


def test_the_next_keeper_takes_it_over() -> None:
    """With an agreement of its own."""
    life = Lifetime(None, 0.0)
    life.kept(60.0)
    life.keeper_gone(100.0)
    life.kept(None)
    assert life.next_deadline_s() is None
    life.keeper_gone(200.0)
    assert life.next_deadline_s() is None


def test_who_computes_is_not_cut_off_by_the_keepers_end() -> None:
    """A head whose time is over ends when its last user leaves, at once."""
    life = Lifetime(None, 0.0)
    life.kept(0.0)
    life.used(1.0, is_in_use=True)
    life.keeper_gone(2.0)
    assert life.reason_to_end(1000.0) is None
    life.used(1001.0, is_in_use=False)
    assert life.next_deadline_s() == 1001.0
    assert life.reason_to_end(1001.0)


@pytest.mark.parametrize(("idle_s", "keep_s", "at"), [(5.0, 60.0, 5.0), (50.0, 2.0, 6.0)])
def test_of_two_reasons_the_first_counts(idle_s: float, keep_s: float, at: float) -> None:
    """Disuse and the keeper's end run side by side."""
    life = Lifetime(idle_s, 0.0)
    life.kept(keep_s)
    life.keeper_gone(4.0)
    assert life.next_deadline_s() == at
    assert life.reason_to_end(at)
