"""What a notebook shows of refs, handles and peeks: what is known, escaped, and the same each run where that matters."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from jray._core.peek import Peek
from jray._core.refs import ObjectRef, RefFacts, current
from jray._core.sketch import Sketch
from jray.actor import ActorHandle
from jray.notebook.cells import CellTable
from jray.notebook.looks import Looks

FAILED = RefFacts("failed", "f", 1, error="ValueError: <b>no</b>")
READY = RefFacts("ready", "f", 1, "ndarray float64 (1000, 1000)", 8_000_000)


class Home:
    """A client that knows of a ref what the test says."""

    facts = READY

    def ref_facts(self, _: Any, *, is_brief: bool = False) -> RefFacts:
        return self.facts._replace(task="", cell=0) if is_brief else self.facts


class Showing:
    """A shell with jray's looks."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.home = Home()
        self.is_stable = False
        cells = CellTable()
        cells.add({}, cell_id=None, execution_count=4, notebook=None)
        self.looks = Looks(shell, cells, lambda: self.is_stable)
        self._shell = shell

    def ref(self, facts: RefFacts = READY) -> ObjectRef[Any]:
        self.home.facts = facts
        return ObjectRef(bytes(range(28)), self.home)

    def of(self, value: Any) -> dict[str, str]:
        formatter: Any = self._shell.display_formatter
        found: dict[str, str] = formatter.format(value)[0]
        return found


@pytest.fixture
def showing(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> Iterator[Showing]:
    made = Showing(shell)
    monkeypatch.setattr(current, "client", made.home)
    made.looks.install()
    yield made
    made.looks.remove()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (READY, "ObjectRef[ndarray float64 (1000, 1000) 7.6 MiB] ready - f() In[4]"),
        (RefFacts("running", "f", 1), "ObjectRef running - f() In[4]"),
        (RefFacts("waiting", "f", 9), "ObjectRef waiting - f()"),
        (FAILED, "ObjectRef failed: ValueError: <b>no</b> - f() In[4], task 00010203"),
        (RefFacts("ready", about="int"), "ObjectRef[int] ready"),
        (RefFacts("freed"), "ObjectRef freed"),
        (RefFacts("pending"), "ObjectRef pending"),
    ],
)
def test_a_ref_says_what_is_known(showing: Showing, facts: RefFacts, expected: str) -> None:
    assert showing.of(showing.ref(facts))["text/plain"] == expected


def test_a_ref_of_a_session_that_ended_says_so(showing: Showing, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = showing.ref()
    monkeypatch.setattr(current, "client", None)
    assert showing.of(ref) == {"text/plain": "ObjectRef of a session that has ended"}


def test_a_ref_in_a_script_is_its_id(showing: Showing) -> None:
    ref = showing.ref()
    assert repr(ref) == f"ObjectRef({ref._id.hex()})"


def test_refs_in_a_list_are_brief(showing: Showing) -> None:
    assert showing.of([showing.ref(), 1])["text/plain"] == (
        "[ObjectRef[ndarray float64 (1000, 1000) 7.6 MiB] ready, 1]"
    )


def test_html_is_escaped_and_fetches_nothing(showing: Showing) -> None:
    """What an error or a type is called is the user's."""
    shown = showing.of(showing.ref(FAILED))["text/html"]
    assert 'class="jray-ref"' in shown
    assert "&lt;b&gt;no&lt;/b&gt;" in shown
    assert "<script" not in shown
    assert "7.6 MiB" in showing.of(showing.ref())["text/html"]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (READY, "ObjectRef - f() In[4]"),
        (RefFacts("running", "f", 1), "ObjectRef - f() In[4]"),
        (RefFacts("ready", about="ndarray float64 (3,)", size=152), "ObjectRef[ndarray float64 (3,) 152 B]"),
    ],
)
def test_where_each_run_must_show_the_same_nothing_is_said_that_varies(
    showing: Showing, facts: RefFacts, expected: str
) -> None:
    """Neither an id nor how far a task is."""
    showing.is_stable = True
    assert showing.of(showing.ref(facts)) == {"text/plain": expected}


def test_looks_leave_as_they_came(shell: InteractiveShell, showing: Showing) -> None:
    showing.looks.remove()
    formatter: Any = shell.display_formatter
    for cls in (ObjectRef, ActorHandle, Peek):
        assert all(cls not in known.type_printers for known in formatter.formatters.values())
    assert showing.of(showing.ref())["text/plain"].startswith("ObjectRef(0001")


def test_a_peek_is_shown_as_tables_and_a_picture(showing: Showing) -> None:
    sketch = Sketch("DataFrame <x>", (("a<", "<b>"),), ("c<",), (("<i>",),), b"\x89PNG")
    shown = showing.of(Peek(RefFacts("ready", about="DataFrame <x>", size=10), sketch))
    assert shown["text/plain"] == "DataFrame <x>, 10 B\n  a<: <b>\n   c<\n  <i>"
    markup = shown["text/html"]
    assert "data:image/png;base64,iVBORw==" in markup
    assert [mark in markup for mark in ("<b>", "<i>", "<x>")] == [False] * 3
    assert markup.count("<table ") == markup.count("</table>") == 2
    assert "ValueError: &lt;b&gt;no" in showing.of(Peek(FAILED))["text/html"]


@pytest.mark.timeout(300)
def test_in_a_kernel(kernel: Any) -> None:
    """A ref shows its type and cell; an actor whose class was defined again says so until it is made again."""

    def run(code: str) -> Any:
        request = str(kernel.start(textwrap.dedent(code)))
        kernel.wait_idle(request)
        assert kernel.errors(request) == []
        shown = kernel.displays(request)
        return shown[-1] if shown else None

    counter = """
        @jray.remote
        class Counter:
            def n(self):
                return {}
        """
    try:
        run("import jray\njray.init(num_cpus=1)\nmake = jray.remote(lambda: [0] * 100).options(name='made')")
        run("ref = make.remote()\njray.get(ref);")
        assert run("ref")["text/plain"] == "ObjectRef[list of 100 216 B] ready - made() In[2]"
        run(counter.format(1))
        assert " - old code" not in run("counter = Counter.remote()\ncounter")["text/plain"]
        run(counter.format(2))
        assert run("counter")["text/plain"].endswith(
            " - old code: Counter was redefined in In[6]; make the actor again to use it"
        )
        assert " - old code" not in run("Counter.remote()")["text/plain"]
    finally:
        run("jray.shutdown()")
