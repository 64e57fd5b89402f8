"""Owns the answer to "which task is this code part of?", in any thread or coroutine of a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from jray._core.client.peers import Peer


class RunningTask:
    """A task, or an actor's call, that runs here."""

    __slots__ = (
        "consumed", "ended_s", "has_failed", "is_actor_call", "is_cancelled", "name", "number", "peer", "ready_s",
        "started_s", "template", "waiter",
    )  # fmt: skip

    def __init__(self, peer: Peer, number: int, template: Any, *, is_actor_call: bool) -> None:
        self.peer = peer
        self.number = number
        self.template = template
        self.name: str = template.name
        self.is_actor_call = is_actor_call
        self.is_cancelled = False
        self.has_failed = False
        #: when its code began, by the monotonic clock; 0: not yet
        self.started_s = 0.0
        #: when the code and arguments that had to be brought were there; 0: there were none, or they are not there yet
        self.ready_s = 0.0
        self.ended_s = 0.0
        #: items of its stream that the owner has taken
        self.consumed = 0
        #: what a producer waits on that is ahead of its consumer
        self.waiter: Any = None

    @property
    def task_id(self) -> bytes:
        return self.peer.task_id(self.number)


current_task: ContextVar[RunningTask | None] = ContextVar("jray_current_task", default=None)


class WorkerContext:
    """What the client asks about the calling thread's task; see `jray._core.client.core.Context`."""

    def __init__(self) -> None:
        self._main_ident = threading.main_thread().ident
        #: set by the executor
        self.on_waiting: Callable[[], None] = lambda: None
        self.on_resumed: Callable[[], None] = lambda: None
        #: set by the actor's host
        self.on_actor_waits: Callable[[], None] = lambda: None

    def task_number(self) -> Any:
        return current_task.get()

    def blocks(self) -> bool:
        """Tell whether waiting gives a CPU back: in the main thread of a task, not in actors (Ray's rule)."""
        task = current_task.get()
        if task is not None and task.is_actor_call:
            self.on_actor_waits()
            return False
        return task is not None and threading.get_ident() == self._main_ident

    def waiting(self) -> None:
        self.on_waiting()

    def resumed(self) -> None:
        self.on_resumed()
