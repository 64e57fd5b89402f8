"""Owns what Ray's runtime context says about the calling code, in the engine protocol's words."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import ray

if TYPE_CHECKING:
    from jray._core.on_ray.engine import RayEngine


def task_id_here() -> bytes | None:
    """Return the id of the running task; None outside one."""
    found = ray.get_runtime_context().get_task_id()
    return None if found is None else bytes.fromhex(found)


class RayWhereabouts:
    """A `jray._core.engine.Whereabouts` whose fields are looked up when they are read: some ask the cluster."""

    def __init__(self, engine: RayEngine) -> None:
        self._engine = engine
        self._context = ray.get_runtime_context()
        self.job_id = engine.job_id
        self.node_id = engine.node_id
        self.namespace = engine.namespace

    @property
    def _is_in_worker(self) -> bool:
        return self._engine.is_worker

    @property
    def worker_id(self) -> bytes | None:
        return bytes.fromhex(self._context.get_worker_id()) if self._is_in_worker else None

    @property
    def session_dir(self) -> str:
        return os.path.join(str(self._context.get_temp_dir()), str(self._context.get_session_name()))

    @property
    def address(self) -> str:
        return str(self._context.gcs_address)

    @property
    def runtime_env(self) -> dict[str, Any]:
        return dict(self._context.runtime_env)

    @property
    def resources(self) -> dict[str, float]:
        return dict(self._context.get_assigned_resources()) if self._is_in_worker else {}

    @property
    def gpu_ids(self) -> tuple[int | str, ...]:
        return () if self._engine.is_remote_client else tuple(ray.get_gpu_ids())

    @property
    def task_id(self) -> bytes | None:
        return task_id_here() if self._is_in_worker else None

    @property
    def task_name(self) -> str | None:
        return self._context.get_task_name() if self._is_in_worker else None

    @property
    def function_name(self) -> str | None:
        return self._context.get_task_function_name() if self._is_in_worker else None

    @property
    def is_cancelled(self) -> bool:
        return bool(self._is_in_worker and self._context.is_canceled())

    @property
    def actor_id(self) -> bytes | None:
        found = self._context.get_actor_id() if self._is_in_worker else None
        return None if found is None else bytes.fromhex(found)

    @property
    def actor_name(self) -> str | None:
        return self._context.get_actor_name() if self._is_in_worker else None

    @property
    def actor_meta(self) -> Any:
        return self._engine.actors.own_meta()

    @property
    def group_id(self) -> bytes | None:
        found = self._context.get_placement_group_id() if self._is_in_worker else None
        return None if found is None else bytes.fromhex(found)

    @property
    def captures(self) -> bool:
        return bool(self._is_in_worker and self._context.should_capture_child_tasks_in_placement_group)

    @property
    def restarts(self) -> int:
        if self.actor_id is None:
            return 0
        with contextlib.suppress(
            Exception
        ):  # an actor of which the cluster knows nothing yet was not restarted
            return int(bool(self._context.was_current_actor_reconstructed))
        return 0
