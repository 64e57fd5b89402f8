"""Owns the actors this process calls: where they are, the calls on their way, and what becomes of these."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from jray._core.client.arguments import are_plain, pack
from jray._core.client.pending import PendingTask
from jray._core.client.tasks import VISIT_EVERY
from jray._core.machine.actors import ALIVE, DEAD, ActorView
from jray._core.machine.dispatch import Timing
from jray._core.refs import ATOM, ERROR, ObjectRef
from jray._core.serialization import deserialize
from jray._core.specs import ActorSpec, MethodTemplate
from jray._core.wire import messages
from jray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    PendingCallsLimitExceeded,
    RayTaskError,
)

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient
    from jray._core.client.peers import Peer

#: calls that wait for company are sent by then, or when this many have gathered
_GATHER_S = 0.0002
_GATHER_CALLS = 64


class CallTemplate:
    """What the calls of one method, with the same options and from the same cell, share here."""

    __slots__ = ("max_task_retries", "name", "num_returns", "retry_exceptions", "wire")

    def __init__(self, wire: MethodTemplate, max_task_retries: int, retry_exceptions: Any) -> None:
        self.wire = wire
        self.name = wire.name
        self.num_returns = wire.num_returns
        #: -1: any number
        self.max_task_retries = max_task_retries
        self.retry_exceptions = retry_exceptions

    @property
    def max_retries(self) -> int:
        return self.max_task_retries


class RemoteActor:
    """One actor as this client calls it.  All its handles here share it; the client's lock guards it."""

    __slots__ = (
        "_client", "_gathered", "_last_sent_s", "actor_id", "inflight", "is_ordered", "is_reachable", "peer",
        "queue", "refusal", "template_numbers", "view",
    )  # fmt: skip

    def __init__(self, client: CoreClient, actor_id: bytes, *, is_ordered: bool) -> None:
        self._client = client
        self.actor_id = actor_id
        self.view: ActorView | None = None
        self.is_ordered = is_ordered
        #: calls that can't be sent yet, in the order they were made
        self.queue: deque[PendingTask] = deque()
        #: calls sent and not answered, oldest first
        self.inflight: dict[int, PendingTask] = {}
        #: calls that could be sent and wait a moment for company
        self._gathered: list[PendingTask] = []
        self._last_sent_s = 0.0
        self.peer: Peer | None = None
        self.is_reachable = False
        #: the error of every call, if the scheduling strategy allows no node
        self.refusal: BaseException | None = None
        self.template_numbers: dict[Any, CallTemplate] = {}

    # -- calls ------------------------------------------------------------------------------------

    def outstanding(self) -> int:
        return len(self.queue) + len(self.inflight) + len(self._gathered)

    def submit(self, task: PendingTask) -> None:
        """Send a call now, soon, or when the actor is there and its arguments are."""
        client = self._client
        refusal = self.refusal or client.loss
        if refusal is not None:
            client.outcomes.fail(task, refusal)
            return
        if self.view is not None and self.view.state == DEAD:
            client.outcomes.fail(task, self.death())
            return
        if task.dependencies and not client.tasks.wait_for_dependencies(task, self._ready):
            if self.is_ordered:
                self.queue.append(task)
            return
        if self.is_reachable and not self.queue:
            self._gather(task)
        else:
            self.queue.append(task)

    def _ready(self, task: PendingTask) -> None:
        if not self.is_ordered:
            self.queue.append(task)
        self.advance()

    def advance(self) -> None:
        """Send what can be sent."""
        while self.is_reachable and self.queue and not self.queue[0].unready:
            self._gather(self.queue.popleft())

    def _gather(self, task: PendingTask) -> None:
        gathered = self._gathered
        gathered.append(task)
        if not self.inflight or len(gathered) >= _GATHER_CALLS or monotonic() - self._last_sent_s > _GATHER_S:
            self.flush()
        elif len(gathered) == 1:
            self._client.gathering.append(self)
            self._client.pump.nudge()

    def flush(self) -> None:
        """Send the calls that were gathered."""
        tasks, self._gathered = self._gathered, []
        peer = self.peer
        if not tasks:
            return
        if peer is None:
            self.queue.extendleft(reversed(tasks))
            return
        known = peer.connection.known
        definitions: list[Any] = []
        wire: list[Any] = []
        for task in tasks:
            definition = task.template.wire
            if task.positions is None:
                wire.append((task.number, definition.number, task.payload))
            else:
                entry = self._client.tasks.wire_form(task)
                if entry is None:  # an argument failed: so did the call
                    continue
                wire.append(entry)
            if definition.number not in known:
                known.add(definition.number)
                definitions.append((definition, None))
            self.inflight[task.number] = task
        if wire:
            peer.connection.send((messages.CALL, wire, definitions))
        self._last_sent_s = monotonic()

    def answered(self) -> None:
        """The actor answered: it has room for what was gathered meanwhile."""
        if self._gathered:
            self.flush()

    def requeue(self, task: PendingTask) -> None:
        """Call again, after what is queued already."""
        self.queue.append(task)
        self.advance()

    # -- what becomes of the actor -------------------------------------------------------------------

    def changed(self, view: ActorView) -> None:
        """The head told a new state."""
        self.view = view
        self.is_ordered = view.is_ordered
        if view.state == ALIVE:
            if self.peer is not None and self.peer.address == view.address:
                return
            try:
                peer = self._client.peers.get(view.address)
            except OSError:  # it died since, and the head will say so
                return
            peer.actor = self
            self.peer = peer
            self.is_reachable = True
            self.advance()
            return
        self.is_reachable = False
        self._settle_lost(view)
        if view.state == DEAD:
            queue, self.queue = self.queue, deque()
            for task in queue:
                self._client.outcomes.fail(task, self.death())

    def disconnected(self) -> None:
        """The connection closed; the head will tell whether the actor restarts."""
        self.peer = None
        self.is_reachable = False

    def _settle_lost(self, view: ActorView) -> None:
        """Decide about the calls that the dead process had: they may have run."""
        lost = [*self.inflight.values(), *self._gathered]
        self.inflight = {}
        self._gathered = []
        again: list[PendingTask] = []
        for task in lost:
            if task.is_cancelled:
                self._client.outcomes.fail_cancelled(task)
            elif view.state != DEAD and task.retries_left:
                task.retries_left -= task.retries_left > 0
                if task.stream is not None:
                    task.stream.restarted()
                again.append(task)
            elif view.state == DEAD:
                self._client.outcomes.fail(task, self.death())
            else:
                self._client.outcomes.fail(task, self._unavailable(view))
        self.queue.extendleft(reversed(again))

    def _unavailable(self, view: ActorView) -> ActorUnavailableError:
        return ActorUnavailableError(
            "its process died in this call, and it restarts. Give the actor max_task_retries to have such calls "
            "run again.",
            self.actor_id.hex(),
            class_name=view.class_name,
            name=view.name,
            namespace=view.namespace,
        )

    def death(self) -> BaseException:
        """Return the error of a call to the dead actor."""
        view = self.view
        cause = view.cause if view is not None else None
        if view is None or cause is None:
            return ActorDiedError(actor_id=self.actor_id.hex(), error_msg="The actor is dead.")
        who: dict[str, Any] = {
            "actor_id": self.actor_id.hex(),
            "class_name": view.class_name,
            "name": view.name,
            "namespace": view.namespace,
        }
        if cause.init_error is not None:
            error = deserialize(cause.init_error)
            if isinstance(error, RayTaskError):
                return ActorDiedError(error, **who)
            return ActorDiedError(
                error_msg=f"Its constructor could not run: {error}", actor_init_failed=True, **who
            )
        exit_cause = cause.exit_cause
        if exit_cause is not None:
            who |= {
                "pid": exit_cause.pid,
                "exit_code": exit_cause.exit_code,
                "signal": exit_cause.signal,
                "last_lines": exit_cause.last_lines.splitlines(),
            }
        return ActorDiedError(error_msg=f"The actor {view.class_name} is dead: {cause.text}.", **who)

    def cancel(self, task: PendingTask, *, recursive: bool) -> None:
        """Cancel a call: drop it if it was not sent, else ask the actor."""
        task.is_cancelled = True
        if task.number in self.inflight and self.peer is not None:
            self.peer.connection.send((messages.CANCEL, task.number, False, recursive))
            return
        for place in (self.queue, self._gathered):
            if task in place:
                place.remove(task)
        task.unready = -1
        self._client.outcomes.fail_cancelled(task)
        self.advance()


class ActorSubmitter:
    """Makes actors and calls them."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        self._actors: dict[bytes, RemoteActor] = {}

    def create(self, spec: ActorSpec, arguments: Any, refusal: BaseException | None = None) -> ObjectRef[Any]:
        """Have an actor made, unless `refusal` says why not; return the ref whose lifetime is the actor's.

        `arguments` is a PackedArguments; the actor is made once the dependencies in it have values.
        """
        client = self._client
        handle: ObjectRef[Any] = ObjectRef(client.next_object_id(), client)
        handle._state, handle._data, handle._tracked = ATOM, None, True
        actor = RemoteActor(client, spec.actor_id, is_ordered=_is_ordered(spec))
        number = client.next_number()
        task = PendingTask(number, _CREATION, arguments.payload, 0, Timing(), None)
        client.tasks.attach(task, arguments)
        task.refs = []
        # the constructor may run again: its arguments live as long as the actor
        handle._nested = [*arguments.pins, *arguments.dependencies]
        if isinstance(arguments.payload, ObjectRef):
            handle._nested.append(arguments.payload)
        with client.lock:
            self._actors[spec.actor_id] = actor
            actor.refusal = refusal
            if refusal is not None:
                return handle
            if not spec.is_detached:
                client.objects.actor_of[handle._id] = spec.actor_id
            if not arguments.dependencies or client.tasks.wait_for_dependencies(
                task, lambda task: self._send_creation(spec, task)
            ):
                self._send_creation(spec, task)
        return handle

    def _send_creation(self, spec: ActorSpec, task: PendingTask) -> None:
        client = self._client
        failed = next((ref for ref in task.dependencies or () if ref._state == ERROR), None)
        if failed is not None:
            failed._nested = None  # it is passed on, and so not unseen
            data = failed._data
            blob = data if isinstance(data, bytes) else client.dump_error(data)
            client.node.tell(messages.CREATE_ACTOR, spec)
            client.node.tell(messages.ACTOR_FAILED, spec.actor_id, blob)
            return
        descriptions = tuple(
            (r._state, r._data, r._id, client.ref_address(r)) for r in task.dependencies or ()
        )
        payload = task.payload
        if isinstance(payload, ObjectRef):
            payload = (payload._state, payload._data, payload._id, client.ref_address(payload))
        spec = dataclasses.replace(spec, args_blob=payload, dependencies=descriptions)
        client.node.tell(messages.CREATE_ACTOR, spec)

    def get(self, actor_id: bytes) -> RemoteActor:
        """Return the actor with that id, asking the head about one not known here."""
        client = self._client
        with client.lock:
            actor = self._actors.get(actor_id)
            if actor is None:
                actor = self._actors[actor_id] = RemoteActor(client, actor_id, is_ordered=True)
                client.node.request_later(messages.ACTOR_INFO, actor_id, callback=self._told)
            return actor

    def _told(self, view: ActorView | None) -> None:
        if view is not None:
            self.on_state_locked(view)

    def on_state_locked(self, view: ActorView) -> None:
        actor = self._actors.get(view.actor_id)
        if actor is not None:
            actor.changed(view)

    def call(
        self,
        actor: RemoteActor,
        template: CallTemplate,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        max_pending_calls: int,
        keep: Any,
    ) -> Any:
        """Call a method; `keep` (the handle) lives until the call is done."""
        client = self._client
        number = client.next_number()
        if not number % VISIT_EVERY:
            client.pump.poll_nowait()
        task = PendingTask(
            number, template, args, template.max_task_retries, _NO_TIMING, client.context.task_number()
        )
        task.actor = actor
        if kwargs or not are_plain(args):
            client.tasks.attach(
                task, pack(args, kwargs, client.config.inline_limit_bytes, client.objects.put_serialized)
            )
        if task.pins:
            task.pins.append(keep)
        else:
            task.pins = keep
        result = client.tasks.make_refs(task, template.num_returns)
        if max_pending_calls > 0 and actor.outstanding() >= max_pending_calls:
            raise PendingCallsLimitExceeded(
                f"The handle has {actor.outstanding()} calls outstanding, and its max_pending_calls is "
                f"{max_pending_calls}. Wait for some with jray.wait(), or raise the limit."
            )
        shield = client.shields.current()
        shield.enter()
        try:
            with client.lock:
                client.tasks.pending[number] = task
                actor.submit(task)
        finally:
            shield.leave()
        return result

    def peer_lost(self, peer: Peer) -> None:
        actor: RemoteActor | None = peer.actor
        if actor is not None and actor.peer is peer:
            with self._client.lock:
                actor.disconnected()

    def node_lost(self, error: BaseException) -> None:
        """The head is gone: nothing that waits for it will come; the lock is held."""
        for actor in self._actors.values():
            if not actor.is_reachable:
                for task in list(actor.queue):
                    self._client.outcomes.fail(task, error)
                actor.queue.clear()


def _is_ordered(spec: ActorSpec) -> bool:
    return spec.max_concurrency == 1 and not spec.is_async and not spec.concurrency_groups


_NO_TIMING = Timing()
_CREATION = CallTemplate(MethodTemplate(0, "__init__", "__init__", 0, "", 0), 0, False)
