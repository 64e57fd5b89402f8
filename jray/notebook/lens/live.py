"""Owns the thread that looks at the cells' work and shows it, and the policy whether it does.

There is one thread, and it sleeps without a time limit unless some cell's work is pending or about to be.  What wakes it
is the front end, which is asked for the running cell at every submit.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import threading
import time
import weakref
from typing import Any, Protocol

from jray._core.refs import current
from jray.exceptions import RaySystemError
from jray.notebook.cells import CellTable
from jray.notebook.kernel_frontend import WorkListener
from jray.notebook.lens.picture import STATIC_BYTES, Picture
from jray.notebook.lens.view import FIRST_S, LOOK_S, CellView, Moment

MODES = ("auto", "on", "off")
#: What was told of is looked for this long: large arguments are pickled between the telling and the submit.
_AWAITED_S = 60.0
#: A look that comes so much later than it should may have missed work that took long: the machine is busy, or the cell
#: keeps Python to itself.
_LATE_S = 0.05
#: Cells whose work is remembered for `show`.
_MOST_VIEWS = 32
_GONE = "the cluster was shut down before this ended"

_log = logging.getLogger("jray.notebook")


class Display(Protocol):
    """Where pictures are shown, and what tells of work: see `jray.notebook.kernel_frontend.KernelFrontend`."""

    def hear_of_work(self, listener: WorkListener | None) -> None: ...
    def show(self, cell: int, data: dict[str, str], display_id: str, *, is_update: bool) -> None: ...


@dataclasses.dataclass(slots=True, eq=False)
class _Watched:
    """A cell whose work is looked at."""

    view: CellView
    #: when to look next, by the monotonic clock; None: when more work or the cell's end is told
    due_s: float | None
    #: when it was last told that there is work, and how many calls were known then
    told_s: float
    told_submitted: int = 0
    #: of the engine that the work was last submitted to
    watch: weakref.ref[Any] | None = None
    #: the same, kept until the last counts are taken, even if the engine is left meanwhile
    held: Any = None
    is_shown: bool = False
    is_frozen: bool = False
    shown_s: float = float("-inf")
    mark: object = None
    #: when workers were last asked, how long it took, and what was known then
    asked_s: float = float("-inf")
    answer_s: float = 0.0
    asked_mark: object = None


class CellLens:
    """Shows under each cell how far its work is, if that takes longer than a second.

    `mode` is "on", "off", or "auto": on, but off where a notebook must show the same each time.
    """

    def __init__(
        self, display: Display, cells: CellTable, *, mode: str = "auto", is_repeatable: bool = False
    ) -> None:
        self._display = display
        self._cells = cells
        self._is_repeatable = is_repeatable
        self._mode = _checked(mode)
        #: cells whose next submit is no news; read by the front end without a lock
        self.known: set[int] = set()
        self._watched: collections.OrderedDict[int, _Watched] = collections.OrderedDict()
        #: running cells, and the threads that run them
        self._running: dict[int, int] = {}
        self._wake = threading.Condition()
        #: held while a view is read or written
        self._looking = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._apply_mode()

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        self._mode = _checked(mode)
        self._apply_mode()

    @property
    def is_on(self) -> bool:
        return self._mode == "on" or (self._mode == "auto" and not self._is_repeatable)

    def show(self, cell: int | None = None) -> Picture:
        """Return a picture of the work of a cell, by the n of its In[n]; None: of the last that submitted some.

        Blocks until the workers have told what they ran.  Raises LookupError if nothing is known of that cell.
        """
        with self._wake:
            remembered = list(self._watched.values())
        with self._looking:
            now = _now()
            for watched in reversed(remembered):
                if cell is None or watched.view.label == f"In[{cell}]":
                    self._count(watched, now)
                    if watched.view.has_work:
                        break
            else:
                watched = self._found(cell, now)
            if not watched.is_frozen or watched.view.pending:
                with contextlib.suppress(RaySystemError):
                    self._draw_all(watched)
            return watched.view.picture(now, is_static=True)

    def close(self) -> None:
        """End the thread; what is shown keeps its last state."""
        self._display.hear_of_work(None)
        with self._wake:
            self._is_closed = True
            thread, self._thread = self._thread, None
            self._wake.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2)
        for watched in list(self._watched.values()):
            if watched.is_shown and not watched.is_frozen and self._looking.acquire(timeout=0.5):
                try:
                    self._count(watched, now := _now())
                    self._publish(watched, now, is_static=True)
                finally:
                    self._looking.release()

    # -- what the guest and the front end tell ------------------------------------------------------

    def entered(self, cell: int) -> None:
        """A cell begins, in the calling thread."""
        thread = threading.get_ident()
        self._end_those_of(thread)
        self._running[cell] = thread

    def left(self) -> None:
        """The cell of the calling thread has ended."""
        self._end_those_of(threading.get_ident())

    def told_of_work(self, cell: int) -> None:
        """Some work of a cell is about to be submitted.  Called by any thread that submits; never blocks for long."""
        now = _now()
        with self._wake:
            if self._is_closed or cell in self.known:
                return
            watched = self._watched.get(cell)
            if watched is None:
                view = CellView(cell, self._label(cell) or "", now)
                watched = self._watched[cell] = _Watched(view, now.s + FIRST_S, now.s)
                while len(self._watched) > _MOST_VIEWS:
                    self.known.discard(self._watched.popitem(last=False)[0])
            else:
                watched.told_s = now.s
                watched.told_submitted = watched.view.submitted
                watched.is_frozen = False
                watched.due_s = max(now.s, watched.view.start.s + FIRST_S, watched.shown_s + LOOK_S)
                self._watched.move_to_end(cell)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jray-lens", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # the interpreter is going down
                    self._thread = None
            self.known.add(cell)  # last: an interrupt before this leaves the next submit news
            self._wake.notify_all()

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                due = self._wait_due()
            if due is None:
                return
            for watched in due:
                try:
                    with self._looking:
                        self._look(watched)
                except Exception:  # noqa: BLE001 -- the other cells' views go on
                    watched.due_s = None
                    _log.exception(
                        "The view of %s stopped: a defect of jray, please report it.", watched.view.label
                    )

    def _wait_due(self) -> list[_Watched] | None:
        """Wait until some cell is to be looked at; None: the end."""
        while not self._is_closed:
            now_s = time.monotonic()
            times = [watched.due_s for watched in self._watched.values() if watched.due_s is not None]
            if times and min(times) <= now_s:
                return [w for w in self._watched.values() if w.due_s is not None and w.due_s <= now_s]
            self._wake.wait(min(times) - now_s if times else None)
        return None

    def _look(self, watched: _Watched) -> None:
        """Look at a cell's work, show what is new, and say when to look next."""
        now = _now()
        is_late = watched.due_s is not None and now.s - watched.due_s > _LATE_S
        watched.due_s = None
        self._count(watched, now)
        view = watched.view
        is_running = view.cell in self._running
        is_awaited = is_running and view.submitted <= watched.told_submitted
        if is_awaited and self.is_on and now.s - watched.told_s < _AWAITED_S:
            watched.due_s = view.next_look_s(now)
            return
        is_over = not view.pending and not is_running
        takes_long = bool(view.pending) or watched.told_s - view.start.s >= FIRST_S
        if self.is_on and view.has_work and is_late and not (watched.is_shown or takes_long):
            takes_long = self._took_long(watched)
        if not self.is_on or not view.has_work or not (watched.is_shown or takes_long):
            self._rest(watched)
            return
        # the end of a cell may be told right after an update
        if now.s < watched.shown_s + LOOK_S:
            watched.due_s = watched.shown_s + LOOK_S
            return
        if is_over:
            if not watched.is_frozen:
                with contextlib.suppress(RaySystemError):
                    self._draw_all(watched)
                watched.is_frozen = True
                self._publish(watched, now, is_static=True)
            self._rest(watched)
            return
        has_aged = watched.is_shown and view.has_aged(watched.shown_s, now)
        with contextlib.suppress(RaySystemError):
            self._ask(watched, now, has_aged=has_aged)
        mark = view.mark()
        if mark != watched.mark or has_aged:
            watched.mark = mark
            self._publish(watched, _now(), is_static=False)
        if view.pending:
            watched.due_s = max(view.next_look_s(now), watched.shown_s + LOOK_S)
        elif view.cell in self._running:
            self._rest(watched)
        else:  # it ended during this look, and nobody told who had not shown anything yet
            watched.due_s = watched.shown_s + LOOK_S

    def _took_long(self, watched: _Watched) -> bool:
        """Tell whether work that has ended took long: it ended before the look, but the look came late."""
        if watched.held is None:
            return False
        view = watched.view
        try:
            spans = watched.held.spans(view.cell, view.start.ms, view.timeline.resolution_ms)
        except RaySystemError:
            return False
        return any(
            span.end_ms is not None and span.end_ms - view.start.ms >= 1000 * FIRST_S for span in spans
        )

    def _rest(self, watched: _Watched) -> None:
        """Look no more at a cell until there is more work, or its end."""
        cell = watched.view.cell
        with self._wake:
            self.known.discard(cell)
        # what was submitted while the cell was known told nobody
        self._count(watched, now := _now())
        if watched.view.pending:
            with self._wake:
                self.known.add(cell)
                watched.due_s = now.s + LOOK_S
        elif watched.is_frozen or not watched.is_shown:
            watched.held = None

    def _count(self, watched: _Watched, now: Moment) -> None:
        """Take the counts; the cluster may be another one than last time, or gone."""
        watch = _watch()
        if watched.watch is not None and watched.watch() is not watch:
            if watched.held is not None:
                watched.view.count(watched.held.tallies(watched.view.cell), now)
            watched.view.lost(_GONE, now)
            watched.watch = watched.held = None
        tallies = [] if watch is None else watch.tallies(watched.view.cell)
        if tallies:
            watched.held, watched.watch = watch, weakref.ref(watch)
            watched.view.count(tallies, now)

    def _ask(self, watched: _Watched, now: Moment, *, has_aged: bool) -> None:
        """Ask the workers what they ran, and the node what waits."""
        view, watch = watched.view, watched.held
        if watch is None:
            return
        mark = view.mark()
        # what takes workers long to answer is asked less often, and so is what seems to have no news
        is_due = now.s - watched.asked_s >= 10 * watched.answer_s
        if is_due and (mark != watched.asked_mark or has_aged):
            watched.asked_s, watched.asked_mark = now.s, mark
            asked_ms = now.ms
            view.draw(watch.spans(view.cell, view.timeline.since_ms, view.timeline.resolution_ms), asked_ms)
            watched.answer_s = time.monotonic() - now.s
        if view.is_stuck(now):
            view.explain(watch.demands(), self._label)

    def _draw_all(self, watched: _Watched) -> None:
        view = watched.view
        if watched.held is not None:
            asked = _now()
            spans = watched.held.spans(view.cell, view.start.ms, view.timeline.resolution_ms)
            view.draw_all(spans, asked.ms)

    def _publish(self, watched: _Watched, now: Moment, *, is_static: bool) -> None:
        picture = watched.view.picture(now, is_static=is_static)
        bundle = picture.bundle(STATIC_BYTES) if is_static else picture.bundle()
        cell = watched.view.cell
        is_update, watched.is_shown = watched.is_shown, True
        self._display.show(cell, bundle, f"jray-lens-{self._msg_id(cell)}-{cell}", is_update=is_update)
        watched.shown_s = time.monotonic()  # the time between two is never less than it should be

    # -- inside -----------------------------------------------------------------------------------

    def _apply_mode(self) -> None:
        self._display.hear_of_work(self if self.is_on and not self._is_closed else None)

    def _end_those_of(self, thread: int) -> None:
        ended = [cell for cell, ident in self._running.items() if ident == thread]
        for cell in ended:
            del self._running[cell]
            watched = self._watched.get(cell)
            if watched is not None and watched.is_shown and not watched.is_frozen:
                with self._wake:
                    watched.due_s = time.monotonic()
                    self._wake.notify_all()

    def _found(self, number: int | None, now: Moment) -> _Watched:
        """Return what is known of a cell that nobody looked at when it submitted its work."""
        watch = _watch()
        for tally in [] if watch is None else reversed(watch.tallies()):
            label = self._label(tally.cell) or "another thread"
            if tally.submitted and (number is None or label == f"In[{number}]"):
                starts = [span.start_ms for span in watch.spans(tally.cell, 0.0, LOOK_S)]
                # when its first call was submitted nobody knows: it began then at the latest
                start_ms = min(starts, default=now.ms)
                start = Moment(now.s - (now.ms - start_ms) / 1000, start_ms)
                watched = _Watched(CellView(tally.cell, label, start, was_watched=False), None, start.s)
                self._count(watched, now)
                return watched
        known = ", ".join(
            dict.fromkeys(watched.view.label for watched in self._watched.values() if watched.view.has_work)
        )
        which = "No cell" if number is None else f"In[{number}]"
        raise LookupError(
            f"{which} has submitted work that is still known of."
            + (f" Known are {known}." if known else " Call a remote function or an actor's method first.")
            if number is None
            else f"Nothing is known of work that {which} submitted."
            + (f" Known are {known}." if known else "")
        )

    def _label(self, cell: int) -> str | None:
        known = self._cells.get(cell)
        return None if known is None else f"In[{known.execution_count}]"

    def _msg_id(self, cell: int) -> str:
        known = self._cells.get(cell)
        return "" if known is None else known.msg_id


def _checked(mode: str) -> str:
    if mode not in MODES:
        raise ValueError(
            f"The cell lens (JRAY_LENS, or %jray lens) is one of {', '.join(MODES)}, but not {mode!r}."
        )
    return mode


def _watch() -> Any:
    """Return what tells of the current engine's work; None: there is no engine."""
    client = current.client
    return None if client is None else client.watch


def _now() -> Moment:
    return Moment(time.monotonic(), time.time() * 1000)
