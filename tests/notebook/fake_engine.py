"""An engine that is nothing but tables: what `%jray`'s commands are shown, and what they ask it to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from jray._core.engine import Demand, Rows, Stopped, Tally
from jray._core.refs import INLINE, PENDING, ObjectRef

JOB = bytes.fromhex("01000000")


class FakeEngine:
    """The parts of `jray._core.engine.Engine` that the commands use."""

    engine_name = "fake"
    job_id = JOB
    namespace = "here"

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {
            "tasks": [], "actors": [], "objects": [], "nodes": [], "workers": [],
        }  # fmt: skip
        self.waiting_for: list[Demand] = []
        self.tallied: list[Tally] = []
        #: (cell, force) of each stop, and what it finds
        self.stops: list[tuple[int, bool]] = []
        self.found = Stopped(0, 0)
        #: (ids, name, force) of each demand to cancel tasks
        self.asked_to_cancel: list[tuple[list[str], str | None, bool]] = []
        self.cancelled: list[tuple[ObjectRef[Any], bool]] = []
        self.freed: list[ObjectRef[Any]] = []
        self.used = 0.0
        self.names: list[tuple[str, str]] = []
        self.cluster = SimpleNamespace(
            rows=lambda kind, **_: Rows(list(self.rows[kind]), len(self.rows[kind])),
            nodes=lambda: self.rows["nodes"],
            resources=lambda: {"CPU": 2.0, "object_store_memory": 100.0 * 2**20},
            available=lambda: {"CPU": 1.0, "object_store_memory": 100.0 * 2**20 - self.used},
            actor_names=lambda _: self.names,
        )
        self.watch = SimpleNamespace(
            tallies=lambda: self.tallied,
            demands=lambda: self.waiting_for,
            stop=self._stop,
            cancel=self._cancel_tasks,
        )

    def _stop(self, cell: int, *, force: bool) -> Stopped:
        self.stops.append((cell, force))
        return self.found

    def _cancel_tasks(self, task_ids: Any = (), *, name: str | None = None, force: bool) -> Stopped:
        self.asked_to_cancel.append((list(task_ids), name, force))
        states = [
            row["state"]
            for row in self.rows["tasks"]
            if (row["task_id"] in task_ids or row["name"] == name)
            and row["state"] not in {"FINISHED", "FAILED"}
        ]
        return Stopped(states.count("RUNNING"), len(states) - states.count("RUNNING"))

    def cancel(self, target: ObjectRef[Any], *, force: bool, recursive: bool) -> None:
        assert recursive
        self.cancelled.append((target, force))

    def free(self, refs: list[ObjectRef[Any]]) -> None:
        self.freed += refs

    def whereabouts(self) -> Any:
        return SimpleNamespace(worker_id=None, session_dir="/", node_id=b"here")

    def ref_status(self, ref: ObjectRef[Any]) -> str:
        return next(row["state"] for row in self.rows["tasks"] if row["task_id"] == ref.task_id().hex())

    # -- what is in it --------------------------------------------------------------------------------

    def task(self, number: int, name: str, state: str, *, cell: int = 1, **more: Any) -> ObjectRef[Any]:
        """Add a task and return the reference to what it makes."""
        ref: ObjectRef[Any] = ObjectRef(bytes([number]) * 20 + JOB + bytes(4), self)
        ref._state = INLINE if state in {"FINISHED", "FAILED"} else PENDING
        self.rows["tasks"].append(
            {
                "task_id": ref.task_id().hex(), "name": name, "func_or_class_name": name, "state": state, "cell": cell,
                "job_id": JOB.hex(), "actor_id": None, "type": "NORMAL_TASK", "parent_task_id": "", "worker_pid": None,
                "error_type": None, "error_message": None, "required_resources": {"CPU": 1.0},
                "creation_time_ms": float(number), "start_time_ms": None, "end_time_ms": None, **more,
            }
        )  # fmt: skip
        return ref

    def actor(self, number: int, class_name: str, state: str, **more: Any) -> str:
        """Add an actor and return its id."""
        actor_id = (bytes([number]) * 12 + JOB).hex()
        self.rows["actors"].append(
            {
                "actor_id": actor_id, "class_name": class_name, "state": state, "name": None, "job_id": JOB.hex(),
                "cell": 1, "pid": 77, "required_resources": {}, "death_cause": None, "num_restarts": 0, **more,
            }
        )  # fmt: skip
        return actor_id

    def object(self, ref: ObjectRef[Any], size: int, **more: Any) -> None:
        """Add a reference of this process to an object."""
        self.rows["objects"].append(
            {
                "object_id": ref._id.hex(), "object_size": size, "task_status": "FINISHED",
                "reference_type": "LOCAL_REFERENCE", "call_site": "disabled", "type": "DRIVER", "pid": 1, **more,
            }
        )  # fmt: skip
