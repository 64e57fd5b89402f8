"""What is live: a cell's progress while it runs, and the panel with its buttons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.behaviour import support
from tools.frontends import NotebookPage

LENS = ".jray-lens"
PANEL = ".jray-panel"

START = """
import time
from pathlib import Path
import jray

context = jray.init(num_cpus=2)

@jray.remote
def nap(seconds):
    time.sleep(seconds)
    return seconds

@jray.remote
def hold(gate):
    Path(gate).touch()
    time.sleep(3600)
"""
SHUTDOWN = "jray.shutdown()"


def test_progress_is_shown_while_the_cell_runs(made: Callable[..., NotebookPage]) -> None:
    """A cell with tasks of two seconds says how many are done before it ends; what it says last stays."""
    page = made(START, "total = sum(jray.get([nap.remote(2) for _ in range(4)]))", "total", SHUTDOWN)
    page.run_cell(0)
    page.start_cell(1)
    lens = page.cell(1).locator(LENS)
    lens.wait_for()
    assert page.is_running(1)
    assert "nap" in lens.inner_text()

    support.wait_until(lambda: not page.is_running(1), what="the end of the cell")
    support.wait_until(lambda: "4" in lens.inner_text(), what=lambda: f"four tasks in {lens.inner_text()!r}")
    assert lens.count() == 1
    (answer,) = page.run_cell(2)
    assert answer["data"]["text/plain"] == "8"
    assert page.errors() == []


def test_a_cell_that_ends_at_once_shows_no_progress(made: Callable[..., NotebookPage]) -> None:
    """What is done within a second needs no display."""
    page = made(START, "jray.get([nap.remote(0) for _ in range(4)])", SHUTDOWN)
    assert page.run_all() == []
    assert page.page.locator(LENS).count() == 0


def test_progress_outlives_the_cell_that_does_not_wait(made: Callable[..., NotebookPage]) -> None:
    """Work that goes on after its cell is shown under that cell, not under the one that waits for it."""
    page = made(START, "refs = [nap.remote(2) for _ in range(4)]", "len(jray.get(refs))", SHUTDOWN)
    page.run_cell(0)
    page.run_cell(1)
    page.start_cell(2)
    page.cell(1).locator(LENS).wait_for()
    support.wait_until(lambda: not page.is_running(2), what="the end of the cell that waits")
    assert page.cell(2).locator(LENS).count() == 0
    assert page.outputs(2)[0]["data"]["text/plain"] == "4"


def test_the_panel_shows_rows_as_they_come(made: Callable[..., NotebookPage]) -> None:
    """Tasks that another cell starts appear in a panel that is open, without running its cell again."""
    page = made(START, "jray.panel()", "refs = [nap.remote(0.1) for _ in range(10)]", SHUTDOWN)
    page.run_cell(0)
    page.run_cell(1)
    panel = page.cell(1).locator(PANEL)
    panel.wait_for()
    assert "nap" not in panel.inner_text()
    page.run_cell(2)
    panel.get_by_text("nap").first.wait_for()
    assert page.errors() == []


def test_the_panel_cancels_a_task(made: Callable[..., NotebookPage], tmp_path: Path) -> None:
    """Its Cancel, confirmed, ends a task that would run for an hour."""
    gate = support.Gate(str(tmp_path / "runs"))
    asks = "type(ref.exception(timeout=60)).__name__"
    page = made(START, "jray.panel()", f"ref = hold.remote({gate.path!r})", asks, SHUTDOWN)
    page.run_cell(0)
    page.run_cell(1)
    page.run_cell(2)
    gate.wait()
    panel = page.cell(1).locator(PANEL)
    panel.get_by_text("hold").first.wait_for()

    # a row's button asks first, in place: what it would do, and Keep
    panel.get_by_role("button", name="Cancel").first.click()
    panel.get_by_role("button", name="Keep").wait_for()
    panel.locator(".jray-panel-yes").first.click()

    (answer,) = page.run_cell(3, within_s=90)
    assert answer["data"]["text/plain"] == "'TaskCancelledError'"
