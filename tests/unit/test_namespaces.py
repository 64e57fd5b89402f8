"""The namespace of a notebook: the same after a restart, and no other notebook's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jray.util import notebook_namespace


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)


def test_it_is_made_of_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "a" / "Analysis.ipynb"))
    first = notebook_namespace()
    assert first.startswith("notebook-Analysis-")
    assert notebook_namespace() == first
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "b" / "Analysis.ipynb"))
    assert notebook_namespace() != first


def test_a_relative_path_is_that_of_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JPY_SESSION_NAME", "n.ipynb")
    relative = notebook_namespace()
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "n.ipynb"))
    assert notebook_namespace() == relative


def test_vs_code_and_scripts_tell_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", "/home/me/job.py", raising=False)
    script = notebook_namespace()
    assert script.startswith("notebook-job-")
    monkeypatch.setattr(main, "__vsc_ipynb_file__", "/home/me/Book.ipynb", raising=False)
    assert notebook_namespace().startswith("notebook-Book-")


def test_where_nothing_is_known_it_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="namespace="):
        notebook_namespace()
