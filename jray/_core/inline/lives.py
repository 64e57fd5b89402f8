"""Owns the lives of actors: their begin and their end, as the same machine decides that does so in a head."""

from __future__ import annotations

import asyncio
import os
import signal
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from jray._core.inline import actor_outcomes, failures
from jray._core.inline.calls import Call
from jray._core.inline.loops import ActorLoop
from jray._core.inline.objects import ADDRESS
from jray._core.machine import actors as machine
from jray._core.refs import ObjectRef
from jray._core.resources import Allocation
from jray._core.specs import ExitCause
from jray._core.worker.actor_host import own_repr, say_good_bye
from jray.exceptions import OwnerDiedError

if TYPE_CHECKING:
    from jray._core.inline.core import InlineClient
    from jray._core.inline.local_actor import LocalActor

_UNMADE = object()


class Life:
    """One instance of an actor: what would be its process."""

    def __init__(self, actor: LocalActor, number: int, allocation: Allocation, restarts: int) -> None:
        self.actor = actor
        #: as the machine knows it as a maker of actors
        self.number = number
        self.worker_id = os.urandom(28)
        self.allocation: Allocation | None = allocation
        self.restarts = restarts
        client = actor.client
        self.variables = client.variables(actor.environment, allocation.gpu_ids)
        self.instance: Any = _UNMADE
        self.loop: ActorLoop | None = None
        self._semaphores: dict[str, asyncio.Semaphore] = {}
        #: the run of the constructor
        self.creation: Call | None = None
        #: what runs, or is paused, here
        self.calls: list[Call] = []
        self._running: Counter[str] = Counter()
        #: objects that die with it
        self.owned: weakref.WeakSet[ObjectRef[Any]] = weakref.WeakSet()
        #: whether it ends after the calls that run now
        self.is_exiting = False

    @property
    def is_made(self) -> bool:
        return self.instance is not _UNMADE

    @property
    def is_ready(self) -> bool:
        return self.is_made and not self.is_exiting

    def has_room(self, group: str) -> bool:
        return self.loop is not None or self._running[group] < self.actor.limit(group)

    def enter(self, call: Call, group: str) -> None:
        self.calls.append(call)
        self._running[group] += 1

    def leave(self, call: Call, group: str) -> None:
        if call in self.calls:
            self.calls.remove(call)
        self._running[group] -= 1

    def semaphore(self, group: str) -> asyncio.Semaphore:
        """Return what lets a group's coroutines in.  Raises ValueError for a group that the actor lacks."""
        found = self._semaphores.get(group)
        if found is None:
            found = self._semaphores[group] = asyncio.Semaphore(self.actor.limit(group))
        return found

    def call_soon(self, callback: Callable[[], Any]) -> None:
        """Have the event loop call that, whichever thread drives it."""
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(callback)


class Lives:
    """All actors of the session, and the lives that they have now."""

    def __init__(self, client: InlineClient) -> None:
        self._client = client
        self.machine = machine.Actors()
        self.actors: dict[bytes, LocalActor] = {}
        self._lives: dict[bytes, Life] = {}
        self._numbers = iter(range(1, 1 << 62))

    def decide(self, event: Callable[..., Iterable[machine.Action]], *args: Any, **kwargs: Any) -> None:
        """Tell the machine of an event, and do what it wants done."""
        with self._client.lock:
            actions = event(*args, **kwargs)
        self._carry_out(actions)

    def _carry_out(self, actions: Iterable[machine.Action]) -> None:
        for action in actions:
            if isinstance(action, machine.EndActorWorker):
                life = self._lives.get(action.worker_id)
                if life is not None:
                    self._end_worker(life, action.reason, is_forced=action.force)
                continue
            actor = self.actors[action.actor_id]
            if isinstance(action, machine.Place):
                actor.place()
            elif isinstance(action, machine.Unplace):
                self._client.turns.withdraw(actor)
                actor.arguments = None
                self._client.groups.owner_gone(actor.actor_id)
            elif self.is_dead(actor):
                actor.fail_queue()

    def _end_worker(self, life: Life, reason: str, *, is_forced: bool) -> None:
        if is_forced:
            self.end(life, ExitCause(os.getpid(), None, signal.SIGKILL, "", reason))
            return
        life.is_exiting = True
        if not life.calls:
            self.end(life, failures.quiet_end(reason), is_graceful=True)

    def begin(self, actor: LocalActor, allocation: Allocation) -> Life | None:
        """There are resources for an actor; return its new life, or None if it is not wanted any more."""
        with self._client.lock:
            record = self.machine.records[actor.actor_id]
            life = Life(actor, next(self._numbers), allocation, record.restarts)
            is_wanted = not self.machine.placed(actor.actor_id, life.worker_id)
            if is_wanted:
                actor.life = life
                self._lives[life.worker_id] = life
        if is_wanted:
            return life
        self._client.turns.release(life)
        return None

    def made(self, actor: LocalActor, life: Life) -> None:
        """The constructor came to its end."""
        repr_name = own_repr(life.instance)
        self.decide(self.machine.made, actor.actor_id, address=ADDRESS, pid=os.getpid(), repr_name=repr_name)
        actor.advance()

    def refused(self, actor: LocalActor, reason: str) -> None:
        """An actor has no place to be."""
        self.decide(self.machine.refused, actor.actor_id, reason)

    def init_failed(self, actor: LocalActor, blob: bytes) -> None:
        self.decide(self.machine.init_failed, actor.actor_id, blob)

    def exiting(self, life: Life, reason: str) -> None:
        """The actor leaves, after the calls that run now."""
        life.is_exiting = True
        self.decide(self.machine.exiting, life.actor.actor_id, reason)

    def end(self, life: Life, cause: ExitCause, *, is_graceful: bool = False) -> None:
        """A life is over: its calls fail or wait for the next, what it held and owned is gone."""
        client, actor = self._client, life.actor
        with client.lock:
            if self._lives.pop(life.worker_id, None) is None:
                return
            calls, life.calls = life.calls, []
            actor.life = None
        if is_graceful:
            say_good_bye(life.instance)
        if life.creation is not None and not life.creation.is_done:
            life.creation.attempt += 1
        with client.lock:
            actions = self.machine.worker_died(actor.actor_id, cause)
            view = self.machine.records[actor.actor_id].view()
        client.turns.release(life)
        actor_outcomes.settle_lost(actor, calls, view)
        self._lose_owned(life)
        if life.loop is not None:
            client.turns.end_loop(life.loop)
        life.instance = _UNMADE
        self._carry_out(actions)
        self.decide(self.machine.client_gone, life.number)
        if view.state == machine.DEAD:
            actor.fail_queue()

    def _lose_owned(self, life: Life) -> None:
        """What the actor owned, by `put` or by calling a task, can't be got any more."""
        client = self._client
        for call in [call for call in client.pending.values() if call.owner is life]:
            client.withdraw(call)
            client.runner.fail(call, OwnerDiedError(call.task_id.hex(), owner_address=ADDRESS))
        for ref in list(life.owned):
            client.objects.lose(ref, OwnerDiedError(ref._id.hex(), owner_address=ADDRESS))

    # -- what there is --------------------------------------------------------------------------------

    def view(self, actor: LocalActor) -> machine.ActorView | None:
        record = self.machine.records.get(actor.actor_id)
        return None if record is None else record.view()

    def current(self) -> list[Life]:
        with self._client.lock:
            return list(self._lives.values())

    def records(self) -> list[machine.ActorRecord]:
        with self._client.lock:
            return list(self.machine.records.values())

    def is_dead(self, actor: LocalActor) -> bool:
        return self.is_gone(actor.actor_id)

    def is_gone(self, actor_id: bytes) -> bool:
        """Tell whether the actor of this id is dead; jobs last as long as this engine."""
        record = self.machine.records.get(actor_id)
        return record is not None and record.state == machine.DEAD
