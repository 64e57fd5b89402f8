"""The table of cells."""

from __future__ import annotations

from jray.notebook.cells import CellTable


def test_cells_are_numbered_from_one() -> None:
    """0 is left for "no cell"."""
    table = CellTable()
    first = table.add({"msg_id": "m1"}, cell_id="c1", execution_count=3, notebook="n.ipynb")
    second = table.add({}, cell_id=None, execution_count=4, notebook=None)
    assert (first.number, second.number) == (1, 2)
    assert table.get(1) is first
    assert (first.msg_id, second.msg_id) == ("m1", "")
    assert table.get(0) is None


def test_the_oldest_cells_are_forgotten() -> None:
    """A kernel that runs for months keeps a bounded table."""
    table = CellTable(max_cells=3)
    for count in range(10):
        table.add({}, cell_id=None, execution_count=count, notebook=None)
    assert len(table) == 3
    assert table.get(7) is None
    assert table.get(10) is not None
