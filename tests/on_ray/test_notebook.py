"""One notebook, on jray's own runtime and on a Ray cluster: the same outputs, those that are saved."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from tools.run_notebook import client_for

ROOT = Path(__file__).parents[2]
PATH = ROOT / "notebooks" / "03-one-line-to-a-cluster.ipynb"


def outputs_of(notebook: NotebookNode) -> dict[str, list[Any]]:
    """Return what each cell says; pieces of one stream are put together, as front ends show them."""
    found: dict[str, list[Any]] = {}
    for cell in notebook.cells:
        said: list[Any] = []
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                if said and said[-1][0] == output.name:
                    said[-1] = (output.name, said[-1][1] + output.text)
                else:
                    said.append((output.name, output.text))
            else:
                said.append((output.output_type, dict(output.get("data", {}))))
        found[cell.id] = said
    return found


@pytest.fixture(params=["jray", "ray"])
def cluster(request: pytest.FixtureRequest) -> str | None:
    """What the notebook's one line is given: nothing, or the address of a Ray cluster."""
    return None if request.param == "jray" else str(request.getfixturevalue("head").remote_address)


def test_the_notebook_says_the_same_on_both(cluster: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executed from top to bottom, every cell says what is saved."""
    if cluster is None:
        monkeypatch.delenv("RAY_CLUSTER", raising=False)
    else:
        monkeypatch.setenv("RAY_CLUSTER", cluster)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JRAY_NONINTERACTIVE", "1")
    saved = nbformat.read(PATH, as_version=4)
    executed = copy.deepcopy(saved)
    client_for(executed, PATH.parent, timeout_s=200).execute()
    assert outputs_of(executed) == outputs_of(saved)
