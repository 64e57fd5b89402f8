"""Owns the HTML of a picture: the header, a row for each function, and around the timeline.  Pure.

Text and lines take the notebook's colours, so that both themes are readable; without style sheets and drawings
the words alone still say it all.
"""

from __future__ import annotations

import html
from typing import Protocol

from jray.notebook.lens import drawing, words
from jray.notebook.lens.progress import Counts
from jray.notebook.lens.timeline import Lanes

_FAILED = "color:var(--jp-error-color1,inherit);font-weight:600"
_SOFT = "opacity:.72"
_NAME = (
    "display:inline-block;min-width:7em;max-width:16em;overflow:hidden;text-overflow:ellipsis;"
    "white-space:nowrap;vertical-align:bottom;font-family:var(--jp-code-font-family,monospace)"
)
_NUMBERS = "font-variant-numeric:tabular-nums"
_BAR_WIDTH = 150


class Shown(Protocol):
    """What a page shows: see `jray.notebook.lens.picture.Picture`."""

    @property
    def label(self) -> str: ...
    @property
    def total(self) -> Counts: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def note(self) -> str | None: ...
    @property
    def cost(self) -> str | None: ...
    @property
    def start_ms(self) -> float: ...
    @property
    def now_ms(self) -> float: ...
    @property
    def lanes(self) -> Lanes: ...
    def rows(self) -> list[Counts]: ...


def page(shown: Shown, lanes: Lanes, detail: drawing.Detail) -> str:
    """Return the whole."""
    rows = shown.rows()
    palette = drawing.Palette([*(row.name for row in rows), *_names(lanes)])
    parts = [f'<summary style="cursor:pointer;{_NUMBERS}">{_header(shown, rows)}</summary>']
    if len(rows) > 1 or shown.cost is not None:
        parts += [_row(row, palette) for row in rows]
    parts += [
        f'<div style="margin:2px 0 2px 1.1em;{_SOFT};font-style:italic">{html.escape(said)}</div>'
        for said in (shown.reason, shown.note)
        if said
    ]
    if lanes.lanes:
        parts.append(drawing.timeline(lanes, palette, shown.start_ms, shown.now_ms, detail))
    if lanes.hidden_lanes:
        parts.append(
            f'<div style="{_SOFT}">and {words.many(lanes.hidden_lanes, "more worker")} that no lane is left for</div>'
        )
    # Open in every update: a front end puts the new page in the place of the old one, and what was folded or not is known
    # to the old one's elements alone.  Without the attribute an update would fold what the user reads.
    return (
        '<div class="jray-lens" style="font-family:var(--jp-ui-font-family,sans-serif);'
        "font-size:var(--jp-ui-font-size1,13px);color:var(--jp-ui-font-color1,inherit);line-height:1.55;"
        f'max-width:{drawing.WIDTH}px;padding:2px 0"><details open>{"".join(parts)}</details></div>'
    )


def _header(shown: Shown, rows: list[Counts]) -> str:
    total = shown.total
    parts = [f'<span style="{_SOFT}">{html.escape(shown.label)}</span> ']
    if shown.cost is not None:
        parts.append(f"<strong>{html.escape(shown.cost)}</strong>")
        parts += [f', <span style="{_FAILED}">{said}</span>' for said in words.failures(total)]
        return "".join(parts)
    if len(rows) == 1 and rows[0].name == shown.label:
        pass  # a whole cell that runs on a worker
    elif len(rows) == 1:
        parts.append(
            f'<strong style="{_NAME};min-width:0">{html.escape(words.clipped(rows[0].name, 60))}</strong> '
        )
    else:
        parts.append(f"<strong>{words.many(len(rows), 'function')}</strong> ")
    parts += [drawing.progress_bar(total, _BAR_WIDTH), " ", _said(total)]
    if total.pending and not shown.lanes.lanes:  # else the axis says it
        parts.append(f' <span style="{_SOFT}">\N{MIDDLE DOT} since {words.clock(shown.start_ms)}</span>')
    return "".join(parts)


def _row(row: Counts, palette: drawing.Palette) -> str:
    name = html.escape(words.clipped(row.name, 60))
    return (
        f'<div style="margin-left:1.1em;{_NUMBERS}">{drawing.swatch(palette.colour(row.name))} '
        f'<span style="{_NAME}">{name}</span> {drawing.progress_bar(row, _BAR_WIDTH)} {_said(row)}</div>'
    )


def _said(row: Counts) -> str:
    """Return counts and speed in words."""
    parts = [html.escape(said) for said in words.counts(row)]
    parts += [f'<span style="{_FAILED}">{said}</span>' for said in words.failures(row)]
    speed = words.speed(row)
    if speed:
        parts.append(f'<span style="{_SOFT}">{html.escape(", ".join(speed))}</span>')
    return " \N{MIDDLE DOT} ".join(parts)


def _names(lanes: Lanes) -> list[str]:
    return [drawing.bar_name(bar) for lane in lanes.lanes for bar in lane.bars]
