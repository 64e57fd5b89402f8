"""What the tests of the Ray engine share: one cluster that lacks jray, and sessions on it by both kinds of address."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest

import jray
from jray._core.frontend import Output, set_frontend
from tests.behaviour import support

#: seconds a condition may take; it costs nothing when things go well
PATIENCE_S = 120.0
#: seconds a test may take: Ray takes seconds to start, and many more on a machine that is busy
LONGEST_S = 400

# quick, quiet, and reachable by nobody but the test; none of this touches what Ray does
for name, value in {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}.items():
    os.environ.setdefault(name, value)
support.be_interruptible()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            # Ray's own warnings are not ours to mend
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(LONGEST_S))


@dataclass(frozen=True)
class Head:
    """A Ray cluster of one node with 2 CPUs and 2 of the custom resource "gadget"."""

    address: str  #: for a driver on one of its machines
    remote_address: str  #: for a client from elsewhere


#: a cluster that runs already, as "ADDRESS REMOTE_ADDRESS", for who works on these tests: starting one takes longest
RUNNING = os.environ.get("JRAY_TEST_RAY_HEAD")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    """A cluster whose workers find neither this tree nor the tests: started elsewhere, as a real one is."""
    pytest.importorskip("ray", reason="Ray is not installed here: pip install 'jray[ray]'")
    if RUNNING:
        yield Head(*RUNNING.split())
        return
    port, client_port, dashboard_port = free_port(), free_port(), free_port()
    folder = tempfile.mkdtemp(prefix="jr", dir="/tmp")  # short: Ray puts sockets inside
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RAY_ADDRESS")
    }
    log = Path(folder) / "head.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                os.path.join(sysconfig.get_path("scripts"), "ray"), "start", "--head", "--block", "--num-cpus=2",
                f"--port={port}", f"--ray-client-server-port={client_port}", f"--temp-dir={folder}",
                "--include-dashboard=true", f"--dashboard-port={dashboard_port}", "--disable-usage-stats",
                '--resources={"gadget": 2}',
            ],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        for each in (port, client_port):
            wait_until(lambda port=each: listens(port), what=lambda: log.read_text())  # type: ignore[misc]
        yield Head(f"127.0.0.1:{port}", f"ray://127.0.0.1:{client_port}")
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            everything = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            for left in [*everything, psutil.Process(process.pid)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def wait_until(
    predicate: Callable[[], Any],
    timeout_s: float = PATIENCE_S,
    what: Callable[[], str] = lambda: "the condition",
) -> Any:
    """Call *predicate* until it gives something true, and return that; AssertionError after *timeout_s*."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what()}"
        time.sleep(0.02)


@pytest.fixture(scope="module", autouse=True)
def by_value(request: pytest.FixtureRequest) -> Iterator[None]:
    """Send what the module defines by value, as a notebook's definitions go."""
    module = sys.modules[request.module.__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module", params=["member", "client"])
def joined(head: Head, request: pytest.FixtureRequest) -> Iterator[str]:
    """A session on the cluster, as a part of it and by ray://; the value says which."""
    if request.param == "member":
        jray.init(head.address, engine="ray", log_to_driver=False, namespace="joined")
    else:
        jray.init(head.remote_address, log_to_driver=False, namespace="joined")
    yield request.param
    jray.shutdown()


@pytest.fixture
def no_session() -> Iterator[None]:
    """No session before or after the test."""
    jray.shutdown()
    yield
    jray.shutdown()


@dataclass
class Recorder:
    """A front end that keeps what it is to show."""

    cell: int = 0
    outputs: list[Output] = field(default_factory=list)

    def write(self, output: Output) -> None:
        self.outputs.append(output)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def text(self, cell: int | None = None, kind: str = "stdout") -> str:
        """Return what was written to *kind*, for that cell alone where one is given."""
        return "".join(
            output.text for output in self.outputs if output.kind == kind and cell in (None, output.cell)
        )


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """The front end of the test."""
    made = Recorder()
    set_frontend(made)
    yield made
    set_frontend(None)
