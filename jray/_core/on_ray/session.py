"""Owns what `jray.init(engine="ray")` does: find Ray and the cluster, join or start it, leave it again.

Imports Ray only when a session is opened, so that a Ray that is missing is an error that says what to do.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import os
import platform
import re
import socket
from typing import TYPE_CHECKING, Any, NoReturn

from jray._core.engine import StartOptions
from jray._core.frontend import get_frontend

if TYPE_CHECKING:
    from jray._core.on_ray.engine import RayEngine
    from jray._core.on_ray.listening import Listener

#: the oldest Ray that this adapter was tested with
OLDEST_RAY = (2, 60)
#: seconds in which a cluster's port must answer
_PROBE_S = 5.0
_REMOTE = "ray://"
#: where a remote client says what its server logs
_SERVERS_LOG = logging.getLogger("ray.util.client.logsclient")
#: keywords of Ray's `init` that say what a new cluster has
_LOCAL = {
    "num_cpus": "num_cpus",
    "num_gpus": "num_gpus",
    "resources": "resources",
    "labels": "labels",
    "object_store_memory": "object_store_memory",
    "memory": "_memory",
    "temp_dir": "_temp_dir",
    "node_name": "_node_name",
    "spill_dir": "object_spilling_directory",
}


class RaySession:
    """A driver's part in a Ray cluster."""

    def __init__(self, engine: RayEngine, address: str, *, is_ours: bool, listener: Listener | None) -> None:
        self._ray = importlib.import_module("ray")
        self._is_ours = is_ours
        self._listener = listener
        self.client = engine
        self.address = address
        self.info = self._facts()
        self.warning = ""
        # after Ray's own, and so called before it: what is left to show needs a cluster to come from
        atexit.register(self.close)

    def _facts(self) -> dict[str, Any]:
        context = self._ray.get_runtime_context()
        facts: dict[str, Any] = {"address": self.address, "node_id": self.client.node_id.hex()}
        if not self.client.is_remote_client:
            facts["session_dir"] = os.path.join(context.get_temp_dir(), context.get_session_name())
            facts["gcs_address"] = context.gcs_address
        return facts

    def is_alive(self) -> bool:
        """Tell whether this process is still part of the cluster."""
        return bool(self._ray.is_initialized())

    def close(self) -> None:
        """Leave the cluster; a Ray that `init` found running in this process is left running."""
        atexit.unregister(self.close)
        if self._listener is not None and self.is_alive():
            self._listener.close()
            get_frontend().flush()
        if self._is_ours:
            own = logging.getLogger("ray")
            level = own.level
            own.setLevel(logging.CRITICAL)  # calls that nobody waits for any more are cut off
            self._ray.shutdown()
            own.setLevel(level)
            _SERVERS_LOG.disabled = False


def open_session(options: StartOptions) -> RaySession:
    """Join the Ray cluster at the address, or start one where Ray's own `init` would; blocks until it is ready.

    Raises:
        ImportError: there is no Ray, or one that is too old.
        ConnectionError: nothing answers at the address.
        RuntimeError: the cluster runs other versions of Ray or Python.
        ValueError: resources are given for a cluster that exists.
    """
    ray = _find_ray()
    is_ours = not ray.is_initialized()
    if is_ours:
        _join(ray, options)
    elif options.address is not None:
        raise RuntimeError(
            "Ray is initialized in this process already. Leave jray.init's address out to use that cluster, or call "
            "ray.shutdown() first."
        )
    elif given := [*_given_locally(options), *_given_of_the_job(options)]:
        raise ValueError(
            f"Ray is initialized in this process already, so {' and '.join(given)} must not be provided. Give it to "
            "ray.init(), or call ray.shutdown() first."
        )
    try:
        return _opened(ray, options, is_ours=is_ours)
    except BaseException:
        if is_ours:
            ray.shutdown()
        raise


def _opened(ray: Any, options: StartOptions, *, is_ours: bool) -> RaySession:
    # now that there is a Ray to import
    shipping = importlib.import_module("jray._core.on_ray.shipping")
    engine_module = importlib.import_module("jray._core.on_ray.engine")
    # what was started elsewhere prints by itself
    shows_output = options.log_to_driver and is_ours
    sources = shipping.publish()
    engine: RayEngine = engine_module.RayEngine(is_worker=False, shows_output=shows_output)
    if engine.is_remote_client:
        # the process that acts for this one unpickles whatever is sent, so it must have jray first
        ray.put(sources)
    listener = None
    if shows_output:
        listener = importlib.import_module("jray._core.on_ray.listening").Listener(engine.job_id)
    address = _wanted(options.address) or ""
    if not address.startswith(_REMOTE):
        address = str(ray.get_runtime_context().gcs_address)
    return RaySession(engine, address, is_ours=is_ours, listener=listener)


# -- finding Ray and the cluster ----------------------------------------------------------------------


def _find_ray() -> Any:
    # in a notebook it would tell on import that its own tables want ipywidgets
    logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise ImportError(
            f'engine="ray" needs Ray, which this Python lacks ({error}). Install it: pip install "jray[ray]"'
        ) from None
    if type(ray).__module__.partition(".")[0] == __name__.partition(".")[0]:
        raise ImportError(
            'engine="ray" needs Ray itself, and here `ray` is jray\'s stand-in for it (jray.compat), which would run '
            "everything on jray again. Start Python without `-m jray.compat` and without its directory on "
            "PYTHONPATH, or leave engine= out."
        )
    if version_of(ray.__version__) < OLDEST_RAY:
        oldest = ".".join(map(str, OLDEST_RAY))
        raise ImportError(
            f'engine="ray" needs Ray {oldest} or newer, and this is {ray.__version__}. Install it: '
            f'pip install "jray[ray]", and the same version on the cluster.'
        )
    return ray


def version_of(text: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def _wanted(address: str | None) -> str | None:
    """Return the address with the environment's in the place of none."""
    if address not in (None, "auto"):
        return address
    ours = os.environ.get("JRAY_ADDRESS")
    if ours and "/" not in ours.removeprefix(
        _REMOTE
    ):  # with a slash it is the socket of a head of jray's own
        return ours
    return os.environ.get("RAY_ADDRESS") or address


def _join(ray: Any, options: StartOptions) -> None:
    address = _wanted(options.address)
    _probe(address or "", options.temp_dir)
    keywords = _given_locally(options)
    for name in ("resources", "labels", "runtime_env"):
        value = keywords.get(name) if name != "runtime_env" else options.runtime_env
        if value is not None:
            keywords[name] = dict(value)
    if address in (None, "local"):
        keywords["include_dashboard"] = options.include_dashboard
    is_remote = address is not None and address.startswith(_REMOTE)
    if is_remote and keywords.keys() - {"runtime_env"}:
        names = " and ".join(sorted(keywords.keys() - {"runtime_env"}))
        raise ValueError(f"When connecting to an existing cluster, {names} must not be provided.")
    keywords |= _of_the_job(options, is_remote=is_remote)
    # what Ray tells on its way would stand in the user's cell, and of a remote client what its server tells itself
    own = logging.getLogger("ray")
    level = own.level
    own.setLevel(logging.WARNING)
    _SERVERS_LOG.disabled = True
    try:
        ray.init(
            address,
            namespace=options.namespace,
            log_to_driver=False,
            logging_level=logging.ERROR if is_remote else logging.WARNING,
            **keywords,
        )
    except ValueError:
        raise
    except Exception as error:  # noqa: BLE001 -- Ray raises RuntimeErrors, ConnectionErrors and grpc's own
        with contextlib.suppress(Exception):  # what is half open would make every later init fail
            ray.shutdown()
        _explain(error, address, ray.__version__)
    finally:
        own.setLevel(level)


def _given_locally(options: StartOptions) -> dict[str, Any]:
    """Return what is said of a new cluster, by Ray's keywords."""
    return {
        rays: getattr(options, ours) for ours, rays in _LOCAL.items() if getattr(options, ours) is not None
    }


def _given_of_the_job(options: StartOptions) -> list[str]:
    """Return the user's names of what is said of the job."""
    given = {
        "namespace": options.namespace,
        "runtime_env": options.runtime_env,
        "logging_config": options.logging,
        **_of_job_config(options),
    }
    return [name for name, value in given.items() if value]


def _of_job_config(options: StartOptions) -> dict[str, Any]:
    """Return what Ray takes in a `JobConfig` alone, by the names there; false: it is not said."""
    return {
        "job_config.metadata": options.metadata,
        "job_config.code_search_path": options.search_path,
        "job_config.default_actor_lifetime": options.default_actor_lifetime != "non_detached",
    }


def _of_the_job(options: StartOptions, *, is_remote: bool) -> dict[str, Any]:
    """Return the keywords of Ray's `init` for what concerns the whole job."""
    keywords: dict[str, Any] = {}
    logs = None
    if options.logging is not None:
        logs = importlib.import_module("ray").LoggingConfig(**options.logging)
    job_settings = [name for name, value in _of_job_config(options).items() if value]
    if is_remote:
        if job_settings:
            raise NotImplementedError(
                f"Ray does not take {' and '.join(job_settings)} by ray://. Join from one of the cluster's machines, "
                "or leave it out."
            )
        return keywords if logs is None else {"logging_config": logs}
    if job_settings or logs is not None:
        job = importlib.import_module("ray.job_config").JobConfig(
            metadata=dict(options.metadata),
            default_actor_lifetime=options.default_actor_lifetime,
            _py_driver_sys_path=list(options.search_path),
        )
        if logs is not None:
            job.set_py_logging_config(logs)
        keywords["job_config"] = job
    return keywords


def _probe(address: str, temp_dir: str | None) -> None:
    """Raise ConnectionError if nothing listens at *address*; Ray itself would try for a minute."""
    if address in ("", "auto"):
        with contextlib.suppress(Exception):  # only Ray knows where it notes the cluster of this machine
            services = importlib.import_module("ray._private.services")
            address = services.find_bootstrap_address(temp_dir) or address
    host, _, port = address.removeprefix(_REMOTE).partition("?")[0].rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_S).close()
    except OSError as error:
        raise ConnectionError(
            f"Nothing answers at {address} ({error.strerror or error}). {_how_to_start(address)}"
        ) from None


def _how_to_start(address: str | None) -> str:
    if (address or "").startswith(_REMOTE):
        return (
            "Start a cluster there with `ray start --head --ray-client-server-port=10001`, and let this machine reach "
            "that port."
        )
    return (
        "Start a cluster with `ray start --head`, join it from its own machines with the address that this prints, and "
        'from elsewhere with jray.init("ray://HOST:10001").'
    )


def _explain(error: Exception, address: str | None, version: str) -> NoReturn:
    """Raise what Ray's error means, with what to do."""
    text = str(error)
    place = "the cluster" if address in (None, "auto") else address
    if re.search(r"version", text, re.IGNORECASE) and re.search(
        r"mismatch|differ|match", text, re.IGNORECASE
    ):
        raise RuntimeError(
            f"{place} runs other versions than this process, which has Ray {version} and Python "
            f"{platform.python_version()}; both Ray's version and Python's minor version must be the same. Install the "
            f"cluster's: pip install 'ray=={_rays_version_in(text, version)}'. {text}"
        ) from error
    if isinstance(error, ConnectionError | TimeoutError) or "connect" in text.lower():
        raise ConnectionError(f"Ray could not join {place}: {text} {_how_to_start(address)}") from error
    raise error


def _rays_version_in(text: str, own: str) -> str:
    """Return the version of Ray in *text* that is not this process's."""
    return next((found for found in re.findall(r"\b2\.\d+\.\d+\b", text) if found != own), own)
