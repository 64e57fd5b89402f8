"""Wrong arguments are found where the call is written, in Python's words."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jray._core.signature import CallShape


def plain(a: int, b: int = 2) -> None: ...
def positional_only(a: int, /, b: int, c: int = 3) -> None: ...
def keyword_only(a: int, *, k: int, d: int = 1) -> None: ...
def optional_keyword(a: int, *, d: int = 1) -> None: ...
def variadic(a: int, *rest: int, **named: int) -> None: ...
def nothing() -> None: ...


class Thing:
    def method(self, a: int, b: int = 2) -> None: ...
    def loose(*args: int) -> None: ...


FUNCTIONS = [plain, positional_only, keyword_only, optional_keyword, variadic, nothing, lambda x, y=1: None]
arguments = st.lists(st.integers(), max_size=4)
keywords = st.dictionaries(st.sampled_from(["a", "b", "c", "d", "k", "x", "y"]), st.integers(), max_size=3)


@given(function=st.sampled_from(FUNCTIONS), args=arguments, kwargs=keywords)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_what_fits_is_what_python_takes(
    function: Callable[..., Any], args: list[int], kwargs: dict[str, int]
) -> None:
    """A shape takes a call exactly if the function does, also after it has travelled."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        expected: str | None = f"{function.__name__}() {error}"
    else:
        expected = None
    shape = CallShape.of(function)
    for _ in range(2):
        if expected is None:
            shape.check(tuple(args), kwargs)
        else:
            with pytest.raises(TypeError) as caught:
                shape.check(tuple(args), kwargs)
            assert str(caught.value) == expected
        shape = pickle.loads(pickle.dumps(shape))
    if not kwargs:
        assert (shape.least <= len(args) <= shape.most) == (expected is None)


def test_a_methods_shape_is_without_self() -> None:
    """The caller gives none."""
    shape = CallShape.of(Thing.method, drop_first=True)
    shape.check((1,), {"b": 3})
    with pytest.raises(TypeError, match=r"^method\(\) missing a required argument: 'a'$"):
        shape.check((), {})
    with pytest.raises(TypeError, match="too many positional arguments"):
        shape.check((1, 2, 3), {})
    CallShape.of(Thing.loose, drop_first=True).check((1, 2, 3, 4), {})


def test_what_has_no_signature_takes_anything() -> None:
    """Python will say it when it runs."""
    assert (CallShape.of(min).least, CallShape.of(min).most) == (0, 1 << 60)
    CallShape.of(min).check((1, 2, 3), {"key": abs})


def test_the_pickle_of_a_shape_holds_no_defaults() -> None:
    """They may be large, or not picklable at all."""

    def function(a: Any = open) -> None: ...

    assert len(pickle.dumps(CallShape.of(function))) < 200
    CallShape.of(function).check((), {"a": 1})
