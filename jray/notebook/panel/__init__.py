"""Owns `jray.panel`: a live view of the cluster in a notebook, tables elsewhere.

Importing this imports neither IPython nor any widget.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from jray._core.engine import Engine
from jray._core.refs import current
from jray.notebook.panel.display import Panel

__all__ = ["Panel", "panel"]


def panel() -> Panel:
    """Return a view of the cluster: its tasks, actors, objects, nodes and the last lines of its workers' logs.

    Displayed in a notebook it is live, with buttons to cancel, kill and free; printed, it is tables.  Starts no
    cluster; one that is started later is shown then.
    """
    shell = _shell()
    guest = None if shell is None else importlib.import_module("jray.notebook.guest").guest_of(shell)

    def label(number: int) -> str:
        if not number:
            return ""
        cell = None if guest is None else guest.cells.get(number)
        return f"cell {number}" if cell is None else f"In[{cell.execution_count}]"

    return Panel(
        _engine,
        label,
        task_logs=None if guest is None else guest.task_logs,
        has_front_end=getattr(shell, "kernel", None) is not None,
        is_same_each_time=guest is not None and guest._is_noninteractive(),
    )


def _engine() -> Engine | None:
    client: Engine | None = current.client
    return client


def _shell() -> Any:
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
