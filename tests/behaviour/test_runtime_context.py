"""The runtime context: who and where a driver, a task or an actor is."""

from __future__ import annotations

import os
from typing import Any

import pytest

import jray

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
def ids() -> dict[str, Any]:
    context = jray.get_runtime_context()
    return {
        "job": context.get_job_id(),
        "node": context.get_node_id(),
        "task": context.get_task_id(),
        "actor": context.get_actor_id(),
        "worker": context.get_worker_id(),
        "namespace": context.namespace,
    }


@jray.remote
class Self:
    def ids(self) -> tuple[str | None, str | None]:
        context = jray.get_runtime_context()
        return context.get_task_id(), context.get_actor_id()

    def me(self) -> Any:
        return jray.get_runtime_context().current_actor

    def name(self) -> str | None:
        return jray.get_runtime_context().get_actor_name()

    def resources(self) -> dict[str, float]:
        return jray.get_runtime_context().get_assigned_resources()

    def reconstructed(self) -> bool:
        return jray.get_runtime_context().was_current_actor_reconstructed


def test_the_drivers_own_ids() -> None:
    """A driver has job, node and worker ids in hex, and neither task nor actor id."""
    context = jray.get_runtime_context()
    assert len(bytes.fromhex(context.get_job_id())) == 4
    assert len(bytes.fromhex(context.get_node_id())) == 28
    assert len(bytes.fromhex(context.get_worker_id())) == 28
    assert context.get_actor_id() is None
    assert context.namespace == "shared"


def test_a_tasks_ids() -> None:
    """A task has its driver's job and namespace, and a task id that is its ref's."""
    here = jray.get_runtime_context()
    ref = ids.remote()
    seen = jray.get(ref)
    assert seen["job"] == here.get_job_id()
    assert seen["node"] == here.get_node_id()
    assert seen["namespace"] == here.namespace
    assert seen["task"] == ref.task_id().hex()
    assert len(bytes.fromhex(seen["task"])) == 24
    assert seen["actor"] is None
    assert seen["worker"] != here.get_worker_id()
    assert jray.get(ids.remote())["task"] != seen["task"]


def test_an_actors_ids() -> None:
    """A method has a task id of its own and the actor's id, which is the handle's."""
    actor = Self.remote()
    one, two = jray.get([actor.ids.remote(), actor.ids.remote()])
    assert one[0] != two[0]
    assert one[1] == two[1] == actor._actor_id.hex()
    assert len(bytes.fromhex(str(one[1]))) == 16


def test_current_actor_is_the_actors_own_handle() -> None:
    """`current_actor` in a method is equal to the handle; outside an actor it raises RuntimeError."""
    actor = Self.remote()
    assert jray.get(actor.me.remote()) == actor
    with pytest.raises(RuntimeError):
        jray.get_runtime_context().current_actor  # noqa: B018 - for the error


def test_an_actor_knows_its_name() -> None:
    """get_actor_name is the name given, and empty without one."""
    actor = Self.options(name="known by name").remote()
    assert jray.get(actor.name.remote()) == "known by name"
    assert not jray.get(Self.remote().name.remote())


@pytest.mark.sentences("S99")
def test_a_new_actor_was_not_reconstructed() -> None:
    """was_current_actor_reconstructed is False in the first life."""
    assert jray.get(Self.remote().reconstructed.remote()) is False


@pytest.mark.sentences("S48")
def test_assigned_resources() -> None:
    """A task and an actor can read what they hold."""

    @jray.remote(num_cpus=1, resources={"gadget": 0.5})
    def resources() -> dict[str, float]:
        return jray.get_runtime_context().get_assigned_resources()

    assert jray.get(resources.remote()) == {"CPU": 1, "gadget": 0.5}
    actor = Self.options(num_cpus=1, resources={"gadget": 0.25}).remote()
    assert jray.get(actor.resources.remote()) == {"CPU": 1, "gadget": 0.25}
    assert jray.get(Self.remote().resources.remote()) == {}


def test_names_of_tasks() -> None:
    """get_task_name is the `name` option or the function's name; get_task_function_name is qualified."""

    @jray.remote
    def named() -> tuple[str | None, str | None]:
        context = jray.get_runtime_context()
        return context.get_task_name(), context.get_task_function_name()

    plain, function = jray.get(named.remote())
    assert str(plain).endswith("named")
    assert str(function).endswith("named")
    assert jray.get(named.options(name="given").remote()) == ("given", function)


def test_nested_tasks_have_ids_of_their_own() -> None:
    """A child's task id isn't its parent's; the job is the same."""

    @jray.remote
    def parent() -> tuple[str | None, dict[str, Any]]:
        return jray.get_runtime_context().get_task_id(), jray.get(ids.remote())

    mine, child = jray.get(parent.remote())
    assert mine != child["task"]
    assert child["job"] == jray.get_runtime_context().get_job_id()


def test_accelerators_of_the_driver() -> None:
    """A driver holds no GPU."""
    assert jray.get_gpu_ids() == []


def test_a_task_is_not_in_the_drivers_process() -> None:
    """The worker id is one per process."""

    @jray.remote
    def where() -> tuple[int, str | None]:
        return os.getpid(), jray.get_runtime_context().get_worker_id()

    seen = jray.get([where.remote() for _ in range(10)])
    assert len({pid for pid, _ in seen}) == len({worker for _, worker in seen}) == len(set(seen))


def test_is_initialized_says_so() -> None:
    """`is_initialized` is True in the driver and in tasks."""
    assert jray.is_initialized()
    assert jray.get(jray.remote(lambda: jray.is_initialized()).remote())
