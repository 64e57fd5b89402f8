"""A failed task runs again in its notebook, under the debugger."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(300)

FAILING = """
    @jray.remote
    def middle(x, *, factor):
        y = x * factor
        return 1 / (y - y)
    """


@pytest.fixture(scope="module")
def session(kernel: Any) -> Iterator[Any]:
    """A kernel with a cluster, and a task of it that has failed."""
    run(kernel, "import jray\njray.init(num_cpus=1)\nfrom jray.notebook.debugging import debug")
    run(kernel, FAILING)
    run(kernel, "failed = middle.remote(3, factor=jray.put(4))\njray.wait([failed])")
    yield kernel
    run(kernel, "jray.shutdown()")


def run(kernel: Any, code: str) -> str:
    """Run a cell to its end, expect no error, and return its request's id."""
    request = str(kernel.start(textwrap.dedent(code)))
    kernel.wait_idle(request)
    assert kernel.errors(request) == []
    return request


def converse(kernel: Any, code: str, *answers: str) -> str:
    """Run a cell that asks for commands, give these, and return what it said."""
    request = str(kernel.start(code))
    for answer in answers:
        kernel._client.get_stdin_msg(timeout=100)
        kernel._client.input(answer)
    kernel.wait_idle(request)
    return str(kernel.text(request))


def test_the_debugger_is_entered_where_it_failed(session: Any) -> None:
    """With the task's own arguments: refs are there as values."""
    said = converse(session, "debug(get_ipython())", "p x, factor, y", "q")
    assert "middle(), task " in said
    assert "It raised ZeroDivisionError: division by zero" in said
    assert "(3, 4, 12)" in said


def test_by_its_id_and_step_by_step(session: Any) -> None:
    """From the function's first line on, which has not run yet."""
    code = "debug(get_ipython(), failed.task_id().hex()[:8], step=True)"
    said = converse(session, code, "p 'y' in dir(), x", "n", "p y", "q")
    assert "(False, 3)" in said
    assert "12" in said


def test_where_nobody_can_be_asked_the_traceback_is_all(session: Any) -> None:
    request = str(session._client.execute("debug(get_ipython(), step=True)", allow_stdin=False))
    session.wait_idle(request)
    assert "nobody can be asked here" in session.text(request)
    (shown,) = session.errors(request)
    assert shown["ename"] == "ZeroDivisionError"
    traceback = "\n".join(shown["traceback"])
    assert "middle" in traceback
    assert "jray/" not in traceback


def test_what_fails_no_more_is_said(session: Any) -> None:
    run(session, "import os\n@jray.remote\ndef flaky(mark):\n    assert os.environ.get(mark)")
    run(session, "ref = flaky.remote('MARK')\njray.wait([ref])\nos.environ['MARK'] = '1'")
    request = run(session, "debug(get_ipython())")
    assert "this time it raised nothing" in session.text(request)


def test_a_wrong_id_is_an_error(session: Any) -> None:
    request = str(session.start("debug(get_ipython(), 'xyz')"))
    session.wait_idle(request)
    assert "begins with 'xyz'" in session.errors(request)[0]["evalue"]


def test_a_method_of_an_actor_is_refused_with_what_to_do_instead(session: Any) -> None:
    """And that is no failure of the method's, to be debugged."""
    run(session, "@jray.remote\nclass A:\n    def f(self, x):\n        return x / 0\na = A.remote()")
    run(session, "ref = a.f.remote(3)\njray.wait([ref])")
    request = str(session.start("debug(get_ipython())"))
    session.wait_idle(request)
    assert "failed_call(...).arguments()" in session.errors(request)[0]["evalue"]
    request = run(session, "jray.util.failures.failed_call('').arguments()")
    assert session.displays(request)[-1]["text/plain"] == "((3,), {})"


def test_a_remote_cell_is_debugged_in_its_own_lines(session: Any) -> None:
    run(session, "%load_ext jray\nbottom = 0")
    request = str(session.start("%%remote\ntop = 5\ntop / bottom"))
    session.wait_idle(request)
    assert "ZeroDivisionError" in session.errors(request)[0]["ename"]
    said = converse(session, "debug(get_ipython())", "p top, bottom", "q")
    assert "(5, 0)" in said


def test_a_generator_is_stepped_through_from_its_first_line(session: Any) -> None:
    run(
        session,
        "@jray.remote\ndef items(n):\n    first = n\n    yield first / 0\nref = list(items.remote(8))[0]",
    )
    run(session, "jray.wait([ref])")
    said = converse(session, "debug(get_ipython(), step=True)", "p 'first' in dir(), n", "n", "p first", "q")
    assert "(False, 8)" in said
    assert said.rstrip().endswith("8")
