"""In a notebook the latest definition counts: of functions, of what they call, of classes, of modules beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=["jray", "inline"])
def run(request: pytest.FixtureRequest, kernel: Any) -> Iterator[Callable[[str], str]]:
    """Run a cell of a notebook that uses that engine, and return what its last line is shown as."""

    def run(code: str) -> str:
        cell = str(kernel.start(textwrap.dedent(code)))
        kernel.wait_idle(cell)
        assert kernel.errors(cell) == []
        shown = kernel.displays(cell)
        return shown[-1]["text/plain"] if shown else ""

    run(f"import jray\njray.init(num_cpus=1, engine={request.param!r})")
    yield run
    run("jray.shutdown()")


def test_a_function_that_was_defined_again_is_the_one_that_runs(run: Callable[[str], str]) -> None:
    run("@jray.remote\ndef f():\n    return 1")
    assert run("jray.get(f.remote())") == "1"
    run("@jray.remote\ndef f():\n    return 2")
    assert run("jray.get(f.remote())") == "2"


def test_a_helper_that_was_defined_again_is_seen(run: Callable[[str], str]) -> None:
    """By functions, through other helpers, and by actors made since; constants and data too."""
    run("rate = {'x': 1}\ndef helper():\n    return rate['x']\ndef middle():\n    return helper()")
    run(
        "@jray.remote\ndef f():\n    return middle()\n@jray.remote\nclass A:\n    def n(self):\n        return middle()"
    )
    assert run("jray.get([f.remote(), f.options(name='g').remote(), A.remote().n.remote()])") == "[1, 1, 1]"
    run("rate['x'] = 2")
    assert run("jray.get([f.remote(), A.remote().n.remote()])") == "[2, 2]"
    run("def helper():\n    return 10 * rate['x']")
    assert (
        run("jray.get([f.remote(), f.options(name='g').remote(), A.remote().n.remote()])") == "[20, 20, 20]"
    )


def test_what_a_worker_keeps_stays_while_nothing_is_defined_anew(run: Callable[[str], str]) -> None:
    """A function that is not sent again keeps its globals in the worker."""
    run("def bump():\n    bump.n = getattr(bump, 'n', 0) + 1\n    return bump.n")
    run("import os\n@jray.remote\ndef f():\n    return os.getpid(), bump()\ncalls = []")
    # in which worker is not promised: until one has had a second call
    while run("calls.append(jray.get(f.remote()))\nlen(dict(calls)) < len(calls)") != "True":
        pass
    assert run("[n for pid, n in calls if pid == calls[-1][0]]") == "[1, 2]"
    run("def bump():\n    return -1")
    assert run("jray.get(f.remote())[1]") == "-1"


def test_instances_are_of_the_notebooks_class(run: Callable[[str], str]) -> None:
    """Also after it was defined again, on both ends; what the notebook set on it meanwhile stays."""
    definition = """
        class Point:
            scale = 1
            def __init__(self, x):
                self.x = x
            def far(self):
                return helper(self.x) * self.scale
        def helper(x):
            return x
        @jray.remote
        def move(point):
            return isinstance(point, Point), Point(point.x + 1)
        """
    for _ in range(2):
        run(definition)
        run("ref = move.remote(Point(1))\njray.wait([ref])\nPoint.scale = 5")
        run("def helper(x):\n    return 100 * x")
        assert (
            run("same, point = jray.get(ref)\nsame, isinstance(point, Point), point.far()")
            == "(True, True, 1000)"
        )


def test_a_module_that_was_edited_is_read_anew(run: Callable[[str], str], tmp_path: Path) -> None:
    """By the workers, in the next cell; with what was imported from it.  The notebook's own copy is its own affair."""
    if run("jray._core.refs.current.client.engine_name") == "'inline'":
        pytest.skip("everything runs in the notebook's own process")
    run("import os, sys\nhere = os.getcwd()")
    run(f"os.chdir({str(tmp_path)!r})\nsys.path.insert(0, {str(tmp_path)!r})")
    run("jray.shutdown()\njray.init(num_cpus=1)")
    try:
        run("open('near.py', 'w').write('def n(): return 1\\n')\nimport near\nfrom near import n")
        run("@jray.remote\ndef f():\n    import near as again\n    return near.n(), n(), again.n()")
        assert run("jray.get(f.remote())") == "(1, 1, 1)"
        run("open('near.py', 'w').write('def n(): return 2\\n')")
        assert run("jray.get(f.remote())") == "(2, 2, 2)"
        assert run("near.n()") == "1"
        run("open('near.py', 'w').write('def n(: return 3\\n')")
        assert "SyntaxError" in run("repr(f.remote().exception())")
        run("open('near.py', 'w').write('def n(): return 3\\n')")
        assert run("jray.get(f.remote())") == "(3, 3, 3)"
    finally:
        run("os.chdir(here)\nsys.path.pop(0)")
