"""Owns the workers and the store of one node: starts and ends the ones as the head says, keeps the other's accounts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jray._core.config import Config
from jray._core.machine.orphans import Orphans
from jray._core.node.environments import EnvironmentService
from jray._core.node.memory import MemoryMonitor
from jray._core.node.pool import WorkerPool
from jray._core.node.spilling import SpillService
from jray._core.node.transfers import TransferService
from jray._core.ports import Head, WorkerOrder
from jray._core.specs import ExitCause, MemoryReport
from jray._core.store.arena import Store

#: of a log file so much is sent at once
_LOG_PIECE_BYTES = 1024 * 1024


class NodeService:
    """Workers and store.  It knows nothing of resources: who may use which worker is the head's to say."""

    def __init__(
        self,
        *,
        config: Config,
        environments: EnvironmentService,
        node_id: bytes,
        head: Head,
        pool: WorkerPool,
        store: Store,
        spilling: SpillService,
        transfers: TransferService,
        session_dir: str,
        fail: Callable[[str], None],
    ) -> None:
        self._head = head
        self.environments = environments
        self._pool = pool
        self._store = store
        self.spilling = spilling
        self.transfers = transfers
        self._session_dir = session_dir
        self._fail = fail
        self.orphans = Orphans()
        #: where the workers that have registered listen
        self._addresses: dict[bytes, str] = {}
        self._log_numbers = itertools.count(1)
        self.memory = MemoryMonitor(
            config.memory_usage_threshold,
            config.memory_monitor_refresh_ms / 1000,
            lambda: [(process.worker_id, process.pid) for process in pool.processes.values() if process.pid],
            lambda sample: head.memory_low(node_id, sample),
            self._end_for_memory,
        )

    # -- workers ----------------------------------------------------------------------------------

    def start_worker(self, order: WorkerOrder) -> None:
        """Have a worker forked; it registers by itself."""
        number = next(self._log_numbers)
        self.environments.start(
            order.worker_id,
            (order.job_id, order.runtime_env),
            {
                "worker_id": order.worker_id,
                "job_id": order.job_id,
                "session_dir": self._session_dir,
                "address": f"{self._session_dir}/w{number}.sock",
                "log_path": f"{self._session_dir}/logs/worker-{number}",
                "cwd": order.job.get("cwd"),
                "sys_path": order.job.get("sys_path"),
                "namespace": order.job.get("namespace"),
                "logging": order.job.get("logging"),
                "default_actor_lifetime": order.job.get("default_actor_lifetime", "non_detached"),
                "runtime_env": dict(order.runtime_env),
            },
        )

    def end_worker(self, worker_id: bytes, reason: str) -> None:
        self._pool.kill(worker_id, reason)

    def worker_registered(self, worker_id: bytes, address: str) -> None:
        self._addresses[worker_id] = address

    def workers_exited(self, ended: Sequence[tuple[bytes, ExitCause]]) -> None:
        """Worker processes were reaped."""
        for worker_id, cause in ended:
            self.environments.exited(worker_id)
            address = self._addresses.pop(worker_id, None)
            if address is not None and os.path.exists(address):
                os.unlink(address)  # what is killed leaves its socket
            if address is None and not (cause.pid and cause.detail) and not os.path.exists(self._session_dir):
                self._fail(f"Its directory {self._session_dir} was removed, so that no worker can start.")
        self._head.workers_exited(ended)

    def _end_for_memory(self, worker_id: bytes, report: MemoryReport) -> None:
        self._pool.kill(
            worker_id,
            f"jray ended it, because {report.used / report.total:.0%} of the memory was in use, above the limit of "
            f"{report.threshold:.0%}.",
            report,
        )

    def log_names(self) -> list[str]:
        """Return the names of the node's log files."""
        return sorted(os.listdir(f"{self._session_dir}/logs"))

    def log_piece(self, name: str, start: int) -> bytes | None:
        """Return what a log file has from *start* on, or a first part of it; None: there is no such file."""
        if os.path.basename(name) != name:
            return None
        try:
            with open(f"{self._session_dir}/logs/{name}", "rb") as file:
                file.seek(start)
                return file.read(_LOG_PIECE_BYTES)
        except (FileNotFoundError, IsADirectoryError):
            return None

    # -- the store --------------------------------------------------------------------------------

    def seal(self, object_id: bytes, owner: int, creator: int) -> None:
        self._store.ledger.seal(object_id, owner, creator)
        self.spilling.sealed()

    def abort(self, object_id: bytes, creator: int) -> None:
        self._store.ledger.abort(object_id, creator)

    def free(self, object_ids: Iterable[bytes]) -> None:
        ids = self.transfers.freed(object_ids)
        for object_id in ids:
            self._store.ledger.free(object_id)
        self.spilling.freed(ids)

    def client_gone(self, client: int, others: Sequence[int]) -> None:
        """A client of any node has ended; `others` may have views of what it owned, and are asked."""
        orphaned = self._store.ledger.bequeath(client, heir=0)
        self.spilling.client_gone(client)
        self.transfers.client_gone(client)
        self.free(self.orphans.client_gone(client))
        self.free(self.orphans.owner_died(client, orphaned, others if orphaned else []))

    def store_row(self) -> dict[str, Any]:
        """Return what there is to tell of the store; sizes in bytes."""
        statistics = self._store.ledger.statistics()
        files = self.spilling.files
        return {
            **{name: getattr(statistics, name) for name in statistics.__dataclass_fields__},
            "spilled_objects": len(files),
            "spilled_bytes": files.used,
            "spilled_bytes_ever": files.written,
            "spill_dir": files.directory,
            "fetched": self.transfers.fetched,
        }
