"""A notebook's code is sent again when something that it refers to was defined anew, and only then."""

from __future__ import annotations

import pickle
import sys
import types
from typing import Any

import pytest

import jray
from jray._core.client.functions import CodeTable, ExportedCode
from jray._core.config import Config


class Notebook:
    """A __main__ whose cells are run one after the other."""

    def __init__(self, module: types.ModuleType) -> None:
        self.names = vars(module)
        self.table = CodeTable(Config())
        self.cell = 0

    def run(self, source: str) -> None:
        self.cell += 1
        exec(source, self.names)  # noqa: S102 -- what a notebook does

    def export(self, name: str = "f", *, cell: int | None = None) -> ExportedCode:
        key = self.names[name]
        code = getattr(key, "__wrapped__", key)
        return self.table.current(key, code, "function", name, self.cell if cell is None else cell)

    def call(self, *args: Any) -> Any:
        """Return what a worker would."""
        return pickle.loads(self.export().blob)(*args)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    main = types.ModuleType("__main__")
    main.__dict__["jray"] = jray
    monkeypatch.setitem(sys.modules, "__main__", main)
    return Notebook(main)


def test_a_function_that_is_called_may_be_defined_anew(notebook: Notebook) -> None:
    """Also one that is called by one that is called, or from within a nested function."""
    notebook.run("def one(): return 1\ndef two(): return one() + 1\ndef f(): return [two() for _ in 'a'][0]")
    assert notebook.call() == 2
    notebook.run("def one(): return 10")
    assert notebook.call() == 11
    notebook.run("def two(): return one() + 5")
    assert notebook.call() == 15


def test_constants_and_data_are_seen_anew(notebook: Notebook) -> None:
    """Bound anew or changed in place."""
    notebook.run("rate = 1\nparams = {'x': 1}\ndef f(): return rate + params['x']")
    assert notebook.call() == 2
    notebook.run("rate = 5")
    assert notebook.call() == 6
    notebook.run("params['x'] = 10")
    assert notebook.call() == 15


def test_classes_and_their_methods_are_seen_anew(notebook: Notebook) -> None:
    notebook.run("class A:\n    def n(self): return g()\ndef g(): return 1\ndef f(): return A().n()")
    assert notebook.call() == 1
    notebook.run("def g(): return 2")
    assert notebook.call() == 2
    notebook.run("class A:\n    def n(self): return 3")
    assert notebook.call() == 3
    notebook.run("A.n = lambda self: 4")
    assert notebook.call() == 4


def test_remote_functions_and_actor_classes_are_looked_into(notebook: Notebook) -> None:
    """What a task submits in turn is what is defined now."""
    notebook.run(
        "def h(): return 1\n@jray.remote\ndef g(): return h()\n"
        "@jray.remote\nclass A:\n    def n(self): return h()\n"
        "def f(): return g._function() + A._jray_class().n()"
    )
    assert notebook.call() == 2
    notebook.run("def h(): return 2")
    assert notebook.call() == 4


def test_a_class_that_is_the_same_text_is_another_class(notebook: Notebook) -> None:
    """Instances of the old one are not its own, so what refers to it must have the new one."""
    notebook.run("class A: pass\ndef f(x): return isinstance(x, A)")
    before = notebook.export()
    notebook.run("class A: pass")
    assert notebook.export() is not before


@pytest.mark.parametrize("source", ["\ndef g(): return 1", "x = 1", "unrelated = 2", ""])
def test_what_has_not_changed_is_not_sent_again(notebook: Notebook, source: str) -> None:
    """Nor what was defined anew and is the same: a cell that is run again."""
    notebook.run("x = 1\ndef g(): return 1\ndef f(): return g() + x")
    before = notebook.export()
    notebook.run(source)
    assert notebook.export() is before


def test_a_cell_that_is_run_again_unchanged_costs_no_pickling(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.run("def g(): return 1\ndef f(): return g()")
    before = notebook.export()
    monkeypatch.setattr(CodeTable, "export", lambda *_: pytest.fail("pickled again"))
    notebook.run("y = 1")
    assert notebook.export() is before


def test_large_data_is_not_pickled_again_for_a_look(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bound anew it is seen; changed in place it is not."""
    notebook.run("data = list(range(100_000))\ndef f(): return data[0]")
    assert notebook.call() == 0
    notebook.run("data[0] = 7")
    assert notebook.call() == 0
    notebook.run("data = [8]")
    assert notebook.call() == 8


def test_large_data_at_the_address_of_what_is_gone_is_other_data(notebook: Notebook) -> None:
    """Bound anew between two uses, it may come to lie where the old was."""
    notebook.run("class Data(list): pass\ndata = Data(range(100_000))\ndef f(): return data[0]")
    assert notebook.call() == 0
    for first in range(1, 20):
        notebook.run(f"del data\ndata = Data(range({first}, 100_000))")
        assert notebook.call() == first


def test_within_a_cell_and_in_a_script_the_first_use_counts(notebook: Notebook) -> None:
    """Ray's rule, where there are no cells."""
    notebook.run("def g(): return 1\ndef f(): return g()")
    before, script = notebook.export(), notebook.export(cell=0)
    exec("def g(): return 2", notebook.names)  # noqa: S102
    assert notebook.export() is before
    assert notebook.export(cell=0) is script
    notebook.cell += 1
    assert notebook.export() is not before


def test_code_that_refers_to_itself_has_an_end(notebook: Notebook) -> None:
    notebook.run(
        "class A:\n    def n(self): return B\nclass B:\n    def n(self): return A, f\n"
        "def f(n): return f(n - 1) if n else A"
    )
    assert notebook.export() is notebook.export()


def test_modules_and_importable_code_are_not_looked_into(notebook: Notebook) -> None:
    """They travel by name."""
    notebook.run("import json, textwrap\nfrom textwrap import dedent\ndef f(): return dedent(json.dumps(1))")
    before = notebook.export()
    notebook.cell += 1
    assert notebook.export() is before


def test_cells_of_closures_are_seen(notebook: Notebook) -> None:
    notebook.run(
        "def outer(n):\n    def inner(): return n + g()\n    return inner\ndef g(): return 1\nf = outer(1)"
    )
    assert notebook.call() == 2
    notebook.run("def g(): return 5")
    assert notebook.call() == 6
