"""Owns what `jray.init` means to the inline engine: this process, with resources that nobody holds it to."""

from __future__ import annotations

import itertools
import os
import sys
from typing import Any

from jray._core.client.capacity import node_wanted
from jray._core.config import Config
from jray._core.engine import StartOptions
from jray._core.ids import JobID
from jray._core.inline.core import InlineClient
from jray._core.inline.environments import environment_of
from jray._core.inline.objects import ADDRESS
from jray._core.resources import NodeResources

_job_numbers = itertools.count(1)


_NO_SPILLING = (
    "jray.init(object_spilling_directory=...) has no effect in one process: objects are in its own memory, "
    "which no store bounds."
)


class InlineSession:
    """See `jray._core.engine.Session`."""

    address = ADDRESS

    def __init__(self, client: InlineClient, search_path: list[str], warning: str = "") -> None:
        self.client = client
        self.warning = warning
        self._search_path = search_path
        sys.path[:0] = search_path
        self.info: dict[str, Any] = {
            "address": ADDRESS,
            "node_id": client.node_id.hex(),
            "session_dir": client.session_dir,
            "object_store_address": ADDRESS,
            "raylet_socket_name": ADDRESS,
            "gcs_address": ADDRESS,
            "node_ip_address": "127.0.0.1",
            # of services that jray does not have; programs read the keys
            "webui_url": "",
            "redis_address": None,
            "metrics_export_port": None,
            "dashboard_agent_listen_port": None,
        }

    def is_alive(self) -> bool:
        return not self.client.is_closing

    def close(self) -> None:
        self.client.close()
        for path in self._search_path:
            if path in sys.path:
                sys.path.remove(path)


def open_session(options: StartOptions) -> InlineSession:
    """Make this process a cluster.

    Raises ConnectionError for an address, since there is nothing to join; else what a head's start would raise
    for a wrong value.
    """
    if options.address not in {None, "local"}:
        raise ConnectionError(
            f'engine="inline" is this process alone: it joins no cluster at {options.address!r}. Leave the address out, '
            "or choose another engine."
        )
    environment = environment_of(options.runtime_env)
    capacity = node_wanted(options)
    client = InlineClient(
        config=Config.from_environ(),
        resources=NodeResources(capacity.resources, capacity.gpu_ids),
        store_bytes=capacity.store_bytes,
        job_id=JobID.from_int(next(_job_numbers)).binary(),
        namespace=options.namespace or os.urandom(16).hex(),
        runtime_env=environment,
        labels=capacity.labels,
        node_name=options.node_name,
        metadata=options.metadata,
        default_actor_lifetime=options.default_actor_lifetime,
    )
    warning = "" if options.spill_dir is None else _NO_SPILLING
    return InlineSession(client, [os.path.abspath(path) for path in options.search_path], warning)
