"""Code is pickled once, named by its content, and refused by name if it drags too much along."""

from __future__ import annotations

import dataclasses
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jray._core.client.functions import CodeTable
from jray._core.config import Config
from jray._core.refs import ObjectRef, current


def make(offset: int) -> Callable[[int], int]:
    def add(value: int) -> int:
        return value + offset

    return add


@pytest.fixture
def table() -> CodeTable:
    return CodeTable(dataclasses.replace(Config(), function_warn_bytes=5_000, function_max_bytes=50_000))


def test_equal_code_is_one_export(table: CodeTable) -> None:
    """A function defined again in a loop is sent, and timed, as one; another is another."""
    first = table.export(make(1), "function", "add")
    again = table.export(make(1), "function", "add")
    other = table.export(make(2), "function", "add")
    assert again is first
    assert other.function_id != first.function_id
    assert len(first.function_id) == 20
    assert pickle.loads(first.blob)(41) == 42


def test_code_is_one_piece(table: CodeTable) -> None:
    """Captured arrays are inside it: it is stored where there is no store."""
    array = np.arange(100)
    exported = table.export(lambda: array, "function", "f")
    assert pickle.loads(exported.blob)().tolist() == array.tolist()


def test_large_code_warns_and_larger_code_is_refused(table: CodeTable) -> None:
    """With its name, its size, and what to do."""
    large, larger = np.zeros(10_000, "u1"), np.zeros(100_000, "u1")
    with pytest.warns(UserWarning, match=r"The function f is very large.*capturing a large array.*jray\.put"):
        table.export(lambda: large, "function", "f")
    with pytest.raises(ValueError, match=r"The actor class A is too large.*the limit is.*jray\.put"):
        table.export(lambda: larger, "actor class", "A")


def test_what_code_captured_and_cannot_be_pickled_is_named(table: CodeTable) -> None:
    """The variable of the closure."""
    lock = threading.Lock()
    with pytest.raises(
        TypeError, match=r"Could not serialize the function f\.\n(.*\n)*  <lambda> -> lock: <unlocked"
    ):
        table.export(lambda: lock, "function", "f")


def test_refs_that_code_captured_are_kept(table: CodeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """They live as long as the export does (Ray's rule)."""

    class Home:
        def ref_exported(self, ref: ObjectRef[Any]) -> None:
            pass

        def ref_address(self, ref: ObjectRef[Any]) -> str:
            return "/here"

    home = Home()
    monkeypatch.setattr(current, "client", home)
    ref: ObjectRef[Any] = ObjectRef(bytes(28), home)
    assert table.export(lambda: ref, "function", "f").refs == [ref]
