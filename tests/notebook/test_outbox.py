"""The waiting room of output: whole lines, in order, few messages."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jray._core.frontend import Output, OutputKind
from jray.notebook.outbox import Message, Outbox


def said(
    text: str, *, cell: int = 1, task: str = "aa", kind: str = OutputKind.STDOUT, pid: int = 9
) -> Output:
    return Output(cell, kind, text, None, f"f_{task}", pid, task)


def displayed(value: str, *, cell: int = 1, task: str = "aa") -> Output:
    return Output(cell, OutputKind.DISPLAY, "", {"data": {"text/plain": value}, "metadata": {}}, "f", 9, task)


def took(messages: list[Message]) -> list[tuple[int, str, Any]]:
    return [
        (message.cell, message.stream, message.text if message.stream else message.data)
        for message in messages
    ]


def test_many_writes_become_one_message() -> None:
    """Text of one stream for one cell is gathered, whoever wrote it."""
    box = Outbox()
    for number in range(100):
        box.add(said(f"{number}\n", task=f"0{number % 3}"), now_s=0)
    (message,) = box.take(now_s=0)
    assert message.text.splitlines() == [str(number) for number in range(100)]
    assert not box


def test_cells_and_streams_are_kept_apart() -> None:
    """Each cell's messages keep the order of its writes, stream by stream."""
    box = Outbox()
    box.add(said("a\n"), now_s=0)
    box.add(said("b\n", cell=2), now_s=0)
    box.add(said("c\n", kind=OutputKind.STDERR), now_s=0)
    box.add(said("d\n", cell=2), now_s=0)
    box.add(said("e\n"), now_s=0)
    assert took(box.take(now_s=0)) == [
        (1, "stdout", "a\n"),
        (2, "stdout", "b\nd\n"),
        (1, "stderr", "c\n"),
        (1, "stdout", "e\n"),
    ]


def test_lines_of_two_tasks_never_mix() -> None:
    """An unfinished line waits for its end while others write whole ones."""
    box = Outbox()
    box.add(said("half "), now_s=0)
    box.add(said("whole\n", task="bb"), now_s=0)
    assert took(box.take(now_s=0.01)) == [(1, "stdout", "whole\n")]
    box.add(said("done\n"), now_s=0.02)
    assert took(box.take(now_s=0.03)) == [(1, "stdout", "half done\n")]


def test_an_unfinished_line_is_shown_after_a_while() -> None:
    """A prompt without a newline does not wait for ever; a later writer starts a line of its own."""
    box = Outbox(tail_age_s=0.1)
    box.add(said("> "), now_s=0)
    assert took(box.take(now_s=0.05)) == []
    assert box.has_tails()
    assert took(box.take(now_s=0.11)) == [(1, "stdout", "> ")]
    box.add(said("other\n", task="bb"), now_s=0.2)
    assert took(box.take(now_s=0.2)) == [(1, "stdout", "\nother\n")]


def test_a_line_shown_in_part_is_gone_on_with() -> None:
    """The rest of a line that was shown follows it directly."""
    box = Outbox(with_prefix=True)
    box.add(said("one"), now_s=0)
    assert took(box.take(now_s=0, everything=True)) == [(1, "stdout", "(f_aa pid=9) one")]
    box.add(said(" two\nthree\n"), now_s=0)
    assert took(box.take(now_s=0)) == [(1, "stdout", " two\n(f_aa pid=9) three\n")]


def test_a_display_stands_after_what_its_task_wrote_before() -> None:
    """Text, display, text: in that order, also when the text was no whole line."""
    box = Outbox()
    box.add(said("before"), now_s=0)
    box.add(displayed("x"), now_s=0)
    box.add(said("after\n"), now_s=0)
    messages = took(box.take(now_s=0))
    assert [kind for _, kind, _ in messages] == ["stdout", "", "stdout"]
    assert [messages[0][2], messages[2][2]] == ["before", "after\n"]


def test_prefixes_name_the_task_on_every_line() -> None:
    """With prefixes each line says who wrote it."""
    box = Outbox(with_prefix=True)
    box.add(said("a\nb\n"), now_s=0)
    assert took(box.take(now_s=0)) == [(1, "stdout", "(f_aa pid=9) a\n(f_aa pid=9) b\n")]


def test_notices_are_lines_of_stderr() -> None:
    """A word of jray's own has a line for itself, prefix or not."""
    box = Outbox(with_prefix=True)
    box.add(Output(1, OutputKind.NOTICE, "waits for 1 GPU", None, "f", 0, ""), now_s=0)
    assert took(box.take(now_s=0)) == [(1, "stderr", "waits for 1 GPU\n")]


def task_id(number: int) -> str:
    return number.to_bytes(8, "little").hex() + "ff" * 16


def test_ordered_output_does_not_depend_on_who_ran_first() -> None:
    """In the ordered mode tasks speak in the order they were submitted in, all of it at the barrier."""
    first, second = said("1a\n", task=task_id(255)), said("2\n", task=task_id(256))
    box = Outbox(is_ordered=True)
    for output in (second, first, said("1b\n", task=task_id(255))):
        box.add(output, now_s=0)
    assert took(box.take(now_s=9)) == []
    assert box
    assert took(box.take(now_s=9, everything=True)) == [(1, "stdout", "1a\n1b\n2\n")]
    assert not box


def test_ordered_output_is_let_go_before_it_fills_the_memory() -> None:
    """What is held for its order has a limit."""
    box = Outbox(is_ordered=True)
    for _ in range(5):
        box.add(said("x" * 1_000_000 + "\n"), now_s=0)
    assert box.take(now_s=0)


def test_a_line_without_end_is_shown_in_pieces() -> None:
    """A task that writes no newline cannot fill the memory."""
    box = Outbox()
    box.add(said("x" * 10_000), now_s=0)
    assert took(box.take(now_s=0)) == [(1, "stdout", "x" * 10_000)]


pieces = st.lists(
    st.tuples(
        st.sampled_from(["aa", "bb"]), st.sampled_from([1, 2]), st.text("xy\n", max_size=4), st.booleans()
    ),
    max_size=30,
)


@settings(deadline=None)
@given(pieces)
def test_nothing_is_lost_or_reordered(writes: list[tuple[str, int, str, bool]]) -> None:
    """Whatever the writes and the moments of taking: each task's text arrives in order, its lines whole."""
    box = Outbox(tail_age_s=1000)
    expected: dict[tuple[str, int], str] = {}
    shown = {1: "", 2: ""}
    for step, (task, cell, text, takes) in enumerate(writes):
        marked = text.replace("x", task[0]).replace("y", task[0].upper())
        expected[task, cell] = expected.get((task, cell), "") + marked
        box.add(said(marked, cell=cell, task=task), now_s=step * 0.06)
        if takes:
            for message in box.take(now_s=step * 0.06):
                shown[message.cell] += message.text
    for message in box.take(now_s=99, everything=True):
        shown[message.cell] += message.text
    for (task, cell), text in expected.items():
        mine = "".join(character for character in shown[cell] if character.lower() == task[0])
        assert mine == text.replace("\n", "")
        for line in text.split("\n")[:-1]:  # a whole line stands in no line of another task
            assert not line or any(line in found for found in shown[cell].split("\n"))
