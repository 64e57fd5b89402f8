"""Owns how a driver gets what its tasks write: a thread that takes it from the collector and shows it."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import ray

from jray._core.frontend import Output, get_frontend
from jray._core.on_ray import courier
from jray._core.on_ray.output import collector_name

#: seconds that the end of a session waits for the last output
_LAST_S = 5.0


class Listener:
    """The collector of this driver's output, and the thread that listens to it."""

    def __init__(self, job_id: bytes) -> None:
        collector = ray.remote(num_cpus=0, max_concurrency=10_000)(courier.Collector)
        named = collector.options(name=collector_name(job_id.hex()), namespace=courier.NAMESPACE)
        self._collector = named.remote()
        self._thread = threading.Thread(target=self._listen, name="jray-listener", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        shown = 0
        # the cluster is gone, or this process leaves it
        with contextlib.suppress(ray.exceptions.RayError, ConnectionError):
            while True:
                answer = ray.get(self._collector.pull.remote(shown))
                if answer is None:
                    return
                shown, pieces = answer
                for piece in pieces:
                    _show(piece)

    def close(self) -> None:
        """Show what is left; the thread ends."""
        with contextlib.suppress(ray.exceptions.RayError, ConnectionError):
            self._collector.close.remote()
            self._thread.join(_LAST_S)


def _show(piece: tuple[Any, ...]) -> None:
    kind, text, data, cell, task_name, pid, task_id = piece
    get_frontend().write(Output(cell, kind, text, data, task_name, pid, task_id))
