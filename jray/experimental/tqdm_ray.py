"""Progress bars under Ray's name: see `jray.util.tqdm`."""

from __future__ import annotations

from jray.util.tqdm import LiveScreen, live_screen, safe_print, tqdm

__all__ = ["instance", "safe_print", "tqdm"]


def instance() -> LiveScreen | None:
    """Return what draws this process's bars, with `hide_bars` and `unhide_bars`; None: nothing is drawn here."""
    return live_screen()
