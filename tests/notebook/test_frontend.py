"""Front ends: the terminal's lines, and a real kernel's messages under the right cell."""

from __future__ import annotations

import io
import textwrap
from typing import Any

import pytest

import jray.notebook
from jray._core.frontend import Output, OutputKind, TerminalFrontend, get_frontend, set_frontend

pytestmark = pytest.mark.timeout(300)  # some start a kernel


def said(text: str, kind: str = OutputKind.STDOUT, task: str = "t") -> Output:
    return Output(0, kind, text, None, "f", 7, task)


def test_a_terminal_shows_whole_lines_with_their_task(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line says who wrote it; a line in two parts is one line; a flush shows the rest."""
    frontend = TerminalFrontend()
    frontend.write(said("a\nb"))
    frontend.write(said("x\n", task="u"))
    frontend.write(said("c\nrest"))
    assert capsys.readouterr().out == "(f pid=7) a\n(f pid=7) x\n(f pid=7) bc\n"
    frontend.flush()
    assert capsys.readouterr().out == "(f pid=7) rest\n"
    frontend.close()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_displays_as_text_and_notices_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    """There is no HTML in a terminal; a word of jray's own has no task in front."""
    frontend = TerminalFrontend()
    frontend.write(Output(0, "display", "", {"data": {"text/plain": "1", "text/html": "<p>"}}, "f", 7, "t"))
    frontend.write(said("waits", OutputKind.NOTICE))
    frontend.write(said("e\n", OutputKind.STDERR))
    assert capsys.readouterr() == ("(f pid=7) 1\n", "waits\n(f pid=7) e\n")


def test_a_closed_terminal_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing to what is closed raises nothing in the thread that reads the workers."""
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr("sys.stdout", stream)
    TerminalFrontend().write(said("a\n"))
    monkeypatch.setattr("sys.stdout", None)
    TerminalFrontend().write(said("a\n"))


def test_the_terminal_is_the_front_end_of_a_process_that_sets_none() -> None:
    """None puts it back."""
    before = get_frontend()
    mine = TerminalFrontend()
    set_frontend(mine)
    assert get_frontend() is mine
    set_frontend(None)
    assert isinstance(get_frontend(), TerminalFrontend)
    assert get_frontend() is not mine
    assert before.cell == 0


SETUP = """
    import threading
    from jray._core.frontend import Output, get_frontend
    import jray.notebook
    jray.notebook.activate()
    def write(cell, text, task="aa", kind="stdout", data=None):
        get_frontend().write(Output(cell, kind, text, data, "f", 1, task))
"""


def test_lines_from_threads_go_to_the_cell_that_they_are_stamped_with(kernel: Any) -> None:
    """Two cells, overlapping writers of 1000 lines each: every line under its own cell, in order."""
    kernel.run(textwrap.dedent(SETUP))
    first = kernel.start(
        textwrap.dedent("""
        go = threading.Event()
        mine = get_frontend().cell
        def talk(cell, word):
            go.wait()
            for n in range(1000):
                write(cell, f"{word} {n}\\n", word)
        thread = threading.Thread(target=talk, args=(mine, "first"))
        thread.start()
        """)
    )
    kernel.wait_idle(first)
    second = kernel.start(
        textwrap.dedent("""
        assert get_frontend().cell == mine + 1
        other = threading.Thread(target=talk, args=(get_frontend().cell, "second"))
        other.start()
        go.set()
        other.join(); thread.join()
        """)
    )
    kernel.wait_idle(second)
    kernel.wait_until(lambda: kernel.text(first).count("\n") >= 1000)
    assert kernel.errors(first) + kernel.errors(second) == []
    assert kernel.text(first).splitlines() == [f"first {n}" for n in range(1000)]
    assert kernel.text(second).splitlines() == [f"second {n}" for n in range(1000)]
    streams = [m for m in kernel.messages[second] if m["msg_type"] == "stream"]
    assert len(streams) < 500


def test_the_cell_s_own_prints_keep_their_place(kernel: Any) -> None:
    """A line of a task stands where it was shown among the lines that the cell printed itself."""
    kernel.run(textwrap.dedent(SETUP))
    request = kernel.start(
        "print('1'); write(get_frontend().cell, '2\\n'); get_frontend().flush(); print('3')"
    )
    kernel.wait_idle(request)
    assert kernel.text(request) == "1\n2\n3\n"


def test_displays_reach_a_cell_that_has_ended(kernel: Any) -> None:
    """A mime bundle for an earlier cell appears under that one."""
    kernel.run(textwrap.dedent(SETUP))
    first = kernel.start("early = get_frontend().cell")
    kernel.wait_idle(first)
    second = kernel.start(
        "write(early, '', kind='display', data={'data': {'text/html': '<i>x</i>'}, 'metadata': {}})\n"
        "get_frontend().flush()"
    )
    kernel.wait_idle(second)
    assert kernel.displays(first) == [{"text/html": "<i>x</i>"}]
    assert kernel.displays(second) == []


def test_background_tasks_of_asyncio_keep_their_cell(kernel: Any) -> None:
    """An asyncio task goes on submitting for the cell that started it, a thread for the latest."""
    kernel.run(textwrap.dedent(SETUP))
    kernel.run(
        textwrap.dedent("""
        import asyncio
        gate, seen = asyncio.Event(), []
        async def later():
            await gate.wait()
            seen.append(get_frontend().cell)
        here = get_frontend().cell
        job = asyncio.ensure_future(later())
        """)
    )
    request = kernel.start("gate.set(); await job; print(seen == [here], get_frontend().cell == here + 1)")
    kernel.wait_idle(request)
    assert kernel.text(request) == "True True\n"


def test_the_extension_loads_reloads_and_unloads_without_a_trace(kernel: Any) -> None:
    """Loading twice adds one of each hook; unloading takes all of them out."""
    request = kernel.start(
        textwrap.dedent("""
        import jray.notebook as extension
        ip = get_ipython()
        def state():
            calls = {name: [f for f in ip.events.callbacks[name] if "jray" in f.__module__]
                     for name in ("pre_run_cell", "post_run_cell")}
            magics = "remote" in ip.magics_manager.magics["cell"], "jray" in ip.magics_manager.magics["line"]
            matchers = sum("jray" in f.matcher_identifier for f in ip.Completer.custom_matchers)
            return {name: len(found) for name, found in calls.items()}, magics, matchers
        for step in (extension.load_ipython_extension,) * 2 + (extension.unload_ipython_extension,) * 2:
            step(ip)
            print(state())
        print(type(get_frontend()).__name__)
        """)
    )
    kernel.wait_idle(request)
    loaded = "({'pre_run_cell': 1, 'post_run_cell': 1}, (True, True), 1)"
    unloaded = "({'pre_run_cell': 0, 'post_run_cell': 0}, (False, False), 0)"
    assert kernel.text(request).splitlines() == [loaded, loaded, unloaded, unloaded, "TerminalFrontend"]


def test_activate_is_harmless_without_a_shell() -> None:
    """A script may call it; nothing changes."""
    before = get_frontend()
    jray.notebook.activate()
    assert get_frontend() is before


WRITE_OUT_OF_ORDER = """
    for number in (2, 1):
        write(get_frontend().cell, f"{number}\\n", task=number.to_bytes(8, "little").hex() + "ff" * 16)
    get_frontend().flush()
"""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "1\n2\n"),  # the test's client names no cell, as nbval and nbclient do not
        ({"JRAY_NONINTERACTIVE": "0"}, "2\n1\n"),
        ({"JPY_SESSION_NAME": "some/notebook.ipynb"}, "2\n1\n"),
    ],
)
def test_output_is_ordered_where_nobody_looks_on(
    make_kernel: Any, environment: dict[str, str], expected: str
) -> None:
    """A front end that names neither cell nor notebook gets the same output each time, others what comes."""
    kernel = make_kernel(**environment)
    kernel.run(textwrap.dedent(SETUP))
    request = kernel.start(textwrap.dedent(WRITE_OUT_OF_ORDER))
    kernel.wait_idle(request)
    assert kernel.text(request) == expected
