"""What the notebook's tests share: a real shell, a runtime that runs tasks here, and real kernels."""

from __future__ import annotations

import atexit
import concurrent.futures
import itertools
import os
import queue
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from traitlets.config import Config

from jray import exceptions
from jray._core import serialization
from jray._core.refs import ObjectRef
from jray.notebook.candidates import LiveCandidates
from jray.notebook.cells import CellTable
from jray.notebook.command_table import COMMANDS
from jray.notebook.completion import ArgumentMatcher
from jray.notebook.context import Context
from jray.notebook.magics import JrayMagics

ROOT = Path(__file__).parents[2]


class FakeRuntime:
    """jray's public API over functions that run in this process, after a trip through the serializer."""

    exceptions: Any = exceptions

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.cancelled: list[ObjectRef[Any]] = []
        self.is_up = True
        self.started_with: Any = None
        #: tasks wait for `run_waiting` when set
        self.holds = False
        #: raised by the next `get`
        self.get_raises: BaseException | None = None
        self._waiting: list[Callable[[], None]] = []
        self._values: dict[bytes, concurrent.futures.Future[Any]] = {}
        self._numbers = itertools.count(1)

    # the public API

    def init(self, address: Any = None, **options: Any) -> None:
        self.started_with = (address, options)
        self.is_up = True

    def shutdown(self) -> None:
        self.is_up = False

    def is_initialized(self) -> bool:
        return self.is_up

    def remote(self, function: Any) -> Any:
        def submit(*arguments: Any) -> Any:
            count = self.options["num_returns"]
            refs = [self._new_ref() for _ in range(count)]
            blob = serialization.serialize(
                tuple(
                    self._resolved(argument) if isinstance(argument, ObjectRef) else argument
                    for argument in arguments
                )
            ).to_bytes()

            def run() -> None:
                futures = [self._values[ref._id] for ref in refs]
                try:
                    result = function(*serialization.deserialize(blob))
                    values = result if count > 1 else (result,)
                    homes = [
                        serialization.deserialize(serialization.serialize(value).to_bytes())
                        for value in values
                    ]
                except Exception as error:  # noqa: BLE001 -- a task's error is data
                    for future in futures:
                        future.set_exception(error)
                else:
                    for future, value in zip(futures, homes, strict=True):
                        future.set_result(value)

            self._waiting.append(run)
            if not self.holds:
                self.run_waiting()
            return refs if count > 1 else refs[0]

        def options(**given: Any) -> Any:
            self.options = given
            return SimpleNamespace(remote=submit)

        return SimpleNamespace(options=options)

    def put(self, value: Any) -> ObjectRef[Any]:
        ref = self._new_ref()
        self._values[ref._id].set_result(value)
        return ref

    def get_actor(self, name: str) -> Any:
        raise ValueError(name)

    def kill(self, handle: Any) -> None: ...

    def get(self, refs: Any, *, timeout: float | None = None) -> Any:
        if self.get_raises is not None:
            error, self.get_raises = self.get_raises, None
            raise error
        if isinstance(refs, ObjectRef):
            return self._resolved(refs)
        return [self._resolved(ref) for ref in refs]

    def cancel(self, ref: ObjectRef[Any]) -> None:
        self.cancelled.append(ref)

    def nodes(self) -> list[dict[str, Any]]:
        resources = {"CPU": 2.0, "memory": 4 * 2.0**30, "node:127.0.0.1": 1.0, "lic<b>": 1.0}
        return [{"NodeID": "ab" * 28, "Alive": True, "NodeManagerHostname": "here", "Resources": resources}]

    def cluster_resources(self) -> dict[str, float]:
        return dict(self.nodes()[0]["Resources"])

    def available_resources(self) -> dict[str, float]:
        return {**self.cluster_resources(), "CPU": 0.5}

    # for the tests

    def run_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for run in waiting:
            run()

    def _new_ref(self) -> ObjectRef[Any]:
        ref: ObjectRef[Any] = ObjectRef(next(self._numbers).to_bytes(28, "little"), client=self)
        self._values[ref._id] = concurrent.futures.Future()
        return ref

    def _resolved(self, ref: ObjectRef[Any]) -> Any:
        return self._values[ref._id].result(timeout=0)

    # what an ObjectRef asks of its client

    def ref_dropped(self, ref_id: bytes, owner: str | None, state: int, data: Any) -> None: ...

    def ref_exported(self, ref: ObjectRef[Any]) -> None: ...

    def ref_address(self, ref: ObjectRef[Any]) -> str:
        return "here"

    def when_ready(self, ref: ObjectRef[Any], callback: Callable[[ObjectRef[Any]], None]) -> None:
        self._values[ref._id].add_done_callback(lambda _: callback(ref))

    def ref_value(self, ref: ObjectRef[Any]) -> Any:
        return self._resolved(ref)


@pytest.fixture(scope="module")
def only_shell() -> Iterator[InteractiveShell]:
    """The real shell of this process, gone after the file."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    saved = sys.displayhook, sys.excepthook, sys.modules["__main__"]
    found = InteractiveShell.instance(config=config)
    yield found
    found.atexit_operations()
    atexit.unregister(found.atexit_operations)
    InteractiveShell.clear_instance()
    sys.displayhook, sys.excepthook, sys.modules["__main__"] = saved


@pytest.fixture
def shell(only_shell: InteractiveShell) -> Iterator[InteractiveShell]:
    """A real shell with what the test leaves in it taken out again."""
    names = dict(only_shell.user_ns)
    matchers = list(only_shell.Completer.custom_matchers)
    main = sys.modules["__main__"]
    only_shell.display_pub = CapturingDisplayPublisher()
    yield only_shell
    only_shell.user_ns.clear()
    only_shell.user_ns.update(names)
    only_shell.Completer.custom_matchers[:] = matchers
    sys.modules["__main__"] = main


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def magic_shell(shell: InteractiveShell, runtime: FakeRuntime) -> Iterator[InteractiveShell]:
    """A shell with jray's magics over the fake runtime."""
    context = Context(shell, runtime, CellTable())
    magics = JrayMagics(shell, runtime, context)
    shell.register_magics(magics)
    ArgumentMatcher(shell, magics.option_tables, COMMANDS, LiveCandidates(context)).install()
    yield shell
    magics.remove()


def _is_picture(message: dict[str, Any]) -> bool:
    display_id = message["content"].get("transient", {}).get("display_id", "")
    return str(display_id).startswith("jray-lens")


class Kernel:
    """A real kernel and what it says, by the cell that made it say so."""

    def __init__(self, kernel_dirs: Sequence[Path] = (), **environment: str) -> None:
        specs = (
            KernelSpecManager(kernel_dirs=[str(folder) for folder in kernel_dirs]) if kernel_dirs else None
        )
        self._manager = (
            KernelManager(kernel_name="python3")
            if specs is None
            else KernelManager(kernel_name="jray", kernel_spec_manager=specs)
        )
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("JPY_", "JRAY_"))
        }
        # who asks the cluster waits for all its processes, however slow the machine is
        fixed = {"PYTHONPATH": path, "MPLBACKEND": "agg", "JRAY_REPORT_TIMEOUT_S": "30"}
        self._manager.start_kernel(env={**inherited, **fixed, **environment})
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=100)
        #: messages of the iopub channel so far, by the id of the request they belong to
        self.messages: dict[str, list[dict[str, Any]]] = {}

    def start(self, code: str, *, allow_stdin: bool = True) -> str:
        """Send a cell and return the id of its request."""
        return str(self._client.execute(code, allow_stdin=allow_stdin))

    def run(self, code: str, timeout_s: float = 100.0) -> list[dict[str, Any]]:
        """Run a cell to its end and return what it said."""
        request = self.start(code)
        self.wait_idle(request, timeout_s)
        return self.messages[request]

    def wait_idle(self, request: str, timeout_s: float = 100.0) -> None:
        def is_idle() -> bool:
            return any(
                message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
                for message in self.messages.get(request, ())
            )

        self.wait_until(is_idle, timeout_s)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 100.0) -> None:
        """Read messages until *condition* holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                said = [(m["msg_type"], m["content"]) for said in self.messages.values() for m in said]
                raise TimeoutError(f"not within {timeout_s} s; the last words were {said[-5:]}")
            try:
                message = self._client.get_iopub_msg(timeout=0.2)
            except queue.Empty:
                continue
            self.messages.setdefault(message["parent_header"].get("msg_id", ""), []).append(message)

    def text(self, request: str, name: str = "stdout") -> str:
        """Return what appeared under that cell so far."""
        return "".join(
            message["content"]["text"]
            for message in self.messages.get(request, ())
            if message["msg_type"] == "stream" and message["content"]["name"] == name
        )

    def errors(self, request: str) -> list[dict[str, Any]]:
        return [m["content"] for m in self.messages.get(request, ()) if m["msg_type"] == "error"]

    def shown(self, request: str) -> list[dict[str, Any]]:
        """Return the messages with what appeared or was updated there, but for those of `pictures`."""
        return [message for message in self._shown(request) if not _is_picture(message)]

    def pictures(self, request: str) -> list[dict[str, Any]]:
        """Return the messages that show how far its work is, which come if that takes longer than a second."""
        return [message for message in self._shown(request) if _is_picture(message)]

    def _shown(self, request: str) -> list[dict[str, Any]]:
        kinds = ("display_data", "update_display_data", "execute_result")
        return [message for message in self.messages.get(request, ()) if message["msg_type"] in kinds]

    def displays(self, request: str) -> list[dict[str, Any]]:
        return [
            message["content"]["data"]
            for message in self.shown(request)
            if message["msg_type"] != "update_display_data"
        ]

    def tell(self, comm_id: str, content: dict[str, Any]) -> None:
        """Send a widget a custom message, as a front end does."""
        data = {"method": "custom", "content": content}
        session = self._client.session
        self._client.shell_channel.send(session.msg("comm_msg", {"comm_id": comm_id, "data": data}))

    def told(self, comm_id: str) -> list[dict[str, Any]]:
        """Return the custom messages of a widget so far."""
        return [
            message["content"]["data"]["content"]
            for said in self.messages.values()
            for message in said
            if message["msg_type"] == "comm_msg"
            and message["content"]["comm_id"] == comm_id
            and message["content"]["data"].get("method") == "custom"
        ]

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=False)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """One kernel for the tests of a file, as a front end sees it that shows output as it comes."""
    found = Kernel(JRAY_NONINTERACTIVE="0")
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def make_kernel() -> Iterator[Callable[..., Kernel]]:
    """A way to start kernels with an environment of their own."""
    made: list[Kernel] = []

    def make(kernel_dirs: Sequence[Path] = (), **environment: str) -> Kernel:
        made.append(Kernel(kernel_dirs, **environment))
        return made[-1]

    yield make
    for kernel in made:
        kernel.close()
