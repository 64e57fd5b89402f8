"""Progress bars in drivers, terminals, notebooks and tasks."""

from __future__ import annotations

import contextlib
import io
import itertools
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jray.experimental.tqdm_ray import safe_print, tqdm
from tests.behaviour import engine
from tests.behaviour.support import start_driver

own = pytest.mark.only("jray", "Ray's bars need the package tqdm, and are not shown without it")


@pytest.fixture(autouse=True)
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """For bars of this process a look at the clock takes a microsecond, and nothing else takes any time."""
    if not engine.ON_RAY:
        looks = itertools.count()
        monkeypatch.setattr("jray.util.tqdm.monotonic", lambda: next(looks) * 1e-6)


# -- as everybody uses it ---------------------------------------------------------------------------------------


@own
def test_a_bar_passes_items_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Iterating gives the items, counts them, and ends with a full bar."""
    bar = tqdm(["a", "b", "c"], desc="letters")
    assert len(bar) == 3
    assert list(bar) == ["a", "b", "c"]
    assert bar.n == bar.total == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"letters: 100%\|█+\| 3/3 \[00:00<00:00, .*it/s\]", line)


@own
def test_a_bar_is_moved_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """update, set_description, set_postfix and close; as a context manager it closes itself."""
    with tqdm(total=10, unit="B") as bar:
        bar.update(3)
        bar.update()
        bar.set_description("sending")
        bar.set_postfix(loss=0.123456, step=2)
        assert bar.n == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sending:  40%|████      | 4/10 [")
    assert line.endswith("B/s, loss=0.123, step=2]")
    bar.close()
    assert capsys.readouterr().err == ""


def test_a_bar_has_rays_attributes() -> None:
    """n and total can be read and set; the arguments are those of Ray, in its order."""
    bar = tqdm(None, "desc", 10, "it", 0, 100.0)
    bar.update(2)
    assert (bar.n, bar.total) == (2, 10)
    bar.n, bar.total = 5, 20
    bar.refresh()
    assert (bar.n, bar.total) == (5, 20)
    bar.close()


@own
def test_a_bar_without_items_is_not_iterated() -> None:
    """ValueError that says what to do."""
    with pytest.raises(ValueError, match="nothing to iterate"):
        list(tqdm(total=3))


@own
def test_without_a_total_there_is_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    """A generator has no length: the bar counts."""
    assert list(tqdm(x for x in range(7))) == list(range(7))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("7it [00:00, ")


@own
def test_a_disabled_bar_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It counts nevertheless."""
    bar = tqdm(range(5), disable=True)
    assert list(bar) == list(range(5))
    assert capsys.readouterr().err == ""


@own
def test_a_loop_that_is_left_closes_its_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """`break` and exceptions end the bar where it is."""
    for x in tqdm(range(10)):
        if x == 4:
            break
    assert "4/10" in capsys.readouterr().err


@own
def test_lines_in_a_log_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no terminal, thousands of updates in less than a second are one line, at the end."""
    with tqdm(total=5000) as bar:
        for _ in range(5000):
            bar.update()
            if bar.n == 4999:
                assert capsys.readouterr().err == ""
    assert "5000/5000" in capsys.readouterr().err


@own
def test_lines_get_fewer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line comes after a second, the next ones after 2, 4 and 8, and then each 10."""
    now = [0.0]
    monkeypatch.setattr("jray.util.tqdm.monotonic", lambda: now[0])
    with tqdm(total=100) as bar:
        for second in range(1, 41):
            now[0] = float(second)
            bar.update()
    counts = [int(line.split(" ")[-3].partition("/")[0]) for line in capsys.readouterr().err.splitlines()]
    assert counts == [1, 3, 7, 15, 25, 35, 40]


@own
def test_the_pace_of_lines_can_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    """flush_interval_s=0 tells each change."""
    with tqdm(total=3, flush_interval_s=0) as bar:
        bar.update()
        bar.update()
    assert ["1/3" in line or "2/3" in line for line in capsys.readouterr().err.splitlines()] == [True] * 3


@own
def test_a_bar_is_not_sent() -> None:
    """A bar belongs to its process: pickling says where to make it."""
    with tqdm(total=3, disable=True) as bar, pytest.raises(TypeError, match="in the task"):
        pickle.dumps(bar)


# -- the line ---------------------------------------------------------------------------------------------------


@own
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("", 0, 4, 0.0), "  0%|          | 0/4 [00:00<?, 0.00it/s]"),
        (("", 1, 4, 2.0), " 25%|██▌       | 1/4 [00:02<00:06, 2.00s/it]"),
        (("x", 4, 4, 2.0, "B"), "x: 100%|██████████| 4/4 [00:02<00:00, 2.00B/s]"),
        (("", 5, 4, 1.0), "100%|██████████| 5/4 [00:01<?, 5.00it/s]"),
        (("", 3, None, 3700.0), "3it [1:01:40, 1233.33s/it]"),
        (("", 3, 0, 1.0), "3it [00:01, 3.00it/s]"),
        (("", 2.5, 10, 1.0, "it", "p=1"), " 25%|██▌       | 2.5/10 [00:01<00:03, 2.50it/s, p=1]"),
        (("", 6, 10, 1.0, "it", "", 4), " 60%|██████    | 6/10 [00:01<00:02, 2.00it/s]"),
    ],
)
def test_a_line_tells_all(arguments: tuple[Any, ...], line: str) -> None:
    """Part, bar, numbers, time, time left, pace, postfix."""
    from jray.util.tqdm import format_line  # noqa: PLC0415 -- Ray has none

    assert format_line(*arguments) == line


@own
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    desc=st.text(max_size=100),
    n=st.floats(0, 1e9) | st.integers(0, 10**9),
    total=st.none() | st.integers(0, 10**9),
    elapsed_s=st.floats(0, 1e6),
    width=st.integers(1, 200),
)
def test_a_line_fits(desc: str, n: float, total: int | None, elapsed_s: float, width: int) -> None:
    """Whatever the numbers are, a line is never wider than it may be."""
    from jray.util.tqdm import format_line  # noqa: PLC0415 -- Ray has none

    assert len(format_line(desc, n, total, elapsed_s, width=width)) <= width


# -- drawn live -------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A terminal, as far as the codes go that are used here."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """Return the lines that it shows."""
        lines, row, column = [""], 0, 0
        for code in re.findall(r"\x1b\[\d*[AJ]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if code == "\r":
                column = 0
            elif code == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif code.endswith("A") and code.startswith("\x1b"):
                row -= int(code[2:-1])
                assert row >= 0
            elif code == "\x1b[J":
                lines[row:] = [lines[row][:column]]
            else:
                lines[row] = lines[row].ljust(column)[:column] + code + lines[row][column + len(code) :]
                column += len(code)
        return lines


@contextlib.contextmanager
def a_terminal() -> Iterator[Terminal]:
    """A terminal in place of stderr and stdout."""
    from jray._core import frontend  # noqa: PLC0415 -- Ray has none

    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setattr(sys, "stderr", terminal)
        patch.setattr(sys, "stdout", terminal)
        try:
            yield terminal
        finally:
            frontend.set_frontend(None)


@own
def test_a_terminal_shows_open_bars_together() -> None:
    """One line each, in place; a bar that is closed stays while others go on."""
    with a_terminal() as terminal:
        one = tqdm(total=4, desc="one", flush_interval_s=0)
        two = tqdm(total=4, desc="two", flush_interval_s=0)
        for _ in range(4):
            one.update()
            two.update()
        lines = terminal.screen()
        assert [line[:10] for line in lines] == ["one: 100%|", "two: 100%|"]
        one.close()
        assert [line[:3] for line in terminal.screen()] == ["one", "two"]
        two.close()
        assert [line[:3] for line in terminal.screen()] == ["one", "two", ""]
        three = tqdm(total=4, desc="three", flush_interval_s=0)
        three.close()
        assert [line[:3] for line in terminal.screen()] == ["one", "two", "thr", ""]


@own
def test_bars_have_the_lines_they_ask_for() -> None:
    """position is the line; what is taken is given to nobody else."""
    with a_terminal() as terminal:
        lower = tqdm(total=4, desc="lower", position=2, flush_interval_s=0)
        upper = tqdm(total=4, desc="upper", flush_interval_s=0)
        other = tqdm(total=4, desc="other", position=2, flush_interval_s=0)
        assert [line[:5] for line in terminal.screen()] == ["upper", "other", "lower"]
        for bar in (lower, upper, other):
            bar.close()


@own
def test_a_bar_may_leave_nothing() -> None:
    """leave=False takes it away when it is closed."""
    with a_terminal() as terminal:
        outer = tqdm(total=2, desc="outer", flush_interval_s=0)
        for _ in range(2):
            with tqdm(total=3, desc="inner", leave=False, flush_interval_s=0) as inner:
                inner.update(3)
                assert [line[:5] for line in terminal.screen()] == ["outer", "inner"]
            outer.update()
        outer.close()
        assert [line[:5] for line in terminal.screen() if line] == ["outer"]


@own
def test_prints_stand_above_bars() -> None:
    """safe_print takes the bars away for a moment."""
    with a_terminal() as terminal:
        with tqdm(total=4, desc="bar", flush_interval_s=0) as bar:
            for n in range(3):
                bar.update()
                safe_print("line", n)
            tqdm.write("last")
            lines = terminal.screen()
        assert lines[:4] == ["line 0", "line 1", "line 2", "last"]
        assert lines[4].startswith("bar:  75%")
        assert len(lines) == 5


@own
def test_what_tasks_write_stands_above_bars() -> None:
    """The front end of the driver takes the bars away for a moment, too."""
    from jray._core.frontend import Output, get_frontend  # noqa: PLC0415 -- Ray has none

    def write(text: str) -> None:
        get_frontend().write(Output(0, "stdout", text, None, "work", 7, "id"))

    with a_terminal() as terminal:
        with tqdm(total=4, desc="bar", flush_interval_s=0) as bar:
            write("first\nsecond\nunfini")
            bar.update()
            get_frontend().flush()
            lines = terminal.screen()
        write("after\n")
        assert terminal.screen()[-2:] == ["(work pid=7) after", ""]
    assert lines[:3] == ["(work pid=7) first", "(work pid=7) second", "(work pid=7) unfini"]
    assert lines[3].startswith("bar:  25%")
    assert len(lines) == 4


@own
def test_a_live_bar_is_drawn_seldom() -> None:
    """A hundred thousand updates don't draw as often."""
    with a_terminal() as terminal:
        with tqdm(total=100_000, flush_interval_s=1000) as bar:
            for _ in range(100_000):
                bar.update()
        assert terminal.getvalue().count("\x1b[J") <= 2
        assert "100000/100000" in terminal.screen()[0]


@own
def test_a_notebook_has_one_output_for_open_bars() -> None:
    """It is made with the first bar, updated in place, and another one is made for bars after the last."""
    from jray.util.tqdm import NotebookScreen  # noqa: PLC0415 -- Ray has none

    outputs: list[list[str]] = []

    class Handle:
        def __init__(self, texts: list[str]) -> None:
            self.texts = texts

        def update(self, bundle: dict[str, str], *, raw: bool) -> None:
            assert raw
            self.texts.append(bundle["text/plain"])

    def display(bundle: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        outputs.append([bundle["text/plain"]])
        return Handle(outputs[-1])

    screen = NotebookScreen(display)
    screen.interval_s = 0

    def bar(name: str) -> Any:
        made = tqdm(total=2, desc=name, disable=True)
        made._is_closed, made._screen = False, screen
        screen.add(made, None)
        return made

    one, two = bar("one"), bar("two")
    one.update()
    two.update()
    one.close()
    two.close()
    bar("three").close()
    assert len(outputs) == 2
    assert [line[:9] for line in outputs[0][-1].splitlines()] == ["one:  50%", "two:  50%"]
    assert outputs[1][-1].startswith("three:   0%")


# -- in tasks ---------------------------------------------------------------------------------------------------

IN_TASKS = """
    import sys
    import jray
    from jray.experimental.tqdm_ray import tqdm

    jray.init(num_cpus=2)

    @jray.remote
    def work(name):
        for _ in tqdm(range(5), desc=name):
            pass
        return name

    @jray.remote
    class Worker:
        def work(self, name):
            with tqdm(total=3, desc=name, flush_interval_s=0) as bar:
                bar.update(2)

    jray.get([work.remote("first"), work.remote("second"), Worker.remote().work.remote("third")])
    jray.shutdown()
"""


@own
def test_bars_of_tasks_are_told_by_the_driver(tmp_path: Path) -> None:
    """Each comes as a line on the driver's stderr, with the name of its task where that is another process."""
    driver = start_driver(tmp_path, IN_TASKS)
    code, _, told = driver.end()
    assert code == 0
    task, actor = ("", "") if engine.ENGINE == "inline" else (r"\(work pid=\d+\) ", r"\(Worker.*pid=\d+\) ")
    assert re.search(rf"^{task}first: 100%\|█+\| 5/5", told, re.MULTILINE)
    assert re.search(rf"^{task}second: 100%\|█+\| 5/5", told, re.MULTILINE)
    assert re.search(rf"^{actor}third:  66%\|", told, re.MULTILINE)
