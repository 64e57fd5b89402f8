"""Owns what a running remote cell displays: `display()` calls and figures, in order."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import sys
from collections.abc import Iterator
from typing import Any

from jray.notebook.mime import MimeBundle, bundle_of


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
                self.bundles.append(MimeBundle(dict(value), options.get("metadata") or {}))
                continue
            bundle = bundle_of(value)
            if bundle is not None:
                self.bundles.append(
                    MimeBundle(bundle.data, {**bundle.metadata, **(options.get("metadata") or {})})
                )


_publisher: contextvars.ContextVar[Publisher | None] = contextvars.ContextVar("jray_publisher", default=None)


def current_publisher() -> Publisher | None:
    """Return the publisher of the remote cell that runs here, if one does."""
    return _publisher.get()


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
