"""Owns how the parts of a node are put together, for a head's own as for any other."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from jray._core.config import Config
from jray._core.node.host import Host
from jray._core.node.pool import WorkerPool, ZygoteProcess
from jray._core.node.service import NodeService
from jray._core.node.spilling import SpillService
from jray._core.node.transfers import TransferService
from jray._core.ports import Head, NodeFacts
from jray._core.resources import ResourceSet
from jray._core.specs import ExitCause
from jray._core.store.arena import Store
from jray._core.store.spill import SpillFiles
from jray._core.wire.connection import Connection, Message, Reactor

#: where a zygote finds its socket
ZYGOTE_FD = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Assembly:
    """A node, ready to serve."""

    host: Host
    facts: NodeFacts
    pool: WorkerPool
    store: Store

    def close(self) -> None:
        """End all workers, and remove what the node has in shared memory and on disk; blocks until they are gone."""
        self.pool.close()
        self.host.service.transfers.close()
        self.host.service.spilling.close()
        self.store.close()


def assemble(
    settings: dict[str, Any],
    zygote: ZygoteProcess,
    *,
    config: Config,
    reactor: Reactor,
    head: Head,
    fail: Callable[[str], None],
    on_owner_gone: Callable[[], None],
    strangers: Mapping[int, Callable[[Connection, Message], object]] = MappingProxyType({}),
) -> Assembly:
    """Put a node together.  `fail(text)` is called when it can do nothing any more."""
    node_id = bytes.fromhex(settings["node_id"])
    resources = ResourceSet(settings["resources"])
    cpus = max(1, resources.get("CPU") // 10_000)
    store = Store(
        settings["store_dir"], capacity_bytes=settings["store_bytes"], segment_bytes=config.segment_bytes
    )

    def workers_exited(ended: list[tuple[bytes, ExitCause]]) -> None:
        if not host.is_stopping:
            service.workers_exited(ended)

    pool = WorkerPool(
        zygote, lambda: _spawn_zygote(eager=settings["eager_zygote"]), reactor, workers_exited, fail
    )

    def send(number: int, message: Message) -> None:
        host.send(number, message)

    spilling = SpillService(
        config=config,
        node_id=node_id,
        store=store,
        files=SpillFiles(settings["spill_dir"]),
        send=send,
        wake=reactor.wake,
    )
    transfers = TransferService(
        node_id, store, spilling, send, lambda other, message: head.to_node(other, 0, message), reactor.wake
    )
    spilling.evict = transfers.evict
    service = NodeService(
        config=config,
        node_id=node_id,
        head=head,
        pool=pool,
        store=store,
        spilling=spilling,
        transfers=transfers,
        session_dir=settings["session_dir"],
        fail=fail,
    )
    host = Host(
        node_id=node_id,
        reactor=reactor,
        head=head,
        service=service,
        facts={
            "session_dir": settings["session_dir"],
            "store_dir": settings["store_dir"],
            "spill_dir": settings["spill_dir"],
        },
        disconnected=pool.disconnected,
        on_owner_gone=on_owner_gone,
        strangers=strangers,
    )
    facts = NodeFacts(
        node_id=node_id,
        pid=os.getpid(),
        address=settings["address"],
        hostname=socket.gethostname(),
        name=settings["node_name"],
        labels={**settings["labels"], "ray.io/node-id": node_id.hex()},
        resources=settings["resources"],
        gpu_ids=settings["gpu_ids"],
        max_starting=max(4, cpus),
        soft_limit=cpus,
        session_dir=settings["session_dir"],
        store_dir=settings["store_dir"],
        store_bytes=settings["store_bytes"],
    )
    return Assembly(host, facts, pool, store)


def _spawn_zygote(*, eager: bool) -> ZygoteProcess:
    """Start a zygote in place of one that died: a new interpreter, for this one has sockets and locks open."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    log = os.memfd_create("jray-zygote-log", os.MFD_CLOEXEC)
    settings = {"is_zygote": True, "eager_zygote": eager, "keep_fd": ZYGOTE_FD, "sys_path": sys.path}
    pid = os.posix_spawn(
        sys.executable,
        [*sys.orig_argv[:-1], json.dumps(settings)],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), ZYGOTE_FD),
        ],
    )
    theirs.close()
    return ZygoteProcess(ours, pid, io.FileIO(log))
