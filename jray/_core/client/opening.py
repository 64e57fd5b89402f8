"""Owns what `jray.init` means to jray's own engine: which head, with what resources."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from jray._core.client.capacity import node_wanted
from jray._core.client.finding import Found, find_head
from jray._core.client.launching import launch
from jray._core.config import Config
from jray._core.engine import StartOptions
from jray._core.environments import Environment, as_dict, is_at_hand, normalize, parse

if TYPE_CHECKING:
    from jray._core.client.packing import JobPackages
    from jray._core.client.session import NativeSession

logger = logging.getLogger("jray")

#: fields of a runtime environment that may name what is here alone
_LOCAL_FIELDS = {"working_dir", "py_modules", "worker_process_setup_hook"}


def open_session(options: StartOptions) -> NativeSession:
    """Start a head for this process, or join one; blocks until it is ready."""
    packages = _packages(options)
    try:
        environment = normalize(options.runtime_env, (), packages)
        session = _open(options, environment)
        try:
            _make_ready(session, environment, packages)
        except BaseException:
            session.close()
            raise
    finally:
        if packages is not None:
            packages.close()
    return session


def _packages(options: StartOptions) -> JobPackages | None:
    """Return what makes packages of local files, where any may be needed."""
    if not _LOCAL_FIELDS & parse(options.runtime_env).keys():
        return None
    from jray._core.client.packing import JobPackages  # noqa: PLC0415 -- 30 ms, which few programs need

    return JobPackages(Config.from_environ())


def _make_ready(session: NativeSession, environment: Environment, packages: JobPackages | None) -> None:
    """Give the cluster the packages of the job's environment, and have it made before the first task asks for it."""
    if packages is not None:
        packages.upload(session.client)
    if not is_at_hand(environment) and as_dict(environment).get("config", {}).get("eager_install", True):
        session.client.ask("prepare", environment)


def _open(options: StartOptions, environment: Environment) -> NativeSession:
    found = find_head(options.address)
    facts = _facts(options, environment)
    config = Config.from_environ()
    if found.address is None:
        head = launch(node_wanted(options))
        from jray._core.client.session import start  # noqa: PLC0415 -- 80 ms, in which the head comes up

        session = start(head, facts, config)
    else:
        _refuse_local_settings(options, found)
        from jray._core.client.session import join  # noqa: PLC0415 -- as above

        session = join(found, facts, config)
        # whoever names a head need not be told which it is
        level = logging.INFO if options.address in (None, "auto") else logging.DEBUG
        logger.log(level, "Joined the jray head at %s: %s.", found.address, found.why)
    session.client.runtime_env = environment
    session.client.default_actor_lifetime = options.default_actor_lifetime
    session.client.shows_output = options.log_to_driver
    return session


def _facts(options: StartOptions, environment: Environment) -> dict[str, Any]:
    return {
        "namespace": options.namespace,
        "cwd": os.getcwd(),
        # "" is the directory of the moment, which in a worker may be another
        "sys_path": [*options.search_path, *(path or os.getcwd() for path in sys.path)],
        "entrypoint": " ".join(sys.argv) or "python",
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "metadata": dict(options.metadata),
        "runtime_env": environment,
        "logging": options.logging,
        "default_actor_lifetime": options.default_actor_lifetime,
    }


def _refuse_local_settings(options: StartOptions, found: Found) -> None:
    names = {
        name: name
        for name in ("num_cpus", "num_gpus", "resources", "labels", "object_store_memory", "node_name")
    }
    names["spill_dir"] = "object_spilling_directory"
    given = [said for name, said in names.items() if getattr(options, name) is not None]
    if given:
        raise ValueError(
            f"When connecting to an existing cluster, {' and '.join(given)} must not be provided. The head at "
            f'{found.address} was chosen because {found.why}; jray.init(address="local", ...) starts another.'
        )
