"""Owns progress bars: drawn live in a terminal or notebook, told in plain lines by tasks and in logs.

Tasks that a notebook's cell submitted tell the states of their bars instead, and the notebook draws those as a group.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import itertools
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sized
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from jray._core.frontend import Output, OutputKind, TerminalFrontend, get_frontend, set_frontend
from jray._core.refs import current

#: what a display of a task holds that is no display but the state of a bar, as `tqdm.state` returns it
BAR_MIME = "application/vnd.jray.bar+json"

#: a live bar is drawn anew at most this often
_LIVE_S = 0.1
#: a task tells the state of a bar at most this often
_TELL_S = 0.2
#: plain lines: the second comes after this long, and each later one after twice the time, up to the most
_PLAIN_S, _PLAIN_MOST_S = 1.0, 10.0
_WIDTH = 80  #: of lines, where no terminal says another
_BAR_WIDTH = 10  #: of the bar in a plain line
_MOST_BAR_WIDTH = 60
_MOST_S = 1e8  #: a time left of three years says nothing
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class tqdm:  # noqa: N801 -- the name that everybody knows
    """A progress bar: `for item in tqdm(items): ...`, or `update(n)` by hand and `close()` at the end.

    In a driver it is drawn live, with other open bars, in a terminal (stderr) or a notebook.  The bars of tasks and
    actor calls that a notebook's cell submitted are drawn under that cell, all in one group.  Anywhere else, also in
    tasks of other drivers, it is told in plain lines on stderr, which come to the driver with the rest of what tasks
    write.  It is not picklable: make it where it is used.

    Args:
        iterable: what to iterate over; its length is the default of `total`.
        desc: stands before the bar.
        total: the number at which the work is done; None: not known.
        unit: what is counted.
        position: the line of the bar among those of this process; default: below those that are open.
        flush_interval_s: least seconds between two drawings, or plain lines; default: 0.1 for a bar that is
            drawn, and for lines 1 at first, and up to 10 later.
        initial: where counting starts.
        leave: False takes a bar that is drawn away when it is closed.
        disable: True shows nothing.
    """

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str | None = None,
        total: float | None = None,
        unit: str | None = None,
        position: int | None = None,
        flush_interval_s: float | None = None,
        *,
        initial: float = 0,
        leave: bool = True,
        disable: bool = False,
    ) -> None:
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
        self._iterable = iterable
        self.desc = desc or ""
        self.total = total
        self.unit = unit or "it"
        self.n: float = initial
        self.initial = initial
        self.leave = leave
        self.disable = disable
        self.postfix = ""
        self._start_s = monotonic()
        self._is_closed = disable
        self._has_failed = False
        self._screen: Screen = NoScreen() if disable else _screen_for(flush_interval_s)
        self._screen.add(self, position)

    # -- as everybody uses it -----------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        if self._iterable is None:
            raise ValueError(
                "tqdm() was given nothing to iterate over: call it with an iterable, or use update()."
            )
        try:
            for item in self._iterable:
                yield item
                self.update()
        except Exception:
            self._has_failed = True
            raise
        finally:
            self.close()

    def __len__(self) -> int:
        if self.total is None:
            raise TypeError("the total of this bar is not known")
        return int(self.total)

    def __bool__(self) -> bool:
        return True

    def update(self, n: float = 1) -> None:
        """Count *n* more."""
        self.n += n
        self._screen.changed(self)

    def set_description(self, desc: str | None = None) -> None:
        """Change what stands before the bar."""
        self.desc = desc or ""
        self._screen.changed(self)

    def set_postfix(self, **values: Any) -> None:
        """Show names and values behind the bar."""
        self.set_postfix_str(", ".join(f"{name}={_number(value)}" for name, value in values.items()))

    def set_postfix_str(self, text: str = "") -> None:
        """Show *text* behind the bar."""
        self.postfix = text
        self._screen.changed(self)

    def refresh(self) -> None:
        """Show the bar as it is, if it was not shown a moment ago."""
        self._screen.changed(self)

    def close(self) -> None:
        """Show how it ended.  Does nothing twice."""
        if not self._is_closed:
            self._is_closed = True
            self._screen.close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._has_failed = kind is not None
        self.close()

    def __del__(self) -> None:
        # a constructor that raised has left no screen, and a process that ends may have no stderr any more
        with contextlib.suppress(Exception):
            self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a progress bar cannot be sent to another process: make it in the task that uses it")

    def __repr__(self) -> str:
        return self.line(_WIDTH)

    @classmethod
    def write(cls, text: str, file: TextIO | None = None, end: str = "\n") -> None:
        """Print without harm to bars, as `safe_print` does."""
        safe_print(text, file=file, end=end)

    def state(self) -> dict[str, Any]:
        """Return what there is to tell of the bar: plain values, with "state" running, done, failed or stopped."""
        if not self._is_closed:
            state = "running"
        elif self._has_failed:
            state = "failed"
        else:
            state = "done" if self.total is None or self.n >= self.total else "stopped"
        return {
            "state": state,
            "desc": self.desc,
            "n": self.n,
            "total": self.total,
            "unit": self.unit,
            "postfix": self.postfix,
            "initial": self.initial,
            "leave": self.leave,
            "elapsed_s": monotonic() - self._start_s,
        }

    def line(self, width: int | None = None) -> str:
        """Return the bar as text of *width* columns; None: with a short bar, as wide as that gets."""
        return format_line(
            self.desc,
            self.n,
            self.total,
            monotonic() - self._start_s,
            self.unit,
            self.postfix,
            self.initial,
            width,
        )


def format_line(
    desc: str,
    n: float,
    total: float | None,
    elapsed_s: float,
    unit: str = "it",
    postfix: str = "",
    initial: float = 0,
    width: int | None = None,
) -> str:
    """Return a bar as one line.  Pure."""
    rate = (n - initial) / elapsed_s if elapsed_s > 0 else 0.0
    pace = f"{rate:.2f}{unit}/s" if rate >= 1 or rate == 0 else f"{1 / rate:.2f}s/{unit}"
    head = f"{desc}: " if desc else ""
    tail = f", {postfix}" if postfix else ""
    if not total:
        line = f"{head}{_number(n)}{unit} [{_time(elapsed_s)}, {pace}{tail}]"
        return line if width is None else line[:width]
    part = min(1.0, max(0.0, n / total))
    left = _time((total - n) / rate) if rate > 0 and n <= total else "?"
    head += f"{int(part * 100):3d}%|"
    tail = f"| {_number(n)}/{_number(total)} [{_time(elapsed_s)}<{left}, {pace}{tail}]"
    if width is None:
        return head + _bar(part, _BAR_WIDTH) + tail
    room = min(width - len(head) - len(tail), _MOST_BAR_WIDTH)
    return (head + (_bar(part, room) if room > 0 else "") + tail)[:width]


def _bar(part: float, width: int) -> str:
    eighths = int(part * width * 8)
    full, rest = divmod(eighths, 8)
    return (_EIGHTHS[-1] * full + (_EIGHTHS[rest] if full < width else "")).ljust(width)[:width]


def _time(seconds: float) -> str:
    if not seconds < _MOST_S:
        return "?"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute:02d}:{second:02d}"


def _number(value: Any) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and not value.is_integer()
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


# -- where bars are shown -----------------------------------------------------------------------------


class Screen(Protocol):
    """Shows bars.  Called from any thread; never raises."""

    def add(self, bar: tqdm, position: int | None) -> None: ...
    def changed(self, bar: tqdm) -> None:
        """Show *bar* if the last time was long enough ago.  Must be cheap."""

    def close(self, bar: tqdm) -> None:
        """Show *bar* for the last time."""


class NoScreen:
    """Shows nothing."""

    def add(self, bar: tqdm, position: int | None) -> None:
        pass

    def changed(self, bar: tqdm) -> None:
        pass

    def close(self, bar: tqdm) -> None:
        pass


class PlainScreen:
    """Tells one bar in lines on stderr, seldom."""

    def __init__(self, interval_s: float | None) -> None:
        self._is_fixed = interval_s is not None
        self._interval_s = _PLAIN_S if interval_s is None else interval_s
        self._due_s = monotonic() + self._interval_s
        self._told = ""

    def add(self, bar: tqdm, position: int | None) -> None:
        pass

    def changed(self, bar: tqdm) -> None:
        now = monotonic()
        if now >= self._due_s and not bar._is_closed:
            if not self._is_fixed:
                self._interval_s = min(2 * self._interval_s, _PLAIN_MOST_S)
            self._due_s = now + self._interval_s
            _write_line(bar.line())

    def close(self, bar: tqdm) -> None:
        _write_line(bar.line())


class CellScreen:
    """Tells the states of one bar of a task to the notebook whose cell the task is of."""

    _numbers = itertools.count(1)

    def __init__(self, interval_s: float | None) -> None:
        self._interval_s = _TELL_S if interval_s is None else interval_s
        self._number = next(self._numbers)
        here = current.client.whereabouts()
        task_id = here.task_id.hex() if here.task_id is not None else ""
        cell = get_frontend().cell
        #: the task may have ended when the bar is closed: it is the bar's for good
        self._head = Output(
            cell, OutputKind.DISPLAY, "", None, here.task_name or "worker", os.getpid(), task_id
        )
        self._told_s = float("-inf")

    def add(self, bar: tqdm, position: int | None) -> None:  # noqa: ARG002 -- the notebook places bars
        self._tell(bar)

    def changed(self, bar: tqdm) -> None:
        if monotonic() - self._told_s >= self._interval_s and not bar._is_closed:
            self._tell(bar)

    def close(self, bar: tqdm) -> None:
        self._tell(bar)
        task = current.client.context.task_number()
        if task is not None and bar.state()["state"] == "stopped":
            threading.Thread(target=self._judge, args=(bar, task), name="jray-bar", daemon=True).start()

    def _judge(self, bar: tqdm, task: Any) -> None:
        """Tell that a bar whose loop was left early has failed, if its task does.

        A generator cannot tell an error in the loop's body from a `break`.
        """
        pause_s = 0.02
        while not task.ended_s:
            sleep(pause_s)
            pause_s = min(2 * pause_s, 1.0)
        sleep(pause_s)  # whether it failed is noted a moment later
        if task.has_failed:
            bar._has_failed = True
            self._tell(bar)

    def _tell(self, bar: tqdm) -> None:
        self._told_s = monotonic()
        state = {"id": self._number, **bar.state()}
        get_frontend().write(
            dataclasses.replace(self._head, data={"data": {BAR_MIME: state}, "metadata": {}})
        )


class LiveScreen:
    """Draws all open bars of this process, one below the other, over and over."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._bars: dict[int, tqdm] = {}  #: by position
        self._ended: dict[int, str] = {}  #: the last lines of bars that were closed while others are open
        self._drawn_s = 0.0
        self._hidden = 0
        self.interval_s = _LIVE_S

    def add(self, bar: tqdm, position: int | None) -> None:
        with self._lock:
            free = 0
            while free in self._bars or free in self._ended:
                free += 1
            place = free if position is None or position in self._bars else position
            self._ended.pop(place, None)
            self._bars[place] = bar
            self._draw()

    def changed(self, bar: tqdm) -> None:
        if monotonic() - self._drawn_s >= self.interval_s and not bar._is_closed:
            with self._lock:
                self._draw()

    def close(self, bar: tqdm) -> None:
        with self._lock:
            for place, other in list(self._bars.items()):
                if other is bar:
                    del self._bars[place]
                    if bar.leave:
                        self._ended[place] = bar.line(self.width())
            self._draw()
            if not self._bars:
                self._ended.clear()
                self.finish()

    def hide_bars(self) -> None:
        """Take the bars away until `unhide_bars`, so that something else can be printed."""
        with self._lock:
            self._hidden += 1
            if self._hidden == 1 and self._bars:
                self.clear()

    def unhide_bars(self) -> None:
        """Draw the bars again."""
        with self._lock:
            self._hidden = max(0, self._hidden - 1)
            if self._bars:
                self._draw()

    def _draw(self) -> None:
        self._drawn_s = monotonic()
        if self._hidden:
            return
        width = self.width()
        places = {**self._ended, **{place: bar.line(width) for place, bar in self._bars.items()}}
        with contextlib.suppress(OSError, ValueError):  # a closed terminal
            self.show([places.get(place, "") for place in range(max(places, default=-1) + 1)])

    # -- to be filled in --------------------------------------------------------------------------

    def width(self) -> int:
        return _WIDTH

    def show(self, lines: list[str]) -> None:
        """Put *lines* in place of those shown before."""
        raise NotImplementedError

    def clear(self) -> None:
        """Take what is shown away."""
        self.show([])

    def finish(self) -> None:
        """Leave what is shown where it is; the next lines come below."""
        raise NotImplementedError


class TerminalScreen(LiveScreen):
    """Draws with the codes that terminals understand.  Between drawings the cursor stands behind the last line."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream
        self._height = 0

    def width(self) -> int:
        try:
            return max(20, os.get_terminal_size(self.stream.fileno()).columns - 1)
        except (OSError, ValueError):
            return _WIDTH

    def show(self, lines: list[str]) -> None:
        codes = ["\r"]
        if self._height > 1:
            codes.append(f"\x1b[{self._height - 1}A")  # up to the first line
        codes += ["\x1b[J", "\n".join(lines)]  # erase all below
        self._height = len(lines)
        _write(self.stream, "".join(codes))

    def finish(self) -> None:
        if self._height:
            self._height = 0
            _write(self.stream, "\n")


class FrontendWithBars(TerminalFrontend):
    """The front end of a terminal with bars: what tasks write goes above them."""

    def __init__(self, screen: LiveScreen) -> None:
        super().__init__()
        self._screen = screen

    def write(self, output: Output) -> None:
        self._screen.hide_bars()
        try:
            super().write(output)
        finally:
            self._screen.unhide_bars()

    def flush(self) -> None:
        if not self._tails:
            return
        self._screen.hide_bars()
        try:
            super().flush()
        finally:
            self._screen.unhide_bars()


class NotebookScreen(LiveScreen):
    """Draws in one output of a cell, which is updated in place."""

    def __init__(self, display: Any) -> None:
        super().__init__()
        self._display = display
        self._handle: Any = None

    def show(self, lines: list[str]) -> None:
        bundle = {"text/plain": "\n".join(lines)}
        if self._handle is None:
            if lines:
                self._handle = self._display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def finish(self) -> None:
        self._handle = None


def _write_line(line: str) -> None:
    # one call, so that lines of threads and processes do not mix
    _write(sys.stderr, line + "\n")


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:
        return
    with contextlib.suppress(OSError, ValueError):
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.translate(_ASCII))
        stream.flush()


_ASCII = {ord(character): "#" for character in _EIGHTHS[1:]}


class _State:
    """The live screen of this process, and for which stderr it was made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.screen: LiveScreen | None = None
        self.stream: Any = None


_state = _State()


def _screen_for(interval_s: float | None) -> Screen:
    screen = live_screen()
    if screen is None:
        # only a notebook has cells, and only what runs for one of them has its number
        return CellScreen(interval_s) if _is_worker() and get_frontend().cell else PlainScreen(interval_s)
    screen.interval_s = _LIVE_S if interval_s is None else interval_s
    return screen


def live_screen() -> LiveScreen | None:
    """Return where this process draws bars; None where it cannot: in tasks, and if stderr is no terminal."""
    if _is_worker():
        return None
    stream = sys.stderr
    with _state.lock:
        if _state.screen is None or _state.stream is not stream:
            _state.stream = stream
            _state.screen = _make_screen(stream)
        return _state.screen


def _is_worker() -> bool:
    return current.client is not None and current.client.whereabouts().worker_id is not None


def _make_screen(stream: Any) -> LiveScreen | None:
    if "IPython" in sys.modules and hasattr(sys.modules["IPython"].get_ipython(), "kernel"):
        return NotebookScreen(importlib.import_module("IPython.display").display)
    if stream is None or not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None
    screen = TerminalScreen(stream)
    if isinstance(get_frontend(), TerminalFrontend):
        get_frontend().flush()
        set_frontend(FrontendWithBars(screen))
    return screen


def safe_print(*values: Any, **options: Any) -> None:
    """Print, as `print` does, without harm to bars that are drawn."""
    screen = live_screen()
    if screen is None or options.get("file") not in (None, sys.stdout, sys.stderr):
        print(*values, **options)  # noqa: T201 -- it is a print
        return
    screen.hide_bars()
    try:
        print(*values, **options)  # noqa: T201 -- it is a print
        if not isinstance(screen, NotebookScreen):
            sys.stdout.flush()
    finally:
        screen.unhide_bars()
