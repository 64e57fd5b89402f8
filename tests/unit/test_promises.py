"""The promises of the notebook, T1 to T12: each has a test in tests/notebook, marked with its number.

What a promise leaves out, because jray has no such thing, its text says.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]

PROMISES = {
    "T1": "Of tasks of two cells that print 1000 lines at once, each line is under the cell that submitted it.",
    "T2": "An interrupt ends jray.get, await and %%remote at once; the cell's tasks are interrupted on their workers, "
    "those of other cells go on, and so does the head.",
    "T3": "Of a kernel that was killed neither a process nor shared memory is left; a head that stays is there for "
    "the next kernel, with its named actors, as long as its keeper lives; `jray ps` agrees.",
    "T4": "The example notebooks say the same in three strict runs with JRAY_NONINTERACTIVE=1 (`make test` compares all "
    "of them), and run without it.",
    "T5": "The server extension asks for a token, XSRF and the right, under any base URL; the head that one notebook "
    "started is listed and serves another; the server's own head serves its kernels through their restarts, and through "
    "the server's for as long as agreed, after which nothing is left.",
    "T6": "The repr of 10 000 pending refs sends nothing, and takes some hundredths of a second.",
    "T7": "Options complete, and the help lists each of them.",
    "T8": "Of a flood few messages and bytes reach the notebook, and the logs have all of it.",
    "T9": "A panel that is open on an idle cluster sends nothing and costs next to nothing.",
    "T10": "A saved notebook of twenty %%remote cells is small, and readable without its drawings.",
    "T11": "Without ipywidgets, and without anywidget, everything runs, as text and HTML.",
    "T12": "Figures and data frames that are made in a task appear in the cell that launched it.",
}


def marked() -> Iterator[tuple[str, str]]:
    """Yield (promise, test) for each mark below tests/."""
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if "mark.promise" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.promise":
                    for number in mark.args:
                        yield ast.literal_eval(number), f"{path.relative_to(TESTS)}::{node.name}"


def test_each_promise_has_a_test_of_the_notebooks() -> None:
    """A promise is kept in a real kernel, or it is none."""
    found = {number for number, test in marked() if test.startswith("notebook/")}
    assert [number for number in PROMISES if number not in found] == []


def test_tests_name_promises_that_exist() -> None:
    """A number that the list lacks is a slip of the pen."""
    assert {number for number, _ in marked()} <= set(PROMISES)
    assert list(PROMISES) == [f"T{n}" for n in range(1, 13)]
