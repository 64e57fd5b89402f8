"""The saved notebooks are what a reader may expect: executed, in order, without errors or traces of a machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
#: More is a picture or a table too many: the repository carries every version of them.
MOST_BYTES = 500 * 1024
#: Tag of cells whose point is a warning.
SHOWS_STDERR = "shows-stderr"
#: An absolute path; neither `and/or`, nor the end tags of HTML.
PATH = re.compile(r"(?<![\w<./:])/(?:\w[\w.+-]*/)+[\w.+-]*")
#: Where jray's outputs name a machine: tables, lines and errors.
MACHINE = re.compile(
    r"<td>(?:alive|dead)</td><td>(?P<table>[^<]*)</td>|\bon node (?P<line>\S+)|\bip=(?P<error>[\w.-]+)"
)

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def read(path: Path) -> NotebookNode:
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(notebook: NotebookNode) -> Iterator[str]:
    """Yield every text that an output shows; pictures are none."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "stream":
                yield output.text
            elif output.output_type == "error":
                yield "\n".join([output.evalue, *output.traceback])
            else:
                yield from (str(data) for kind, data in output.data.items() if not kind.startswith("image/"))


def test_is_a_valid_notebook_of_the_plain_python_kernel(path: Path) -> None:
    """The file follows nbformat, and asks for the kernel that every Jupyter has: python3."""
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info.name == "python"


def test_was_executed_from_top_to_bottom_in_one_go(path: Path) -> None:
    """Execution counts are 1, 2, 3 and so on, without a gap."""
    counts = [cell.execution_count for cell in code_cells(read(path))]
    assert counts == list(range(1, len(counts) + 1))


def test_no_cell_has_raised_or_complained(path: Path) -> None:
    """No output is an error, and nothing was written to stderr but by cells that say so."""
    found = [
        (cell.id, output)
        for cell in code_cells(read(path))
        for output in cell.outputs
        if output.output_type == "error"
        or (output.get("name") == "stderr" and SHOWS_STDERR not in cell.metadata.get("tags", ()))
    ]
    assert found == []


def test_says_something_and_ends_with_shutdown(path: Path) -> None:
    """Something is shown, and the last cell stops the cluster."""
    notebook = read(path)
    assert any(text.strip() for text in texts(notebook))
    assert "jray.shutdown()" in code_cells(notebook)[-1].source


def test_outputs_hold_no_absolute_path(path: Path) -> None:
    """No output shows where the notebook, its environment or its session was."""
    found = [match[0] for text in texts(read(path)) for match in PATH.finditer(text)]
    assert found == []


def test_outputs_name_no_machine_but_localhost(path: Path) -> None:
    """Where jray names a machine, the saved output says `localhost`."""
    found = {match[match.lastgroup or 0] for text in texts(read(path)) for match in MACHINE.finditer(text)}
    assert found <= {"localhost"}


def test_file_is_small_and_carries_no_times(path: Path) -> None:
    """The file stays under half a megabyte, and a new run changes what it must: no cell notes when it ran."""
    assert path.stat().st_size <= MOST_BYTES
    assert [cell.id for cell in read(path).cells if "execution" in cell.metadata] == []
