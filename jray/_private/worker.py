"""Owns what programs look up in Ray's `_private.worker`: whether this process is a driver or a worker."""

from __future__ import annotations

from typing import Any

from jray._core.refs import current

SCRIPT_MODE = 0
WORKER_MODE = 1


class _GlobalWorker:
    """What this process is to the cluster, asked anew each time."""

    @property
    def connected(self) -> bool:
        return current.client is not None

    @property
    def mode(self) -> int | None:
        """SCRIPT_MODE in a driver, WORKER_MODE in a worker, None before `init`."""
        if current.client is None:
            return None
        return SCRIPT_MODE if current.client.whereabouts().worker_id is None else WORKER_MODE

    @property
    def namespace(self) -> str:
        return str(current.require().namespace)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"jray._private.worker.global_worker has no {name!r}: it is of Ray's own making. "
            "jray.get_runtime_context() tells who and where the calling code is."
        )


global_worker = _GlobalWorker()
