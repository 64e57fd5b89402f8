"""Owns the form of the timeline: rows of tasks become Chrome's trace events.  Pure.

In a trace viewer a process is a node and a thread is one worker's lane: where tasks of one worker overlap, as in
an async actor, each has a lane of its own, because a viewer draws what overlaps in one lane wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: names of colours of Chrome's viewer
_COLORS = {"FINISHED": "rail_response", "FAILED": "terrible"}
_RUNNING_COLOR = "rail_animation"
_ARGUMENTS = ("task_id", "job_id", "attempt_number", "func_or_class_name", "actor_id", "state", "error_type")


def trace_events(rows: Iterable[Mapping[str, Any]], now_ms: float) -> list[dict[str, Any]]:
    """Return the events of rows of tasks with detail; what runs lasts until `now_ms`, as `time.time()` * 1000.

    Tasks that have not started, or of which nobody knows when, have no event.  Times in events are microseconds.
    """
    started = [row for row in rows if row.get("start_time_ms") is not None]
    started.sort(key=lambda row: row["start_time_ms"])
    nodes: dict[str | None, int] = {}
    lanes = _Lanes()
    events: list[dict[str, Any]] = []
    for row in started:
        start, end = row["start_time_ms"], row.get("end_time_ms")
        end = max(start, now_ms if end is None else end)
        node = nodes.setdefault(row.get("node_id"), len(nodes))
        events.append(
            {
                "cat": f"task::{row['name']}",
                "name": row["name"],
                "ph": "X",
                "ts": start * 1000,
                "dur": (end - start) * 1000,
                "pid": node,
                "tid": lanes.take(node, row.get("worker_pid"), start, end),
                "cname": _COLORS.get(row["state"], _RUNNING_COLOR),
                "args": {name: row.get(name) for name in _ARGUMENTS},
            }
        )
    names = [_metadata("process_name", index, None, f"Node {node or '?'}") for node, index in nodes.items()]
    return events + names + lanes.names()


def _metadata(name: str, node: int, lane: int | None, text: str) -> dict[str, Any]:
    event: dict[str, Any] = {"name": name, "ph": "M", "pid": node, "args": {"name": text}}
    return event if lane is None else event | {"tid": lane}


class _Lanes:
    """The lanes of all workers, and until when each is taken.  Tasks come in the order of their starts."""

    def __init__(self) -> None:
        self._count = 0
        #: of a worker (node, process id): [end of the last task, number] of each lane
        self._of: dict[tuple[int, int | None], list[list[Any]]] = {}

    def take(self, node: int, pid: int | None, start_ms: float, end_ms: float) -> int:
        """Return the number of a lane of that worker that is free from start to end."""
        lanes = self._of.setdefault((node, pid), [])
        for lane in lanes:
            if lane[0] <= start_ms:
                lane[0] = end_ms
                return int(lane[1])
        self._count += 1
        lanes.append([end_ms, self._count])
        return self._count

    def names(self) -> list[dict[str, Any]]:
        """Return the events that name the lanes."""
        return [
            _metadata(
                "thread_name",
                node,
                lane,
                f"worker {'?' if pid is None else pid}" + (f" ({index})" if index else ""),
            )
            for (node, pid), lanes in self._of.items()
            for index, (_, lane) in enumerate(lanes)
        ]
