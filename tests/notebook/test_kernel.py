"""jray in a real kernel: output under the right cell, interrupts, `%%remote` on real workers."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# A kernel and a cluster take seconds to start; the tests of this file share them.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def session(kernel: Any) -> Iterator[Any]:
    """A kernel with a cluster of two CPUs and the extension loaded."""
    said = kernel.run("import jray, time, sys, os\njray.init(num_cpus=2)\n%load_ext jray")
    assert [m["content"] for m in said if m["msg_type"] == "error"] == []
    yield kernel
    kernel.run("jray.shutdown()")


def run(session: Any, code: str) -> str:
    """Run a cell to its end, expect no error, and return its request's id."""
    request = str(session.start(textwrap.dedent(code)))
    session.wait_idle(request)
    assert session.errors(request) == []
    return request


# --- output ----------------------------------------------------------------------------------------


@pytest.mark.promise("T1")
def test_overlapping_tasks_of_two_cells_print_under_their_own(session: Any) -> None:
    """Of 1000 lines of each of two tasks at once, every line is under the cell that submitted it."""
    run(
        session,
        """
        @jray.remote
        def talk(word):
            for n in range(1000):
                print(word, n)
        """,
    )
    first = run(session, "one = talk.remote('first')")
    second = run(session, "jray.get([one, talk.remote('second')]);")
    session.wait_until(lambda: session.text(first).count("\n") + session.text(second).count("\n") >= 2000)
    assert session.text(first).splitlines() == [f"first {n}" for n in range(1000)]
    assert session.text(second).splitlines() == [f"second {n}" for n in range(1000)]


def test_a_get_returns_after_the_output_of_its_tasks(session: Any) -> None:
    """What the task printed stands before what the cell prints after the get, every time."""
    request = run(
        session,
        """
        @jray.remote
        def say(n):
            print('task', n)
            return n
        for n in range(20):
            print('cell', jray.get(say.remote(n)))
        """,
    )
    expected = [line for n in range(20) for line in (f"task {n}", f"cell {n}")]
    assert session.text(request).splitlines() == expected


def test_stderr_goes_to_stderr(session: Any) -> None:
    """The two streams of a task are two streams of the cell."""
    request = run(
        session,
        """
        @jray.remote
        def complain():
            print('out')
            print('err', file=sys.stderr)
        jray.get(complain.remote())
        """,
    )
    assert session.text(request) == "out\n"
    assert session.text(request, "stderr") == "err\n"


def test_an_actor_call_prints_under_the_cell_of_the_call(session: Any) -> None:
    """Not under the cell that made the actor."""
    made = run(
        session,
        """
        @jray.remote
        class Speaker:
            def say(self, word):
                print(word)
        speaker = Speaker.remote()
        """,
    )
    called = run(session, "jray.get(speaker.say.remote('hello'))")
    assert session.text(called) == "hello\n"
    assert session.text(made) == ""


# --- interrupts ------------------------------------------------------------------------------------


@pytest.fixture
def patient(session: Any, tmp_path: Path) -> Iterator[Path]:
    """A task of an earlier cell that runs until the file given is there; it must outlive interrupts."""
    gate = tmp_path / "gate"
    run(
        session,
        f"""
        @jray.remote(num_cpus=0.1)
        def wait_for(path):
            while not os.path.exists(path):
                time.sleep(0.01)
            return 'survived'
        earlier = wait_for.remote({str(gate)!r})
        """,
    )
    yield gate
    gate.touch()
    request = run(session, "print(jray.get(earlier))")
    assert session.text(request) == "survived\n"


@pytest.mark.parametrize("waiting", ["jray.get(never)", "jray.wait([never], timeout=None)", "await never"])
def test_an_interrupt_ends_the_wait(session: Any, patient: Path, tmp_path: Path, waiting: str) -> None:
    """Though what it waits for does not come; tasks of other cells go on, and so does the cluster."""
    run(session, f"never = wait_for.remote({str(tmp_path / 'other')!r})")
    request = session.start(f"print('waiting', flush=True)\n{waiting}")
    session.wait_until(lambda: "waiting" in session.text(request))
    session.interrupt()
    session.wait_idle(request)
    (error,) = session.errors(request)
    assert error["ename"] in ("KeyboardInterrupt", "CancelledError")
    after = run(session, "print(jray.wait([never], timeout=0)[0])")
    assert session.text(after) == "[]\n"
    (tmp_path / "other").touch()


@pytest.mark.promise("T2")
def test_an_interrupt_cancels_a_remote_cell(session: Any, patient: Path, tmp_path: Path) -> None:
    """It is interrupted on its worker, once: what it does then is not."""
    gate, gone = tmp_path / "tidy", tmp_path / "gone"
    request = session.start(
        textwrap.dedent(f"""\
        %%remote --num-cpus 1
        import pathlib, time
        try:
            print('started')
            while True:
                time.sleep(0.01)
        finally:
            while not pathlib.Path({str(gate)!r}).exists():
                time.sleep(0.01)
            pathlib.Path({str(gone)!r}).touch()
        """)
    )
    session.wait_until(lambda: "started" in session.text(request))
    session.interrupt()
    session.wait_until(lambda: "cancelled 1 running" in session.text(request, "stderr"))
    gate.touch()
    session.wait_until(gone.exists)
    session.wait_idle(request)
    (error,) = session.errors(request)
    assert error["ename"] == "KeyboardInterrupt"
    assert error["traceback"][-1].endswith("was cancelled.")


# --- %%remote --------------------------------------------------------------------------------------


def test_a_remote_cell_on_a_real_worker(session: Any) -> None:
    """Names in, names out, output as it runs, the value shown, in another process."""
    run(session, "base = 40\nhere = os.getpid()\ndef add(a, b): return a + b")
    request = run(
        session,
        """\
        %%remote -o answer,there --num-cpus 1
        import os
        print('computing')
        answer = add(base, 2)
        there = os.getpid()
        answer
        """,
    )
    assert session.text(request) == "computing\n"
    assert session.displays(request) == [{"text/plain": "42"}]
    checked = run(session, "print(answer, there != here)")
    assert session.text(checked) == "42 True\n"


@pytest.mark.promise("T12")
def test_a_figure_and_a_data_frame_made_there_appear_here(session: Any) -> None:
    """image/png and text/html, in that order."""
    request = run(
        session,
        """\
        %%remote
        import matplotlib.pyplot as plt, pandas as pd
        plt.plot([1, 2, 3])
        plt.show()
        pd.DataFrame({'x': [1, 2]})
        """,
    )
    figure, frame = session.displays(request)
    assert figure["image/png"].startswith("iVBOR")
    assert "<table" in frame["text/html"]


def test_values_of_tasks_are_shown_as_they_would_be_here(session: Any) -> None:
    """A data frame that a plain task returns is drawn by the notebook."""
    request = run(
        session,
        """
        @jray.remote
        def frame():
            import pandas as pd
            return pd.DataFrame({'x': [1]})
        jray.get(frame.remote())
        """,
    )
    (frame,) = session.displays(request)
    assert "<table" in frame["text/html"]


def test_an_error_shows_the_lines_of_the_cell(session: Any) -> None:
    """Frames of the user with their source, one line on task and pid, and no frame of jray."""
    request = session.start("%%remote --name failing\ndef divide(a):\n    return a / 0\ndivide(1)\n")
    session.wait_idle(request)
    (error,) = session.errors(request)
    text = "\n".join(error["traceback"])
    assert error["ename"] == "RayTaskError(ZeroDivisionError)"
    assert "return a / 0" in text
    assert "line 3, in divide" in text
    assert "divide(1)" in text
    assert "line 4" in text
    assert "remote_cell.py" not in text
    assert "magics.py" not in text
    assert "in task failing" in error["traceback"][-1]
    assert re.search(r"(pid|process) \d+", error["traceback"][-1])


def test_an_asynchronous_remote_cell_speaks_under_its_own_cell(session: Any, tmp_path: Path) -> None:
    """Prints and the value appear under the cell that started it, though another has run since."""
    gate = tmp_path / "gate"
    first = run(
        session,
        f"""\
        %%remote --async -o x
        import os, time
        while not os.path.exists({str(gate)!r}):
            time.sleep(0.01)
        print('late')
        x = 6
        x * 7
        """,
    )
    second = run(session, f"open({str(gate)!r}, 'w').close(); print(jray.get(x))")
    session.wait_until(lambda: {"text/plain": "42"} in session.displays(first))
    assert session.text(first) == "late\n"
    assert session.text(second) == "6\n"
    assert session.displays(second) == []


def test_refs_stay_on_the_workers_and_resolve_there(session: Any) -> None:
    """--ref leaves the value where it is; --resolve gives it to the next cell."""
    run(session, "%%remote -o big --ref\nimport numpy as np\nbig = np.arange(1_000_000)\n")
    request = run(session, "print(type(big).__name__)")
    assert session.text(request) == "ObjectRef\n"
    request = run(session, "%%remote --resolve\nint(big.sum())")
    assert session.displays(request) == [{"text/plain": "499999500000"}]


def test_jray_can_be_used_inside(session: Any) -> None:
    """A remote cell is a task like any other: it submits and waits."""
    request = run(
        session,
        """\
        %%remote
        import jray
        @jray.remote
        def square(n):
            return n * n
        sum(jray.get([square.remote(n) for n in range(5)]))
        """,
    )
    assert session.displays(request) == [{"text/plain": "30"}]


def test_a_cell_that_runs_out_of_time_is_cancelled(session: Any) -> None:
    """--timeout raises in the notebook in one line."""
    request = session.start("%%remote --timeout 0.3\nimport time\nwhile True: time.sleep(0.01)")
    session.wait_idle(request)
    (error,) = session.errors(request)
    assert error["ename"] == "GetTimeoutError"
    assert "took longer than --timeout 0.3 s" in error["evalue"]


def test_status_of_a_real_cluster(session: Any) -> None:
    """The text names the node and its CPUs."""
    request = run(session, "print(repr(get_ipython().run_line_magic('jray', 'status')))")
    assert session.text(request).startswith("jray: 1 node\n  CPU")
