"""Serialization: read-only views, copies, identity, classes by value, and errors that name the culprit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import pytest

import jray
import jray.util
from jray.exceptions import RaySystemError, RayTaskError

pytestmark = pytest.mark.usefixtures("cluster")

LARGE = 200_000  # elements of 8 bytes: well above what travels inline


@dataclass
class Point:
    x: Any
    y: Any = 0


class Locked:
    """An instance can't be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


@jray.remote
def echo(value: Any) -> Any:
    return value


def check_read_only(array: Any) -> None:
    assert array.flags.writeable is False
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    copy = array.copy()
    copy[0] = 7
    assert copy[0] == 7


@pytest.mark.sentences("S14")
@pytest.mark.parametrize(
    "wrap",
    [lambda a: a, lambda a: [a], lambda a: {"k": a}, Point],
    ids=["array", "list", "dict", "dataclass"],
)
def test_a_stored_array_comes_back_read_only(wrap: Callable[[Any], Any]) -> None:
    """An array from the store can't be written, wherever in the value it is; a copy of it can."""
    value = jray.get(jray.put(wrap(np.zeros(LARGE))))
    check_read_only(
        value.x
        if isinstance(value, Point)
        else value["k"]
        if isinstance(value, dict)
        else value[0]
        if isinstance(value, list)
        else value
    )


@pytest.mark.sentences("S14")
def test_a_large_result_comes_back_read_only() -> None:
    """An array that a task returned can't be written."""
    check_read_only(jray.get(jray.remote(lambda: np.zeros(LARGE)).remote()))


@pytest.mark.sentences("S14")
def test_a_large_argument_is_read_only_in_the_task() -> None:
    """A task can't write into an array it was given by ref."""

    @jray.remote
    def write(array: Any) -> None:
        array[0] = 1

    with pytest.raises(ValueError, match="read-only"):
        jray.get(write.remote(jray.put(np.zeros(LARGE))))


@pytest.mark.sentences("S17")
def test_a_small_array_comes_back_read_only() -> None:
    """An array that travelled inline can't be written either."""
    check_read_only(jray.get(echo.remote(np.zeros(10))))
    check_read_only(jray.get(jray.put(np.zeros(10))))


@pytest.mark.sentences("S15")
def test_two_processes_share_one_copy() -> None:
    """Mapping a 64 MB array takes no 64 MB of a process's own memory."""
    size = 64_000_000

    @jray.remote
    class Reader:
        def grow(self, nested: list[Any]) -> int:
            def private() -> int:
                memory = psutil.Process().memory_info()
                return int(memory.rss - memory.shared)

            before = private()
            self.array = jray.get(nested[0])
            assert int(self.array.sum()) == size
            return private() - before

    ref = jray.put(np.ones(size, dtype=np.uint8))
    readers = [Reader.remote(), Reader.remote()]
    assert max(jray.get([reader.grow.remote([ref]) for reader in readers])) < size / 2


@pytest.mark.sentences("S15")
def test_getting_twice_gives_the_same_memory() -> None:
    """Two `get`s of one stored array look at the same bytes."""
    ref = jray.put(np.ones(LARGE))
    one, two = jray.get(ref), jray.get(ref)
    assert one.__array_interface__["data"] == two.__array_interface__["data"]


@pytest.mark.sentences("S16")
def test_put_takes_the_value_as_it_is_then() -> None:
    """Changing the original after `put` changes nothing of what `get` gives."""
    original, array = [1, 2], np.zeros(LARGE)
    refs = [jray.put(original), jray.put(array)]
    original.append(3)
    array[0] = 9
    assert jray.get(refs[0]) == [1, 2]
    assert jray.get(refs[1])[0] == 0


@pytest.mark.sentences("S16")
def test_an_argument_is_taken_as_it_is_then() -> None:
    """Changing a value after `.remote(value)` doesn't reach the task."""
    original = [1]
    ref = echo.remote(original)
    original.append(2)
    assert jray.get(ref) == [1]


@pytest.mark.sentences("S16")
def test_each_get_of_a_small_value_is_fresh() -> None:
    """Changing a value from `get` doesn't change what the next `get` gives."""
    for ref in (jray.put([1]), echo.remote([1])):
        jray.get(ref).append(2)
        assert jray.get(ref) == [1]


@pytest.mark.sentences("S16")
def test_changing_an_argument_in_a_task_does_not_reach_the_object() -> None:
    """A task that appends to the list it got leaves the stored list as it was."""

    @jray.remote
    def append(values: list[int]) -> int:
        values.append(9)
        return len(values)

    ref = jray.put([1])
    assert jray.get([append.remote(ref), append.remote(ref)]) == [2, 2]
    assert jray.get(ref) == [1]


@pytest.mark.sentences("S17")
@pytest.mark.parametrize("size", [0, 1, 1000, 102_399, 102_400, 102_401, 1_000_000, 12_000_000])
def test_size_makes_no_difference(size: int) -> None:
    """Bytes of any size come back equal from put, and through a task by value."""
    value = bytes(size)
    assert jray.get(jray.put(value)) == value
    assert jray.get(echo.remote(value)) == value


@pytest.mark.sentences("S17")
def test_many_middling_arguments_of_one_task() -> None:
    """Arguments that are small each but together more than a message holds arrive whole."""

    @jray.remote
    def total(*blobs: bytes) -> int:
        return sum(map(len, blobs))

    assert jray.get(total.remote(*[bytes(90_000) for _ in range(150)])) == 150 * 90_000


@pytest.mark.sentences("S18")
def test_a_small_put_can_be_used_everywhere() -> None:
    """A small put object is found by a task, by a task of a task and by an actor."""

    @jray.remote
    def deep(nested: list[Any]) -> Any:
        return jray.get(jray.remote(lambda n: jray.get(n[0])).remote(nested))

    ref = jray.put({"small": 1})
    assert jray.get([echo.remote(ref), deep.remote([ref])]) == [{"small": 1}] * 2


@pytest.mark.sentences("S20")
def test_identity_inside_a_value_is_kept() -> None:
    """One object 99 times in a list comes back as one object 99 times."""
    array = np.zeros(LARGE)
    for thing in (np.zeros(3), array, Point(1)):
        values = jray.get(jray.put([thing] * 99))
        assert len(values) == 99
        assert len({id(value) for value in values}) == 1


@pytest.mark.sentences("S20")
def test_a_value_may_contain_itself() -> None:
    """A list that contains itself survives."""
    loop: list[Any] = []
    loop.append(loop)
    value = jray.get(echo.remote(loop))
    assert value[0] is value


@pytest.mark.sentences("S21")
def test_lambdas_and_closures_travel() -> None:
    """A function made on the spot is an argument, a result and an actor's state."""
    offset = 10

    def add(x: int) -> int:
        return x + offset

    @jray.remote
    def compose(f: Callable[[int], int], g: Callable[[int], int]) -> Callable[[int], int]:
        return lambda x: g(f(x))

    assert jray.get(compose.remote(add, lambda x: x * 2))(1) == 22

    @jray.remote
    class Holder:
        def __init__(self, f: Callable[[int], int]) -> None:
            self.f = f

        def call(self, x: int) -> int:
            return self.f(x)

    assert jray.get(Holder.remote(add).call.remote(5)) == 15


@pytest.mark.sentences("S21")
def test_local_classes_travel() -> None:
    """Instances of a class defined in a function, and the class itself, are arguments and results."""

    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

        def double(self) -> int:
            return self.value * 2

    assert jray.get(jray.remote(lambda item: item.double()).remote(Local(4))) == 8
    assert jray.get(jray.remote(lambda cls: cls(5)).remote(Local)).double() == 10


@pytest.mark.sentences("S21")
def test_code_made_at_run_time_travels() -> None:
    """A function made with exec is a task."""
    namespace: dict[str, Any] = {}
    exec("def made(x):\n    return x + 1\n", namespace)  # noqa: S102 - the point of the test
    assert jray.get(jray.remote(namespace["made"]).remote(1)) == 2


@pytest.mark.sentences("S22")
def test_instances_come_back_as_the_drivers_class() -> None:
    """`isinstance` holds for a driver's class that went by value, in both directions."""

    @jray.remote
    def move(point: Point) -> tuple[bool, Point]:
        return isinstance(point, Point), Point(point.x + 1, point.y)

    same, point = jray.get(move.remote(Point(1, 2)))
    assert same
    assert isinstance(point, Point)
    assert point == Point(2, 2)


@pytest.mark.sentences("S23")
def test_a_registered_serializer_is_used_for_puts_args_and_returns() -> None:
    """register_serializer makes a class travel; after deregister_serializer it travels as before: not."""

    def loaded(state: str) -> Locked:
        item = Locked()
        item.state = state
        return item

    jray.util.register_serializer(Locked, serializer=lambda item: "frozen", deserializer=loaded)
    try:
        assert jray.get(jray.put(Locked())).state == "frozen"
        assert jray.get(jray.put([Locked()]))[0].state == "frozen"
        assert jray.get(jray.remote(lambda item: item.state).remote(Locked())) == "frozen"
    finally:
        jray.util.deregister_serializer(Locked)
    with pytest.raises(TypeError):
        jray.put(Locked())


@pytest.mark.sentences("S24")
def test_an_unpicklable_argument_is_a_type_error_at_the_call() -> None:
    """`.remote()` raises TypeError on the caller, with a report that names what can't be pickled."""
    with pytest.raises(TypeError, match="lock"):
        echo.remote(Locked())


@pytest.mark.sentences("S24")
def test_an_unpicklable_put_is_a_type_error() -> None:
    """`put` raises TypeError that names what can't be pickled."""
    with pytest.raises(TypeError, match="lock"):
        jray.put([1, Locked()])


@pytest.mark.sentences("S24")
def test_an_unpicklable_capture_is_a_type_error_that_names_the_variable() -> None:
    """A function whose closure can't be pickled raises TypeError at `.remote()`, naming the variable."""
    forbidden = threading.Lock()

    @jray.remote
    def use() -> bool:
        return forbidden.locked()

    with pytest.raises(TypeError, match="forbidden"):
        use.remote()


@pytest.mark.sentences("S24")
def test_inspect_serializability_finds_the_culprit() -> None:
    """It tells whether a value can be pickled, and which object inside it can't."""
    forbidden = threading.Lock()

    def use() -> bool:
        return forbidden.locked()

    with open(os.devnull, "w") as nowhere:
        assert jray.util.inspect_serializability([1, Point(2)], print_file=nowhere) == (True, set())
        for value in (forbidden, use):
            can, failures = jray.util.inspect_serializability(value, name="it", print_file=nowhere)
            assert not can
            assert [failure.obj for failure in failures] == [forbidden]


@pytest.mark.sentences("S24")
def test_an_unpicklable_result_is_a_type_error_at_get() -> None:
    """A task that returns what can't be pickled fails with RayTaskError(TypeError)."""
    with pytest.raises(TypeError) as caught:
        jray.get(jray.remote(lambda: threading.Lock()).remote())
    assert isinstance(caught.value, RayTaskError)


@pytest.mark.sentences("S24")
def test_a_worker_survives_an_unpicklable_result() -> None:
    """An actor goes on after a method returned what can't be pickled."""

    @jray.remote
    class Odd:
        def bad(self) -> Any:
            return threading.Lock()

        def good(self) -> int:
            return 1

    odd = Odd.remote()
    with pytest.raises(TypeError):
        jray.get(odd.bad.remote())
    assert jray.get(odd.good.remote()) == 1


class Trap:
    """Can be pickled, but raises when it is read."""

    def __reduce__(self) -> Any:
        return spring, ()


def spring() -> None:
    message = "the trap was sprung"
    raise RuntimeError(message)


@pytest.mark.sentences("S25")
def test_an_unreadable_object_is_a_system_error_with_the_traceback() -> None:
    """`get` of what fails to load raises RaySystemError that tells what went wrong."""
    with pytest.raises(RaySystemError, match="the trap was sprung"):
        jray.get(jray.put(Trap()))


@pytest.mark.sentences("S21")
def test_common_values_are_equal_after_a_round_trip() -> None:
    """Plain data of many kinds comes back equal through put and through a task."""
    values = [
        None,
        True,
        1,
        1 << 80,
        1.5,
        2j,
        "ä",
        b"b",
        bytearray(b"c"),
        (),
        {1: {2}},
        frozenset({3}),
        range(4),
        ...,
        int,
        len,
    ]
    assert jray.get(jray.put(values)) == values
    assert jray.get(echo.remote(values)) == values


@pytest.mark.sentences("S21")
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "f8", "c16", "U5", "M8[s]", "O"])
def test_arrays_keep_type_shape_and_order(dtype: str, order: Any) -> None:
    """An array's dtype, shape and memory order survive."""
    array = np.zeros((3, 4), dtype=dtype, order=order)
    back = jray.get(echo.remote(array))
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.flags.f_contiguous == array.flags.f_contiguous
    assert (back == array).all()


@pytest.mark.sentences("S14")
def test_an_array_that_is_not_contiguous_travels() -> None:
    """A strided view comes back with the same elements."""
    array = np.arange(4 * LARGE).reshape(4, LARGE)[::2, ::3]
    assert (jray.get(jray.put(array)) == array).all()
