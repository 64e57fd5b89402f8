"""What the notebook promises as a whole, where no test of one of its parts shows it; see `tests.unit.test_promises`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from jray._heads.cards import survey
from jray._heads.ending import end_heads
from jray_ext.manager import HeadManager
from tests.behaviour.support import is_running, wait_until
from tests.ext.server import Server
from tools.run_notebook import client_for

# Kernels and clusters take seconds to start, and many more on a machine that is busy.
pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
#: seconds for what takes one or two: nothing here measures speed
PATIENCE_S = 120.0


def run(kernel: Any, code: str) -> str:
    """Run a cell to its end, expect no error, and return what it printed."""
    request = str(kernel.start(textwrap.dedent(code)))
    kernel.wait_idle(request, PATIENCE_S)
    assert kernel.errors(request) == []
    return str(kernel.text(request))


def notebook_of(*cells: str) -> NotebookNode:
    notebook: NotebookNode = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(textwrap.dedent(cell)) for cell in cells]
    )
    return notebook


@pytest.fixture
def runtime_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where heads of the test leave their files; its path is short enough for sockets.  They end with the test."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    monkeypatch.setenv("JRAY_RUNTIME_DIR", str(folder))
    yield folder
    end_heads(survey(str(folder)).heads, grace_s=PATIENCE_S)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.promise("T3")
def test_nothing_is_left_of_a_kernel_that_was_killed(
    make_kernel: Callable[..., Any], runtime_dir: Path
) -> None:
    """Head, zygote and workers are gone with what they had in shared memory, in the midst of tasks."""
    kernel = make_kernel(JRAY_RUNTIME_DIR=str(runtime_dir))
    said = run(
        kernel,
        """
        import jray, os, time, psutil
        import numpy as np
        info = jray.init(num_cpus=2)
        @jray.remote
        def work(array, folder):
            open(f"{folder}/{os.getpid()}", "w").close()
            time.sleep(3600)
        big = jray.put(np.zeros(1_000_000))
        begun = os.environ["JRAY_RUNTIME_DIR"] + "-begun"
        os.mkdir(begun)
        refs = [work.remote(big, begun) for _ in range(2)]
        while len(os.listdir(begun)) < 2:
            time.sleep(0.01)
        pids = {process.pid for process in psutil.Process().children(recursive=True)}
        print(os.getpid(), info["object_store_address"], *pids | set(map(int, os.listdir(begun))))
        """,
    )
    shutil.rmtree(f"{runtime_dir}-begun")
    kernel_pid, store, *pids = said.split()
    assert len(pids) >= 4, "head, zygote and two workers"
    assert [found.head.owner_pid for found in HeadManager().heads()] == [int(kernel_pid)]
    os.kill(int(kernel_pid), signal.SIGKILL)
    wait_until(lambda: not any(is_running(int(pid)) for pid in pids), PATIENCE_S, "no process of it is left")
    wait_until(lambda: not os.listdir(runtime_dir), PATIENCE_S, "no file of it is left")
    assert not os.path.exists(store)
    assert HeadManager().heads() == []


@pytest.mark.promise("T3")
def test_a_head_that_stays_is_there_for_the_kernel_after_one_that_was_killed(
    make_kernel: Callable[..., Any], runtime_dir: Path
) -> None:
    """With its named actor; of the killed kernel's own work nothing is left, and `jray ps` says the same."""

    def jray(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "jray", *words], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ).stdout  # fmt: skip

    def kinds() -> list[str]:
        return sorted(row["kind"] for row in json.loads(jray("ps", "--format=json")))

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as keeper:
        kept = (f"--keep-with={keeper.pid}", "--keep-for=0")
        head = json.loads(jray("start", "--head", "--num-cpus=2", "--format=json", *kept))
        first = make_kernel(JRAY_RUNTIME_DIR=str(runtime_dir))
        said = run(
            first,
            """
            import jray, os, time
            context = jray.init(namespace="mine")
            @jray.remote
            class Counter:
                count = 0
                def add(self):
                    self.count += 1
                    return self.count, os.getpid()
            @jray.remote
            def work(begun):
                open(begun, "w").close()
                time.sleep(3600)
            counter = Counter.options(name="counter", lifetime="detached").remote()
            big = jray.put(bytes(5_000_000))
            begun = os.environ["JRAY_RUNTIME_DIR"] + "-begun"
            ref = work.remote(begun)
            while not os.path.exists(begun):
                time.sleep(0.01)
            print(os.getpid(), context["address"], *jray.get(counter.add.remote()))
            """,
        )
        os.unlink(f"{runtime_dir}-begun")
        kernel_pid, address, count, actor_pid = said.split()
        assert (address, count) == (head["address"], "1")
        assert kinds() == ["driver", "head", "worker", "worker", "zygote"]
        os.kill(int(kernel_pid), signal.SIGKILL)
        wait_until(lambda: kinds() == ["head", "worker", "zygote"], PATIENCE_S, "the kernel's work gone")
        wait_until(lambda: " 0 B of" in jray("memory", "--stats-only"), PATIENCE_S, "its objects gone")
        second = make_kernel(JRAY_RUNTIME_DIR=str(runtime_dir))
        said = run(
            second,
            """
            import jray
            context = jray.init(namespace="mine")
            print(context["address"], *jray.get(jray.get_actor("counter").add.remote()))
            jray.shutdown()
            """,
        )
        assert said.split() == [head["address"], "2", actor_pid]
        keeper.kill()
    wait_until(lambda: not is_running(head["pid"]), PATIENCE_S, "the head gone, its time being over")
    wait_until(lambda: not is_running(int(actor_pid)), PATIENCE_S, "its actor, too")
    wait_until(lambda: not os.listdir(runtime_dir), PATIENCE_S, "no file of it is left")
    assert not os.path.exists(head["store_dir"])
    assert "No head of yours" in jray("ps")


#: what goes on at once, and so might come in another order each time; without the n of In[n], which nbval leaves at 1
REPEATED = (
    "import jray, time\njray.init(num_cpus=2)\n%load_ext jray",
    """\
    @jray.remote
    def talk(n):
        for line in range(5):
            print(n, line)
        return n
    print(jray.get([talk.remote(n) for n in range(8)]))
    """,
    """\
    @jray.remote
    def show(n):
        display({"text/html": f"<b>{n}</b>", "text/plain": str(n)}, raw=True)
    shown = jray.get([show.remote(n) for n in range(4)])
    """,
    "%%remote -o x\nimport time\nprint('slow enough for the lens')\ntime.sleep(1.5)\nx = 6\nx * 7",
    "from jray.util.tqdm import tqdm\n@jray.remote\ndef bar():\n    list(tqdm(range(3)))\njray.get(bar.remote())",
    "jray.put(1)",
    "%jray status",
    "jray.shutdown()",
)


@pytest.mark.promise("T4")
def test_a_notebook_says_the_same_three_times_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strictly compared, with JRAY_NONINTERACTIVE=1; without it the notebook runs as well."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("JRAY_NONINTERACTIVE", raising=False)
    client_for(notebook_of(*REPEATED), tmp_path, timeout_s=200).execute()
    monkeypatch.setenv("JRAY_NONINTERACTIVE", "1")
    notebook = notebook_of(*REPEATED)
    client_for(notebook, tmp_path, timeout_s=200).execute()
    nbformat.write(notebook, tmp_path / "repeated.ipynb")
    for _ in range(2):  # the saved outputs are those of the first time
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env",
             "--nbval-cell-timeout", "200", "repeated.ipynb"],
            cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


@pytest.mark.promise("T5")
def test_the_head_of_one_notebook_is_listed_and_serves_another(
    make_kernel: Callable[..., Any], runtime_dir: Path
) -> None:
    """By the address that the server's list tells; the first one's leaving ends it."""
    first = make_kernel(JRAY_RUNTIME_DIR=str(runtime_dir))
    run(first, "import jray\njray.init(num_cpus=2)")
    (found,) = HeadManager().heads()
    second = make_kernel(JRAY_RUNTIME_DIR=str(runtime_dir))
    said = run(
        second,
        f"""
        import jray, os
        jray.init({found.head.address!r})
        @jray.remote
        def parent():
            return os.getppid()
        print(jray.get(parent.remote()) > 0, jray.cluster_resources()["CPU"])
        """,
    )
    assert said == "True 2.0\n"
    assert HeadManager().heads() == [found], "it has started none of its own"
    run(second, "jray.shutdown()")
    assert HeadManager().heads() == [found]
    run(first, "jray.shutdown()")
    wait_until(lambda: HeadManager().heads() == [], PATIENCE_S, "the head has ended")


@pytest.mark.promise("T5")
def test_the_head_of_a_server_serves_its_kernels_through_restarts_and_the_next_server(
    runtime_dir: Path, tmp_path: Path
) -> None:
    """Two notebooks share it, a restarted kernel finds its actor, and so does a kernel of the server that comes next."""
    joins = textwrap.dedent("""
        import jray, os
        context = jray.init(namespace="ours")
        @jray.remote
        class Counter:
            count = 0
            def add(self):
                self.count += 1
                return self.count
        counter = Counter.options(name="counter", lifetime="detached", get_if_exists=True).remote()
        print(context["address"], context["joined"], jray.get(counter.add.remote()), sep="|")
        """)
    of_server = "it is the one of this kernel's Jupyter server"
    settings = {"JrayExtApp__auto_start": True, "HeadManager__num_cpus": 2}
    with Server(tmp_path / "server", HeadManager__keep_s=1000, **settings) as server:
        (head,) = wait_until(server.heads, PATIENCE_S, "the server's head")
        first, second = server.kernel(), server.kernel()
        assert first.run(joins) == f"{head['address']}|{of_server}|1\n"
        assert second.run(joins) == f"{head['address']}|{of_server}|2\n"
        first.restart()
        assert first.run(joins) == f"{head['address']}|{of_server}|3\n"
        server.end(signal.SIGTERM)
    with Server(tmp_path / "server", **settings) as server:
        wait_until(
            lambda: [one["keeper"]["pid"] for one in server.heads()] == [server.process.pid],
            PATIENCE_S,
            "the same head",
        )
        assert server.kernel().run(joins) == f"{head['address']}|{of_server}|4\n"
        server.ask("DELETE", f"jray/api/heads/{head['session']}")
        assert server.heads() == []
    assert not is_running(head["pid"])
    assert os.listdir(runtime_dir) == []
    assert not os.path.exists(head["store_dir"])


@pytest.mark.promise("T6")
def test_the_repr_of_ten_thousand_pending_refs_asks_nobody(make_kernel: Callable[..., Any]) -> None:
    """No socket is written to or read while they are drawn, one by one and as a list; and it is quick."""
    kernel = make_kernel(JRAY_NONINTERACTIVE="0")
    said = run(
        kernel,
        """
        import jray, time, socket
        from jray._core.wire.connection import Connection
        jray.init(num_cpus=1)
        @jray.remote(resources={"never": 1})
        def f(n): pass
        refs = [f.remote(n) for n in range(10_000)]
        def fail(*_, **__): raise AssertionError("a message was sent")
        sends, Connection.send = Connection.send, fail
        try:
            took = []
            for _ in range(5):
                start = time.process_time()
                text = get_ipython().display_formatter.format(refs)[0]["text/plain"]
                took.append(time.process_time() - start)
            [repr(ref) for ref in refs]
        finally:
            Connection.send = sends
        print(text.count("waiting"), min(took))
        """,
    )
    in_list, took = said.split()
    assert int(in_list) >= 1000, "as many as IPython shows of a list"
    # no measure of speed: ten times what is promised, which one question per ref would far exceed
    assert float(took) < 0.5
    run(kernel, "jray.shutdown()")


def saved_outputs(kernel: Any, request: str) -> list[NotebookNode]:
    """Return what a front end saves of a cell: streams put together, displays as they were updated last."""
    outputs: list[NotebookNode] = []
    displays: dict[str, NotebookNode] = {}
    for message in kernel.messages[request]:
        kind, content = message["msg_type"], message["content"]
        display_id = content.get("transient", {}).get("display_id")
        if kind == "stream" and outputs and outputs[-1].get("name") == content["name"]:
            outputs[-1].text += content["text"]
        elif kind in ("stream", "display_data", "execute_result", "error"):
            outputs.append(nbformat.v4.output_from_msg(message))
            displays[display_id] = outputs[-1]
        elif kind == "update_display_data":
            displays[display_id].data = nbformat.from_dict(content["data"])
    return outputs


@pytest.mark.promise("T10")
def test_a_saved_notebook_of_twenty_remote_cells_is_small_and_readable(
    make_kernel: Callable[..., Any], tmp_path: Path
) -> None:
    """Under 500 KiB with prints, a table and the lens of each, whose words say it all where drawings are taken away."""
    kernel = make_kernel(JRAY_NONINTERACTIVE="0")
    run(kernel, "import jray\njray.init(num_cpus=2)\n%load_ext jray")
    cell = textwrap.dedent("""\
        %%remote
        import time, pandas as pd
        for n in range(100):
            print("step", n)
        time.sleep(1.5)
        pd.DataFrame({"x": range(50)})
        """)
    requests = [kernel.start(cell) for _ in range(20)]
    notebook = notebook_of(*[cell] * 20)
    for request, node in zip(requests, notebook.cells, strict=True):

        def pages(request: str = request) -> list[str]:
            return [str(o.data.get("text/html", "")) for o in saved_outputs(kernel, request) if "data" in o]

        kernel.wait_until(
            lambda: any("1 task in" in page for page in pages()) if request in kernel.messages else False,  # noqa: B023 -- awaited here
            PATIENCE_S,
        )
        kernel.wait_idle(request, PATIENCE_S)
        (lens,) = [page for page in pages() if "jray-lens" in page]
        assert not re.search(r"<script|javascript:|\bon\w+=", lens)
        words = re.sub(r"<[^>]*>", " ", re.sub(r"<svg.*?</svg>", "", lens))
        assert re.search(r"In\[\d+\]\s+1 task in [\d.]+ s", words)
        assert any("<table" in page for page in pages())
        node.outputs = saved_outputs(kernel, request)
    nbformat.validate(notebook)
    nbformat.write(notebook, tmp_path / "saved.ipynb")
    assert (tmp_path / "saved.ipynb").stat().st_size < 500 * 1024
    run(kernel, "jray.shutdown()")


@pytest.mark.promise("T11")
@pytest.mark.parametrize("missing", ["anywidget", "ipywidgets"])
def test_an_example_runs_without_the_packages_of_live_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """With everything shown that has a live view: the panel, progress bars, the lens."""
    blocked = tmp_path / "blocked" / missing
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text(f"raise ModuleNotFoundError('No module named {missing}')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(blocked.parent), str(ROOT)]))
    monkeypatch.setenv("JRAY_NONINTERACTIVE", "0")
    notebook = notebook_of(*REPEATED[:-1], "jray.panel()", REPEATED[-1])
    client_for(notebook, tmp_path, timeout_s=200).execute()
    (panel,) = [cell for cell in notebook.cells if cell.source == "jray.panel()"]
    (output,) = panel.outputs
    assert "application/vnd.jupyter.widget-view+json" not in output.data
    assert {"text/plain", "text/html"} <= set(output.data)
