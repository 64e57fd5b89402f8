"""The table of rows: what is measured, in which unit, by which probe, and what it should reach.

Data alone: no measuring happens here, so that a report can be made without any engine.
A probe is a function that runs in a fresh process and measures one row or several; the
functions are in `probes_api` (jray and Ray), `probes_pool` (`ProcessPoolExecutor`) and `limits`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: The engine names used in results and on the command line.
JRAY = "jray"
RAY = "ray"
POOL = "pool"
LIMITS = "limits"

_WITH_POOL = (JRAY, RAY, POOL)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the table."""

    key: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    #: Name of the probe that measures it.
    probe: str
    #: Key of the limit it is set beside; same unit as this row.
    limit: str | None = None
    #: jray is to be at least this many times better than Ray.
    goal_ratio: float | None = None
    #: jray is to reach at least this share of `limit`.
    goal_share: float | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """What the machine can do at best, measured in the same run."""

    key: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    probe: str


@dataclass(frozen=True, slots=True)
class Probe:
    """One unit of isolation: each engine runs it in a process of its own, once a round."""

    name: str
    #: Seconds after which it counts as hung, with its start and end.
    timeout_s: float
    #: Names of the engines that have it.
    engines: tuple[str, ...] = (JRAY, RAY)
    #: Rounds that repeat it at most; the slow ones need no more.
    most_rounds: int = 1_000


# A table reads better with a line for each row.
# fmt: off
LIMIT_ROWS: tuple[Limit, ...] = (
    Limit("ping_pong", "Unix-socket ping-pong, two Python processes, 100 bytes", "/s", "higher", "ping_pong"),
    Limit("ping_pong_apart", "the same, each bound to a core of its own", "/s", "higher", "ping_pong"),
    Limit("ping_pong_together", "the same, both bound to one core", "/s", "higher", "ping_pong"),
    Limit("copy_touched", "memcpy of 100 MB into touched pages of /dev/shm", "GB/s", "higher",
        "shared_memory"),
    Limit("copy_fresh", "memcpy of 100 MB into fresh pages of /dev/shm", "GB/s", "higher", "shared_memory"),
    Limit("disk", "1 GB written to a file and read again, while the system has memory to keep it in", "GB/s", "higher",
        "disk"),
    Limit("interpreter_start", "start and end of a bare interpreter (`python -c pass`)", "s", "lower",
        "interpreter"),
)

ROWS: tuple[Row, ...] = (
    Row("cold_start", "cold start: new interpreter to first result", "s", "lower", "cold_start",
        limit="interpreter_start", goal_ratio=12),
    Row("import", "`import`", "s", "lower", "import_time"),
    Row("idle_memory", "idle memory, 2 CPUs: PSS of all runtime processes", "MB", "lower", "idle",
        goal_ratio=6),
    Row("idle_cpu", "idle CPU of all runtime processes", "% of a core", "lower", "idle"),
    Row("task_sync", "task, one by one", "/s", "higher", "tasks_one_by_one",
        limit="ping_pong", goal_ratio=12, goal_share=1 / 3),
    Row("task_submit", "tasks: submitting 10,000", "/s", "higher", "tasks_in_flight"),
    Row("task_flight", "tasks, 10,000 in flight, then `get`", "/s", "higher", "tasks_in_flight",
        goal_ratio=40),
    Row("task_small_args", "tasks with small arguments (dict of 3, 1 KB), 10,000 in flight", "/s", "higher",
        "tasks_small_arguments"),
    Row("task_nested", "nested: a task that starts 10 tasks and gets them, one by one", "/s", "higher",
        "tasks_nested"),
    Row("actor_sync", "actor call, one by one", "/s", "higher", "actor_calls",
        limit="ping_pong", goal_ratio=7),
    Row("actor_flight", "actor calls, 10,000 in flight", "/s", "higher", "actor_calls", goal_ratio=20),
    Row("async_actor_sync", "async-actor call, one by one", "/s", "higher", "async_actor_calls",
        limit="ping_pong"),
    Row("async_actor_flight", "async-actor calls, 10,000 in flight", "/s", "higher", "async_actor_calls"),
    Row("put_0", "`put` 0 bytes", "/s", "higher", "objects_empty", goal_ratio=40),
    Row("get_0", "`get` 0 bytes", "/s", "higher", "objects_empty", goal_ratio=10),
    Row("put_100k", "`put` 100 KB", "/s", "higher", "objects_100_kb", goal_ratio=5),
    Row("get_100k", "`get` 100 KB", "/s", "higher", "objects_100_kb"),
    Row("put_100m_first", "`put` 100 MB, the first one", "GB/s", "higher", "objects_100_mb",
        limit="copy_fresh"),
    Row("put_100m", "`put` 100 MB, each dropped before the next", "GB/s", "higher", "objects_100_mb",
        limit="copy_touched", goal_ratio=4, goal_share=0.6),
    Row("get_100m", "`get` 100 MB, no other view alive", "/s", "higher", "objects_100_mb", goal_ratio=1),
    Row("get_100m_held", "`get` 100 MB, another view held", "/s", "higher", "objects_100_mb", goal_ratio=1),
    Row("result_80m", "80 MB numpy result of a task", "GB/s", "higher", "large_result",
        limit="copy_touched", goal_ratio=1),
    Row("argument_100m", "100 MB argument by ref, calls one by one", "/s", "higher", "large_argument"),
    Row("wait_1000", "`wait` one by one over 1,000 tasks", "s", "lower", "wait_one_by_one", goal_ratio=8),
    Row("refs_10000", "10,000 ref arguments of one task", "s", "lower", "many_ref_arguments"),
    Row("returns_3000", "3,000 returns of one task", "s", "lower", "many_returns"),
    Row("queued_time", "100,000 queued tasks: time", "s", "lower", "queued_tasks", goal_ratio=20),
    Row("queued_memory", "100,000 queued tasks: growth of the driver's peak RSS", "MB", "lower",
        "queued_tasks"),
    Row("spilled", "1 GB of 16 MB objects put into a store of 256 MB and read again", "GB/s", "higher", "spilling",
        limit="disk", goal_share=0.7),
    Row("streamed", "1,000 streamed items", "/s", "higher", "streamed_items", goal_ratio=5),
    Row("actors_20", "20 actors started and called", "s", "lower", "start_actors", goal_ratio=30),
    Row("group", "placement group made, waited for and removed", "/s", "higher", "placement_groups", goal_ratio=20),
    Row("far_sync", "task on another node, one by one", "/s", "higher", "two_nodes", goal_ratio=5),
    Row("far_flight", "tasks on another node, 10,000 in flight, then `get`", "/s", "higher", "two_nodes", goal_ratio=10),
    Row("far_object", "1 GB object fetched from another node of this machine", "GB/s", "higher", "two_nodes",
        limit="copy_touched", goal_share=0.25),
    Row("shutdown", "`shutdown()`", "s", "lower", "shutdown"),
    Row("all_gone", "`shutdown()` until no process is left", "s", "lower", "shutdown"),
)

PROBES: tuple[Probe, ...] = (
    Probe("ping_pong", 30, (LIMITS,)),
    Probe("shared_memory", 60, (LIMITS,)),
    Probe("disk", 120, (LIMITS,)),
    Probe("interpreter", 60, (LIMITS,)),
    Probe("cold_start", 120, _WITH_POOL),
    Probe("import_time", 60, _WITH_POOL),
    Probe("idle", 60, _WITH_POOL),
    Probe("tasks_one_by_one", 60, _WITH_POOL),
    Probe("tasks_in_flight", 120, _WITH_POOL),
    Probe("tasks_small_arguments", 120, _WITH_POOL),
    Probe("tasks_nested", 60),
    Probe("actor_calls", 120),
    Probe("async_actor_calls", 120),
    Probe("objects_empty", 60),
    Probe("objects_100_kb", 60),
    Probe("objects_100_mb", 90),
    Probe("large_result", 90, _WITH_POOL),
    Probe("large_argument", 90, _WITH_POOL),
    Probe("wait_one_by_one", 90),
    Probe("many_ref_arguments", 120),
    Probe("many_returns", 120),
    Probe("queued_tasks", 300, _WITH_POOL, most_rounds=3),
    Probe("spilling", 180, most_rounds=3),
    Probe("streamed_items", 60),
    Probe("start_actors", 120),
    Probe("placement_groups", 60),
    Probe("two_nodes", 240, most_rounds=3),
    Probe("shutdown", 90, _WITH_POOL),
)
# fmt: on
