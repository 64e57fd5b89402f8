"""The commands of `%jray` over an engine that is tables: what they show, and what they ask it to do."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from jray._core.engine import Demand, Stopped, Tally
from jray._core.refs import ObjectRef
from jray.actor import ActorHandle, ActorMeta
from jray.exceptions import RaySystemError
from jray.notebook import doctor
from jray.notebook.cells import CellTable
from jray.notebook.command_table import COMMANDS
from jray.notebook.context import Context
from jray.notebook.listing import Listing
from tests.notebook.fake_engine import JOB, FakeEngine


class Desk:
    """A notebook with two cells run, In[4] and In[7], over a fake engine."""

    def __init__(self, shell: InteractiveShell, runtime: Any) -> None:
        self.shell: Any = shell
        self.engine = FakeEngine()
        self.is_deterministic = False
        self.cells = CellTable()
        for execution_count in (4, 7):
            self.cells.add({}, cell_id=None, execution_count=execution_count, notebook=None)
        engine: Any = self.engine
        self.context = Context(
            shell, runtime, self.cells, lambda: engine, is_deterministic=lambda: self.is_deterministic
        )

    @property
    def names(self) -> dict[str, Any]:
        found: dict[str, Any] = self.shell.user_ns
        return found

    def run(self, line: str) -> Any:
        return COMMANDS.run(self.context, line)

    def table(self, line: str) -> Listing:
        found = self.run(line)
        assert isinstance(found, Listing)
        return found


@pytest.fixture
def desk(shell: InteractiveShell, runtime: Any) -> Iterator[Desk]:
    found = Desk(shell, runtime)
    found.names["_oh"] = found.names["Out"] = {}
    yield found
    for name in ("_", "__", "___"):
        setattr(found.shell.displayhook, name, "")


# --- tasks -----------------------------------------------------------------------------------------


@pytest.fixture
def busy(desk: Desk) -> Desk:
    """Two functions of two cells: what runs, waits, is done, and failed."""
    engine = desk.engine
    engine.task(1, "load", "FINISHED", cell=1, start_time_ms=0.0, end_time_ms=1500.0)
    engine.task(2, "load", "FAILED", cell=1, error_message="Traceback\n  ...\nValueError: <no> file")
    engine.task(3, "fit", "RUNNING", cell=2, worker_pid=4321)
    engine.task(4, "fit", "PENDING_NODE_ASSIGNMENT", cell=2)
    engine.task(5, "fit", "PENDING_NODE_ASSIGNMENT", cell=2, job_id="02000000")
    return desk


def test_tasks_are_grouped_by_function_and_cell(busy: Desk) -> None:
    """Open ones first; a task of another job belongs to no cell of this notebook."""
    table = busy.table("tasks")
    assert table.title == "5 tasks: 2 waiting, 1 running, 1 finished, 1 failed"
    assert [(row["name"], row["cell"], row["waiting"], row["running"]) for row in table] == [
        ("fit", "In[7]", 1, 1),
        ("fit", "", 1, 0),
        ("load", "In[4]", 0, 0),
    ]
    assert (table.rows[2]["finished"], table.rows[2]["failed"]) == (1, 1)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tasks --all", {"01", "02", "03", "04", "05"}),
        ("tasks --failed", {"02"}),
        ("tasks --all --state waiting", {"04", "05"}),
        ("tasks --all --state RUNNING", {"03"}),
        ("tasks --all --name load", {"01", "02"}),
        ("tasks --all --cell In[7]", {"03", "04"}),
        ("tasks --all --cell 4", {"01", "02"}),
        ("tasks --all --limit 1", {"01"}),
    ],
)
def test_tasks_can_be_chosen(busy: Desk, line: str, expected: set[str]) -> None:
    """By state, name, cell and number; each has its row and its id."""
    assert {row["task_id"][:2] for row in busy.table(line)} == expected


def test_a_failed_task_is_listed_with_its_error(busy: Desk) -> None:
    """The line that names the error, escaped in the HTML."""
    table = busy.table("tasks --failed")
    assert "ValueError: <no> file" in repr(table)
    html = table._repr_html_()
    assert "ValueError: &lt;no&gt; file" in html
    assert "<no>" not in html


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tasks --name laod", "no task of the name 'laod'; did you mean 'load'"),
        ("tasks --cell In[99]", r"In\[99\] was not run"),
        ("tasks --cell first", "give a cell as"),
        ("tasks --failed --state running", "leave no task"),
        ("tasks --state bogus", "invalid choice"),
    ],
)
def test_a_choice_of_nothing_is_said(busy: Desk, line: str, message: str) -> None:
    """A name or cell that does not exist is no empty table."""
    with pytest.raises(UsageError, match=message):
        busy.run(line)


def test_the_same_notebook_shows_the_same_table(busy: Desk) -> None:
    """Where output must not change between runs, ids, pids and times are left out; the rows have them."""
    busy.is_deterministic = True
    table = busy.table("tasks --all")
    assert "4321" not in repr(table) + table._repr_html_()
    assert "0101" not in repr(table)
    assert table.rows[2]["worker_pid"] == 4321
    assert "typical" not in repr(busy.table("tasks"))


def test_without_a_cluster_the_commands_say_how_to_get_one(desk: Desk) -> None:
    """They start nothing."""
    desk.context = Context(desk.shell, desk.context.runtime, desk.cells, lambda: None)
    for line in ("tasks", "actors", "objects", "nodes", "memory", "free x", "cancel --all", "why"):
        with pytest.raises(UsageError, match="Start it with %jray start"):
            desk.run(line)


# --- actors, objects, nodes ------------------------------------------------------------------------


def test_actors_are_listed_with_what_they_have_to_do(desk: Desk) -> None:
    """Dead ones only when asked for, and then with the cause."""
    actor_id = desk.engine.actor(1, "Trainer", "ALIVE", required_resources={"CPU": 1.0})
    desk.engine.actor(2, "Old", "DEAD", death_cause={"context": {"error_message": "its node\n went"}})
    for number in (1, 2):
        desk.engine.task(number, "Trainer.step", "RUNNING", actor_id=actor_id)
    table = desk.table("actors")
    assert [(row["class_name"], row["status"], row["calls"], row["cell"]) for row in table] == [
        ("Trainer", "alive", 2, "In[4]")
    ]
    assert "1 CPU" in repr(table)
    assert "1 actor died or ended" in repr(table)
    assert "its node went" in repr(desk.table("actors --state dead"))


def test_objects_say_what_made_and_what_holds_them(desk: Desk) -> None:
    """The largest first; those of this notebook by the names that hold them."""
    small, large = desk.engine.task(1, "f", "FINISHED"), desk.engine.task(2, "g", "FINISHED")
    desk.engine.object(small, 2048)
    desk.engine.object(large, 5_000_000)
    desk.engine.object(large, 5_000_000, type="WORKER", reference_type="PINNED_IN_MEMORY", pid=9)
    desk.names["x"] = small
    desk.names["parts"] = [large]
    table = desk.table("objects")
    assert table.title == "2 objects, 4.8 MiB"
    assert [(row["made_by"], row["holder"], row["kind"]) for row in table] == [
        ("g()", "a list in `parts`", "reference"),
        ("g()", "a worker", "being read"),
        ("f()", "variable `x`", "reference"),
    ]
    assert [row["made_by"] for row in desk.table("objects --min-size 1")] == ["g()", "g()"]


def test_nodes_are_listed(desk: Desk) -> None:
    """What marks a node is not what it offers."""
    desk.engine.rows["nodes"] = [
        {
            "node_id": "ab" * 28,
            "state": "ALIVE",
            "node_name": "n1",
            "resources_total": {"CPU": 2.0, "node:x": 1.0},
        }
    ]
    assert "2 CPU" in repr(desk.table("nodes"))
    assert "node:x" not in repr(desk.table("nodes"))


# --- memory and free -------------------------------------------------------------------------------


@pytest.fixture
def holding(desk: Desk) -> Desk:
    """An object that a variable, an output, `_` and the last traceback hold."""
    ref = desk.engine.task(1, "f", "FINISHED")
    desk.engine.object(ref, 2**20)
    desk.engine.used = 2.0**20
    desk.names["x"] = ref
    desk.names["_oh"][3] = desk.names["_3"] = [ref]
    desk.names["_"] = ref
    desk.shell.displayhook._ = ref
    return desk


def test_memory_names_what_holds_an_object(holding: Desk) -> None:
    """A variable, an output, and the last output, each by its name."""
    table = holding.table("memory")
    assert table.title == "Object store: 1.0 MiB of 100 MiB (1 %) in use; 1 value referred to"
    assert table.rows[0]["holder"] == "variable `x`, a list in Out[3], `_`"
    assert "%jray free --out lets go of them" in repr(table)


def test_memory_names_the_last_traceback(desk: Desk) -> None:
    """What a failed function's frame holds is found, and let go of."""
    ref = desk.engine.task(1, "f", "FINISHED")
    desk.engine.object(ref, 2**20)

    def fail(argument: Any) -> None:
        raise ValueError

    try:
        fail(ref)
    except ValueError as error:
        sys.last_traceback = error.__traceback__
    holder = desk.table("memory").rows[0]["holder"]
    assert "the last traceback (`argument`)" in holder
    desk.run("free --out")
    assert not hasattr(sys, "last_traceback")


def test_free_takes_a_variable_and_what_ipython_keeps_of_it(
    holding: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of the notebook refers to it any more, and no value was dropped by force."""
    other = holding.names["y"] = holding.engine.task(9, "g", "FINISHED")
    holding.names["_oh"][5] = other
    holding.run("free x")
    assert "x" not in holding.names
    assert holding.names["_oh"] == {5: other}
    assert (holding.names["_"], holding.shell.displayhook._) == ("", "")
    assert "_3" not in holding.names
    assert holding.engine.freed == []
    assert capsys.readouterr().out == "jray: dropped x, Out[3]; 0 B came back.\n"


def test_free_says_who_still_holds_it(holding: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """A value with another name does not go."""
    holding.names["parts"] = {"a": holding.names["x"]}
    holding.run("free Out[3]")
    assert "still held by a dict in `parts`, variable `x`" in capsys.readouterr().out


def test_free_by_force_drops_the_values(holding: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """The variable stays, and the engine is told; what came back is said."""
    ref = holding.names["x"]

    def free(refs: list[Any]) -> None:
        holding.engine.freed += refs
        holding.engine.used = 0.0

    holding.engine.free = free  # type: ignore[method-assign]
    holding.run("free x --force")
    assert holding.engine.freed == [ref]
    assert holding.names["x"] is ref
    assert capsys.readouterr().out == "jray: dropped the values of 1 ObjectRef of x; 1.0 MiB came back.\n"


def test_free_of_all_outputs_leaves_variables(holding: Desk) -> None:
    """--out empties Out and `_` of references, and of nothing else."""
    holding.names["_oh"][4] = "text"
    holding.run("free --out")
    assert holding.names["_oh"] == {4: "text"}
    assert isinstance(holding.names["x"], ObjectRef)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("free", "takes a variable"),
        ("free x --out", "takes a variable"),
        ("free nothing", "no variable 'nothing'"),
        ("free plain", "holds no ObjectRef"),
        ("free Out[99]", "had no output"),
    ],
)
def test_free_of_nothing_is_said(holding: Desk, line: str, message: str) -> None:
    """Each with what could be meant."""
    holding.names["plain"] = 5
    with pytest.raises(UsageError, match=message):
        holding.run(line)


# --- cancel ----------------------------------------------------------------------------------------


def test_cancel_of_a_cell_stops_it(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """The engine stops what it submitted, and what was found is said."""
    desk.engine.found = Stopped(running=3, waiting=41)
    desk.run("cancel In[7]")
    assert desk.engine.stops == [(2, False)]
    assert capsys.readouterr().out == "jray: cancelled 3 running and 41 waiting tasks.\n"


def test_cancel_of_all_stops_every_cell(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Also what no cell has submitted; the newest first."""
    desk.engine.tallied = [Tally(0, "f"), Tally(2, "f"), Tally(1, "g"), Tally(2, "g")]
    desk.run("cancel --all --force")
    assert desk.engine.stops == [(2, True), (1, True), (0, True)]
    assert capsys.readouterr().out == "jray: nothing was running or waiting.\n"


def test_cancel_by_name_id_and_variable(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """A function means its open tasks, the beginning of an id one, a variable what it holds."""
    desk.engine.task(1, "f", "RUNNING")
    waits = desk.engine.task(2, "f", "PENDING_NODE_ASSIGNMENT")
    other = desk.engine.task(3, "g", "RUNNING")
    done = desk.engine.task(4, "f", "FINISHED")
    desk.run("cancel f")
    assert desk.engine.asked_to_cancel.pop() == ([], "f", False)
    assert "1 running and 1 waiting tasks" in capsys.readouterr().out
    desk.run("cancel 0303 --force")
    assert desk.engine.asked_to_cancel.pop() == ([other.task_id().hex()], None, True)
    assert "cancelled 1 running task" in capsys.readouterr().out
    desk.run("cancel 0404")
    assert "nothing was running or waiting" in capsys.readouterr().out
    desk.names["refs"] = [waits, done]
    desk.run("cancel refs")
    assert desk.engine.cancelled == [(waits, False)]
    desk.engine.cancelled.clear()
    desk.run("cancel refs[0]")
    assert desk.engine.cancelled == [(waits, False)]


def test_cancel_tells_what_it_cannot_reach(desk: Desk) -> None:
    """An engine that cancels by refs alone says so."""
    desk.engine.task(1, "f", "RUNNING")

    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError("Only by its ref.")

    desk.engine.watch.cancel = refuse
    with pytest.raises(UsageError, match="Only by its ref"):
        desk.run("cancel f")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cancel", "takes a task"),
        ("cancel --all f", "takes a task"),
        ("cancel ff", "did you mean 'f'"),
        ("cancel In[99]", "was not run"),
        ("cancel 0101", "2 tasks have ids that begin with"),
    ],
)
def test_cancel_of_nothing_is_said(desk: Desk, line: str, message: str) -> None:
    """It never guesses."""
    desk.engine.task(1, "f", "RUNNING")
    row = dict(desk.engine.rows["tasks"][0])
    desk.engine.rows["tasks"].append({**row, "task_id": "0101" + "ff" * 22})
    with pytest.raises(UsageError, match=message):
        desk.run(line)


# --- why -------------------------------------------------------------------------------------------


def reason(desk: Desk, line: str) -> str:
    (row,) = desk.table(line).rows
    return str(row["reason"])


def test_why_names_the_arguments_that_lack(desk: Desk) -> None:
    """By function, cell and state; those that have a value are not named."""
    first = desk.engine.task(1, "load", "RUNNING")
    second = desk.engine.task(2, "load", "RUNNING")
    done = desk.engine.task(3, "tidy", "FINISHED")
    ref = desk.names["x"] = desk.engine.task(4, "fit", "PENDING_ARGS_AVAIL", cell=2)
    ref._data = types.SimpleNamespace(dependencies=[first, second, done])
    assert reason(desk, "why x") == "it waits for its arguments: 2 x load() In[4] (running)"


def test_why_names_the_resources_and_who_holds_them(desk: Desk) -> None:
    """The node's reason, with the tasks and actors that have what is wanted."""
    desk.engine.task(1, "load", "RUNNING")
    desk.engine.actor(1, "Trainer", "ALIVE", required_resources={"CPU": 1.0})
    desk.engine.task(2, "fit", "PENDING_NODE_ASSIGNMENT", cell=2)
    desk.engine.waiting_for = [Demand("fit", 2, 1, "waits for 1 CPU: 2 of 2 are in use")]
    assert reason(desk, "why fit") == (
        "waits for 1 CPU: 2 of 2 are in use (held by load() In[4] (running), actor Trainer In[4])"
    )


def test_why_of_a_call_is_its_actor_or_the_calls_before(desk: Desk) -> None:
    """An actor that is not there, is dead, or has others to serve first."""
    actor_id = desk.engine.actor(1, "Trainer", "ALIVE")
    desk.engine.task(1, "Trainer.step", "RUNNING", actor_id=actor_id, required_resources={})
    state = "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY"
    desk.names["x"] = desk.engine.task(2, "Trainer.step", state, actor_id=actor_id)
    assert reason(desk, "why x") == "1 call of the actor Trainer comes before it"
    desk.engine.rows["actors"][0]["state"] = "PENDING_CREATION"
    desk.engine.waiting_for = [Demand("actor Trainer", 1, 1, "waits for 1 GPU: there is none")]
    assert reason(desk, "why x") == "its actor Trainer is pending: waits for 1 GPU: there is none"
    desk.engine.rows["actors"][0] |= {"state": "DEAD", "death_cause": "it was killed"}
    assert reason(desk, "why x") == "its actor Trainer is dead: it was killed"


def test_why_of_what_waits_in_get_names_its_children(desk: Desk) -> None:
    """A task that waits for tasks of its own."""
    parent = desk.engine.task(1, "outer", "RUNNING_IN_RAY_GET")
    desk.engine.task(2, "inner", "PENDING_NODE_ASSIGNMENT", parent_task_id=parent.task_id().hex())
    desk.is_deterministic = True
    assert reason(desk, "why outer") == "it runs, and waits in jray.get for inner() In[4] (waiting)"


def test_why_of_what_ended_is_how(desk: Desk) -> None:
    """Done, or failed with what; equal ones are counted."""
    refs = [desk.engine.task(n, "f", "FINISHED") for n in (1, 2)]
    refs.append(desk.engine.task(3, "f", "FAILED", error_message="jray::f()\n  a\nKeyError: 'x'"))
    desk.names["refs"] = refs
    rows = desk.table("why refs").rows
    assert [(row["count"], row["reason"]) for row in rows] == [
        (2, "it is done"),
        (1, "it failed: KeyError: 'x'"),
    ]


CRASH = (
    "The actor A is dead: its process died.\nIts process exited with status 3.\n\tclass_name: A\n\tpid: 682"
    "\nLast lines of its stderr:\n  the end"
)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ('jray::f() (pid=1, ip=h)\n  File "x", line 2, in f\n    raise\nValueError: a\nb', "ValueError: a b"),
        (CRASH, "The actor A is dead: its process died. Its process exited with status 3."),
        (
            f"jray::dep()\n  At least one of the input arguments:\njray.exceptions.ActorDiedError: {CRASH}",
            "jray.exceptions.ActorDiedError: The actor A is dead: its process died. Its process exited with status 3.",
        ),
        ("jray::f() (pid=1, ip=h)\nValueError: no", "ValueError: no"),
        ("The worker (pid 9) was killed by SIGKILL while it ran task f.", None),
    ],
)
def test_why_of_what_failed_is_what_its_error_says(desk: Desk, message: str, said: str | None) -> None:
    """Without the traceback before it, and without the facts about a process after it."""
    desk.engine.task(1, "f", "FAILED", error_message=message)
    assert reason(desk, "why f") == f"it failed: {message if said is None else said}"
    assert desk.table("tasks --failed").rows[0]["error"] == (message if said is None else said)


def test_why_takes_several_names(desk: Desk) -> None:
    """An expression with spaces is one all the same; a name that means nothing is named."""
    desk.names["refs"] = [desk.engine.task(1, "f", "FINISHED"), desk.engine.task(2, "g", "FINISHED")]
    desk.names["x"] = desk.engine.task(3, "h", "FINISHED")
    assert [row["what"] for row in desk.table("why refs[ 1 ]")] == ["g()"]
    assert [row["what"] for row in desk.table("why x refs[0]")] == ["h()", "f()"]
    with pytest.raises(UsageError, match=r"^'bogus' is no variable"):
        desk.run("why x bogus")


def test_why_of_actors_counts_those_that_are_to_come_as_not_done(desk: Desk) -> None:
    """One that lives or is dead is asked about, and waits for nothing."""
    desk.engine.actor(1, "Old", "DEAD", death_cause="its process died: it exited with status 3")
    client = types.SimpleNamespace(actors={})
    for number, why in ((1, "it exited with status 3"), (9, "this cluster does not know it")):
        actor_id = bytes([number]) * 12 + JOB
        client.actors = {actor_id: None}
        desk.names["a"] = ActorHandle(client, actor_id, ActorMeta("Old", {}, 0, -1), None)
        assert desk.table("why a").title == "1 actor"
        assert why in reason(desk, "why a")
    assert desk.table("why").title == "Nothing waits."


def test_a_cluster_that_is_gone_is_said_by_every_command_without_frames(desk: Desk) -> None:
    """And the doctor says what to do."""

    def gone(*_: Any, **__: Any) -> Any:
        raise RaySystemError("The connection is lost. Call jray.init().")

    desk.engine.cluster = types.SimpleNamespace(
        rows=gone, nodes=gone, resources=gone, available=gone, actor_names=gone
    )
    for line in ("tasks", "actors", "objects", "nodes", "memory", "why", "why x"):
        with pytest.raises(UsageError, match=r"^The connection is lost\. Call jray\.init\(\)\.$"):
            desk.run(line)
    table = desk.table("doctor")
    (row,) = [row for row in table if row["name"] == "cluster"]
    assert (row["result"], row["text"]) == ("warn", "The connection is lost")
    assert "cluster: Call jray.init()." in table.notes


def test_why_without_an_argument_lists_what_is_open(desk: Desk) -> None:
    """Grouped by function, cell and reason; nothing that has ended."""
    desk.engine.task(1, "f", "FINISHED")
    assert desk.table("why").title == "Nothing waits."
    for number in (2, 3):
        desk.engine.task(number, "g", "SUBMITTED_TO_WORKER")
    desk.engine.actor(1, "Slow", "PENDING_CREATION")
    table = desk.table("why")
    assert table.title == "3 not done"
    assert [(row["what"], row["count"]) for row in table] == [("actor Slow", 1), ("g()", 2)]


def test_why_of_nothing_is_said(desk: Desk) -> None:
    """A name that is none, and an expression that fails."""
    desk.names["refs"] = []
    with pytest.raises(UsageError, match="no variable with ObjectRefs"):
        desk.run("why bogus")
    with pytest.raises(UsageError, match="IndexError"):
        desk.run("why refs[3]")


def test_why_runs_nothing_of_the_users(desk: Desk) -> None:
    """A call is no question."""
    ran: list[int] = []
    desk.names["f"] = lambda: ran.append(1)
    with pytest.raises(UsageError, match="no variable"):
        desk.run("why f()")
    assert ran == []


# --- doctor ----------------------------------------------------------------------------------------


def test_the_doctor_looks_at_everything(desk: Desk) -> None:
    """Each part of the environment has its line."""
    names = {row["name"] for row in desk.table("doctor")}
    assert {"python", "ipykernel", "/dev/shm", "memory", "CPUs", "open files", "sessions"} <= names
    assert {"server extension", "kernel", "front end", "cluster"} <= names


def test_the_doctor_never_falls_ill(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that raises is a line of the list."""

    def check_moon(_context: Context) -> Iterator[doctor.Finding]:
        yield doctor.Finding("tide", "high")
        raise OSError("cloudy")

    monkeypatch.setattr(doctor, "_CHECKS", (check_moon,))
    table = desk.table("doctor")
    assert [row["result"] for row in table] == ["ok", "warn"]
    assert "could not be looked at: OSError: cloudy" in repr(table)
    assert table.title == "1 thing to look at:"


def test_the_doctor_finds_what_the_dead_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """A session's directory that nobody locks, with the way to be rid of it."""
    monkeypatch.setenv("JRAY_RUNTIME_DIR", str(tmp_path))

    dead = tmp_path / f"jray-{os.geteuid()}-gone"
    dead.mkdir()
    (dead / "lock").touch()
    (row,) = [row for row in desk.table("doctor") if row["name"] == "sessions"]
    assert row["result"] == "warn"
    assert f"rm -r {dead}" in row["remedy"]
