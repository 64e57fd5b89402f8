"""Owns when the panel reads the cluster and what its views are told: little, seldom, and nothing while nobody looks."""

from __future__ import annotations

import collections
import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jray._core.engine import Engine
from jray.exceptions import RaySystemError
from jray.notebook.panel import model
from jray.notebook.panel.model import TITLES, Request, Snapshot, State

#: no tab is read more often
SHORTEST_S = 0.5
#: nor less often, unless that would cost more than `MOST_SHARE` of a core
LONGEST_S = 8.0
MOST_SHARE = 0.05
#: who no front end has spoken for is taken to be looked at for so long: while cells run, none can speak
PRESUMED_S = 60.0
#: the name of the view that is shown before any has spoken
ANY_VIEW = "*"
_LONGEST_RIBBON = 300
#: what others are asked for the tab of tasks has a pace and faults of its own
_ASKED = "tasks asked"
DISCONNECTED = "disconnected: this is the last that was seen. jray.init() takes it up again."

_log = logging.getLogger("jray.notebook")


class Source(Protocol):
    """What reads tabs (`jray.notebook.panel.reading.Reader`)."""

    def forget(self) -> None: ...
    def ask_tasks(self, engine: Engine, expanded: Any) -> None: ...
    def tasks(self, engine: Engine, by: str) -> Snapshot: ...
    def actors(self, engine: Engine) -> Snapshot: ...
    def objects(self, engine: Engine) -> Snapshot: ...
    def nodes(self, engine: Engine) -> Snapshot: ...
    def groups(self, engine: Engine) -> Snapshot: ...
    def logs(self, engine: Engine, expanded: Any) -> Snapshot: ...


class Pace:
    """When something is to be read again: by what reading costs, and whether there was news."""

    def __init__(self) -> None:
        self.due_s = 0.0
        self._interval_s = SHORTEST_S
        self._cost_s = 0.0
        self._soonest_s = 0.0  #: as the cost of the last time allows

    def read(self, now_s: float, cost_s: float, *, is_news: bool) -> None:
        """Note that it was read until *now_s*, which took *cost_s*."""
        self._cost_s = cost_s
        self._interval_s = SHORTEST_S if is_news else min(LONGEST_S, self._interval_s * 2)
        self._soonest_s = now_s + max(SHORTEST_S, cost_s / MOST_SHARE)
        self.due_s = max(now_s + self._interval_s, self._soonest_s)

    @property
    def note(self) -> str:
        """What to say where it is read so seldom that one might wonder; "" where nobody would."""
        seconds = self._cost_s / MOST_SHARE
        # in steps: what flutters would be news all the time
        return (
            f"Single tasks are read every {5 * math.ceil(seconds / 5)} s: there are many."
            if seconds > 3
            else ""
        )

    def hurry(self) -> None:
        """Have it read as soon as the cost of the last time allows."""
        self.due_s = self._soonest_s
        self._interval_s = SHORTEST_S

    def reset(self) -> None:
        """Have it read at once."""
        self.due_s = 0.0
        self._interval_s = SHORTEST_S


@dataclasses.dataclass(slots=True)
class _View:
    request: Request
    is_visible: bool
    ends_s: float | None = None  #: when nobody is taken to look any more
    sent: State = dataclasses.field(default_factory=dict)
    revision: int = 0


class Feed:
    """Keeps views of the cluster up to date.

    `turn` does what is due; `start` has a thread of its own do so.  `hear` may be called from any thread and only
    leaves a note, so that a kernel's main thread never waits for the cluster.
    """

    def __init__(
        self,
        engine_of: Callable[[], Engine | None],
        source: Source,
        send: Callable[[dict[str, Any]], None],
        act: Callable[[Engine, str, str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine_of = engine_of
        self._source = source
        self._send = send
        self._act = act
        self._clock = clock
        self._lock = threading.Condition()
        self._heard: collections.deque[dict[str, Any]] = collections.deque()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        # what follows is only touched by `turn`
        self._views: dict[str, _View] = {}
        self._engine: Engine | None = None
        self._snapshots: dict[tuple[str, str], Snapshot] = {}
        self._paces: collections.defaultdict[str, Pace] = collections.defaultdict(Pace)
        #: by tab, the rows that were expanded when it was read last
        self._unfolded: dict[str, tuple[str, ...]] = {}
        self._pulse: tuple[int, ...] = ()
        #: what to say of tabs that could not be read when it was last tried
        self._troubles: dict[str, str] = {}
        #: what has been logged: the same fault may come twice a second
        self._logged: set[str] = set()

    # -- from any thread --------------------------------------------------------------------------

    def start(self) -> None:
        """Have a thread do the turns.  Doing it again changes nothing."""
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="jray-panel", daemon=True)
                self._thread.start()

    def expect(self) -> None:
        """Take it that somebody looks at a view that cannot speak yet."""
        self._note({"type": "expect"})

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take what a view says: what it wants to see, that it is gone, or that a button was clicked.

        Raises:
            ValueError: it makes no sense.
        """
        kind = message.get("type")
        if kind == "view":
            Request.from_json(message)
        elif kind not in ("gone", "act"):
            raise ValueError(f"A view of the panel says view, gone or act, not {kind!r}.")
        self._note(dict(message))

    def close(self) -> None:
        """End the thread; nothing is sent any more."""
        with self._lock:
            self._is_closed = True
            self._lock.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def _note(self, message: dict[str, Any]) -> None:
        with self._lock:
            self._heard.append(message)
            self._lock.notify_all()

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_closed:
            try:
                wait_s = self.turn()
            except Exception as error:  # noqa: BLE001 -- whoever looks must not be left with a picture that stands still
                wait_s = LONGEST_S
                self._say_to_all(self._trouble(error, "Updating the panel"))
            with self._lock:
                # without anybody who looks there is nothing to wake for but a word
                self._lock.wait_for(lambda: self._heard or self._is_closed, timeout=wait_s)

    def turn(self) -> float | None:
        """Do what is due; return in how many seconds something is again, None: when something is heard."""
        self._take_notes()
        now_s = self._clock()
        for name in [
            name for name, view in self._views.items() if view.ends_s is not None and view.ends_s <= now_s
        ]:
            del self._views[name]
        visible = {name: view for name, view in self._views.items() if view.is_visible}
        if not visible:
            return None
        self._follow_engine()
        requests = [view.request for view in visible.values()]
        troubles = {} if self._engine is None else self._read(self._engine, requests)
        for name, view in visible.items():
            ribbon = DISCONNECTED if self._engine is None else troubles.get(view.request.tab, "")
            self._update(name, view, ribbon)
        return SHORTEST_S

    def _trouble(self, error: Exception, what: str) -> str:
        """Return what to say of an error; one that the cluster is not to blame for is logged, once."""
        if self._engine_of() is not self._engine:  # an engine that ends raises what it likes
            return DISCONNECTED
        if isinstance(error, (OSError, RaySystemError)):
            return f"the cluster does not answer: {error}"
        first = next(iter(str(error).splitlines()), "")
        text = f"{what} failed: {type(error).__name__}{f': {first}' * bool(first)}"
        if text not in self._logged:
            self._logged.add(text)
            _log.error("%s. A defect of jray, please report it.", text, exc_info=error)
        return (
            f"{text[:_LONGEST_RIBBON]}. This is a defect of jray, please report it. What is shown here may be old; the "
            "rest goes on, and this is tried again. jray.panel() shows a new panel."
        )

    def _take_notes(self) -> None:
        while True:
            with self._lock:
                if not self._heard:
                    return
                message = self._heard.popleft()
            kind, name = message["type"], str(message.get("view", ""))
            if kind == "expect":
                if not self._views:
                    self._views[ANY_VIEW] = _View(
                        Request(), is_visible=True, ends_s=self._clock() + PRESUMED_S
                    )
            elif kind == "gone":
                self._views.pop(name, None)
            elif kind == "view":
                self._views.pop(ANY_VIEW, None)
                request, is_visible = Request.from_json(message), bool(message.get("visible", True))
                view = self._views.setdefault(name, _View(request, is_visible))
                if message.get("reset"):
                    view.sent = {}
                view.request, view.is_visible = request, is_visible
            else:
                self._do(message)

    def _do(self, message: Mapping[str, Any]) -> None:
        """Do what a button says and tell its view what came of it."""
        verb, target = str(message.get("verb")), str(message.get("target"))
        engine = self._engine_of()
        text, is_done = "There is no cluster: it was shut down.", False
        if engine is not None:
            try:
                text, is_done = self._act(engine, verb, target), True
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is the user who must know
                text = str(error) or type(error).__name__
        self._send(
            {
                "type": "done",
                "view": message.get("view"),
                "id": message.get("id"),
                "ok": is_done,
                "text": text,
            }
        )
        for pace in self._paces.values():
            pace.reset()

    def _follow_engine(self) -> None:
        engine = self._engine_of()
        if engine is self._engine:
            return
        if engine is not None:  # else the last state stays to be looked at
            self._snapshots.clear()
            self._paces.clear()
            self._source.forget()
            self._unfolded.clear()
            self._pulse = ()
            self._troubles.clear()
        self._engine = engine

    def _read(self, engine: Engine, requests: list[Request]) -> dict[str, str]:
        """Read the tabs that are looked at, as far as they are due; return what to say of those that cannot be read."""
        tabs = {request.tab for request in requests}
        try:
            if self._has_moved(engine):
                for pace in self._paces.values():
                    pace.hurry()
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is told
            for tab in tabs:
                self._troubles[tab] = self._trouble(error, "Counting calls")
        for tab in tabs:
            pace = self._paces[tab]
            started_s = self._clock()
            try:
                if tab == "tasks":
                    self._read_tasks(engine, [request for request in requests if request.tab == tab])
                else:
                    expanded = _expanded(requests, tab)
                    if expanded != self._unfolded.get(tab, ()):
                        pace.reset()
                    self._unfolded[tab] = expanded
                    if started_s < pace.due_s:
                        continue
                    self._read_tab(engine, tab, expanded)
            except Exception as error:  # noqa: BLE001 -- likewise; the other tabs go on
                now_s = self._clock()
                pace.read(now_s, now_s - started_s, is_news=False)
                self._troubles[tab] = self._trouble(error, f"Reading the tab {TITLES[tab]}")
            else:
                self._troubles.pop(tab, None)
        if "tasks" not in self._troubles and _ASKED in self._troubles:
            return {**self._troubles, "tasks": self._troubles[_ASKED]}
        return self._troubles

    def _read_tab(self, engine: Engine, tab: str, expanded: tuple[str, ...]) -> None:
        started_s = self._clock()
        more = (expanded,) if tab == "logs" else ()
        snapshot = getattr(self._source, tab)(engine, *more)
        is_news = self._snapshots.get((tab, "")) != snapshot
        self._snapshots[tab, ""] = snapshot
        now_s = self._clock()
        self._paces[tab].read(now_s, now_s - started_s, is_news=is_news)

    def _read_tasks(self, engine: Engine, requests: list[Request]) -> None:
        expanded = _expanded(requests, "tasks")
        asking, counting = self._paces[_ASKED], self._paces["tasks"]
        if expanded != self._unfolded.get("tasks", ()):
            asking.reset()
        before = dict(self._snapshots)
        has_asked = False
        note = asking.note if expanded else ""
        started_s = self._clock()
        if started_s >= asking.due_s:
            self._unfolded["tasks"], has_asked = expanded, True
            try:
                self._source.ask_tasks(engine, expanded)
            except Exception as error:  # noqa: BLE001 -- what this process has submitted is counted all the same
                self._troubles[_ASKED] = self._trouble(error, "Asking for tasks")
            else:
                self._troubles.pop(_ASKED, None)
        asked_s = self._clock()
        groupings = {request.by for request in requests}
        is_due = has_asked or asked_s >= counting.due_s
        for by in groupings:
            if is_due or ("tasks", by) not in self._snapshots:
                snapshot = self._source.tasks(engine, by)
                notes = (*snapshot.notes, note) if note else snapshot.notes
                self._snapshots["tasks", by] = dataclasses.replace(snapshot, notes=notes)
        is_news = any(before.get(("tasks", by)) != self._snapshots["tasks", by] for by in groupings)
        now_s = self._clock()
        if has_asked:
            asking.read(now_s, asked_s - started_s, is_news=is_news)
        if is_due:
            counting.read(now_s, now_s - asked_s, is_news=True)

    def _has_moved(self, engine: Engine) -> bool:
        """Tell whether this process's calls got on since the last turn; asks nobody."""
        pulse = [0, 0, 0]
        for tally in engine.watch.tallies():
            pulse[0] += tally.submitted
            pulse[1] += tally.ended
            pulse[2] += tally.running
        before, self._pulse = self._pulse, tuple(pulse)
        return before != self._pulse

    def _update(self, name: str, view: _View, ribbon: str) -> None:
        """Send a view what is new for it, if anything is."""
        tab = view.request.tab
        snapshot = self._snapshots.get((tab, view.request.by if tab == "tasks" else "")) or Snapshot(tab)
        try:
            self._show(name, view, model.view_of(snapshot, view.request, ribbon))
        except Exception as error:  # noqa: BLE001 -- the other views go on
            self._say(name, view, self._trouble(error, f"Showing the tab {TITLES[tab]}"))

    def _show(self, name: str, view: _View, state: State) -> None:
        change = model.diff(view.sent, state)
        if not change:
            return
        base, view.revision = view.revision if view.sent else 0, view.revision + 1
        messages = [
            {"type": "change", "view": name, "base": base, "revision": view.revision, "change": part}
            for part in model.parts(change)
        ]
        view.sent = {}  # if one cannot be sent, the view gets everything again
        for message in messages:
            self._send(message)
        view.sent = state

    def _say_to_all(self, text: str) -> None:
        for name, view in self._views.items():
            self._say(name, view, text)

    def _say(self, name: str, view: _View, text: str) -> None:
        """Have a view say this, and show what it has shown."""
        shown = view.sent if view.sent.get("tab") == view.request.tab else {}
        blank = model.view_of(Snapshot(view.request.tab), Request(tab=view.request.tab))
        try:
            self._show(name, view, {**blank, **shown, "ribbon": text})
        except Exception as error:  # noqa: BLE001 -- the kernel is going down, or its front end has gone
            _log.debug("The panel could not say %r: %r", text, error)


def _expanded(requests: list[Request], tab: str) -> tuple[str, ...]:
    return tuple(sorted({key for request in requests if request.tab == tab for key in request.expanded}))
