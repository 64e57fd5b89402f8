"""A worker reads a module anew whose file was edited, with all that may have names of it, and no other."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jray._core.worker.modules import LocalModules


class Folder:
    """A folder of modules that can be imported."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._moment_ns = 10**18  # long before any look

    def write(self, name: str, text: str, *, is_new: bool = True) -> None:
        path = self.path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self._moment_ns += is_new * 10**6  # less than compiled files can tell
        os.utime(path, ns=(self._moment_ns, self._moment_ns))

    def load(self, name: str) -> Any:
        return importlib.import_module(name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield Folder(tmp_path)
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_an_edited_module_is_read_anew(folder: Folder) -> None:
    """With the same size and within a second, too."""
    modules = LocalModules(str(folder.path))
    folder.write("edited_a", "x = 1\n")
    assert folder.load("edited_a").x == 1
    assert not modules.refresh()
    folder.write("edited_a", "x = 2\n")
    assert folder.load("edited_a").x == 1
    assert modules.refresh()
    assert folder.load("edited_a").x == 2
    assert not modules.refresh()


def test_what_imports_an_edited_module_is_read_anew_too(folder: Folder) -> None:
    modules = LocalModules(str(folder.path))
    folder.write("edited_b", "x = 1\n")
    folder.write("edited_c", "from edited_b import x\n")
    folder.write("edited_package/__init__", "")
    folder.write("edited_package/inner", "import edited_c\n")
    assert folder.load("edited_package.inner").edited_c.x == 1
    assert not modules.refresh()
    folder.write("edited_b", "x = 2\n")
    assert modules.refresh()
    assert folder.load("edited_package.inner").edited_c.x == 2


def test_a_module_that_was_edited_before_it_was_ever_looked_at_counts(folder: Folder) -> None:
    """Loaded and edited between two looks: which came first nobody knows."""
    modules = LocalModules(str(folder.path))
    folder.write("edited_d", "x = 1\n")
    folder.load("edited_d")
    (folder.path / "edited_d.py").write_text("x = 2\n")  # now
    assert modules.refresh()
    assert folder.load("edited_d").x == 2
    folder.write("edited_d", "x = 3\n", is_new=False)


def test_what_is_installed_or_elsewhere_is_left_alone(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = folder.path / "venv" / "site-packages"
    monkeypatch.syspath_prepend(str(site))
    folder.write("venv/site-packages/installed_e", "x = 1\n")
    modules = LocalModules(str(folder.path))
    found = folder.load("installed_e")
    modules.refresh()
    folder.write("venv/site-packages/installed_e", "x = 22\n")
    assert not modules.refresh()
    assert sys.modules["installed_e"] is found
    everything = LocalModules("/")
    everything.refresh()
    assert not {"os", "json", "jray", "pytest"} & set(everything._stamps)


def test_a_file_that_is_gone_changes_nothing(folder: Folder) -> None:
    modules = LocalModules(str(folder.path))
    folder.write("edited_f", "x = 1\n")
    folder.load("edited_f")
    modules.refresh()
    (folder.path / "edited_f.py").unlink()
    assert not modules.refresh()
    assert folder.load("edited_f").x == 1
