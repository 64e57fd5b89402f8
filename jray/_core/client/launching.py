"""Owns the start of a head process, for this one or for all: its directories, its settings, its first and last moments.

It comes before everything else of a client, and needs little: the head starts while this process loads the rest.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jray._core.resources import ResourceSet
from jray._core.store.place import choose_place, default_capacity, disk_directory, free_bytes
from jray._core.store.sweep import session_directory, sweep
from jray._core.wire.connection import check_path, socket_pair
from jray._heads.cards import runtime_dir
from jray.exceptions import RaySystemError

if TYPE_CHECKING:
    from jray._heads.keepers import Keeper

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])['sys_path']; "
    "from jray._core.daemon.main import main; main()"
)
#: what a kernel exports for itself and workers must not believe
_STRIPPED = ("JPY_", "IPY_")
#: longest name of a socket in a session's directory
_SOCKET_NAME = "/d4194304-9999.sock"
_GRACE_S = 5.0
#: where the head finds what it is given: its end of the socket pair, or of the pipe by which it says that it is up
_GIVEN_FD = 3


@dataclass(frozen=True, slots=True)
class NodeWanted:
    """What the node of a head is to have, and where its files are to go."""

    resources: ResourceSet
    gpu_ids: Sequence[str]
    store_bytes: int
    labels: Mapping[str, str]
    name: str | None  #: default: the machine's
    temp_dir: str | None  #: default: the runtime directory
    spill_dir: str | None  #: default: `temp_dir`, or a directory on disk if that is in memory


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
        return _read_log(self.log)

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


@dataclass(frozen=True, slots=True)
class FreeHead:
    """A head, or a node of another head, that runs and goes on when this process has ended."""

    folder: str  #: that its card is in, if it is a head
    warning: str  #: what the user should know about the store, once
    pid: int
    node_id: bytes  #: of its node


def default_store_bytes(memory_bytes: int) -> int:
    """Return the size of the store when the user gives none."""
    return default_capacity(memory_bytes, free_bytes("/dev/shm"))  # noqa: S108


@dataclass(frozen=True, slots=True)
class _Plan:
    """A head that is to be: where its files go, and what it is told."""

    settings: dict[str, Any]
    places: list[str]
    warning: str


def launch(
    wanted: NodeWanted,
    *,
    head_address: str | None = None,
    tells_ready: bool = False,
    env_vars: Mapping[str, str] = MappingProxyType({}),
) -> LaunchedHead:
    """Start a head for this process, or a node of the head at *head_address*, and return at once.

    `env_vars` are for its processes.  `tells_ready`: nobody is going to speak to it over the socket, which
    `LaunchedHead.wait_ready` reads.
    Raises RaySystemError if there is no place for its files.
    """
    base = os.path.abspath(wanted.temp_dir) if wanted.temp_dir else runtime_dir()
    plan = _plan(base, base, wanted)
    ours, theirs = socket_pair()
    log = _make_log()
    settings = plan.settings | {
        "head_address": head_address,
        "tells_ready": tells_ready,
        "owner_fd": _GIVEN_FD,
        "owner_pid": os.getpid(),
        "ready_fd": None,
        "started_by": "jray.init",
        "idle_timeout_s": None,
        "keeper": None,
    }
    pid = _spawn(settings, theirs.fileno(), log, env_vars)
    theirs.close()
    return LaunchedHead(
        pid, ours, log, settings["session_dir"], settings["address"], plan.warning, plan.places,
        bytes.fromhex(settings["node_id"]),
    )  # fmt: skip


def launch_free(
    wanted: NodeWanted,
    *,
    started_by: str,
    idle_timeout_s: float | None,
    keeper: Keeper | None,
    timeout_s: float,
    head_address: str | None = None,
) -> FreeHead:
    """Start a head, or a node of the head at *head_address*, that outlives this process; blocks until it can be used.

    A head's card is in the runtime directory, wherever its files are, so that others find it.  Raises RaySystemError,
    with what it said, if it does not come up within *timeout_s*; nothing of it is left then.
    """
    base = runtime_dir()
    files = os.path.abspath(wanted.temp_dir) if wanted.temp_dir else base
    plan = _plan(base, files, wanted)
    settings = plan.settings | {
        "head_address": head_address,
        "tells_ready": False,  # it is not by a connection that it does
        "owner_fd": None,
        "owner_pid": None,
        "ready_fd": _GIVEN_FD,
        "started_by": started_by,
        "idle_timeout_s": idle_timeout_s,
        "keeper": None if keeper is None else keeper.to_json(),
    }
    ready, theirs = os.pipe2(os.O_CLOEXEC)
    log = _make_log()
    try:
        pid = _spawn(settings, theirs, log, {})
        os.close(theirs)
        is_up = False
        try:
            is_up = _is_told(ready, timeout_s)
            if not is_up:
                what = "head" if head_address is None else "node's"
                raise RaySystemError(f"The {what} process did not start. It said:\n{_read_log(log)}")
        finally:
            if not is_up:  # also if the user has lost patience
                os.kill(pid, signal.SIGKILL)
                _wait_exit(pid)
                for place in plan.places:
                    sweep(place)
    finally:
        os.close(ready)
        os.close(log)
    return FreeHead(settings["card_dir"], plan.warning, pid, bytes.fromhex(settings["node_id"]))


def _is_told(ready: int, timeout_s: float) -> bool:
    """Wait for a head's word that it is up; tell whether it came."""
    waiting = select.poll()
    waiting.register(ready, select.POLLIN)
    return bool(waiting.poll(timeout_s * 1000)) and bool(os.read(ready, 16))


def _plan(base: str, files: str, wanted: NodeWanted) -> _Plan:
    """Choose the directories of a head: its card goes into *base*, the rest into *files* as far as that serves."""
    _make_usable(base)
    _make_usable(files)
    name = f"{int(time.time()):x}-{os.urandom(4).hex()}"
    card_dir = session_directory(base, name)
    session_dir = session_directory(files, name)
    try:
        check_path(session_dir + _SOCKET_NAME)
    except ValueError:
        # sockets must have short paths; the card stays where it is looked for
        session_dir = session_directory("/tmp", name)  # noqa: S108
        _make_usable("/tmp")  # noqa: S108
    place = choose_place(wanted.store_bytes, files)
    # where both lie in one directory they must not have one name
    store_dir = session_directory(place.base, f"{name}-store")
    spill_base = os.path.abspath(wanted.spill_dir or disk_directory(files))
    _make_usable(spill_base)
    spilled_dir = session_directory(spill_base, f"{name}-spill")
    environment_dir = session_directory(spill_base, f"{name}-env")
    settings = {
        "node_id": os.urandom(28).hex(),
        "session_dir": session_dir,
        "store_dir": store_dir,
        "store_bytes": wanted.store_bytes,
        "spill_dir": spilled_dir,
        "environment_dir": environment_dir,
        "address": f"{session_dir}/node.sock",
        "resources": dict(wanted.resources.items()),
        "gpu_ids": list(wanted.gpu_ids),
        "labels": dict(wanted.labels),
        "node_name": wanted.name or socket.gethostname(),
        "card_dir": card_dir,
        "is_zygote": False,
        # numpy is wanted in the first workers where the user has it already, else only in later ones
        "eager_zygote": "numpy" in sys.modules,
        "keep_fd": _GIVEN_FD,
        "sys_path": sys.path,
    }
    places = {os.path.dirname(directory) for directory in (session_dir, card_dir, store_dir, spilled_dir)}
    return _Plan(settings, sorted(places), place.warning)


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


def _make_log() -> int:
    return os.memfd_create("jray-head-log", os.MFD_CLOEXEC)


def _read_log(log: int) -> str:
    return os.pread(log, 8192, 0).decode("utf-8", "replace").strip() or "(nothing)"


def _spawn(settings: dict[str, Any], given: int, log: int, env_vars: Mapping[str, str]) -> int:
    """Start a head's or a node's process, to which the descriptor *given* is `_GIVEN_FD`."""
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
            (os.POSIX_SPAWN_DUP2, given, _GIVEN_FD),
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
