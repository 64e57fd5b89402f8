"""The commands that open views and look into tasks, in a real kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def session(kernel: Any) -> Iterator[Any]:
    """A kernel with a cluster of two CPUs, in which a task has talked and another has failed."""
    for code in (
        "import jray, time\njray.init(num_cpus=2)\n%load_ext jray",
        (
            "@jray.remote\ndef talk(n):\n    print('word', n)\n    return n\n"
            "@jray.remote\ndef fail(n):\n    raise ValueError(n)"
        ),
        "jray.get([talk.remote(n) for n in range(3)]);",
        "failed = fail.remote(7); failed.exception();",
    ):
        said = kernel.run(code)
        assert [m["content"] for m in said if m["msg_type"] == "error"] == []
    yield kernel
    kernel.run("jray.shutdown()")


def shown(session: Any, code: str) -> tuple[str, str]:
    """Run a cell; return what it printed, and the text of what it displayed."""
    request = session.start(code)
    session.wait_idle(request)
    assert session.errors(request) == []
    return session.text(request), "\n".join(bundle["text/plain"] for bundle in session.displays(request))


def test_logs_lists_who_wrote_and_gives_what_one_wrote(session: Any) -> None:
    _, listed = shown(session, "%jray logs")
    assert listed.count("talk") == 3
    task_id = re.search(r"\b[0-9a-f]{8,}\b", listed)
    assert task_id is not None
    _, written = shown(session, f"%jray logs {task_id[0]} --tail 1")
    assert re.search(r"word \d", written)


def test_a_task_that_wrote_nothing_has_no_log(session: Any) -> None:
    request = session.start("%jray logs ffffffff")
    session.wait_idle(request)
    assert "ffffffff" in session.text(request, "stderr")


def test_lens_shows_a_cell_and_is_switched(session: Any) -> None:
    _, picture = shown(session, "%jray lens")
    assert "fail" in picture
    shown(session, "%jray lens off")
    mode, _ = shown(session, "print(get_ipython().meta.jray.lens.mode)")
    assert mode == "off\n"
    shown(session, "%jray lens auto")
    request = session.start("%jray lens sometimes")
    session.wait_idle(request)
    assert "takes auto, on, off or a cell" in session.text(request, "stderr")


def test_debug_runs_the_failed_call_again(session: Any) -> None:
    """Where nobody can be asked, the traceback is all."""
    request = session.start("%jray debug", allow_stdin=False)
    session.wait_idle(request)
    assert "fail(), task" in session.text(request)
    assert "runs again here" in session.text(request)
    (error,) = session.errors(request)
    assert (error["ename"], error["evalue"]) == ("ValueError", "7")


def test_interrupt_says_and_sets_the_policy(session: Any) -> None:
    assert shown(session, "%jray interrupt")[0].startswith("cancel: ")
    assert shown(session, "%jray interrupt detach")[0].startswith("detach: ")
    shown(session, "%jray interrupt cancel")


def test_panel_is_a_widget_with_a_text(session: Any) -> None:
    request = session.start("panel = %jray panel\npanel")
    session.wait_idle(request)
    (bundle,) = session.displays(request)
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "talk" in bundle["text/html"]
    shown(session, "panel.close()")
