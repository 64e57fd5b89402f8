"""Owns the start of a head, the joining of one, and the end of both: the life of the current client."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jray._core.client.core import CoreClient, DriverContext
from jray._core.client.interrupts import BorrowedHandlerShield, Shields
from jray._core.config import Config
from jray._core.resources import ResourceSet
from jray._core.store.arena import choose_place, default_capacity, free_bytes
from jray._core.store.spill import disk_directory
from jray._core.store.sweep import session_directory, sweep
from jray._core.wire import messages
from jray._core.wire.connection import Reactor, check_path, connect, socket_pair
from jray.exceptions import RaySystemError

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])['sys_path']; "
    "from jray._core.daemon.main import main; main()"
)
#: what a kernel exports for itself and workers must not believe
_STRIPPED = ("JPY_", "IPY_")
#: longest name of a socket in a session's directory
_SOCKET_NAME = "/d4194304-9999.sock"
_GRACE_S = 5.0
#: where the head finds its end of the socket pair
_OWNER_FD = 3


class NativeSession:
    """A client together with the head process that was started for it, if any."""

    def __init__(
        self, client: CoreClient, pid: int | None, address: str, warning: str = "", places: Sequence[str] = ()
    ) -> None:
        self.client = client
        self._pid = pid
        #: where that head's directories are
        self._places = places
        #: the head's socket
        self.address = address
        #: what the user should know about the store, once
        self.warning = warning
        self.info: dict[str, Any] = {
            "address": address,
            "node_id": client.node_id.hex(),
            "session_dir": client.session_dir,
            "object_store_address": client.facts["store_dir"],
            "raylet_socket_name": address,
            "gcs_address": address,
            "node_ip_address": "127.0.0.1",
            # of services that jray does not have; programs read the keys
            "webui_url": "",
            "redis_address": None,
            "metrics_export_port": None,
            "dashboard_agent_listen_port": None,
        }

    def is_alive(self) -> bool:
        """Tell whether the head is there."""
        return self.client.node.connection.is_open

    def close(self) -> None:
        """Leave; a head started for this session ends, with all its processes.  Blocks until it has."""
        # before the head ends the job's actors and workers: news of their deaths may be quicker than `close`
        self.client.fail_pending()
        if self.client.node.connection.is_open:
            self.client.node.tell(messages.EXIT_JOB)
        self.client.close()
        if self._pid is not None and not _wait_exit(self._pid):
            for place in self._places:  # it could not clean up itself
                sweep(place)


def runtime_base() -> str:
    """Return the directory that holds the sessions' directories."""
    base = os.environ.get("JRAY_RUNTIME_DIR")
    if base:
        return os.path.abspath(base)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isdir(f"{runtime}/jray"):
        return f"{runtime}/jray"
    return "/tmp"  # noqa: S108 -- the directory made in it has mode 0700 and a lock


def default_store_bytes(memory_bytes: int) -> int:
    """Return the size of the store when the user gives none."""
    return default_capacity(memory_bytes, free_bytes("/dev/shm"))  # noqa: S108


def start(
    *,
    resources: ResourceSet,
    gpu_ids: list[str],
    store_bytes: int,
    temp_dir: str | None,
    spill_dir: str | None,
    facts: dict[str, Any],
    labels: Mapping[str, str],
    node_name: str | None,
) -> NativeSession:
    """Start a head for this process, and join it.

    Raises RaySystemError if there is no place for its files, and, with the end of its log, if it does
    not come up.
    """
    config = Config.from_environ()
    base = os.path.abspath(temp_dir) if temp_dir else runtime_base()
    _make_usable(base)
    name = f"{int(time.time()):x}-{os.urandom(4).hex()}"
    session_dir = card_dir = session_directory(base, name)
    try:
        check_path(session_dir + _SOCKET_NAME)
    except ValueError:
        # sockets must have short paths; the card stays where it is looked for
        session_dir = session_directory("/tmp", name)  # noqa: S108
        _make_usable("/tmp")  # noqa: S108
    place = choose_place(store_bytes, base)
    # where both lie in one directory they must not have one name
    store_dir = session_directory(place.base, f"{name}-store")
    spill_base = os.path.abspath(spill_dir or disk_directory(base))
    _make_usable(spill_base)
    spilled_dir = session_directory(spill_base, f"{name}-spill")
    ours, theirs = socket_pair()
    log = os.memfd_create("jray-head-log", os.MFD_CLOEXEC)
    settings = {
        "session_dir": session_dir,
        "store_dir": store_dir,
        "store_bytes": store_bytes,
        "spill_dir": spilled_dir,
        "address": f"{session_dir}/node.sock",
        "resources": dict(resources.items()),
        "gpu_ids": gpu_ids,
        "labels": dict(labels),
        "node_name": node_name or socket.gethostname(),
        "card_dir": card_dir,
        "is_zygote": False,
        # numpy is wanted in the first workers where the user has it already, else only in later ones
        "eager_zygote": "numpy" in sys.modules,
        "keep_fd": _OWNER_FD,
        "owner_fd": _OWNER_FD,
        "owner_pid": os.getpid(),
        "sys_path": sys.path,
    }
    pid = _spawn(settings, theirs, log)
    theirs.close()
    client = _make_client(config, f"{session_dir}/d{os.getpid()}.sock", ours)
    try:
        client.register("driver", facts, config.head_start_timeout_s)
    except BaseException as error:
        client.close()
        _wait_exit(pid)
        if isinstance(error, RaySystemError):
            raise RaySystemError(f"The head process did not start. It said:\n{_read(log)}") from error
        raise
    finally:
        os.close(log)
    client.listen()
    places = {os.path.dirname(directory) for directory in (session_dir, card_dir, store_dir, spilled_dir)}
    return NativeSession(client, pid, f"{session_dir}/node.sock", place.warning, sorted(places))


def join(address: str, facts: dict[str, Any]) -> NativeSession:
    """Join the head whose socket is at *address*.  Raises ConnectionError if there is none."""
    config = Config.from_environ()
    try:
        sock = connect(address)
    except OSError as error:
        raise ConnectionError(
            f"No head of jray listens at {address}: {error.strerror or error}. Start one, or call jray.init() "
            "without an address."
        ) from error
    client = _make_client(
        config, f"{os.path.dirname(address)}/d{os.getpid()}-{os.urandom(2).hex()}.sock", sock
    )
    client.listen()
    client.register("driver", facts, config.head_start_timeout_s)
    return NativeSession(client, None, address)


def _make_usable(base: str) -> None:
    try:
        os.makedirs(base, mode=0o700, exist_ok=True)
    except OSError as error:
        fault = f"cannot be made: {error.strerror}"
    else:
        if os.access(base, os.W_OK | os.X_OK):
            return
        fault = "cannot be written"
    raise RaySystemError(
        f"The runtime directory {base} {fault}. Set JRAY_RUNTIME_DIR to a directory that you can write, "
        "or call jray.init(_temp_dir=...) with one."
    )


def _make_client(config: Config, address: str, sock: socket.socket) -> CoreClient:
    reactor = Reactor(config.spin_us)
    return CoreClient(
        config=config,
        address=address,
        node_socket=sock,
        shields=Shields(BorrowedHandlerShield(reactor.wake)),
        reactor=reactor,
        context=DriverContext(),
    )


def _spawn(settings: dict[str, Any], theirs: socket.socket, log: int) -> int:
    environ = {name: text for name, text in os.environ.items() if not name.startswith(_STRIPPED)}
    environ["MPLBACKEND"] = "agg"  # the kernel's own draws into the kernel
    if "OMP_NUM_THREADS" in environ:
        environ["JRAY_USER_OMP_NUM_THREADS"] = environ["OMP_NUM_THREADS"]
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", _BOOT, json.dumps(settings)],
        environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
            # not by making it inheritable: another thread may start a process at this moment, which would
            # keep it open and hide the head's death
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), _OWNER_FD),
        ],
        setsid=True,  # an interrupt of the notebook goes to its whole process group
    )


def _read(log: int) -> str:
    return os.pread(log, 8192, 0).decode("utf-8", "replace").strip() or "(nothing)"


def _wait_exit(pid: int) -> bool:
    """Wait for a child's end, and enforce it after a while; tell whether it ended well."""
    deadline = time.monotonic() + _GRACE_S
    pause_s = 0.0005
    while True:
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # the user's program waits for all children
            return False
        if ended:
            return status == 0
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.01)
