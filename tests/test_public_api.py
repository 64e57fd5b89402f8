"""What `import jray` gives, and what it costs."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

import jray

#: What no program should pay for by importing jray; each is loaded by the first use of what needs it.
HEAVY = ["IPython", "asyncio", "ipykernel", "ipywidgets", "numpy", "pandas", "tornado", "zmq"]


def in_new_python(code: str) -> Any:
    """Run `code` in a Python that has imported nothing; return what it prints, which must be JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_all_is_the_namespace() -> None:
    """What completion shows after `jray.` are the names of `__all__` and submodules, and no other."""
    code = """
import jray, json, types
public = [name for name in dir(jray) if name[:1] != '_']
print(json.dumps([name for name in public if not isinstance(getattr(jray, name), types.ModuleType)]))
"""
    assert in_new_python(code) == sorted(name for name in jray.__all__ if not name.startswith("_"))


def test_lazy_names_are_all_there_and_bring_no_other() -> None:
    """Every name of `__all__` resolves; having used all, nothing else but modules has appeared."""
    code = """
import json, types
import jray
before = set(vars(jray))
for name in jray.__all__:
    getattr(jray, name)
new = {name for name, value in vars(jray).items() if not isinstance(value, types.ModuleType)} - before
print(json.dumps(sorted(new)))
"""
    assert in_new_python(code) == sorted(set(jray.__all__) - {"__commit__", "__version__"})


def test_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as in any module, so that `hasattr` and `from jray import` work."""
    with pytest.raises(AttributeError, match="no_such_name"):
        jray.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", sorted(jray.__all__))
def test_public_name_is_documented(name: str) -> None:
    """Each public function, class and module says what it is."""
    value = getattr(jray, name)
    if isinstance(value, ModuleType) or callable(value):
        assert inspect.cleandoc(value.__doc__ or "")


def test_version_is_a_version() -> None:
    """`jray.__version__` has three numbers; programs read it."""
    assert [part.isdigit() for part in jray.__version__.split(".")[:3]] == [True] * 3


@pytest.mark.parametrize("module", HEAVY)
def test_importing_jray_does_not_load(module: str, modules_after_import: list[str]) -> None:
    """`import jray` is cheap: it loads nothing that only some programs need."""
    assert module not in modules_after_import


@pytest.fixture(scope="module")
def modules_after_import() -> list[str]:
    """What a new Python has loaded after `import jray`."""
    loaded: list[str] = in_new_python("import jray, json, sys; print(json.dumps(list(sys.modules)))")
    return loaded


@pytest.mark.parametrize("name", sorted(set(dir(jray)) - set(jray.__all__)))
def test_what_is_listed_beside_are_modules(name: str) -> None:
    """`dir(jray)` shows submodules, each of which can be imported and says what it owns."""
    module = getattr(jray, name)
    assert isinstance(module, ModuleType)
    assert module.__name__ == f"jray.{name}"
    assert module.__doc__


def test_importing_jray_changes_nothing_but_what_cannot_be_imported() -> None:
    """One finder stands last, however often jray is imported: it refuses what no other has found."""
    code = """
import importlib, json, sys
before = list(sys.meta_path)
import jray
importlib.reload(jray)
print(json.dumps([sys.meta_path[:-1] == before, type(sys.meta_path[-1]).__module__]))
"""
    assert in_new_python(code) == [True, "jray._refusals"]
