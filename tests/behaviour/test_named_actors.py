"""Named and detached actors: one per name and namespace, found by name, and how long they live."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import jray
import jray.util
from jray.exceptions import ActorAlreadyExistsError
from tests.behaviour.support import Bench, wait_gone, wait_until

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
class Named:
    def __init__(self, value: int = 0) -> None:
        self.value = value

    def read(self) -> int:
        return self.value

    def add(self) -> int:
        self.value += 1
        return self.value

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name of the test's own; whatever bears it afterwards is killed."""
    text = f"name of {request.node.name}"
    yield text
    try:
        jray.kill(jray.get_actor(text))
    except ValueError:
        pass


def wait_free(name: str, namespace: str | None = None) -> None:
    def free() -> bool:
        try:
            jray.get_actor(name, namespace)
        except ValueError:
            return True
        return False

    wait_until(free, what=f"{name} free")


@pytest.mark.sentences("S103")
def test_get_actor_finds_by_name(name: str) -> None:
    """The driver and tasks find the actor, and their handles are equal to the creator's."""
    actor = Named.options(name=name).remote(1)
    found = jray.get_actor(name)
    assert found == actor
    assert jray.get(found.add.remote()) == 2
    look = jray.remote(lambda n: jray.get(jray.get_actor(n).add.remote()))
    assert jray.get(look.remote(name)) == 3
    assert jray.get(actor.read.remote()) == 3


@pytest.mark.sentences("S103")
def test_an_unknown_name_is_a_value_error() -> None:
    """get_actor raises ValueError that has the name."""
    with pytest.raises(ValueError, match="Failed to look up actor with name 'nobody'"):
        jray.get_actor("nobody")


@pytest.mark.sentences("S103", "S147")
def test_an_empty_name_is_refused() -> None:
    """Neither creation nor look-up takes an empty name."""
    with pytest.raises(ValueError, match="name"):
        Named.options(name="").remote()
    with pytest.raises(ValueError):  # noqa: PT011 - the words differ
        jray.get_actor("")


@pytest.mark.sentences("S103")
def test_a_name_is_taken_once(name: str) -> None:
    """A second actor of the name raises ActorAlreadyExistsError, a ValueError, at the call."""
    first = Named.options(name=name).remote()
    with pytest.raises(ActorAlreadyExistsError) as caught:
        Named.options(name=name).remote()
    assert isinstance(caught.value, ValueError)
    assert jray.get(first.read.remote()) == 0


@pytest.mark.sentences("S103")
def test_a_name_is_free_again_after_death(name: str) -> None:
    """When the actor is dead its name can be given anew."""
    first = Named.options(name=name).remote(1)
    jray.get(first.read.remote())
    jray.kill(first)
    wait_free(name)
    second = Named.options(name=name).remote(2)
    assert jray.get(jray.get_actor(name).read.remote()) == 2
    assert first != second


@pytest.mark.sentences("S103")
def test_namespaces_keep_names_apart(name: str) -> None:
    """The same name in two namespaces is two actors; get_actor looks in the driver's unless told."""
    here = Named.options(name=name).remote(1)
    there = Named.options(name=name, namespace="elsewhere").remote(2)
    assert jray.get_actor(name) == here
    assert jray.get_actor(name, namespace="elsewhere") == there
    assert jray.get([here.read.remote(), there.read.remote()]) == [1, 2]
    jray.kill(here)
    wait_free(name)
    assert jray.get(jray.get_actor(name, "elsewhere").read.remote()) == 2


@pytest.mark.sentences("S103")
def test_the_namespace_of_a_task_is_the_drivers() -> None:
    """Names that a task gives are found by the driver."""

    @jray.remote
    def create() -> tuple[Any, str]:
        actor = Named.options(name="made in a task", lifetime="detached").remote(7)
        jray.get(actor.read.remote())
        return actor, jray.get_runtime_context().namespace

    actor, namespace = jray.get(create.remote())
    assert namespace == jray.get_runtime_context().namespace == "shared"
    assert jray.get_actor("made in a task") == actor
    jray.kill(actor)


@pytest.mark.sentences("S104")
def test_a_looked_up_handle_does_not_keep_the_actor_alive(name: str) -> None:
    """When the creator's handle is gone the actor ends, although another found it by name."""
    actor = Named.options(name=name).remote()
    found = jray.get_actor(name)
    pid = jray.get(found.pid.remote())
    del actor
    gc.collect()
    wait_gone(pid)
    with pytest.raises(jray.exceptions.RayActorError):
        jray.get(found.read.remote())


@pytest.mark.sentences("S105")
def test_a_detached_actor_outlives_its_handles_and_its_creator(name: str) -> None:
    """A detached actor made by an actor that was killed goes on, until it is killed itself."""

    @jray.remote
    class Creator:
        def create(self, name: str) -> int:
            return jray.get(Named.options(name=name, lifetime="detached").remote(4).pid.remote())

    creator = Creator.remote()
    pid = jray.get(creator.create.remote(name))
    jray.kill(creator)
    found = jray.get_actor(name)
    assert jray.get([found.read.remote(), found.pid.remote()]) == [4, pid]
    del found
    gc.collect()
    assert jray.get(jray.get_actor(name).pid.remote()) == pid
    jray.kill(jray.get_actor(name))
    wait_gone(pid)
    wait_free(name)


@pytest.mark.sentences("S106")
def test_get_if_exists_returns_the_living(name: str) -> None:
    """With a living actor of the name its handle is returned and the new arguments are ignored."""
    options = Named.options(name=name, get_if_exists=True)
    first = options.remote(1)
    second = options.remote(2)
    assert first == second
    assert jray.get(second.read.remote()) == 1


@pytest.mark.sentences("S106")
def test_get_if_exists_has_no_race(name: str, bench: Bench) -> None:
    """Creators at once, in the driver's threads and in six processes, get one instance."""
    gate, here = bench.gate(), bench.tally()

    def create(_: int) -> int:
        here.add()
        gate.wait()
        options = Named.options(name=name, get_if_exists=True, lifetime="detached")
        return jray.get(options.remote().pid.remote())

    with ThreadPoolExecutor(4) as pool:
        in_threads = pool.map(create, range(4))
        in_processes = [jray.remote(num_cpus=0)(create).remote(n) for n in range(6)]
        here.wait_for(10)
        gate.open()
        pids = {*in_threads, *jray.get(in_processes)}
    assert len(pids) == 1


@pytest.mark.sentences("S103")
def test_list_named_actors(name: str) -> None:
    """list_named_actors has the names of this namespace, and on demand of all."""
    here = Named.options(name=name).remote()
    there = Named.options(name=name, namespace="another").remote()
    jray.get([here.read.remote(), there.read.remote()])
    assert jray.util.list_named_actors().count(name) == 1
    everywhere = jray.util.list_named_actors(all_namespaces=True)
    assert {"name": name, "namespace": "another"} in everywhere
    assert {"name": name, "namespace": "shared"} in everywhere


@pytest.mark.sentences("S103")
def test_concurrent_names_are_unique(name: str) -> None:
    """Of several creators at once one wins, and the others get ActorAlreadyExistsError."""

    def create(_: int) -> Any:
        try:
            return Named.options(name=name).remote()
        except ActorAlreadyExistsError:
            return None

    with ThreadPoolExecutor(4) as pool:
        made = [actor for actor in pool.map(create, range(4)) if actor is not None]
    assert len(made) == 1
    assert jray.get(made[0].read.remote()) == 0
