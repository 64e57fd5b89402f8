"""Owns the public functions: `init`, `shutdown`, `remote`, `get`, `put`, `wait`, `cancel` and their kin."""

from __future__ import annotations

import atexit
import importlib
import inspect
import logging
import os
import platform
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, overload

from jray._core.client import session as sessions
from jray._core.client.frontend import get_frontend
from jray._core.client.session import Session
from jray._core.client.streams import ObjectRefGenerator
from jray._core.config import Config, wants_log_to_driver
from jray._core.detect import detect_gpu_ids, detect_memory_bytes, detect_num_cpus, gpu_ids_for
from jray._core.environments import normalize
from jray._core.options import ActorOptions, TaskOptions
from jray._core.refs import ObjectRef, current
from jray._core.resources import node_resources_from_user
from jray.actor import ActorClass, make_actor_class
from jray.exceptions import RaySystemError
from jray.remote_function import P, R, RemoteFunction

logger = logging.getLogger("jray")

#: keywords of Ray's `init` that have no meaning here, accepted with the value that asks for nothing
_NOTHING_TO_DO: dict[str, tuple[Any, ...]] = {
    "include_dashboard": (None, False),
    "dashboard_host": (None, "127.0.0.1"),
    "dashboard_port": (None, 8265),
    "job_config": (None,),
    "logging_config": (None,),
    "configure_logging": (True, False),
    "logging_format": (None,),
    "labels": (None, {}),
    "enable_resource_isolation": (False,),
    "object_spilling_directory": (None,),
}
#: settings of Ray's own processes: there are none to set
_OF_RAYS_PROCESSES = {
    "_system_config",
    "_metrics_export_port",
    "_node_name",
    "_node_ip_address",
    "_skip_env_hook",
}
_REMOVED = {
    "local_mode": "`local_mode` is no longer supported. Call the function itself, f._function(...), to debug it.",
    "storage": "`storage` is no longer supported.",
}


class _State:
    """The session of this process, if there is one."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.context: RayContext | None = None


_state = _State()


class RayContext(Mapping[str, Any]):
    """What `init` returns: where the cluster is.  As a context manager it shuts down at the end."""

    dashboard_url = ""
    ray_commit = ""

    def __init__(self, info: dict[str, Any]) -> None:
        self.address_info = info
        self.python_version = platform.python_version()
        self.ray_version = importlib.import_module("jray").__version__

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutdown()

    def disconnect(self) -> None:
        """Leave the cluster, as `shutdown` does."""
        shutdown()

    def __repr__(self) -> str:
        return f"RayContext(address={self.address_info['address']!r}, python_version={self.python_version!r})"


def init(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: Mapping[str, float] | None = None,
    object_store_memory: int | None = None,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    ignore_reinit_error: bool = False,
    log_to_driver: bool | None = None,
    logging_level: int | str | None = None,
    _temp_dir: str | None = None,
    _memory: int | None = None,
    **others: Any,
) -> RayContext:
    """Start a head on this machine, or join one; blocks until it is ready.

    Args:
        address: None starts a head for this process (or joins the one named by JRAY_ADDRESS or RAY_ADDRESS);
            "local" always starts one; the path of a head's socket joins it; "auto" joins JRAY_ADDRESS's.
        num_cpus, num_gpus, resources, _memory: what this machine is said to have; default: what is found.
        object_store_memory: bytes of the object store; default: 30 % of memory.
        namespace: where named actors are found; default: one of its own for each job.
        runtime_env: `{"env_vars": {...}}` for all tasks and actors of this job.
        log_to_driver: whether what tasks write is shown here.

    Raises:
        RuntimeError: it was called before, or a keyword is unknown.
        ValueError, TypeError: a value is wrong, or local resources are given for an existing head.
        ConnectionError: no head listens at the address.
    """
    _check_others(others)
    _check_namespace(namespace)
    if _state.session is not None and not _state.session.client.node.connection.is_open:
        shutdown()  # its head is gone: there is nothing to come back to
    if _state.session is not None and _state.context is not None:
        if ignore_reinit_error:
            logger.info("Calling jray.init() again after it has already been called.")
            return _state.context
        raise RuntimeError(
            "Maybe you called jray.init twice by accident? This error can be suppressed by passing in "
            "'ignore_reinit_error=True' or by calling 'jray.shutdown()' prior to 'jray.init()'."
        )
    if logging_level is not None:
        logger.setLevel(logging_level)
    _activate_notebook()
    environment = normalize(runtime_env)
    address = _find_address(address)
    facts = _facts(namespace)
    if address is None:
        session = _start(num_cpus, num_gpus, resources, object_store_memory, _memory, _temp_dir, facts)
    else:
        _refuse_local_settings(num_cpus, num_gpus, resources, object_store_memory)
        session = sessions.join(address, facts)
    client = session.client
    client.runtime_env = environment
    client.shows_output = wants_log_to_driver() if log_to_driver is None else log_to_driver
    _state.session = session
    if session.warning:
        warnings.warn(session.warning, UserWarning, stacklevel=2)
    _state.context = RayContext(
        {
            "address": session.address,
            "node_id": client.node_id.hex(),
            "session_dir": client.session_dir,
            "object_store_address": client.facts["store_dir"],
            "gcs_address": session.address,
            "node_ip_address": "127.0.0.1",
            "webui_url": "",
        }
    )
    return _state.context


def shutdown(*, wait_for_processes: bool = False) -> None:  # noqa: ARG001 -- see below
    """Leave the cluster; a head that `init` started ends with all its processes.  Does nothing twice.

    Always waits for the processes; `wait_for_processes` is accepted because Ray has it.
    """
    session, _state.session, _state.context = _state.session, None, None
    current.client = None
    if session is not None:
        get_frontend().flush()
        session.close()


def is_initialized() -> bool:
    """Tell whether `init` was called and `shutdown` was not."""
    return current.client is not None


def _start(
    num_cpus: int | None,
    num_gpus: int | None,
    resources: Mapping[str, float] | None,
    object_store_memory: int | None,
    memory: int | None,
    temp_dir: str | None,
    facts: dict[str, Any],
) -> Session:
    memory_bytes = detect_memory_bytes()
    store_bytes = (
        sessions.default_store_bytes(memory_bytes) if object_store_memory is None else object_store_memory
    )
    if not isinstance(store_bytes, int) or store_bytes < _SMALLEST_STORE:
        raise ValueError(
            f"object_store_memory must be at least {_SMALLEST_STORE} bytes (an int), got {object_store_memory!r}."
        )
    gpu_ids = detect_gpu_ids() if num_gpus is None else gpu_ids_for(num_gpus)
    own = {
        **(resources or {}),
        "node:127.0.0.1": 1.0,
        "node:__internal_head__": 1.0,
    }
    total = node_resources_from_user(
        detect_num_cpus() if num_cpus is None else num_cpus,
        len(gpu_ids) if num_gpus is None else num_gpus,
        own,
        max(0, memory_bytes - store_bytes) if memory is None else memory,
    )
    return sessions.start(
        resources=total, gpu_ids=gpu_ids, store_bytes=store_bytes, temp_dir=temp_dir, facts=facts
    )


#: 4 MiB: room for a few large objects, for tests
_SMALLEST_STORE = 4 * 1024 * 1024


def _facts(namespace: str | None) -> dict[str, Any]:
    return {
        "namespace": namespace,
        "cwd": os.getcwd(),
        # "" is the directory of the moment, which in a worker may be another
        "sys_path": [path or os.getcwd() for path in sys.path],
        "entrypoint": " ".join(sys.argv) or "python",
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }


def _find_address(address: str | None) -> str | None:
    if address in (None, "auto"):
        found = os.environ.get("JRAY_ADDRESS") or os.environ.get("RAY_ADDRESS")
        if found is None and address == "auto":
            raise ConnectionError(
                "Could not find any running jray head: JRAY_ADDRESS is not set. Call jray.init() to start one."
            )
        address = found
    if address == "local" or address is None:
        return None
    if address.startswith("ray://") or "/" not in address:
        raise ConnectionError(
            f"The address {address!r} is not the path of a head's socket. This version of jray runs on one machine; "
            "call jray.init() without an address."
        )
    return address


def _refuse_local_settings(*settings: Any) -> None:
    names = ("num_cpus", "num_gpus", "resources", "object_store_memory")
    given = [name for name, value in zip(names, settings, strict=True) if value is not None]
    if given:
        raise ValueError(
            f"When connecting to an existing cluster, {' and '.join(given)} must not be provided."
        )


def _check_namespace(namespace: str | None) -> None:
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"namespace must be None or a string, got {type(namespace).__name__}.")
    if namespace == "":
        raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')


def _check_others(others: dict[str, Any]) -> None:
    for name in list(others):
        if name in _REMOVED and others[name]:
            raise RuntimeError(_REMOVED[name])
        if name in _REMOVED or name in _OF_RAYS_PROCESSES:
            del others[name]
        elif name in _NOTHING_TO_DO:
            if others[name] not in _NOTHING_TO_DO[name]:
                raise NotImplementedError(
                    f"jray.init({name}={others[name]!r}) is not supported by this version of jray."
                )
            del others[name]
    if others:
        raise RuntimeError(f"Unknown keyword argument(s): {', '.join(others)}")


def _activate_notebook() -> None:
    """Let the notebook's part take over output and cells, where code runs under IPython.

    By name, because the runtime knows no notebook: this is the one place where it makes room for a guest.
    """
    if "IPython" in sys.modules:
        importlib.import_module("jray.notebook").activate()


def _auto_init() -> None:
    if os.environ.get("JRAY_ENABLE_AUTO_CONNECT", os.environ.get("RAY_ENABLE_AUTO_CONNECT")) == "0":
        raise RaySystemError("Ray has not been started yet. You can start jray with 'jray.init()'.")
    init()


def _client() -> Any:
    return current.client or current.require()


# -- tasks and actors ---------------------------------------------------------------------------------


@overload
def remote(function: Callable[P, R], /) -> RemoteFunction[P, R]: ...
@overload
def remote(function: type, /) -> ActorClass: ...
@overload
def remote(**options: Any) -> Callable[[Any], Any]: ...
def remote(*args: Any, **options: Any) -> Any:
    """Make a function a remote function, or a class an actor class.

    `@jray.remote`, `@jray.remote(num_cpus=2, ...)` or `jray.remote(f)`.  Raises TypeError or ValueError for
    a wrong option, AssertionError for other ways to call it.
    """
    if len(args) == 1 and not options and callable(args[0]):
        return _make_remote(args[0], {})
    if args or not options:
        raise AssertionError(
            "The @jray.remote decorator must be applied either with no arguments and no parentheses, as in "
            "'@jray.remote', or with keyword arguments only, as in '@jray.remote(num_returns=2)'."
        )

    def decorate(target: Any) -> Any:
        return _make_remote(target, options)

    # what is wrong whatever it decorates is said at once
    _check_options(options)
    return decorate


def _check_options(options: dict[str, Any]) -> None:
    try:
        TaskOptions.from_kwargs(options)
    except (ValueError, TypeError, NotImplementedError):
        pass
    else:
        return
    try:
        ActorOptions.from_kwargs(options)
    except (ValueError, TypeError, NotImplementedError):
        # valid for neither: the decorated thing decides which of the two errors is shown
        return


def _make_remote(target: Any, options: dict[str, Any]) -> Any:
    if inspect.isclass(target):
        return make_actor_class(target, ActorOptions.from_kwargs(options))
    if isinstance(target, RemoteFunction | ActorClass):
        raise TypeError(f"{target!r} is remote already.")
    if inspect.isfunction(target) or inspect.isbuiltin(target) or callable(target):
        if not inspect.isfunction(target):
            raise TypeError("The @jray.remote decorator must be applied to either a function or a class.")
        is_generator = inspect.isgeneratorfunction(target)
        made = TaskOptions.from_kwargs(
            options, is_generator=is_generator, default_max_retries=Config.from_environ().task_max_retries
        )
        return RemoteFunction(target, made)
    raise TypeError("The @jray.remote decorator must be applied to either a function or a class.")


# -- objects ------------------------------------------------------------------------------------------


def put(value: Any) -> ObjectRef[Any]:
    """Store a copy of *value*; return its ref.  Arrays are copied once, and read without copying.

    Raises TypeError for an ObjectRef (put it in a list) and for what cannot be pickled,
    ObjectStoreFullError if it fits nowhere.
    """
    client = _client()
    if isinstance(value, ObjectRef):
        raise TypeError(
            "Calling 'put' on an ObjectRef is not allowed. If you really want to do this, you can wrap the ObjectRef "
            "in a list and call 'put' on it."
        )
    ref: ObjectRef[Any] = client.objects.put(value)
    return ref


def get(refs: Any, *, timeout: float | None = None) -> Any:
    """Return the value of a ref, or the list of values of a list of refs; blocks until they are there.

    Arrays from the store are read-only views of shared memory.  `timeout` is in seconds, 0 only looks.

    Raises:
        GetTimeoutError: it took longer; the tasks go on.
        The exception of a failed task, as an instance of its own class and of RayTaskError.
    """
    client = _client()
    if isinstance(refs, ObjectRef):
        return client.get((refs,), timeout)[0]
    if isinstance(refs, ObjectRefGenerator):
        return refs
    if not isinstance(refs, list):
        raise ValueError(  # noqa: TRY004 -- the class is Ray's
            f"Invalid type of object refs, {type(refs)}, is given. 'object_refs' must either be an ObjectRef or a "
            "list of ObjectRefs. "
        )
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"Attempting to call `get` on the value {ref}, which is not an ObjectRef.")
    return client.get(refs, timeout)


def wait(
    refs: Sequence[Any],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,  # noqa: ARG001 -- on one node everything is local
) -> tuple[list[Any], list[Any]]:
    """Return (ready, others) once `num_returns` are ready, or `timeout` seconds have passed.

    Both lists keep the order of *refs*; at most `num_returns` are in the first.  A failed task is ready.
    """
    client = _client()
    if isinstance(refs, ObjectRef):
        raise TypeError("wait() expected a list of jray.ObjectRef, got a single jray.ObjectRef")
    if isinstance(refs, ObjectRefGenerator):
        raise TypeError(
            "wait() expected a list of jray.ObjectRefGenerator, got a single jray.ObjectRefGenerator"
        )
    if not isinstance(refs, list):
        raise TypeError(f"wait() expected a list of ObjectRef or ObjectRefGenerator, got {type(refs)}")
    if timeout is not None and timeout < 0:
        raise ValueError(f"The 'timeout' argument must be nonnegative. Received {timeout}")
    if not refs:
        return [], []
    # by kinds and not one by one: waiting for one at a time over many refs must not look at each in Python
    for kind in set(map(type, refs)):
        if not issubclass(kind, ObjectRef | ObjectRefGenerator):
            raise TypeError(
                f"wait() expected a list of ObjectRef or ObjectRefGenerator, got list containing {kind}"
            )
    if len(set(map(id, refs))) != len(refs):
        raise ValueError("Wait requires a list of unique ray_waitables.")
    if num_returns <= 0:
        raise ValueError("Invalid number of objects to return 0: num_returns must be positive.")
    if num_returns > len(refs):
        raise ValueError("num_returns cannot be greater than the number of ray_waitables provided to wait().")
    return client.wait(refs, num_returns, timeout)  # type: ignore[no-any-return]


def cancel(ref: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancel the task that makes *ref*: drop it if it has not started, interrupt it if it runs.

    `force` ends its process; `recursive` cancels the tasks it started too.  Returns at once; what is
    finished stays finished.  Getting a cancelled ref raises TaskCancelledError.
    """
    client = _client()
    if not isinstance(ref, ObjectRef | ObjectRefGenerator):
        raise TypeError(
            f"jray.cancel() only supported for object refs. For actors, try jray.kill(). Got: {type(ref)}."
        )
    client.cancel(ref, force=force, recursive=recursive)


# -- the cluster ----------------------------------------------------------------------------------------


def _started() -> Any:
    if current.client is None:
        raise RaySystemError(
            "Ray has not been started yet. Trying to use state API before jray.init() has been called."
        )
    return current.client


def nodes() -> list[dict[str, Any]]:
    """Return a row for each node of the cluster."""
    client = _started()
    row = client.ask("node")
    node_id = row["node_id"].hex()
    return [
        {
            "NodeID": node_id,
            "Alive": True,
            "NodeManagerAddress": "127.0.0.1",
            "NodeManagerHostname": row["hostname"],
            "NodeName": row["hostname"],
            "ObjectStoreSocketName": row["store_dir"],
            "RayletSocketName": row["address"],
            "Resources": row["resources"],
            "Labels": {"ray.io/node-id": node_id},
            "alive": True,
        }
    ]


def cluster_resources() -> dict[str, float]:
    """Return what the cluster has of each resource."""
    total: dict[str, float] = _started().ask("resources")[0]
    return total


def available_resources() -> dict[str, float]:
    """Return what is free now of each resource; names of which nothing is free are left out."""
    client = _started()
    client.leasing.return_idle()
    free: dict[str, float] = client.ask("resources")[1]
    return {name: quantity for name, quantity in free.items() if quantity > 0}


def get_gpu_ids() -> list[Any]:
    """Return the ids of the GPUs assigned to the task or actor that asks."""
    worker = _client().worker
    return [int(gpu) if gpu.isdigit() else gpu for gpu in worker.gpu_ids] if worker is not None else []


current.start = _auto_init
atexit.register(shutdown)


def _forget_after_fork() -> None:
    """A forked child must not talk on its parent's connections, nor keep them open."""
    client = current.client
    if client is None:
        return
    _state.session = _state.context = None
    current.client = _ForkedClient()
    # Not closed but led nowhere: the numbers stay taken, for objects of the parent's still close and write them.
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in client.fds():
        os.dup2(null, fd, inheritable=False)
    os.close(null)
    client.pump.forget()


class _ForkedClient:
    """Stands for the client in a forked child: whatever is asked of it is refused."""

    def __getattr__(self, name: str) -> Any:
        raise RaySystemError(
            "This process was forked from one that uses jray, and cannot use it: a fork takes neither threads nor "
            "connections along. Use jray tasks, or start processes with the 'spawn' method and call jray.init() there."
        )


os.register_at_fork(after_in_child=_forget_after_fork)
