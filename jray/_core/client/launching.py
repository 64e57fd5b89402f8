"""Owns the start of a head process for this one: its directories, its settings, its first and last moments.

It comes before everything else of a client, and needs little: the head starts while this process loads the rest.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from jray._core.resources import ResourceSet
from jray._core.store.place import choose_place, default_capacity, disk_directory, free_bytes
from jray._core.store.sweep import session_directory
from jray._core.wire.connection import check_path, socket_pair
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


@dataclass(frozen=True, slots=True)
class LaunchedHead:
    """A head process on its way up."""

    pid: int
    socket: socket.socket  #: this process's end of the connection with it
    log: int  #: descriptor of what it says before it has a log of its own
    session_dir: str
    address: str  #: of its socket
    warning: str  #: what the user should know about the store, once
    places: Sequence[str]  #: where its directories are
    node_id: bytes  #: of its node

    def read_log(self) -> str:
        """Return the beginning of what it said."""
        return os.pread(self.log, 8192, 0).decode("utf-8", "replace").strip() or "(nothing)"

    def wait_ready(self, timeout_s: float) -> None:
        """Block until it serves, if it was launched to tell so.  Raises RaySystemError, with the end of its log."""
        self.socket.settimeout(timeout_s)
        try:
            has_told = bool(self.socket.recv(4096))
        except TimeoutError:
            has_told = False
        finally:
            self.socket.settimeout(None)
        if not has_told:
            raise RaySystemError(
                f"The process {self.pid} of the node {self.node_id.hex()} was not ready within {timeout_s:.0f} s. "
                f"It said:\n{self.read_log()}"
            )

    def wait_exit(self) -> bool:
        """Wait for its end, and enforce it after a while; tell whether it ended well."""
        return _wait_exit(self.pid)


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


def launch(
    *,
    resources: ResourceSet,
    gpu_ids: list[str],
    store_bytes: int,
    temp_dir: str | None,
    spill_dir: str | None,
    labels: Mapping[str, str],
    node_name: str | None,
    head_address: str | None = None,
    tells_ready: bool = False,
    env_vars: Mapping[str, str] = MappingProxyType({}),
) -> LaunchedHead:
    """Start a head for this process, or a node of the head at *head_address*, and return at once.

    `env_vars` are for its processes.  `tells_ready`: nobody is going to speak to it over the socket, which
    `LaunchedHead.wait_ready` reads.
    Raises RaySystemError if there is no place for its files.
    """
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
    address = f"{session_dir}/node.sock"
    ours, theirs = socket_pair()
    log = os.memfd_create("jray-head-log", os.MFD_CLOEXEC)
    node_id = os.urandom(28)
    settings = {
        "node_id": node_id.hex(),
        "tells_ready": tells_ready,
        "session_dir": session_dir,
        "store_dir": store_dir,
        "store_bytes": store_bytes,
        "spill_dir": spilled_dir,
        "address": address,
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
        "head_address": head_address,
        "owner_pid": os.getpid(),
        "sys_path": sys.path,
    }
    pid = _spawn(settings, theirs, log, env_vars)
    theirs.close()
    places = {os.path.dirname(directory) for directory in (session_dir, card_dir, store_dir, spilled_dir)}
    return LaunchedHead(pid, ours, log, session_dir, address, place.warning, sorted(places), node_id)


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


def _spawn(settings: dict[str, Any], theirs: socket.socket, log: int, env_vars: Mapping[str, str]) -> int:
    environ = {name: text for name, text in os.environ.items() if not name.startswith(_STRIPPED)}
    environ["MPLBACKEND"] = "agg"  # the kernel's own draws into the kernel
    if "OMP_NUM_THREADS" in environ:
        environ["JRAY_USER_OMP_NUM_THREADS"] = environ["OMP_NUM_THREADS"]
    environ.update(env_vars)
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
