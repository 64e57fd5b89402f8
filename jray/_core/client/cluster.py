"""Owns what a client can learn about its cluster."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from jray._core.client.selection import is_told_by_workers
from jray._core.engine import Rows
from jray._core.filters import Filter, matches
from jray._core.rows import group_state, node_row

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient


#: columns of tasks that the asker adds: an owner does not know in which process a task is
_PLACED = {"worker_id", "worker_pid"}

#: of a second question, if somebody has not answered the first
_SHORT_PATIENCE_S = 0.5


class ClusterView:
    """Asks the head and the node; every answer is awaited."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client

    def nodes(self) -> list[dict[str, Any]]:
        """Return a row for each node, lately lost ones too, with Ray's keys."""
        return [_node(row) for row in self._client.ask("nodes")]

    def resources(self) -> dict[str, float]:
        """Return what the cluster has of each resource."""
        return _sum(row["resources"] for row in self._client.ask("nodes") if row["is_alive"])

    def available(self) -> dict[str, float]:
        """Return what is free now of each resource; names of which nothing is free are left out."""
        self._client.leasing.return_idle()
        free = [row["available"] for row in self._client.ask("nodes")]
        free += [
            {"object_store_memory": float(store["capacity"] - store["used"])}
            for store in self.stores().values()
        ]
        return {name: quantity for name, quantity in _sum(free).items() if quantity > 0}

    def stores(self) -> dict[bytes, dict[str, Any]]:
        """Return what each node tells of its store, by the node's id."""
        return dict(self._client.ask("store")[0])

    def log_names(self, node_id: str) -> list[str]:
        """Return the names of the log files of a node."""
        answers, _ = self._client.ask("log_names", bytes.fromhex(node_id))
        return answers[0][1] if answers else []

    def log_piece(self, node_id: str, name: str, start: int) -> bytes | None:
        """Return what a log file of a node has from *start* on, or a first part of it; None: there is no such file."""
        answers, _ = self._client.ask("log_piece", bytes.fromhex(node_id), name, start)
        return answers[0][1] if answers else None

    def rows(
        self,
        kind: str,
        *,
        filters: Sequence[Filter] = (),
        limit: int = 10_000,
        detail: bool = False,
        timeout_s: float | None = None,
    ) -> Rows:
        """Return the rows of a kind: see `jray._core.engine.Cluster.rows`."""
        client = self._client
        if kind in {"tasks", "objects"}:
            return self._told(kind, filters, limit, detail=detail, timeout_s=timeout_s)
        if kind == "nodes":
            found: Iterable[dict[str, Any]] = [
                node_row(
                    _node(row),
                    is_head=row["is_head"],
                    reason=row["reason"],
                    joined_s=row["joined_s"],
                    left_s=row["left_s"],
                )
                for row in client.ask("nodes")
            ]
        elif kind == "actors":
            found = client.ask("actors")
        elif kind == "workers":
            found = client.ask("clients")
        elif kind == "placement_groups":
            found = map(group_state, client.ask("groups"))
        elif kind == "jobs":
            found = client.ask("jobs")
        else:
            raise ValueError(f"There are no rows of kind {kind!r}.")
        rows = [row for row in found if matches(row, filters)]
        return Rows(rows[:limit], len(rows))

    def _told(
        self, kind: str, filters: Sequence[Filter], limit: int, *, detail: bool, timeout_s: float | None
    ) -> Rows:
        client = self._client
        early, late = tuple(filters), False
        if kind == "tasks":
            early = tuple(entry for entry in filters if entry[0] not in _PLACED)
            late = len(early) < len(filters) or any(map(is_told_by_workers, filters))
        asked = (kind, early, sys.maxsize if late else limit, detail)
        answers, silent = (
            client.ask("tell", *asked) if timeout_s is None else client.ask("tell_within", timeout_s, *asked)
        )
        warnings = [f"The process {pid} did not answer in time: what it owns is missing." for pid in silent]
        rows = [row for answer in answers for row in answer["rows"]]
        total = sum(answer["total"] for answer in answers)
        counts: Counter[tuple[str, ...]] = Counter()
        for answer in answers:
            counts.update(answer["counts"])
        if kind == "tasks":
            times = self._times(rows, timeout_s, has_silent=bool(silent)) if detail else {}
            self._place(rows, answers, times)
            placed = [row for row in rows if matches(row, filters)]
            total = len(placed) if late else total - (len(rows) - len(placed))
            rows = placed
        return Rows(rows[:limit], total, warnings, dict(counts))

    def _times(
        self, rows: list[dict[str, Any]], timeout_s: float | None, *, has_silent: bool
    ) -> dict[bytes, tuple[float, float]]:
        """Ask the workers when they ran these tasks; of the tens of thousands that they remember nobody wants most."""
        wanted = [bytes.fromhex(row["task_id"]) for row in rows if row["address"] is not None]
        if not wanted:
            return {}
        if has_silent:  # who does not answer has been waited for
            timeout_s = _SHORT_PATIENCE_S if timeout_s is None else min(timeout_s, _SHORT_PATIENCE_S)
        asked = ("times", wanted, 0, False)
        answers, _ = (
            self._client.ask("tell", *asked)
            if timeout_s is None
            else self._client.ask("tell_within", timeout_s, *asked)
        )
        return {task_id: (start, end) for answer in answers for task_id, start, end in answer}

    def _place(
        self,
        rows: list[dict[str, Any]],
        answers: list[dict[str, Any]],
        executed: dict[bytes, tuple[float, float]],
    ) -> None:
        """Add to the owners' rows what the workers and the node know: processes and times."""
        processes = {row["address"]: row for row in self._client.ask("clients")}
        started = {
            task_id: (start, blocked) for answer in answers for task_id, start, blocked in answer["running"]
        }
        for row in rows:
            process = processes.get(row.pop("address"))
            if process is not None:
                row["worker_pid"] = process["pid"]
                row["worker_id"] = process["worker_id"]
            task_id = bytes.fromhex(row["task_id"])
            if task_id in started:
                start, blocked = started[task_id]
                if row["state"] not in {"FINISHED", "FAILED"}:
                    row["state"] = "RUNNING_IN_RAY_GET" if blocked else "RUNNING"
                    if "start_time_ms" in row:
                        row["start_time_ms"] = start
            elif task_id in executed and "start_time_ms" in row:
                row["start_time_ms"], row["end_time_ms"] = executed[task_id]

    def actor_names(self, namespace: str | None) -> list[tuple[str, str]]:
        """Return (namespace, name) of the living named actors; None: of all namespaces."""
        found: list[tuple[str, str]] = self._client.ask("actor_names", namespace)
        return found


def _node(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row of `jray.nodes()` for what the head tells of a node."""
    return {
        "NodeID": row["node_id"].hex(),
        "Alive": row["is_alive"],
        "NodeManagerAddress": "127.0.0.1",
        "NodeManagerHostname": row["hostname"],
        "NodeName": row["name"],
        "ObjectStoreSocketName": row["store_dir"],
        "RayletSocketName": row["address"],
        "Resources": row["resources"] if row["is_alive"] else {},
        "Labels": row["labels"],
        "alive": row["is_alive"],
    }


def _sum(found: Iterable[dict[str, float]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for quantities in found:
        for name, quantity in quantities.items():
            total[name] += quantity  # type: ignore[assignment]
    return dict(total)
