"""Tables: text that lines up, HTML that is safe, order and filters."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from jray.notebook.tables import Column, Table, text_of

COLUMNS = (
    Column("name", "Name"),
    Column("size", "Size", "bytes"),
    Column("states", "States", "states"),
    Column("cpu", "CPU", "share"),
)
ROWS: list[dict[str, Any]] = [
    {"name": "b<i>", "size": 2048, "states": {"failed": 1, "running": 2}, "cpu": [1.0, 2.0]},
    {"name": "a", "size": None, "states": {}, "cpu": None},
    {"name": "c", "size": 10, "states": {"finished": 9}, "cpu": [0.0, 4.0]},
]
TABLE = Table("Things", COLUMNS, ROWS, ["a <note>"])


def test_text_lines_up() -> None:
    assert repr(TABLE).splitlines() == [
        "Things: 3",
        "  Name     Size  States               CPU",
        "  b<i>  2.0 KiB  1 failed, 2 running  1 of 2",
        "  a",
        "  c        10 B  9 finished           0 of 4",
        "  (a <note>)",
    ]


def test_html_escapes_what_users_named() -> None:
    shown = TABLE._repr_html_()
    assert "b&lt;i&gt;" in shown
    assert "a &lt;note&gt;" in shown
    assert "<i>" not in shown
    assert "<script" not in shown


def test_rows_without_a_value_are_last_either_way() -> None:
    assert [row["name"] for row in TABLE.sorted("size").rows] == ["c", "b<i>", "a"]
    assert [row["name"] for row in TABLE.sorted("size", descending=True).rows] == ["b<i>", "c", "a"]
    assert [row["name"] for row in TABLE.sorted("states", descending=True).rows] == ["c", "b<i>", "a"]


def test_every_word_of_a_filter_must_be_found() -> None:
    assert [row["name"] for row in TABLE.filtered("RUNNING kib").rows] == ["b<i>"]
    assert TABLE.filtered("running finished").rows == []


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(KeyError, match="no column 'sise', but name, size"):
        TABLE.sorted("sise")


def test_dataframe_has_a_column_for_each() -> None:
    pytest.importorskip("pandas")
    assert list(TABLE.df().columns) == ["name", "size", "states", "cpu"]


def test_dataframe_without_pandas_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install pandas"):
        TABLE.df()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2e-5, "20 µs"),
        (0.0042, "4.2 ms"),
        (0.25, "250 ms"),
        (3.04, "3.0 s"),
        (61, "1:01 min"),
        (3661, "1:01:01 h"),
    ],
)
def test_durations_are_as_people_say_them(seconds: float, text: str) -> None:
    assert text_of(seconds, Column("", "", "seconds")) == text
