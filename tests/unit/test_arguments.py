"""A call's arguments travel plainly, inline or through the store, with refs taken out at the top."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jray._core.client.arguments import are_plain, pack
from jray._core.refs import ObjectRef, current
from jray._core.serialization import ATOM_MAX_LENGTH, Serialized, deserialize

LIMIT = 1000


class Home:
    """A client as far as packing goes."""

    def __init__(self) -> None:
        self.stored: list[Serialized] = []
        self.count = 0

    def ref(self) -> ObjectRef[Any]:
        self.count += 1
        return ObjectRef(self.count.to_bytes(28, "little"), self)

    def store(self, serialized: Serialized) -> ObjectRef[Any]:
        self.stored.append(serialized)
        return self.ref()

    def ref_exported(self, ref: ObjectRef[Any]) -> None:
        pass

    def ref_address(self, ref: ObjectRef[Any]) -> str:
        return "/here"

    def ref_from_id(self, ref_id: bytes, owner: str | None) -> ObjectRef[Any]:
        return ObjectRef(ref_id, self, None, owner)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home()
    monkeypatch.setattr(current, "client", made)
    return made


def test_short_immutable_builtins_are_plain() -> None:
    """They need no pickle of their own."""
    assert are_plain(())
    assert are_plain((None, True, 1, 1.5, 1j, "text", b"bytes", "x" * ATOM_MAX_LENGTH))
    others: list[Any] = ["x" * (ATOM_MAX_LENGTH + 1), [1], (1,), np.float64(1), ObjectRef.nil()]
    for other in others:
        assert not are_plain((1, other))


def test_refs_at_the_top_become_dependencies(home: Home) -> None:
    """By position and by name; the call waits for them, and None stands in their place."""
    first, second = home.ref(), home.ref()
    packed = pack((1, first, [2]), {"a": second, "b": 3}, LIMIT, home.store)
    assert packed.positions == (1, "a")
    assert packed.dependencies == [first, second]
    assert packed.pins == []
    assert isinstance(packed.payload, bytes)
    assert deserialize(packed.payload) == ((1, None, [2]), {"a": None, "b": 3})


def test_a_ref_given_twice_is_a_dependency_twice(home: Home) -> None:
    """Each position gets its value."""
    ref = home.ref()
    packed = pack((ref, ref), {}, LIMIT, home.store)
    assert packed.positions == (0, 1)
    assert packed.dependencies == [ref, ref]


def test_refs_inside_other_arguments_are_kept_and_not_waited_for(home: Home) -> None:
    """The callee gets them as refs (Ray's rule)."""
    ref = home.ref()
    packed = pack(([ref],), {}, LIMIT, home.store)
    assert packed.dependencies == []
    assert packed.pins == [ref]
    assert isinstance(packed.payload, bytes)
    assert deserialize(packed.payload) == (([ref],), {})


@given(size=st.integers(0, 3 * LIMIT))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_large_arguments_are_put_away(size: int) -> None:
    """Those up to the limit ride along."""
    home = Home()
    packed = pack((np.zeros(size, "u1"),), {}, LIMIT, home.store)
    if home.stored:
        assert isinstance(packed.payload, ObjectRef)
        assert home.stored[0].size > LIMIT
    else:
        assert isinstance(packed.payload, bytes)
        assert len(packed.payload) <= LIMIT


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (
            (1, {"a": [threading.Lock()]}),
            {},
            r"^Positional argument 1 cannot be sent.*\n  \['a'\]\[0\]: <unlocked",
        ),
        (
            (),
            {"model": threading.Lock()},
            r"^Keyword argument 'model' cannot be sent.*\n  the value itself: <unl",
        ),
    ],
    ids=["positional", "keyword"],
)
def test_an_argument_that_cannot_be_pickled_is_named(
    home: Home, args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    """Which argument, and where inside it."""
    with pytest.raises(TypeError, match=message):
        pack(args, kwargs, LIMIT, home.store)
    assert home.stored == []
