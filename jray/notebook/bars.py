"""Owns the progress bars of tasks as a cell shows them: one group, one display, drawn anew in place.  Pure."""

from __future__ import annotations

import dataclasses
import html
import itertools
import os
from typing import Any

from jray.util.tqdm import format_line

#: A group is drawn anew at most this often.
_DRAW_S = 0.2
#: A group has at most this many rows; the bars that ended first go, and are counted.
_MOST_ROWS = 20
#: Groups of cells longest ago are forgotten; their displays stay as they are.
_MOST_GROUPS = 256

_COLORS = {
    "running": "var(--jp-brand-color1, #1976d2)",
    "done": "var(--jp-success-color1, #388e3c)",
    "failed": "var(--jp-error-color1, #d32f2f)",
    "stopped": "var(--jp-warn-color1, #f57c00)",
}


@dataclasses.dataclass(slots=True)
class _Bar:
    task_name: str
    state: dict[str, Any]

    @property
    def is_running(self) -> bool:
        return bool(self.state["state"] == "running")

    def line(self, width: int | None = 79) -> str:
        """Return the bar as text; what ended otherwise than well says so."""
        state = self.state
        postfix = state["postfix"]
        if state["state"] in ("failed", "stopped"):
            postfix = f"{postfix}, {state['state']}" if postfix else state["state"]
        return format_line(
            state["desc"] or self.task_name,
            state["n"],
            state["total"],
            state["elapsed_s"],
            state["unit"],
            postfix,
            state["initial"],
            width,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Drawing:
    """A group that is to be shown."""

    cell: int
    data: dict[str, Any]  #: mime bundle, with the display's id, as an `Output` of a display has it


class _Group:
    """The bars of one cell."""

    def __init__(self) -> None:
        self.display_id = f"jray-bars-{os.urandom(8).hex()}"
        self.is_drawn = False
        self.is_dirty = False
        self.drawn_s = float("-inf")
        self._bars: dict[tuple[Any, ...], _Bar] = {}
        #: how many ended bars have no row any more, by how they ended
        self._gone: dict[str, int] = {}

    def update(self, key: tuple[Any, ...], bar: _Bar) -> None:
        self.is_dirty = True
        if not bar.is_running and not bar.state["leave"]:
            self._bars.pop(key, None)
            return
        self._bars[key] = bar
        for other_key, other in list(self._bars.items()) if len(self._bars) > _MOST_ROWS else ():
            if not other.is_running:
                del self._bars[other_key]
                ending = other.state["state"]
                self._gone[ending] = self._gone.get(ending, 0) + 1
                return

    def bundle(self) -> dict[str, Any]:
        shown = list(itertools.islice(self._bars.values(), _MOST_ROWS))
        counts = dict(self._gone)
        if len(self._bars) > len(shown):
            counts["running"] = len(self._bars) - len(shown)
        rest = f"... and {_counted(counts)} more" if counts else ""
        lines = [bar.line() for bar in shown]
        rows = "".join(map(_row, shown))
        tail = f'<div style="font-size: smaller">{html.escape(rest)}</div>' if rest else ""
        return {
            "text/plain": "\n".join([*lines, *([rest] if rest else [])]),
            "text/html": f'<div class="jray-bars">{rows}{tail}</div>',
        }


class Bars:
    """The groups of all cells."""

    def __init__(self) -> None:
        self._groups: dict[int, _Group] = {}
        #: cells whose group has changed since it was drawn
        self._dirty: dict[int, None] = {}

    def __bool__(self) -> bool:
        return bool(self._dirty)

    def update(self, cell: int, task: tuple[str, int], task_name: str, state: dict[str, Any]) -> None:
        """Take the *state* of a bar of a task (its id and pid), as `jray.util.tqdm` tells it."""
        group = self._groups.get(cell)
        if group is None:
            group = self._groups[cell] = _Group()
            if len(self._groups) > _MOST_GROUPS:
                del self._groups[next(iter(self._groups))]
        group.update((*task, state["id"]), _Bar(task_name, state))
        self._dirty[cell] = None

    def take(self, *, now_s: float, everything: bool = False) -> list[Drawing]:
        """Return the groups that are to be drawn now; with *everything*, all that changed."""
        drawings = []
        for cell in list(self._dirty):
            group = self._groups.get(cell)
            if group is None:
                del self._dirty[cell]
            elif everything or now_s - group.drawn_s >= _DRAW_S:
                del self._dirty[cell]
                data = {
                    "data": group.bundle(),
                    "metadata": {},
                    "transient": {"display_id": group.display_id},
                    "update": group.is_drawn,
                }
                group.is_drawn, group.drawn_s = True, now_s
                drawings.append(Drawing(cell, data))
        return drawings


def final_line(state: dict[str, Any]) -> str:
    """Return how a bar ended as a line without times, the same in every run."""
    n, total = state["n"], state["total"]
    head = f"{state['desc']}: " if state["desc"] else ""
    ending = "" if state["state"] == "done" else f" {state['state']}"
    return f"{head}{n:g}{f'/{total:g}' if total else ''} {state['unit']}{ending}\n"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _row(bar: _Bar) -> str:
    state = bar.state
    total = state["total"]
    part = min(1.0, max(0.0, state["n"] / total)) if total else float(not bar.is_running)
    color = _COLORS[state["state"]]
    return (
        '<div style="display: flex; align-items: center; gap: 0.6em">'
        '<div style="flex: 0 0 10em; height: 0.7em; border: 1px solid currentColor; opacity: 0.85">'
        f'<div style="width: {100 * part:.0f}%; height: 100%; background: {color}"></div></div>'
        f'<code style="white-space: pre; color: var(--jp-ui-font-color1, inherit)">{html.escape(bar.line(None))}</code>'
        "</div>"
    )
