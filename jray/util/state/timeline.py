"""Owns `jray.timeline`: what ran when, as a trace for chrome://tracing or ui.perfetto.dev."""

from __future__ import annotations

import json
import time
import warnings
from typing import Any

from jray._core.refs import current
from jray._core.timeline import trace_events
from jray.util.state.common import MAX_LIMIT

__all__ = ["timeline"]


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """Return the trace events of the tasks that ran or run, or write them to *filename* as JSON and return None.

    Of ended tasks each process remembers the latest only.  Blocks until all processes have told; warns of those that
    did not in time.  Raises RuntimeError before `jray.init`.
    """
    client = current.client
    if client is None:
        raise RuntimeError("There is no timeline before jray.init() was called.")
    answer = client.cluster.rows("tasks", limit=10 * MAX_LIMIT, detail=True)
    for text in answer.warnings:
        warnings.warn(text, UserWarning, stacklevel=2)
    events = trace_events(answer.rows, time.time() * 1000)
    if filename is None:
        return events
    with open(filename, "w", encoding="utf-8") as file:
        json.dump(events, file)
    return None
