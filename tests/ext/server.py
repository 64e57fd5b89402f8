"""Owns a Jupyter server in a process of its own, and the kernels that it starts."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from jupyter_client.blocking.client import BlockingKernelClient

from tests.behaviour.support import ROOT, wait_until

#: seconds for what takes one or two: nothing here measures speed
PATIENCE_S = 120.0
_TOKEN = "token"  # noqa: S105 -- of servers that only this machine can reach, for seconds


class Server:
    """A running server with the extension; a context manager that kills it, and the kernels with it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        folder.mkdir(exist_ok=True)
        self._runtime = folder / "runtime"
        places = {
            "JUPYTER_RUNTIME_DIR": self._runtime,
            "JUPYTER_CONFIG_DIR": folder / "config",
            "JUPYTER_DATA_DIR": folder / "data",
            "IPYTHONDIR": folder / "ipython",
            "PYTHONPATH": ROOT,
        }
        with (folder / f"log-{os.urandom(2).hex()}").open("w") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "jupyter_server", "--port=0", "--no-browser", "--allow-root",
                    f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={_TOKEN}",
                    "--ServerApp.jpserver_extensions={'jray_ext': True}", "--ServerApp.base_url=/user/x/",
                    *(f"--{name.replace('__', '.')}={value}" for name, value in settings.items()),
                ],
                env={**os.environ, **{name: str(path) for name, path in places.items()}},
                stdout=log,
                    stderr=log,
            )  # fmt: skip
        self._url = ""

    def __enter__(self) -> Self:
        try:
            info = wait_until(self._info, PATIENCE_S, "a server")
            self._url = info["url"].rstrip("/")
            wait_until(self._is_up, PATIENCE_S, "a server that answers")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)

    def _info(self) -> dict[str, Any]:
        path = self._runtime / f"jpserver-{self.process.pid}.json"
        assert self.process.poll() is None, "the server has ended"
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def _is_up(self) -> bool:
        try:
            self.heads()
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):  # it writes its file before it listens
                raise
            return False
        return True

    def end(self, number: signal.Signals) -> None:
        """End it by a signal, and wait until it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(PATIENCE_S)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON that the server answers with; None for an empty answer."""
        request = urllib.request.Request(  # noqa: S310 -- of this machine
            f"{self._url}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {_TOKEN}"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 -- as above
            text = answer.read()
        return json.loads(text) if text else None

    def heads(self) -> list[dict[str, Any]]:
        """Return the records of the running heads, oldest first."""
        found: list[dict[str, Any]] = self.ask("GET", "jray/api/heads")
        return found

    def kernel(self) -> ServerKernel:
        """Start a kernel, as a front end does."""
        return ServerKernel(self, self._runtime, self.ask("POST", "api/kernels", {"name": "python3"})["id"])


class ServerKernel:
    """A kernel of a server."""

    def __init__(self, server: Server, runtime: Path, kernel_id: str) -> None:
        self._server = server
        self._id = kernel_id
        self._file = runtime / f"kernel-{kernel_id}.json"

    def run(self, code: str) -> str:
        """Run a cell to its end and return what it wrote to stdout; AssertionError if it raised."""
        client = BlockingKernelClient(connection_file=str(self._file))
        client.load_connection_file()
        client.start_channels(hb=False)
        said: list[str] = []

        def take(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream" and content["name"] == "stdout":
                said.append(content["text"])
            if message["msg_type"] == "error":
                raise AssertionError("\n".join(content["traceback"]))

        try:
            wait_until(lambda: _answers(client), PATIENCE_S, "a kernel that answers")
            client.execute_interactive(code, timeout=PATIENCE_S, output_hook=take, allow_stdin=False)
        finally:
            client.stop_channels()
        return "".join(said)

    def restart(self) -> None:
        """Restart it, as a front end does."""
        self._server.ask("POST", f"api/kernels/{self._id}/restart", {})


def _answers(client: BlockingKernelClient) -> bool:
    """Ask a kernel who it is; tell whether it has answered, and whether what it shows arrives here.

    Not by `wait_for_ready`, which takes one that is slow to begin for dead.
    """
    client.kernel_info()
    try:
        client.get_shell_msg(timeout=1)
        client.get_iopub_msg(timeout=1)
    except queue.Empty:
        return False
    return True
