"""Owns what code on a worker displays: `display()` calls and figures, collected for a remote cell or sent at once."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from jray.notebook.mime import MimeBundle, bundle_of, within

#: Of one display, at most this many characters are sent: Jupyter's server lets 1 MB a second through, for 3 seconds.
MOST_CHARACTERS = 3_000_000
_LIVE_OPTIONS = ("metadata", "raw", "display_id", "update", "transient", "include", "exclude")


class CurrentPublisher(Protocol):
    """Takes what is displayed."""

    def display(self, *values: Any, **options: Any) -> Any: ...


class Publisher:
    """Collects what a cell displays."""

    def __init__(self) -> None:
        self.bundles: list[MimeBundle] = []

    def display(self, *values: Any, **options: Any) -> None:
        """Take the place of IPython's `display` in a remote cell.

        Raises:
            TypeError: an option was given that needs the notebook's own process.
        """
        unsupported = sorted(name for name in options if name not in ("metadata", "raw"))
        if unsupported:
            raise TypeError(
                f"display() in a remote cell does not take {', '.join(unsupported)}: what it shows reaches "
                "the notebook when the cell ends. Show the final value, or print the progress."
            )
        for value in values:
            if options.get("raw"):
                self.bundles.append(
                    within(MimeBundle(dict(value), options.get("metadata") or {}), MOST_CHARACTERS)
                )
                continue
            bundle = bundle_of(value)
            if bundle is not None:
                bundle = MimeBundle(bundle.data, {**bundle.metadata, **(options.get("metadata") or {})})
                self.bundles.append(within(bundle, MOST_CHARACTERS))


class LivePublisher:
    """Sends what a task, or an actor's call, displays to the cell that submitted it, at once.

    *send* takes the data of an `Output`: a mime bundle, and for displays that are updated their id.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send

    def display(self, *values: Any, **options: Any) -> DisplayHandle | None:
        """Take the place of IPython's `display`; with `display_id` the display can be updated, also from here.

        Raises:
            TypeError: an option was given that needs the notebook's own process.
        """
        unsupported = sorted(name for name, given in options.items() if given and name not in _LIVE_OPTIONS)
        if unsupported:
            raise TypeError(
                f"display() in a task does not take {', '.join(unsupported)}: what is shown in the notebook already "
                "is not the task's. display_id=True returns a handle whose update() replaces what it showed."
            )
        transient = dict(options.get("transient") or {})
        display_id = options.get("display_id")
        if display_id:
            transient["display_id"] = os.urandom(16).hex() if display_id is True else str(display_id)
        if options.get("update") and "display_id" not in transient:
            raise TypeError("display(update=True) needs the display_id of what it replaces")
        is_raw = bool(options.get("raw"))
        if not values and display_id:
            values, is_raw = ({},), True  # room for a later update
        for value in values:
            bundle = MimeBundle(dict(value), {}) if is_raw else bundle_of(value, loads_ipython=False)
            if bundle is None:
                continue
            bundle = within(_chosen(bundle, options.get("include"), options.get("exclude")), MOST_CHARACTERS)
            self._send(
                {
                    "data": bundle.data,
                    "metadata": {**bundle.metadata, **(options.get("metadata") or {})},
                    "transient": transient,
                    "update": bool(options.get("update")),
                }
            )
        return DisplayHandle(self, transient["display_id"]) if display_id else None

    def update_display(self, value: Any, *, display_id: str, **options: Any) -> None:
        """Replace what was displayed under that id."""
        self.display(value, display_id=display_id, **{**options, "update": True})


@dataclasses.dataclass(frozen=True, slots=True)
class DisplayHandle:
    """What `display(..., display_id=True)` returns in a task."""

    _publisher: LivePublisher
    display_id: str

    def display(self, value: Any, **options: Any) -> None:
        """Show *value* in a display of its own, under the same id."""
        self._publisher.display(value, display_id=self.display_id, **options)

    def update(self, value: Any, **options: Any) -> None:
        """Show *value* in place of what is shown."""
        self._publisher.update_display(value, display_id=self.display_id, **options)


def _chosen(bundle: MimeBundle, include: Any, exclude: Any) -> MimeBundle:
    if not include and not exclude:
        return bundle
    kinds = [kind for kind in bundle.data if (not include or kind in include) and kind not in (exclude or ())]
    return MimeBundle({kind: bundle.data[kind] for kind in kinds}, bundle.metadata)


class _Process:
    """What this process does with displays outside of remote cells."""

    def __init__(self) -> None:
        self.publisher: LivePublisher | None = None


_process = _Process()
_publisher: contextvars.ContextVar[Publisher | None] = contextvars.ContextVar("jray_publisher", default=None)


def publish_live(send: Callable[[dict[str, Any]], None]) -> None:
    """Have what this process displays outside of remote cells go to *send*, as the data of an `Output`."""
    _process.publisher = LivePublisher(send)


def current_publisher() -> CurrentPublisher | None:
    """Return the publisher of the remote cell that runs here, if one does, or else that of this process, if any."""
    return _publisher.get() or _process.publisher


@contextlib.contextmanager
def publishing(*, patch_ipython: bool) -> Iterator[Publisher]:
    """Make a `Publisher` current.

    With *patch_ipython*, code that imports `display` from IPython reaches it too; without a shell the
    original would only print.
    """
    publisher = Publisher()
    token = _publisher.set(publisher)
    modules: list[Any] = []
    if patch_ipython:
        modules = [
            importlib.import_module(name) for name in ("IPython.core.display_functions", "IPython.display")
        ]
    originals = [(module, module.display) for module in modules]
    for module, _ in originals:
        module.display = publisher.display
    try:
        yield publisher
    finally:
        for module, original in originals:
            module.display = original
        _publisher.reset(token)


def publish_open_figures(*, but: object) -> None:
    """Publish and close the figures that a cell left open, if it used pyplot; *but* is shown by itself."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    if isinstance(but, pyplot.Figure):
        pyplot.close(but)
    if pyplot.get_fignums():
        importlib.import_module("jray.notebook.figures").show()
