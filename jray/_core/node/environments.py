"""Owns the runtime environments of a node: makes their parts on its disk, and has workers start in them.

What is made for whom and when it goes is decided by `jray._core.machine.provisions`, what an environment consists of by
`jray._core.node.recipes`; each part is made by a process of its own, `jray._core.node.building`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
import itertools
import json
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections import deque
from typing import Any, cast

from jray._core.config import Config
from jray._core.environments import Environment, as_dict, redacted
from jray._core.machine import provisions as machine
from jray._core.node.fetching import PackageFetcher
from jray._core.node.pool import WorkerPool, ZygoteProcess
from jray._core.node.recipes import Install, Interpret, Keep, Order, Place, Recipe, Unpack, recipe
from jray._core.node.strays import end_strays
from jray._core.ports import Head, Pool
from jray._core.specs import SetupFailure
from jray._core.store.sweep import SessionLock, claim
from jray._core.wire.connection import Reactor, socket_pair

_BOOT = (
    "import json, sys; settings = json.load(sys.stdin); sys.path[:] = settings['sys_path']; "
    "from jray._core.node.building import main; main(settings)"
)
_INTERPRETER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "interpreter.py")
_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
#: starts a command in another directory
_IN_DIRECTORY = ("/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh")
#: where processes find their end of the pipe, or of the socket pair
_THEIR_FD = 3
#: builds that go on at once: they share the disk and the network
_MOST_BUILDS = 4
#: who waits for packages hears of them this often
_PROGRESS_S = 20.0
_TAIL_LINES = 20
_TAIL_BYTES = 8192
_NAMED = 4
#: environments remembered for `jray.util.state`
_REMEMBERED = 1000


@dataclasses.dataclass(slots=True, eq=False)
class _Build:
    """A part that is being made."""

    part: machine.Part
    order: Order
    target: str
    log_path: str
    started_s: float
    told_s: float
    pid: int = 0
    pipe: int = -1
    outcome: bytes = b""
    #: name under which the pool knows its zygote
    interpreter: str = ""


@dataclasses.dataclass(slots=True)
class _Known:
    """What is told of an environment."""

    created_ms: int
    success: bool | None = None
    error: str = ""
    workers: int = 0


class EnvironmentService:
    """Starts workers in their environments, each of which is made when the first wants it.  For one thread.

    `directory` is claimed when the first part is made.
    """

    def __init__(
        self,
        *,
        config: Config,
        node_id: bytes,
        head: Head,
        reactor: Reactor,
        pool: WorkerPool,
        directory: str,
        log_dir: str,
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._pool = pool
        self._directory = directory
        self._log_dir = log_dir
        self._node_id = node_id
        self._head = head
        self.packages = PackageFetcher(lambda uri, index: head.fetch_package(node_id, uri, index))
        self._machine = machine.Provisions(config.environment_cache_bytes, _MOST_BUILDS)
        self._claimed: SessionLock | None = None
        self._numbers = itertools.count(1)
        self._orders: dict[str, Order] = {}
        self._builds: dict[str, _Build] = {}
        #: what is there: a path, or the name under which the pool knows an interpreter
        self._places: dict[str, str] = {}
        #: where the last attempt to make a part has said something
        self._logs: dict[str, str] = {}
        self._known: dict[Environment, _Known] = {}
        #: what is still to be carried out: one action may bring about others, which come after those before
        self._actions: deque[machine.Action] = deque()
        self._is_performing = False
        self._workers: dict[bytes, Environment] = {}

    # -- workers ----------------------------------------------------------------------------------

    def start(self, worker_id: bytes, pool: Pool, settings: dict[str, Any]) -> None:
        """Have a worker of that pool started; if its environment must be made first, tell the host that it is awaited."""
        environment = pool[1]
        wanted = self._recipe(environment)
        if wanted.parts:
            now = time.monotonic()
            known = self._known_of(environment)
            if not self._machine.use(worker_id, pool, wanted.keys, now_s=now):
                self._head.environment_awaited(self._node_id, worker_id)
                self._want(pool, wanted, now)
                return
            self._workers[worker_id] = environment
            known.success = True
            known.workers += 1
        self._pool.start(worker_id, {**settings, **self._surroundings(wanted, settings)})

    def exited(self, worker_id: bytes) -> None:
        """A worker has ended, and needs its environment no more."""
        environment = self._workers.pop(worker_id, None)
        if environment is not None:
            self._known_of(environment).workers -= 1
            self._perform(self._machine.release(worker_id, now_s=time.monotonic()))

    def abandoned(self, pool: Pool) -> None:
        """Nobody waits for an environment any more: what only that one needs is not made."""
        self._perform(self._machine.give_up(pool))

    def _recipe(self, environment: Environment) -> Recipe:
        return recipe(environment, self._config.interpreter_idle_s)

    def _want(self, pool: Pool, wanted: Recipe, now: float) -> None:
        self._orders.update(wanted.orders)
        deadline = None if wanted.timeout_s is None else now + wanted.timeout_s
        self._perform(self._machine.want(pool, wanted.parts, now_s=now, deadline_s=deadline))

    def _known_of(self, environment: Environment) -> _Known:
        known = self._known.get(environment)
        if known is None:
            settled = (
                each for each, row in self._known.items() if not row.workers and row.success is not None
            )
            if len(self._known) >= _REMEMBERED and (old := next(settled, None)) is not None:
                del self._known[old]
            known = self._known[environment] = _Known(int(time.time() * 1000))
        return known

    def _surroundings(self, wanted: Recipe, settings: dict[str, Any]) -> dict[str, Any]:
        """Return what a worker is told of its environment."""
        found: dict[str, Any] = {}
        front = [self._places[key] for key in wanted.modules]
        if wanted.working_dir:
            place = self._places[wanted.working_dir]
            # what the job left out of its package is not to be found by its other way either
            path = [each for each in settings["sys_path"] or () if each != settings["cwd"]]
            found |= {"cwd": place, "sys_path": path}
            front.append(place)
        found["front_path"] = front
        if wanted.hook:
            found["hook_path"] = self._places[wanted.hook]
        if wanted.interpreter:
            found["interpreter"] = self._places[wanted.interpreter]
        return found

    # -- the loop ---------------------------------------------------------------------------------

    def next_deadline_s(self) -> float | None:
        """Return when `advance` must be called at the latest; None: no matter."""
        if self._machine.is_empty:
            return None
        moments = [build.told_s + _PROGRESS_S for build in self._builds.values()]
        deadline = self._machine.next_deadline_s()
        return min(moments if deadline is None else [*moments, deadline], default=None)

    def advance(self) -> None:
        """Do what is due."""
        if self._machine.is_empty:
            return
        now = time.monotonic()
        self._perform(self._machine.overdue(now))
        self._perform(self._machine.tick(now_s=now))
        for key, build in self._builds.items():
            if now >= build.told_s + _PROGRESS_S:
                build.told_s = now
                last = (_tail(build.log_path).splitlines() or [""])[-1]
                self._tell(
                    key, f"{_said(build.order)}: {now - build.started_s:.0f} s so far. {last}".rstrip()
                )

    def close(self) -> None:
        """Remove what was made; the processes that make something have been ended."""
        for build in self._builds.values():
            self._close_pipe(build)
        if self._claimed is not None:
            self._claimed.remove()

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each environment that was made, or tried, with Ray's keys."""
        return [
            {
                "runtime_env": as_dict(environment),
                "success": bool(known.success),
                "creation_time_ms": known.created_ms,
                "ref_cnt": known.workers,
                "error": known.error or None,
            }
            for environment, known in self._known.items()
            if known.success is not None
        ]

    # -- actions ----------------------------------------------------------------------------------

    def _perform(self, actions: list[machine.Action]) -> None:
        self._actions += actions
        if self._config.validate:
            self._machine.check_invariants()
        if self._is_performing:
            return
        self._is_performing = True
        try:
            while self._actions:
                self._act(self._actions.popleft())
        finally:
            self._is_performing = False

    def _act(self, action: machine.Action) -> None:
        if isinstance(action, machine.Make):
            self._make(action.part)
        elif isinstance(action, machine.Cancel):
            self._cancel(action.key)
        elif isinstance(action, machine.Remove):
            self._remove(action.key)
        elif isinstance(action, machine.Ready):
            self._settled(cast("Pool", action.waiter), None)
        else:
            self._settled(cast("Pool", action.waiter), action.reason)

    def _settled(self, pool: Pool, reason: str | None) -> None:
        known = self._known_of(pool[1])
        known.success = reason is None
        if reason is None:
            self._head.environment_made(self._node_id, pool)
            return
        known.error = reason or self._why_late(pool[1])
        self._head.environment_failed(self._node_id, pool, SetupFailure(known.error))

    def _why_late(self, environment: Environment) -> str:
        wanted = self._recipe(environment)
        logs = [_tail(self._logs[key]) for key in wanted.keys if key in self._logs]
        said = "\n".join(log for log in logs if log) or "(nothing)"
        return (
            f"It was not ready within {wanted.timeout_s:.0f} s. If it only needs longer, give it more time: "
            f"runtime_env={{'config': {{'setup_timeout_seconds': ...}}}}. Until then it said:\n{said}"
        )

    def _make(self, part: machine.Part) -> None:
        order = self._orders[part.key]
        number = next(self._numbers)
        now = time.monotonic()
        build = _Build(
            part,
            order,
            target=f"{self._directory}/{type(order).__name__.lower()}-{number}",
            log_path=f"{self._log_dir}/environment-{number}.log",
            started_s=now,
            told_s=now,
        )
        self._builds[part.key] = build
        self._logs[part.key] = build.log_path
        try:
            if self._claimed is None:
                self._claimed = claim(self._directory)
            self._begin(build, order)
        except OSError as error:
            self._failed(build, f"{error.strerror}: {error.filename}" if error.filename else str(error))

    def _begin(self, build: _Build, order: Order) -> None:
        if isinstance(order, Place):
            build.target = order.path
            if not os.path.isdir(order.path):
                self._failed(build, f"{order.path} is no directory of this node")
            else:
                self._made(build, 0)
        elif isinstance(order, Keep):
            self.packages.fetch(order.uri, build.target, lambda fault: self._kept(build, fault))
        elif isinstance(order, Unpack):
            if not order.uri.startswith("gcs://"):
                self._spawn_builder(build, "package", {"source": order.uri})
                return
            archive = f"{build.target}{_suffix(order.uri)}"
            self.packages.fetch(order.uri, archive, lambda fault: self._fetched(build, archive, fault))
        elif isinstance(order, Install):
            self._tell(build.part.key, f"{_said(order)} ...")
            self._spawn_builder(
                build,
                "packages",
                {
                    "tool": order.tool,
                    "fields": dict(order.fields),
                    "variables": dict(order.variables),
                    "working_dir": self._places[order.working_dir] if order.working_dir else None,
                    "inherited": [path for path in sys.path if _is_site(path)],
                },
            )
        else:
            self._spawn_interpreter(build, order)

    def _kept(self, build: _Build, fault: str) -> None:
        if not self._is_current(build):
            _remove_later(build.target)
        elif fault:
            self._failed(build, fault)
        else:
            self._made(build, os.path.getsize(build.target))

    def _fetched(self, build: _Build, archive: str, fault: str) -> None:
        if not self._is_current(build):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(archive)
        elif fault:
            self._failed(build, fault)
        else:
            self._spawn_builder(build, "package", {"source": archive})

    def _is_current(self, build: _Build) -> bool:
        return self._builds.get(build.part.key) is build

    # -- processes that make something ------------------------------------------------------------

    def _spawn_builder(self, build: _Build, kind: str, order: dict[str, Any]) -> None:
        settings = {
            "kind": kind,
            "order": {**order, "target": build.target},
            "sys_path": sys.path,
            "parent": os.getpid(),
        }
        read, write = os.pipe2(os.O_CLOEXEC)
        theirs = fcntl.fcntl(write, fcntl.F_DUPFD_CLOEXEC, _THEIR_FD + 1)
        # not as an argument: variables may be secrets, and anybody may see arguments
        told = os.memfd_create("jray-build", os.MFD_CLOEXEC)
        os.write(told, json.dumps(settings).encode())
        os.lseek(told, 0, os.SEEK_SET)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            build.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-c", _BOOT],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, told, 0),
                    (os.POSIX_SPAWN_OPEN, 1, build.log_path, flags, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                    (os.POSIX_SPAWN_DUP2, theirs, _THEIR_FD),
                ],
                setsid=True,  # so that it ends with all that it has started
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            for fd in (write, theirs, told):
                os.close(fd)
        self._pool.foreign.add(build.pid)
        build.pipe = read
        self._reactor.add(read, select.EPOLLIN, lambda _: self._heard(build))

    def _heard(self, build: _Build) -> None:
        data = os.read(build.pipe, 65536)
        if data:
            build.outcome += data
            return
        status = self._reap(build)
        try:
            outcome = json.loads(build.outcome)
        except ValueError:  # it was ended before it had said all
            outcome = {}
        if "bytes" in outcome:
            self._made(build, outcome["bytes"])
            return
        how = f"exited with code {os.waitstatus_to_exitcode(status)}"
        if os.WIFSIGNALED(status):
            how = f"got signal {os.WTERMSIG(status)}"
        self._failed(build, outcome.get("error", f"the process that made it (pid {build.pid}) {how}"))

    def _reap(self, build: _Build) -> int:
        """End a process, unless it is about to end by itself, and what it leaves; return its wait status."""
        self._close_pipe(build)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(build.pid, signal.SIGKILL)
        _, status = os.waitpid(build.pid, 0)
        self._pool.foreign.discard(build.pid)
        end_strays(self._pool.own_children())
        return status

    def _close_pipe(self, build: _Build) -> None:
        if build.pipe >= 0:
            self._reactor.remove(build.pipe)
            os.close(build.pipe)
            build.pipe = -1

    def _cancel(self, key: str) -> None:
        build = self._builds.pop(key)
        if build.interpreter:
            self._pool.dismiss(build.interpreter)
        if build.pipe >= 0:
            self._reap(build)
        if not isinstance(build.order, Place):
            _remove_later(build.target)

    def _made(self, build: _Build, size: int) -> None:
        key = build.part.key
        del self._builds[key]
        self._places[key] = build.interpreter or build.target
        if isinstance(build.order, Install):
            self._copy_log(build)
            seconds = time.monotonic() - build.started_s
            self._tell(key, f"{_said(build.order)}: done after {seconds:.1f} s.")
        self._perform(self._machine.made(key, size, now_s=time.monotonic()))

    def _failed(self, build: _Build, why: str) -> None:
        key = build.part.key
        del self._builds[key]
        reason = f"{_said(build.order)}: {why.rstrip('.')}."
        if isinstance(build.order, Install):
            self._copy_log(build)
            reason += f" The end of the log ({build.log_path}):\n{_tail(build.log_path) or '(empty)'}"
        if not isinstance(build.order, Place):
            _remove_later(build.target)
        self._perform(self._machine.failed(key, reason))

    def _copy_log(self, build: _Build) -> None:
        """Append the log to the files that those who waited have named."""
        wanted = [self._recipe(cast("Pool", pool)[1]) for pool in self._machine.waiters(build.part.key)]
        for path in dict.fromkeys(path for each in wanted for path in each.log_files):
            try:
                with open(build.log_path, "rb") as source, open(path, "ab") as target:
                    shutil.copyfileobj(source, target)
            except OSError as error:
                text = f"The log of a runtime environment cannot be written to {path}: {error.strerror}."
                self._tell(build.part.key, text)

    def _remove(self, key: str) -> None:
        place = self._places.pop(key)
        self._logs.pop(key, None)
        order = self._orders.pop(key)
        if isinstance(order, Interpret):
            self._pool.dismiss(place)
        elif not isinstance(order, Place):
            _remove_later(place)

    def _tell(self, key: str, text: str) -> None:
        for pool in self._machine.waiters(key):
            self._head.environment_told(cast("Pool", pool), text)

    # -- interpreters -----------------------------------------------------------------------------

    def _spawn_interpreter(self, build: _Build, order: Interpret) -> None:
        environ = {**os.environ, **order.variables}
        if order.packages:
            environ |= variables_of(self._places[order.packages], environ)
            command = [os.path.join(self._places[order.packages], "bin", "python")]
        else:
            command = [os.path.expandvars(os.path.expanduser(word)) for word in order.command]
        if order.working_dir:
            command = [*_IN_DIRECTORY, self._places[order.working_dir], *command]
        settings = {
            "python": list(sys.version_info[:2]),
            "package": _PACKAGE,
            "fallback_path": [path for path in sys.path if _is_site(path)],
        }
        ours, theirs = socket_pair()
        log = os.memfd_create("jray-interpreter-log", os.MFD_CLOEXEC)
        passed = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, _THEIR_FD + 1)
        try:
            pid = os.posix_spawnp(
                command[0],
                [*command, _INTERPRETER, json.dumps(settings)],
                environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                    (os.POSIX_SPAWN_DUP2, passed, _THEIR_FD),
                ],
            )
        except OSError:
            os.close(log)
            ours.close()
            raise
        finally:
            os.close(passed)
            theirs.close()
        build.interpreter = os.path.basename(build.target)
        self._pool.adopt(
            build.interpreter,
            ZygoteProcess(ours, pid, io.FileIO(log)),
            lambda: self._made(build, 0) if self._is_current(build) else None,
            lambda how: self._interpreter_gone(build, how),
        )

    def _interpreter_gone(self, build: _Build, how: str) -> None:
        key = build.part.key
        if self._is_current(build):
            self._failed(build, f"the process {how}")
        elif self._places.get(key) == build.interpreter:
            del self._places[key]
            self._perform(self._machine.lost(key))


def variables_of(virtual_env: str, environ: Any) -> dict[str, str]:
    """Return what `activate` of a virtual environment sets."""
    path = os.path.join(virtual_env, "bin")
    return {
        "VIRTUAL_ENV": virtual_env,
        "PATH": f"{path}{os.pathsep}{environ['PATH']}" if environ.get("PATH") else path,
    }


def _said(order: Order) -> str:
    """Return what an order is, in words."""
    if isinstance(order, Place):
        return f"The directory local://{order.path} of a runtime environment"
    if isinstance(order, Keep | Unpack):
        return f"The package {order.uri} of a runtime environment"
    if isinstance(order, Install):
        packages = order.fields["packages"]
        named = ", ".join(map(redacted, packages[:_NAMED]))
        more = f" and {len(packages) - _NAMED} more" if len(packages) > _NAMED else ""
        return f"{order.tool} installs {named}{more}"
    return f"The interpreter {' '.join(order.command) or 'of installed packages'} of a runtime environment"


def _suffix(uri: str) -> str:
    name = uri.rpartition("/")[2]
    return name[name.index(".") :] if "." in name else ""


def _is_site(path: str) -> bool:
    """Tell whether installed packages lie in that directory."""
    return os.path.basename(path) in {"site-packages", "dist-packages"} and os.path.isdir(path)


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-_TAIL_LINES:])


def _remove_later(path: str) -> None:
    """Remove a file or directory, which may take a while."""
    aside = f"{path}.old"
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if os.path.isdir(aside):
        threading.Thread(
            target=shutil.rmtree, args=(aside,), kwargs={"ignore_errors": True}, daemon=True
        ).start()
    else:
        os.unlink(aside)
