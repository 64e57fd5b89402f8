"""Which worker ends when memory is low."""

from __future__ import annotations

from jray._core.machine.memory import Held, MemoryWatch, Victim

A, B, C = b"a", b"b", b"c"


def test_nothing_ends_below_the_threshold() -> None:
    watch = MemoryWatch(0.9)
    assert watch.choose(0.0, 90, 100, [Held(A, 1, 1, 50)]) is None


def test_the_newest_task_ends_and_runs_again_if_its_owner_has_others() -> None:
    watch = MemoryWatch(0.9)
    held = [Held(A, 1, 1, 50), Held(B, 1, 3, 10), Held(C, 2, 2, 10)]
    assert watch.choose(0.0, 91, 100, held) == Victim(B, runs_again=True)


def test_an_owners_last_task_does_not_run_again() -> None:
    watch = MemoryWatch(0.9)
    assert watch.choose(0.0, 91, 100, [Held(A, 1, 1, 50), Held(C, 2, 2, 10)]) == Victim(C, runs_again=False)


def test_actors_end_only_when_there_is_no_task_and_the_largest_first() -> None:
    watch = MemoryWatch(0.9)
    held = [Held(A, 1, 0, 10), Held(B, 1, 0, 50)]
    assert watch.choose(0.0, 91, 100, [*held, Held(C, 1, 5, 1)]) == Victim(C, runs_again=False)
    watch = MemoryWatch(0.9)
    assert watch.choose(0.0, 91, 100, held) == Victim(B, runs_again=True)


def test_the_next_waits_until_the_last_is_gone_and_its_memory_had_time_to_come_back() -> None:
    watch = MemoryWatch(0.9, settle_s=1.0)
    held = [Held(A, 1, 1, 50), Held(B, 1, 2, 50)]
    assert watch.choose(0.0, 95, 100, held) == Victim(B, runs_again=True)
    assert watch.choose(5.0, 95, 100, held) is None
    assert watch.choose(6.0, 95, 100, held[:1]) is None
    assert watch.choose(6.9, 95, 100, held[:1]) is None
    assert watch.choose(7.1, 95, 100, held[:1]) == Victim(A, runs_again=False)
