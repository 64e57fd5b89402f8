"""The view of cells' work in a real kernel, over a real cluster."""

from __future__ import annotations

import re
import textwrap
import time
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


def last_text(session: Any, request: str) -> str:
    found = session.pictures(request)
    return str(found[-1]["content"]["data"]["text/plain"]) if found else ""


def last_page(session: Any, request: str) -> str:
    found = session.pictures(request)
    return str(found[-1]["content"]["data"]["text/html"]) if found else ""


GATED = """
    @jray.remote
    def gated(path):
        while not os.path.exists(path):
            time.sleep(0.01)
        if open(path).read():
            raise ValueError('no')
    """


@pytest.fixture(scope="module")
def gated(session: Any) -> Any:
    """The kernel, with a task that waits for a file, and fails if the file says so."""
    run(session, GATED)
    return session


def test_long_work_is_shown_live_and_stays_as_a_small_picture(gated: Any, tmp_path: Path) -> None:
    """Below the cell that submitted it, also after that has ended: one display, updated at most twice a second."""
    gate = tmp_path / "gate"
    started_s = time.monotonic()
    request = run(gated, f"refs = [gated.remote({str(gate)!r}) for _ in range(6)]; print('mine')")
    other = run(gated, "print('other')")
    gated.wait_until(
        lambda: (
            "2 running, 4 waiting" in last_text(gated, request)
            and last_page(gated, request).count("running for") == 2
        )
    )
    gate.touch()
    gated.wait_until(lambda: "6 tasks in" in last_text(gated, request))
    found = gated.pictures(request)
    assert len(found) <= (time.monotonic() - started_s) / 0.5
    assert [message["msg_type"] for message in found][:1] == ["display_data"]
    assert {message["msg_type"] for message in found[1:]} == {"update_display_data"}
    assert len({message["content"]["transient"]["display_id"] for message in found}) == 1
    *live, final = (message["content"]["data"]["text/html"] for message in found)
    assert max(page.count("running for") for page in live) == 2
    assert "worker 2" in final
    assert "running for" not in final
    assert len(str(found[-1]["content"]["data"]).encode()) <= 10 * 1024
    assert re.search(r"6 tasks in [\d.]+ m?s, .* of work on 2 workers: [\d.]+x", last_text(gated, request))
    assert gated.pictures(other) == []
    assert gated.text(request) == "mine\n"
    said = [message["msg_type"] for message in gated.messages[request]]
    assert said.index("stream") < said.index("display_data")


def test_quick_cells_show_nothing(gated: Any, tmp_path: Path) -> None:
    """Told by a cell that is shown after them: what had been due before it is past."""
    gate = tmp_path / "gate"
    gate.touch()
    quick = [run(gated, f"jray.get([gated.remote({str(gate)!r}) for _ in range(3)])") for _ in range(2)]
    idle = run(gated, "time.sleep(1.2)")
    last = tmp_path / "last"
    slow = gated.start(f"jray.get(gated.remote({str(last)!r}))")
    gated.wait_until(lambda: "1 running" in last_text(gated, slow))
    last.touch()
    gated.wait_until(lambda: "1 task in" in last_text(gated, slow))
    assert gated.pictures(idle) == []
    for request in quick:
        begin, *_, end = (message["header"]["date"] for message in gated.messages[request])
        assert gated.pictures(request) == [] or (end - begin).total_seconds() > 0.9


def test_failures_leave_a_right_last_state(gated: Any, tmp_path: Path) -> None:
    gate, bad = tmp_path / "gate", tmp_path / "bad"
    request = gated.start(
        f"refs = [gated.remote({str(gate)!r}) for _ in range(2)] + [gated.remote({str(bad)!r}) for _ in range(3)]\n"
        "jray.get(refs, return_exceptions=True);"
    )
    gated.wait_until(lambda: "2 running, 3 waiting" in last_text(gated, request))
    bad.write_text("fail")
    gate.touch()
    gated.wait_until(lambda: "5 tasks in" in last_text(gated, request))
    assert "3 failed" in last_text(gated, request)
    assert "2 of 5 done" in gated.pictures(request)[-1]["content"]["data"]["text/html"]


def test_an_interrupt_leaves_a_right_last_state(gated: Any, tmp_path: Path) -> None:
    """What it cancelled is over."""
    gate = tmp_path / "gate"
    request = gated.start(f"jray.get([gated.remote({str(gate)!r}) for _ in range(5)])")
    gated.wait_until(lambda: "2 running, 3 waiting" in last_text(gated, request))
    gated.interrupt()
    gated.wait_idle(request)
    assert gated.errors(request)[0]["ename"] == "KeyboardInterrupt"
    gated.wait_until(lambda: "5 cancelled" in last_text(gated, request))
    assert "running" not in last_text(gated, request)


def test_what_waits_says_for_what_and_who_has_it(gated: Any, tmp_path: Path) -> None:
    """After two seconds: the actor that has the CPUs, and the cell that made it; or that arguments are missing."""
    gate = tmp_path / "gate"
    made = run(
        gated,
        """
        @jray.remote(num_cpus=2)
        class Trainer:
            def fit(self): pass
        trainer = Trainer.remote()
        jray.get(trainer.fit.remote())
        number = len(In) - 1
        print(number)
        """,
    )
    number = gated.text(made).strip()
    request = run(gated, f"late = gated.remote({str(gate)!r})")
    reason = f"waits for 1 CPU: 2 of 2 in use by actor Trainer (In[{number}])"
    gated.wait_until(lambda: reason in last_text(gated, request))
    assert reason in gated.pictures(request)[-1]["content"]["data"]["text/html"]
    run(gated, "jray.kill(trainer)")
    gated.wait_until(lambda: "1 running" in last_text(gated, request))
    assert "waits for" not in last_text(gated, request)
    needy = run(gated, "@jray.remote\ndef after(x): pass\nneedy = after.remote(late)")
    gated.wait_until(lambda: "waits for its arguments" in last_text(gated, needy))
    gate.touch()
    gated.wait_until(lambda: "1 task in" in last_text(gated, needy))
    assert "waits for" not in last_text(gated, needy)


def test_an_awaited_cell_is_shown_and_a_cell_run_again_starts_anew(gated: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    code = f"ref = gated.remote({str(gate)!r})\nawait ref"
    first = gated.start(code)
    gated.wait_until(lambda: "1 running" in last_text(gated, first))
    gate.touch()
    gated.wait_until(lambda: "1 task in" in last_text(gated, first))
    gate.unlink()
    second = gated.start(code)
    gated.wait_until(lambda: "1 running" in last_text(gated, second))
    assert "0 of 1 done" in last_text(gated, second)
    gate.touch()
    gated.wait_until(lambda: "1 task in" in last_text(gated, second))
    ids = [gated.pictures(request)[0]["content"]["transient"]["display_id"] for request in (first, second)]
    assert ids[0] != ids[1]


def test_a_picture_of_quick_work_can_be_asked_for(gated: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    run(gated, f"jray.get([gated.remote({str(gate)!r}) for _ in range(3)])")
    request = run(gated, "get_ipython().meta.jray.lens.show()")
    (bundle,) = gated.displays(request)
    assert re.search(r": 3 tasks in [\d.]+ m?s, .* of work on ", bundle["text/plain"])
    assert '<div class="jray-lens"' in bundle["text/html"]


@pytest.mark.parametrize(
    "environment", [{"JRAY_NONINTERACTIVE": "1"}, {"JRAY_NONINTERACTIVE": "0", "JRAY_LENS": "off"}]
)
def test_nothing_is_shown_where_a_notebook_must_repeat_itself_or_nobody_wants_it(
    make_kernel: Any, environment: dict[str, str]
) -> None:
    """No display and no thread, unless it is asked for."""
    quiet = make_kernel(**environment)
    request = quiet.run(
        "import jray, time, threading\njray.init(num_cpus=1)\n%load_ext jray\n"
        "@jray.remote\ndef slow(): time.sleep(1.5)\njray.get(slow.remote())\n"
        "print([t.name for t in threading.enumerate() if t.name == 'jray-lens'])"
    )[0]["parent_header"]["msg_id"]
    assert quiet.errors(request) == []
    assert quiet.text(request) == "[]\n"
    quiet.run("jray.shutdown()")
    assert quiet.pictures(request) == []


def test_leaving_ends_the_thread(make_kernel: Any, tmp_path: Path) -> None:
    """What was shown keeps its state, and the extension can be loaded again."""
    gate = tmp_path / "gate"
    loud = make_kernel(JRAY_NONINTERACTIVE="0")
    loud.run("import jray, time, threading, os\njray.init(num_cpus=1)\n%load_ext jray")
    run(loud, GATED)
    request = run(loud, f"ref = gated.remote({str(gate)!r})")
    loud.wait_until(lambda: "1 running" in last_text(loud, request))
    run(
        loud,
        """
        %unload_ext jray
        while [t.name for t in threading.enumerate() if t.name == 'jray-lens']:
            time.sleep(0.01)
        """,
    )
    again = loud.start(f"%load_ext jray\njray.get([ref, gated.remote({str(gate)!r})])")
    loud.wait_until(lambda: "1 waiting" in last_text(loud, again))
    gate.touch()
    loud.wait_until(lambda: "1 task in" in last_text(loud, again))
    loud.run("jray.shutdown()")
