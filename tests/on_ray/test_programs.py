"""jray's programs on a Ray cluster that lacks jray: the same text, whichever way the driver has joined."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jray
from jray import exceptions
from tests.on_ray.conftest import PATIENCE_S

pytestmark = pytest.mark.usefixtures("joined")


@jray.remote
def double(x: Any) -> Any:
    return 2 * x


@jray.remote
def fail(text: str) -> None:
    raise ValueError(text)


@jray.remote
def nap() -> None:
    for _ in range(6000):  # Ray does not interrupt one long sleep
        time.sleep(0.01)


@jray.remote
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int = 1) -> int:
        self.value += amount
        return self.value

    def count(self, to: int) -> Iterator[int]:
        yield from range(to)

    @jray.method(num_returns=2)
    def pair(self) -> tuple[int, int]:
        return self.value, -self.value

    def me(self) -> Any:
        return jray.get_runtime_context().current_actor


# -- tasks and objects ---------------------------------------------------------------------------------


def test_tasks_take_values_and_refs() -> None:
    """Arguments may be values, refs and refs deep inside values; only top-level refs become values."""

    @jray.remote
    def look(value: Any, boxes: Any, *, named: Any) -> tuple[Any, bool, Any, Any]:
        (inner,) = boxes["inner"]
        return value, isinstance(inner, jray.ObjectRef), jray.get(inner), named

    ref = jray.put(20)
    assert jray.get(look.remote(double.remote(1), {"inner": [ref]}, named=ref)) == (2, True, 20, 20)


def test_a_task_can_start_tasks_and_give_back_their_refs() -> None:
    """jray's own names work inside a task, and a ref that a task returns is good here."""

    @jray.remote
    def parent() -> tuple[int, list[Any]]:
        ref = double.remote(4)
        return jray.get(ref), [ref, jray.put("put")]

    value, refs = jray.get(parent.remote())
    assert value == 8
    assert jray.get(refs) == [8, "put"]


def test_num_returns_gives_as_many_refs() -> None:
    """num_returns of 2 gives two refs, of 0 none."""

    @jray.remote(num_returns=2)
    def two() -> tuple[int, int]:
        return 1, 2

    assert jray.get(two.remote()) == [1, 2]
    assert two.options(num_returns=0).remote() is None


def test_arrays_come_back_equal() -> None:
    """A large array goes through the store."""
    array = np.arange(300_000)
    assert np.array_equal(jray.get(double.remote(jray.put(array))), 2 * array)


def test_wait_splits_in_order() -> None:
    """What is ready comes first, both parts in the order that was given."""
    never = nap.remote()
    first, second = double.remote(1), double.remote(2)
    jray.get([first, second])
    ready, others = jray.wait([never, first, second], num_returns=2, timeout=PATIENCE_S)
    assert (ready, others) == ([first, second], [never])
    assert jray.wait([never], timeout=0) == ([], [never])
    jray.cancel(never)


def test_refs_can_be_awaited() -> None:
    """`await ref` and `ref.future()` give the value, or raise the task's error."""

    async def both() -> list[Any]:
        return [await double.remote(1), await asyncio.gather(double.remote(2), double.remote(3))]

    assert asyncio.run(both()) == [2, [4, 6]]
    assert double.remote(5).future().result(PATIENCE_S) == 10
    with pytest.raises(ValueError, match="awaited"):
        asyncio.run(_await(fail.remote("awaited")))


async def _await(ref: Any) -> Any:
    return await ref


def test_generators_stream() -> None:
    """A generator's items come as refs, also by `async for`; its error is the last."""

    @jray.remote
    def items(count: int) -> Iterator[int]:
        yield from range(count)  # a plain iterator, which Ray's own generators do not take
        raise KeyError("the end")

    stream = items.remote(3)
    assert [jray.get(next(stream)) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        jray.get(next(stream))
    with pytest.raises(StopIteration):
        next(stream)

    async def collect() -> list[int]:
        return [await ref async for ref in Counter.remote().count.remote(3)]

    assert asyncio.run(collect()) == [0, 1, 2]


def test_a_generator_can_be_waited_for() -> None:
    """`wait` takes a generator, which is ready when its next item is."""
    stream = Counter.remote().count.remote(1)
    assert jray.wait([stream], timeout=PATIENCE_S) == ([stream], [])
    assert jray.get(next(stream)) == 0


def test_a_dynamic_number_of_returns() -> None:
    """num_returns="dynamic" gives one ref, whose value holds the items' refs, here and in a task."""

    @jray.remote(num_returns="dynamic")
    def items() -> Iterator[int]:
        yield from range(3)

    @jray.remote
    def total(refs: Any) -> int:
        return sum(jray.get(list(refs)))

    ref = items.remote()
    assert jray.get(list(jray.get(ref))) == [0, 1, 2]
    assert jray.get(total.remote(ref)) == 3


# -- errors --------------------------------------------------------------------------------------------


def test_an_error_is_of_both_classes() -> None:
    """A task's error is of its own class and a RayTaskError, holds its cause, and shows the user's frames alone."""
    with pytest.raises(ValueError, match="oh") as caught:
        jray.get(fail.remote("oh"))
    error: Any = caught.value
    assert isinstance(error, exceptions.RayTaskError)
    assert type(error.cause) is ValueError
    assert error.function_name == "fail"
    assert "in fail" in str(error)
    assert "on_ray/hosting" not in str(error)


def test_an_error_keeps_its_cause_through_tasks() -> None:
    """However many tasks an error passes through, its cause is what was raised first."""

    @jray.remote
    def through() -> Any:
        return jray.get(fail.remote("deep"))

    with pytest.raises(ValueError, match="deep") as caught:
        jray.get(double.remote(through.remote()))
    assert repr(caught.value.cause) == "ValueError('deep')"


def test_errors_of_jray_can_be_caught_inside_tasks() -> None:
    """A task that catches jray's exceptions catches those of the tasks that it starts."""

    @jray.remote
    def careful() -> list[str]:
        caught = []
        try:
            jray.get(fail.remote("inside"))
        except exceptions.RayTaskError as error:
            caught.append(type(error.cause).__name__)
        sleeping = nap.remote()
        try:
            jray.get(sleeping, timeout=0.1)
        except exceptions.GetTimeoutError:
            caught.append("timeout")
        jray.cancel(sleeping)
        return caught

    assert jray.get(careful.remote()) == ["ValueError", "timeout"]


def test_get_has_a_timeout() -> None:
    """`get` raises GetTimeoutError, which is a TimeoutError, and the task can be cancelled."""
    ref = nap.remote()
    with pytest.raises(exceptions.GetTimeoutError):
        jray.get(ref, timeout=0.2)
    jray.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        jray.get(ref, timeout=PATIENCE_S)


def test_what_cannot_be_pickled_is_named() -> None:
    """A value that cannot travel is a TypeError that says where it is."""
    with pytest.raises(TypeError, match="lock"):
        jray.put({"lock": threading.Lock()})
    with pytest.raises(TypeError, match="lock"):
        double.remote({"lock": threading.Lock()})


def test_a_crash_is_a_worker_crashed_error() -> None:
    """A worker that dies fails its task once no retry is left."""
    import os  # noqa: PLC0415 -- the task's

    with pytest.raises(exceptions.WorkerCrashedError):
        jray.get(jray.remote(max_retries=0)(lambda: os._exit(1)).remote())


# -- actors --------------------------------------------------------------------------------------------


def test_actors_keep_state_and_handles_travel() -> None:
    """Calls run in order, and whoever gets the handle can call."""

    @jray.remote
    def use(handle: Any) -> int:
        return jray.get(handle.add.remote(100))

    counter = Counter.remote(1)
    assert jray.get([counter.add.remote() for _ in range(3)]) == [2, 3, 4]
    assert jray.get(use.remote(counter)) == 104
    assert jray.get(counter.pair.remote()) == [104, -104]
    assert jray.get(counter.pair.options(num_returns=1).remote()) == (104, -104)
    assert jray.get(jray.get(counter.me.remote()).add.remote()) == 105
    assert jray.get(counter.me.remote()) == counter


def test_arguments_are_checked_at_the_call() -> None:
    """What does not fit a method or constructor is a TypeError here, not in the actor."""
    with pytest.raises(TypeError):
        Counter.remote(1, 2)
    with pytest.raises(TypeError):
        Counter.remote().add.remote(1, 2)


def test_named_actors_are_found() -> None:
    """`get_actor` finds an actor by name, from a task too; the name is taken once."""

    @jray.remote
    def find() -> int:
        return jray.get(jray.get_actor("named").add.remote(amount=10))

    keep = Counter.options(name="named").remote(5)
    assert jray.get(find.remote()) == 15
    found = jray.get_actor("named")
    assert jray.get(found.add.remote()) == 16
    assert found == keep
    assert [jray.get(ref) for ref in found.count.remote(2)] == [0, 1]
    with pytest.raises(ValueError, match="taken"):
        Counter.options(name="named").remote()
    assert Counter.options(name="named", get_if_exists=True).remote() == keep
    assert "named" in jray.util.list_named_actors()
    with pytest.raises(ValueError, match="nobody"):
        jray.get_actor("nobody")
    jray.kill(keep)


def test_a_handle_found_by_name_travels() -> None:
    """A handle that does not keep its actor alive is good in another process."""

    @jray.remote
    def use(handle: Any) -> int:
        return jray.get(handle.add.remote())

    keep = Counter.options(name="weak").remote()
    assert jray.get(use.remote(jray.get_actor("weak"))) == 1
    assert jray.get(keep.add.remote()) == 2
    jray.kill(keep)


def test_a_killed_actor_is_dead() -> None:
    """Calls of a killed actor raise ActorDiedError, and it says of which."""
    counter = Counter.remote()
    jray.get(counter.add.remote())
    jray.kill(counter)
    with pytest.raises(exceptions.ActorDiedError) as caught:
        _call_until_it_fails(counter)
    assert caught.value.actor_id == counter._actor_id.hex()


def _call_until_it_fails(counter: Any) -> None:
    for _ in range(600):  # `kill` returns at once, and calls may be on their way
        jray.get(counter.add.remote())
        time.sleep(0.05)


def test_a_constructor_that_raises_ends_its_actor() -> None:
    """Calls tell what the constructor raised."""

    @jray.remote
    class Broken:
        def __init__(self) -> None:
            raise ValueError("not today")

        def hello(self) -> None: ...

    with pytest.raises(exceptions.ActorDiedError, match="not today"):
        jray.get(Broken.remote().hello.remote())


def test_async_actors_run_calls_at_once() -> None:
    """Coroutines of an actor wait for each other in one event loop, and can stream."""

    @jray.remote
    class Meeting:
        def __init__(self) -> None:
            self.here = asyncio.Event()

        async def wait(self) -> str:
            await self.here.wait()
            return jray.get_runtime_context().get_task_name() or ""

        async def come(self) -> None:
            self.here.set()

        async def items(self) -> AsyncIterator[int]:
            for number in range(3):
                yield number

    meeting = Meeting.remote()
    waiting = meeting.wait.remote()
    jray.get(meeting.come.remote())
    assert jray.get(waiting) == "Meeting.wait"
    assert [jray.get(ref) for ref in meeting.items.remote()] == [0, 1, 2]


def test_concurrency_groups_have_limits_of_their_own() -> None:
    """Calls of one group do not wait for those of another."""

    @jray.remote(concurrency_groups={"waiting": 1, "opening": 1})
    class Door:
        def __init__(self) -> None:
            self.open = threading.Event()

        @jray.method(concurrency_group="waiting")
        def wait(self) -> bool:
            return self.open.wait(60)

        @jray.method(concurrency_group="opening")
        def let_in(self) -> None:
            self.open.set()

    door = Door.remote()
    waiting = door.wait.remote()
    jray.get(door.let_in.remote())
    assert jray.get(waiting)


def test_a_redefined_class_is_another_one() -> None:
    """A class of the same name, defined anew as in an edited cell, makes actors of the new one."""

    def define(answer: int) -> Any:
        @jray.remote
        class Answer:
            def get(self) -> int:
                return answer

        return Answer

    assert [jray.get(define(answer).remote().get.remote()) for answer in (1, 2)] == [1, 2]


def test_an_actor_can_end_itself() -> None:
    """`exit_actor` ends the actor; later calls raise ActorDiedError."""

    @jray.remote
    class Leaver:
        def leave(self) -> None:
            jray.actor.exit_actor()

        def hello(self) -> str:
            return "hello"

    leaver = Leaver.remote()
    assert jray.get(leaver.hello.remote()) == "hello"
    with pytest.raises(exceptions.ActorDiedError):
        jray.get(leaver.leave.remote())


def test_methods_with_special_names_can_be_called() -> None:
    """Also with a handle that was found by name."""

    @jray.remote
    class Box:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> int:
            return index * 2

    made = Box.options(name="box").remote()
    for box in (made, jray.get_actor("box")):
        assert jray.get([box.__len__.remote(), box.__getitem__.remote(4)]) == [3, 8]


def test_an_actor_has_jrays_own_names_too(tmp_path: Path) -> None:
    """`__jray_ready__`, `__jray_call__` and `__jray_terminate__` are Ray's, and the hook runs at a good end."""
    gate = tmp_path / "gate"

    @jray.remote
    class Hooked:
        def __init__(self) -> None:
            self.value = 3

        def __repr__(self) -> str:
            return "Hooked!"

        def __jray_shutdown__(self) -> None:
            gate.touch()

    hooked = Hooked.remote()
    assert jray.get(hooked.__jray_ready__.remote())
    assert jray.get(hooked.__jray_call__.remote(lambda self, x: (self.value * x, repr(self)), 2)) == (
        6,
        "Hooked!",
    )
    hooked.__jray_terminate__.remote()
    for _ in range(600):
        if gate.exists():
            break
        time.sleep(0.05)
    assert gate.exists()


# -- around --------------------------------------------------------------------------------------------


def test_the_runtime_context_is_rays() -> None:
    """Ids and names come from Ray, in the driver and in tasks."""

    @jray.remote
    def tell() -> dict[str, Any]:
        context = jray.get_runtime_context()
        return {
            "job": context.get_job_id(),
            "node": context.get_node_id(),
            "task": context.get_task_id(),
            "name": context.get_task_name(),
            "namespace": context.namespace,
            "resources": context.get_assigned_resources(),
            "actor": context.get_actor_id(),
        }

    here = jray.get_runtime_context()
    told = jray.get(tell.options(name="telling").remote())
    assert told["job"] == here.get_job_id()
    assert told["node"] == here.get_node_id() == jray.nodes()[0]["NodeID"]
    assert told["name"] == "telling"
    assert told["namespace"] == here.namespace == "joined"
    assert told["resources"] == {"CPU": 1.0}
    assert told["actor"] is None
    assert here.get_task_id() is None


def test_resources_are_the_clusters() -> None:
    """What the cluster has is what `ray start` was told."""
    assert jray.cluster_resources()["CPU"] == 2
    assert jray.cluster_resources()["gadget"] == 2
    assert jray.get(double.options(resources={"gadget": 1}, num_cpus=0).remote(1)) == 2


def test_options_that_only_ray_has_pass_through() -> None:
    """A scheduling strategy of Ray's own, and a runtime environment that jray could not make, are Ray's affair."""
    from ray.util.scheduling_strategies import (  # noqa: PLC0415 -- Ray is known to be there
        NodeAffinitySchedulingStrategy as RaysAffinity,
    )

    from jray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415 -- beside Ray's

    node = jray.get_runtime_context().get_node_id()
    for cls in (RaysAffinity, NodeAffinitySchedulingStrategy):
        assert jray.get(double.options(scheduling_strategy=cls(node, soft=False)).remote(1)) == 2

    @jray.remote(runtime_env={"env_vars": {"ON_RAY": "yes"}, "config": {"setup_timeout_seconds": 60}})
    def variable() -> str | None:
        import os  # noqa: PLC0415 -- the task's

        return os.environ.get("ON_RAY")

    assert jray.get(variable.remote()) == "yes"


def test_registered_serializers_are_used() -> None:
    """What is registered with jray's pickler, Ray's copy of it uses too."""
    jray.util.register_serializer(
        Odd, serializer=lambda odd: odd.value, deserializer=lambda value: Odd(value + 1)
    )
    try:
        assert jray.get(jray.put(Odd(1))).value == 2
    finally:
        jray.util.deregister_serializer(Odd)


class Odd:
    def __init__(self, value: int) -> None:
        self.value = value


@pytest.mark.parametrize("kind", ["tasks", "actors", "nodes", "workers", "jobs", "objects"])
def test_the_state_api_answers(kind: str) -> None:
    """Each kind of rows comes from Ray's state API, with its keys."""
    keys = {
        "tasks": "task_id", "actors": "actor_id", "nodes": "node_id", "workers": "worker_id", "jobs": "job_id",
        "objects": "object_id",
    }  # fmt: skip
    keep = jray.put(np.zeros(200_000)), Counter.remote()
    assert jray.get(double.remote(1)) == 2
    client: Any = jray.api._client()
    answer = client.cluster.rows(kind, limit=5)
    assert all(keys[kind] in row for row in answer.rows)
    if kind in ("actors", "nodes", "workers", "jobs"):
        assert answer.rows
    assert answer.total >= len(answer.rows)
    with pytest.raises(ValueError, match="gadgets"):
        client.cluster.rows("gadgets")
    del keep


def test_a_ref_of_an_ended_session_says_so(head: Any, joined: str) -> None:
    """A ref does not outlive its session; the error names what happened.  Comes last: it takes the session along."""
    ref = jray.put(1)
    jray.shutdown()
    address = head.address if joined == "member" else head.remote_address
    jray.init(address, engine="ray", log_to_driver=False, namespace="joined")
    with pytest.raises(exceptions.RaySystemError, match="ended"):
        jray.get(ref)
