"""Progress bars of tasks as a group: what is drawn, and how often."""

from __future__ import annotations

from typing import Any

from jray.notebook.bars import Bars, final_line


def state(number: int = 1, n: float = 0, kind: str = "running", **others: Any) -> dict[str, Any]:
    usual = {
        "desc": "",
        "total": 10,
        "unit": "it",
        "postfix": "",
        "initial": 0,
        "leave": True,
        "elapsed_s": 1.0,
    }
    return {"id": number, "state": kind, "n": n, **usual, **others}


def test_a_cell_has_one_display_that_is_updated() -> None:
    """Bars of several tasks share it; another cell has its own."""
    bars = Bars()
    bars.update(1, ("aa", 9), "f", state())
    (first,) = bars.take(now_s=0)
    bars.update(1, ("bb", 9), "g", state())
    bars.update(2, ("cc", 9), "h", state())
    second, other = bars.take(now_s=1)
    assert (first.data["update"], second.data["update"], other.data["update"]) == (False, True, False)
    assert first.data["transient"] == second.data["transient"] != other.data["transient"]
    assert len(second.data["data"]["text/plain"].splitlines()) == 2
    assert not bars


def test_it_is_drawn_seldom_but_the_end_is_drawn() -> None:
    """A flood of changes is a few drawings."""
    bars = Bars()
    drawn = 0
    for step in range(1000):
        bars.update(1, ("aa", 9), "f", state(n=step / 100))
        drawn += len(bars.take(now_s=step / 1000))
    assert drawn <= 6
    bars.update(1, ("aa", 9), "f", state(n=10, kind="done"))
    (last,) = bars.take(now_s=1, everything=True)
    assert "100%" in last.data["data"]["text/plain"]


def test_endings_have_colours_and_words() -> None:
    """Green for done, red for failed; who cannot see colours reads it."""
    bars = Bars()
    bars.update(1, ("aa", 9), "<f>", state(n=10, kind="done"))
    bars.update(1, ("bb", 9), "g", state(n=5, kind="failed", postfix="loss=1"))
    (drawing,) = bars.take(now_s=0)
    html, text = drawing.data["data"]["text/html"], drawing.data["data"]["text/plain"]
    assert "--jp-success-color1" in html
    assert "--jp-error-color1" in html
    assert "&lt;f&gt;" in html
    assert "<f>: 100%" in text
    assert "loss=1, failed" in text


def test_very_many_bars_are_counted() -> None:
    """Those that ended first have no row any more."""
    bars = Bars()
    for number in range(100):
        bars.update(1, (f"{number}", 9), "f", state(n=10, kind="failed" if number % 10 == 0 else "done"))
    bars.update(1, ("last", 9), "last", state())
    (drawing,) = bars.take(now_s=0)
    lines = drawing.data["data"]["text/plain"].splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 9 failed, 72 done more"
    assert any(line.startswith("last") for line in lines)


def test_a_bar_that_leaves_nothing_goes() -> None:
    """leave=False."""
    bars = Bars()
    bars.update(1, ("aa", 9), "f", state(leave=False))
    bars.update(1, ("aa", 9), "f", state(n=10, kind="done", leave=False))
    (drawing,) = bars.take(now_s=0)
    assert drawing.data["data"]["text/plain"] == ""


def test_a_line_without_times() -> None:
    """The same in every run."""
    assert final_line(state(n=10, kind="done", desc="load")) == "load: 10/10 it\n"
    assert final_line(state(n=3, kind="failed", total=None, unit="B")) == "3 B failed\n"
