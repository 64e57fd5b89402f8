"""`%jray`'s commands, `%%actor` and `%autoremote` in a real kernel, on real workers."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# A kernel and a cluster take seconds to start; the tests of this file share them.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def session(kernel: Any) -> Iterator[Any]:
    """A kernel with a cluster of two CPUs and the extension loaded."""
    said = kernel.run("%load_ext jray\nimport jray, os, time\njray.init(num_cpus=2)")
    assert [m["content"] for m in said if m["msg_type"] == "error"] == []
    yield kernel
    kernel.run("jray.shutdown()")


def run(session: Any, code: str) -> str:
    """Run a cell to its end, expect no error, and return its request's id."""
    request = str(session.start(textwrap.dedent(code)))
    session.wait_idle(request)
    assert session.errors(request) == []
    return request


def shown(session: Any, code: str) -> str:
    """Run a cell, and return the text of the one thing that it displays."""
    (found,) = session.displays(run(session, code))
    return str(found["text/plain"])


class Held:
    """Tasks of the kernel that run until a file is there; each leaves a mark when it begins."""

    def __init__(self, session: Any, gate: Path) -> None:
        self._session = session
        self.gate = gate
        run(
            session,
            f"""
            gate = {str(gate)!r}
            @jray.remote
            def hold(*arguments):
                open(f'{{gate}}-{{os.getpid()}}', 'w').close()
                while not os.path.exists(gate):
                    time.sleep(0.02)
                return bytes(2_000_000)
            """,
        )

    def wait_running(self, count: int) -> None:
        self._session.wait_until(lambda: len(list(self.gate.parent.glob(f"{self.gate.name}-*"))) >= count)


@pytest.fixture
def held(session: Any, tmp_path: Path) -> Iterator[Held]:
    """Tasks to come that are held; at the end none of them is left."""
    made = Held(session, tmp_path / "gate")
    yield made
    made.gate.touch()
    run(session, "%jray cancel --all")
    run(
        session,
        """
        from jray._core.refs import current
        while any(tally.submitted > tally.ended for tally in current.client.watch.tallies()):
            time.sleep(0.02)
        """,
    )


def test_tasks_carry_the_number_of_their_cell(session: Any, held: Held) -> None:
    """The table says In[n] as the notebook does, and the same n chooses them."""
    run(session, "first = hold.remote()\ncell = f'In[{len(In) - 1}]'")
    held.wait_running(1)
    run(session, "table = %jray tasks --state running --all")
    assert shown(session, "[(row['name'], row['cell'] == cell) for row in table]") == "[('hold', True)]"
    run(session, "chosen = %jray tasks --cell {cell} --all")
    assert shown(session, "len(chosen)") == "1"


def test_why_names_what_is_waited_for(session: Any, held: Held) -> None:
    """Arguments, resources with those that hold them, an actor that cannot start."""
    run(
        session,
        """
        @jray.remote(num_cpus=1)
        class Patient:
            def wake(self): return 'up'
        running = [hold.remote(), hold.remote()]
        """,
    )
    held.wait_running(2)
    run(session, "third, after, patient = hold.remote(), hold.remote(running[0]), Patient.remote()")
    assert "it runs for" in shown(session, "%jray why running[0]")
    assert "it waits for its arguments: hold() In[" in shown(session, "%jray why after")
    why = shown(session, "%jray why third")
    assert "waits for 1 CPU" in why
    assert "held by 2 x hold() In[" in why
    assert "waits for 1 CPU" in shown(session, "%jray why patient")
    run(session, "up = patient.wake.remote()")
    assert "its actor Patient is pending" in shown(session, "%jray why up")
    run(session, "del patient, up")


def test_cancel_of_a_cell_leaves_others_alone(session: Any, held: Held) -> None:
    """It says what was running and waiting, and another cell's task goes on."""
    run(session, "other = hold.remote()")
    run(session, "mine = [hold.remote() for _ in range(3)]\ncell = f'In[{len(In) - 1}]'")
    held.wait_running(2)
    request = run(session, "%jray cancel {cell}")
    assert session.text(request) == "jray: cancelled 1 running and 2 waiting tasks.\n"
    ended = "all(isinstance(ref.exception(30), jray.exceptions.TaskCancelledError) for ref in mine)"
    assert shown(session, ended) == "True"
    assert shown(session, "other.status()") == "'RUNNING'"
    assert session.text(run(session, "%jray cancel other")) == "jray: cancelled 1 running task.\n"


def test_free_gives_the_room_back(session: Any) -> None:
    """What Out held is named by memory, and is gone after free."""
    run(session, "big = jray.put(bytes(3_000_000))")
    number = shown(session, "len(In) - 1")
    run(session, "big")
    memory = shown(session, "%jray memory")
    assert "2.9 MiB" in memory
    assert f"variable `big`, Out[{int(number) + 1}]" in memory
    request = run(session, "%jray free big")
    assert f"dropped big, Out[{int(number) + 1}]" in session.text(request)
    assert "2.9 MiB came back" in session.text(request)
    assert shown(session, "'big' in globals()") == "False"


def test_memory_names_the_cell_and_line_that_made_what_and_what_holds_it(session: Any) -> None:
    """Also code of one cell that another has run, in a worker as here; an array; an attribute of an actor."""
    run(
        session,
        """
        import gc
        import numpy as np
        @jray.remote
        def made_by_task(n):
            return np.zeros(n)
        def put_here(n):
            return jray.put(np.zeros(n))
        @jray.remote(num_cpus=0)
        class Keeper:
            def keep(self, n):
                self.kept = [jray.put(np.zeros(n))]
            def take(self, box):
                self.taken = box[0]
        defined = f'In[{len(In) - 1}]'
        """,
    )
    run(
        session,
        """
        keeper = Keeper.remote()
        one = made_by_task.remote(100_001)
        two = [made_by_task.remote(100_002) for _ in range(1)]
        three = put_here(100_003)
        jray.get([keeper.keep.remote(100_004), keeper.take.remote([three])])
        array = jray.get(made_by_task.remote(100_005))
        inner = jray.put(np.zeros(100_006))
        outer = jray.put(['x' * 200_000, inner])
        del inner
        jray.wait([one, *two], num_returns=2)
        ran = f'In[{len(In) - 1}]'
        """,
    )
    run(session, "table = %jray memory")
    rows = eval(  # noqa: S307 -- it is what this test had displayed
        shown(
            session,
            """
            gc.collect()
            [(row['made_by'], row['cell'], row['holder'], row['kind']) for row in table if row['size'] < 1_000_000]
            """,
        )
    )
    defined, ran = (eval(shown(session, name)) for name in ("defined", "ran"))  # noqa: S307
    found = {row[:2]: row[2:] for row in rows}
    assert found["made_by_task()", f"{ran}, line 2"][0] == "variable `one`"
    assert found["made_by_task()", f"{ran}, line 3"][0] == "a list in `two`"
    holder, kind = found["jray.put()", f"{ran}: {defined}, line 7"]
    assert "variable `three`" in holder
    assert "actor Keeper, attribute `taken`" in holder
    assert "lent" in kind
    holder, _ = found["jray.put()", f"{ran}: {defined}, line 11"]
    assert holder == "actor Keeper, attribute `kept`"
    holder, kind = found["made_by_task()", f"{ran}, line 6"]
    assert (holder, kind) == ("a view in variable `array`", "being read")
    assert found["jray.put()", f"{ran}, line 7"] == ("a driver", "inside another object")
    assert found["jray.put()", f"{ran}, line 8"][0] == "variable `outer`"
    run(session, "%jray free one\ndel two, three, array, outer, keeper, table")


def test_a_store_that_fills_is_said_once_with_what_holds_most(session: Any) -> None:
    """Under the cell that runs."""
    run(session, "filling = jray.put(bytes(4_000_000))")
    request = run(session, "from jray._core.frontend import store_fills\nstore_fills(85, 100)")
    session.wait_until(lambda: "85 % full" in session.text(request, "stderr"))
    said = session.text(request, "stderr")
    assert "3.8 MiB in 1 object made by jray.put() in In[" in said
    assert "held by variable `filling`" in said
    assert "%jray free NAME" in said
    run(session, "del filling")


def test_an_actor_cell_makes_an_actor_and_remakes_it(session: Any) -> None:
    """The handle works, cells run inside it, and running the cell again ends the old process."""
    cell = """\
        %%actor counter --args "(start,)"
        class Counter:
            def __init__(self, n): self.n = n
            def pid(self): return os.getpid()
        """
    run(session, "start = 5")
    assert session.text(run(session, cell)) == ""
    run(session, "first = jray.get(counter.pid.remote())")
    request = run(
        session,
        "%%remote --actor counter -o n\nself.n += 1\nn = self.n\nprint('inside', type(self).__name__)",
    )
    assert session.text(request) == "inside Counter\n"
    assert shown(session, "n") == "6"
    assert "that one was ended" in session.text(run(session, cell))
    assert shown(session, "jray.get(counter.pid.remote()) != first") == "True"
    run(session, "while os.path.exists(f'/proc/{first}'): time.sleep(0.02)")
    run(session, "del counter")


def test_autoremote_runs_cells_on_workers_until_it_is_off(session: Any) -> None:
    """Their prints and values are theirs, and a cell after it runs here."""
    run(session, "%autoremote on")
    request = run(session, "there = os.getpid()\nprint('hello')\nthere")
    assert session.text(request) == "hello\n"
    assert "%autoremote is ON" in session.text(request, "stderr")
    run(session, "%autoremote off")
    assert shown(session, "here = os.getpid(); here != there") == "True"


def test_errors_of_an_autoremote_cell_stand_at_its_own_lines(session: Any) -> None:
    """No line above is counted."""
    run(session, "%autoremote on")
    request = session.start("x = 1\n1 / 0")
    session.wait_idle(request)
    run(session, "%autoremote off")
    (error,) = session.errors(request)
    assert "line 2" in "\n".join(error["traceback"])


def test_a_magic_of_ones_own_runs(session: Any) -> None:
    """`jray.new_magic` is at hand where jray is, and the magic submits."""
    run(session, "jray.new_magic('small', num_cpus=0.5)")
    assert shown(session, "ref = %small 40 + 2\njray.get(ref)") == "42"


def test_saved_outputs_are_the_same_in_every_run(make_kernel: Callable[..., Any]) -> None:
    """Where the same must be shown each time, no id, process or time is in any table."""
    said = []
    for _ in range(2):
        kernel = make_kernel(JRAY_NONINTERACTIVE="1")
        run(kernel, "%load_ext jray\nimport jray\njray.init(num_cpus=1)")
        run(
            kernel,
            """
            @jray.remote
            def f(n): return 1 / n
            refs = [f.remote(n) for n in (0, 1)]
            done = jray.wait(refs, num_returns=2)
            """,
        )
        commands = (
            "tasks",
            "tasks --all",
            "tasks --failed",
            "objects",
            "memory",
            "why refs",
            "actors",
            "nodes",
        )
        said.append([kernel.displays(run(kernel, f"%jray {command}")) for command in commands])
        run(kernel, "jray.shutdown()")
    assert said[0] == said[1]
    assert "ZeroDivisionError" in said[0][2][0]["text/plain"]
