"""Options are checked as Ray checks them, with messages that say what to do.

The cases in tables are facts of Ray 2.60, and run on Ray as well where it is installed beside jray.
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import pytest

from jray._core.options import (
    ACTOR_OPTIONS,
    METHOD_CALL_OPTIONS,
    METHOD_OPTIONS,
    TASK_OPTIONS,
    ActorOptions,
    MethodOptions,
    TaskOptions,
    check_supported,
)
from jray._core.resources import ResourceSet

ENGINES = ["jray", *(["ray"] if importlib.util.find_spec("ray") else [])]

Options = dict[str, Any]
Raised = type[BaseException] | None


def _function() -> None: ...


def _generator() -> Iterator[int]:
    yield 1


class _Actor:
    def method(self) -> None: ...


class Jray:
    """The options module in the role of the decorators."""

    def task(self, options: Options, *, generator: bool = False) -> TaskOptions:
        return TaskOptions.from_kwargs(options, is_generator=generator)

    def task_options(self, options: Options, more: Options, *, generator: bool = False) -> None:
        self.task(options, generator=generator).updated(more, is_generator=generator)

    def actor(self, options: Options) -> ActorOptions:
        return ActorOptions.from_kwargs(options)

    def actor_options(self, options: Options, more: Options) -> None:
        self.actor(options).updated(more)

    def method(self, options: Options, *, generator: bool = False) -> None:
        MethodOptions.from_kwargs(options, is_generator=generator)

    def submit_task(self, options: Options) -> None:
        self.task(options).check_at_submit()

    def submit_actor(self, options: Options) -> None:
        self.actor(options).check_at_submit(is_async=False)


class Ray:
    """The same on the reference."""

    def __init__(self) -> None:
        self.ray = importlib.import_module("ray")

    def _remote(self, thing: Any, options: Options) -> Any:
        # Ray keeps and changes the dict it is given; a copy of the function keeps cases apart.
        return self.ray.remote(**options)(thing) if options else self.ray.remote(thing)

    def task(self, options: Options, *, generator: bool = False) -> Any:
        return self._remote(_generator if generator else _function, options)

    def task_options(self, options: Options, more: Options, *, generator: bool = False) -> None:
        self.task(options, generator=generator).options(**more)

    def actor(self, options: Options) -> Any:
        return self._remote(_Actor, options)

    def actor_options(self, options: Options, more: Options) -> None:
        self.actor(options).options(**more)

    def method(self, options: Options, *, generator: bool = False) -> None:
        self.ray.method(**options)(_generator if generator else _function)

    def _start(self) -> None:
        if not self.ray.is_initialized():
            self.ray.init(num_cpus=1, num_gpus=2, include_dashboard=False, log_to_driver=False)

    def submit_task(self, options: Options) -> None:
        self._start()
        self.task(options).remote()

    def submit_actor(self, options: Options) -> None:
        self._start()
        self.actor(options).remote()


@pytest.fixture(params=ENGINES, scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Declares tasks, actors and methods with jray's table or with Ray."""
    if request.param == "jray":
        yield Jray()
    else:
        ray = Ray()
        yield ray
        ray.ray.shutdown()


def expect(raised: Raised, declare: Callable[[], object]) -> None:
    if raised is None:
        declare()
        return
    with pytest.raises(raised) as caught:
        declare()
    assert type(caught.value) is raised


class Strange:
    """Neither a strategy nor a placement group, but not plain data either."""


# --- facts of Ray ---------------------------------------------------------------------------------

TASK_CASES: list[tuple[Options, Raised]] = [
    ({}, None),
    ({"num_cpus": -1}, ValueError),
    ({"num_cpus": 0.00001}, ValueError),
    ({"num_cpus": float("nan")}, ValueError),
    ({"num_cpus": "a"}, TypeError),
    ({"num_cpus": None}, None),
    ({"num_cpus": True}, None),
    ({"num_cpus": 0}, None),
    ({"num_gpus": 1.5}, None),
    ({"num_gpus": 2.0}, None),
    ({"memory": -1}, ValueError),
    ({"memory": "x"}, TypeError),
    ({"memory": 1.5}, None),
    ({"resources": {"CPU": 1}}, ValueError),
    ({"resources": {"GPU": 1}}, ValueError),
    ({"resources": {"x": -1}}, ValueError),
    ({"resources": {"x": 0.00001}}, ValueError),
    ({"resources": {"x": "a"}}, TypeError),
    ({"resources": [1]}, TypeError),
    ({"resources": {"memory": 1}}, None),
    ({"resources": None}, None),
    ({"bogus": 1}, ValueError),
    ({"lifetime": "detached"}, ValueError),
    ({"max_restarts": 1}, ValueError),
    ({"namespace": "x"}, ValueError),
    ({"concurrency_groups": {}}, ValueError),
    ({"max_retries": -2}, ValueError),
    ({"max_retries": -1}, None),
    ({"max_retries": 1.0}, TypeError),
    ({"max_retries": None}, None),
    ({"num_returns": -1}, ValueError),
    ({"num_returns": 0}, None),
    ({"num_returns": "abc"}, TypeError),
    ({"num_returns": 1.5}, TypeError),
    ({"num_returns": "streaming"}, ValueError),
    ({"num_returns": "dynamic"}, ValueError),
    ({"num_returns": None}, None),
    ({"max_calls": -1}, ValueError),
    ({"max_calls": None}, None),
    ({"retry_exceptions": [1]}, ValueError),
    ({"retry_exceptions": [KeyboardInterrupt]}, ValueError),
    ({"retry_exceptions": ValueError}, TypeError),
    ({"retry_exceptions": None}, TypeError),
    ({"retry_exceptions": (ValueError, KeyError)}, None),
    ({"retry_exceptions": [ValueError]}, None),
    ({"retry_exceptions": True}, None),
    ({"scheduling_strategy": "FOO"}, None),
    ({"scheduling_strategy": 5}, TypeError),
    ({"runtime_env": "x"}, TypeError),
    ({"runtime_env": {"bogus": 1}}, None),
    ({"name": 1}, TypeError),
    ({"name": ""}, None),
    ({"accelerator_type": 3}, TypeError),
    ({"accelerator_type": "A100"}, None),
    ({"object_store_memory": 5}, ValueError),
    ({"object_store_memory": None}, None),
    ({"_generator_backpressure_num_objects": 0}, ValueError),
    ({"_generator_backpressure_num_objects": -1}, None),
    ({"_generator_backpressure_num_objects": 2}, None),
    ({"_num_objects_per_yield": 0}, ValueError),
    ({"enable_task_events": None}, TypeError),
    ({"enable_task_events": 0}, TypeError),
    ({"enable_task_events": False}, None),
    ({"placement_group": None, "scheduling_strategy": "SPREAD"}, None),
    ({"placement_group": "x", "scheduling_strategy": "SPREAD"}, ValueError),
    ({"placement_group": 5}, TypeError),
    ({"placement_group_bundle_index": None}, TypeError),
    ({"label_selector": "x"}, TypeError),
    ({"fallback_strategy": "x"}, TypeError),
    ({"_labels": "x"}, TypeError),
]

ACTOR_CASES: list[tuple[Options, Raised]] = [
    ({}, None),
    ({"bogus": 1}, ValueError),
    ({"max_retries": 1}, ValueError),
    ({"num_returns": 2}, ValueError),
    ({"max_calls": 1}, ValueError),
    ({"retry_exceptions": True}, ValueError),
    ({"num_cpus": -1}, ValueError),
    ({"num_cpus": "a"}, TypeError),
    ({"num_gpus": 1.5}, None),
    ({"resources": {"CPU": 1}}, ValueError),
    ({"runtime_env": "x"}, TypeError),
    ({"scheduling_strategy": "FOO"}, None),
    ({"max_restarts": -2}, ValueError),
    ({"max_restarts": -1}, None),
    ({"max_restarts": 1.5}, TypeError),
    ({"max_task_retries": -2}, ValueError),
    ({"lifetime": "x"}, ValueError),
    ({"lifetime": 1}, TypeError),
    ({"lifetime": "detached"}, None),
    ({"lifetime": "non_detached"}, None),
    ({"lifetime": None}, None),
    ({"get_if_exists": True}, ValueError),
    ({"get_if_exists": True, "name": ""}, ValueError),
    ({"get_if_exists": True, "name": "x"}, None),
    ({"get_if_exists": None}, TypeError),
    ({"name": ""}, None),
    ({"name": 1}, TypeError),
    ({"namespace": ""}, None),
    ({"namespace": 1}, TypeError),
    ({"max_concurrency": -1}, ValueError),
    ({"max_concurrency": "a"}, TypeError),
    ({"max_concurrency": 0}, None),
    ({"max_concurrency": None}, None),
    ({"max_pending_calls": -2}, ValueError),
    ({"max_pending_calls": 0}, None),
    ({"concurrency_groups": {"io": 2}}, None),
    ({"concurrency_groups": "io"}, TypeError),
    ({"concurrency_groups": None}, None),
    ({"allow_out_of_order_execution": 1}, TypeError),
    ({"allow_out_of_order_execution": False}, None),
    ({"enable_tensor_transport": 1}, TypeError),
    ({"_actor_generator_backpressure_num_objects": 0}, ValueError),
    ({"_actor_generator_backpressure_num_objects": -1}, None),
    ({"placement_group": "x", "scheduling_strategy": "SPREAD"}, ValueError),
]

METHOD_CASES: list[tuple[Options, Raised]] = [
    ({"bogus": 1}, AssertionError),
    ({"name": "x"}, AssertionError),
    ({"num_cpus": 1}, AssertionError),
    ({"num_returns": -1}, ValueError),
    ({"num_returns": 2}, None),
    ({"num_returns": None}, None),
    ({"num_returns": "streaming"}, ValueError),
    ({"_num_objects_per_yield": 0}, ValueError),
    ({"enable_task_events": None}, None),
    ({"max_task_retries": -1, "retry_exceptions": [ValueError], "concurrency_group": "io"}, None),
]

TASK_OPTIONS_CASES: list[tuple[Options, Raised]] = [
    ({}, None),
    ({"max_calls": 1}, ValueError),
    ({"max_calls": None}, ValueError),
    ({"bogus": 1}, ValueError),
    ({"num_cpus": -1}, ValueError),
    ({"num_cpus": "a"}, TypeError),
    ({"num_returns": "streaming"}, ValueError),
    ({"num_returns": -1}, ValueError),
    ({"num_returns": 3}, None),
    ({"lifetime": "x"}, ValueError),
    ({"max_retries": -2}, ValueError),
    ({"_num_objects_per_yield": 1}, None),
    ({"placement_group": "x", "scheduling_strategy": "SPREAD"}, ValueError),
]

ACTOR_OPTIONS_CASES: list[tuple[Options, Raised]] = [
    ({}, None),
    ({"concurrency_groups": {}}, ValueError),
    ({"concurrency_groups": None}, ValueError),
    ({"bogus": 1}, ValueError),
    ({"lifetime": "x"}, ValueError),
    ({"get_if_exists": True}, ValueError),
    ({"get_if_exists": True, "name": "x"}, None),
    ({"max_restarts": -2}, ValueError),
    ({"num_returns": 2}, ValueError),
]

SUBMIT_TASK_CASES: list[tuple[Options, Raised]] = [
    ({"num_gpus": 1.5}, ValueError),
    ({"resources": {"memory": 1}}, ValueError),
    ({"resources": {"object_store_memory": 1}}, ValueError),
    ({"resources": {"bundle": 1}}, ValueError),
    ({"scheduling_strategy": "FOO"}, ValueError),
    ({"scheduling_strategy": ""}, ValueError),
    ({"scheduling_strategy": "SPREAD"}, None),
    ({"num_cpus": 0.5}, None),
    ({"num_cpus": 0.00019}, None),
]

SUBMIT_ACTOR_CASES: list[tuple[Options, Raised]] = [
    ({"num_gpus": 1.5}, ValueError),
    ({"name": ""}, ValueError),
    ({"namespace": ""}, ValueError),
    ({"scheduling_strategy": "FOO"}, ValueError),
    ({"max_concurrency": 2, "allow_out_of_order_execution": False}, ValueError),
    ({"resources": {"memory": 1}}, ValueError),
    ({"max_concurrency": 0}, None),
]


def cases(table: list[tuple[Options, Raised]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("options", "raised"), table, ids=[str(options) for options, _ in table])


@cases(TASK_CASES)
def test_decorated_function_is_checked_as_in_ray(engine: Any, options: Options, raised: Raised) -> None:
    """`@remote(**options)` on a function raises what Ray raises, or nothing."""
    expect(raised, lambda: engine.task(options))


@cases(ACTOR_CASES)
def test_decorated_class_is_checked_as_in_ray(engine: Any, options: Options, raised: Raised) -> None:
    """`@remote(**options)` on a class raises what Ray raises, or nothing."""
    expect(raised, lambda: engine.actor(options))


@cases(METHOD_CASES)
def test_decorated_method_is_checked_as_in_ray(engine: Any, options: Options, raised: Raised) -> None:
    """`@method(**options)` raises what Ray raises, or nothing."""
    expect(raised, lambda: engine.method(options))


@cases(TASK_OPTIONS_CASES)
def test_options_of_a_function_are_checked_as_in_ray(engine: Any, options: Options, raised: Raised) -> None:
    """`f.options(**options)` raises what Ray raises, or nothing."""
    expect(raised, lambda: engine.task_options({}, options))


@cases(ACTOR_OPTIONS_CASES)
def test_options_of_a_class_are_checked_as_in_ray(engine: Any, options: Options, raised: Raised) -> None:
    """`A.options(**options)` raises what Ray raises, or nothing."""
    expect(raised, lambda: engine.actor_options({}, options))


@cases(SUBMIT_TASK_CASES)
def test_submitted_task_is_checked_as_in_ray(engine: Any, options: Options, raised: Raised) -> None:
    """`f.remote()` raises what Ray finds out only then."""
    expect(raised, lambda: engine.submit_task(options))


@cases(SUBMIT_ACTOR_CASES)
def test_submitted_actor_is_checked_as_in_ray(engine: Any, options: Options, raised: Raised) -> None:
    """`A.remote()` raises what Ray finds out only then."""
    expect(raised, lambda: engine.submit_actor(options))


def test_generator_may_stream(engine: Any) -> None:
    """`num_returns="streaming"` is right for a generator, in the decorator and in `.options`."""
    engine.task({"num_returns": "streaming"}, generator=True)
    engine.task_options({}, {"num_returns": "streaming"}, generator=True)
    engine.task_options({}, {"num_returns": 3}, generator=True)
    engine.method({"num_returns": "streaming"}, generator=True)


def test_name_from_the_decorator_serves_get_if_exists(engine: Any) -> None:
    """Decorator and `.options` are judged together."""
    engine.actor_options({"name": "x"}, {"get_if_exists": True})


# --- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (
            lambda: TaskOptions.from_kwargs({"num_cpu": 1}),
            "Invalid option keyword num_cpu for remote functions. Did you mean num_cpus?",
        ),
        (
            lambda: TaskOptions.from_kwargs({"max_restarts": 1}),
            "for remote functions. It is an option of actors.",
        ),
        (lambda: ActorOptions.from_kwargs({"max_retries": 1}), "for actors. It is an option of functions."),
        (
            lambda: TaskOptions.from_kwargs({"num_cpus": "a"}),
            "num_cpus must be a number or None, not 'a' (a str).",
        ),
        (
            lambda: TaskOptions.from_kwargs({"num_cpus": -1}),
            "The quantity of resource num_cpus cannot be negative, but it is -1.",
        ),
        (lambda: TaskOptions.from_kwargs({"resources": {"CPU": 1}}), "Give CPU with the keyword num_cpus"),
        (
            lambda: TaskOptions.from_kwargs({"max_retries": -2}),
            "max_retries must be a whole number from 0 up, -1 for no limit",
        ),
        (lambda: TaskOptions.from_kwargs({"retry_exceptions": [1]}), "but 1 isn't one"),
        (
            lambda: TaskOptions.from_kwargs({"num_returns": "streaming"}, is_generator=False),
            "this one has no yield",
        ),
        (lambda: TaskOptions.from_kwargs({"num_gpus": 1.5}).check_at_submit(), "num_gpus=1.5"),
        (lambda: TaskOptions().updated({"max_calls": 1}), "max_calls can't be set in .options()"),
        (
            lambda: ActorOptions.from_kwargs({"concurrency_groups": {"io": 0}}),
            "concurrency_groups['io'] is 0",
        ),
        (lambda: ActorOptions.from_kwargs({"concurrency_groups": ["io"]}), "a dict of name to limit"),
        (lambda: ActorOptions.from_kwargs({"concurrency_groups": {"io": "2"}}), "not 'io' to '2'"),
        (lambda: ActorOptions.from_kwargs({"get_if_exists": True}), "needs a name="),
        (
            lambda: ActorOptions(allow_out_of_order_execution=False).check_at_submit(is_async=True),
            "An async actor can't",
        ),
        (lambda: MethodOptions.from_kwargs({"bogus": 1}), "Invalid option keyword bogus for actor methods."),
        (lambda: MethodOptions().updated({"bogus": 1}), "Invalid option keyword bogus for method calls."),
        (lambda: MethodOptions().updated({"_num_objects_per_yield": 1}), "give it to @method"),
        (lambda: TaskOptions.from_kwargs({"resources": {1: 1}}), "must be a string, not 1"),
    ],
)
def test_message_names_the_option_its_value_and_the_rule(declare: Callable[[], object], message: str) -> None:
    """The text alone lets the user put it right."""
    with pytest.raises((TypeError, ValueError, AssertionError), match=re.escape(message)):
        declare()


@pytest.mark.parametrize(
    ("declare", "first"),
    [
        (lambda: TaskOptions.from_kwargs({"max_retry": 1}), ["max_retries"]),
        (lambda: ActorOptions.from_kwargs({"max_task_retrys": 1}), ["max_task_retries"]),
        (lambda: TaskOptions.from_kwargs({"zzz": 1}), ["num_cpus", "num_gpus"]),
        (lambda: MethodOptions().updated({"zzz": 1}), ["num_returns", "concurrency_group"]),
    ],
)
def test_an_unknown_option_is_told_which_there_are_those_most_like_it_first(
    declare: Callable[[], object], first: list[str]
) -> None:
    """Without those that are not for users, and those that nothing can be made of."""
    with pytest.raises((TypeError, ValueError), match="Valid ones are") as caught:
        declare()
    told = str(caught.value).partition("Valid ones are ")[2].removesuffix(".").split(", ")
    assert told[: len(first)] == first
    assert len(set(told)) == len(told) > 5
    assert not [name for name in told if name.startswith("_")]
    assert {"object_store_memory", "placement_group", "tensor_transport"}.isdisjoint(told)


@pytest.mark.parametrize(
    ("table", "keyword", "value"),
    [
        (TASK_OPTIONS, "_labels", {"a": "b"}),
        (TASK_OPTIONS, "_num_objects_per_yield", 2),
        (ACTOR_OPTIONS, "object_store_memory", 5),
        (ACTOR_OPTIONS, "enable_tensor_transport", True),
        (ACTOR_OPTIONS, "_actor_generator_backpressure_num_objects", 4),
        (METHOD_OPTIONS, "tensor_transport", "nccl"),
    ],
)
def test_option_that_jray_cannot_carry_out_says_so(table: Any, keyword: str, value: Any) -> None:
    """Nothing is accepted and ignored: the error names the option and what to do instead.

    Not before there is an engine, for Ray can.
    """
    by_table: dict[int, Callable[[Options], Any]] = {
        id(TASK_OPTIONS): TaskOptions.from_kwargs,
        id(ACTOR_OPTIONS): ActorOptions.from_kwargs,
        id(METHOD_OPTIONS): MethodOptions.from_kwargs,
    }
    declare = by_table[id(table)]
    made = declare({keyword: value})
    with pytest.raises(NotImplementedError, match=keyword) as caught:
        check_supported(made)
    assert str(caught.value).endswith(str(table[keyword].instead))
    check_supported(declare({keyword: table[keyword].default}))


# --- the data -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "table"),
    [(TaskOptions, TASK_OPTIONS), (ActorOptions, ACTOR_OPTIONS), (MethodOptions, METHOD_CALL_OPTIONS)],
)
def test_each_option_is_a_field_with_the_tables_default(options: Any, table: Any) -> None:
    """Table and data can't drift apart."""
    made = options()
    fields = {
        name: getattr(made, name) for name in get_type_hints(options) if name not in ("TABLE", "_request")
    }
    assert fields == {keyword: option.default for keyword, option in table.items()}


def test_options_are_frozen_and_share_nothing_with_the_caller() -> None:
    """Changing the dict that was given, or the options, changes no task."""
    resources = {"x": 1}
    options = TaskOptions.from_kwargs({"resources": resources, "retry_exceptions": [ValueError]})
    resources["x"] = 2
    assert options.resources == {"x": 1}
    assert options.retry_exceptions == (ValueError,)
    with pytest.raises(AttributeError):
        options.num_cpus = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "options", [TaskOptions(name="f"), ActorOptions(name="a"), MethodOptions(num_returns=2)]
)
def test_options_survive_pickling(options: Any) -> None:
    """Options travel inside remote functions and handles."""
    assert pickle.loads(pickle.dumps(options)) == options


def test_options_override_the_decorator_and_leave_it_alone() -> None:
    """`.options` gives new options; what it doesn't name stays."""
    decorated = TaskOptions.from_kwargs({"num_cpus": 2, "name": "f"})
    called = decorated.updated({"num_cpus": None, "max_retries": 0})
    assert (called.num_cpus, called.name, called.max_retries) == (None, "f", 0)
    assert decorated.num_cpus == 2
    assert called.resources_request == ResourceSet()
    assert decorated.resources_request.to_floats() == {"CPU": 2}


def test_retries_come_from_the_option_or_else_from_the_caller() -> None:
    """The caller's default, read from the environment, stands in where nothing or None is given."""
    assert TaskOptions.from_kwargs({}).max_retries == 3
    assert TaskOptions.from_kwargs({}, default_max_retries=7).max_retries == 7
    assert TaskOptions.from_kwargs({"max_retries": None}, default_max_retries=7).max_retries == 7
    assert TaskOptions.from_kwargs({"max_retries": 0}, default_max_retries=7).max_retries == 0
    decorated = TaskOptions.from_kwargs({"max_retries": 5})
    assert decorated.updated({"max_retries": None}).max_retries == 5


def test_gpu_task_ends_its_worker_after_one_call() -> None:
    """max_calls is 1 with GPUs and 0 without, unless it is given."""
    assert TaskOptions.from_kwargs({}).max_calls == 0
    assert TaskOptions.from_kwargs({"num_gpus": 0.5}).max_calls == 1
    assert TaskOptions.from_kwargs({"num_gpus": 1, "max_calls": 0}).max_calls == 0
    assert TaskOptions.from_kwargs({"max_calls": 4}).updated({"name": "f"}).max_calls == 4


def test_none_for_an_actor_option_is_its_default() -> None:
    """None means "not said" for counts."""
    options = ActorOptions(max_restarts=3).updated({"max_restarts": None, "max_pending_calls": None})
    assert (options.max_restarts, options.max_pending_calls) == (0, -1)


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, {"CPU": 1}),
        ({"num_cpus": None}, {}),
        ({"num_cpus": 0}, {}),
        ({"num_cpus": 1.5, "num_gpus": 0.25}, {"CPU": 1.5, "GPU": 0.25}),
        ({"num_gpus": 2}, {"CPU": 1, "GPU": 2}),
        ({"resources": {"x": 1.5}}, {"CPU": 1, "x": 1.5}),
        ({"memory": 1.7}, {"CPU": 1, "memory": 1}),
        ({"memory": 0.5}, {"CPU": 1}),
        ({"accelerator_type": "A100"}, {"CPU": 1, "accelerator_type:A100": 0.001}),
    ],
)
def test_task_asks_for_what_it_says(kwargs: Options, expected: dict[str, float]) -> None:
    """The request of a task is one CPU unless it says otherwise; memory is whole bytes."""
    options = TaskOptions.from_kwargs(kwargs)
    assert options.resources_request.to_floats() == expected
    assert options.resources_request is options.resources_request


@pytest.mark.parametrize(
    ("kwargs", "placement", "running"),
    [
        ({}, {"CPU": 1}, {}),
        ({"num_cpus": None}, {"CPU": 1}, {}),
        ({"num_cpus": 0}, {}, {}),
        ({"num_cpus": 2}, {"CPU": 2}, {"CPU": 2}),
        ({"memory": 100}, {"CPU": 1, "memory": 100}, {"memory": 100}),
        ({"resources": {}}, {"CPU": 1}, {}),
        ({"num_gpus": 0.5}, {"CPU": 1, "GPU": 0.5}, {"CPU": 1, "GPU": 0.5}),
        ({"num_gpus": 0}, {"CPU": 1}, {"CPU": 1}),
        ({"resources": {"x": 1}}, {"CPU": 1, "x": 1}, {"CPU": 1, "x": 1}),
    ],
)
def test_actor_needs_a_cpu_to_start_and_none_to_live(
    kwargs: Options, placement: dict[str, float], running: dict[str, float]
) -> None:
    """An actor that says nothing lives on 0 CPUs; one that asks for other resources holds 1, as in Ray."""
    options = ActorOptions.from_kwargs(kwargs)
    assert options.placement_request.to_floats() == placement
    assert options.running_request.to_floats() == running


def test_concurrency_depends_on_the_kind_of_actor() -> None:
    """None and 0 stand for 1, or 1000 in an async actor."""
    assert ActorOptions().concurrency(is_async=False) == 1
    assert ActorOptions(max_concurrency=0).concurrency(is_async=True) == 1000
    assert ActorOptions(max_concurrency=4).concurrency(is_async=True) == 4


def test_order_is_given_up_only_with_concurrency() -> None:
    """Calls may overtake each other in async and threaded actors, or where it is asked for."""
    assert not ActorOptions().runs_out_of_order(is_async=False)
    assert ActorOptions().runs_out_of_order(is_async=True)
    assert ActorOptions(max_concurrency=2).runs_out_of_order(is_async=False)
    assert ActorOptions(allow_out_of_order_execution=True).runs_out_of_order(is_async=False)


def test_returns_depend_on_whether_it_is_a_generator() -> None:
    """None stands for one value, or for a stream."""
    for options in (TaskOptions(), MethodOptions()):
        assert options.returns(is_generator=False) == 1
        assert options.returns(is_generator=True) == "streaming"
    assert TaskOptions(num_returns=3).returns(is_generator=True) == 3


def test_call_overrides_method_overrides_actor() -> None:
    """Retries are looked up in the call, then the method, then the actor."""
    actor = ActorOptions(max_task_retries=1)
    method = MethodOptions.from_kwargs({"max_task_retries": 2})
    assert MethodOptions().retries(actor) == 1
    assert method.retries(actor) == 2
    assert method.updated({"max_task_retries": 0}).retries(actor) == 0
    assert method.updated({"max_task_retries": None}).retries(actor) == 2
    assert method.updated({"name": "n"}).name == "n"


def test_strategy_objects_are_left_to_those_who_know_them() -> None:
    """An object of some class is carried along unchecked."""
    strategy = Strange()
    assert TaskOptions.from_kwargs({"scheduling_strategy": strategy}).scheduling_strategy is strategy


def test_detached_is_a_lifetime() -> None:
    """Only "detached" outlives its creator."""
    assert ActorOptions(lifetime="detached").is_detached
    assert not ActorOptions(lifetime="non_detached").is_detached
