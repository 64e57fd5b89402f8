"""What tasks on Ray write: in the cell that submitted them, in order, and before `get` returns."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import jray


@jray.remote
def say(*words: str) -> None:
    for word in words:
        print(word)


@pytest.fixture(scope="module", params=["member", "client"])
def shown(head: Any, request: pytest.FixtureRequest) -> Iterator[None]:
    """A session whose tasks' output is shown."""
    jray.init(head.address if request.param == "member" else head.remote_address, engine="ray")
    yield
    jray.shutdown()


@pytest.mark.usefixtures("shown")
def test_output_is_there_when_get_returns(recorder: Any) -> None:
    """What a task printed has been shown before its value is given, in the order it was printed."""
    for round_ in range(5):
        jray.get(say.remote(f"{round_} one", f"{round_} two"))
        assert recorder.text().endswith(f"{round_} one\n{round_} two\n")


@pytest.mark.usefixtures("shown")
def test_output_goes_to_the_cell_that_submitted(recorder: Any) -> None:
    """A task's output carries the cell that ran when it was submitted, also of tasks that it starts itself."""

    @jray.remote
    def parent(word: str) -> None:
        jray.get(say.remote(f"child of {word}"))
        print(f"parent {word}")

    recorder.cell = 1
    first = parent.remote("first")
    recorder.cell = 2
    second = parent.remote("second")
    recorder.cell = 3
    jray.get([first, second])
    assert recorder.text(1) == "child of first\nparent first\n"
    assert recorder.text(2) == "child of second\nparent second\n"
    assert recorder.text(3) == ""


@pytest.mark.usefixtures("shown")
def test_numbers_of_tasks_count_up(recorder: Any) -> None:
    """Ids of output begin with a number that grows with each call, so that a front end can order them."""
    recorder.cell = 1
    jray.get([say.remote(str(number)) for number in range(6)])
    by_id = sorted(recorder.outputs, key=lambda output: output.task_id)
    assert [output.text for output in by_id] == [f"{number}\n" for number in range(6)]


@pytest.mark.usefixtures("shown")
def test_every_way_to_write_is_shown(recorder: Any) -> None:
    """What goes to stderr, and what C code and child processes write, is shown as well."""

    @jray.remote
    def write() -> None:
        print("printed")
        print("complained", file=sys.stderr)
        subprocess.run(["/bin/sh", "-c", "echo child; echo child complained >&2"], check=True)

    jray.get(write.remote())
    assert recorder.text() == "printed\nchild\n"
    assert recorder.text(kind="stderr") == "complained\nchild complained\n"
    assert {output.task_name for output in recorder.outputs} == {"write"}


@pytest.mark.usefixtures("shown")
def test_an_actor_writes_to_the_cell_of_each_call(recorder: Any) -> None:
    """Each call's output goes to its own cell, also where calls of an async actor overlap."""

    @jray.remote
    class Talker:
        def __init__(self) -> None:
            print("made")
            self.both = asyncio.Event()
            self.count = 0

        async def talk(self, word: str) -> None:
            print(word, "begins")
            self.count += 1
            if self.count == 2:
                self.both.set()
            await self.both.wait()
            print(word, "ends")

    recorder.cell = 1
    talker = Talker.remote()
    recorder.cell = 2
    first = talker.talk.remote("first")
    recorder.cell = 3
    jray.get([first, talker.talk.remote("second")])
    assert recorder.text(1) == "made\n"
    assert recorder.text(2) == "first begins\nfirst ends\n"
    assert recorder.text(3) == "second begins\nsecond ends\n"


@pytest.mark.usefixtures("shown")
def test_what_a_task_displays_is_shown_in_its_cell_between_its_prints(recorder: Any) -> None:
    """With `display` as a builtin and as IPython has it, in tasks and in calls of actors; the value comes after."""

    @jray.remote
    def show(word: str) -> int:
        print("before", word)
        display({"text/html": f"<b>{word}</b>"}, raw=True)  # type: ignore[name-defined]  # noqa: F821
        print("after", word)
        return len(word)

    @jray.remote
    class Shower:
        def show(self, word: str) -> None:
            from IPython.display import HTML, display  # noqa: PLC0415 -- as a user's task does

            handle = display(HTML(f"<i>{word}</i>"), display_id=True)
            handle.update(HTML(f"<u>{word}</u>"))

    recorder.cell = 1
    first = show.remote("one")
    recorder.cell = 2
    assert jray.get([show.remote("three"), first]) == [5, 3]
    for cell, word in ((1, "one"), (2, "three")):
        assert [output.text or output.data["data"] for output in recorder.outputs if output.cell == cell] == [
            f"before {word}\n",
            {"text/html": f"<b>{word}</b>"},
            f"after {word}\n",
        ]
    recorder.cell = 3
    shower = Shower.remote()
    jray.get(shower.show.remote("four"))
    made, updated = [output.data for output in recorder.outputs if output.cell == 3]
    assert made["data"]["text/html"] == "<i>four</i>"
    assert updated["data"]["text/html"] == "<u>four</u>"
    assert updated["update"]
    assert made["transient"] == updated["transient"]


@pytest.mark.usefixtures("shown")
def test_a_figure_of_a_task_is_shown(recorder: Any) -> None:
    """plt.show() sends what a notebook's would show."""
    pytest.importorskip("matplotlib")

    @jray.remote
    def plot() -> None:
        import matplotlib.pyplot as plt  # noqa: PLC0415 -- as a user's task does

        plt.plot([1, 2])
        plt.show()

    recorder.cell = 1
    jray.get(plot.remote())
    (output,) = [output for output in recorder.outputs if output.kind == "display"]
    assert output.cell == 1
    assert "image/png" in output.data["data"]


@pytest.mark.usefixtures("shown")
def test_a_generator_writes_before_its_items(recorder: Any) -> None:
    """What a generator prints on the way to an item has been shown when the item is there."""

    @jray.remote
    def items() -> Iterator[int]:
        for number in range(3):
            print("item", number)
            yield number

    for number, ref in enumerate(items.remote()):
        assert jray.get(ref) == number
        assert f"item {number}\n" in recorder.text()


@pytest.mark.usefixtures("shown")
def test_output_of_a_failed_task_is_shown(recorder: Any) -> None:
    """What a task wrote before it raised has been shown when the error is there."""

    @jray.remote
    def fail() -> None:
        print("last words")
        raise LookupError

    with pytest.raises(LookupError):
        jray.get(fail.remote())
    assert recorder.text() == "last words\n"


@pytest.mark.usefixtures("no_session")
def test_output_can_be_switched_off(head: Any, recorder: Any) -> None:
    """With log_to_driver=False nothing is shown, and nothing waits for it."""
    jray.init(head.address, engine="ray", log_to_driver=False)
    jray.get(say.remote("unheard"))
    assert recorder.outputs == []
