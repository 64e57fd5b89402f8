"""Owns clusters of several nodes on one machine, as programs and tests make them: Ray's `ray.cluster_utils`.

Each node is a process with its own workers, resources and store, just as if it were on another machine.
"""

from __future__ import annotations

import atexit
import os
import signal
import time
import warnings
from collections.abc import Mapping
from typing import Any

import jray
from jray._core.client.capacity import capacity_of
from jray._core.client.launching import LaunchedHead, launch
from jray._core.engine import StartOptions
from jray._core.refs import current
from jray._core.store.sweep import sweep

__all__ = ["Cluster", "ClusterNode"]

#: Ray's figure
_STORE_BYTES = 150 * 1024 * 1024
_START_S = 120.0
_POLL_S = 0.02
#: what a node can be given
_ARGUMENTS = {
    "num_cpus", "num_gpus", "resources", "labels", "object_store_memory", "memory", "node_name", "temp_dir",
    "object_spilling_directory", "env_vars",
}  # fmt: skip
#: of services and settings that only Ray has: they are warned about
_WITHOUT_EFFECT = {
    "dashboard_host", "dashboard_port", "include_dashboard", "_system_config", "redis_port", "gcs_server_port",
}  # fmt: skip


class ClusterNode:
    """A node that a `Cluster` has started."""

    def __init__(self, process: LaunchedHead, *, is_head: bool) -> None:
        self._process = process
        self._is_head = is_head
        self.node_id = process.node_id.hex()
        self.unique_id = self.node_id
        self.pid = process.pid
        self.address = process.address
        self.has_ended = False
        self._is_ready = False

    @property
    def address_info(self) -> dict[str, Any]:
        """What `jray.init` on this node would tell."""
        return {
            "node_id": self.node_id,
            "session_dir": self._process.session_dir,
            "address": self.address,
            "raylet_socket_name": self.address,
            "node_ip_address": "127.0.0.1",
        }

    def is_head(self) -> bool:
        """Tell whether it is the head's own node."""
        return self._is_head

    def wait_ready(self, timeout_s: float) -> None:
        """Block until it is part of its cluster.  Raises RaySystemError if it ended, or that takes longer."""
        if not self._is_ready:
            self._process.wait_ready(timeout_s)
            self._is_ready = True

    def kill(self) -> None:
        """End it as `kill -9` does, and return once nothing is left of it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Have it end in good order, and return once it has."""
        self._end(signal.SIGTERM)

    def _end(self, how: int) -> None:
        if self.has_ended:
            return
        self.has_ended = True
        try:
            os.kill(self.pid, how)
        except ProcessLookupError:
            pass
        self._process.socket.close()
        is_clean = self._process.wait_exit()
        os.close(self._process.log)
        if not is_clean:
            for place in self._process.places:
                sweep(place)

    def __repr__(self) -> str:
        state = "ended" if self.has_ended else f"pid {self.pid}"
        return f"ClusterNode({self.node_id[:12]}, {'head, ' if self._is_head else ''}{state})"


class Cluster:
    """Nodes of one cluster, that this process starts and ends; they end with it in any case.

    `connect`: call `jray.init` for it as well.
    """

    def __init__(
        self,
        initialize_head: bool = False,
        connect: bool = False,
        head_node_args: Mapping[str, Any] | None = None,
        shutdown_at_exit: bool = True,
    ) -> None:
        if connect and not initialize_head:
            raise RuntimeError("Cannot connect to uninitialized cluster: pass initialize_head=True as well.")
        if head_node_args and not initialize_head:
            raise ValueError("head_node_args are for a head: pass initialize_head=True as well.")
        self.head_node: ClusterNode | None = None
        self.worker_nodes: set[ClusterNode] = set()
        self.connected = False
        self._namespace: str | None = None
        if shutdown_at_exit:
            atexit.register(self.shutdown)
        if initialize_head:
            self.add_node(**dict(head_node_args or {}))
            if connect:
                self.connect()

    @property
    def address(self) -> str:
        """What `jray.init` takes to join this cluster; empty: there is no head."""
        return "" if self.head_node is None else self.head_node.address

    @property
    def gcs_address(self) -> str:
        """The same, by Ray's other name."""
        return self.address

    def connect(self, namespace: str | None = None) -> None:
        """Make this process a driver of the cluster."""
        if self.head_node is None:
            raise RuntimeError("The cluster has no head: call add_node() first.")
        jray.init(address=self.address, namespace=namespace)
        self.connected = True

    def add_node(self, wait: bool = True, **node_args: Any) -> ClusterNode:
        """Start a node, the head if it is the first; blocks until it can be used, unless *wait* is false.

        It has 1 CPU and a store of 150 MiB unless told otherwise (Ray's figures).  Arguments are those of `jray.init`
        that describe a node: num_cpus, num_gpus, resources, labels, object_store_memory, memory, node_name,
        object_spilling_directory; env_vars are of the node's processes.
        """
        unknown = sorted(set(node_args) - _ARGUMENTS - _WITHOUT_EFFECT)
        if unknown:
            raise TypeError(
                f"add_node() got {', '.join(map(repr, unknown))}: a node can be given {', '.join(sorted(_ARGUMENTS))}."
            )
        for name in sorted(_WITHOUT_EFFECT.intersection(node_args)):
            if node_args[name]:
                warnings.warn(f"add_node({name}=...) has no effect: jray has no such service.", stacklevel=2)
        is_head = self.head_node is None
        process = launch(**_launch_arguments(node_args, is_head=is_head), head_address=self.address or None)
        node = ClusterNode(process, is_head=is_head)
        if is_head:
            self.head_node = node
        else:
            self.worker_nodes.add(node)
        if wait or is_head:
            try:
                node.wait_ready(_START_S)
            except BaseException:
                self.remove_node(node, allow_graceful=False)
                raise
        return node

    def remove_node(self, node: ClusterNode, allow_graceful: bool = True) -> None:
        """End a node with all its processes, and return once they are gone and its head knows.

        Not `allow_graceful`: as if its machine had failed.
        """
        if node is self.head_node:
            if self.worker_nodes:
                raise RuntimeError(
                    "The head cannot be removed while other nodes are there: remove them first."
                )
            self._leave()
            self.head_node = None
        elif node in self.worker_nodes:
            self.worker_nodes.remove(node)
        else:
            raise ValueError(f"{node!r} is not, or not any more, a node of this cluster.")
        if allow_graceful:
            node.stop()
        else:
            node.kill()
        if self._is_joined():
            _wait_until(
                lambda: node.node_id not in _alive(), f"the head knows that {node!r} is gone", _START_S
            )

    def wait_for_nodes(self, timeout: float = 30) -> None:
        """Block until each node that was started is part of the cluster.  Raises RaySystemError if that takes longer."""
        deadline = time.monotonic() + timeout
        for node in self.list_all_nodes():
            node.wait_ready(max(0.001, deadline - time.monotonic()))

    def list_all_nodes(self) -> list[ClusterNode]:
        """Return the nodes that were started and not removed, the head first."""
        return [*([] if self.head_node is None else [self.head_node]), *self.worker_nodes]

    def remaining_processes_alive(self) -> bool:
        """Tell whether every node's process runs."""
        return all(_is_running(node.pid) for node in self.list_all_nodes())

    def shutdown(self) -> None:
        """Leave the cluster, if this process is in it, and end all nodes, the head last.  May be called twice."""
        self._leave()
        for node in list(self.worker_nodes):
            self.worker_nodes.remove(node)
            node.stop()
        if self.head_node is not None:
            self.head_node.stop()
            self.head_node = None
        atexit.unregister(self.shutdown)

    def _is_joined(self) -> bool:
        head, client = self.head_node, current.client
        return head is not None and getattr(client, "session_dir", "") == head.address_info["session_dir"]

    def _leave(self) -> None:
        if self._is_joined():
            jray.shutdown()
        self.connected = False


def _launch_arguments(given: Mapping[str, Any], *, is_head: bool) -> dict[str, Any]:
    options = StartOptions(
        address=None,
        num_cpus=given.get("num_cpus", 1),
        num_gpus=given.get("num_gpus", 0),
        resources=given.get("resources"),
        labels=given.get("labels"),
        object_store_memory=given.get("object_store_memory", _STORE_BYTES),
        memory=given.get("memory"),
        namespace=None,
        runtime_env=None,
        temp_dir=given.get("temp_dir"),
        log_to_driver=True,
        node_name=given.get("node_name"),
        spill_dir=given.get("object_spilling_directory"),
    )
    capacity = capacity_of(options, is_head=is_head)
    return {
        "resources": capacity.resources,
        "gpu_ids": capacity.gpu_ids,
        "store_bytes": capacity.store_bytes,
        "temp_dir": options.temp_dir,
        "spill_dir": options.spill_dir,
        "labels": capacity.labels,
        "node_name": options.node_name,
        "tells_ready": True,
        "env_vars": dict(given.get("env_vars") or {}),
    }


def _alive() -> set[str]:
    return {row["NodeID"] for row in jray.nodes() if row["Alive"]}


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_until(condition: Any, what: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"It did not come true within {timeout_s:g} s that {what}.")
        time.sleep(_POLL_S)
