"""Values come out of their bytes as they went in, arrays without a copy, and what cannot go in is named."""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import enum
import functools
import math
import pickle
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jray._core import serialization
from jray._core.refs import ObjectRef, current
from jray._core.serialization import (
    ATOM_MAX_LENGTH,
    Serialized,
    deregister,
    deserialize,
    is_atom,
    is_importable,
    register,
    serialize,
)
from jray._core.serialization_report import find_culprits

LOCK = threading.Lock()
LOCK_TEXT = r"<unlocked _thread\.lock object at 0x[0-9a-f]+>"


def round_trip(value: Any) -> Any:
    serialized = serialize(value)
    data = serialized.to_bytes()
    assert len(data) == serialized.size
    return deserialize(data)


def written(serialized: Serialized) -> bytearray:
    """The bytes as a store gets them: part by part, into memory full of something else."""
    memory = bytearray(b"\xee" * serialized.size)
    for offset, part in serialized.parts():
        memory[offset : offset + len(part)] = part
    return memory


# --- values ---------------------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=100)
)
hashable = st.integers() | st.text() | st.binary() | st.tuples(st.integers(), st.text())
nested = st.recursive(
    scalars | st.frozensets(hashable) | st.complex_numbers(allow_nan=False) | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(hashable, inner)
        | st.sets(hashable)
        | inner.map(lambda value: collections.deque([value]))
    ),
    max_leaves=15,
)


@given(value=nested)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_nested_builtins_come_back_equal(value: Any) -> None:
    """Of the same types, whatever is inside what."""
    result = round_trip(value)
    assert result == value
    assert type(result) is type(value)


def test_shared_and_cyclic_parts_stay_shared_and_cyclic() -> None:
    """What was one object is one object."""
    shared = [1]
    array = np.arange(10)
    cycle: dict[str, Any] = {"a": shared, "b": shared, "array": [array, array]}
    cycle["self"] = cycle
    result = round_trip(cycle)
    assert result["a"] is result["b"]
    assert result["array"][0] is result["array"][1]
    assert result["self"] is result


class Color(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass(slots=True)
class Slotted:
    value: Any


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value

    def method(self) -> Any:
        return self.value


def module_function() -> str:
    return "module"


@pytest.mark.parametrize(
    "value",
    [
        Color.RED,
        Point(1, 2),
        Slotted([1]),
        range(3),
        1 << 100,
        ...,
        NotImplemented,
        type(None),
        dict,
        len,
        math.pi,
    ],
    ids=repr,
)
def test_values_of_importable_types_come_back_equal(value: Any) -> None:
    """Enumerations, named tuples, slotted dataclasses, builtins."""
    assert round_trip(value) == value


def test_bound_methods_travel_with_their_object() -> None:
    """And still work."""
    assert round_trip(Plain(7).method)() == 7


def test_a_modules_of_its_own_comes_back_as_the_module() -> None:
    """Plain pickle refuses modules; here they go by name."""
    assert round_trip({"math": math})["math"] is math


# --- code -----------------------------------------------------------------------------------------


@pytest.fixture
def main_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A `__main__` like that of a notebook."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


def in_notebook(module: types.ModuleType, source: str) -> None:
    exec(source, vars(module))  # noqa: S102 -- this is what a notebook does


READER = """
import pickle, sys
sys.path.insert(0, {path!r})
from jray._core.serialization import deserialize
value = deserialize(sys.stdin.buffer.read())
print(value())
"""


def called_elsewhere(value: Any) -> str:
    """What a new process prints that loads *value* and calls it."""
    root = serialization.__file__.removesuffix("jray/_core/serialization.py")
    done = subprocess.run(
        [sys.executable, "-c", READER.format(path=root)],
        input=serialize(value).to_bytes(),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def test_functions_and_classes_of_a_notebook_travel_by_value(main_module: types.ModuleType) -> None:
    """With the globals they use: another process has another __main__."""
    in_notebook(
        main_module,
        "base = 40\n"
        "class Adder:\n"
        "    def __init__(self, n): self.n = n\n"
        "    def __call__(self): return base + self.n\n"
        "def add(): return Adder(2)()\n",
    )
    assert called_elsewhere(main_module.add) == "42"
    assert called_elsewhere(main_module.Adder(3)) == "43"


def test_an_instance_that_comes_back_leaves_its_class_alone(main_module: types.ModuleType) -> None:
    """It is of the notebook's class, whose methods still see what the notebook defines later."""
    in_notebook(
        main_module,
        "class Rate:\n    percent = 1\n    def of(self, x):\n        return scale(x) * self.percent\n"
        "def scale(x):\n    return x\n",
    )
    rate = main_module.Rate
    sent = serialize(rate()).to_bytes()
    method, rate.percent = rate.of, 3
    in_notebook(main_module, "def scale(x):\n    return 10 * x\n")
    back = deserialize(sent)
    assert type(back) is rate
    assert rate.of is method
    assert back.of(2) == 60


def test_a_class_that_came_from_elsewhere_follows_its_maker(main_module: types.ModuleType) -> None:
    """What the notebook sets on its class later is there with the next value that arrives."""
    in_notebook(main_module, "class Rate:\n    percent = 1\n")
    code = (
        "import sys; from jray._core.serialization import deserialize; "
        "first, second = (deserialize(bytes.fromhex(word)) for word in sys.argv[1:]); "
        "print(type(first) is type(second), first.percent)"
    )
    first = serialize(main_module.Rate()).to_bytes().hex()
    main_module.Rate.percent = 2
    second = serialize(main_module.Rate()).to_bytes().hex()
    done = subprocess.run(
        [sys.executable, "-c", code, first, second], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "2"]


def test_local_functions_travel_with_what_they_captured() -> None:
    """Closures and lambdas too, inside data."""
    captured = [1, 2]

    def total() -> int:
        return sum(captured)

    assert round_trip({"f": [total, lambda: captured]})["f"][0]() == 3


def test_importable_code_travels_by_name() -> None:
    """Its pickle is small, and gives the very object."""
    assert round_trip(module_function) is module_function
    assert round_trip(Plain) is Plain
    assert len(serialize(module_function).to_bytes()) < 100


def test_a_name_that_means_something_else_now_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that was replaced in its module, by a decorator say, travels by value."""
    original = module_function
    monkeypatch.setattr(sys.modules[__name__], "module_function", lambda: "replaced")
    assert not is_importable(original)
    assert round_trip(original)() == "module"


def test_modules_registered_with_cloudpickle_travel_by_value() -> None:
    """Also those inside a registered package, as cloudpickle itself has it."""
    package = types.ModuleType("registered_package")
    module = types.ModuleType("registered_package.inner")
    exec("def f(): return 1", vars(module))  # noqa: S102 -- a module made by hand
    sys.modules[package.__name__], sys.modules[module.__name__] = package, module
    try:
        assert is_importable(module.f)
        cloudpickle.register_pickle_by_value(package)
        try:
            assert not is_importable(module.f)
        finally:
            cloudpickle.unregister_pickle_by_value(package)
    finally:
        del sys.modules[package.__name__], sys.modules[module.__name__]


# --- arrays ---------------------------------------------------------------------------------------

ARRAYS: dict[str, NDArray[Any]] = {
    "1-d": np.arange(1000),
    "2-d": np.arange(12.0).reshape(3, 4),
    "0-d": np.array(3.5),
    "empty": np.empty((0, 3)),
    "fortran order": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "every second": np.arange(20)[::2],
    "backwards": np.arange(20)[::-1],
    "a column": np.arange(12).reshape(3, 4)[:, 1],
    "structured": np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")]),
    "text": np.array(["a", "längeres"]),
    "bool": np.array([True, False]),
    "dates": np.array(["2024-01-01", "NaT"], dtype="M8[D]"),
    "big endian": np.arange(5, dtype=">i8"),
    "objects": np.array([1, "a", [2], None], dtype=object),
    "complex": np.array([1 + 2j]),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_come_back_equal(array: NDArray[Any]) -> None:
    """With their type, shape and order."""
    result = round_trip([array])[0]
    np.testing.assert_array_equal(result, array)
    assert (result.dtype, result.shape) == (array.dtype, array.shape)
    if array.flags.contiguous:
        assert result.flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize("name", ["1-d", "2-d", "0-d", "fortran order", "structured", "big endian"])
def test_nothing_of_a_contiguous_array_is_copied(name: str) -> None:
    """Going in, its buffer is its own memory; coming out, it lies in the bytes it came from, read-only."""
    array = ARRAYS[name]
    serialized = serialize({"array": array})
    (buffer,) = serialized.buffers
    assert np.shares_memory(np.frombuffer(buffer, "u1"), array)
    memory = written(serialized)
    result = deserialize(memoryview(memory))["array"]
    np.testing.assert_array_equal(result, array)
    assert np.shares_memory(result, np.frombuffer(memory, "u1"))
    assert not result.flags.writeable
    with pytest.raises(ValueError, match=r"read-only|cannot set WRITEABLE"):
        result.setflags(write=True)


def test_a_change_of_the_memory_shows_in_the_array() -> None:
    """The proof that it is a view."""
    memory = written(serialize(np.zeros(4, "u1")))
    result = deserialize(memoryview(memory))
    memory[-4:] = b"\x01\x02\x03\x04"
    assert result.tolist() == [1, 2, 3, 4]


@given(sizes=st.lists(st.integers(0, 300), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_every_buffer_lies_at_a_multiple_of_64(sizes: list[int]) -> None:
    """Whatever is before it; the parts neither overlap nor reach beyond the size."""
    arrays = [np.arange(size, dtype="u1") for size in sizes]
    serialized = serialize(arrays)
    end = 0
    for offset, part in serialized.parts():
        assert offset >= end
        assert offset % 64 == 0
        end = offset + len(part)
    assert end == serialized.size
    assert bytes(deserialize(memoryview(written(serialized)))[-1]) == bytes(arrays[-1])
    for one, other in zip(deserialize(serialized.to_bytes()), arrays, strict=True):
        np.testing.assert_array_equal(one, other)


def test_both_ways_to_write_make_the_same_bytes() -> None:
    """But for the padding, which is zero in one and whatever it was in the other."""
    serialized = serialize([np.arange(7, dtype="u1"), np.arange(9, dtype="u1"), "end"])
    whole = serialized.to_bytes()
    for offset, part in serialized.parts():
        assert whole[offset : offset + len(part)] == bytes(part)


def test_buffers_of_other_types_stay_outside_too() -> None:
    """Whatever gives pickle a PickleBuffer; one that is not contiguous is copied instead."""
    data = bytearray(b"some bytes")
    serialized = serialize(Buffered(data))
    assert len(serialized.buffers) == 1
    assert bytes(deserialize(serialized.to_bytes()).data) == b"some bytes"
    strided = serialize(Buffered(memoryview(data)[::2]))
    assert strided.buffers == []


class Buffered:
    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        if memoryview(self.data).contiguous:
            return Buffered, (pickle.PickleBuffer(self.data),)
        return Buffered, (bytes(self.data),)


def test_foreign_bytes_are_refused() -> None:
    """What `serialize` did not make has another beginning, or none."""
    with pytest.raises(ValueError, match="no serialized value: it begins with"):
        deserialize(bytes(100))


# --- atoms ----------------------------------------------------------------------------------------


def test_atoms_are_of_immutable_builtin_types_exactly() -> None:
    """A subclass may be anything; long text gains from being serialized once."""

    class Text(str):
        __slots__ = ()

    for atom in (None, True, 1, 1.5, 1j, "a" * ATOM_MAX_LENGTH, b"a" * ATOM_MAX_LENGTH):
        assert is_atom(atom)
    for other in (
        "a" * (ATOM_MAX_LENGTH + 1),
        b"a" * (ATOM_MAX_LENGTH + 1),
        Text("a"),
        (),
        Color.RED,
        (1).__class__,
    ):
        assert not is_atom(other)


# --- refs inside ----------------------------------------------------------------------------------


class Home:
    """A client as far as refs go."""

    def __init__(self) -> None:
        self.exported: list[bytes] = []
        self.pinned: list[bytes] = []
        self.known: dict[bytes, ObjectRef[Any]] = {}

    def ref(self, name: str) -> ObjectRef[Any]:
        made: ObjectRef[Any] = ObjectRef(name.encode().ljust(28, b"."), self)
        self.known[made._id] = made
        return made

    def ref_exported(self, ref: ObjectRef[Any]) -> None:
        self.exported.append(ref._id)

    def reduce_ref(self, ref: ObjectRef[Any]) -> tuple[Any, ...]:
        self.pinned.append(ref._id)
        return ObjectRef, (ref._id,)

    def ref_address(self, ref: ObjectRef[Any]) -> str:
        return "/here"

    def ref_from_id(self, ref_id: bytes, owner: str | None) -> ObjectRef[Any]:
        assert owner == "/here"
        return self.known[ref_id]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home()
    monkeypatch.setattr(current, "client", made)
    return made


@pytest.mark.parametrize("with_code", [False, True], ids=["data", "with a lambda"])
def test_refs_inside_a_value_are_found_in_order(home: Home, with_code: bool) -> None:
    """Each once, however deep, by whichever pickler; and they come back as this process's own."""
    first, second, third = home.ref("1"), home.ref("2"), home.ref("3")
    value = {"a": [first, {"b": second}], "c": (first, Plain(third)), "f": (lambda: 0) if with_code else None}
    serialized = serialize(value)
    assert [ref._id for ref in serialized.refs] == [first._id, second._id, third._id]
    result = deserialize(serialized.to_bytes())
    assert result["a"][0] is first
    assert result["c"][1].value is third
    assert set(home.exported) == {first._id, second._id, third._id}
    assert home.pinned == []


def test_refs_captured_by_code_are_found(home: Home) -> None:
    """A closure's and a global's."""
    ref = home.ref("1")
    assert serialize(lambda: ref).refs == [ref]


def test_a_ref_without_a_client_is_only_an_id(home: Home) -> None:
    """A nil or random one, say: nobody owns it, so nobody is told."""
    nil: ObjectRef[Any] = ObjectRef.nil()
    serialized = serialize([nil])
    assert serialized.refs == []
    assert deserialize(serialized.to_bytes()) == [nil]


def test_a_report_pins_no_refs(home: Home) -> None:
    """The search for what cannot be pickled must not keep objects alive for the rest of the job."""
    with pytest.raises(TypeError):
        serialize([home.ref("1"), {"x": LOCK}])
    assert home.pinned == []


# --- serializers of the user's --------------------------------------------------------------------


class Locked:
    def __init__(self, value: int) -> None:
        self.value = value
        self.lock = threading.Lock()


class MoreLocked(Locked):
    pass


@pytest.fixture
def registered() -> Iterator[None]:
    register(Locked, lambda locked: locked.value, Locked)
    yield
    deregister(Locked)


@pytest.mark.parametrize("other", [None, lambda: 0], ids=["data", "with a lambda"])
def test_a_registered_serializer_is_used(registered: None, other: Any) -> None:
    """Inside data, and next to code; its deserializer travels along."""
    result = round_trip({"x": [Locked(5)], "other": other})
    assert result["x"][0].value == 5
    deregister(Locked)
    assert round_trip(1) == 1
    with pytest.raises(TypeError):
        serialize(Locked(5))
    deregister(Locked)


def test_a_serializer_is_for_its_very_class(registered: None) -> None:
    """Not for subclasses (Ray's rule); the report knows which values it helps."""
    with pytest.raises(TypeError, match=r"\[1\]\.lock") as caught:
        serialize([Locked(1), MoreLocked(2)])
    assert "[0]" not in str(caught.value)


def test_a_local_deserializer_travels_by_value() -> None:
    """It need not exist where the value is read."""
    register(Locked, lambda locked: locked.value, lambda value: ("loaded", value))
    try:
        assert round_trip(Locked(3)) == ("loaded", 3)
    finally:
        deregister(Locked)


# --- what cannot be pickled -----------------------------------------------------------------------


def closure() -> Callable[[], object]:
    lock = threading.Lock()
    return lambda: lock


def uses_global() -> object:
    return LOCK


def uses_global_in_a_comprehension() -> object:
    return [LOCK for _ in range(2)]


def has_default(lock: Any = LOCK) -> object:
    return lock


def has_keyword_default(*, lock: Any = LOCK) -> object:
    return lock


def refers_to_itself() -> Callable[[], object]:
    lock = threading.Lock()

    def inner() -> object:
        return inner, lock

    return inner


def make_class() -> type:
    class Bad:
        lock = threading.Lock()

        def method(self) -> None:
            pass

    return Bad


def make_class_with_method() -> type:
    lock = threading.Lock()

    class Bad:
        def __init__(self) -> None:
            self.lock = lock

        @staticmethod
        def static() -> object:
            return lock

        @property
        def got(self) -> object:
            return lock

    return Bad


class SlotsOf:
    __slots__ = ("__hidden", "lock")

    def __init__(self) -> None:
        self.lock = LOCK
        self.__hidden = 1


def failing(error: Exception) -> Exception:
    error.args = ("text", LOCK)
    return error


NAMED: dict[str, tuple[Any, str]] = {
    "the value itself": (LOCK, f"  the value itself: {LOCK_TEXT}"),
    "an item": ([1, {"key": LOCK}], rf"  \[1\]\['key'\]: {LOCK_TEXT}"),
    "a key": ({LOCK: 1}, rf"  the key {LOCK_TEXT}: {LOCK_TEXT}"),
    "a nested key": ({"a": {LOCK: 1}}, rf"  \['a'\], the key {LOCK_TEXT}: {LOCK_TEXT}"),
    "an element": ({"s": {LOCK}}, rf"  \['s'\], an element of the set: {LOCK_TEXT}"),
    "an attribute": (Plain(Plain(LOCK)), rf"  \.value\.value: {LOCK_TEXT}"),
    "a slot": (Slotted(LOCK), rf"  \.value: {LOCK_TEXT}"),
    "a slot beside a hidden one": (SlotsOf(), rf"  \.lock: {LOCK_TEXT}"),
    "a closure variable": (closure(), rf"  <lambda> -> lock: {LOCK_TEXT}"),
    "a closure inside data": ([closure()], rf"  \[0\], <lambda> -> lock: {LOCK_TEXT}"),
    "a bound method": (Plain(LOCK).method, rf"  \.__self__\.value: {LOCK_TEXT}"),
    "a partial": (functools.partial(print, 1, x=LOCK), rf"  \.keywords\['x'\]: {LOCK_TEXT}"),
    "a partial's argument": (functools.partial(print, LOCK), rf"  \.args\[0\]: {LOCK_TEXT}"),
    "an exception": (failing(ValueError()), rf"  \.args\[1\]: {LOCK_TEXT}"),
    "a class attribute": (make_class(), rf"  Bad\.lock: {LOCK_TEXT}"),
    "the class of a value": (make_class()(), rf"  class Bad, Bad\.lock: {LOCK_TEXT}"),
    "a base class": (type("Worse", (make_class(),), {}), rf"  base class Bad, Bad\.lock: {LOCK_TEXT}"),
    "a constructor": (make_class_with_method(), rf"  Bad\.__init__, __init__ -> lock: {LOCK_TEXT}"),
    "a function that refers to itself": (refers_to_itself(), rf"  inner -> lock: {LOCK_TEXT}"),
    "a generator": ({"g": (i for i in [1])}, r"  \['g'\]: <generator object"),
}


@pytest.mark.parametrize(("value", "expected"), NAMED.values(), ids=NAMED)
def test_what_cannot_be_pickled_is_named_with_its_path(value: Any, expected: str) -> None:
    """The innermost part, and the way to it."""
    with pytest.raises(TypeError, match=expected) as caught:
        serialize(value)
    text = str(caught.value)
    assert text.startswith("Cannot serialize ")
    assert "Create it inside the task or actor instead" in text
    assert caught.value.__cause__ is not None


GLOBALS = {
    "a global": (uses_global, "uses_global -> LOCK"),
    "a global in a comprehension": (uses_global_in_a_comprehension, "uses_global_in_a_comprehension -> LOCK"),
    "a default": (has_default, "has_default, default of lock"),
    "a keyword's default": (has_keyword_default, "has_keyword_default, default of lock"),
}


@pytest.mark.parametrize(("function", "expected"), GLOBALS.values(), ids=GLOBALS)
def test_what_a_notebooks_function_drags_along_is_named(function: Any, expected: str) -> None:
    """Globals, also those used only deep inside, and defaults."""
    copied = types.FunctionType(
        function.__code__, {**globals(), "__name__": "__main__"}, function.__name__, function.__defaults__
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    copied.__module__ = "__main__"
    with pytest.raises(TypeError, match=rf"  {expected}: {LOCK_TEXT}"):
        serialize(copied)


def test_every_culprit_is_named() -> None:
    """Not only the first."""
    with pytest.raises(TypeError) as caught:
        serialize({"a": LOCK, "b": [threading.Lock()], "c": 1})
    assert "['a']: " in str(caught.value)
    assert "['b'][0]: " in str(caught.value)
    assert "['c']" not in str(caught.value)


def test_a_repr_that_raises_does_not_hide_the_report() -> None:
    """The error would be another one, about nothing the user did."""

    class Nameless:
        def __init__(self) -> None:
            self.lock = LOCK

        def __repr__(self) -> str:
            raise RuntimeError("no name")

    with pytest.raises(TypeError, match=r"  \[0\]\.lock: "):
        serialize([Nameless()])
    with pytest.raises(TypeError, match=r"Cannot serialize <.*Nameless object at"):
        serialize(Nameless())


def test_a_report_is_short_whatever_the_value() -> None:
    """Long texts are cut, and of many children the first are looked at."""
    value = [{"x" * 1000: LOCK}] + [LOCK] * 10_000
    with pytest.raises(TypeError) as caught:
        serialize(value)
    assert len(str(caught.value)) < 2000


def test_recursion_too_deep_is_said_and_kills_nothing() -> None:
    """A list inside a list, a hundred thousand times."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TypeError, match=r"Cannot serialize a list of 1: .*recursion"):
        serialize(deep)
    while deep:  # or its destruction would go as deep
        deep = deep[0]


class Refusing:
    def __reduce__(self) -> Any:
        raise ValueError("not today")


@pytest.mark.parametrize("other", [None, lambda: 0], ids=["data", "with a lambda"])
def test_what_a_users_reduce_raises_is_raised_with_a_note(other: Any) -> None:
    """Its own class, as in Ray; the note names the path."""
    with pytest.raises(ValueError, match="not today") as caught:
        serialize([other, {"x": Refusing()}])
    assert "[1]['x']: " in caught.value.__notes__[0]


def test_a_lack_of_memory_is_not_blamed_on_the_value() -> None:
    """Nothing is wrong with it."""

    class Greedy:
        def __reduce__(self) -> Any:
            raise MemoryError

    with pytest.raises(MemoryError):
        serialize(Greedy())
    with pytest.raises(MemoryError):
        serialize([lambda: 0, Greedy()])


def test_find_culprits_of_what_can_be_pickled_is_empty() -> None:
    """Without serialize around it, too."""
    assert list(find_culprits({"a": 1})) == []
    assert [path for path, _ in find_culprits({"a": LOCK})] == ["['a']"]


def test_types_pickled_through_copyreg_are_honoured() -> None:
    """The standard library's own table for foreign types."""
    copyreg.pickle(Locked, lambda locked: (Locked, (locked.value,)))
    try:
        assert round_trip([Locked(9)])[0].value == 9
    finally:
        del copyreg.dispatch_table[Locked]
