"""Owns the panel as a value: live where a front end can draw it, tables everywhere else."""

from __future__ import annotations

import dataclasses
import html
import importlib
import logging
from collections.abc import Callable
from typing import Any

from jray._core.engine import Engine
from jray.notebook.panel.acting import act
from jray.notebook.panel.feed import Feed
from jray.notebook.panel.model import TABS, TITLES, Labels, Snapshot
from jray.notebook.panel.reading import Reader
from jray.notebook.tables import Table
from jray.notebook.task_logs import TaskLogs

#: what is not the same when the same notebook runs again, and the tabs that consist of it
_UNSTEADY = frozenset({"duration", "memory", "pid", "queue"})
_STEADY_TABS = ("tasks", "actors")
_log = logging.getLogger("jray.notebook")
_NOT_RUNNING = "jray is not running. Start it with jray.init(), or just use it."


class Panel:
    """A view of the cluster: tasks, actors, objects, nodes and logs.

    In a notebook with anywidget it is live, reads only while somebody looks, and ends with `close`.  Everywhere else
    it is the tables of this moment: `print(panel)`, or `panel.table("actors")`, whose `df()` is a DataFrame.
    """

    def __init__(
        self,
        engine_of: Callable[[], Engine | None],
        labels: Labels,
        *,
        task_logs: TaskLogs | None = None,
        has_front_end: bool,
        is_same_each_time: bool,
    ) -> None:
        self._engine_of = engine_of
        self._labels = labels
        self._task_logs = task_logs
        self._has_front_end = has_front_end
        self._is_same_each_time = is_same_each_time
        self._feed: Feed | None = None
        self._widget: Any = None
        self._is_closed = False

    def __repr__(self) -> str:
        return "<jray.panel>"

    def __str__(self) -> str:
        return self._static()[0]

    def table(self, tab: str) -> Table:
        """Return "tasks", "actors", "objects", "nodes", "groups" or "logs" as they are now; blocks for the answer.

        Raises:
            ValueError: there is no such tab.
            RuntimeError: jray is not running.
        """
        if tab not in TABS:
            raise ValueError(f"The panel has no tab {tab!r}, but {', '.join(TABS)}.")
        engine = self._engine_of()
        if engine is None:
            raise RuntimeError(_NOT_RUNNING)
        return _read(self._reader(), engine, tab).table()

    def close(self) -> None:
        """End what makes it live; what is shown stays as it is.  Closing again changes nothing."""
        self._is_closed = True
        if self._feed is not None:
            self._feed.close()
        if self._widget is not None:
            self._widget.close()
        self._feed = self._widget = None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:  # noqa: ARG002
        text, markup = self._static()
        bundle: dict[str, Any] = {"text/plain": text}
        if self._has_front_end or self._is_same_each_time:
            bundle["text/html"] = markup
        if not self._has_front_end:
            return bundle
        if not self._is_same_each_time and not self._is_closed:
            bundle |= self._live() or {}
        return bundle

    # -- inside -----------------------------------------------------------------------------------

    def _live(self) -> dict[str, Any] | None:
        """Return what a front end draws the widget by; None: there is no anywidget."""
        if self._widget is None:
            feed = Feed(self._engine_of, self._reader(), self._tell, act)
            try:
                widgets = importlib.import_module("jray.notebook.panel.widget")
                self._widget = widgets.PanelWidget(feed.hear)
            except ImportError:
                return None
            except Exception:  # noqa: BLE001 -- of other versions than ours are made for, or without what they talk by
                _log.warning("The panel is shown as tables, for no widget can be made here.", exc_info=True)
                return None
            self._feed = feed
            feed.start()
        assert self._feed is not None
        self._feed.expect()
        shown: Any = self._widget._repr_mimebundle_()
        data = shown[0] if isinstance(shown, tuple) else shown
        return {kind: value for kind, value in (data or {}).items() if kind != "text/plain"}

    def _tell(self, message: dict[str, Any]) -> None:
        widget = self._widget
        if widget is not None:
            widget.send(message)

    def _reader(self) -> Reader:
        return Reader(self._labels, self._task_logs)

    def _static(self) -> tuple[str, str]:
        """Return the tables as text and as HTML; what cannot be read is said in its place."""
        engine = self._engine_of()
        texts, parts = [], []
        if engine is None:
            texts.append(_NOT_RUNNING)
            parts.append(html.escape(_NOT_RUNNING))
        else:
            reader = self._reader()
            for tab in _STEADY_TABS if self._is_same_each_time else TABS:
                try:
                    table = _read(reader, engine, tab).table()
                except Exception as error:  # noqa: BLE001 -- a cluster that ends meanwhile must not spoil the cell
                    text = f"{TITLES[tab]} cannot be read: {type(error).__name__}: {error}"
                    texts.append(text)
                    parts.append(f"<div>{html.escape(text)}</div>")
                    continue
                if self._is_same_each_time:
                    table = _steady(table)
                texts.append(repr(table))
                parts.append(table._repr_html_())
        style = "color:var(--jp-ui-font-color1, inherit)"
        markup = f'<div class="jray-panel-static" style="{style}">{"".join(parts)}</div>'
        return "\n\n".join(texts), markup


def _read(reader: Reader, engine: Engine, tab: str) -> Snapshot:
    if tab == "tasks":
        reader.ask_tasks(engine, ())
        return reader.tasks(engine, "cell")
    if tab == "logs":
        return reader.logs(engine, ())
    found: Snapshot = getattr(reader, tab)(engine)
    return found


def _steady(table: Table) -> Table:
    columns = tuple(column for column in table.columns if column.key not in _UNSTEADY)
    return dataclasses.replace(table, columns=columns, notes=())
