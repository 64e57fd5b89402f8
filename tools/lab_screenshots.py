"""Run notebooks in a real JupyterLab, in a browser without a window, and keep pictures of what it shows.

usage: python tools/lab_screenshots.py NOTEBOOK... [--output FOLDER] [--themes light,dark]

Each notebook is copied, so the saved one stays as it is; opened; run from its first to its last cell; and
photographed page by page in each theme.  Ends with status 1 if a cell of any of them raised.

Needs JupyterLab and selenium in this Python's environment, and a Chromium with its driver on the PATH (on
Debian: the packages chromium and chromium-driver).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
WINDOW = (1280, 1500)
START_S = 60.0
#: JupyterLab settings: every cell is drawn, also those out of view, and no news are fetched.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
#: What the pages are of, and what scrolls.
NOTEBOOK = "const notebook = window.jupyterapp.shell.currentWidget; const pane = notebook.content.outerNode;"


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_it_answers(server: subprocess.Popen[bytes], port: int) -> None:
    """Return when the server answers.

    Raises:
        RuntimeError: it ended, or does not answer in time.
    """
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and server.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/api")
            if connection.getresponse().status == http.client.OK:
                return
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not answer on port {port} within {START_S:g} s.")


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
    environment = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    log = home / "lab.log"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        try:
            wait_until_it_answers(server, port)
        except RuntimeError as error:
            error.add_note(log.read_text(encoding="utf-8", errors="replace")[-2000:])
            raise
        yield f"http://127.0.0.1:{port}/doc/tree/{{}}?reset&token={token}"
    finally:
        server.send_signal(signal.SIGTERM)  # it ends its kernels first
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextlib.contextmanager
def browser(home: Path) -> Iterator[Chrome]:
    """Run Chromium without a window, its profile in *home*."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        *("disable-dev-shm-usage", f"user-data-dir={home / 'chromium'}", "window-size={},{}".format(*WINDOW)),
    ):
        options.add_argument(f"--{flag}")
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_script_timeout(300)
        yield driver
    finally:
        driver.quit()


def await_true(driver: Chrome, condition: str) -> None:
    """Return when the JavaScript *condition* holds.

    Raises:
        RuntimeError: it does not within the time for a start.
    """
    deadline_s = time.monotonic() + START_S
    while not driver.execute_script(f"return Boolean({condition})"):  # type: ignore[no-untyped-call]
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"In the page this did not come true within {START_S:g} s: {condition}")
        time.sleep(0.1)


def command(driver: Chrome, name: str, arguments: str = "{}") -> None:
    """Carry out a command of JupyterLab; blocks until it is done."""
    driver.execute_async_script(  # type: ignore[no-untyped-call]
        "const done = arguments[arguments.length - 1];"
        f"window.jupyterapp.commands.execute('{name}', {arguments}).then(() => done(), () => done());"
    )


def run_all(driver: Chrome) -> list[str]:
    """Run the open notebook; return what its cells raised, once its kernel is idle."""
    await_true(driver, "window.jupyterapp && window.jupyterapp.shell.currentWidget?.sessionContext?.isReady")
    await_true(driver, "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'")
    command(driver, "notebook:run-all-cells")
    await_true(driver, "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'")
    found: list[str] = driver.execute_script(  # type: ignore[no-untyped-call]
        f"{NOTEBOOK} return notebook.model.toJSON().cells.flatMap(cell => cell.outputs ?? [])"
        ".filter(output => output.output_type === 'error').map(output => `${output.ename}: ${output.evalue}`);"
    )
    return found


def photograph(driver: Chrome, folder: Path, stem: str) -> int:
    """Save the open notebook page by page; return how many pages it has."""
    driver.execute_script(f"{NOTEBOOK} pane.scrollTop = 0;")  # type: ignore[no-untyped-call]
    page = 0
    is_end = False
    while not is_end:
        page += 1
        time.sleep(0.5)  # for what is drawn when it comes into view
        driver.save_screenshot(str(folder / f"{stem}-{page:02}.png"))
        is_end = driver.execute_script(  # type: ignore[no-untyped-call]
            f"{NOTEBOOK} const before = pane.scrollTop; pane.scrollTop += pane.clientHeight - 60;"
            "return pane.scrollTop === before;"
        )
    if page > 1:  # the last step moved nothing
        (folder / f"{stem}-{page:02}.png").unlink()
        page -= 1
    return page


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
    failed = False
    with tempfile.TemporaryDirectory(prefix="lab-") as temporary:
        home = Path(temporary)
        folder = home / "notebooks"
        folder.mkdir()
        for notebook in options.notebooks:
            shutil.copy(notebook, folder)
        with lab(folder, home) as address, browser(home) as driver:
            for notebook in options.notebooks:
                driver.get(address.format(quote(notebook.name)))
                started_s = time.monotonic()
                errors = run_all(driver)
                print(f"{notebook.name} ran in {time.monotonic() - started_s:.1f} s, start of the kernel included")
                for error in errors:
                    print(f"  a cell raised {error}")
                failed = failed or bool(errors)
                for theme in themes:
                    command(driver, "apputils:change-theme", f"{{theme: '{THEMES[theme]}'}}")
                    pages = photograph(driver, options.output, f"{notebook.stem}-{theme}")
                    print(f"  {theme}: {pages} pages in {options.output}")
                command(driver, "notebook:shutdown-kernel")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
