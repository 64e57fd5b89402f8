"""The view of a cell's work: what is known, how it looks, and when it is shown; all without a kernel."""

from __future__ import annotations

import dataclasses
import math
import re
import threading
import time
import types
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jray._core.engine import Demand, Holder, Span, Tally
from jray._core.refs import current
from jray.notebook.cells import CellTable
from jray.notebook.kernel_frontend import WorkListener
from jray.notebook.lens import CellLens, live, view
from jray.notebook.lens.picture import LIVE_BYTES, STATIC_BYTES, Picture, cost_line
from jray.notebook.lens.progress import Counts, Progress
from jray.notebook.lens.reason import short_name, why_idle, why_waiting
from jray.notebook.lens.timeline import MOST_BARS, MOST_LANES, Timeline, Work
from jray.notebook.lens.view import CellView, Moment
from jray.notebook.lens.words import duration, rate
from tests.behaviour.support import wait_until


def span(
    start_ms: float,
    end_ms: float | None,
    *,
    worker: str = "w",
    name: str = "f",
    actor: str = "",
    calls: int = 1,
    failed: int = 0,
    bringing_ms: float = 0.0,
    submitted_ms: float | None = None,
) -> Span:
    busy_ms = 0.0 if end_ms is None else end_ms - start_ms
    return Span(
        worker, 7, actor, name, 1, start_ms, end_ms, calls, failed, busy_ms, bringing_ms, submitted_ms
    )


def tally(
    name: str = "f", submitted: int = 10, finished: int = 0, failed: int = 0, running: int = 0
) -> Tally:
    return Tally(1, name, submitted=submitted, finished=finished, failed=failed, running=running)


def at(seconds: float) -> Moment:
    return Moment(seconds, seconds * 1000)


# --- the timeline ----------------------------------------------------------------------------------


def test_each_answer_goes_on_where_the_last_one_ended() -> None:
    """What is told again is not drawn again; of calls that come many in a span, only the new part is."""
    timeline = Timeline(0)
    timeline.add([span(10, 200), span(210, 220, calls=5), span(230, None)], asked_ms=240)
    timeline.add([span(215, 240, calls=9), span(230, 400), span(410, None)], asked_ms=450)
    (lane,) = timeline.lanes().lanes
    assert [(bar.start_ms, bar.end_ms) for bar in lane.bars] == [
        (10, 200), (210, 220), (220, 240), (230, 400), (410, None)
    ]  # fmt: skip
    assert timeline.since_ms < 450


def test_a_hundred_thousand_short_calls_stay_few_bars() -> None:
    """However many spans come, of however many functions in turn, the model and the page are bounded."""
    timeline = Timeline(0)
    for round_ in range(100):
        spans = [
            span(
                round_ * 500 + n,
                round_ * 500 + n + 0.9,
                worker=f"w{n % 8}",
                name="fgh"[n % 3],
                failed=n % 100 == 0,
            )
            for n in range(500)
        ] * 2
        timeline.add(spans, asked_ms=(round_ + 1) * 500)
        assert timeline.lanes().bars <= MOST_BARS
    assert timeline.resolution_ms > 2
    picture = Picture(
        "In[1]", (Counts("f", submitted=9),), Counts("", submitted=9), lanes=timeline.lanes(), now_ms=50_000
    )
    assert len(picture.bundle()["text/html"].encode()) <= LIVE_BYTES
    assert len(str(picture.bundle(STATIC_BYTES)).encode()) <= STATIC_BYTES * 1.05


def test_long_calls_on_many_workers_are_not_merged_into_what_never_was() -> None:
    """Two calls that are long keep their bars, at every resolution below their length."""
    timeline = Timeline(0)
    timeline.add([span(n * 1000, n * 1000 + 999, worker=f"w{n % 3}") for n in range(90)], asked_ms=90_000)
    assert timeline.lanes().bars == 90


def test_workers_that_follow_one_another_share_lanes_where_there_are_many() -> None:
    timeline = Timeline(0)
    timeline.add([span(n * 10, n * 10 + 9, worker=f"w{n}") for n in range(100)], asked_ms=2000)
    assert len(timeline.lanes().lanes) == 1
    crowd = Timeline(0)
    crowd.add([span(n, 1000 + n, worker=f"w{n}") for n in range(100)], asked_ms=2000)
    assert (len(crowd.lanes().lanes), crowd.lanes().hidden_lanes) == (MOST_LANES, 100 - MOST_LANES)


def test_actors_have_their_names_and_come_first() -> None:
    timeline = Timeline(0)
    timeline.add(
        [
            span(0, 1, worker="a"),
            *(span(0, 1, worker=w, actor=c) for w, c in (("b", "A"), ("c", "B"), ("d", "B"))),
        ],
        asked_ms=10,
    )
    assert [lane.label for lane in timeline.lanes().lanes] == ["A", "B 1", "B 2", "worker 1"]


def test_a_worker_that_cannot_answer_still_runs_what_it_ran() -> None:
    """Until nothing of that kind runs any more."""
    timeline = Timeline(0)
    timeline.add([span(10, None, worker="a"), span(10, None, worker="b")], asked_ms=100, running=2)
    timeline.add([span(10, None, worker="b")], asked_ms=2000, running=2)
    assert timeline.lanes().bars == 2
    timeline.add([span(10, None, worker="b")], asked_ms=3000, running=1)
    assert timeline.lanes().bars == 1


def test_what_workers_have_forgotten_is_no_pause() -> None:
    """They remember the last ten thousand calls; where more ended, they were busy all the time."""
    timeline = Timeline(0)
    timeline.add([span(0, 480, calls=1000)], asked_ms=500, ended=1000)
    timeline.add([span(800, 990, calls=1000)], asked_ms=1000, ended=50_000)
    (lane,) = timeline.lanes().lanes
    assert lane.bars[-1].start_ms == 480


# --- progress --------------------------------------------------------------------------------------


def test_a_rate_is_known_after_some_outcomes_and_follows_them() -> None:
    progress = Progress(0.0)
    progress.look([tally(submitted=100)], 1.0)
    assert progress.total().rate is None
    assert progress.total().left_s is None
    for n in range(2, 12):
        progress.look([tally(submitted=100, finished=5 * n)], n / 2)
    total = progress.total()
    assert total.rate is not None
    assert total.left_s is not None
    assert 9 < total.rate < 12
    assert 3 < total.left_s < 6
    for n in range(12, 60):
        progress.look([tally(submitted=100, finished=55)], n / 2)
    assert (progress.total().left_s or 0) > 50, "what stands still takes longer and longer"


def test_another_cluster_counts_on_and_what_was_lost_is_cancelled() -> None:
    progress = Progress(0.0)
    progress.look([tally(submitted=10, finished=4, running=2)], 1.0)
    progress.begin_again()
    progress.look([tally(submitted=5, finished=5)], 2.0)
    total = progress.total()
    assert (total.submitted, total.finished, total.cancelled, total.pending) == (15, 9, 6, 0)


# --- reasons ---------------------------------------------------------------------------------------

LABELS: dict[int, str] = {1: "In[1]", 3: "In[3]"}


def waits(
    reason: str = "waits for 1 CPU: 2 of 2 in use", *holders: Holder, name: str = "m.f", cell: int = 1
) -> Demand:
    return Demand(name, cell, 2, reason, holders)


def test_a_reason_names_who_holds_what_is_lacking() -> None:
    held = waits("waits for 1 CPU: 2 of 2 in use", Holder("actor Trainer", 3, 2), Holder("m.g", 0, 1))
    assert why_waiting(1, [Counts("m.f", submitted=4)], [held], LABELS.get) == (
        "waits for 1 CPU: 2 of 2 in use by 2 \N{MULTIPLICATION SIGN} actor Trainer (In[3]) and g (another program)"
    )


def test_a_reason_names_what_waits_where_there_are_several() -> None:
    rows = [Counts("m.f", submitted=4), Counts("m.g", submitted=4)]
    demands = [
        waits("needs 4 CPU, the node has 2 CPU"),
        waits("waits for a worker to start", name="m.g"),
        waits(cell=9),
    ]
    assert why_waiting(1, rows, demands, LABELS.get) == (
        "f needs 4 CPU, the node has 2 CPU; g waits for a worker to start"
    )


def test_that_calls_wait_for_those_of_their_own_cell_needs_no_words() -> None:
    own = waits("waits for 1 CPU: 2 of 2 in use", Holder("m.f", 1, 2))
    assert why_waiting(1, [Counts("m.f", submitted=4, running=2)], [own], LABELS.get) is None
    assert why_waiting(1, [Counts("m.f", submitted=4)], [own], LABELS.get) is not None


def test_a_call_waits_for_its_actor_and_that_for_resources() -> None:
    rows = [Counts("Trainer.fit", is_actor_call=True, submitted=1)]
    demand = waits("waits for 1 CPU: 2 of 2 in use", name="actor Trainer", cell=3)
    assert why_waiting(1, rows, [demand], LABELS.get) == "actor Trainer waits for 1 CPU: 2 of 2 in use"
    assert why_idle(rows) == "waits for arguments, or its turn at the actor"


def test_what_asks_for_nothing_waits_for_its_arguments() -> None:
    assert why_idle([Counts("f", submitted=4)]) == "waits for its arguments"
    assert why_idle([Counts("f", submitted=4, running=1)]) is None


@pytest.mark.parametrize(
    ("name", "short"),
    [("m.n.f", "f"), ("m.g.<locals>.f", "f"), ("Counter.add", "Counter.add"), ("In[4]", "In[4]"), ("f", "f")],
)
def test_functions_are_called_by_their_own_names(name: str, short: str) -> None:
    assert short_name(name) == short


# --- pictures --------------------------------------------------------------------------------------


def example(**given: Any) -> Picture:
    timeline = Timeline(0)
    timeline.add(
        [
            span(0, 900, name="m.<b>f</b>"),
            span(900, 1400, name="m.g", failed=1),
            span(1400, None, name="m.g"),
        ],
        asked_ms=2000,
    )
    functions = (
        Counts("m.<b>f</b>", submitted=3, finished=1, running=1, rate=2.0, left_s=1.5),
        Counts("m.g", submitted=1, failed=1),
    )
    total = Counts("", submitted=4, finished=1, failed=1, running=1, rate=2.0, left_s=1.5)
    fields: dict[str, Any] = {
        "reason": "waits for <1> CPU",
        "lanes": timeline.lanes(),
        "now_ms": 2000.0,
        **given,
    }
    return Picture("In[4]", functions, total, **fields)


def test_a_picture_is_well_formed_and_every_word_of_the_users_is_escaped() -> None:
    page = example().html()
    ET.fromstring(page.replace("<details open>", "<details>"))  # noqa: S314 -- it is our own
    assert "<b>" not in page
    assert "&lt;b&gt;f&lt;/b&gt;" in page
    assert "waits for &lt;1&gt; CPU" in page


def test_text_and_lines_take_the_colours_of_the_theme() -> None:
    """No colour of a text or a ground is fixed, and there is neither a script nor a style sheet."""
    page = example().html()
    colours = re.findall(r"(?<![-\w])(?:color|background(?:-color)?):([^;\"]*)", page)
    assert set(colours) == {"var(--jp-ui-font-color1,inherit)", "var(--jp-error-color1,inherit)"}
    assert set(re.findall(r'(?:stroke|fill)="([^"]*)"', page)) - {"currentColor", "none"} <= {
        "#4a8fdc",
        "#e69a2e",
    }
    assert not re.search(r"<(script|style)\b|\bon\w+=|position:", page)
    assert page.startswith('<div class="jray-lens"')
    assert "<details open>" in page


def test_the_words_alone_say_it_all() -> None:
    """Where drawings and styles are taken away, as on GitHub, and in the text form."""
    page = re.sub(r"<svg.*?</svg>", "", example().html())
    words = re.sub(r"<[^>]*>", " ", page)
    for said in ("1 of 4 done", "1 failed", "1 running", "2.0/s, 2 s left", "waits for"):
        assert said in words
        assert said in example().text()
    assert "[########" in example().text()


def test_the_timeline_shows_failures_in_red_and_what_runs_as_open() -> None:
    page = example().html()
    assert page.count("<title>") == 3
    assert "g: 500 ms, from 900 ms, 1 failed, pid 7" in page
    assert "g: running for 600 ms, from 1.4 s, pid 7" in page
    assert re.search(r'style="fill:var\(--jp-error-color1,#d93f3f\)"><rect x="\d+', page)
    assert 'path opacity=".55"' in page
    assert re.search(r">0 s</text>.*>1 s</text>.*>2 s</text>", page)


def drawn(*spans: Span) -> str:
    timeline = Timeline(0)
    timeline.add(spans, asked_ms=1000)
    return Picture("In[1]", (), Counts("", submitted=3), lanes=timeline.lanes(), now_ms=1000).html()


def test_a_call_has_a_part_for_waiting_one_for_its_arguments_and_one_for_running() -> None:
    """A line, a bar of half the height and a whole one, each as long as it took; and what they mean."""
    page = drawn(span(200, 1000, submitted_ms=0, bringing_ms=300))
    ((line_start, line_end),) = re.findall(r'<path d="M([\d.]+) [\d.]+H([\d.]+)" stroke-width', page)
    (call,) = re.findall(r"<g><title>.*?</g>", page)
    rects = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="([\d.]+)"', call)
    (brought, runs) = [tuple(map(float, found)) for found in rects]
    whole = brought[1] + runs[1]
    assert float(line_end) == brought[0]
    assert float(line_end) - float(line_start) == pytest.approx(whole / 4, rel=0.02)
    assert brought[1] == pytest.approx(whole * 3 / 8, rel=0.02)
    assert runs[0] == pytest.approx(brought[0] + brought[1], abs=0.2)
    assert brought[2] * 2 == runs[2]
    assert ">waits</text>" in page
    assert ">gets code and arguments</text>" in page
    assert (
        "f: 800 ms, 300 ms of it to get code and arguments, from 200 ms, waited 200 ms before, pid 7" in page
    )


def test_a_part_of_a_call_that_runs_is_drawn_too() -> None:
    page = drawn(span(200, None, submitted_ms=0, bringing_ms=300))
    assert (
        "f: running for 800 ms, 300 ms of it to get code and arguments, from 200 ms, waited 200 ms before"
        in page
    )
    assert 'path opacity=".55"' in page
    assert ">waits</text>" in page


def test_that_a_call_waits_while_its_worker_runs_others_is_not_drawn() -> None:
    """All calls of a loop wait from the first moment on: what is seen is when a worker had nothing to do."""
    page = drawn(span(0, 500, submitted_ms=0), span(500, 700, submitted_ms=0), span(900, 950, submitted_ms=0))
    (waits,) = re.findall(r'<path d="([^"]*)" stroke-width', page)
    assert waits.count("M") == 1
    assert "waited 900 ms before" in page


def test_calls_without_parts_have_no_legend_and_short_ones_together_are_one_bar() -> None:
    assert "waits</text>" not in drawn(span(0, 500, submitted_ms=0))
    page = drawn(span(0, 500, calls=10, bringing_ms=300, submitted_ms=0))
    assert page.count("<title>") == 1
    assert "10 calls, 500 ms, 300 ms of it to get code and arguments, from 0 ms, pid 7" in page
    assert "gets code and arguments</text>" not in page


def test_a_large_picture_loses_words_then_parts_then_bars() -> None:
    """Whatever it loses, the bars that are left are whole."""
    timeline = Timeline(0)
    timeline.add(
        [
            span(n * 1000 + 300, n * 1000 + 900, submitted_ms=n * 1000, bringing_ms=200, worker=f"w{n % 3}")
            for n in range(90)
        ],
        asked_ms=90_000,
    )
    whole = Picture("In[1]", (), Counts("", submitted=90), lanes=timeline.lanes(), now_ms=90_000)
    size = len(whole.html(10**6).encode())
    parted = whole.html(size - 1)
    assert "<title>" not in parted
    assert "waits</text>" in parted
    plain = whole.html(len(parted.encode()) - 1)
    assert "waits</text>" not in plain
    assert plain.count('height="13.0"') == 90
    assert whole.html(len(plain.encode()) - 1).count('height="13.0"') == 45


def test_a_cell_that_runs_on_a_worker_is_named_once() -> None:
    row = Counts("In[4]", submitted=1, running=1)
    assert Picture("In[4]", (row,), row).html().count("In[4]") == 1


def test_overlapping_calls_of_an_actor_are_drawn_beside_each_other() -> None:
    timeline = Timeline(0)
    timeline.add(
        [span(0, 1000, actor="A"), span(100, 900, actor="A"), span(1000, 1500, actor="A")], asked_ms=2000
    )
    page = Picture("In[1]", (), Counts("", submitted=3), lanes=timeline.lanes(), now_ms=1500).html()
    tops = re.findall(r'<rect x="[\d.]+" y="([\d.]+)"', page)
    assert (tops[0] == tops[2]) is True
    assert tops[0] != tops[1]


def test_what_work_cost_is_told_only_where_it_is_known() -> None:
    total = Counts("", submitted=200, finished=200)
    known = Work(calls=200, busy_ms=12_400, workers=4, names=frozenset({"f"}))
    names = frozenset({"f"})
    assert cost_line(total, known, names, 3.2) == "200 tasks in 3.2 s, 12.4 s of work on 4 workers: 3.9x"
    assert cost_line(total, None, names, 3.2) == "200 tasks in 3.2 s"
    # a task that waits for tasks of its own works no more than these
    needy = dataclasses.replace(known, bringing_ms=3000)
    assert cost_line(total, needy, names, 3.2) == (
        "200 tasks in 3.2 s, 12.4 s of work on 4 workers (3.0 s of it to get code and arguments): 3.9x"
    )
    merged = dataclasses.replace(known, busy_ms=None)
    assert cost_line(total, merged, names, 3.2) == "200 tasks in 3.2 s"
    nested = Work(calls=200, busy_ms=1, workers=4, names=frozenset({"f", "inner"}))
    assert cost_line(total, nested, names, 3.2) == "200 tasks in 3.2 s"


def test_times_and_rates_are_said_with_the_digits_that_matter() -> None:
    assert [duration(s) for s in (0.04, 12.44, 59.97, 125, 4800)] == [
        "40 ms",
        "12.4 s",
        "1 min",
        "2 min 5 s",
        "1 h 20 min",
    ]
    assert [rate(r) for r in (0.05, 2, 61.2, 99_648)] == ["3/min", "2.0/s", "61/s", "99,600/s"]


# --- a view ----------------------------------------------------------------------------------------


def test_the_end_is_when_the_last_call_ended_not_when_it_was_seen() -> None:
    found = CellView(1, "In[1]", at(0))
    found.count([tally(submitted=2, finished=1, running=1)], at(1))
    found.draw([span(0, 500), span(500, None)], 1000)
    found.count([tally(submitted=2, finished=2)], at(2))
    found.draw_all([span(0, 500), span(500, 1700)], 2000)
    assert found.picture(at(9), is_static=True).cost == "2 tasks in 1.7 s, 1.7 s of work on 1 worker"


def test_a_reason_comes_after_two_seconds_without_progress_and_goes_with_it() -> None:
    found = CellView(1, "In[1]", at(0))
    found.count([tally()], at(1))
    assert not found.is_stuck(at(1.9))
    assert found.is_stuck(at(2))
    found.explain([waits()], LABELS.get)
    assert found.picture(at(2), is_static=False).reason == "waits for 1 CPU: 2 of 2 in use"
    found.count([tally(running=1)], at(3))
    assert found.picture(at(3), is_static=False).reason is None


def test_time_alone_is_shown_ever_less_often() -> None:
    """An hour of one call is some dozen updates."""
    found = CellView(1, "In[1]", at(0))
    found.count([tally(running=1)], at(1))
    shown, updates = 1.0, 0
    for half_seconds in range(3, 7200):
        if found.has_aged(shown, at(half_seconds / 2)):
            shown, updates = half_seconds / 2, updates + 1
    assert updates < 100
    found.count([tally(running=0)], at(3601))
    assert not found.has_aged(0, at(5000)), "nothing runs: nothing new"


# --- the live view, over a watch and a clock of the test's own ------------------------------------


class Screen:
    """What a front end was asked to show."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, dict[str, str], str, bool]] = []
        self.listener: WorkListener | None = None

    def hear_of_work(self, listener: WorkListener | None) -> None:
        self.listener = listener

    def show(self, cell: int, data: dict[str, str], display_id: str, *, is_update: bool) -> None:
        self.shown.append((cell, data, display_id, is_update))

    def last(self) -> str:
        return self.shown[-1][1]["text/plain"]


class Watch:
    """What an engine would tell."""

    def __init__(self) -> None:
        self.counts: dict[int, list[Tally]] = {}
        self.counted = 0
        self.asked = 0
        self.found: list[Span] = []
        self.on_spans: Callable[[], None] = lambda: None

    def tallies(self, cell: int | None = None) -> list[Tally]:
        self.counted += 1
        return [t for number, found in self.counts.items() if cell in {None, number} for t in found]

    def spans(self, cell: int | None, since_ms: float, resolution_ms: float) -> list[Span]:
        self.asked += 1
        self.on_spans()
        return self.found

    def demands(self) -> list[Demand]:
        return []


class Stage:
    """A lens whose cells the test runs, and whose time is fast."""

    def __init__(self, **options: Any) -> None:
        self.screen = Screen()
        self.watch = Watch()
        self.cells = CellTable()
        self.lens = CellLens(self.screen, self.cells, **options)
        current.client = types.SimpleNamespace(watch=self.watch)

    def enter(self) -> int:
        number = self.cells.add(
            {"msg_id": "m"}, cell_id=None, execution_count=len(self.cells) + 1, notebook=None
        ).number
        self.lens.entered(number)
        return number

    def submits(self, cell: int, *found: Tally) -> None:
        """Do as a front end does at a submit."""
        listener = self.screen.listener
        if listener is not None and cell not in listener.known:
            listener.told_of_work(cell)
        self.watch.counts[cell] = [dataclasses.replace(tally, cell=cell) for tally in found]

    def is_asleep(self) -> bool:
        with self.lens._looking:  # between two looks
            return all(watched.due_s is None for watched in self.lens._watched.values())


@pytest.fixture
def make_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    """Stages on which a second takes a twentieth."""
    monkeypatch.setattr(live, "FIRST_S", 0.05)
    monkeypatch.setattr(live, "LOOK_S", 0.025)
    monkeypatch.setattr(view, "LOOK_S", 0.025)
    monkeypatch.setattr(view, "FIRST_S", 0.0)  # whatever is shown took long enough to be timed
    monkeypatch.setattr(view, "_RAREST_LOOK_S", 0.1)
    monkeypatch.setattr(view, "STUCK_S", 600.0)  # and none so long that its reason is asked for
    monkeypatch.setattr(live, "_LATE_S", math.inf)  # nor does a look count as late
    stages: list[Stage] = []
    before = current.client

    def make(**options: Any) -> Stage:
        stages.append(Stage(**options))
        return stages[-1]

    yield make
    for stage in stages:
        stage.lens.close()
    current.client = before
    wait_until(lambda: not threads())


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "jray-lens"]


def test_work_that_takes_long_is_shown_once_and_updated_to_its_end(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    cell = stage.enter()
    stage.submits(cell, tally(submitted=2, running=1))
    wait_until(lambda: stage.screen.shown)
    assert "0 of 2 done, 1 running, 1 waiting" in stage.screen.last()
    stage.submits(cell, tally(submitted=2, finished=2))
    wait_until(lambda: "2 of 2 done" in stage.screen.last())
    stage.lens.left()
    wait_until(lambda: "2 tasks in" in stage.screen.last())
    wait_until(stage.is_asleep)
    assert [is_update for *_, is_update in stage.screen.shown] == [False] + [True] * (
        len(stage.screen.shown) - 1
    )
    assert {display_id for _, _, display_id, _ in stage.screen.shown} == {f"jray-lens-m-{cell}"}


def test_work_goes_on_being_shown_after_its_cell_has_ended(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    cell = stage.enter()
    stage.submits(cell, tally(submitted=1, running=1))
    stage.lens.left()
    other = stage.enter()
    wait_until(lambda: stage.screen.shown)
    stage.submits(cell, tally(submitted=1, finished=1))
    wait_until(lambda: "1 task in" in stage.screen.last())
    assert {number for number, *_ in stage.screen.shown} == {cell} != {other}


def test_quick_work_is_not_shown_and_then_nothing_is_looked_at(make_stage: Callable[..., Stage]) -> None:
    """The thread sleeps without a limit, also while the cell runs on."""
    stage = make_stage()
    cell = stage.enter()
    stage.submits(cell, tally(submitted=5, finished=5))
    wait_until(stage.is_asleep)
    assert stage.screen.shown == []
    assert stage.watch.asked == 0
    assert cell not in stage.lens.known, "the next submit is news again"
    # the cell goes on to submit: together it takes long
    stage.submits(cell, tally(submitted=6, finished=5, running=1))
    wait_until(lambda: stage.screen.shown)


@pytest.mark.parametrize("lasted_s", [0.5, 1.5])
def test_work_that_ended_before_a_late_look_is_shown_if_it_took_long(
    make_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, lasted_s: float
) -> None:
    """The thread may get its turn late, in a cell that keeps Python to itself; quick work is shown no more than ever."""
    monkeypatch.setattr(live, "_LATE_S", -1.0)
    monkeypatch.setattr(live, "FIRST_S", 1.0)
    stage = make_stage()
    cell = stage.enter()
    since_ms = time.time() * 1000
    stage.watch.found = [Span("w", 1, "", "f", cell, since_ms, since_ms + 1000 * lasted_s)]
    stage.submits(cell, tally(submitted=1, finished=1))
    wait_until(lambda: stage.watch.asked)
    wait_until(stage.is_asleep)
    assert bool(stage.screen.shown) == (lasted_s > 1)


def test_a_cell_that_ends_in_the_midst_of_a_look_has_its_last_picture(
    make_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing of it was shown yet when its end was told."""
    monkeypatch.setattr(live, "_LATE_S", -1.0)
    stage = make_stage()
    cell = stage.enter()
    ends = threading.get_ident()
    stage.watch.on_spans = lambda: stage.lens._end_those_of(ends)
    since_ms = time.time() * 1000
    stage.watch.found = [Span("w", 1, "", "f", cell, since_ms, since_ms + 5000)]
    stage.submits(cell, tally(submitted=1, finished=1))
    wait_until(lambda: bool(stage.screen.shown) and "1 task in" in stage.screen.last())
    wait_until(stage.is_asleep)


def submits_late(stage: Stage, cell: int, found: Tally) -> None:
    """Tell of work, submit it some looks later, and wait until it is shown."""
    assert stage.screen.listener is not None
    stage.screen.listener.told_of_work(cell)
    before, shown = stage.watch.counted, len(stage.screen.shown)
    wait_until(lambda: stage.watch.counted > before + 3)
    stage.submits(cell, found)
    wait_until(lambda: len(stage.screen.shown) > shown)


def test_what_is_submitted_long_after_it_was_told_is_shown(make_stage: Callable[..., Stage]) -> None:
    """As what takes long to be pickled is; also where the cell had other work before."""
    stage = make_stage()
    cell = stage.enter()
    submits_late(stage, cell, tally(submitted=1, running=1))
    stage.submits(cell, tally(submitted=1, finished=1))
    wait_until(stage.is_asleep)
    submits_late(stage, cell, tally(submitted=2, finished=1, running=1))


def test_a_cell_without_work_starts_no_thread(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    stage.enter()
    stage.lens.left()
    assert threads() == []


def test_nothing_new_is_no_update(make_stage: Callable[..., Stage]) -> None:
    """Calls that wait and wait are looked at, not shown again."""
    stage = make_stage()
    cell = stage.enter()
    stage.submits(cell, tally(submitted=3))
    wait_until(lambda: stage.screen.shown)
    before = stage.watch.counted
    wait_until(lambda: stage.watch.counted > before + 6)
    assert len(stage.screen.shown) == 1


def test_a_cluster_that_is_left_leaves_a_right_last_state(make_stage: Callable[..., Stage]) -> None:
    """The last counts are taken from the engine that is gone; what had not ended is said to be cancelled."""
    stage = make_stage()
    cell = stage.enter()
    stage.submits(cell, tally(submitted=5, finished=1, running=1))
    wait_until(lambda: stage.screen.shown)
    stage.watch.counts[cell] = [tally(submitted=5, finished=3)]
    current.client = None
    stage.lens.left()
    wait_until(lambda: "5 tasks in" in stage.screen.last())
    assert "2 cancelled" in stage.screen.last()
    assert "the cluster was shut down before this ended" in stage.screen.last()
    wait_until(stage.is_asleep)


@pytest.mark.parametrize(
    ("options", "is_shown"),
    [
        ({}, True),
        ({"is_repeatable": True}, False),
        ({"mode": "off"}, False),
        ({"mode": "on", "is_repeatable": True}, True),
    ],
)
def test_who_is_shown_what(make_stage: Callable[..., Stage], options: dict[str, Any], is_shown: bool) -> None:
    """Where a notebook must show the same each time nobody even hears of work, unless it is asked for."""
    stage = make_stage(**options)
    assert (stage.screen.listener is not None) is is_shown
    stage.lens.mode = "off"
    assert stage.screen.listener is None
    stage.lens.mode = "on"
    assert stage.screen.listener is not None
    with pytest.raises(ValueError, match="auto, on, off"):
        stage.lens.mode = "maybe"


def test_a_picture_can_be_asked_for(make_stage: Callable[..., Stage]) -> None:
    """Of the last cell or a named one; also of one that nobody looked at."""
    stage = make_stage(mode="off")
    with pytest.raises(LookupError, match="No cell has submitted work"):
        stage.lens.show()
    first, second = stage.enter(), stage.enter()
    stage.submits(first, tally("f", submitted=2, finished=2))
    stage.submits(second, tally("g", submitted=4, finished=1))
    assert "In[2]: 1 of 4 done" in stage.lens.show().text()
    bundle = stage.lens.show(1)._repr_mimebundle_()
    assert bundle["text/plain"].startswith("jray In[1]: 2 tasks\n"), "when they were done nobody saw"
    assert set(bundle) == {"text/plain", "text/html"}
    with pytest.raises(LookupError, match=r"In\[7\]"):
        stage.lens.show(7)


def test_a_defect_stops_one_view_only(
    make_stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture
) -> None:
    stage = make_stage()
    bad, good = stage.enter(), stage.enter()
    whole = stage.watch.tallies

    def tallies(cell: int | None = None) -> list[Tally]:
        if cell == bad:
            raise ZeroDivisionError
        return whole(cell)

    stage.watch.tallies = tallies  # type: ignore[method-assign]
    stage.submits(bad, tally())
    stage.submits(good, tally())
    wait_until(lambda: stage.screen.shown)
    wait_until(lambda: "The view of In[1] stopped" in caplog.text)
    assert {number for number, *_ in stage.screen.shown} == {good}
