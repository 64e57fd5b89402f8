"""Stands for Ray's worker module: what programs ask of the process they run in, and earlier homes of `ray.get`."""

from __future__ import annotations

from typing import Any

from jray import cancel, get, get_gpu_ids, init, is_initialized, kill, put, remote, shutdown, wait
from jray._core.ids import ActorID, JobID, NodeID, TaskID, WorkerID
from jray._core.refs import current
from jray._private.worker import SCRIPT_MODE, WORKER_MODE
from jray._private.worker import global_worker as _told
from jray.session import RayContext

__all__ = [
    "LOCAL_MODE",
    "SCRIPT_MODE",
    "WORKER_MODE",
    "RayContext",
    "Worker",
    "blocking_get_inside_async_warned",
    "cancel",
    "get",
    "get_gpu_ids",
    "global_worker",
    "init",
    "is_initialized",
    "kill",
    "put",
    "remote",
    "shutdown",
    "wait",
]

LOCAL_MODE = 2
#: programs set it to keep Ray from a warning that jray does not give
blocking_get_inside_async_warned = False


class Worker(type(_told)):  # type: ignore[misc]  # its class has no public name
    """This process as Ray's internals tell of it; outside a cluster its ids are nil."""

    @property
    def current_job_id(self) -> JobID:
        here = self._here()
        return JobID.nil() if here is None else JobID(here.job_id)

    @property
    def current_task_id(self) -> TaskID:
        here = self._here()
        return TaskID.nil() if here is None or here.task_id is None else TaskID(here.task_id)

    @property
    def current_node_id(self) -> NodeID:
        here = self._here()
        return NodeID.nil() if here is None else NodeID(here.node_id)

    @property
    def actor_id(self) -> ActorID:
        here = self._here()
        return ActorID.nil() if here is None or here.actor_id is None else ActorID(here.actor_id)

    @property
    def worker_id(self) -> bytes:
        here = self._here()
        return WorkerID.nil().binary() if here is None or here.worker_id is None else bytes(here.worker_id)

    @property
    def runtime_env(self) -> dict[str, Any]:
        here = self._here()
        return {} if here is None else dict(here.runtime_env)

    @staticmethod
    def check_connected() -> None:
        """Start a cluster if this process has none, as every use of one does."""
        current.require()

    @staticmethod
    def _here() -> Any:
        return None if current.client is None else current.client.whereabouts()


global_worker = Worker()
