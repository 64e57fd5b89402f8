"""How much of a flood is shown: a burst, then a trickle, and a count of the rest."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jray._core.frontend import Output, OutputKind
from jray.notebook.outbox import Outbox
from jray.notebook.throttle import Limits, Throttle, limits_from_environ

FEW = Limits(lines=5, lines_per_s=1, characters=200, characters_per_s=20, newest=2, tell_s=1.0, displays=2)


def said(text: str, *, task: str = "aa", kind: str = OutputKind.STDOUT) -> Output:
    return Output(1, kind, text, None, f"f_{task}", 9, task)


def displayed(value: int) -> Output:
    return Output(1, OutputKind.DISPLAY, "", {"data": {"text/plain": str(value)}}, "f", 9, "aa")


def numbers(first: int, last: int) -> str:
    return "".join(f"{n}\n" for n in range(first, last))


def test_the_first_lines_are_shown_and_the_rest_is_counted_with_the_newest() -> None:
    """Within the burst everything; beyond it one line says how many, then come the newest."""
    box = Outbox(limits=FEW)
    box.add(said(numbers(0, 100)), now_s=0)
    assert "".join(m.text for m in box.take(now_s=0)) == numbers(0, 5)
    assert box.has_tails()
    assert box.take(now_s=0.5, everything=True) == []
    (message,) = box.take(now_s=1)
    assert message.text == "[jray] 93 lines held back - %jray logs aa\n98\n99\n"
    assert not box


def test_the_count_is_no_flood_itself() -> None:
    """While a flood goes on it is told once a second."""
    box = Outbox(limits=FEW)
    told = 0
    for step in range(1000):
        box.add(said(numbers(0, 10)), now_s=step / 100)
        told += sum(m.text.count("held back") for m in box.take(now_s=step / 100, everything=True))
    assert told == 9


def test_the_end_of_a_cell_tells_what_was_held_back() -> None:
    """Nobody waits for the second to pass."""
    box = Outbox(limits=FEW)
    box.add(said(numbers(0, 7), task="bb"), now_s=0)
    box.add(said(numbers(7, 100), task="aa"), now_s=0)
    (message,) = box.take(now_s=0, everything=True, final=True)
    assert message.text.startswith(numbers(0, 5))
    assert "[jray] 93 lines held back of 2 tasks - %jray logs\n98\n99\n" in message.text


def test_a_quiet_cell_may_burst_again() -> None:
    """Tokens come back with time."""
    box = Outbox(limits=FEW)
    box.add(said(numbers(0, 5)), now_s=0)
    box.add(said(numbers(5, 10)), now_s=10)
    assert "".join(m.text for m in box.take(now_s=10)) == numbers(0, 10)


def test_a_very_long_line_is_held_back_and_shown_in_part() -> None:
    """Bytes count as lines do."""
    box = Outbox(limits=FEW)
    box.add(said("x" * 5000 + "\n"), now_s=0)
    (message,) = box.take(now_s=0, everything=True, final=True)
    assert message.text == "x" * 1000 + "... (4 000 more characters)\n"


def test_displays_have_limits_of_their_own() -> None:
    """The first and the newest are shown."""
    box = Outbox(limits=FEW)
    for value in range(10):
        box.add(displayed(value), now_s=0)
    messages = box.take(now_s=0, everything=True, final=True)
    assert [(m.data or {})["data"]["text/plain"] for m in messages if not m.stream] == ["0", "1", "9"]
    assert [m.text for m in messages if m.stream] == ["[jray] 7 displays held back - %jray logs aa\n"]


def test_changing_streams_costs_messages() -> None:
    """Lines that alternate need a message each, and these are limited, too."""
    box = Outbox(limits=Limits())
    for number in range(2000):
        kind = OutputKind.STDOUT if number % 2 else OutputKind.STDERR
        box.add(said(f"{number}\n", kind=kind), now_s=0)
    assert len(box.take(now_s=0, everything=True, final=True)) < 250


def test_without_limits_everything_is_shown() -> None:
    """As where output is to be the same in every run."""
    box = Outbox(is_ordered=True)
    box.add(said(numbers(0, 100_000)), now_s=0)
    assert "".join(m.text for m in box.take(now_s=0, everything=True)) == numbers(0, 100_000)


def test_the_limit_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment; 0 is none, and what is no number is refused by the variable's name."""
    monkeypatch.delenv("JRAY_OUTPUT_LINES_PER_S", raising=False)
    assert limits_from_environ() == Limits()
    monkeypatch.setenv("JRAY_OUTPUT_LINES_PER_S", "0")
    assert limits_from_environ() is None
    monkeypatch.setenv("JRAY_OUTPUT_LINES_PER_S", "400")
    limits = limits_from_environ()
    assert limits is not None
    assert (limits.lines, limits.lines_per_s) == (10_000, 400)
    for wrong in ("many", "-1", "nan"):
        monkeypatch.setenv("JRAY_OUTPUT_LINES_PER_S", wrong)
        with pytest.raises(ValueError, match="JRAY_OUTPUT_LINES_PER_S"):
            limits_from_environ()


def test_equal_notices_are_counted() -> None:
    """The first in full, of the others how many; another kind is another."""
    box = Outbox()
    for same in ("f: ValueError: a", "f: ValueError: a", "f: ValueError: b", "f: ValueError: a"):
        box.add(Output(1, OutputKind.NOTICE, f"Unhandled {same}", {"same": same}, "jray", 0, ""), now_s=0)
    assert [m.text for m in box.take(now_s=0.5)] == [
        "Unhandled f: ValueError: a\nUnhandled f: ValueError: b\n"
    ]
    assert box.has_tails()
    assert [m.text for m in box.take(now_s=1)] == ["[jray] the same in 2 more: f: ValueError: a\n"]
    assert not box


writes = st.lists(
    st.tuples(
        st.integers(1, 30),  # lines
        st.sampled_from([0.0, 0.1, 0.7, 3.0]),  # seconds since the last
        st.booleans(),  # whether it is taken then
    ),
    max_size=40,
)


@settings(deadline=None)
@given(writes)
def test_shown_and_held_back_are_all_there_was_in_order_and_bounded(
    steps: list[tuple[int, float, bool]],
) -> None:
    """Whatever is written when: no line is lost from the count, none changes place, and the rate is kept."""
    throttle: Throttle[int] = Throttle(FEW, 0.0)
    now_s, written = 0.0, 0
    shown: list[int] = []
    held = told = 0

    def tell() -> None:
        nonlocal held, told
        found = throttle.tell(now_s)
        held += found.lines
        told += 1
        shown.extend(int(line) for _, line in found.newest)

    for lines, pause_s, takes in steps:
        now_s += pause_s
        text = numbers(written, written + lines)
        written += lines
        admitted = throttle.admit(0, "aa", text, now_s)
        assert text.startswith(admitted)
        assert not admitted or admitted.endswith("\n")
        shown.extend(map(int, admitted.split()))
        if takes and throttle.is_due(now_s):
            tell()
    if throttle.is_holding:
        tell()
    assert len(shown) + held == written
    assert shown == sorted(set(shown))
    assert len(shown) <= FEW.lines + FEW.lines_per_s * now_s + FEW.newest * told
