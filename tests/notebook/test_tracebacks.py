"""Errors of tasks in a notebook: the user's lines on both sides, and nothing else."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from jray.exceptions import RayTaskError
from jray.notebook.tracebacks import cut, kind_of

pytestmark = pytest.mark.timeout(300)
_COLORS = re.compile(r"\x1b\[[0-9;]*m")


def test_long_texts_are_cut_with_a_note() -> None:
    """A line, and a text of many lines; the end stays, and it is said where the rest is."""
    (line,) = cut(["x" * 5000])
    assert line == "x" * 2000 + "... (3 000 more characters; error.cause has them)"
    lines = cut([str(n) for n in range(1000)])
    assert len(lines) == 201
    assert lines[100] == "... (800 more lines; error.traceback_str has them)"
    assert lines[-1] == "999"


def test_equal_errors_are_of_one_class_and_say_the_same() -> None:
    """Wherever they were raised."""
    one = RayTaskError("f", "", ValueError("a"), pid=1)
    assert kind_of(one) == kind_of(RayTaskError("f", "", ValueError("a"), pid=2))
    assert kind_of(one) != kind_of(RayTaskError("f", "", ValueError("b")))
    assert kind_of(one) != kind_of(RayTaskError("f", "", KeyError("a")))


@pytest.fixture(scope="module")
def session(kernel: Any) -> Iterator[Any]:
    said = kernel.run(
        "import jray, os, time\njray.init(num_cpus=2)\n%load_ext jray\n"
        "@jray.remote(num_cpus=0.1, max_retries=0)\ndef run(code):\n    exec(code)"
    )
    assert [m["content"] for m in said if m["msg_type"] == "error"] == []
    yield kernel
    kernel.run("jray.shutdown()")


def failing(session: Any, code: str) -> tuple[str, str]:
    """Run a cell that fails; return the kind of its error, and what is shown without colours."""
    request = session.start(textwrap.dedent(code))
    session.wait_idle(request)
    (error,) = session.errors(request)
    text = _COLORS.sub("", "\n".join(error["traceback"]))
    for own in ("jray/api.py", "jray/_core", "jray/notebook", "cloudpickle/", "IPython/core", "ipykernel_"):
        assert own not in text
    return error["ename"], text


def test_both_sides_show_the_lines_of_cells(session: Any) -> None:
    """The call in the notebook, then the task's lines, then where it ran; and `except ValueError` works."""
    session.run(
        textwrap.dedent("""
        @jray.remote
        def parse(text):
            return int(text)
        def ask():
            return jray.get(parse.remote('seven'))
        """)
    )
    name, text = failing(session, "ask()")
    assert name == "RayTaskError(ValueError)"
    assert "----> 1 ask()" in text
    assert "return jray.get(parse.remote('seven'))" in text
    assert re.search(r"Cell In\[\d+\], line 3, in parse\n\s+return int\(text\)", text)
    lines = text.splitlines()
    assert "ValueError: invalid literal for int() with base 10: 'seven'" in lines
    assert text.count("invalid literal") == 1
    assert re.fullmatch(r"in task parse\(\) on node \S+ in process \d+, task \w+", lines[-1])
    request = session.start(
        "try:\n    ask()\nexcept ValueError as error:\n    print(type(error.cause).__name__)"
    )
    session.wait_idle(request)
    assert session.text(request) == "ValueError\n"


def test_an_awaited_error_looks_the_same(session: Any) -> None:
    """Without frames of the machinery in between."""
    _, text = failing(session, "@jray.remote\ndef f():\n    raise KeyError('k')\nawait f.remote()")
    assert "----> 4 await f.remote()" in text
    assert "raise KeyError('k')" in text


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("jray.get(run.remote('import time; time.sleep(60)'), timeout=0.01)", "GetTimeoutError"),
        ("jray.get(run.remote('import os; os._exit(1)'))", "WorkerCrashedError"),
        ("import threading\njray.put(threading.Lock())", "TypeError"),
        ("jray.get(3)", "ValueError"),
    ],
)
def test_errors_of_jrays_own_show_no_frames_of_it(session: Any, code: str, name: str) -> None:
    """The line of the cell, and the error."""
    found, text = failing(session, code)
    assert name in found
    assert code.splitlines()[-1] in text


def test_equal_errors_of_many_tasks_are_counted(session: Any) -> None:
    """One text, and how many others failed so."""
    session.run(
        textwrap.dedent("""
        @jray.remote
        def odd(n):
            if n % 2:
                raise ValueError('odd')
            return n
        """)
    )
    name, text = failing(
        session, "refs = [odd.remote(n) for n in range(20)]\njray.wait(refs, num_returns=20)\njray.get(refs)"
    )
    assert name == "RayTaskError(ValueError)"
    assert text.endswith("; the same error in 10 of 20 tasks")
    assert text.count("ValueError: odd") == 1


def test_a_long_message_is_cut(session: Any) -> None:
    """With a note on where the rest is."""
    _, text = failing(
        session, "@jray.remote\ndef f():\n    raise ValueError('x' * 100_000)\njray.get(f.remote())"
    )
    assert len(text) < 5000
    assert "more characters; error.cause has them)" in text


def test_unhandled_errors_are_counted_by_kind(session: Any) -> None:
    """One in full, then how many more of it."""
    request = session.start(
        textwrap.dedent("""
        for ref in [odd.remote(2 * n + 1) for n in range(30)]:
            del ref
        time.sleep(0)
        """)
    )
    session.wait_idle(request)

    def said() -> str:
        return "".join(
            m["content"]["text"]
            for messages in session.messages.values()
            for m in messages
            if m["msg_type"] == "stream" and m["content"]["name"] == "stderr"
        )

    def count() -> int:
        again = re.findall(r"\[jray\] the same in (\d+) more: odd: ValueError: odd", said())
        return said().count("Unhandled error") + sum(map(int, again))

    session.wait_until(lambda: count() == 30)
    assert said().count("Unhandled error") < 5


def test_tb_shows_it_again(session: Any) -> None:
    """And other errors are IPython's own."""
    failing(session, "jray.get(odd.remote(1))")
    request = session.start("%tb")
    session.wait_idle(request)
    (error,) = session.errors(request)
    assert "raise ValueError('odd')" in "\n".join(error["traceback"])
    request = session.start("1 / 0")
    session.wait_idle(request)
    (error,) = session.errors(request)
    assert error["ename"] == "ZeroDivisionError"


SYNTAX_ERRORS = [
    ("%%remote -o x\nx = 1\ny = = 2\nz = 3", "SyntaxError", "line 3\n    y = = 2\n        ^\nSyntaxError: invalid"),
    ("%%remote\n\nfor x in y:\nprint(x)", "IndentationError", "line 4\n    print(x)\n    ^\nIndentationError: expected"),
    ("%%remote\n!ls\nreturn 1", "SyntaxError", "line 3\n    return 1\n    ^\nSyntaxError: 'return' outside"),
    ("%%actor a\nclass A:\n    x = = 1", "SyntaxError", "line 3\n    x = = 1\n        ^\nSyntaxError: invalid syntax"),
    ("%%autoremote\nx = (1,", "SyntaxError", "line 2\n    x = (1,\n        ^\nSyntaxError: '(' was never closed"),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "name", "expected"), SYNTAX_ERRORS, ids=range(len(SYNTAX_ERRORS)))
def test_a_cell_that_is_no_python_is_shown_as_any_cell_is(
    session: Any, cell: str, name: str, expected: str
) -> None:
    """The line as it stands in the cell, the mark below it, and no frame at all, of jray or of IPython."""
    shown, text = failing(session, cell)
    assert shown == name
    assert re.match(rf"\s*Cell In\[\d+\], {re.escape(expected)}", text)
    assert "Traceback" not in text


def test_a_line_that_is_no_python_has_no_frames_either(session: Any) -> None:
    _, text = failing(session, "%remote 1 +")
    assert re.fullmatch(r"\s*File <remote cell In\[\d+\] \w+>:1\n\s+1 \+\n\s+\^\nSyntaxError: .*\s*", text)


def test_a_syntax_error_inside_a_task_has_the_lines_of_both_sides(session: Any) -> None:
    """IPython draws syntax errors its own way: this one was raised elsewhere."""
    name, text = failing(session, "x = 1\njray.get(run.remote('a = = 1'))")
    assert name == "RayTaskError(SyntaxError)"
    assert "----> 2 jray.get(run.remote('a = = 1'))" in text
    assert re.search(r"in run\n\s+exec\(code\)", text)
    assert "a = = 1\n        ^\nSyntaxError: invalid syntax" in text
    name, text = failing(session, "%%remote\nexec('a = = 1')")
    assert name == "RayTaskError(SyntaxError)"
    assert re.search(r"<remote cell In\[\d+\] \w+>\", line 2", text)
