"""Owns the session of this process: `init`, `shutdown`, `is_initialized`, and the start of itself where one is needed."""

from __future__ import annotations

import atexit
import html
import importlib
import logging
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from jray._core import logs
from jray._core.client import opening as native
from jray._core.config import wants_log_to_driver
from jray._core.engine import Session, StartOptions
from jray._core.frontend import get_frontend
from jray._core.logs import LoggingConfig
from jray._core.refs import current
from jray.exceptions import RaySystemError
from jray.job_config import JobConfig

logger = logging.getLogger("jray")

_LOCALHOST = "127.0.0.1"
_LOCALHOSTS = (_LOCALHOST, "localhost", "::1")
_NO_ISOLATION = (
    "jray does not put its processes into a cgroup; give the container or service that runs it limits"
)
#: keyword of Ray's `init` -> (the values that ask for nothing, why any other has no effect); they are warned about
_WITHOUT_EFFECT: dict[str, tuple[tuple[Any, ...], str]] = {
    "_system_config": (
        (None, {}),
        "these are settings of Ray's own processes; jray's are environment variables (see jray._core.config)",
    ),
    "_driver_object_store_memory": ((None,), "drivers have no limit of their own in the object store"),
    "_enable_object_reconstruction": (
        (None, False),
        "lost objects are made again by their tasks in any case",
    ),
    "_metrics_export_port": ((None,), "jray serves no metrics over the network"),
    "_node_ip_address": (
        (None, _LOCALHOST, "localhost"),
        "jray's processes talk over Unix sockets of this machine",
    ),
    "_plasma_directory": ((None, "/dev/shm"), "jray chooses between /dev/shm and JRAY_RUNTIME_DIR"),  # noqa: S108
    "_tracing_startup_hook": ((None,), "jray has no tracing; jray.timeline() shows which task ran when"),
    "proxy_server_url": ((None,), "jray has no dashboard to redirect"),
}
#: keyword -> (the values that ask for nothing, error, what to do); others are refused: the program relies on them
_REFUSED: dict[str, tuple[tuple[Any, ...], type[Exception], str]] = {
    "allow_multiple": (
        (None, False),
        RuntimeError,
        "`allow_multiple` is for Ray clients only. A process is in one cluster at a time: call jray.shutdown() first.",
    ),
    "enable_resource_isolation": ((None, False), NotImplementedError, _NO_ISOLATION),
    "cgroup_path": ((None,), ValueError, _NO_ISOLATION),
    "system_reserved_cpu": ((None,), ValueError, _NO_ISOLATION),
    "system_reserved_memory": ((None,), ValueError, _NO_ISOLATION),
    "local_mode": (
        (None, False),
        RuntimeError,
        '`local_mode` is no longer supported. jray.init(engine="inline") runs everything in this process.',
    ),
    "storage": ((None,), RuntimeError, "`storage` is no longer supported."),
}
#: keywords that ask for what is so anyway; a password for a service that isn't there protects nothing less
_GRANTED = {"_redis_password", "_redis_username", "_skip_env_hook"}


class _State:
    """The session of this process, if there is one."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.context: RayContext | None = None


_state = _State()


class BaseContext(Mapping[str, Any]):
    """Where a cluster is, for as long as this process is in it."""

    dashboard_url: str
    python_version: str
    ray_version: str

    def __init__(self, info: Mapping[str, Any]) -> None:
        self.address_info = dict(info)

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
        self.disconnect()

    def disconnect(self) -> None:
        """Leave the cluster, as `shutdown` does."""
        shutdown()


class RayContext(BaseContext):
    """What `init` returns: where the cluster is.  As a context manager it shuts down at the end."""

    ray_commit = ""

    def __init__(self, info: Mapping[str, Any]) -> None:
        super().__init__(info)
        self.dashboard_url = self.address_info.get("webui_url") or ""
        self.python_version = platform.python_version()
        self.ray_version = importlib.import_module("jray").__version__

    def __repr__(self) -> str:
        return f"RayContext(address={self.address_info['address']!r}, python_version={self.python_version!r})"

    def _repr_html_(self) -> str:
        rows = {
            "Address": self.address_info["address"],
            "Python": self.python_version,
            "jray": self.ray_version,
            "Dashboard": self.dashboard_url,
            "Joined because": self.address_info.get("joined"),
        }
        cells = "".join(
            f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in rows.items()
            if value
        )
        return f"<table>{cells}</table>"


def init(
    address: str | None = None,
    *,
    engine: str | None = None,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    object_store_memory: int | None = None,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    dashboard_host: str = _LOCALHOST,
    dashboard_port: int | None = None,
    job_config: JobConfig | None = None,
    configure_logging: bool = True,
    logging_level: int | str | None = None,
    logging_format: str | None = None,
    logging_config: LoggingConfig | None = None,
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    object_spilling_directory: str | None = None,
    _temp_dir: str | None = None,
    _memory: int | None = None,
    _node_name: str | None = None,
    **others: Any,
) -> RayContext:
    """Join a head of this machine, or start one; blocks until it is ready.  Who joins one says so in the log, with why.

    Args:
        address: None joins the head that JRAY_ADDRESS or RAY_ADDRESS names, else that of this kernel's Jupyter server,
            else the latest that was started to stay (`jray start --head`), and where there is none starts one for this
            process; "auto" joins also one of another program, and starts none; "local" always starts one; a session or
            the path of a socket, as `jray ps` and `jray status` show them, join that one; "ray://host:10001" joins a
            Ray cluster.
        engine: what runs tasks: "jray" (the default) its own processes; "inline" this process and thread, for
            debugging; "ray" a Ray cluster at *address*.  JRAY_ENGINE sets it where it is not given.
        num_cpus, num_gpus, resources, labels, _memory, _node_name: what this machine is said to have, and to be;
            default: what is found.
        object_store_memory: bytes of the object store; default: 30 % of memory.
        ignore_reinit_error: a second call changes nothing and returns the context of the first.
        include_dashboard: whether a Ray that is started here has a dashboard; with the other engines, and for
            dashboard_host and dashboard_port, who asks for one is told where to look instead.
        job_config: a `jray.job_config.JobConfig`; what is given beside it comes first.
        configure_logging: whether the "jray" logger is set up: with `logging_level` (default: INFO) and
            `logging_format`; its records go to the root logger's handlers where the program has any.
        logging_config: a `jray.LoggingConfig` for the root loggers of this process and of the job's workers.
        log_to_driver: whether what tasks write is shown here.
        namespace: where named actors are found; default: one of its own for each job.
        runtime_env: what the workers of all tasks and actors of this job have: a dict, or a RuntimeEnv, of
            `env_vars`, `working_dir`, `py_modules`, `excludes`, `pip`, `uv`, `py_executable`,
            `worker_process_setup_hook` and `config`.
        object_spilling_directory: where objects go that the store has no room for; default: the runtime directory, or
            a directory for temporary files if that one is in memory.
        others: keywords of Ray's that mean nothing here; each is refused, or warned about, by name.

    Raises:
        RuntimeError: it was called before, or a keyword is unknown.
        ValueError, TypeError: a value is wrong, or local resources are given for an existing head.
        ConnectionError: no head listens at the address.
        NotImplementedError: a keyword asks for what jray cannot do.
    """
    _check_others(others)
    job = JobConfig() if job_config is None else job_config
    if not isinstance(job, JobConfig):
        raise TypeError(f"job_config must be a jray.job_config.JobConfig, got {type(job).__name__}.")
    if namespace is None:
        namespace = job.ray_namespace
    _check_namespace(namespace)
    chosen_name = _engine_name(engine, address)
    chosen = _opener(chosen_name)
    # a Ray that is started here has one
    asked = None if chosen_name == "ray" and include_dashboard else include_dashboard
    _say_where_to_look(asked, dashboard_host, dashboard_port)
    if _state.session is not None and not _state.session.is_alive():
        shutdown()  # its head is gone: there is nothing to come back to
    _configure_logging(configure_logging, logging_level, logging_format, logging_config)
    if _state.session is not None and _state.context is not None:
        if ignore_reinit_error:
            logger.info("Calling jray.init() again after it has already been called.")
            return _state.context
        raise RuntimeError(
            "Maybe you called jray.init twice by accident? This error can be suppressed by passing in "
            "'ignore_reinit_error=True' or by calling 'jray.shutdown()' prior to 'jray.init()'."
        )
    _activate_notebook()
    of_workers = logging_config or job.py_logging_config
    session = chosen(
        StartOptions(
            address=address,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            resources=resources,
            labels=labels,
            object_store_memory=object_store_memory,
            memory=_memory,
            namespace=namespace,
            runtime_env=runtime_env or job.runtime_env or None,
            temp_dir=_temp_dir,
            spill_dir=object_spilling_directory,
            log_to_driver=wants_log_to_driver() if log_to_driver is None else log_to_driver,
            node_name=_node_name,
            metadata=job.metadata,
            default_actor_lifetime=job._default_actor_lifetime,
            search_path=(*job.code_search_path, *job._py_driver_sys_path),
            logging=None if of_workers is None else of_workers.to_dict(),
            include_dashboard=include_dashboard,
        )
    )
    current.client = session.client
    _state.session = session
    if session.warning:
        warnings.warn(session.warning, UserWarning, stacklevel=2)
    _state.context = RayContext(session.info)
    return _state.context


def _engine_name(name: str | None, address: str | None) -> str:
    """Return the name of the engine that is asked for, by whatever means."""
    if name is not None:
        return name
    wanted = address
    if address in (None, "auto"):
        wanted = os.environ.get("JRAY_ADDRESS") or os.environ.get("RAY_ADDRESS")
    return os.environ.get("JRAY_ENGINE") or ("ray" if (wanted or "").startswith("ray://") else "jray")


def _opener(name: str) -> Callable[[StartOptions], Session]:
    """Return the function that starts the engine of that name."""
    if name == "jray":
        return native.open_session
    if name == "inline":
        return importlib.import_module("jray._core.inline.session").open_session  # type: ignore[no-any-return]
    if name == "ray":
        return importlib.import_module("jray._core.on_ray.session").open_session  # type: ignore[no-any-return]
    raise ValueError(f"engine={name!r} is none of 'jray', 'inline' and 'ray'.")


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


def _check_namespace(namespace: str | None) -> None:
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"namespace must be None or a string, got {type(namespace).__name__}.")
    if namespace == "":
        raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')


def _check_others(others: Mapping[str, Any]) -> None:
    unknown = others.keys() - _WITHOUT_EFFECT.keys() - _REFUSED.keys() - _GRANTED
    if unknown:
        raise RuntimeError(f"Unknown keyword argument(s): {', '.join(sorted(unknown))}")
    settings = others.get("_system_config")
    if settings is not None and not isinstance(settings, dict):
        raise TypeError("The _system_config must be a dict.")
    for name, value in others.items():
        for_nothing, kind, text = _REFUSED.get(name, ((value,), RuntimeError, ""))
        if value not in for_nothing:
            raise kind(
                text if text.startswith("`") else f"jray.init({name}={value!r}) is not supported: {text}."
            )
    for name, value in others.items():
        for_nothing, why = _WITHOUT_EFFECT.get(name, ((value,), ""))
        if value not in for_nothing:
            _warn(f"jray.init({name}={value!r}) has no effect: {why}.")


def _say_where_to_look(include_dashboard: bool | None, host: str, port: int | None) -> None:
    """Tell who asks for a dashboard that there is none."""
    given = {"include_dashboard": include_dashboard, "dashboard_host": host, "dashboard_port": port}
    asked = {name: value for name, value in given.items() if value not in (None, False, *_LOCALHOSTS)}
    if asked and include_dashboard in (None, True):
        keywords = ", ".join(f"{name}={value!r}" for name, value in asked.items())
        _warn(
            f"jray.init({keywords}) has no effect: jray has no dashboard. jray.util.state tells about tasks, actors "
            "and objects, and jray.timeline() about what ran when."
        )


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=4)  # the caller of `init`


def _configure_logging(
    wanted: bool, level: int | str | None, format_: str | None, config: LoggingConfig | None
) -> None:
    if config is not None and not isinstance(config, LoggingConfig):
        raise TypeError(f"logging_config must be a jray.LoggingConfig, got {type(config).__name__}.")
    if not wanted:
        logs.leave_alone()
    elif level is not None or format_ is not None or not logger.level:
        logs.configure("INFO" if level is None else level, format_)
    if config is not None:
        config._apply()


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


current.start = _auto_init
atexit.register(shutdown)


def _forget_after_fork() -> None:
    """A forked child must not talk on its parent's connections, nor keep them open."""
    client = current.client
    if client is None:
        return
    _state.session = _state.context = None
    current.client = _ForkedClient()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    client.forked(null)
    os.close(null)


class _ForkedClient:
    """Stands for the client in a forked child: whatever is asked of it is refused."""

    def __getattr__(self, name: str) -> Any:
        raise RaySystemError(
            "This process was forked from one that uses jray, and cannot use it: a fork takes neither threads nor "
            "connections along. Use jray tasks, or start processes with the 'spawn' method and call jray.init() there."
        )


os.register_at_fork(after_in_child=_forget_after_fork)
