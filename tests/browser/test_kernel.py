"""The buttons of the front end do to jray's work what they say: stop stops the waiting, restart ends everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.behaviour import support
from tests.browser.conftest import Bench
from tools.frontends import NotebookPage

START = """
import os, time
from pathlib import Path
import jray

context = jray.init(num_cpus=1)

@jray.remote
def hold(gate):
    Path(gate).touch()
    time.sleep(3600)

@jray.remote
def pid():
    return os.getpid()
"""
SHUTDOWN = "jray.shutdown()"


@pytest.mark.parametrize(
    ("wait", "name"),
    [
        ("jray.get(hold.remote({gate!r}))", "KeyboardInterrupt"),
        ("await hold.remote({gate!r})", "CancelledError"),
        ("ready, waiting = jray.wait([hold.remote({gate!r})])", "KeyboardInterrupt"),
    ],
    ids=["get", "await", "wait"],
)
def test_stop_ends_the_waiting_and_the_kernel_lives(
    made: Callable[..., NotebookPage], tmp_path: Path, wait: str, name: str
) -> None:
    """The cell ends with an interrupt; the kernel keeps its variables, and its cluster works on."""
    gate = support.Gate(str(tmp_path / "runs"))
    again = "context is not None, jray.get(pid.options(num_cpus=0).remote()) > 0"
    page = made(START, wait.format(gate=gate.path), again, SHUTDOWN)
    assert page.run_cell(0) == []
    page.start_cell(1)
    gate.wait()

    page.press_stop()

    support.wait_until(lambda: not page.is_running(1), what="the end of the cell")
    assert page.errors()[0].startswith(name)
    (answer,) = page.run_cell(2)
    assert answer["data"]["text/plain"] == "(True, True)"
    assert page.run_cell(3) == []


def test_restart_leaves_no_process_and_the_notebook_runs_again(
    bench: Bench, made: Callable[..., NotebookPage]
) -> None:
    """All processes of the old kernel are gone though nothing was shut down; a second run says the same."""
    actor = """
@jray.remote
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1
        return self.count

counter = Counter.remote()
[jray.get(counter.add.remote()) for _ in range(3)]
"""
    page = made(START, actor)
    assert page.run_all() == []
    first = page.outputs(1)
    old = bench.processes()
    assert len(old) > 2, f"a kernel, a head and a worker, not {old}"

    page.restart_kernel()

    support.wait_until(
        lambda: not [pid for pid in old if support.is_running(pid)],
        what=lambda: f"the end of {[old[pid] for pid in old if support.is_running(pid)]}",
    )
    assert page.run_all() == []
    assert page.outputs(1)[0]["data"] == first[0]["data"] == {"text/plain": "[1, 2, 3]"}


def test_closing_the_kernel_ends_its_cluster(bench: Bench, made: Callable[..., NotebookPage]) -> None:
    """Who shuts a kernel down without `jray.shutdown()` leaves nothing running."""
    before = bench.processes()
    page = made(START + "\njray.get(pid.remote()) > 0")
    (answer,) = page.run_cell(0)
    assert answer["data"]["text/plain"] == "True"

    page.shut_down_kernel()

    support.wait_until(
        lambda: bench.processes().keys() <= before.keys(),
        what=lambda: f"nothing but {before}: {bench.processes()}",
    )
