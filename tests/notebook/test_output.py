"""What tasks show in a real kernel: floods, displays and figures, progress bars, and their logs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def session(kernel: Any) -> Iterator[Any]:
    """A kernel with a cluster of four CPUs."""
    said = kernel.run(
        "import jray, time, sys, os\njray.init(num_cpus=4)\n%load_ext jray\n"
        "logs = get_ipython().meta.jray.task_logs"
    )
    assert [m["content"] for m in said if m["msg_type"] == "error"] == []
    yield kernel
    kernel.run("jray.shutdown()")


def run(session: Any, code: str) -> str:
    """Run a cell to its end, expect no error, and return its request's id."""
    request = str(session.start(textwrap.dedent(code)))
    session.wait_idle(request)
    assert session.errors(request) == []
    return request


# --- floods ----------------------------------------------------------------------------------------


@pytest.mark.promise("T8")
def test_a_flood_is_held_back_and_nothing_is_lost_from_the_logs(session: Any) -> None:
    """Of 100 000 lines of four tasks few messages come, first and newest lines; the logs have every line."""
    request = run(
        session,
        """
        @jray.remote
        def flood(word):
            for n in range(25_000):
                print(f'{word} {n}\\n', end='')  # a line at once, which no pause divides
        words = ['a', 'b', 'c', 'd']
        jray.get([flood.remote(word) for word in words]);
        """,
    )
    text = session.text(request)
    said = [m for m in session.messages[request] if m["msg_type"] == "stream"]
    assert len(said) < 200
    assert len(text) < 500_000
    lines = text.splitlines()
    assert lines[0].endswith(" 0")
    counts = [line for line in lines if line.startswith("[jray] ")]
    assert counts
    assert all(line.endswith("%jray logs") or "%jray logs " in line for line in counts)
    held = sum(int(line.removeprefix("[jray] ").split(" line")[0].replace(" ", "")) for line in counts)
    assert held + len(lines) - len(counts) == 100_000
    checked = run(
        session,
        """
        mine = [task for task in logs.of() if task.name == 'flood']
        texts = sorted((str(logs.of(task.task_id)) for task in mine))
        print(texts == [''.join(f'{word} {n}\\n' for n in range(25_000)) for word in words])
        print(repr(logs.of(mine[0].task_id, tail=1)).splitlines()[-1].endswith(' 24999'))
        """,
    )
    assert session.text(checked) == "True\nTrue\n"


def test_logs_go_with_the_session(session: Any) -> None:
    """The files lie among the session's logs."""
    request = run(
        session,
        """
        from jray._core.refs import current
        print(any(name.startswith('tasks-') for name in os.listdir(current.client.session_dir + '/logs')))
        """,
    )
    assert session.text(request) == "True\n"


# --- displays --------------------------------------------------------------------------------------


@pytest.mark.promise("T12")
def test_figures_and_frames_of_tasks_appear_in_their_cell(session: Any) -> None:
    """`plt.show()`, `display` with and without an import, also after the cell has ended, and no IPython for it."""
    first = run(
        session,
        """
        @jray.remote
        def draw(gate):
            import matplotlib.pyplot as plt, pandas as pd
            while not os.path.exists(gate):
                time.sleep(0.01)
            print('before')
            plt.plot([1, 2, 3])
            plt.show()
            display(pd.DataFrame({'x': [1, 2]}))
            print('after')
            return 'IPython' in sys.modules
        import tempfile
        gate = tempfile.mktemp()
        drawing = draw.remote(gate)
        """,
    )
    second = run(session, "open(gate, 'w').close(); print(jray.get(drawing)); os.unlink(gate)")
    session.wait_until(lambda: "after\n" in session.text(first))
    figure, frame = session.displays(first)
    assert figure["image/png"].startswith("iVBOR")
    assert "<table" in frame["text/html"]
    assert session.text(first) == "before\nafter\n"
    assert session.text(second) == "False\n"


def test_display_of_ipython_works_in_actors_and_threads(session: Any) -> None:
    """`from IPython.display import ...` in calls of actors, coroutines too, and in threads that carry the context."""
    request = run(
        session,
        """
        @jray.remote
        class Shower:
            async def show(self, text):
                from IPython.display import HTML, display
                display(HTML(f'<b>{text}</b>'))
        @jray.remote
        def threaded():
            import contextvars, threading
            from IPython.display import Markdown, display
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(display, Markdown('*t*')))
            thread.start()
            thread.join()
        jray.get([Shower.remote().show.remote('one')])
        jray.get(threaded.remote())
        """,
    )
    session.wait_until(lambda: len(session.displays(request)) == 2)
    html, markdown = session.displays(request)
    assert html["text/html"] == "<b>one</b>"
    assert markdown["text/markdown"] == "*t*"


def test_a_display_is_updated_in_place(session: Any) -> None:
    """display_id gives a handle in a task, too; updates carry the id."""
    request = run(
        session,
        """
        @jray.remote
        def count():
            handle = display('none', display_id=True)
            for n in range(3):
                handle.update(n)
        jray.get(count.remote())
        """,
    )
    said = session.shown(request)
    assert said[0]["msg_type"] == "display_data"
    assert {m["msg_type"] for m in said[1:]} == {"update_display_data"}
    assert said[-1]["content"]["data"] == {"text/plain": "2"}
    assert len({m["content"]["transient"]["display_id"] for m in said}) == 1


def test_a_display_that_is_too_large_says_so(session: Any) -> None:
    """The largest form is left out, with a note of what and what to do."""
    request = run(
        session,
        """
        class Large:
            def __repr__(self): return 'large'
            def _repr_html_(self): return 'x' * 4_000_000
        @jray.remote
        def show(value):
            display(value)
        jray.get(show.remote(Large()))
        """,
    )
    (shown,) = session.displays(request)
    assert set(shown) == {"text/plain"}
    assert "text/html of 4.0 MB" in shown["text/plain"]


# --- progress bars -----------------------------------------------------------------------------------


def test_bars_of_tasks_are_one_group_in_the_cell(session: Any) -> None:
    """One display for the bars of all tasks, updated in place; the last drawing shows how each ended."""
    request = run(
        session,
        """
        from jray.util.tqdm import tqdm
        @jray.remote
        def work(name, items):
            for item in tqdm(range(items), desc=name):
                if item == 7:
                    raise ValueError(item)
        refs = [work.remote('good', 5), work.remote('<bad>', 10)]
        jray.wait(refs, num_returns=2)
        try:
            jray.get(refs)
        except ValueError:
            pass
        """,
    )

    session.wait_until(
        lambda: any("failed" in m["content"]["data"]["text/plain"] for m in session.shown(request)[-1:])
    )
    said = session.shown(request)
    assert len({m["content"]["transient"]["display_id"] for m in said}) == 1
    assert [m["msg_type"] for m in said].count("display_data") == 1
    last = said[-1]["content"]["data"]
    good, bad = sorted(last["text/plain"].splitlines(), reverse=True)
    assert "good: 100%" in good
    assert "failed" not in good
    assert "<bad>:  70%" in bad
    assert "failed" in bad
    assert "&lt;bad&gt;" in last["text/html"]
    assert session.text(request, "stderr") == ""


def test_bars_are_lines_where_output_is_the_same_every_time(make_kernel: Any) -> None:
    """Without updates of displays and without times: one line for each bar, in the order of the tasks."""
    kernel = make_kernel(JRAY_NONINTERACTIVE="1")
    said = kernel.run(
        textwrap.dedent("""
        import jray
        from jray.util.tqdm import tqdm
        jray.init(num_cpus=2)
        @jray.remote
        def work(n):
            for item in tqdm(range(n), desc=f'task {n}'):
                pass
            handle = display('shown', display_id=True)
            handle.update('never')
        jray.get([work.remote(n) for n in (1, 2, 3)])
        jray.shutdown()
        """)
    )
    kinds = [m["msg_type"] for m in said]
    assert "update_display_data" not in kinds
    text = "".join(m["content"]["text"] for m in said if m["msg_type"] == "stream")
    assert text == "task 1: 1/1 it\ntask 2: 2/2 it\ntask 3: 3/3 it\n"
