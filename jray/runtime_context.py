"""Owns `RuntimeContext`: who and where the calling code is."""

from __future__ import annotations

import os
from typing import Any

from jray._core.ids import ActorID, JobID, NodeID, TaskID, WorkerID
from jray._core.refs import current
from jray.actor import handle_to_self


class RuntimeContext:
    """Tells about the driver, task or actor that asks.  Ids are hexadecimal text."""

    def _client(self) -> Any:
        if current.client is None:
            raise RuntimeError("jray is not started here: call jray.init() first.")
        return current.client

    def _task(self) -> Any:
        return current.client.context.task_number() if current.client is not None else None

    def _host(self) -> Any:
        worker = current.client.worker if current.client is not None else None
        return worker.actor if worker is not None else None

    def get_job_id(self) -> str:
        return str(self._client().job_id.hex())

    @property
    def job_id(self) -> JobID:
        return JobID(self._client().job_id)

    def get_node_id(self) -> str:
        return str(self._client().node_id.hex())

    @property
    def node_id(self) -> NodeID:
        return NodeID(self._client().node_id)

    def get_worker_id(self) -> str:
        worker = self._client().worker
        return str(worker.worker_id.hex()) if worker is not None else WorkerID.nil().hex()

    @property
    def worker_id(self) -> WorkerID:
        return WorkerID.from_hex(self.get_worker_id())

    def get_task_id(self) -> str | None:
        """Return the id of the task that asks; None outside one."""
        task = self._task()
        return task.task_id.hex() if task is not None else None

    @property
    def task_id(self) -> TaskID | None:
        task = self._task()
        return TaskID(task.task_id) if task is not None else None

    def get_task_name(self) -> str | None:
        task = self._task()
        return task.name if task is not None else None

    def get_task_function_name(self) -> str | None:
        task = self._task()
        if task is None:
            return None
        function = getattr(task.template, "function", None)
        return f"{function.__module__}.{function.__qualname__}" if function is not None else str(task.name)

    def get_actor_id(self) -> str | None:
        """Return the id of the actor that asks; None outside one."""
        host = self._host()
        return host.spec.actor_id.hex() if host is not None else None

    @property
    def actor_id(self) -> ActorID | None:
        host = self._host()
        return ActorID(host.spec.actor_id) if host is not None else None

    def get_actor_name(self) -> str | None:
        host = self._host()
        return None if host is None else host.spec.name or ""

    @property
    def namespace(self) -> str:
        return str(self._client().namespace)

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Tell whether the actor that asks was restarted after a failure."""
        host = self._host()
        return host is not None and host.restarts > 0

    @property
    def current_actor(self) -> Any:
        """A handle to the actor that asks.  Raises RuntimeError outside an actor."""
        host = self._host()
        if host is None:
            raise RuntimeError("This method is only available in an actor.")
        return handle_to_self(self._client(), host.spec)

    def get_assigned_resources(self) -> dict[str, float]:
        """Return the resources that this worker's task or actor holds."""
        worker = self._client().worker
        return dict(worker.resources) if worker is not None else {}

    def get_resource_ids(self) -> dict[str, list[Any]]:
        return dict(self.get_accelerator_ids())

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Return the ids of the accelerators assigned to this worker, by kind."""
        worker = self._client().worker
        return {"GPU": list(worker.gpu_ids) if worker is not None else []}

    def get_placement_group_id(self) -> str | None:
        """Return None: placement groups are not supported yet."""
        return None

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        return False

    @property
    def runtime_env(self) -> dict[str, Any]:
        """The environment of the driver, task or actor that asks."""
        return {name: dict(value) for name, value in self._client().runtime_env}

    def get_runtime_env_string(self) -> str:
        import json  # noqa: PLC0415 -- rarely asked

        return json.dumps(self.runtime_env)

    def is_canceled(self) -> bool:
        """Tell whether the task that asks was cancelled.  Raises RuntimeError outside a task."""
        task = self._task()
        if task is None:
            raise RuntimeError("This method is only available in a task.")
        return bool(task.is_cancelled)

    @property
    def gcs_address(self) -> str:
        """Where the head listens."""
        return f"{self._client().session_dir}/node.sock"

    def get_session_name(self) -> str:
        return os.path.basename(str(self._client().session_dir))

    def get_temp_dir(self) -> str:
        return os.path.dirname(str(self._client().session_dir))

    def get_node_labels(self) -> dict[str, str]:
        return {"ray.io/node-id": self.get_node_id()}

    def get(self) -> dict[str, Any]:
        """Return the ids in one dictionary (Ray's older way)."""
        found: dict[str, Any] = {"job_id": self.job_id, "node_id": self.node_id, "namespace": self.namespace}
        if self.task_id is not None:
            found["task_id"] = self.task_id
        if self.actor_id is not None:
            found["actor_id"] = self.actor_id
        return found


def get_runtime_context() -> RuntimeContext:
    """Return what tells about the driver, task or actor that asks."""
    return RuntimeContext()
