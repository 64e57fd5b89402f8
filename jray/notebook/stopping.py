"""Owns what an interrupt of a cell means for the work it has submitted: cancelled, forced, let go on, or asked about.

The interrupt ends the cell's own waiting by itself; this comes right after, under the same cell.  A second interrupt
while what runs is ending forces it.  Work of other cells and the cluster are never touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Literal, get_args

from jray._core.engine import Stopped, Watch

#: What an interrupt does: "cancel" the cell's work, "detach" from it so that it goes on, or "ask" which.
Policy = Literal["cancel", "detach", "ask"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
#: How long the cell waits for what runs to end, so that a second interrupt can force it.
_GRACE_S = 3.0
#: After this long it is said how to force it.
_HINT_S = 0.5
#: What was forced is gone by then, or it is said that it is not.
_FORCED_S = 2.0
_GLANCE_S = 0.02


def is_interrupt(error: BaseException | None) -> bool:
    """Tell whether a cell ended because it was interrupted: in an `await`, that is a cancellation."""
    return isinstance(error, KeyboardInterrupt | asyncio.CancelledError)


def policy_of(name: str) -> Policy:
    """Return the policy of that name.

    Raises:
        ValueError: there is none.
    """
    for policy in POLICIES:
        if policy == name:
            return policy
    raise ValueError(f"on_interrupt={name!r}: must be one of {', '.join(POLICIES)}")


def policy_from_environ() -> Policy:
    """Return what `JRAY_ON_INTERRUPT` says; "cancel" if it says nothing."""
    try:
        return policy_of(os.environ.get("JRAY_ON_INTERRUPT") or "cancel")
    except ValueError as error:
        raise ValueError(f"JRAY_ON_INTERRUPT: {error}") from None


class Stopping:
    """Deals with the work of interrupted cells.

    `say` shows a line under the interrupted cell, `ask` puts a question to the user and returns the answer, or raises
    if there is nobody to ask.
    """

    def __init__(self, watch: Watch, say: Callable[[str], None], ask: Callable[[str], str]) -> None:
        self._watch = watch
        self._say = say
        self._ask = ask

    def on_interrupt(self, cell: int, policy: Policy) -> None:
        """Do with the work of *cell* what *policy* says; takes up to `_GRACE_S` while what runs is ending."""
        found = self._outstanding(cell)
        if not found.running and not found.waiting:
            return
        if policy == "ask":
            policy = self._asked(found)
        if policy == "detach":
            self._say(f"jray: {_counted(found)} of this cell go on; their refs stay good.")
            return
        with _interrupts() as interrupts:
            stopped = self._watch.stop(cell, force=False)
            self._say(f"jray: cancelled {_counted(stopped)} of this cell; other cells' work goes on.")
            self._see_them_end(cell, interrupts)

    # -- inside -----------------------------------------------------------------------------------

    def _see_them_end(self, cell: int, interrupts: threading.Event) -> None:
        """Wait for what was cancelled; force it at a second interrupt."""
        if self._ended(cell, _HINT_S, interrupts):
            return
        if not interrupts.is_set():
            left = self._outstanding(cell).running
            self._say(f"jray: {_tasks(left)} still ending; interrupt again to end their processes.")
            if self._ended(cell, _GRACE_S - _HINT_S, interrupts):
                return
        if not interrupts.is_set():
            left = self._outstanding(cell).running
            self._say(
                f"jray: {_tasks(left)} cancelled but not ended after {_GRACE_S:g} s, in code that does not let itself "
                "be interrupted; jray.cancel(ref, force=True) ends their processes."
            )
            return
        stopped = self._watch.stop(cell, force=True)
        self._say(f"jray: ended the processes of {stopped.running} running by force.")
        interrupts.clear()
        if not self._ended(cell, _FORCED_S, interrupts):
            left = self._outstanding(cell).running
            if left:
                self._say(
                    f"jray: {_tasks(left)} not ended: calls of actors cannot be forced, jray.kill(actor) can."
                )

    def _ended(self, cell: int, seconds: float, interrupts: threading.Event) -> bool:
        """Tell whether all has ended within that time; an interrupt ends the waiting."""
        end_s = time.monotonic() + seconds
        while True:
            found = self._outstanding(cell)
            if not found.running and not found.waiting:
                return True
            left_s = end_s - time.monotonic()
            if left_s <= 0 or interrupts.wait(min(_GLANCE_S, left_s)):
                return False

    def _outstanding(self, cell: int) -> Stopped:
        tallies = self._watch.tallies(cell)
        return Stopped(sum(tally.running for tally in tallies), sum(tally.waiting for tally in tallies))

    def _asked(self, found: Stopped) -> Policy:
        try:
            answer = self._ask(f"Cancel {_counted(found)} of this cell? [Y/n] ")
        except (Exception, KeyboardInterrupt):  # noqa: BLE001 -- a front end without input says so in its own way
            return "cancel"
        return "detach" if answer.strip().lower().startswith("n") else "cancel"


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Take the interrupts of this time: the kernel would raise some, and others end a cell that has ended."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals are not ours to take; nobody can force then
        return

    def note(_number: int, _frame: FrameType | None) -> None:
        event.set()

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous if previous is not None else signal.default_int_handler)


def _counted(stopped: Stopped) -> str:
    return f"{stopped.running} running and {stopped.waiting} waiting"


def _tasks(count: int) -> str:
    return f"{count} task{' is' if count == 1 else 's are'}"
