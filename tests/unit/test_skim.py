"""A pickle is looked into, and nothing of what it names is run."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jray._core.serialization import serialize
from jray._core.skim import describe_serialized, error_line
from jray._core.worker.tracebacks import task_error
from jray.exceptions import ObjectLostError, RayTaskError


@dataclasses.dataclass
class Point:
    x: int
    parts: list[Any]


class Bomb:
    """Goes off where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return exec, ("raise SystemExit('it ran')",)


class Items(list[Any]):
    pass


class Shown(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)


def in_module(module: types.ModuleType, source: str) -> None:
    exec(source, vars(module))  # noqa: S102 -- what a notebook does


def about(value: object) -> str:
    return describe_serialized(serialize(value).to_bytes())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.zeros((2, 3)), "ndarray float64 (2, 3)"),
        (np.array([None, "a"]), "ndarray object (2,)"),
        (pd.DataFrame({"a": [1], "b": ["x"], "c": [pd.Timestamp(0)]}), "DataFrame (1, 3) a, b, c"),
        (pd.Series([1.0], index=pd.date_range("2020", periods=1)), "Series float64 (1,)"),
        ({"a": Point(1, []), "b": np.zeros(2)}, "dict of 2"),
        (collections.OrderedDict(a=1), "OrderedDict"),
        (dt.datetime(2020, 1, 1, tzinfo=dt.UTC), "datetime"),
        (Point(1, [Point(2, [])]), "Point"),
        (Items([1, 2]), "Items"),
        (Shown("x"), "Shown"),
    ],
)
def test_a_serialized_value_is_described_as_the_value(value: object, expected: str) -> None:
    assert about(value) == expected


def test_nothing_is_run() -> None:
    """A function that a pickle names is not called, at the top or inside."""
    with pytest.raises(SystemExit):
        pickle.loads(pickle.dumps(Bomb()))
    assert about(Bomb()) == ""
    assert about([Bomb(), 1]) == "list of 2"
    assert about(Point(1, [Bomb()])) == "Point"


def test_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a class whose module is not here nothing is known."""
    module = types.ModuleType("elsewhere")
    in_module(module, "class There: pass")
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    data = serialize(module.There()).to_bytes()
    monkeypatch.delitem(sys.modules, "elsewhere")
    assert describe_serialized(data) == ""


def test_a_notebooks_class_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It travels by value, and is not made for this."""
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    in_module(main, "class Mine:\n    def f(self): pass\n")
    assert about(main.Mine()) == "Mine"


def test_a_large_pickle_is_not_read() -> None:
    assert about([str(n) * 20 for n in range(100_000)]) == ""


def failed(error: BaseException) -> bytes:
    try:
        raise error  # noqa: TRY301 -- so that it has a traceback
    except BaseException as raised:  # noqa: BLE001 -- any
        return task_error("f", raised)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("bad <n>\nmore of it"), "ValueError: bad <n>"),
        (ValueError(), "ValueError"),
        (Shown("mine"), "Shown: mine"),
        (KeyError("k"), "KeyError: 'k'"),
    ],
)
def test_an_error_is_said_in_a_line(error: BaseException, expected: str) -> None:
    assert error_line(failed(error)) == expected


def test_other_errors_are_said_too() -> None:
    """One that was never pickled, one of jray's own, and the empty word for a cancelled task."""
    assert error_line(ObjectLostError("ab")).startswith("ObjectLostError: ")
    assert error_line(serialize(ObjectLostError("ab")).to_bytes()).startswith("ObjectLostError: ")
    assert error_line(b"") == "TaskCancelledError"
    assert error_line(RayTaskError("f", "", ValueError("x"))) == "ValueError"
    assert error_line(b"no pickle") == ""
