"""Actors: state, order, threads, handles and classes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import jray
import jray.actor
from jray.exceptions import PendingCallsLimitExceeded
from tests.behaviour import differences
from tests.behaviour.support import Bench, Gate, Meter, Tally, wait_gone

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
class Counter:
    """Counts."""

    step = 1

    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int | None = None) -> int:
        self.value += self.step if amount is None else amount
        return self.value

    def read(self) -> int:
        return self.value

    def pid(self) -> int:
        return os.getpid()

    @jray.method(num_returns=2)
    def pair(self) -> tuple[int, int]:
        return self.value, -self.value

    def wait(self, gate: Gate, here: Tally | None = None) -> int:
        if here is not None:
            here.add()
        gate.wait()
        return self.value

    def take(self, value: Any) -> Any:
        return value


@pytest.fixture(scope="module")
def counters() -> Iterator[dict[str, Any]]:
    """Actors that several tests may share, made when first asked for."""
    made: dict[str, Any] = {}
    yield made
    made.clear()


@pytest.fixture
def counter(cluster: None, counters: dict[str, Any]) -> Any:
    """A counter that other tests have used before: its value may be anything."""
    if "shared" not in counters:
        counters["shared"] = Counter.remote()
    return counters["shared"]


@pytest.mark.sentences("S89")
def test_an_actor_keeps_state_in_a_process_of_its_own() -> None:
    """Calls see what earlier calls left, and all run in one process, which no other actor shares."""
    one, two = Counter.remote(), Counter.remote(10)
    assert jray.get([one.add.remote(), one.add.remote(5), one.read.remote()]) == [1, 6, 6]
    assert jray.get(two.read.remote()) == 10
    pids = jray.get([one.pid.remote(), one.pid.remote(), two.pid.remote()])
    assert pids[0] == pids[1] != pids[2]
    assert os.getpid() not in pids


@pytest.mark.sentences("S89")
def test_the_handle_is_there_before_the_constructor_ran(bench: Bench) -> None:
    """`.remote()` doesn't wait for `__init__`; calls queue behind it."""
    gate = bench.gate()

    @jray.remote
    class Slow:
        def __init__(self) -> None:
            gate.wait()

        def ready(self) -> bool:
            return gate.is_open()

    slow = Slow.remote()
    ref = slow.ready.remote()
    assert jray.wait([ref], timeout=0)[0] == []
    gate.open()
    assert jray.get(ref) is True


@pytest.mark.sentences("S90")
def test_calls_run_in_the_order_of_submission() -> None:
    """Two hundred calls of one submitter run in order."""

    @jray.remote
    class Log:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def append(self, n: int) -> None:
            self.seen.append(n)

        def read(self) -> list[int]:
            return self.seen

    log = Log.remote()
    for n in range(200):
        log.append.remote(n)
    assert jray.get(log.read.remote()) == list(range(200))


@pytest.mark.sentences("S90")
def test_calls_run_one_at_a_time(bench: Bench) -> None:
    """Calls of several submitters to a plain actor never overlap."""
    meter = bench.meter()

    @jray.remote
    class Single:
        def call(self) -> None:
            with meter.use():
                pass

    single = Single.remote()
    submit = jray.remote(lambda: jray.get([single.call.remote() for _ in range(10)]) and None)
    jray.get([submit.remote(), submit.remote(), *[single.call.remote() for _ in range(10)]])
    assert meter.peak() == 1


@pytest.mark.sentences("S90")
def test_copies_of_a_handle_in_one_process_share_the_order() -> None:
    """Calls through two copies of a handle in one task run in the order of that task."""

    @jray.remote
    def submit(nested: list[Any], log: Any) -> list[int]:
        for n in range(50):
            (nested[0] if n % 2 else log).add.remote(n - log_value(n))
        return jray.get([log.read.remote(), nested[0].read.remote()])

    def log_value(n: int) -> int:
        return n - 1

    counter = Counter.remote()
    assert jray.get(submit.remote([counter], counter)) == [50, 50]


@pytest.mark.sentences("S91")
def test_an_unready_argument_blocks_later_calls_of_its_submitter_only(bench: Bench) -> None:
    """A call whose argument isn't there holds back the driver's next calls, not those of a task."""
    gate = bench.gate()

    @jray.remote(num_cpus=0)
    def later() -> str:
        gate.wait()
        return "late"

    counter = Counter.remote()
    blocked = counter.take.remote(later.remote())
    behind = counter.take.remote("behind")
    assert jray.get(jray.remote(lambda c: jray.get(c.take.remote("other"))).remote(counter)) == "other"
    assert jray.wait([blocked, behind], timeout=0.2)[0] == []
    gate.open()
    assert jray.get([blocked, behind]) == ["late", "behind"]


@pytest.mark.sentences("S90", "S91")
def test_calls_may_overtake_each_other_on_demand(bench: Bench) -> None:
    """With allow_out_of_order_execution a call that is ready doesn't wait for one that isn't."""
    gate = bench.gate()

    @jray.remote(num_cpus=0)
    def later() -> str:
        gate.wait()
        return "late"

    counter = Counter.options(allow_out_of_order_execution=True).remote()
    blocked = counter.take.remote(later.remote())
    assert jray.get(counter.take.remote("behind"), timeout=30) == "behind"
    gate.open()
    assert jray.get(blocked) == "late"


@pytest.mark.sentences("S92")
def test_a_threaded_actor_runs_as_many_calls_as_max_concurrency(bench: Bench) -> None:
    """max_concurrency=3 runs three calls at once, in one process, and never four."""

    @jray.remote(max_concurrency=3)
    class Threaded:
        def call(self, meter: Meter, gate: Gate, here: Tally) -> tuple[int, int]:
            with meter.use():
                here.add()
                gate.wait()
                return os.getpid(), threading.get_ident()

    meter, gate, here = bench.meter(), bench.gate(), bench.tally()
    actor = Threaded.remote()
    refs = [actor.call.remote(meter, gate, here) for _ in range(7)]
    here.wait_for(3)
    gate.open()
    seen = jray.get(refs)
    assert meter.peak() == 3
    assert len({pid for pid, _ in seen}) == 1
    assert len({ident for _, ident in seen}) == 3


@pytest.mark.sentences("S94")
def test_concurrency_groups_have_limits_of_their_own(bench: Bench) -> None:
    """A full group doesn't hold back another, nor the default one; each keeps its limit."""

    @jray.remote(concurrency_groups={"io": 2, "compute": 1})
    class Grouped:
        @jray.method(concurrency_group="io")
        def io(self, meter: Meter, gate: Gate, here: Tally) -> None:
            with meter.use():
                here.add()
                gate.wait()

        @jray.method(concurrency_group="compute")
        def compute(self) -> str:
            return "compute"

        def plain(self) -> str:
            return "plain"

    meter, gate, here = bench.meter(), bench.gate(), bench.tally()
    grouped = Grouped.remote()
    refs = [grouped.io.remote(meter, gate, here) for _ in range(4)]
    here.wait_for(2)
    assert jray.get([grouped.compute.remote(), grouped.plain.remote()]) == ["compute", "plain"]
    assert jray.get(grouped.plain.options(concurrency_group="compute").remote()) == "plain"
    gate.open()
    jray.get(refs)
    assert meter.peak() == 2


@pytest.mark.sentences("S94")
def test_a_group_of_one_is_ordered() -> None:
    """Calls in a group with limit 1 run in order."""

    @jray.remote(concurrency_groups={"log": 1})
    class Grouped:
        def __init__(self) -> None:
            self.seen: list[int] = []

        @jray.method(concurrency_group="log")
        def append(self, n: int) -> list[int]:
            self.seen.append(n)
            return self.seen

    grouped = Grouped.remote()
    assert jray.get([grouped.append.remote(n) for n in range(50)])[-1] == list(range(50))


@differences.unknown_groups_are_refused
@pytest.mark.sentences("S94")
@pytest.mark.parametrize("groups", [None, {"io": 1}], ids=str)
def test_an_unknown_group_fails_the_call(groups: dict[str, int] | None) -> None:
    """The error names the group, and the next call works."""

    class Plain:
        def ping(self) -> int:
            return 1

    actor = (jray.remote(concurrency_groups=groups) if groups else jray.remote)(Plain).remote()
    with pytest.raises(ValueError, match="'compute'"):
        jray.get(actor.ping.options(concurrency_group="compute").remote())
    assert jray.get(actor.ping.remote()) == 1


@pytest.mark.only("jray", "what a child that comes back from a call does in Ray isn't told")
@pytest.mark.sentences("S92", "S93")
@pytest.mark.parametrize("kind", ["plain", "threaded", "async"])
def test_a_child_that_comes_back_from_a_call_ends(bench: Bench, kind: str) -> None:
    """A child that a call forked and that returns from it sends no second result, and isn't an actor."""
    children = bench.tally()

    class Forking:
        def fork(self) -> str:
            return fork(children)

        def ping(self) -> int:
            return 1

    class AsyncForking:
        async def fork(self) -> str:
            return fork(children)

        async def ping(self) -> int:
            return 1

    def fork(children: Tally) -> str:
        child = os.fork()
        if child:
            children.add(child)
        return "parent" if child else "child"

    actor = jray.remote(max_concurrency=2)(AsyncForking if kind == "async" else Forking).remote()
    if kind == "plain":
        actor = jray.remote(Forking).remote()
    assert jray.get([actor.fork.remote() for _ in range(3)]) == ["parent"] * 3
    # Children that are over stay zombies of the actor's, which waits for none of them.
    wait_gone(*[int(str(pid)) for pid in children.notes()])
    assert jray.get(actor.ping.remote()) == 1


@pytest.mark.sentences("S95")
def test_an_actor_that_waits_for_itself_hangs() -> None:
    """A plain actor that gets a call to itself never comes to run it; killing it ends the wait."""

    @jray.remote
    class Selfish:
        def me(self, handle: list[Any]) -> int:
            return jray.get(handle[0].one.remote())

        def one(self) -> int:
            return 1

    selfish = Selfish.remote()
    assert jray.get(selfish.one.remote()) == 1
    ref = selfish.me.remote([selfish])
    assert jray.wait([ref], timeout=0.5)[0] == []
    jray.kill(selfish)
    with pytest.raises(jray.exceptions.RayActorError):
        jray.get(ref)


@pytest.mark.sentences("S95")
def test_an_actor_may_call_itself_without_waiting() -> None:
    """A call to itself that isn't waited for runs after the current one."""

    @jray.remote
    class Recursive:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def down(self, n: int) -> Any:
            self.seen.append(n)
            me = jray.get_runtime_context().current_actor
            return me.down.remote(n - 1) if n else self.seen

    recursive = Recursive.remote()
    ref = recursive.down.remote(3)
    while isinstance(ref, jray.ObjectRef):
        ref = jray.get(ref)
    assert ref == [3, 2, 1, 0]


@pytest.mark.sentences("S107")
def test_num_returns_of_a_method() -> None:
    """@method(num_returns=2) gives two refs, also through a handle that went to another process."""
    counter = Counter.remote(3)
    assert jray.get(counter.pair.remote()) == [3, -3]
    assert jray.get(jray.remote(lambda c: jray.get(c.pair.remote())).remote(counter)) == [3, -3]
    assert jray.get(counter.pair.options(num_returns=1).remote()) == (3, -3)


@pytest.mark.sentences("S108")
def test_max_pending_calls(bench: Bench) -> None:
    """One call more than allowed raises PendingCallsLimitExceeded; when the queue drained, calls go again."""
    gate, here = bench.gate(), bench.tally()
    counter = Counter.options(max_pending_calls=2).remote()
    first = counter.wait.remote(gate, here)
    here.wait_for(1)
    second = counter.read.remote()
    with pytest.raises(PendingCallsLimitExceeded):
        counter.read.remote()
    gate.open()
    assert jray.get([first, second]) == [0, 0]
    assert jray.get(counter.read.remote()) == 0


@pytest.mark.sentences("S110")
def test_handles_are_equal_by_actor(counter: Any) -> None:
    """A handle that went through a task is equal to the first and has its hash; another actor's isn't."""
    back = jray.get(jray.remote(lambda nested: nested[0]).remote([counter]))
    assert back == counter
    assert hash(back) == hash(counter)
    assert back._actor_id == counter._actor_id
    assert counter != Counter.remote()


@pytest.mark.sentences("S110")
def test_handles_travel() -> None:
    """A handle can be an argument, a nested value, a put object and another actor's state."""

    @jray.remote
    class Holder:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def add(self) -> int:
            return jray.get(self.inner.add.remote())

    counter = Counter.remote()
    assert jray.get(Holder.remote(counter).add.remote()) == 1
    assert jray.get(jray.get(jray.put({"c": counter}))["c"].add.remote()) == 2
    assert jray.get(jray.remote(lambda n: jray.get(n[0].add.remote())).remote([counter])) == 3


@pytest.mark.sentences("S110")
def test_a_handle_lists_its_methods(counter: Any) -> None:
    """dir() has the methods; repr has the class and the id."""
    assert {"add", "read", "pair"} <= set(dir(counter))
    assert repr(counter).startswith("Actor(Counter, ")
    assert isinstance(counter, jray.actor.ActorHandle)


@pytest.mark.sentences("S110")
def test_an_unknown_method_is_an_attribute_error_at_once(counter: Any) -> None:
    """No call is sent for a method that the class lacks, or for an attribute of the instance."""
    with pytest.raises(AttributeError, match="nonsense"):
        counter.nonsense.remote()
    with pytest.raises(AttributeError):
        counter.value  # noqa: B018 - for the error


@pytest.mark.sentences("S31")
def test_bad_arity_of_a_method_is_a_type_error_at_once(counter: Any) -> None:
    """A method's arguments, and the constructor's, are checked by `.remote()`."""
    with pytest.raises(TypeError):
        counter.read.remote(1)
    with pytest.raises(TypeError):
        counter.take.remote()
    with pytest.raises(TypeError):
        Counter.remote(1, 2, 3)


def test_a_method_can_not_be_called_directly(counter: Any) -> None:
    """`handle.method()` raises TypeError that names `.remote()`."""
    with pytest.raises(TypeError, match=r"\.remote\(\)"):
        counter.read()


@pytest.mark.sentences("S151")
def test_an_actor_class_can_not_be_instantiated_directly() -> None:
    """`Counter()` raises TypeError that names `.remote()`."""
    with pytest.raises(TypeError, match=r"Counter\.remote\(\)"):
        Counter()


@pytest.mark.sentences("S151")
def test_an_actor_class_shows_its_attributes() -> None:
    """Attributes and methods of the class can be read from the actor class."""
    assert Counter.step == 1
    assert callable(Counter.add)
    assert not isinstance(Counter, type)
    assert type(Counter).__name__ == "ActorClass(Counter)"
    assert not hasattr(Counter, "__name__")


@pytest.mark.sentences("S151")
def test_an_actor_class_can_not_be_inherited_from() -> None:
    """A subclass of an actor class raises ActorClassInheritanceException, a TypeError."""
    with pytest.raises(jray.actor.ActorClassInheritanceException):

        class Sub(Counter):
            pass

    assert issubclass(jray.actor.ActorClassInheritanceException, TypeError)


class Base:
    shared = "base"

    def __init__(self, name: str = "nobody") -> None:
        self.name = name

    def who(self) -> str:
        return f"Base {self.name}"

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__

    @staticmethod
    def of_nobody(x: int) -> int:
        return x + 1

    @property
    def shout(self) -> str:
        return self.name.upper()


class Mixin:
    def mixed(self) -> str:
        return f"mixed {self.who()}"


@pytest.mark.sentences("S111")
def test_inheritance_works() -> None:
    """super(), mixins, class and static methods work in an actor of a derived class."""

    @jray.remote
    class Derived(Mixin, Base):
        def __init__(self, name: str) -> None:
            super().__init__(name + "!")

        def who(self) -> str:
            return f"Derived of {super().who()} {self.shout}"

        def __call__(self, x: int) -> int:
            return x * 2

    derived = Derived.remote("ann")
    assert jray.get(derived.mixed.remote()) == "mixed Derived of Base ann! ANN!"
    assert jray.get(derived.of_nobody.remote(1)) == 2
    assert jray.get(derived.of_class.remote()) == "Derived"
    assert jray.get(derived.__call__.remote(4)) == 8


def test_methods_with_special_names_can_be_called() -> None:
    """By `handle.__len__.remote()` and the like, also with a handle that was found by name; the handle has no length."""

    @jray.remote
    class Box:
        def __init__(self) -> None:
            self.items = {"a": 1}

        def __len__(self) -> int:
            return len(self.items)

        def __getitem__(self, name: str) -> int:
            return self.items[name]

        def __setitem__(self, name: str, value: int) -> None:
            self.items[name] = value

    made = Box.options(name="special").remote()
    for box in (made, jray.get_actor("special")):
        jray.get(box.__setitem__.remote("b", 2))
        assert jray.get([box.__len__.remote(), box.__getitem__.remote("b")]) == [2, 2]
        with pytest.raises(KeyError, match="c"):
            jray.get(box.__getitem__.remote("c"))
        with pytest.raises(TypeError):
            len(box)
        with pytest.raises(AttributeError, match="__contains__"):
            _ = box.__contains__


@pytest.mark.sentences("S111")
def test_a_dataclass_can_be_an_actor() -> None:
    """The generated `__init__` takes the arguments."""

    @jray.remote
    @dataclass
    class Point:
        x: int
        y: int = 2

        def total(self) -> int:
            return self.x + self.y

    assert jray.get(Point.remote(1).total.remote()) == 3
    assert jray.get(Point.remote(x=1, y=5).total.remote()) == 6


@pytest.mark.sentences("S111")
def test_class_attributes_are_per_process() -> None:
    """Setting an attribute of the class in one actor doesn't show in another, or in the driver."""

    class Shared:
        count = 0

        def bump(self) -> int:
            type(self).count += 1
            return self.count

    remote = jray.remote(Shared)
    one, two = remote.remote(), remote.remote()
    assert jray.get([one.bump.remote(), one.bump.remote(), two.bump.remote()]) == [1, 2, 1]
    assert Shared.count == 0


@pytest.mark.sentences("S111")
def test_a_class_without_init_can_be_an_actor() -> None:
    """A class without `__init__`, methods with *args and keyword-only parameters work."""

    @jray.remote
    class Plain:
        def call(self, a: int, *rest: int, k: int = 1, **more: int) -> Any:
            return a, rest, k, more

    plain = Plain.remote()
    assert jray.get(plain.call.remote(1, 2, 3, k=4, z=5)) == (1, (2, 3), 4, {"z": 5})


@pytest.mark.sentences("S96")
def test_a_call_on_a_handle_that_nobody_keeps_runs() -> None:
    """`Actor.remote().method.remote()` gives the result."""
    assert jray.get(Counter.remote(4).add.remote()) == 5


def test_actors_of_actors() -> None:
    """An actor can create actors and use them."""

    @jray.remote
    class Parent:
        def __init__(self) -> None:
            self.children = [Counter.remote(n) for n in range(2)]

        def total(self) -> int:
            return sum(jray.get([child.add.remote() for child in self.children]))

    assert jray.get(Parent.remote().total.remote()) == 3


def test_ray_call_runs_a_function_in_the_actor() -> None:
    """`__ray_call__.remote(f, ...)` runs `f(self, ...)` there; `__ray_ready__` answers when it is up."""
    counter = Counter.remote(2)
    jray.get(counter.__ray_ready__.remote())
    assert jray.get(counter.__ray_call__.remote(lambda self, x: self.value + x, 5)) == 7


def test_options_of_an_actor_class_are_for_one_creation() -> None:
    """`.options` leaves the class as it was."""
    named = Counter.options(name="once")
    one = named.remote(1)
    assert jray.get(jray.get_actor("once").read.remote()) == 1
    other = Counter.remote()
    assert jray.get([one.read.remote(), other.read.remote()]) == [1, 0]


@pytest.mark.sentences("S36", "S89")
def test_tasks_do_not_run_in_an_actors_process(counter: Any) -> None:
    """A worker that became an actor runs no tasks."""
    pid = jray.remote(lambda: os.getpid())
    assert jray.get(counter.pid.remote()) not in jray.get([pid.remote() for _ in range(10)])


@pytest.mark.sentences("S109")
def test_thousands_of_calls_can_be_queued(counter: Any) -> None:
    """Six thousand calls of one actor all come back."""
    refs = [counter.take.remote(n) for n in range(6000)]
    assert jray.get(refs) == list(range(6000))
