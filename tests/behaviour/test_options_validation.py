"""Options: what is refused at decoration, what is accepted, and what remote things can do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import jray
from tests.behaviour import differences

pytestmark = pytest.mark.usefixtures("cluster")


def function() -> int:
    return 1


def generator() -> Iterator[int]:
    yield 1


class Plain:
    def ping(self) -> int:
        return 1


class AsyncPlain:
    async def ping(self) -> int:
        return 1


@pytest.mark.sentences("S148")
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_cpus": -1}, ValueError),
        ({"num_cpus": 0.00001}, ValueError),
        ({"num_gpus": -0.5}, ValueError),
        ({"memory": -1}, ValueError),
        ({"resources": {"gadget": -1}}, ValueError),
        ({"resources": {"CPU": 1}}, ValueError),
        ({"resources": {"GPU": 1}}, ValueError),
        ({"unheard_of": 1}, ValueError),
        ({"max_retries": -2}, ValueError),
        ({"num_returns": -1}, ValueError),
        ({"max_calls": -1}, ValueError),
        ({"retry_exceptions": [1]}, ValueError),
        ({"retry_exceptions": ValueError}, TypeError),
        ({"num_returns": "streaming"}, ValueError),
        ({"num_cpus": "a"}, TypeError),
        ({"max_retries": 1.5}, TypeError),
        ({"runtime_env": "x"}, TypeError),
        ({"max_restarts": 1}, ValueError),
        ({"max_concurrency": 2}, ValueError),
        ({"lifetime": "detached"}, ValueError),
    ],
    ids=str,
)
def test_bad_task_options_are_refused_at_decoration(options: dict[str, Any], error: type[Exception]) -> None:
    """Values out of range, unknown options and those of actors raise where the function is decorated."""
    with pytest.raises(error):
        jray.remote(**options)(function)


@pytest.mark.sentences("S148")
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_cpus": -1}, ValueError),
        ({"max_restarts": -2}, ValueError),
        ({"max_task_retries": -2}, ValueError),
        ({"max_restarts": 1.5}, TypeError),
        ({"lifetime": "x"}, ValueError),
        ({"name": 3}, TypeError),
        ({"unheard_of": 1}, ValueError),
        ({"resources": {"CPU": 1}}, ValueError),
        ({"max_retries": 1}, ValueError),
        ({"num_returns": 2}, ValueError),
        ({"max_calls": 1}, ValueError),
    ],
    ids=str,
)
def test_bad_actor_options_are_refused_at_decoration(options: dict[str, Any], error: type[Exception]) -> None:
    """The same for classes."""
    with pytest.raises(error):
        jray.remote(**options)(Plain)


@pytest.mark.sentences("S148")
@pytest.mark.parametrize(
    "options", [{"max_calls": 1}, {"num_cpus": -1}, {"unheard_of": 1}, {"num_returns": "streaming"}], ids=str
)
def test_bad_options_of_one_call_are_refused(options: dict[str, Any]) -> None:
    """`.options` refuses what the decorator refuses, and max_calls, which is the function's."""
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        jray.remote(function).options(**options)


@pytest.mark.sentences("S148")
@pytest.mark.parametrize(
    "options", [{"concurrency_groups": {"io": 1}}, {"max_restarts": -2}, {"unheard_of": 1}], ids=str
)
def test_bad_options_of_one_actor_are_refused(options: dict[str, Any]) -> None:
    """The same for actor classes, and concurrency_groups, which are the class's."""
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        jray.remote(Plain).options(**options)


@pytest.mark.sentences("S148")
def test_get_if_exists_needs_a_name() -> None:
    """get_if_exists without a name raises ValueError."""
    with pytest.raises(ValueError, match="name"):
        jray.remote(Plain).options(get_if_exists=True).remote()


@pytest.mark.sentences("S148")
def test_an_unknown_option_is_told_the_known_ones() -> None:
    """The message has the option that was given, and says whether it is for functions or actors."""
    with pytest.raises(ValueError, match="unheard_of"):
        jray.remote(unheard_of=1)(function)
    with pytest.raises(ValueError, match="remote functions"):
        jray.remote(max_restarts=1)(function)
    with pytest.raises(ValueError, match="actors"):
        jray.remote(max_retries=1)(Plain)


@pytest.mark.sentences("S149")
@pytest.mark.parametrize(
    "options",
    [
        {"num_gpus": 1.5},
        {"resources": {"memory": 1}},
        {"resources": {"object_store_memory": 1}},
        {"scheduling_strategy": "FOO"},
    ],
    ids=str,
)
@pytest.mark.parametrize("target", [function, Plain], ids=["task", "actor"])
def test_some_options_are_refused_at_the_call(options: dict[str, Any], target: Any) -> None:
    """Ray checks these later than at the decoration: ValueError comes from `.remote()`."""
    remote = jray.remote(**options)(target)
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        remote.remote()


@pytest.mark.sentences("S149")
@pytest.mark.parametrize(("cls", "options"), [(AsyncPlain, {}), (Plain, {"max_concurrency": 2})], ids=str)
def test_a_concurrent_actor_can_not_run_in_order(cls: Any, options: dict[str, Any]) -> None:
    """allow_out_of_order_execution=False on an async or threaded actor is refused by `.remote()`."""
    remote = jray.remote(allow_out_of_order_execution=False, **options)(cls)
    with pytest.raises(ValueError, match="order"):
        remote.remote()


@pytest.mark.sentences("S149")
@pytest.mark.parametrize("options", [{"max_concurrency": 0}, {"max_pending_calls": 0}], ids=str)
def test_zero_stands_for_the_default(options: dict[str, Any]) -> None:
    """An actor with a limit of 0 works as one without."""
    assert jray.get(jray.remote(**options)(Plain).remote().ping.remote()) == 1


@differences.unknown_environment_fields_are_refused
@pytest.mark.sentences("S149")
def test_an_unknown_field_of_an_environment_is_refused_at_the_call() -> None:
    """It may be decorated; `.remote()` names the field."""
    remote = jray.remote(runtime_env={"unheard_of": 1})(function)
    with pytest.raises(ValueError, match="unheard_of"):
        remote.remote()


@pytest.mark.sentences("S150")
@pytest.mark.only("jray", "Ray has them")
def test_what_only_ray_can_do_is_refused_at_the_call() -> None:
    """Not at decoration: the same program may run on Ray."""

    @jray.remote(_labels={"zone": "a"})
    def placed() -> None: ...

    @jray.remote(enable_tensor_transport=True)
    class Placed: ...

    for call in (placed.remote, Placed.remote):
        with pytest.raises(NotImplementedError, match="jray does not support"):
            call()


def test_options_have_remote_and_nothing_to_get() -> None:
    """What `.options` gives can be called by `.remote()` only."""
    wrapped = jray.remote(function).options(num_cpus=0)
    assert jray.get(wrapped.remote()) == 1
    made: list[Any] = [wrapped, jray.remote(Plain).options(num_cpus=0)]
    for each in made:
        assert [name for name in dir(each) if name[:1] != "_"] == ["bind", "remote"]
        with pytest.raises(TypeError):
            each()


@pytest.mark.sentences("S120", "S148")
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_returns": -1}, ValueError),
        ({"num_returns": "streaming"}, ValueError),
        ({"unheard_of": 1}, TypeError),
    ],
    ids=str,
)
def test_bad_options_of_one_method_call_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    """`handle.method.options(...).remote()` sends nothing that can't be."""
    plain = jray.remote(Plain).remote()
    with pytest.raises(error):
        plain.ping.options(**options).remote()


@pytest.mark.sentences("S150")
def test_method_takes_known_options_only() -> None:
    """`@method` bare and without options is fine; with an unknown one it raises AssertionError."""

    class Fine:
        @jray.method()
        def ping(self) -> int:
            return 1

        @jray.method
        def pong(self) -> int:
            return 2

    fine = jray.remote(Fine).remote()
    assert jray.get([fine.ping.remote(), fine.pong.remote()]) == [1, 2]
    with pytest.raises(AssertionError):
        jray.method(bogus=1)(lambda self: None)


def test_remote_takes_a_function_or_options_not_both() -> None:
    """`remote(1)`, a built-in, and options beside a function raise."""
    with pytest.raises((AssertionError, TypeError)):
        jray.remote(1)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        jray.remote(len)
    with pytest.raises((AssertionError, TypeError)):
        jray.remote(function, num_cpus=1)  # type: ignore[call-overload]


def test_the_original_function_can_be_reached() -> None:
    """`_function` is the function itself, for tests of it."""
    assert jray.remote(function)._function is function
    assert jray.remote(function)._function() == 1


@pytest.mark.sentences("S120")
def test_a_generator_streams_without_being_told() -> None:
    """num_returns of a generator function is "streaming" by default."""
    assert isinstance(jray.remote(generator).remote(), jray.ObjectRefGenerator)
    assert isinstance(
        jray.remote(generator).options(num_returns="streaming").remote(), jray.ObjectRefGenerator
    )


@pytest.mark.sentences("S148")
@pytest.mark.parametrize(
    "options",
    [
        {"num_cpus": 0},
        {"num_cpus": 0.0001},
        {"num_cpus": None},
        {"memory": 1},
        {"resources": {}},
        {"max_retries": -1},
        {"retry_exceptions": (KeyError,)},
        {"name": "given"},
        {"num_returns": 1},
    ],
    ids=str,
)
def test_options_at_their_limits_work(options: dict[str, Any]) -> None:
    """The smallest and the emptiest values are taken, and the task runs."""
    assert jray.get(jray.remote(function).options(**options).remote()) == 1
