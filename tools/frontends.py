"""Owns real Jupyter front ends: a server with JupyterLab and Notebook, a browser without a window, a notebook in it.

Tests and tools steer them here, by Playwright and Debian's Chromium; what a notebook must show is theirs to say.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Frontend = Literal["lab", "notebook"]
Theme = Literal["light", "dark"]

ROOT = Path(__file__).resolve().parent.parent
THEMES: Mapping[Theme, str] = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
#: Seconds that a program, a kernel or a page may take to be ready.
START_S = 60.0
#: Seconds that all cells of a notebook may take.
RUN_S = 300.0
#: Seconds between two looks.
_TICK_S = 0.1
#: Where the notebook is, below the address of the server.
_PATHS: Mapping[Frontend, str] = {"lab": "doc/tree", "notebook": "notebooks"}
#: Settings of JupyterLab and Notebook: every cell is drawn, also those out of view, and no news are fetched.
_SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
_WINDOW = {"width": 1280, "height": 1500}
#: In the page: the open notebook, and what scrolls in it.
_PANEL = "window.jupyterapp.shell.currentWidget"
_PANE = f"{_PANEL}.content.outerNode"


def lacking() -> str | None:
    """Return what must be installed before anything here can run, or None."""
    for module, package in (
        ("playwright", "playwright"),
        ("jupyterlab", "jupyterlab"),
        ("notebook", "notebook"),
    ):
        if importlib.util.find_spec(module) is None:
            return f"{package} is not installed: pip install 'jray[browser]', or make test-browser"
    if chromium() is None:
        return "there is no Chromium on the PATH: on Debian, apt-get install chromium"
    return None


def chromium() -> str | None:
    """Return where Chromium is, or None."""
    return shutil.which("chromium")


def wait_until(condition: Callable[[], Any], within_s: float, what: str, *, for_s: float = 0.0) -> None:
    """Return when *condition* holds, and has held for so many seconds.

    Raises:
        TimeoutError: it does not come to that in time.
    """
    since_s = time.monotonic()
    deadline_s = since_s + within_s
    while True:
        holds = condition()
        now_s = time.monotonic()
        if not holds:
            since_s = now_s
        elif now_s - since_s >= for_s:
            return
        if now_s > deadline_s:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        time.sleep(_TICK_S)


# -- the server --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A Jupyter server that runs, with the notebooks of *folder*."""

    port: int
    token: str
    folder: Path
    pid: int

    def address(self, frontend: Frontend, name: str) -> str:
        """Return where that notebook of the folder is."""
        return f"http://127.0.0.1:{self.port}/{_PATHS[frontend]}/{quote(name)}?reset&token={self.token}"


@contextlib.contextmanager
def serve(folder: Path, home: Path, **environment: str) -> Iterator[Server]:
    """Run a Jupyter server on *folder*; all that it reads and writes for itself is in *home*.

    Its kernels find this checkout's jray, and no settings of jray but those in *environment*.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    for name, values in _SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    port, token = _free_port(), secrets.token_hex(16)
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser"),
        *("--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"),
        f"--IdentityProvider.token={token}",
        *(["--allow-root"] if os.getuid() == 0 else []),
    ]
    log = home / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env=_environment(home) | environment,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        _wait_for_answer(process, port, log)
        yield Server(port, token, folder, process.pid)
    finally:
        process.terminate()  # it ends its kernels first
        try:
            process.wait(timeout=START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(home: Path) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JPY_", "JRAY_", "JUPYTER", "IPYTHON"))
    }
    folders = {
        "HOME": "",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "MPLCONFIGDIR": "matplotlib",
    }
    path = os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH", "")]))
    return inherited | {name: str(home / folder) for name, folder in folders.items()} | {"PYTHONPATH": path}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    def answers() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"The Jupyter server ended with {process.returncode}:\n{_end_of(log)}")
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection,
        ):
            connection.request("GET", "/api")
            return connection.getresponse().status == http.client.OK
        return False

    try:
        wait_until(answers, START_S, f"an answer of the Jupyter server on port {port}")
    except TimeoutError as error:
        raise RuntimeError(f"{error}\n{_end_of(log)}") from None


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]


# -- the browser ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def browse() -> Iterator[Browser]:
    """Run Chromium without a window.

    Raises:
        RuntimeError: something that it takes is not installed; see `lacking`.
    """
    reason = lacking()
    if reason is not None:
        raise RuntimeError(reason)
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 -- of an extra

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=chromium(),
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"],
        )
        try:
            yield found
        finally:
            found.close()


@contextlib.contextmanager
def open_notebook(browser: Browser, server: Server, frontend: Frontend, name: str) -> Iterator[NotebookPage]:
    """Open a notebook of the server's folder in a page of its own, its kernel ready.  At the end the kernel is gone."""
    context = browser.new_context(viewport=_WINDOW, device_scale_factor=1)  # type: ignore[arg-type]
    try:
        page = context.new_page()
        page.set_default_timeout(START_S * 1000)
        page.goto(server.address(frontend, name))
        notebook = NotebookPage(page)
        notebook.wait_ready()
        try:
            yield notebook
        finally:
            notebook.shut_down_kernel()
    finally:
        context.close()


class NotebookPage:
    """A notebook in a page.  Cells are numbered from 0 on, text cells too."""

    def __init__(self, page: Page) -> None:
        self.page = page

    # -- its kernel -----------------------------------------------------------------------------------

    def wait_ready(self) -> None:
        """Return when the notebook is shown and its kernel has nothing to do."""
        wait_until(
            lambda: self._evaluate(f"Boolean(window.jupyterapp && {_PANEL}?.sessionContext?.isReady)"),
            START_S,
            "the notebook is open",
        )
        self.wait_idle(START_S)

    def wait_idle(self, within_s: float = RUN_S, *, for_s: float = 0.0) -> None:
        """Return when the kernel has nothing to do, and has had nothing for so many seconds."""
        wait_until(lambda: self.kernel_status() == "idle", within_s, "the kernel is idle", for_s=for_s)

    def kernel_status(self) -> str | None:
        """Return "idle", "busy" or what else JupyterLab calls it."""
        status: str | None = self._evaluate(f"{_PANEL}?.sessionContext?.session?.kernel?.status ?? null")
        return status

    def press_stop(self) -> None:
        """Press the button that interrupts the kernel."""
        self._toolbar("notebook:interrupt-kernel").click()

    def restart_kernel(self) -> None:
        """Press the button that restarts the kernel, and say yes."""
        self._toolbar("notebook:restart-kernel").click()
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self.wait_ready()

    def shut_down_kernel(self) -> None:
        self._evaluate(f"{_PANEL}.sessionContext.shutdown()")

    # -- its cells -------------------------------------------------------------------------------------

    def run_all(self, within_s: float = RUN_S) -> list[str]:
        """Run all cells; return what they raised, once the kernel is idle."""
        self._start("notebook:run-all-cells", "all")
        wait_until(lambda: not self._has_started("all"), within_s, "the end of the last cell")
        # the command ends with the first cell that raises, also where cells behind it run on; and between two
        # cells the kernel is idle for a moment
        self.wait_idle(within_s, for_s=1.0)
        return self.errors()

    def start_cell(self, index: int) -> None:
        """Have one cell run, and return at once."""
        self._evaluate(f"(() => {{ {_PANEL}.content.activeCellIndex = {index}; }})()")
        self._start("notebook:run-cell", str(index))

    def run_cell(self, index: int, within_s: float = RUN_S) -> list[dict[str, Any]]:
        """Run one cell to its end; return its outputs."""
        self.start_cell(index)
        wait_until(lambda: not self.is_running(index), within_s, f"the end of cell {index}")
        return self.outputs(index)

    def is_running(self, index: int) -> bool:
        """Tell whether a cell that was started has not ended yet."""
        return self._has_started(str(index))

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """Return what a cell shows now, as nbformat has it."""
        found: list[dict[str, Any]] = self._evaluate(
            f"{_PANEL}.content.widgets[{index}].model.toJSON().outputs ?? []"
        )
        return found

    def text(self, index: int) -> str:
        """Return what a cell shows now, as the page shows it."""
        return str(self.cell(index).locator(".jp-Cell-outputArea").inner_text())

    def errors(self) -> list[str]:
        """Return what the cells have raised."""
        found: list[str] = self._evaluate(
            f"{_PANEL}.model.toJSON().cells.flatMap(cell => cell.outputs ?? [])"
            ".filter(output => output.output_type === 'error').map(output => `${output.ename}: ${output.evalue}`)"
        )
        return found

    def counts(self) -> list[int | None]:
        """Return the numbers of the runs of the cells of code."""
        found: list[int | None] = self._evaluate(
            f"{_PANEL}.model.toJSON().cells.filter(cell => cell.cell_type === 'code')"
            ".map(cell => cell.execution_count)"
        )
        return found

    def cell(self, index: int) -> Any:
        """Return the Playwright locator of a cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    # -- how it looks ------------------------------------------------------------------------------------

    def set_theme(self, theme: Theme) -> None:
        self.command("apputils:change-theme", theme=THEMES[theme])
        is_light = "true" if theme == "light" else "false"
        self.page.locator(f"body[data-jp-theme-light={is_light}]").wait_for(state="attached")

    def photograph(self, folder: Path, stem: str) -> list[Path]:
        """Save the notebook screen by screen, as STEM-01.png and so on; return the files."""
        folder.mkdir(parents=True, exist_ok=True)
        self._evaluate(f"(() => {{ {_PANE}.scrollTop = 0; }})()")
        files: list[Path] = []
        while True:
            self.page.wait_for_timeout(300)  # for what is drawn when it comes into view: nothing tells when
            files.append(folder / f"{stem}-{len(files) + 1:02}.png")
            self.page.screenshot(path=files[-1])
            is_end = self._evaluate(
                f"(() => {{ const pane = {_PANE};"
                f"const end = {_PANEL}.content.widgets.at(-1).node.getBoundingClientRect().bottom;"
                "const isEnd = end <= pane.getBoundingClientRect().bottom + 1;"
                "pane.scrollTop += pane.clientHeight - 60; return isEnd; })()"
            )
            if is_end:
                return files

    # -- inside --------------------------------------------------------------------------------------------

    def command(self, name: str, **arguments: str) -> None:
        """Carry out a command of the front end, to its end."""
        # an answer of the command's own would have to be JSON
        self._evaluate(f"{_command(name, **arguments)}.then(() => null)")

    def _start(self, command: str, key: str) -> None:
        """Begin a command whose end `_has_started(key)` tells of."""
        self._evaluate(
            f"(() => {{ const started = (window.jrayStarted ??= new Set()); started.add('{key}');"
            f"{_command(command)}.finally(() => started.delete('{key}')); }})()"
        )

    def _has_started(self, key: str) -> bool:
        """Tell whether a command goes on that `_start` has begun."""
        goes_on: bool = self._evaluate(f"Boolean(window.jrayStarted?.has('{key}'))")
        return goes_on

    def _toolbar(self, command: str) -> Any:
        return self.page.locator(f'.jp-NotebookPanel-toolbar [data-command="{command}"]')

    def _evaluate(self, expression: str) -> Any:
        return self.page.evaluate(expression)


def _command(name: str, **arguments: str) -> str:
    return f"window.jupyterapp.commands.execute({json.dumps(name)}, {json.dumps(arguments)})"
