"""Names that a program for Ray imports: they are where Ray has them, and do what they do there."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import jray
import jray.cloudpickle
import jray.experimental.locations
import jray.job_config
import jray.remote_function
import jray.runtime_context
import jray.runtime_env
import jray.types
import jray.util.annotations
import jray.util.debug
import jray.util.metrics
import jray.util.multiprocessing
import jray.util.serialization
import jray.util.state
from jray import exceptions
from jray._private import services
from jray._private import worker as private_worker
from jray.runtime_env import RuntimeEnv, RuntimeEnvConfig
from jray.util.annotations import Deprecated, DeveloperAPI, PublicAPI, RayDeprecationWarning
from tests.behaviour import differences
from tests.behaviour.engine import ON_RAY
from tests.behaviour.support import Bench

# -- ids ----------------------------------------------------------------------------------------------

#: the classes of ids, and their sizes in bytes
SIZES = {
    jray.ActorClassID: 28,
    jray.ActorID: 16,
    jray.ClusterID: 28,
    jray.FunctionID: 28,
    jray.JobID: 4,
    jray.NodeID: 28,
    jray.ObjectRef: 28,
    jray.PlacementGroupID: 18,
    jray.TaskID: 24,
    jray.UniqueID: 28,
    jray.WorkerID: 28,
}

ids = pytest.mark.parametrize(
    ("kind", "size"), SIZES.items(), ids=lambda value: getattr(value, "__name__", value)
)


@pytest.mark.sentences("S153")
@ids
def test_an_id_is_so_many_bytes(kind: Any, size: int) -> None:
    """It is made from bytes, tells them back in bytes and hex, and is equal to its like alone."""
    raw = bytes(range(1, size + 1))
    made = kind.from_binary(raw)
    assert kind.size() == size
    assert made.binary() == raw
    assert made.hex() == raw.hex()
    assert repr(made) == str(made) == f"{kind.__name__}({raw.hex()})"
    assert made == kind(raw)
    assert hash(made) == hash(kind(raw))
    assert made != kind(bytes(size))
    assert made != raw
    assert bytes(made) == raw
    assert not made.is_nil()
    assert bool(made)
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.sentences("S153")
@ids
def test_a_nil_id(kind: Any, size: int) -> None:
    """Nil is all bits set."""
    assert kind.nil().is_nil()
    assert kind.nil().binary() == b"\xff" * size


@pytest.mark.parametrize(
    "kind", [kind for kind in SIZES if kind not in (jray.JobID, jray.TaskID)], ids=lambda kind: kind.__name__
)
def test_random_ids_differ(kind: Any) -> None:
    """Ids made by chance are of the right kind, and not the same."""
    one, other = kind.from_random(), kind.from_random()
    assert type(one) is type(other) is kind
    assert one != other


@pytest.mark.parametrize(
    "kind", SIZES.keys() - {jray.ObjectRef, jray.UniqueID}, ids=lambda kind: kind.__name__
)
def test_ids_from_hex(kind: Any) -> None:
    """Hexadecimal text, as str or bytes, gives the id back."""
    made = kind(b"\x07" * kind.size())
    assert kind.from_hex(made.hex()) == kind.from_hex(made.hex().encode()) == made


@pytest.mark.sentences("S153")
@ids
def test_wrong_ids_are_refused(kind: Any, size: int) -> None:
    """Another length is a ValueError that tells both, another type a TypeError; there is no order."""
    with pytest.raises(ValueError, match=f"ID string needs to have length {size}, got 3"):
        kind(b"abc")
    with pytest.raises(ValueError, match=f"ID string needs to have length {size}, got 3"):
        kind.from_binary(b"abc")
    if kind is not jray.ObjectRef:  # which is made too often for a look at each id's class
        with pytest.raises(TypeError, match=r"Unsupported type: <class 'str'>, expected bytes"):
            kind("x" * size)
    with pytest.raises(TypeError):
        assert kind.nil() < kind.nil()


def test_ids_of_different_kinds_are_not_equal() -> None:
    """The same bytes name different things."""
    assert jray.NodeID(b"x" * 28) != jray.WorkerID(b"x" * 28)


@pytest.mark.sentences("S153")
def test_a_job_id_is_a_number() -> None:
    """Little-endian, and at the end of the ids of what the job makes."""
    assert jray.JobID.from_int(3).binary() == b"\x03\x00\x00\x00"
    assert jray.JobID.from_int(3).int() == 3
    task = jray.TaskID(b"t" * 8 + b"a" * 12 + jray.JobID.from_int(3).binary())
    assert task.job_id() == jray.JobID.from_int(3)
    assert task.actor_id() == jray.ActorID(b"a" * 12 + b"\x03\x00\x00\x00")
    assert jray.ObjectRef(task.binary() + b"\x01\x00\x00\x00").task_id() == task
    assert jray.ObjectRef(task.binary() + b"\x01\x00\x00\x00").job_id() == task.job_id()


@differences.ids_are_checked
def test_a_wrong_hex_text_is_refused() -> None:
    """A text of the wrong length is a ValueError; UniqueID and ObjectRef take hexadecimal text too."""
    with pytest.raises(ValueError, match="length 28, got 1"):
        jray.NodeID.from_hex("ab")
    assert jray.UniqueID.from_hex("ab" * 28).binary() == b"\xab" * 28
    assert jray.ObjectRef.from_hex("ab" * 28).binary() == b"\xab" * 28
    assert jray.ActorID(b"a" * 12 + b"\x03\x00\x00\x00").job_id() == jray.JobID.from_int(3)


# -- refs and what gives them ------------------------------------------------------------------------------


@pytest.mark.sentences("S153")
def test_the_class_of_refs() -> None:
    """It has an older name, can be subclassed, and annotations may say what of."""
    assert jray.ObjectID is jray.ObjectRef
    assert issubclass(type("Mine", (jray.ObjectRef,), {}), jray.ObjectRef)
    assert jray.ObjectRef[int] is not None
    assert jray.types.ObjectRef[int] is not None
    nil: Any = jray.ObjectRef.nil()
    for ask in (len, iter):
        with pytest.raises(TypeError):
            ask(nil)


@pytest.mark.usefixtures("cluster")
def test_a_ref_calls_back(bench: Bench) -> None:
    """`_on_completed` calls with the value, `future` and `as_future` give it, and `call_site` is text."""
    gate, tally = bench.gate(), bench.tally()

    @jray.remote
    def wait() -> int:
        gate.wait()
        return 7

    ref = wait.remote()
    ref._on_completed(tally.add)
    future = ref.future()
    gate.open()
    assert future.result(30) == 7
    tally.wait_for(1)
    assert tally.notes() == [7]
    assert isinstance(ref.call_site(), str | bytes)
    assert ref.owner_address()

    async def get() -> Any:
        return await ref.as_future()

    assert asyncio.run(get()) == 7


@pytest.mark.usefixtures("cluster")
def test_a_dynamic_number_of_returns() -> None:
    """The value is a DynamicObjectRefGenerator, which gives each ref once; the next `get` gives all again."""

    @jray.remote(num_returns="dynamic")
    def count(n: int) -> Iterator[int]:
        yield from list(range(n))

    ref = count.remote(3)
    refs = jray.get(ref)
    assert isinstance(refs, jray.DynamicObjectRefGenerator)
    assert len(refs) == 3
    assert [jray.get(each) for each in refs] == [0, 1, 2]
    assert list(refs) == []
    assert jray.get(list(jray.get(ref))) == [0, 1, 2]


@pytest.mark.usefixtures("cluster")
def test_where_objects_are(bench: Bench) -> None:
    """An object is on no node while its task runs, then on one, with a size."""
    gate = bench.gate()

    @jray.remote
    def make() -> bytes:
        gate.wait()
        return bytes(1_000_000)

    find = jray.experimental.locations.get_object_locations
    ref, small = make.remote(), jray.put([1])
    assert find([ref]) == {ref: {"node_ids": [], "object_size": None, "did_spill": False}}
    gate.open()
    jray.wait([ref])
    found = find([ref, small])
    assert list(found) == [ref, small]
    assert found[ref]["node_ids"] == found[small]["node_ids"] == [jray.get_runtime_context().get_node_id()]
    assert found[ref]["object_size"] >= 1_000_000 > found[small]["object_size"] > 0
    local = jray.experimental.locations.get_local_object_locations([ref])
    assert local[ref]["object_size"] == found[ref]["object_size"]


def test_where_objects_are_without_a_cluster(no_cluster: None) -> None:
    """Without `init` there is nobody to ask: RuntimeError."""
    with pytest.raises(RuntimeError):
        jray.experimental.locations.get_object_locations([])


# -- actors and functions ------------------------------------------------------------------------------


class Plain:
    def ping(self) -> int:
        return 1


@pytest.mark.usefixtures("cluster")
def test_classes_of_remote_things() -> None:
    """`isinstance` finds functions, actor classes, handles and methods by the classes in jray.actor."""
    assert isinstance(jray.remote(lambda: 1), jray.remote_function.RemoteFunction)
    actor_class = jray.remote(Plain)
    assert isinstance(actor_class, jray.actor.ActorClass)
    handle = actor_class.remote()
    assert isinstance(handle, jray.actor.ActorHandle)
    assert isinstance(handle.ping, jray.actor.ActorMethod)
    assert not isinstance(handle, jray.actor.ActorClass)


def test_annotations_name_the_class_of_an_actor() -> None:
    """The classes take a parameter, for type checkers."""
    kinds: list[Any] = [jray.actor.ActorClass, jray.actor.ActorHandle, jray.actor.ActorProxy]
    for kind in kinds:
        assert kind[Plain] is not None


def test_actor_names() -> None:
    """Inheriting from an actor class is an error of a class in jray.actor."""
    assert issubclass(jray.actor.ActorClassInheritanceException, TypeError)
    with pytest.raises(jray.actor.ActorClassInheritanceException):

        class Child(jray.remote(Plain)):  # type: ignore[misc]
            pass


@pytest.mark.usefixtures("cluster")
def test_exit_actor_outside_an_actor() -> None:
    """`jray.actor.exit_actor` outside of an actor is a TypeError."""
    with pytest.raises(TypeError):
        jray.actor.exit_actor()


def test_options_of_actors(fresh: Callable[..., Any]) -> None:
    """An actor holds its memory, and a sliver of its kind of accelerator."""
    fresh(resources={"accelerator_type:X1": 1}, _memory=1 << 30)

    @jray.remote
    class Holder:
        def held(self) -> dict[str, float]:
            found: dict[str, float] = jray.get_runtime_context().get_assigned_resources()
            return found

    holder = Holder.options(memory=1 << 20, accelerator_type="X1").remote()
    held = jray.get(holder.held.remote())
    assert held["memory"] == 1 << 20
    assert held["accelerator_type:X1"] == pytest.approx(0.001)


@pytest.mark.usefixtures("cluster")
def test_out_of_order_execution() -> None:
    """A plain actor may be told to keep the order or not; an async one cannot keep it."""

    @jray.remote(allow_out_of_order_execution=True)
    class Sync:
        def ping(self) -> int:
            return 1

    @jray.remote
    class Async:
        async def ping(self) -> int:
            return 1

    assert jray.get(Sync.remote().ping.remote()) == 1
    with pytest.raises(ValueError, match="allow_out_of_order_execution"):
        Async.options(allow_out_of_order_execution=False).remote()


@pytest.mark.usefixtures("cluster")
def test_options_of_a_method() -> None:
    """A call may have a name, and need not be recorded."""

    @jray.remote
    class Named:
        def name(self) -> Any:
            return jray.get_runtime_context().get_task_name()

    named = Named.remote()
    assert jray.get(named.name.options(name="called so", enable_task_events=False).remote()) == "called so"


@pytest.mark.usefixtures("cluster")
def test_a_generator_of_refs_takes_no_values() -> None:
    """What Python's generators take from their consumer is refused, by synchronous and asynchronous methods."""

    @jray.remote
    def count() -> Iterator[int]:
        yield 1

    refs = count.remote()
    for refuse in (lambda: refs.send(1), lambda: refs.throw(ValueError()), refs.close):
        with pytest.raises(NotImplementedError):
            refuse()
    for coroutine in (refs.asend(1), refs.athrow(ValueError()), refs.aclose()):
        with pytest.raises(NotImplementedError):
            asyncio.run(coroutine)
    assert jray.get(next(refs)) == 1


# -- exceptions ------------------------------------------------------------------------------------------

#: class -> (its base classes, arguments that make one, what str() then holds)
EXCEPTIONS: dict[str, tuple[list[str], tuple[Any, ...], str]] = {
    "RayError": (["Exception"], ("text",), "text"),
    "RayTaskError": (["RayError"], ("f", "in f()", ValueError("why")), "in f()"),
    "UserCodeException": (["RayError"], ("text",), "text"),
    "TaskCancelledError": (["RayError"], (), ""),
    "WorkerCrashedError": (["RayError"], (), ""),
    "RayActorError": (["RayError"], ("ab" * 16, "it died"), "it died"),
    "ActorDiedError": (["RayActorError"], (), ""),
    "ActorUnavailableError": (["RayActorError"], ("it restarts", b"\xab" * 16), "it restarts"),
    "AsyncioActorExit": (["RayError"], (), ""),
    "GetTimeoutError": (["RayError", "TimeoutError"], ("text",), "text"),
    "PlasmaObjectNotAvailable": (["RayError"], ("text",), "text"),
    "ObjectLostError": (["RayError"], ("cd" * 28, None, "here"), "cd" * 28),
    "ObjectFetchTimedOutError": (["ObjectLostError"], ("cd" * 28, None, ""), "cd" * 28),
    "ObjectFreedError": (["ObjectLostError"], ("cd" * 28, None, ""), "cd" * 28),
    "OwnerDiedError": (["ObjectLostError"], ("cd" * 28, None, ""), "cd" * 28),
    "ReferenceCountingAssertionError": (
        ["ObjectLostError", "AssertionError"],
        ("cd" * 28, None, ""),
        "cd" * 28,
    ),
    "ObjectReconstructionFailedError": (["ObjectLostError"], ("cd" * 28,), "cd" * 28),
    "ObjectRefStreamEndOfStreamError": (["RayError"], (), ""),
    "ObjectStoreFullError": (["RayError"], ("text",), "text"),
    "OutOfDiskError": (["RayError"], ("text",), "text"),
    "OutOfMemoryError": (["RayError"], ("text",), "text"),
    "NodeDiedError": (["RayError"], ("text",), "text"),
    "LocalRayletDiedError": (["RayError"], (), ""),
    "RuntimeEnvSetupError": (["RayError"], ("text",), "text"),
    "TaskUnschedulableError": (["RayError"], ("text",), "text"),
    "ActorUnschedulableError": (["RayError"], ("text",), "text"),
    "TaskPlacementGroupRemoved": (["RayError"], (), ""),
    "ActorPlacementGroupRemoved": (["RayError"], (), ""),
    "PendingCallsLimitExceeded": (["RayError"], ("text",), "text"),
    "ActorAlreadyExistsError": (["ValueError", "RayError"], ("text",), "text"),
    "ActorHandleNotFoundError": (["ValueError", "RayError"], ("text",), "text"),
    "AuthenticationError": (["RayError"], ("text",), "text"),
    "RpcError": (["RayError"], ("text", 3), "text"),
    "OufOfBandObjectRefSerializationException": (["RayError"], ("text",), "text"),
    "UnserializableException": (["RayError"], ("text",), "text"),
    "RaySystemError": (["RayError"], ("text", "traceback"), "text"),
    "StreamingGeneratorReplayInconsistentError": (["RaySystemError"], ("text",), "text"),
}
#: Ray has them for parts that jray has not
NOT_HERE = {
    "CrossLanguageError", "RayCgraphCapacityExceeded", "RayChannelError", "RayChannelTimeoutError",
    "RayDirectTransportError",
}  # fmt: skip


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_is_where_it_is_in_ray(name: str) -> None:
    """It has the same base classes, is made from the same arguments, and says the text that it is given."""
    bases, arguments, text = EXCEPTIONS[name]
    kind = getattr(exceptions, name)
    assert [base.__name__ for base in kind.__bases__] == bases
    error = kind(*arguments)
    assert text in str(error)
    assert isinstance(error, exceptions.RayError)


def test_no_exception_is_missing() -> None:
    """The list above is whole: what Ray has beside it, jray says it has not, and the other way round."""
    found = {
        name
        for name, value in vars(exceptions).items()
        if inspect.isclass(value)
        and issubclass(value, BaseException)
        and value.__module__ == exceptions.__name__
    }
    assert found - EXCEPTIONS.keys() == (NOT_HERE if ON_RAY else {"JrayInternalError"})
    assert EXCEPTIONS.keys() <= found


#: (class, its arguments by the names of the fields that they become)
FIELDS: list[tuple[str, dict[str, Any]]] = [
    (
        "RayTaskError",
        {
            "function_name": "f",
            "traceback_str": "text",
            "cause": ValueError(),
            "proctitle": "t",
            "pid": 7,
            "ip": "1.2",
        },
    ),
    ("RayTaskError", {"function_name": "f", "traceback_str": "", "cause": ValueError(), "actor_repr": "A"}),
    ("RayActorError", {"actor_id": "ab", "error_msg": "died", "actor_init_failed": True, "preempted": True}),
    ("TaskCancelledError", {"task_id": None, "error_message": "why"}),
    ("ObjectLostError", {"object_ref_hex": "cd", "owner_address": b"owner", "call_site": "site"}),
    ("RuntimeEnvSetupError", {"error_message": "why"}),
    ("TaskUnschedulableError", {"error_message": "why"}),
    ("ActorUnschedulableError", {"error_message": "why"}),
    ("RaySystemError", {"client_exc": "why", "traceback_str": "text"}),
    ("OutOfMemoryError", {"message": "why"}),
    ("RpcError", {"message": "why", "rpc_code": 3}),
]


@pytest.mark.parametrize(("name", "fields"), FIELDS)
def test_fields_of_exceptions(name: str, fields: dict[str, Any]) -> None:
    """Programs make them from Ray's arguments, and read them by Ray's names."""
    error = getattr(exceptions, name)(**fields)
    assert {field: getattr(error, field) for field in fields} == fields


def test_an_exception_travels_as_bytes() -> None:
    """`to_bytes` and `from_bytes` are each other's inverse."""
    error = exceptions.RayError.from_bytes(exceptions.RayTaskError("f", "text", ValueError("why")).to_bytes())
    assert isinstance(error, exceptions.RayTaskError)
    assert isinstance(error.cause, ValueError)


# -- who and where ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cluster")
def test_modes_of_processes() -> None:
    """A driver is in SCRIPT_MODE, a worker in WORKER_MODE."""

    @jray.remote
    def modes() -> tuple[Any, Any, Any]:
        return jray.get_runtime_context().worker.mode, private_worker.global_worker.mode, jray.WORKER_MODE

    assert (
        (jray.SCRIPT_MODE, jray.WORKER_MODE)
        == (private_worker.SCRIPT_MODE, private_worker.WORKER_MODE)
        == (0, 1)
    )
    assert private_worker.global_worker.mode == jray.get_runtime_context().worker.mode == jray.SCRIPT_MODE
    assert private_worker.global_worker.connected
    assert private_worker.global_worker.namespace == "shared"
    assert jray.get(modes.remote()) == (1, 1, 1)


def test_mode_without_a_cluster(no_cluster: None) -> None:
    """A process that is in no cluster has no mode."""
    assert private_worker.global_worker.mode is None
    assert not private_worker.global_worker.connected


@pytest.mark.usefixtures("cluster")
def test_the_runtime_context_of_a_driver() -> None:
    """It has the ids, also as objects; what only a task has is None, nil or empty."""
    context = jray.runtime_context.get_runtime_context()
    assert isinstance(context, jray.runtime_context.RuntimeContext)
    assert isinstance(jray.get_runtime_context(), jray.runtime_context.RuntimeContext)
    assert context.get_worker_id() == context.get_job_id() + "ff" * 24
    assert context.job_id == jray.JobID.from_hex(context.get_job_id())
    assert context.node_id == jray.NodeID.from_hex(context.get_node_id())
    assert context.get() == {"job_id": context.job_id, "node_id": context.node_id, "namespace": "shared"}
    assert context.get_task_name() is None
    assert context.get_task_function_name() is None
    assert context.get_actor_name() is None
    assert context.get_placement_group_id() is None
    assert context.current_placement_group_id.is_nil()
    assert context.should_capture_child_tasks_in_placement_group is False
    assert context.runtime_env == {}
    assert isinstance(context.runtime_env, RuntimeEnv)
    assert context.get_accelerator_ids()["GPU"] == context.get_resource_ids()["GPU"] == []
    with pytest.raises(RuntimeError):
        context.is_canceled()


@pytest.mark.usefixtures("cluster")
def test_the_runtime_context_of_an_actor() -> None:
    """`get` and the older properties have its ids as objects."""

    @jray.remote(num_gpus=1)
    class Here:
        def ids(self) -> tuple[Any, ...]:
            context: Any = jray.get_runtime_context()
            assert context.task_id == jray.TaskID.from_hex(context.get_task_id())
            assert context.actor_id == jray.ActorID.from_hex(context.get_actor_id())
            return context.get(), context.get_accelerator_ids()["GPU"], context.is_canceled()

    actor = Here.remote()
    ref = actor.ids.remote()
    found, gpus, canceled = jray.get(ref)
    assert found["actor_id"] == actor._actor_id == actor._ray_actor_id
    assert found["task_id"] == ref.task_id()
    assert found["namespace"] == "shared"
    assert len(gpus) == 1
    assert canceled is False


@pytest.mark.usefixtures("cluster")
def test_the_address_of_this_node() -> None:
    """It is the one in `nodes`, by both import paths."""
    (row,) = jray.nodes()
    assert jray.util.get_node_ip_address() == services.get_node_ip_address() == row["NodeManagerAddress"]


def test_what_the_cloud_calls_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what the environment says, or nothing."""
    monkeypatch.delenv("RAY_CLOUD_INSTANCE_ID", raising=False)
    assert jray.util.get_node_instance_id() == services.get_node_instance_id() == ""
    monkeypatch.setenv("RAY_CLOUD_INSTANCE_ID", "i-123")
    assert jray.util.get_node_instance_id() == services.get_node_instance_id() == "i-123"


# -- runtime environments as objects ------------------------------------------------------------------------


def test_a_runtime_env_is_the_dict_of_its_fields() -> None:
    """It holds what it is given, in forms that travel."""
    env = RuntimeEnv(env_vars={"A": "1"})
    assert env == env.to_dict() == {"env_vars": {"A": "1"}}
    assert env.env_vars() == env["env_vars"] == env.get("env_vars")
    env.set("env_vars", {"B": "2"})
    assert RuntimeEnv.deserialize(env.serialize()) == env == {"env_vars": {"B": "2"}}
    assert RuntimeEnv() == {}
    assert isinstance(RuntimeEnv(env_vars={}), dict)


def test_a_runtime_env_has_a_config() -> None:
    """It is made from a dict or an object, with Ray's defaults."""
    defaults = {"setup_timeout_seconds": 600, "eager_install": True, "log_files": []}
    assert RuntimeEnvConfig() == defaults
    assert RuntimeEnv(config={"setup_timeout_seconds": 3})["config"] == defaults | {
        "setup_timeout_seconds": 3
    }
    config = RuntimeEnvConfig(setup_timeout_seconds=-1, eager_install=False, log_files=["a.log"])
    assert RuntimeEnv(config=config)["config"] == {
        "setup_timeout_seconds": -1,
        "eager_install": False,
        "log_files": ["a.log"],
    }


@pytest.mark.parametrize(
    ("kind", "fields", "error"),
    [
        (RuntimeEnv, {"env_vars": {"A": 1}}, TypeError),
        (RuntimeEnv, {"config": 3}, TypeError),
        (RuntimeEnv, {"pip": ["a"], "conda": "b"}, ValueError),
        (RuntimeEnv, {"pip": ["a"], "uv": ["b"]}, ValueError),
        (RuntimeEnv, {"container": {"image": "a"}, "pip": ["b"]}, ValueError),
        (RuntimeEnv, {"image_uri": "a", "pip": ["b"]}, ValueError),
        (RuntimeEnvConfig, {"setup_timeout_seconds": 0}, ValueError),
        (RuntimeEnvConfig, {"setup_timeout_seconds": "1"}, TypeError),
        (RuntimeEnvConfig, {"eager_install": 1}, TypeError),
        (RuntimeEnvConfig, {"log_files": "x"}, TypeError),
    ],
)
def test_wrong_runtime_envs_are_refused(kind: Any, fields: dict[str, Any], error: type[Exception]) -> None:
    """Wrong values, and fields that exclude each other, are refused where the object is made."""
    with pytest.raises(error):
        kind(**fields)


def test_a_job_runs_in_a_runtime_env_object(fresh: Callable[..., Any]) -> None:
    """`init` and options take a RuntimeEnv as they take a dict."""
    fresh(runtime_env=RuntimeEnv(env_vars={"NAMES_OF_JOB": "a"}))

    @jray.remote
    def read() -> Any:
        import os  # noqa: PLC0415 - the worker's own

        return os.environ.get("NAMES_OF_JOB"), os.environ.get("NAMES_OF_TASK")

    env = RuntimeEnv(env_vars={"NAMES_OF_TASK": "b"})
    assert jray.get([read.remote(), read.options(runtime_env=env).remote()]) == [("a", None), ("a", "b")]


# -- helpers ---------------------------------------------------------------------------------------------


def test_annotations_change_only_the_documentation() -> None:
    """`PublicAPI`, `DeveloperAPI` and `Deprecated` give back what they are put on, with a line in its text."""

    def function() -> int:
        """Give seven."""
        return 7

    for mark in (
        PublicAPI,
        PublicAPI(stability="beta"),
        DeveloperAPI,
        DeveloperAPI(),
        Deprecated(message="Use x."),
    ):
        assert mark(function) is function
    assert function() == 7
    text = inspect.cleandoc(function.__doc__ or "")
    assert text.startswith("Give seven.")
    assert "beta" in text
    assert "Use x." in text
    with pytest.raises(AssertionError):
        PublicAPI(stability="good")  # type: ignore[arg-type]


def test_a_deprecated_function_warns_when_called() -> None:
    """With `warning=True` a call, or making an instance, warns with the message; the class stays the same."""

    @Deprecated(message="Use other().", warning=True)
    def old() -> int:
        return 1

    class Old:
        pass

    assert Deprecated(warning=True)(Old) is Old
    assert issubclass(RayDeprecationWarning, DeprecationWarning)
    with pytest.warns(RayDeprecationWarning, match=r"Use other\(\)"):
        assert old() == 1
    with pytest.warns(RayDeprecationWarning):
        Old()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Deprecated(lambda: 2)() == 2


@pytest.fixture
def log_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `log_once` knows, put back after the test."""
    debug = jray.util.debug
    if ON_RAY:
        monkeypatch.setattr(debug, "_disabled", False)
        monkeypatch.setattr(debug, "_periodic_log", False)
        monkeypatch.setattr(debug, "_logged", set())
    else:
        monkeypatch.setattr(debug, "_logged", debug._Logged())


@pytest.mark.usefixtures("log_state")
def test_log_once() -> None:
    """It is true once for each key, until it is reset, and never again once it is disabled."""
    assert [jray.util.log_once(key) for key in ("a", "a", "b", "a")] == [True, False, True, False]
    jray.util.debug.reset_log_once("a")
    assert [jray.util.log_once(key) for key in ("a", "b")] == [True, False]
    jray.util.debug.reset_log_once()
    assert jray.util.log_once("b")
    jray.util.disable_log_once_globally()
    assert not jray.util.log_once("new")


@pytest.mark.usefixtures("log_state")
def test_log_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """With periodic logging, keys are forgotten after a minute."""
    clock = [1000.0]
    for name in ("time", "monotonic"):
        monkeypatch.setattr(jray.util.debug.time, name, lambda: clock[0])
    jray.util.enable_periodic_logging()
    assert [jray.util.log_once("a"), jray.util.log_once("a")] == [True, False]
    clock[0] += 61
    assert True in [jray.util.log_once("a"), jray.util.log_once("a")]


def test_every_metric_has_default_tags() -> None:
    """They are the metric's own."""
    for metric in (
        jray.util.metrics.Counter("names_count", tag_keys=("a",)),
        jray.util.metrics.Gauge("names_gauge", tag_keys=("a",)),
        jray.util.metrics.Histogram("names_histogram", boundaries=[1.0], tag_keys=("a",)),
    ):
        metric.set_default_tags({"a": "1"})
        assert metric.info["default_tags"] == {"a": "1"}
        assert metric.info["tag_keys"] == ("a",)


def test_keywords_of_the_state_api(fresh: Callable[..., Any]) -> None:
    """Lists take a limit, a time-out, and the address of a cluster."""
    context = fresh(include_dashboard=True) if ON_RAY else fresh()
    address = f"http://{context.address_info['webui_url']}" if ON_RAY else context.address_info["address"]
    assert len(jray.util.state.list_nodes(address=address, limit=1, timeout=30)) == 1
    assert jray.util.state.list_tasks(address=address, limit=1, timeout=30) == []
    assert isinstance(jray.util.state.list_runtime_envs(limit=1), list)


def test_keywords_of_a_pool(fresh: Callable[..., Any]) -> None:
    """A Pool joins the cluster at `ray_address`, and its workers are told `initargs` first."""
    context = fresh(num_cpus=1)

    def start(text: str, number: int) -> None:
        import os  # noqa: PLC0415 - the worker's own

        os.environ["NAMES_OF_POOL"] = f"{text}{number}"

    def read(_: object) -> str | None:
        import os  # noqa: PLC0415 - the worker's own

        return os.environ.get("NAMES_OF_POOL")

    address = context.address_info["address"]
    with jray.util.multiprocessing.Pool(1, initializer=start, initargs=("n", 3), ray_address=address) as pool:
        assert pool.map(read, [0]) == ["n3"]


class Bare:
    """Cannot be pickled by itself."""

    def __reduce__(self) -> Any:
        raise TypeError("bare")


@pytest.mark.usefixtures("cluster")
def test_serializers_by_their_other_path() -> None:
    """`jray.util.serialization` has the functions of `jray.util`."""
    assert jray.util.serialization.register_serializer is jray.util.register_serializer
    jray.util.serialization.register_serializer(
        Bare, serializer=lambda _: "bare", deserializer=lambda text: text
    )
    assert jray.get(jray.put(Bare())) == "bare"
    jray.util.serialization.deregister_serializer(Bare)
    with pytest.raises(TypeError):
        jray.put(Bare())


def test_what_cannot_be_pickled_is_found() -> None:
    """`inspect_serializability` tells whether, and which part; it prints the search."""
    printed = io.StringIO()
    assert jray.util.inspect_serializability([1, 2], name="list", print_file=printed) == (True, set())
    bare = Bare()

    def function() -> Any:
        return bare

    fine, failures = jray.util.inspect_serializability(function, print_file=printed)
    assert not fine
    assert bare in {failure.obj for failure in failures}
    assert "bare" in printed.getvalue()


def test_the_pickler_is_at_hand() -> None:
    """`jray.cloudpickle` pickles what pickle does not, into bytes or a file, and can be told of modules."""
    pickler = jray.cloudpickle
    assert pickler.loads(pickler.dumps(lambda x: x + 1))(2) == 3
    file = io.BytesIO()
    pickler.dump(lambda: 5, file)
    file.seek(0)
    assert pickler.load(file)() == 5
    assert issubclass(pickler.CloudPickler, pickle.Pickler)
    assert pickler.Pickler is pickler.CloudPickler
    assert pickler.__version__.count(".") >= 1
    for function in (pickler.register_pickle_by_value, pickler.unregister_pickle_by_value):
        function(importlib.import_module("tests.behaviour.hygiene"))


def test_the_pickler_explains_itself() -> None:
    """The `_debug` functions do the same, and say more when it fails."""
    pickler = jray.cloudpickle
    assert pickler.loads(pickler.dumps_debug({"a": 1})) == {"a": 1}
    file = io.BytesIO()
    pickler.dump_debug([1], file)
    assert pickle.loads(file.getvalue()) == [1]
    with pytest.raises(TypeError, match="Bare"):
        pickler.dumps_debug({"inside": Bare()})
    with pytest.raises(TypeError, match="Bare"):
        pickler.dump_debug(Bare(), file)


# -- what jray does not have ------------------------------------------------------------------------------

#: a few of each kind; jray's own list is looked at in the tests of its units
REFUSED = [
    "air", "data", "llm", "rllib", "serve", "train", "tune", "workflow", "util.spark", "util.xgboost", "util.tpu",
    "autoscaler", "dag", "cross_language", "java_function", "ClientBuilder", "client",
]  # fmt: skip


@differences.libraries_are_refused
@pytest.mark.parametrize("name", REFUSED)
def test_a_library_of_rays_is_refused_by_name(name: str) -> None:
    """Importing it says that it is not part of jray, and what to do; it can be asked for without an error."""
    with pytest.raises(ImportError, match=rf"jray\.{name} is not part of jray.*[;:,].*\."):
        importlib.import_module(f"jray.{name}")
    package, _, last = f"jray.{name}".rpartition(".")
    with pytest.raises(ImportError, match="is not part of jray"):
        exec(f"from {package} import {last}", {})  # noqa: S102 - the form of import that users write
    with pytest.raises(ImportError, match="is not part of jray"):
        exec(f"import jray.{name}.inside", {})  # noqa: S102
    assert importlib.util.find_spec(f"jray.{name}") is None
    assert not hasattr(importlib.import_module(package), last)


@differences.libraries_are_refused
def test_an_attribute_that_is_refused_says_why() -> None:
    """`jray.data` is an AttributeError with the same text; a misspelt name is one without."""
    with pytest.raises(AttributeError, match=r"jray\.data is not part of jray"):
        jray.data.range(10)
    with pytest.raises(AttributeError, match="has no attribute 'dato'"):
        jray.dato  # noqa: B018 - for the error
