"""The stop button: what an interrupted cell has submitted is cancelled, and nothing else."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jray._core.engine import Stopped, Tally
from jray.notebook.stopping import Stopping, is_interrupt, policy_from_environ, policy_of

pytestmark = pytest.mark.timeout(300)


# --- policies, without a kernel ----------------------------------------------------------------------


class FakeWatch:
    """Work of one cell that ends when it is stopped."""

    def __init__(self, running: int, waiting: int) -> None:
        self.tally = Tally(1, "f", submitted=running + waiting, running=running)
        self.stops: list[tuple[int, bool]] = []

    def tallies(self, cell: int | None = None) -> list[Tally]:
        return [self.tally] if cell == 1 else []

    def stop(self, cell: int, *, force: bool) -> Stopped:
        self.stops.append((cell, force))
        found = Stopped(self.tally.running, self.tally.waiting)
        self.tally.failed, self.tally.running = self.tally.submitted, 0
        return found


def interrupted(watch: Any, policy: Any, answer: str | None = None) -> list[str]:
    said: list[str] = []

    def ask(question: str) -> str:
        said.append(question)
        if answer is None:
            raise NotImplementedError("no input here")
        return answer

    Stopping(watch, said.append, ask).on_interrupt(1, policy)
    return said


def test_cancel_stops_the_cell_and_says_how_many() -> None:
    """One stop, without force, and one sentence."""
    watch = FakeWatch(3, 41)
    (line,) = interrupted(watch, "cancel")
    assert "cancelled 3 running and 41 waiting of this cell" in line
    assert watch.stops == [(1, False)]


def test_detach_lets_everything_go_on() -> None:
    """Nothing is stopped, and it is said what goes on."""
    watch = FakeWatch(3, 41)
    (line,) = interrupted(watch, "detach")
    assert "3 running and 41 waiting of this cell go on" in line
    assert watch.stops == []


@pytest.mark.parametrize(("answer", "stops"), [("", 1), ("y", 1), ("No", 0), (None, 1)])
def test_ask_asks_and_cancels_when_nobody_answers(answer: str | None, stops: int) -> None:
    """A question with the numbers; only "no" lets the work go on."""
    watch = FakeWatch(1, 2)
    said = interrupted(watch, "ask", answer)
    assert said[0] == "Cancel 1 running and 2 waiting of this cell? [Y/n] "
    assert len(watch.stops) == stops


def test_a_cell_without_work_is_left_in_peace() -> None:
    """No question, no word."""
    for policy in ("cancel", "detach", "ask"):
        assert interrupted(FakeWatch(0, 0), policy) == []


def test_policies_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown one is refused with those there are; the environment's, too, by the variable's name."""
    assert policy_of("ask") == "ask"
    with pytest.raises(ValueError, match=r"on_interrupt='kill': must be one of cancel, detach, ask"):
        policy_of("kill")
    monkeypatch.delenv("JRAY_ON_INTERRUPT", raising=False)
    assert policy_from_environ() == "cancel"
    monkeypatch.setenv("JRAY_ON_INTERRUPT", "no")
    with pytest.raises(ValueError, match="JRAY_ON_INTERRUPT"):
        policy_from_environ()


def test_both_ways_to_be_interrupted() -> None:
    """A cell that waited in an `await` is cancelled instead."""
    assert is_interrupt(KeyboardInterrupt())
    assert is_interrupt(asyncio.CancelledError())
    assert not is_interrupt(ValueError())
    assert not is_interrupt(None)


# --- in a kernel -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session(kernel: Any) -> Iterator[Any]:
    """A kernel with two CPUs and functions that work until a file is there, gently or not."""
    said = kernel.run(
        textwrap.dedent("""
        import jray, time, os, signal
        jray.init(num_cpus=2)
        get_ipython().run_line_magic('load_ext', 'jray')
        from jray.notebook import stopping
        stopping._GRACE_S = 60  # a second interrupt is waited for, whenever it comes
        guest = get_ipython().meta.jray
        @jray.remote
        def work(path, mark=None):
            try:
                if mark: open(mark + '.begun', 'w').close()
                while not os.path.exists(path):
                    time.sleep(0.01)
                return 'survived'
            finally:
                if mark: open(mark + '.ended', 'w').close()
        @jray.remote
        def deaf(path, mark):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            open(mark + '.begun', 'w').close()
            while not os.path.exists(path):
                time.sleep(0.01)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        """)
    )
    assert [m["content"] for m in said if m["msg_type"] == "error"] == []
    yield kernel
    kernel.run("jray.shutdown()")


@pytest.fixture
def other(session: Any, tmp_path: Path) -> Iterator[None]:
    """Work of another cell, which must outlive what happens to this one, and its process, and the head's."""
    gate = tmp_path / "other"
    request = session.start(
        f"earlier = work.options(num_cpus=0.1).remote({str(gate)!r})\n"
        "print(sorted(n['NodeID'] for n in jray.nodes()))"
    )
    session.wait_idle(request)
    yield
    gate.touch()
    again = session.start("print(sorted(n['NodeID'] for n in jray.nodes()))\nprint(jray.get(earlier))")
    session.wait_idle(again)
    assert session.text(again) == session.text(request) + "survived\n"


@pytest.mark.parametrize("waiting", ["jray.get(refs)", "jray.wait(refs, timeout=None)", "await refs[0]"])
@pytest.mark.promise("T2")
def test_the_stop_button_stops_what_the_cell_has_begun(
    session: Any, other: None, tmp_path: Path, waiting: str
) -> None:
    """The cell is back at once, what it ran is gone within a second, and it says how much that was."""
    gate, mark = tmp_path / "never", tmp_path / "mark"
    request = session.start(
        f"refs = [work.remote({str(gate)!r}, {str(mark)!r})]\n"
        f"refs += [work.options(num_cpus=2).remote({str(gate)!r}) for _ in range(40)]\n"
        f"print('submitted')\n{waiting}"
    )
    session.wait_until((tmp_path / "mark.begun").exists)
    session.wait_until(
        lambda: "submitted" in session.text(request)
    )  # what is not submitted cannot be cancelled
    session.interrupt()
    session.wait_until((tmp_path / "mark.ended").exists)
    session.wait_idle(request)
    (error,) = session.errors(request)
    assert error["ename"] in ("KeyboardInterrupt", "CancelledError")
    assert "jray/_core" not in "".join(error["traceback"])
    assert "cancelled 1 running and 40 waiting of this cell" in session.text(request, "stderr")
    after = session.start("print([type(e).__name__ for e in [r.future().exception() for r in refs]][:2])")
    session.wait_idle(after)
    assert session.text(after) == "['TaskCancelledError', 'TaskCancelledError']\n"


def test_a_second_interrupt_forces(session: Any, other: None, tmp_path: Path) -> None:
    """What does not hear the first goes with its process at the second."""
    request = session.start(
        f"ref = deaf.remote({str(tmp_path / 'never')!r}, {str(tmp_path / 'mark')!r})\n"
        "print('submitted')\njray.get(ref)"
    )
    session.wait_until((tmp_path / "mark.begun").exists)
    session.wait_until(lambda: "submitted" in session.text(request))
    session.interrupt()
    session.wait_until(lambda: "interrupt again" in session.text(request, "stderr"))
    session.interrupt()
    session.wait_idle(request)
    assert "ended the processes of 1 running by force" in session.text(request, "stderr")
    after = session.start("print(type(ref.future().exception()).__name__)")
    session.wait_idle(after)
    assert session.text(after) in ("WorkerCrashedError\n", "TaskCancelledError\n")


def test_detached_work_goes_on(session: Any, other: None, tmp_path: Path) -> None:
    """With that policy an interrupt ends the waiting alone."""
    gate, mark = tmp_path / "gate", tmp_path / "mark"
    session.run("guest.on_interrupt = 'detach'")
    request = session.start(
        f"ref = work.remote({str(gate)!r}, {str(mark)!r})\nprint('submitted')\njray.get(ref)"
    )
    session.wait_until((tmp_path / "mark.begun").exists)
    session.wait_until(lambda: "submitted" in session.text(request))
    session.interrupt()
    session.wait_idle(request)
    assert "1 running and 0 waiting of this cell go on" in session.text(request, "stderr")
    gate.touch()
    after = session.start("guest.on_interrupt = 'cancel'\nprint(jray.get(ref))")
    session.wait_idle(after)
    assert session.text(after) == "survived\n"
