"""The panel: its model and its feed over a cluster and a clock that are made up."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jray.notebook.panel
from jray._core.engine import Tally
from jray._core.frontend import Output, OutputKind
from jray.notebook.panel import Panel, model
from jray.notebook.panel.feed import ANY_VIEW, DISCONNECTED, MOST_SHARE, PRESUMED_S, SHORTEST_S, Feed
from jray.notebook.panel.model import MOST_BYTES, Request, Row, Snapshot
from jray.notebook.panel.reading import Reader
from jray.notebook.task_logs import TaskLogs

FOLDER = Path(jray.notebook.panel.__file__).parent

# --- the model -------------------------------------------------------------------------------------

states = st.dictionaries(st.sampled_from(["failed", "finished", "running"]), st.integers(1, 5))
rows = st.dictionaries(
    st.sampled_from([f"r{n}" for n in range(12)]),
    st.tuples(st.text(max_size=8), states, st.booleans()),
    max_size=12,
).map(
    lambda drawn: tuple(
        Row(
            key,
            {"name": name, "states": counts, "total": len(name) or None},
            parent="r0" if is_child else None,
        )
        for key, (name, counts, is_child) in drawn.items()
    )
)
requests = st.builds(
    Request,
    sort=st.sampled_from(["", "name", "states", "total"]),
    descending=st.booleans(),
    filter=st.sampled_from(["", "a", "running"]),
    offset=st.integers(0, 15),
    count=st.integers(1, 12),
    expanded=st.sampled_from([(), ("r0",)]),
)


@settings(deadline=None)
@given(rows, requests, rows, requests, st.sampled_from(["", "gone"]))
def test_applying_a_difference_gives_the_new_state(
    old: tuple[Row, ...], was: Request, new: tuple[Row, ...], wanted: Request, ribbon: str
) -> None:
    before = model.view_of(Snapshot("tasks", old), was)
    after = model.view_of(Snapshot("tasks", new, ("a note",)), wanted, ribbon)
    assert model.apply(before, model.diff(before, after)) == after
    assert model.apply({}, model.diff({}, after)) == after
    assert model.diff(after, after) == {}


@settings(deadline=None)
@given(rows, st.integers(1200, 4000))
def test_parts_together_are_the_change_and_each_is_small(drawn: tuple[Row, ...], most_bytes: int) -> None:
    change = model.diff({}, model.view_of(Snapshot("tasks", drawn), Request()))
    found = model.parts(change, most_bytes)
    together: dict[str, Any] = {}
    for part in found:
        together |= part.get("rows", {})
    assert together == change.get("rows", {})
    assert [part.get("more", False) for part in found] == [True] * (len(found) - 1) + [False]
    assert {key: value for key, value in found[-1].items() if key != "rows"} == {
        key: value for key, value in change.items() if key != "rows"
    }


def test_no_view_of_many_long_rows_makes_a_large_message() -> None:
    many = tuple(Row(f"k{n}", {"name": "n" * 300, "error": "é" * 300}) for n in range(1000))
    change = model.diff({}, model.view_of(Snapshot("tasks", many), Request(count=300)))
    found = model.parts(change)
    assert len(found) > 1
    assert all(len(json.dumps(part)) < MOST_BYTES for part in found)


def label(cell: int) -> str:
    return f"In[{cell}]" if cell else ""


TALLIES = [
    Tally(1, "f", submitted=10, finished=4, failed=3, cancelled=1, running=1, last_error="boom"),
    Tally(2, "f", submitted=2, finished=2),
    Tally(2, "g", submitted=1),
]
COUNTS: dict[tuple[str, ...], int] = {
    ("f", "NORMAL_TASK", "FINISHED"): 6,
    ("nested", "NORMAL_TASK", "RUNNING"): 7,
}
ENDED = [
    {"name": "f", "cell": 1, "start_time_ms": 1000.0, "end_time_ms": 3000.0},
    {"name": "f", "cell": 1, "start_time_ms": 1000.0, "end_time_ms": 5000.0},
]


def shown(by: str, single: Any = None) -> dict[str, Row]:
    found = model.task_rows(
        TALLIES, COUNTS, ENDED, single or {}, lambda tally: str(tally.last_error), label, by
    )
    return {row.key: row for row in found}


def test_calls_are_counted_by_function() -> None:
    found = shown("function")
    assert found[":f"].cells == {
        "name": "f",
        "cell": "In[1], In[2]",
        "states": {"failed": 2, "cancelled": 1, "finished": 6, "running": 1, "waiting": 2},
        "total": 12,
        "duration": 3.0,
        "error": "boom",
    }
    assert found[":f"].actions == (("cancel-function", "Cancel f", "f"),)
    # of what other processes submitted only the numbers are known
    assert found[":nested"].cells["states"] == {"running": 7}


def test_calls_are_counted_by_cell_and_what_is_over_cannot_be_cancelled() -> None:
    found = shown("cell")
    assert [found[key].cells["total"] for key in ("1:f", "2:f", "2:g")] == [10, 2, 1]
    assert found["1:f"].actions == (("stop-cell", "Cancel all of In[1]", "1"),)
    assert found["2:f"].actions == ()


def test_single_tasks_are_under_their_function_and_sorted_there() -> None:
    tasks = [
        {
            "task_id": "ab" * 24,
            "state": "FAILED",
            "cell": 1,
            "error_message": "Traceback\n  x\nValueError: y\n",
        },
        {"task_id": "cd" * 24, "state": "PENDING_ARGS_AVAIL", "cell": 1},
    ]
    snapshot = Snapshot("tasks", tuple(shown("function", {":f": tasks}).values()))
    state = model.view_of(snapshot, Request(expanded=(":f",), sort="total"))
    assert state["order"][-3:] == [":f", f"task:{'ab' * 24}:0", f"task:{'cd' * 24}:0"]
    assert state["rows"][f"task:{'ab' * 24}:0"]["cells"]["error"] == "ValueError: y"
    assert state["rows"][f"task:{'cd' * 24}:0"]["cells"]["error"] == "waits for its arguments"
    assert len(model.view_of(snapshot, Request())["order"]) == 3


def test_only_own_finished_objects_can_be_freed() -> None:
    held = {"object_id": "ab" * 28, "object_size": -1, "reference_type": "LOCAL_REFERENCE", "type": "DRIVER"}
    rows_of = model.object_rows(
        [
            {**held, "pid": 7, "task_status": "FINISHED", "is_owner": True},
            {**held, "pid": 7, "task_status": "PENDING", "is_owner": True},
            {**held, "pid": 8, "task_status": "FINISHED", "is_owner": True},
        ],
        {"ab" * 24: 3},
        label,
        own_pid=7,
    )
    assert rows_of[0].cells["cell"] == "In[3]"
    assert [bool(row.actions) for row in rows_of] == [True, False, False]
    assert len({row.key for row in rows_of}) == 3
    assert rows_of[0].cells["size"] is None


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    logs = TaskLogs(lambda: str(tmp_path))
    yield Reader(label, logs)
    logs.close()


def wrote(reader: Reader, task_id: str, text: str) -> None:
    assert reader._task_logs is not None
    reader._task_logs.add(Output(3, OutputKind.STDOUT, text, None, "f", 9, task_id))


def test_logs_are_shown_by_task_whole_where_they_are_expanded(reader: Reader, tmp_path: Path) -> None:
    engine: Any = None
    wrote(reader, "aa" * 24, "one\ntwo\n")
    wrote(reader, "bb" * 24, "other\n")
    snapshot = reader.logs(engine, ())
    assert [dict(row.cells) for row in snapshot.rows] == [
        {"process": "f bbbbbbbb", "cell": "In[3]", "size": 6, "line": "other"},
        {"process": "f aaaaaaaa", "cell": "In[3]", "size": 8, "line": "two"},
    ]
    key = snapshot.rows[1].key
    wrote(reader, "aa" * 24, "three\n")
    under = [row.cells["line"] for row in reader.logs(engine, (key,)).rows if row.parent == key]
    assert under == ["one", "two", "three"]
    wrote(reader, "aa" * 24, "".join(f"{n}\n" for n in range(1000)))
    found = reader.logs(engine, (key,))
    assert [row.cells["line"] for row in found.rows if row.parent == key] == [
        str(n) for n in range(800, 1000)
    ]
    assert found.notes == ("The last 200 lines of each task; %jray logs ID has all of them.",)
    assert found.table().rows[0]["line"] == "999"


def test_where_no_tasks_output_is_kept_the_workers_last_lines_are_shown(
    reader: Reader, tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "worker-12.log").write_text("from C\n\nmore\n", encoding="utf-8")
    engine: Any = SimpleNamespace(whereabouts=lambda: SimpleNamespace(session_dir=str(tmp_path)))
    snapshot = reader.logs(engine, ())
    assert [row.cells["line"] for row in snapshot.rows] == ["from C", "more"]
    assert [column.key for column in snapshot.columns()] == ["process", "line"]


def test_a_request_that_makes_no_sense_says_what_would() -> None:
    with pytest.raises(ValueError, match="no tab 'taks', but tasks, actors"):
        Request.from_json({"tab": "taks"})
    with pytest.raises(ValueError, match="no column 'pid'"):
        Request.from_json({"tab": "tasks", "sort": "pid"})
    assert Request.from_json({"count": 10_000}).count == model.MOST_ROWS


# --- the feed --------------------------------------------------------------------------------------


class World:
    """An engine, what reads it, a clock and a front end, all in one."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.cost_s = 0.0
        self.tallies: list[Tally] = []
        self.engine: Any = SimpleNamespace(watch=SimpleNamespace(tallies=lambda: self.tallies))
        self.current: Any = self.engine
        self.actor_names = ["a"]
        self.reads: list[tuple[str, float]] = []
        self.sent: list[dict[str, Any]] = []
        self.acts: list[tuple[str, str]] = []
        self.error: Exception | None = None
        self.feed = Feed(lambda: self.current, self, self.sent.append, self.act, lambda: self.now_s)

    def act(self, engine: Any, verb: str, target: str) -> str:
        self.acts.append((verb, target))
        if verb == "kill":
            raise ValueError("It is dead.")
        return "Done."

    def _read(self, what: str) -> None:
        if self.error is not None:
            raise self.error
        self.reads.append((what, self.now_s))
        self.now_s += self.cost_s

    def forget(self) -> None:
        self.reads.append(("forget", self.now_s))

    def ask_tasks(self, engine: Any, expanded: Any) -> None:
        self._read(f"ask {','.join(expanded)}".strip())

    def tasks(self, engine: Any, by: str) -> Snapshot:
        return Snapshot("tasks", model.task_rows(self.tallies, {}, (), {}, lambda _: "", label, by))

    def actors(self, engine: Any) -> Snapshot:
        self._read("actors")
        return Snapshot("actors", tuple(Row(name, {"name": name}) for name in self.actor_names))

    def objects(self, engine: Any) -> Snapshot:
        raise AssertionError("nobody looks at it")

    nodes = groups = objects

    def logs(self, engine: Any, expanded: Any) -> Snapshot:
        self._read(f"logs {','.join(expanded)}".strip())
        return Snapshot("logs")

    # for the tests

    def look(self, view: str = "v", **request: Any) -> None:
        self.feed.hear({"type": "view", "view": view, "visible": True, **request})

    def run(self, seconds: float) -> None:
        """Do what the thread does for so long."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            wait_s = self.feed.turn()
            if wait_s is None:
                self.now_s = end_s
                return
            self.now_s += wait_s

    def count(self, what: str) -> int:
        return sum(name == what for name, _ in self.reads)

    def state(self, view: str = "v") -> dict[str, Any]:
        found: dict[str, Any] = {}
        rest: dict[str, Any] = {}
        for message in self.sent:
            if message["type"] != "change" or message["view"] != view:
                continue
            if message["base"] == 0:
                found = {}
            rest |= message["change"].get("rows", {})
            if not message["change"].get("more"):
                found = model.apply(found, {**message["change"], "rows": rest})
                rest = {}
        return found


@pytest.fixture
def world() -> World:
    return World()


def test_nothing_is_read_while_nobody_looks(world: World) -> None:
    assert world.feed.turn() is None
    world.look(visible=False)
    assert world.feed.turn() is None
    assert (world.reads, world.sent) == ([], [])


def test_an_idle_cluster_is_told_once_and_asked_ever_more_seldom(world: World) -> None:
    world.look(tab="actors")
    world.run(120)
    assert len(world.sent) == 1
    assert world.count("actors") < 25
    assert world.state()["order"] == ["a"]


def test_busy_views_get_two_updates_a_second_at_most(world: World) -> None:
    world.look()
    for n in range(200):
        world.tallies = [Tally(1, "f", submitted=n + 1)]
        world.feed.turn()  # woken far more often than it has to
        world.now_s += 0.05
    assert 10 <= len(world.sent) <= 10 / SHORTEST_S + 1
    assert world.state()["rows"][":f"]["cells"]["total"] >= 190


def test_reading_never_costs_more_than_its_share(world: World) -> None:
    world.cost_s = 0.4
    world.look(tab="actors")
    started_s = world.now_s
    for n in range(400):
        world.actor_names = [f"a{n}"]
        world.tallies = [Tally(1, "f", submitted=n + 1)]
        world.run(0.5)
    assert world.count("actors") > 5
    assert world.count("actors") * world.cost_s <= MOST_SHARE * (world.now_s - started_s) + world.cost_s


def test_work_that_moves_has_a_quiet_tab_read_again_soon(world: World) -> None:
    world.look(tab="actors")
    world.run(60)
    world.actor_names = ["a", "b"]
    world.tallies = [Tally(1, "f", submitted=1)]
    world.run(2 * SHORTEST_S)
    assert world.state()["order"] == ["a", "b"]


def test_a_hidden_view_is_told_when_it_is_seen_again(world: World) -> None:
    world.look(tab="actors")
    world.run(1)
    world.look(tab="actors", visible=False)
    reads = len(world.reads)
    world.actor_names = ["b"]
    world.run(60)
    assert len(world.reads) == reads
    world.look(tab="actors")
    world.run(1)
    assert world.state()["order"] == ["b"]


def test_views_have_windows_of_their_own(world: World) -> None:
    world.actor_names = [f"a{n:03}" for n in range(500)]
    world.look("one", tab="actors", count=10)
    world.look("two", tab="actors", count=5, sort="name", descending=True)
    world.run(1)
    assert world.state("one")["order"] == world.actor_names[:10]
    assert world.state("two")["order"] == world.actor_names[:-6:-1]
    world.feed.hear({"type": "gone", "view": "one"})
    world.look("two", tab="actors", count=5, offset=100)
    sent = len(world.sent)
    world.feed.turn()
    assert [message["view"] for message in world.sent[sent:]] == ["two"]
    assert world.state("two")["order"] == world.actor_names[100:105]


def test_a_view_that_lost_its_way_gets_everything_again(world: World) -> None:
    world.look(tab="actors")
    world.run(1)
    world.sent.clear()
    world.look(tab="actors", reset=True)
    world.run(1)
    assert world.sent[0]["base"] == 0
    assert world.state()["order"] == ["a"]


def test_expanding_asks_for_single_tasks_at_once(world: World) -> None:
    world.tallies = [Tally(1, "f", submitted=1)]
    world.look()
    world.feed.turn()
    world.look(expanded=[":f"])
    world.feed.turn()
    assert [what for what, _ in world.reads if what.startswith("ask")] == ["ask", "ask :f"]


def test_expanding_asks_for_what_a_task_wrote_at_once(world: World) -> None:
    world.look(tab="logs")
    world.run(30)
    world.reads.clear()
    world.look(tab="logs", expanded=["log:x"])
    world.feed.turn()
    assert [what for what, _ in world.reads] == ["logs log:x"]


def test_after_shutdown_the_last_state_stays_and_a_new_cluster_takes_over(world: World) -> None:
    world.look(tab="actors")
    world.run(1)
    world.current = None
    world.run(1)
    assert world.state()["ribbon"] == DISCONNECTED
    assert world.state()["order"] == ["a"]
    sent = len(world.sent)
    world.run(10)
    assert len(world.sent) == sent
    world.current = SimpleNamespace(watch=world.engine.watch)
    world.actor_names = ["new"]
    world.run(1)
    assert world.state()["ribbon"] == ""
    assert world.state()["order"] == ["new"]


def test_an_engine_that_fails_is_named_and_tried_again(world: World) -> None:
    world.look(tab="actors")
    world.run(1)
    world.error = OSError("no route")
    world.run(10)
    assert world.state()["ribbon"] == "the cluster does not answer: no route"
    world.error = None
    world.run(10)
    assert world.state()["ribbon"] == ""


def test_a_defect_in_reading_a_tab_is_said_there_and_nowhere_else(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The tab shows what it last did, the others go on, it is tried again, and logged once."""
    world.tallies = [Tally(1, "f", submitted=1)]
    world.look("one", tab="actors")
    world.look("two")
    world.run(1)
    row: dict[str, Any] = {}
    monkeypatch.setattr(world, "actors", lambda _: row["class_name"])
    world.tallies = [Tally(1, "f", submitted=2)]
    world.run(60)
    ribbon = world.state("one")["ribbon"]
    assert ribbon.startswith(
        "Reading the tab Actors failed: KeyError: 'class_name'. This is a defect of jray"
    )
    assert "\n" not in ribbon
    assert world.state("one")["order"] == ["a"]
    assert world.state("two")["ribbon"] == ""
    assert world.state("two")["rows"][":f"]["cells"]["total"] == 2
    assert len(caplog.records) == 1
    monkeypatch.undo()
    world.run(60)
    assert world.state("one")["ribbon"] == ""


def test_calls_of_this_process_are_counted_also_when_others_cannot_be_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "ask_tasks", lambda *_: 1 // 0)
    world.look()
    for n in range(20):
        world.tallies = [Tally(1, "f", submitted=n + 1)]
        world.run(1)
        assert world.state()["ribbon"].startswith("Asking for tasks failed: ZeroDivisionError")
    assert world.state()["rows"][":f"]["cells"]["total"] == 20


def test_a_defect_in_the_model_is_said_and_the_other_views_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.look("one", tab="actors")
    world.look("two", tab="actors", filter="x")
    world.run(1)
    view_of = model.view_of

    def broken(snapshot: Snapshot, request: Request, ribbon: str = "") -> dict[str, Any]:
        if request.filter:
            raise TypeError("not\nthis")
        return view_of(snapshot, request, ribbon)

    monkeypatch.setattr(model, "view_of", broken)
    world.actor_names = ["a", "x"]
    world.run(10)
    assert world.state("one")["order"] == ["a", "x"]
    assert world.state("two")["ribbon"].startswith("Showing the tab Actors failed: TypeError: not. This")
    monkeypatch.undo()
    world.run(10)
    assert (world.state("two")["ribbon"], world.state("two")["order"]) == ("", ["x"])


def test_no_defect_ends_the_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one in the feed itself: whoever looks is told, and the next turn is taken."""
    said = threading.Event()
    turns = threading.Semaphore(0)

    def send(message: dict[str, Any]) -> None:
        world.sent.append(message)
        if "Updating the panel failed: LookupError" in str(message):
            said.set()

    feed = Feed(lambda: world.current, world, send, world.act)
    feed.hear({"type": "view", "view": "v", "visible": True, "tab": "actors"})
    feed.turn()

    def broken() -> float:
        turns.release()
        raise LookupError("what is this")

    monkeypatch.setattr(feed, "turn", broken)
    feed.start()
    assert said.wait(30)
    assert "disconnected" not in world.state()["ribbon"]
    for _ in range(3):
        assert turns.acquire(timeout=30)
        feed.hear({"type": "gone", "view": "w"})
    feed.close()


def test_what_cannot_be_sent_is_sent_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.look(tab="actors")
    monkeypatch.setattr(world.feed, "_send", lambda _: 1 // 0)
    world.run(1)
    monkeypatch.undo()
    world.run(1)
    assert world.sent[0]["base"] == 0
    assert world.state()["order"] == ["a"]


def test_buttons_are_answered_also_when_they_fail(world: World) -> None:
    world.feed.hear({"type": "act", "view": "v", "id": 1, "verb": "free", "target": "x"})
    world.feed.hear({"type": "act", "view": "v", "id": 2, "verb": "kill", "target": "y"})
    assert world.acts == []  # hearing does nothing yet: it may be the main thread that hears
    world.feed.turn()
    assert world.acts == [("free", "x"), ("kill", "y")]
    assert [(m["id"], m["ok"], m["text"]) for m in world.sent] == [
        (1, True, "Done."),
        (2, False, "It is dead."),
    ]


def test_before_any_view_speaks_one_is_presumed_for_a_while(world: World) -> None:
    world.tallies = [Tally(1, "f", submitted=1)]
    world.feed.expect()
    world.run(1)
    assert world.state(ANY_VIEW)["order"] == [":f"]
    world.run(PRESUMED_S + 1)
    assert world.feed.turn() is None


def test_a_view_that_speaks_ends_the_presumption(world: World) -> None:
    world.feed.expect()
    world.feed.turn()
    world.look(visible=False)
    assert world.feed.turn() is None


def test_the_thread_ends_with_the_feed(world: World) -> None:
    feed = Feed(lambda: world.current, world, world.sent.append, world.act)
    feed.start()
    thread = feed._thread
    assert thread is not None
    assert thread.is_alive()
    feed.close()
    thread.join(30)
    assert not thread.is_alive()
    feed.start()
    assert feed._thread is thread


def test_what_makes_no_sense_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="not 'shout'"):
        world.feed.hear({"type": "shout"})


# --- the whole -------------------------------------------------------------------------------------


def test_without_a_cluster_the_panel_says_how_to_start_one() -> None:
    panel = Panel(lambda: None, label, has_front_end=True, is_same_each_time=True)
    assert repr(panel) == "<jray.panel>"
    assert "jray.init()" in str(panel)
    assert "jray.init()" in panel._repr_mimebundle_()["text/html"]
    with pytest.raises(RuntimeError, match="not running"):
        panel.table("tasks")
    with pytest.raises(ValueError, match="no tab 'taks'"):
        panel.table("taks")


def test_what_cannot_be_read_is_said_among_the_tables() -> None:
    def rows(*_: Any, **__: Any) -> Any:
        raise LookupError("no <rows>")

    cluster = SimpleNamespace(
        rows=rows, nodes=list, resources=lambda: {"CPU": 2.0}, available=lambda: {"CPU": 1.0}
    )
    engine: Any = SimpleNamespace(
        engine_name="jray",
        cluster=cluster,
        watch=SimpleNamespace(tallies=list),
        whereabouts=lambda: SimpleNamespace(session_dir=""),
    )
    panel = Panel(lambda: engine, label, has_front_end=False, is_same_each_time=False)
    assert set(panel._repr_mimebundle_()) == {"text/plain"}
    assert "Tasks cannot be read: LookupError: no <rows>" in str(panel)
    assert "Nodes: 1" in str(panel)
    panel = Panel(lambda: engine, label, has_front_end=True, is_same_each_time=True)
    assert "LookupError: no &lt;rows&gt;" in panel._repr_mimebundle_()["text/html"]


def test_the_front_end_has_the_same_tabs() -> None:
    code = (FOLDER / "panel.js").read_text("utf-8")
    for name, title in model.TITLES.items():
        assert f'["{name}", "{title}"]' in code
        assert re.search(rf"^  {name}: \"", code, re.MULTILINE)
    assert list(model.TITLES) == list(model.TABS)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_front_end_is_javascript_and_applies_changes_as_python_does(tmp_path: Path) -> None:
    first = model.view_of(Snapshot("actors", tuple(Row(k, {"name": k}) for k in "abc")), Request("actors"))
    second = model.view_of(
        Snapshot("actors", (Row("c", {"name": "C"}), Row("a", {"name": "a"}), Row("d", {}))),
        Request("actors"),
        "off",
    )
    change = model.diff(first, second)
    script = tmp_path / "check.mjs"
    shutil.copy(FOLDER / "panel.js", tmp_path / "panel.mjs")
    script.write_text(
        "import panel, { applied } from './panel.mjs';\n"
        "if (typeof panel.initialize !== 'function' || typeof panel.render !== 'function') throw new Error('no');\n"
        f"console.log(JSON.stringify(applied({json.dumps(first)}, {json.dumps(change)})));\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [str(shutil.which("node")), str(script)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == second


def test_the_front_end_makes_no_markup_of_text_and_fetches_nothing() -> None:
    code = (FOLDER / "panel.js").read_text("utf-8") + (FOLDER / "panel.css").read_text("utf-8")
    for word in (
        "innerHTML",
        "insertAdjacentHTML",
        "outerHTML",
        "eval(",
        "fetch(",
        "http:",
        "https:",
        "@import",
    ):
        assert word not in code
