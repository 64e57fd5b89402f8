"""Owns what `jray.init` means to jray's own engine: which head, with what resources."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

from jray._core.client.session import NativeSession, default_store_bytes, join, start
from jray._core.detect import detect_gpu_ids, detect_memory_bytes, detect_num_cpus, gpu_ids_for
from jray._core.engine import StartOptions
from jray._core.environments import normalize
from jray._core.resources import node_resources_from_user


def open_session(options: StartOptions) -> NativeSession:
    """Start a head for this process, or join one; blocks until it is ready."""
    environment = normalize(options.runtime_env)
    address = _find_address(options.address)
    facts = _facts(options)
    if address is None:
        session = _start(options, facts)
    else:
        _refuse_local_settings(options)
        session = join(address, facts)
    session.client.runtime_env = environment
    session.client.shows_output = options.log_to_driver
    return session


def _start(options: StartOptions, facts: dict[str, Any]) -> NativeSession:
    memory_bytes = detect_memory_bytes()
    store_bytes = (
        default_store_bytes(memory_bytes)
        if options.object_store_memory is None
        else options.object_store_memory
    )
    if not isinstance(store_bytes, int) or store_bytes < _SMALLEST_STORE:
        raise ValueError(
            f"object_store_memory must be at least {_SMALLEST_STORE} bytes (an int), got {options.object_store_memory!r}."
        )
    gpu_ids = detect_gpu_ids() if options.num_gpus is None else gpu_ids_for(options.num_gpus)
    own = {
        **(options.resources or {}),
        "node:127.0.0.1": 1.0,
        "node:__internal_head__": 1.0,
    }
    total = node_resources_from_user(
        detect_num_cpus() if options.num_cpus is None else options.num_cpus,
        len(gpu_ids) if options.num_gpus is None else options.num_gpus,
        own,
        max(0, memory_bytes - store_bytes) if options.memory is None else options.memory,
    )
    return start(
        resources=total,
        gpu_ids=gpu_ids,
        store_bytes=store_bytes,
        temp_dir=options.temp_dir,
        spill_dir=options.spill_dir,
        facts=facts,
        labels=_check_labels(options.labels),
        node_name=options.node_name,
    )


#: 4 MiB: room for a few large objects, for tests
_SMALLEST_STORE = 4 * 1024 * 1024


def _facts(options: StartOptions) -> dict[str, Any]:
    return {
        "namespace": options.namespace,
        "cwd": os.getcwd(),
        # "" is the directory of the moment, which in a worker may be another
        "sys_path": [*options.search_path, *(path or os.getcwd() for path in sys.path)],
        "entrypoint": " ".join(sys.argv) or "python",
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "metadata": dict(options.metadata),
        "logging": options.logging,
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


def _check_labels(labels: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return the labels that a user gives the node; TypeError if one isn't text."""
    labels = {} if labels is None else labels
    if not isinstance(labels, Mapping):
        raise TypeError(f"labels must be a dict of str to str, got {labels!r} ({type(labels).__name__}).")
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"labels must map str to str, got {key!r}: {value!r}.")
    return labels


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
