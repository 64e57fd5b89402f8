"""Owns vows: how an actor learns that a process which waits for it, or holds something of it, has died.

Whoever may die submits a call of the actor that ends only when the actor says so, and sends its ref along
with the request, inside a list.  The caller owns that ref, so in the actor to await it fails as soon as the
caller's process is dead.  Nothing is polled, and nothing but the public API of tasks and actors is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

#: Concurrent calls of an actor that others wait in: those must never keep out the one that would wake them.
CONCURRENCY = 1_000_000


class Vows:
    """The vows made to one async actor, by token; used on its event loop only."""

    def __init__(self) -> None:
        self._open: dict[bytes, asyncio.Future[None]] = {}
        self._watches: set[asyncio.Task[None]] = set()

    async def keep(self, token: bytes) -> None:
        """Last until the vow ends: the body of the caller's call.

        Cancelling it changes nothing: a task that is cancelled still holds what it holds, in a live process.
        """
        ended = self._vow(token)
        while not ended.done():
            try:
                await asyncio.shield(ended)
            except asyncio.CancelledError:
                continue
        self._open.pop(token, None)

    def watch(self, token: bytes, call: Any, on_broken: Callable[[], object]) -> None:
        """Call `on_broken` if the process that owns `call`, the ref of `keep`, dies before the vow ends."""
        if self._vow(token).done():
            return

        async def watch() -> None:
            try:
                await call
            except Exception:  # noqa: BLE001 -- however a vow ends but by being kept, nobody is left behind it
                on_broken()

        task = asyncio.get_running_loop().create_task(watch())
        self._watches.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._watches.discard)

    def end(self, token: bytes) -> None:
        """Release who made the vow from it."""
        vow = self._vow(token)
        if not vow.done():
            vow.set_result(None)

    def _vow(self, token: bytes) -> asyncio.Future[None]:
        vow = self._open.get(token)
        if vow is None:
            vow = self._open[token] = asyncio.get_running_loop().create_future()
        return vow
