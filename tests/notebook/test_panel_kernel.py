"""The panel in a real kernel with real workers: what it sends, what its buttons do, what it is without a widget."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jray.notebook.panel import model

pytestmark = pytest.mark.timeout(300)

WIDGET = "application/vnd.jupyter.widget-view+json"


def run(kernel: Any, code: str) -> str:
    """Run a cell to its end, expect no error, and return its request's id."""
    request = str(kernel.start(textwrap.dedent(code)))
    kernel.wait_idle(request)
    assert kernel.errors(request) == []
    return request


@pytest.fixture(scope="module")
def session(kernel: Any) -> Iterator[Any]:
    run(
        kernel,
        """
        import jray, os, time
        jray.init(num_cpus=2)

        @jray.remote
        def double(n):
            return 2 * n

        @jray.remote
        def wait_for(path):
            while not os.path.exists(path):
                time.sleep(0.01)

        @jray.remote
        class Counter:
            def count(self):
                return 1
        """,
    )
    yield kernel
    run(kernel, "jray.shutdown()")


@pytest.fixture
def comm(session: Any) -> Iterator[str]:
    """The widget of a panel that is shown, and looked at by one view called v."""
    request = run(session, "panel = jray.panel(); display(panel)")
    bundle = session.displays(request)[0]
    assert bundle["text/plain"].startswith("Tasks: ")
    assert "jray-panel-static" in bundle["text/html"]
    yield str(bundle[WIDGET]["model_id"])
    run(session, "panel.close()")


def state(session: Any, comm: str, view: str = "v") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for message in session.told(comm):
        if message["type"] == "change" and message["view"] == view:
            found = model.apply({} if message["base"] == 0 else found, message["change"])
    return found


def look(session: Any, comm: str, **request: Any) -> None:
    session.tell(comm, {"type": "view", "view": "v", "visible": True, **request})


def cells_of(session: Any, comm: str) -> list[dict[str, Any]]:
    return [row["cells"] for row in state(session, comm).get("rows", {}).values()]


def click(session: Any, comm: str, action: list[str]) -> dict[str, Any]:
    verb, _, target = action
    session.tell(comm, {"type": "act", "view": "v", "id": 1, "verb": verb, "target": target})
    session.wait_until(lambda: any(message["type"] == "done" for message in session.told(comm)))
    assert {"type": "got", "view": "v", "id": 1} in session.told(comm)
    found: dict[str, Any] = next(message for message in session.told(comm) if message["type"] == "done")
    return found


def until(gate: Path) -> str:
    """Return code that goes on until that file is there."""
    return f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)"


def test_calls_are_shown_while_the_cell_that_makes_them_runs(session: Any, comm: str, tmp_path: Path) -> None:
    look(session, comm)
    request = session.start(f"jray.get([double.remote(n) for n in range(7)])\n{until(tmp_path / 'gate')}")
    session.wait_until(
        lambda: any(c["name"] == "double" and c["total"] == 7 for c in cells_of(session, comm))
    )
    statuses = [m for m in session.messages[request] if m["msg_type"] == "status"]
    assert [m["content"]["execution_state"] for m in statuses] == ["busy"]
    (tmp_path / "gate").touch()
    session.wait_idle(request)


def test_a_panel_shown_in_a_cell_that_runs_on_is_live_without_a_word(session: Any, tmp_path: Path) -> None:
    request = session.start(
        f"late = jray.panel(); display(late); jray.get(double.remote(1))\n{until(tmp_path / 'gate')}"
    )
    session.wait_until(lambda: bool(session.displays(request)))
    comm = session.displays(request)[0][WIDGET]["model_id"]
    session.wait_until(lambda: bool(state(session, comm, "*").get("order")))
    (tmp_path / "gate").touch()
    session.wait_idle(request)
    run(session, "late.close()")


def test_a_waiting_function_is_cancelled_by_its_button(session: Any, comm: str, tmp_path: Any) -> None:
    run(session, f"held = [wait_for.remote({str(tmp_path / 'never')!r}) for _ in range(5)]")
    look(session, comm, filter="wait_for")
    session.wait_until(lambda: bool(cells_of(session, comm)))
    (row,) = state(session, comm)["rows"].values()
    done = click(session, comm, row["actions"][0])
    assert (done["ok"], done["text"]) == (True, "Cancelled 5 tasks.")
    session.wait_until(lambda: cells_of(session, comm)[0]["states"].get("cancelled") == 5)


def test_a_task_whose_ref_is_in_a_worker_is_cancelled_by_its_button(
    session: Any, comm: str, tmp_path: Any
) -> None:
    """This process has no ref of it, and no count: its owner is found by asking."""
    never = str(tmp_path / "never")
    run(
        session,
        f"""
        @jray.remote
        def submits():
            jray.get(wait_for.options(name='child', num_cpus=0).remote({never!r}))
        parent = submits.remote()
        """,
    )
    look(session, comm, filter="child", expanded=[":child"])
    session.wait_until(lambda: len(cells_of(session, comm)) == 2)
    (single,) = [row for row in state(session, comm)["rows"].values() if row["under"]]
    done = click(session, comm, single["actions"][0])
    assert (done["ok"], done["text"]) == (True, "Cancelled the task.")
    request = run(session, "print(isinstance(parent.exception(30), jray.exceptions.TaskCancelledError))")
    session.wait_until(lambda: bool(session.text(request)))
    assert session.text(request) == "True\n"


def test_an_actor_is_killed_by_its_button(session: Any, comm: str) -> None:
    run(session, "counter = Counter.options(name='tally').remote(); jray.get(counter.count.remote())")
    look(session, comm, tab="actors", filter="tally alive")
    session.wait_until(lambda: bool(cells_of(session, comm)))
    (row,) = state(session, comm)["rows"].values()
    assert row["cells"]["memory"] > 0
    assert click(session, comm, row["actions"][0])["ok"]
    look(session, comm, tab="actors", filter="tally dead")
    session.wait_until(lambda: bool(cells_of(session, comm)))


def test_an_object_is_freed_by_its_button(session: Any, comm: str) -> None:
    run(session, "big = jray.put(bytes(3_000_000))")
    look(session, comm, tab="objects", sort="size", descending=True, count=1)
    session.wait_until(lambda: any((c.get("size") or 0) >= 3_000_000 for c in cells_of(session, comm)))
    (row,) = state(session, comm)["rows"].values()
    assert click(session, comm, row["actions"][0])["ok"]
    request = run(
        session, "try:\n    jray.get(big)\nexcept jray.exceptions.ObjectFreedError:\n    print('it is free')"
    )
    session.wait_until(lambda: session.text(request) == "it is free\n")


def test_what_a_task_wrote_is_shown_line_by_line(session: Any, comm: str) -> None:
    run(
        session,
        """
        @jray.remote
        def speaks():
            for n in range(150):
                print('line', n)
        jray.get(speaks.remote())
        """,
    )
    look(session, comm, tab="logs", filter="speaks")
    session.wait_until(lambda: any(c["line"] == "line 149" for c in cells_of(session, comm)))
    ((key, row),) = state(session, comm)["rows"].items()
    assert row["cells"]["process"].startswith("speaks ")
    look(session, comm, tab="logs", filter="speaks", expanded=[key], count=300)
    session.wait_until(lambda: len(cells_of(session, comm)) == 151)
    assert [cells["line"] for cells in cells_of(session, comm)[1:]] == [f"line {n}" for n in range(150)]


@pytest.mark.parametrize("tab", model.TABS)
def test_every_tab_is_shown(session: Any, comm: str, tab: str) -> None:
    look(session, comm, tab=tab)
    session.wait_until(lambda: state(session, comm).get("tab") == tab)
    session.wait_until(lambda: state(session, comm)["ribbon"] == "")


@pytest.mark.promise("T9")
def test_an_open_panel_on_an_idle_cluster_is_quiet_and_costs_next_to_nothing(session: Any, comm: str) -> None:
    look(session, comm)
    session.wait_until(lambda: bool(state(session, comm)))
    # until the last of what the tests before have left has been told
    before = -1
    while before != len(session.told(comm)):
        before = len(session.told(comm))
        run(session, "time.sleep(1)")
    request = run(session, "t = time.process_time(); time.sleep(8); print((time.process_time() - t) / 8)")
    session.wait_until(lambda: bool(session.text(request)))
    assert len(session.told(comm)) == before
    # no measure of speed: ten times what is measured, and far below what polling at full rate takes
    assert float(session.text(request)) < 0.05


def test_shutdown_leaves_the_last_state_and_a_new_cluster_takes_over(make_kernel: Callable[..., Any]) -> None:
    kernel = make_kernel(JRAY_NONINTERACTIVE="0")
    request = run(kernel, "import jray\njray.init(num_cpus=1)\npanel = jray.panel()\ndisplay(panel)")
    comm = kernel.displays(request)[0][WIDGET]["model_id"]
    look(kernel, comm, tab="nodes")
    kernel.wait_until(lambda: bool(cells_of(kernel, comm)))
    run(kernel, "jray.shutdown()")
    kernel.wait_until(lambda: "disconnected" in state(kernel, comm)["ribbon"])
    assert cells_of(kernel, comm)[0]["cpu"][1] == 1
    run(kernel, "jray.init(num_cpus=2)")
    kernel.wait_until(lambda: [cells["cpu"][1] for cells in cells_of(kernel, comm)] == [2])
    assert state(kernel, comm)["ribbon"] == ""
    run(kernel, "panel.close(); jray.shutdown()")


def test_where_output_must_be_the_same_each_time_it_is_tables(make_kernel: Callable[..., Any]) -> None:
    kernel = make_kernel(JRAY_NONINTERACTIVE="1")
    run(kernel, "import jray\njray.init(num_cpus=1)\nf = jray.remote(lambda: 1)\njray.get(f.remote())")
    shown = [kernel.displays(run(kernel, "jray.panel()"))[0] for _ in range(2)]
    assert shown[0] == shown[1]
    assert set(shown[0]) == {"text/plain", "text/html"}
    assert "1 finished" in shown[0]["text/html"]
    run(kernel, "jray.shutdown()")


WITHOUT_WIDGETS = {
    "no anywidget": "sys.modules['anywidget'] = None",
    "no ipywidgets": "sys.modules['ipywidgets'] = None",
    "a widget that cannot be made": "import anywidget; anywidget.AnyWidget.__init__ = lambda *_, **__: 1 // 0",
}


@pytest.mark.parametrize("lack", WITHOUT_WIDGETS.values(), ids=list(WITHOUT_WIDGETS))
def test_without_widgets_it_is_tables(make_kernel: Callable[..., Any], lack: str) -> None:
    """As text and as HTML: the same rows of every tab in both, whichever of the two a front end shows."""
    kernel = make_kernel(JRAY_NONINTERACTIVE="0")
    run(kernel, f"import sys\n{lack}")
    request = run(
        kernel,
        """
        import jray
        jray.init(num_cpus=1)
        @jray.remote
        def speaks():
            print('so <b>it</b> is')
        @jray.remote
        class Keeper:
            def keep(self): return 1
        keeper = Keeper.remote()
        jray.get([speaks.remote(), keeper.keep.remote()])
        held = jray.put(bytes(2_000_000))
        """,
    )
    kernel.wait_until(lambda: "so <b>" in kernel.text(request))
    bundle = kernel.displays(run(kernel, "jray.panel()"))[0]
    assert set(bundle) == {"text/plain", "text/html"}
    for words in (*model.TITLES.values(), "speaks", "Keeper.keep", "1 finished", "alive", "1.9 MiB", "CPU"):
        assert words in bundle["text/plain"]
        assert words in bundle["text/html"]
    assert "so <b>it</b> is" in bundle["text/plain"]
    assert "so &lt;b&gt;it&lt;/b&gt; is" in bundle["text/html"]
    request = run(kernel, "print(jray.panel())")
    kernel.wait_until(lambda: "Keeper" in kernel.text(request))
    run(kernel, "jray.shutdown()")


def test_tables_are_the_same_facts_for_programs(session: Any) -> None:
    request = run(
        session, "jray.get(double.remote(3)); print([r['name'] for r in jray.panel().table('tasks').rows])"
    )
    session.wait_until(lambda: bool(session.text(request)))
    assert "'double'" in session.text(request)


def test_placement_groups_are_told(session: Any) -> None:
    request = run(
        session,
        """
        from jray.util import placement_group, remove_placement_group
        group = placement_group([{"CPU": 0.1}, {"CPU": 0.1}], name="pair")
        print(group.wait(60), [dict(row) for row in jray.panel().table("groups").rows if row["name"] == "pair"])
        remove_placement_group(group)
        """,
    )
    session.wait_until(lambda: bool(session.text(request)))
    assert "True [{" in session.text(request)
    assert "'state': 'created', 'bundles': 2" in session.text(request)


@pytest.mark.skipif(
    importlib.util.find_spec("jray._core.inline.watch") is None,
    reason="the inline engine tells no tallies yet",
)
def test_the_inline_engine_can_be_looked_at(make_kernel: Callable[..., Any]) -> None:
    kernel = make_kernel(JRAY_NONINTERACTIVE="0")
    run(kernel, "import jray\njray.init(engine='inline')\nf = jray.remote(lambda: 1)\njray.get(f.remote())")
    request = run(kernel, "print(jray.panel())")
    kernel.wait_until(lambda: "Nodes" in kernel.text(request))
    run(kernel, "jray.shutdown()")
