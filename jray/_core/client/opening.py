"""Owns what `jray.init` means to jray's own engine: which head, with what resources."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from jray._core.client.capacity import capacity_of
from jray._core.client.launching import LaunchedHead, launch
from jray._core.config import Config
from jray._core.engine import StartOptions
from jray._core.environments import Environment, normalize

if TYPE_CHECKING:
    from jray._core.client.session import NativeSession


def open_session(options: StartOptions) -> NativeSession:
    """Start a head for this process, or join one; blocks until it is ready."""
    environment = normalize(options.runtime_env)
    address = _find_address(options.address)
    facts = _facts(options, environment)
    config = Config.from_environ()
    if address is None:
        head = _launch(options)
        from jray._core.client.session import start  # noqa: PLC0415 -- 80 ms, in which the head comes up

        session = start(head, facts, config)
    else:
        _refuse_local_settings(options)
        from jray._core.client.session import join  # noqa: PLC0415 -- as above

        session = join(address, facts, config)
    session.client.runtime_env = environment
    session.client.default_actor_lifetime = options.default_actor_lifetime
    session.client.shows_output = options.log_to_driver
    return session


def _launch(options: StartOptions) -> LaunchedHead:
    capacity = capacity_of(options)
    return launch(
        resources=capacity.resources,
        gpu_ids=capacity.gpu_ids,
        store_bytes=capacity.store_bytes,
        temp_dir=options.temp_dir,
        spill_dir=options.spill_dir,
        labels=capacity.labels,
        node_name=options.node_name,
    )


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
    if "/" not in address:
        raise ConnectionError(
            f"The address {address!r} is not the path of a head's socket. jray's own runtime uses one machine; "
            'call jray.init() without an address, or with engine="ray" for a Ray cluster at that address.'
        )
    return address


def _refuse_local_settings(options: StartOptions) -> None:
    names = {
        name: name
        for name in ("num_cpus", "num_gpus", "resources", "labels", "object_store_memory", "node_name")
    }
    names["spill_dir"] = "object_spilling_directory"
    given = [said for name, said in names.items() if getattr(options, name) is not None]
    if given:
        raise ValueError(
            f"When connecting to an existing cluster, {' and '.join(given)} must not be provided."
        )
