"""Owns the drawings in a picture, as SVG without any script: progress bars, and the timeline.  Pure."""

from __future__ import annotations

import dataclasses
import enum
import html
from collections.abc import Iterable, Sequence

from jray.notebook.lens import words
from jray.notebook.lens.progress import Counts
from jray.notebook.lens.reason import short_name
from jray.notebook.lens.timeline import Bar, Lane, Lanes

WIDTH = 760
_LABELS = 104  #: width of the lanes' names
_RIGHT = 14  #: room for the pointed end of what runs
_LANE = 18  #: height of a lane with its gap
_BAR = 13
_AXIS = 20
#: Calls of one worker that are drawn beside each other, of those that overlap.
_MOST_SUBLANES = 4
_THINNEST = 1.2
#: What waits is a line, what gets its code and arguments a bar of half the height.
_LINE = 2.0
_LEGEND = 15
#: (words, share of a bar's height)
_PARTS = (("waits", _LINE / _BAR), ("gets code and arguments", 0.5), ("runs", 1.0))
#: Waiting and bringing that are not seen, and shorter than this, need no words either.
_SAID_MS = 1.0

#: Told apart by people who see colours differently, too; of a brightness that stands out from black and from
#: white alike.  There is no red and no green among them: these mean failed and done.
_COLOURS = ("#4a8fdc", "#e69a2e", "#a675d6", "#2ba7a0", "#c9a800", "#d66fa6", "#8f7a5e", "#6d7fd0")
_REST = "#8a8f98"
#: Where a theme names no colours for failed and done, these are readable in both.
_RED = "var(--jp-error-color1,#d93f3f)"
_GREEN = "var(--jp-success-color1,#3b9b57)"
#: (longest time for which a unit is used, its name, its length), in seconds
_UNITS = ((1.0, "ms", 0.001), (120.0, "s", 1.0), (7200.0, "min", 60.0), (float("inf"), "h", 3600.0))
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_MOST_TICKS = 7


class Detail(enum.Enum):
    """How much a timeline tells, most first."""

    SAID = enum.auto()  #: each bar says more under the pointer
    PARTED = enum.auto()  #: calls have their parts: waiting, bringing arguments, running
    PLAIN = enum.auto()


class Palette:
    """A colour for each function, in the order of the names given."""

    def __init__(self, names: Iterable[str]) -> None:
        self._colours = {
            name: _COLOURS[n] if n < len(_COLOURS) else _REST for n, name in enumerate(dict.fromkeys(names))
        }

    def colour(self, name: str) -> str:
        return self._colours.get(name, _REST)


def bar_name(bar: Bar) -> str:
    """Return what a bar's function is called in the picture."""
    return short_name(bar.name)


def swatch(colour: str) -> str:
    return (
        '<svg width="10" height="10" style="vertical-align:middle">'
        f'<rect width="10" height="10" rx="2" fill="{colour}"/></svg>'
    )


def progress_bar(row: Counts, width: int) -> str:
    """Return a bar: what is done green, what failed red, what runs paler."""
    whole = max(1, row.submitted)
    parts, x = [], 0.0
    for value, colour, opacity in (
        (row.finished, _GREEN, ""),
        (row.failed + row.cancelled, _RED, ""),
        (row.running, _GREEN, ' opacity=".4"'),
    ):
        if value:
            length = width * value / whole
            # what failed is seen, however little it is of the whole
            length = min(max(length, 2.0), width - x)
            parts.append(
                f'<rect x="{x:.4g}" width="{length:.4g}" height="8" style="fill:{colour}"{opacity}/>'
            )
            x += length
    return (
        f'<svg width="{width}" height="8" style="vertical-align:middle;border-radius:4px">'
        f'<rect width="{width}" height="8" fill="currentColor" opacity=".13"/>{"".join(parts)}</svg>'
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Scale:
    """Where moments are on the axis of time."""

    first_ms: float
    now_ms: float
    pixels_per_ms: float

    def x(self, moment_ms: float) -> float:
        return _LABELS + max(0.0, moment_ms - self.first_ms) * self.pixels_per_ms


def timeline(lanes: Lanes, palette: Palette, start_ms: float, now_ms: float, detail: Detail) -> str:
    """Return a lane for each worker over one axis of time.  What was before the axis is cut."""
    first = min([start_ms, *(bar.start_ms for lane in lanes.lanes for bar in lane.bars)])
    span_ms = max(1.0, now_ms - first)
    scale = _Scale(first, now_ms, (WIDTH - _LABELS - _RIGHT) / span_ms)
    height = len(lanes.lanes) * _LANE + _AXIS
    parts = [_axis(span_ms / 1000, len(lanes.lanes) * _LANE)]
    drawn = [_lane(lane, n * _LANE, palette, scale, detail) for n, lane in enumerate(lanes.lanes)]
    parts += [part for part, _ in drawn]
    if any(has_parts for _, has_parts in drawn):
        parts.append(_legend(height))
        height += _LEGEND
    said = f"Timeline of {words.many(len(lanes.lanes), 'worker')} over {words.duration(span_ms / 1000)}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="100%" role="img" aria-label="{said}" fill="currentColor" '
        f'font-size="11" style="display:block;margin-top:4px;max-width:{WIDTH}px">{"".join(parts)}</svg>'
    )


def _axis(seconds: float, height: int) -> str:
    longest = next(limit for limit in _UNITS if seconds <= limit[0])
    _, unit, length = longest
    most = seconds / length
    step = next((step for step in _STEPS if most / step <= _MOST_TICKS), None) or most / _MOST_TICKS
    if most <= 2:
        step = 0.5 if most > 1 else 0.2
    scale = (WIDTH - _LABELS - _RIGHT) / most
    ticks = [step * n for n in range(int(most / step) + 1)]
    lines = "".join(f"M{_LABELS + tick * scale:.1f} 0V{height}" for tick in ticks)
    labels = "".join(
        f'<text x="{_LABELS + tick * scale:.1f}" y="{height + 13}" text-anchor="middle">{tick:g} {unit}</text>'
        for tick in ticks
    )
    return f'<path d="{lines}" stroke="currentColor" opacity=".16" fill="none"/><g opacity=".72">{labels}</g>'


def _legend(top: float) -> str:
    """Return what the thickness of a bar means."""
    x, parts = float(_LABELS), []
    for said, share in _PARTS:
        thick = _BAR * share
        parts.append(_rect(x, top + (_BAR - thick) / 2, 18, thick, ""))
        parts.append(f'<text x="{x + 23:g}" y="{top + 10.5:g}">{said}</text>')
        x += 23 + 6 * len(said) + 12
    return f'<g opacity=".72">{"".join(parts)}</g>'


def _lane(lane: Lane, top: int, palette: Palette, scale: _Scale, detail: Detail) -> tuple[str, bool]:
    """Return a lane, and whether any call in it is seen to wait or to get its arguments."""
    middle = top + _LANE / 2
    label = html.escape(words.clipped(lane.label, 16))
    parts = [
        f'<text x="{_LABELS - 8}" y="{middle + 4:g}" text-anchor="end" opacity=".85">{label}</text>',
        f'<path d="M{_LABELS} {middle:g}H{WIDTH - _RIGHT}" stroke="currentColor" opacity=".1"/>',
    ]
    placed, sublanes = _sublanes(lane.bars)
    height = _BAR / sublanes
    by_colour: dict[str, list[str]] = {}
    waits: dict[str, list[str]] = {}
    has_bringing = False
    for bar, sublane, free_ms in placed:
        x = scale.x(bar.start_ms)
        width = max(_THINNEST, scale.x(bar.start_ms + bar.covers(scale.now_ms)) - x)
        y = top + (_LANE - _BAR) / 2 + sublane * height
        title = f"<title>{html.escape(_title(bar, scale))}</title>" if detail is Detail.SAID else ""
        is_failed = bar.failed and bar.calls == bar.failed
        colour = _RED if is_failed else palette.colour(bar_name(bar))
        drawn = by_colour.setdefault(colour, [])
        is_parted = detail is not Detail.PLAIN
        # as long as the worker ran others, that this one waited is no news
        since = scale.x(max(bar.submitted_ms, free_ms)) if is_parted and bar.submitted_ms is not None else x
        if x - since >= 1:
            waits.setdefault(colour, []).append(f"M{since:.1f} {y + height / 2:.1f}H{x:.1f}")
        bringing = bar.bringing_ms * scale.pixels_per_ms if is_parted and bar.calls == 1 else 0.0
        has_bringing = has_bringing or bringing >= 1
        drawn.append(_bar(x, y, width, height, bringing, title, is_open=bar.end_ms is None))
        if bar.failed and not is_failed:  # some of many
            strip = max(2.0, height / 4)
            by_colour.setdefault(_RED, []).append(_rect(x, y + height - strip, width, strip, ""))
    parts += [
        f'<path d="{"".join(lines)}" stroke-width="{_LINE:g}" opacity=".6" style="stroke:{colour}"/>'
        for colour, lines in waits.items()
    ]
    # red last, so that nothing covers it
    parts += [
        f'<g style="fill:{colour}">{"".join(by_colour[colour])}</g>'
        for colour in sorted(by_colour, key=lambda colour: colour == _RED)
    ]
    return "".join(parts), has_bringing or bool(waits)


def _bar(
    x: float, y: float, width: float, height: float, bringing: float, title: str, *, is_open: bool
) -> str:
    """Return a call: where that is seen, first thinner as long as it gets what it needs."""
    shape = _open_bar if is_open else _rect
    if bringing < 1:
        return shape(x, y, width, height, title)
    bringing = min(bringing, width)
    parts = _rect(x, y + height / 4, bringing, height / 2, "")
    if is_open or bringing < width:
        parts += shape(x + bringing, y, width - bringing, height, "")
    return f"<g>{title}{parts}</g>" if title else parts


def _rect(x: float, y: float, width: float, height: float, title: str) -> str:
    round_corners = ' rx="2"' if width > 5 and height > 5 else ""
    shape = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{round_corners}'
    return f"{shape}>{title}</rect>" if title else f"{shape}/>"


def _open_bar(x: float, y: float, width: float, height: float, title: str) -> str:
    """Return a paler bar that ends in a point: it goes on."""
    point = min(6.0, height / 2)
    shape = f'<path opacity=".55" d="M{x:.1f} {y:.1f}h{width:.1f}l{point:.1f} {height / 2:.1f}l-{point:.1f} '
    shape += f'{height / 2:.1f}h-{width:.1f}z"'
    return f"{shape}>{title}</path>" if title else f"{shape}/>"


def _title(bar: Bar, scale: _Scale) -> str:
    said = [words.many(bar.calls, "call")] if bar.calls > 1 else []
    taken = words.duration(bar.covers(scale.now_ms) / 1000)
    said.append(f"running for {taken}" if bar.end_ms is None else taken)
    if bar.bringing_ms >= _SAID_MS:
        said.append(f"{words.duration(bar.bringing_ms / 1000)} of it to get code and arguments")
    said.append(f"from {words.duration((bar.start_ms - scale.first_ms) / 1000)}")
    if bar.submitted_ms is not None and bar.start_ms - bar.submitted_ms >= _SAID_MS:
        waited = f"waited {words.duration((bar.start_ms - bar.submitted_ms) / 1000)} before"
        said.append(f"the first {waited}" if bar.calls > 1 else waited)
    if bar.failed and bar.end_ms is not None:
        said.append(f"{words.number(bar.failed)} failed")
    return f"{words.clipped(bar_name(bar), 40)}: {', '.join(said)}, pid {bar.pid}"


def _sublanes(bars: Sequence[Bar]) -> tuple[list[tuple[Bar, int, float]], int]:
    """Place overlapping bars beside each other; return (bar, place, since when that was free), and how many places."""
    ends: list[float] = []
    placed: list[tuple[Bar, int, float]] = []
    for bar in bars:
        end = float("inf") if bar.end_ms is None else bar.end_ms
        free = next((n for n, taken in enumerate(ends) if taken <= bar.start_ms + 0.5), None)
        if free is None:
            free = len(ends) if len(ends) < _MOST_SUBLANES else ends.index(min(ends))
            if free == len(ends):
                ends.append(float("-inf"))
        placed.append((bar, free, ends[free]))
        ends[free] = max(ends[free], end)
    return placed, max(1, len(ends))
