"""Run notebooks in a real JupyterLab, in a browser without a window, and keep pictures of what it shows.

usage: python tools/lab_screenshots.py NOTEBOOK... [--output FOLDER] [--themes light,dark]

Each notebook is copied, so the saved one stays as it is; opened; run from its first to its last cell; and
photographed page by page in each theme.  Ends with status 1 if a cell of any of them raised.

Needs JupyterLab in this Python's environment, and a Chromium with its driver on the PATH (on Debian: the
packages chromium and chromium-driver).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
WINDOW = "window-size=1280,1500"
#: Seconds that a program, a kernel or a page may take to be ready.
START_S = 60
#: Seconds that all cells of a notebook may take.
SCRIPT_S = 600
#: JupyterLab settings: every cell is drawn, also those out of view, and no news are fetched.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
#: In the page: the open notebook, what scrolls in it, and whether its kernel has nothing to do.
NOTEBOOK = "window.jupyterapp.shell.currentWidget"
PANE = f"{NOTEBOOK}.content.outerNode"
IS_IDLE = f"{NOTEBOOK}.sessionContext.session?.kernel?.status === 'idle'"


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    """Return where a program is.

    Raises:
        SystemExit: it is nowhere on the PATH.
    """
    path = shutil.which(name)
    if path is None:
        raise SystemExit(
            f"{name} is not on the PATH; on Debian, install the packages chromium and chromium-driver."
        )
    return path


@contextlib.contextmanager
def process(command: list[str], log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the block, its output in *log*, which an error carries along."""
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield server
    except RuntimeError as error:
        error.add_note(log.read_text(encoding="utf-8", errors="replace")[-2000:])
        raise
    finally:
        server.terminate()  # it ends its own children first
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_until_it_answers(server: subprocess.Popen[bytes], port: int, path: str) -> None:
    """Return when the server answers.

    Raises:
        RuntimeError: it ended, or does not answer in time.
    """
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and server.poll() is None:
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection,
        ):
            connection.request("GET", path)
            if connection.getresponse().status == http.client.OK:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{server.args!r} did not answer on port {port} within {START_S:g} s.")


@contextlib.contextmanager
def lab(folder: Path, home: Path) -> Iterator[str]:
    """Run JupyterLab on *folder*, its settings in *home*; yield its address, with `{}` where the path goes."""
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    port, token = free_port(), secrets.token_hex(16)
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--expose-app-in-browser"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"),
        f"--IdentityProvider.token={token}",
        *(["--allow-root"] if os.getuid() == 0 else []),
    ]
    folders = {
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
    }
    variables = {variable: str(home / name) for variable, name in folders.items()}
    with process(command, home / "lab.log", **variables) as server:
        wait_until_it_answers(server, port, "/api")
        yield f"http://127.0.0.1:{port}/doc/tree/{{}}?reset&token={token}"


class Page:
    """A page in a browser, steered as the W3C's WebDriver protocol says."""

    def __init__(self, port: int, capabilities: dict[str, Any]) -> None:
        self._port = port
        self._session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})[
            "sessionId"
        ]
        self._ask("POST", "timeouts", {"script": SCRIPT_S * 1000})

    def open(self, address: str) -> None:
        self._ask("POST", "url", {"url": address})

    def evaluate(self, script: str) -> Any:
        """Return what the body of a JavaScript function returns; waits for a promise."""
        return self._ask("POST", "execute/sync", {"script": script, "args": []})

    def screenshot(self) -> bytes:
        """Return what is in view, as PNG."""
        return base64.b64decode(self._ask("GET", "screenshot"))

    def close(self) -> None:
        self._ask("DELETE", "")

    def _ask(self, method: str, what: str, body: dict[str, Any] | None = None) -> Any:
        return self._call(method, f"/session/{self._session}/{what}".rstrip("/"), body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SCRIPT_S + 10)
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            value = json.load(response)["value"]
        if response.status != http.client.OK:
            raise RuntimeError(f"{method} {path}: {value['error']}: {value['message']}")
        return value


@contextlib.contextmanager
def browser(home: Path) -> Iterator[Page]:
    """Run Chromium without a window, its profile in *home*."""
    flags = (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        *("disable-dev-shm-usage", f"user-data-dir={home / 'chromium'}", WINDOW),
    )
    chrome = {"binary": program("chromium"), "args": [f"--{flag}" for flag in flags]}
    port = free_port()
    with process([program("chromedriver"), f"--port={port}"], home / "driver.log") as driver:
        wait_until_it_answers(driver, port, "/status")
        page = Page(port, {"goog:chromeOptions": chrome})
        try:
            yield page
        finally:
            page.close()


def await_true(page: Page, condition: str, *, within_s: float = START_S, for_s: float = 0) -> None:
    """Return when the JavaScript *condition* holds, and has held for so many seconds.

    Raises:
        RuntimeError: it does not come to that in time.
    """
    since_s = time.monotonic()
    deadline_s = since_s + within_s
    while True:
        holds = page.evaluate(f"return Boolean({condition})")
        now_s = time.monotonic()
        if not holds:
            since_s = now_s
        elif now_s - since_s >= for_s:
            return
        if now_s > deadline_s:
            raise RuntimeError(f"In the page this did not come true within {within_s:g} s: {condition}")
        time.sleep(0.1)


def carry_out(page: Page, command: str, **arguments: str) -> None:
    """Carry out a command of JupyterLab; blocks until it is done."""
    # an answer of the command's own would have to be JSON
    page.evaluate(
        f"return window.jupyterapp.commands.execute('{command}', {json.dumps(arguments)}).then(() => null)"
    )


def run_all(page: Page) -> list[str]:
    """Run the open notebook; return what its cells raised, once its kernel is idle."""
    await_true(page, f"window.jupyterapp && {NOTEBOOK}?.sessionContext?.isReady")
    await_true(page, IS_IDLE)
    carry_out(page, "notebook:run-all-cells")
    # the command ends with the first cell that raises, also where cells behind it run on; and between two
    # cells the kernel is idle for a moment
    await_true(page, IS_IDLE, within_s=SCRIPT_S, for_s=1)
    errors: list[str] = page.evaluate(
        f"return {NOTEBOOK}.model.toJSON().cells.flatMap(cell => cell.outputs ?? [])"
        ".filter(output => output.output_type === 'error').map(output => `${output.ename}: ${output.evalue}`)"
    )
    return errors


def photograph(page: Page, folder: Path, stem: str) -> int:
    """Save the open notebook page by page; return how many pages it has."""
    page.evaluate(f"{PANE}.scrollTop = 0")
    number = 0
    while True:
        number += 1
        time.sleep(0.5)  # for what is drawn when it comes into view: nothing tells when
        (folder / f"{stem}-{number:02}.png").write_bytes(page.screenshot())
        is_end = page.evaluate(
            f"const pane = {PANE}; const end = {NOTEBOOK}.content.widgets.at(-1).node.getBoundingClientRect().bottom;"
            "const isEnd = end <= pane.getBoundingClientRect().bottom;"
            "pane.scrollTop += pane.clientHeight - 60; return isEnd"
        )
        if is_end:
            return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as described above; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--output", type=Path, default=Path("build/screenshots"), help="default: %(default)s")
    parser.add_argument("--themes", default=",".join(THEMES), help="default: %(default)s")
    options = parser.parse_args(arguments)
    themes = options.themes.split(",")
    if unknown := set(themes) - set(THEMES):
        parser.error(f"no theme is called {', '.join(sorted(unknown))}; there are {', '.join(THEMES)}")

    options.output.mkdir(parents=True, exist_ok=True)
    has_failed = False
    with tempfile.TemporaryDirectory(prefix="lab-") as temporary:
        home = Path(temporary)
        folder = home / "notebooks"
        folder.mkdir()
        for notebook in options.notebooks:
            shutil.copy(notebook, folder)
        with lab(folder, home) as address, browser(home) as page:
            for notebook in options.notebooks:
                page.open(address.format(quote(notebook.name)))
                started_s = time.monotonic()
                errors = run_all(page)
                took = f"{time.monotonic() - started_s:.1f} s"
                print(f"{notebook.name} ran in {took}, start of the kernel included")
                for error in errors:
                    print(f"  a cell raised {error}")
                has_failed = has_failed or bool(errors)
                for theme in themes:
                    carry_out(page, "apputils:change-theme", theme=THEMES[theme])
                    pages = photograph(page, options.output, f"{notebook.stem}-{theme}")
                    print(f"  {theme}: {pages} pages in {options.output}")
                carry_out(page, "notebook:shutdown-kernel")
    return 1 if has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
