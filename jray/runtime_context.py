"""Owns `RuntimeContext`: who and where the calling code is."""

from __future__ import annotations

import os
from typing import Any

from jray._core.engine import Whereabouts
from jray._core.ids import ActorID, JobID, NodeID, PlacementGroupID, TaskID, WorkerID
from jray._core.refs import current
from jray._private.worker import global_worker
from jray.actor import handle_to_self
from jray.runtime_env import RuntimeEnv


class RuntimeContext:
    """Tells about the driver, task or actor that asks.  Ids are hexadecimal text."""

    def _here(self) -> Whereabouts:
        if current.client is None:
            raise RuntimeError("jray is not started here: call jray.init() first.")
        here: Whereabouts = current.client.whereabouts()
        return here

    def _here_if_any(self) -> Whereabouts | None:
        return None if current.client is None else self._here()

    def get_job_id(self) -> str:
        return self._here().job_id.hex()

    @property
    def job_id(self) -> JobID:
        return JobID(self._here().job_id)

    def get_node_id(self) -> str:
        return self._here().node_id.hex()

    @property
    def node_id(self) -> NodeID:
        return NodeID(self._here().node_id)

    def get_worker_id(self) -> str:
        """Return the id of this worker; a driver's begins with its job's, and has nothing more."""
        here = self._here()
        return (here.worker_id or here.job_id.ljust(WorkerID.SIZE, b"\xff")).hex()

    @property
    def worker_id(self) -> WorkerID:
        return WorkerID.from_hex(self.get_worker_id())

    def get_task_id(self) -> str | None:
        """Return the id of the task that asks; None outside one."""
        here = self._here_if_any()
        return None if here is None or here.task_id is None else here.task_id.hex()

    @property
    def task_id(self) -> TaskID | None:
        found = self.get_task_id()
        return None if found is None else TaskID.from_hex(found)

    def get_task_name(self) -> str | None:
        here = self._here_if_any()
        return None if here is None else here.task_name

    def get_task_function_name(self) -> str | None:
        here = self._here_if_any()
        return None if here is None else here.function_name or here.task_name

    def get_actor_id(self) -> str | None:
        """Return the id of the actor that asks; None outside one."""
        here = self._here_if_any()
        return None if here is None or here.actor_id is None else here.actor_id.hex()

    @property
    def actor_id(self) -> ActorID | None:
        found = self.get_actor_id()
        return None if found is None else ActorID.from_hex(found)

    def get_actor_name(self) -> str | None:
        """Return the name of the actor that asks, "" if it has none; None outside an actor."""
        here = self._here_if_any()
        return None if here is None or here.actor_id is None else here.actor_name or ""

    @property
    def namespace(self) -> str:
        return self._here().namespace

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Tell whether the actor that asks was restarted after a failure."""
        here = self._here_if_any()
        return here is not None and here.restarts > 0

    @property
    def current_actor(self) -> Any:
        """A handle to the actor that asks.  Raises RuntimeError outside an actor."""
        here = self._here_if_any()
        if here is None or here.actor_id is None:
            raise RuntimeError("This method is only available in an actor.")
        return handle_to_self(current.client, here.actor_id, here.actor_meta)

    def get_assigned_resources(self) -> dict[str, float]:
        """Return the resources that this worker's task or actor holds."""
        return self._here().resources

    def get_resource_ids(self) -> dict[str, list[Any]]:
        return dict(self.get_accelerator_ids())

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Return the ids of the accelerators assigned to this worker, by kind."""
        return {"GPU": [str(gpu_id) for gpu_id in self._here().gpu_ids]}

    @property
    def current_placement_group_id(self) -> PlacementGroupID:
        """The id of the placement group that holds this worker; nil if there is none (Ray's older way)."""
        found = self.get_placement_group_id()
        return PlacementGroupID.nil() if found is None else PlacementGroupID.from_hex(found)

    @property
    def worker(self) -> Any:
        """What tells whether this process is a driver or a worker, by its `mode`."""
        return global_worker

    def get_placement_group_id(self) -> str | None:
        """Return the id of the placement group that the task or actor which asks runs in; None outside one."""
        here = self._here_if_any()
        return None if here is None or here.group_id is None else here.group_id.hex()

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether what the task or actor which asks submits runs in its placement group, too."""
        here = self._here_if_any()
        return here is not None and here.captures

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The environment of the driver, task or actor that asks."""
        return RuntimeEnv.of(self._here().runtime_env)

    def get_runtime_env_string(self) -> str:
        """Return `runtime_env` as JSON."""
        return self.runtime_env.serialize()

    def is_canceled(self) -> bool:
        """Tell whether the task that asks was cancelled.  Raises RuntimeError outside a task."""
        here = self._here_if_any()
        if here is None or here.task_id is None:
            raise RuntimeError("This method is only available in a task.")
        return here.is_cancelled

    @property
    def gcs_address(self) -> str:
        """Where the head listens."""
        return self._here().address

    def get_session_name(self) -> str:
        return os.path.basename(self._here().session_dir)

    def get_temp_dir(self) -> str:
        return os.path.dirname(self._here().session_dir)

    def get_node_labels(self) -> dict[str, str]:
        """Return the labels of this node, as `jray.init(labels=...)` set them.  Blocks for an answer."""
        own = self.get_node_id()
        return dict(next(row["Labels"] for row in current.client.cluster.nodes() if row["NodeID"] == own))

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
