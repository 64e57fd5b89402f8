"""Owns what the tests in a browser share: a Jupyter server with kernels, Chromium, notebooks made of cells.

Without Chromium, JupyterLab, Notebook or Playwright every test here is skipped, and says what is lacking.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import psutil
import pytest

from tests.behaviour import hygiene, support
from tools.frontends import Frontend, NotebookPage, Server, browse, lacking, open_notebook, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: Seconds that a test may take: notebooks run for up to a minute, on a machine that may be busy.
TIMEOUT_S = 400

os.environ.setdefault(support.RUN_VARIABLE, uuid.uuid4().hex)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    reason = lacking()
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


class Bench:
    """A Jupyter server and a browser, and a way to put a notebook into them."""

    def __init__(self, server: Server, browser: Browser, mark: str) -> None:
        self.server = server
        self._browser = browser
        self._mark = mark

    def processes(self) -> dict[int, str]:
        """Return the processes that kernels have started, kernels included: their commands by pid."""
        found: dict[int, str] = {}
        for process in support.processes_marked(self._mark, besides=[self.server.pid]):
            with contextlib.suppress(psutil.Error):
                found[process.pid] = " ".join(process.cmdline())
        return found

    def write(self, *sources: str) -> str:
        """Save a notebook of these cells of code; return its name."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in sources],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        )
        name = f"{uuid.uuid4().hex}.ipynb"
        nbformat.write(notebook, self.server.folder / name)
        return name

    def open(self, frontend: Frontend, name: str) -> contextlib.AbstractContextManager[NotebookPage]:
        """Open a notebook of the server's folder; its kernel ends with the block."""
        return open_notebook(self._browser, self.server, frontend, name)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One server and one browser for all tests; when they have ended, nothing of them is left."""
    before = hygiene.look()
    # kernels carry a mark of their own, which tells what they start from what the browser starts
    mark = uuid.uuid4().hex
    folder, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")
    with serve(folder, home, **{support.RUN_VARIABLE: mark}) as server, browse() as browser:
        yield Bench(server, browser, mark)
    support.wait_until(
        lambda: not support.processes_marked(mark),
        what=lambda: f"the end of the server and its kernels; left are {support.processes_marked(mark)}",
    )
    hygiene.check_nothing_left(before)


@pytest.fixture(params=["lab", "notebook"])
def frontend(request: pytest.FixtureRequest) -> Frontend:
    """JupyterLab, then Notebook 7."""
    found: Frontend = request.param
    return found


@pytest.fixture
def made(bench: Bench, frontend: Frontend) -> Iterator[Callable[..., NotebookPage]]:
    """`made(*sources)` is a new notebook of these cells, open in the front end."""
    with contextlib.ExitStack() as stack:
        yield lambda *sources: stack.enter_context(bench.open(frontend, bench.write(*sources)))
