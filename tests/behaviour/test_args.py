"""Arguments: refs that are resolved, refs that aren't, and what a failed one does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import jray
from tests.behaviour.support import Bench, Gate, Tally, wait_until

pytestmark = pytest.mark.usefixtures("cluster")


@dataclass
class Box:
    content: Any


@jray.remote
def echo(value: Any) -> Any:
    return value


@jray.remote
def kind(value: Any) -> str:
    return type(value).__name__


@jray.remote
def fail(message: str = "broken") -> None:
    raise KeyError(message)


@pytest.mark.sentences("S26")
def test_a_ref_argument_arrives_as_its_value() -> None:
    """Positional and keyword refs are replaced by their values."""

    @jray.remote
    def add(a: int, *, b: int) -> int:
        return a + b

    assert jray.get(add.remote(echo.remote(1), b=jray.put(2))) == 3


@pytest.mark.sentences("S26")
def test_refs_among_star_arguments_are_resolved() -> None:
    """Refs given for *args and **kwargs are top-level arguments too."""

    @jray.remote
    def total(*values: int, **more: int) -> int:
        return sum(values) + sum(more.values())

    refs = [jray.put(1), jray.put(2), jray.put(3)]
    assert jray.get(total.remote(*refs[:2], last=refs[2])) == 6


@pytest.mark.sentences("S26")
def test_a_task_does_not_start_before_its_arguments_are_there(bench: Bench) -> None:
    """The body runs after the producer has ended."""
    gate, order = bench.gate(), bench.tally()

    @jray.remote
    def produce() -> int:
        gate.wait()
        order.add("produced")
        return 1

    @jray.remote
    def consume(value: int) -> int:
        order.add("consumed")
        return value

    ref = consume.remote(produce.remote())
    assert jray.wait([ref], timeout=0.2) == ([], [ref])
    gate.open()
    assert jray.get(ref) == 1
    assert order.notes() == ["produced", "consumed"]


@pytest.mark.sentences("S26")
def test_a_task_that_waits_for_an_argument_holds_no_cpu(bench: Bench) -> None:
    """Many consumers of one unfinished producer leave the CPUs to others."""
    gate = bench.gate()

    @jray.remote(num_cpus=0)
    def produce() -> int:
        gate.wait()
        return 1

    first = produce.remote()
    waiting = [echo.remote(first) for _ in range(8)]
    assert jray.get([echo.remote(i) for i in range(4)]) == [0, 1, 2, 3]
    gate.open()
    assert jray.get(waiting) == [1] * 8


@pytest.mark.sentences("S26")
def test_one_ref_as_two_arguments() -> None:
    """The same ref may be given twice."""

    @jray.remote
    def add(a: int, b: int) -> int:
        return a + b

    ref = jray.put(4)
    assert jray.get(add.remote(ref, ref)) == 8


@pytest.mark.sentences("S26")
def test_a_chain_of_tasks_is_submitted_at_once() -> None:
    """Fifty tasks, each on the result of the last, need no `get` between."""

    @jray.remote
    def increment(x: int) -> int:
        return x + 1

    ref = jray.put(0)
    for _ in range(50):
        ref = increment.remote(ref)
    assert jray.get(ref) == 50


@pytest.mark.sentences("S26")
def test_large_arguments_by_ref() -> None:
    """A large array given by ref arrives whole."""
    array = np.arange(1_000_000)
    assert jray.get(jray.remote(lambda a: int(a.sum())).remote(jray.put(array))) == int(array.sum())


@pytest.mark.sentences("S17", "S19")
def test_large_arguments_by_value() -> None:
    """A large array given by value arrives whole, also beside small ones, and as a keyword."""

    @jray.remote
    def total(a: Any, n: int, *, b: Any) -> int:
        return int(a.sum()) + n + int(b.sum())

    array = np.ones(300_000)
    assert jray.get(total.remote(array, 1, b=array)) == 600_001


@pytest.mark.sentences("S27")
@pytest.mark.parametrize(
    "wrap",
    [lambda r: [r], lambda r: (r,), lambda r: {"k": r}, Box],
    ids=["list", "tuple", "dict", "dataclass"],
)
def test_a_nested_ref_stays_a_ref(wrap: Any) -> None:
    """A ref inside a container arrives as a ref, which the task can get."""

    @jray.remote
    def look(value: Any) -> tuple[bool, Any]:
        inner = (
            value.content if isinstance(value, Box) else value["k"] if isinstance(value, dict) else value[0]
        )
        return isinstance(inner, jray.ObjectRef), jray.get(inner)

    assert jray.get(look.remote(wrap(jray.put("deep")))) == (True, "deep")


@pytest.mark.sentences("S27")
def test_a_nested_ref_is_not_waited_for(bench: Bench) -> None:
    """A task with a nested ref runs while what the ref stands for doesn't exist yet."""
    gate = bench.gate()

    @jray.remote
    def later() -> str:
        gate.wait()
        return "late"

    ref = later.remote()
    assert jray.get(kind.remote([ref])) == "list"
    assert jray.wait([ref], timeout=0)[0] == []
    gate.open()
    assert jray.get(ref) == "late"


@pytest.mark.sentences("S28")
def test_actor_constructors_and_methods_resolve_in_the_same_way() -> None:
    """Top-level refs are resolved for `__init__` and for methods; nested ones aren't."""

    @jray.remote
    class Keeper:
        def __init__(self, plain: Any, *, nested: list[Any]) -> None:
            self.kinds = [type(plain).__name__, type(nested[0]).__name__]

        def look(self, plain: Any, *, nested: list[Any]) -> list[str]:
            return [*self.kinds, type(plain).__name__, type(nested[0]).__name__]

    ref = jray.put(1)
    keeper = Keeper.remote(ref, nested=[ref])
    assert jray.get(keeper.look.remote(ref, nested=[ref])) == ["int", "ObjectRef", "int", "ObjectRef"]


@pytest.mark.sentences("S29")
def test_a_failed_argument_fails_the_consumer_without_running_it(bench: Bench) -> None:
    """The consumer isn't run; each of its returns raises the producer's exception, and says so."""
    ran = bench.gate("ran")

    @jray.remote(num_returns=2)
    def consume(value: Any) -> tuple[int, int]:
        ran.open()
        return 1, 2

    for ref in consume.remote(fail.remote("the cause")):
        with pytest.raises(KeyError) as caught:
            jray.get(ref)
        assert caught.value.cause.args == ("the cause",)
        assert "At least one of the input arguments for this task could not be computed:" in str(caught.value)
    assert not ran.is_open()


@pytest.mark.sentences("S29")
def test_a_failure_passes_through_a_chain() -> None:
    """However many tasks lie between, `get` raises the first one's exception."""
    ref = fail.remote("root")
    for _ in range(4):
        ref = echo.remote(ref)
    with pytest.raises(KeyError) as caught:
        jray.get(ref)
    assert caught.value.cause.args == ("root",)


@pytest.mark.sentences("S28", "S29")
def test_a_failed_argument_of_an_actor_call_leaves_the_actor_alive() -> None:
    """The call fails with the producer's exception; the next call works."""

    @jray.remote
    class Keeper:
        def take(self, value: Any) -> Any:
            return value

    keeper = Keeper.remote()
    with pytest.raises(KeyError):
        jray.get(keeper.take.remote(fail.remote()))
    assert jray.get(keeper.take.remote(5)) == 5


@pytest.mark.sentences("S28", "S29", "S89")
def test_a_failed_argument_of_a_constructor_kills_the_actor() -> None:
    """An actor whose constructor argument failed can't be called."""

    @jray.remote
    class Keeper:
        def __init__(self, value: Any) -> None:
            pass

        def ping(self) -> int:
            return 1

    with pytest.raises(jray.exceptions.RayActorError):
        jray.get(Keeper.remote(fail.remote()).ping.remote())


@jray.remote(num_cpus=0)
class Patient:
    def __init__(self, value: Any) -> None:
        self.value = value

    def get(self) -> Any:
        return self.value


@jray.remote(num_cpus=0)
def wait_at(gate: Gate) -> str:
    gate.wait(60)
    return "came"


@pytest.mark.sentences("S28", "S89")
def test_an_actor_can_be_called_by_others_before_its_arguments_are_there(bench: Bench) -> None:
    """A task that got its handle waits for its answer."""

    @jray.remote
    def use(actor: Any, here: Tally) -> Any:
        ref = actor.get.remote()
        here.add()
        return jray.get(ref)

    here = bench.tally()
    used = use.remote(Patient.remote(wait_at.remote(bench.gate())), here)
    here.wait_for(1)
    bench.gate().open()
    assert jray.get(used, timeout=60) == "came"


@pytest.mark.sentences("S96", "S97", "S103")
def test_an_actor_can_be_ended_before_its_arguments_are_there(bench: Bench) -> None:
    """By `kill`, and by letting its last handle go: its name is free then, and it is never made."""
    came = wait_at.remote(bench.gate())
    killed = Patient.options(name="killed too early").remote(came)
    let_go = Patient.options(name="let go too early").remote(came)
    jray.kill(killed)
    with pytest.raises(jray.exceptions.RayActorError):
        jray.get(killed.get.remote(), timeout=60)
    del let_go

    def is_free(name: str) -> bool:
        try:
            jray.get_actor(name)
        except ValueError:
            return True
        return False

    for name in ("killed too early", "let go too early"):
        wait_until(lambda name=name: is_free(name))  # type: ignore[misc]
    bench.gate().open()
    assert jray.get(came) == "came"


@pytest.mark.sentences("S26")
def test_a_hundred_ref_arguments() -> None:
    """Each of many ref arguments is resolved, in order."""

    @jray.remote
    def collect(*values: int) -> list[int]:
        return list(values)

    assert jray.get(collect.remote(*[jray.put(i) for i in range(100)])) == list(range(100))


@pytest.mark.sentences("S26")
def test_the_value_none_can_be_an_argument() -> None:
    """A ref to None is resolved to None, not left out."""
    assert jray.get(kind.remote(echo.remote(None))) == "NoneType"
