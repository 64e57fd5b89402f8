"""Owns the making, finding and calling of actors."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from jray._core.client.actor_errors import check_outstanding
from jray._core.client.actor_spec import actor_spec
from jray._core.client.arguments import are_plain, pack
from jray._core.client.exits import ActorExit
from jray._core.client.pending import PendingTask
from jray._core.client.pump import Waiter
from jray._core.client.remote_actor import CallTemplate, RemoteActor
from jray._core.client.results import returns_number
from jray._core.client.tasks import VISIT_EVERY
from jray._core.engine import ActorExists, ActorPlan, CallPlan, Tally
from jray._core.environments import normalize
from jray._core.machine.actors import DEAD, ActorView
from jray._core.options import check_supported
from jray._core.placement import placement
from jray._core.refs import ATOM, ERROR, ObjectRef
from jray._core.serialization import deserialize, serialize
from jray._core.specs import ActorSpec, MethodTemplate
from jray._core.wire import messages

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient
    from jray._core.client.peers import Peer


class ActorSubmitter:
    """Makes actors and calls them."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        self._actors: dict[bytes, RemoteActor] = {}
        #: what keeps the constructor's arguments of living detached actors that were made here
        self._detached: dict[bytes, ObjectRef[Any]] = {}

    # -- making -----------------------------------------------------------------------------------

    def make(self, plan: ActorPlan) -> tuple[bytes, ObjectRef[Any] | None]:
        """Have an actor made; return its id, and the ref whose lifetime is the actor's (None if detached).

        Raises `ActorExists` if the name is taken.
        """
        client = self._client
        options = plan.options
        check_supported(options)
        actor_id = os.urandom(12) + client.job_id
        namespace = options.namespace or client.namespace
        if options.name is not None:
            holder = client.ask("reserve_name", namespace, options.name, actor_id)
            if holder != actor_id:
                raise ActorExists(namespace)
        try:
            return actor_id, self._make(plan, actor_id, namespace)
        except BaseException:
            if options.name is not None:
                client.ask("unreserve_name", namespace, options.name, actor_id)
            raise

    def _make(self, plan: ActorPlan, actor_id: bytes, namespace: str) -> ObjectRef[Any] | None:
        client = self._client
        options, cls = plan.options, plan.cls
        place = placement(options, client.caller(), cls.__name__, client.groups.bundles)
        full_name = f"{cls.__module__}.{cls.__qualname__}"
        code = client.code_of(plan.key, cls, "actor class", full_name, plan.cell)
        packed = pack(plan.args, plan.kwargs, client.config.inline_limit_bytes, client.objects.put_serialized)
        spec = actor_spec(
            plan,
            actor_id,
            code,
            namespace=namespace,
            environment=normalize(options.runtime_env, client.runtime_env, client.local),
            job=client.job_id,
            owner=client.address,
            placement=place,
            home=client.node_id,
            methods=serialize(plan.meta).to_bytes(),
        )
        keeper = self._create(spec, packed)
        if not options.is_detached:
            return keeper
        if keeper._nested:
            self._detached[actor_id] = keeper
        return None

    def _create(self, spec: ActorSpec, arguments: Any) -> ObjectRef[Any]:
        """Have an actor made; return the ref whose lifetime is the actor's.

        `arguments` is a PackedArguments; the actor is made once the dependencies in it have values.
        """
        client = self._client
        handle: ObjectRef[Any] = ObjectRef(client.next_object_id(), client)
        handle._state, handle._data, handle._tracked = ATOM, None, True
        actor = RemoteActor(client, spec.actor_id, is_ordered=spec.is_ordered)
        number = client.next_number()
        task = PendingTask(number, _CREATION, arguments.payload, 0, None)
        client.tasks.attach(task, arguments)
        task.refs = []
        # the constructor may run again: its arguments live as long as the actor
        handle._nested = [*arguments.pins, *arguments.dependencies]
        if isinstance(arguments.payload, ObjectRef):
            handle._nested.append(arguments.payload)
        for ref in handle._nested:  # who runs the constructor again asks for them
            client.objects.exported(ref)
        with client.lock:
            client.spiller.fixed.update(ref._id for ref in handle._nested)
            self._actors[spec.actor_id] = actor
            if not spec.is_detached:
                client.objects.actor_of[handle._id] = spec.actor_id
            if not arguments.dependencies or client.tasks.wait_for_dependencies(
                task, lambda task: self._send_creation(spec, task)
            ):
                self._send_creation(spec, task)
            else:  # others may call it already, or end it
                client.node.tell(
                    messages.ANNOUNCE_ACTOR, dataclasses.replace(spec, class_blob=b"", sources={})
                )
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
        spec = dataclasses.replace(
            spec, args_blob=payload, positions=task.positions or (), dependencies=descriptions
        )
        client.node.tell(messages.CREATE_ACTOR, spec)

    # -- finding ----------------------------------------------------------------------------------

    def find(self, name: str, namespace: str | None) -> tuple[bytes, Any] | None:
        """Return (id, meta) of the living actor of that name; blocks while it is being made."""
        client = self._client
        where = namespace or client.namespace
        view = client.ask("find_actor", where, name)
        while isinstance(view, bytes):  # its maker has the name and is about to make it
            client.pump.wait(Waiter(), 0.005)
            view = client.ask("find_actor", where, name)
        return None if view is None else (view.actor_id, deserialize(view.methods))

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
        if view.state == DEAD:
            self._detached.pop(view.actor_id, None)
        actor = self._actors.get(view.actor_id)
        if actor is not None:
            actor.changed(view)

    # -- calling ----------------------------------------------------------------------------------

    def prepare(self, record: RemoteActor, plan: CallPlan) -> CallTemplate:  # noqa: ARG002 -- other engines need it
        """Return what all calls of a method, with these options and from this cell, have in common."""
        options = plan.options
        check_supported(options)
        wire = MethodTemplate(
            number=self._client.tasks.next_template_number(),
            method=plan.method,
            name=plan.name,
            num_returns=returns_number(options.returns(plan.is_generator)),
            concurrency_group=options.concurrency_group or "",
            cell=plan.cell,
            backpressure=options._generator_backpressure_num_objects or -1,
        )
        retry = options.retry_exceptions or False
        retry = tuple(retry) if isinstance(retry, list) else retry
        tally = self._client.watch.tally(plan.cell, wire.name, is_actor_call=True)
        return CallTemplate(wire, plan.retries, retry, plan.function_name, tally, is_told=plan.is_told)

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
            actor.tell_if_many()
        task = PendingTask(number, template, args, template.max_task_retries, client.context.task_number())
        task.actor = actor
        if template.sites is not None:
            task.site = template.sites.of(sys._getframe(3))
        if kwargs or not are_plain(args):
            client.tasks.attach(
                task, pack(args, kwargs, client.config.inline_limit_bytes, client.objects.put_serialized)
            )
        if task.pins:
            task.pins.append(keep)
        else:
            task.pins = keep
        result = client.tasks.make_refs(task, template.num_returns)
        if max_pending_calls > 0:
            check_outstanding(actor.outstanding(), max_pending_calls)
        shield = client.shields.current()
        shield.enter()
        try:
            with client.lock:
                client.tasks.pending[number] = task
                template.tally.submitted += 1
                actor.submit(task)
        finally:
            shield.leave()
        return result

    # -- ending -----------------------------------------------------------------------------------

    def kill(self, actor_id: bytes, *, no_restart: bool) -> None:
        """Have an actor ended; returns at once."""
        self._client.node.tell(messages.KILL_ACTOR, actor_id, no_restart, "it was killed by jray.kill()")

    def exit(self) -> NoReturn:
        """Raise what ends the actor that calls this.  Raises TypeError outside an actor."""
        worker = self._client.worker
        if worker is None or worker.actor is None:
            raise TypeError("exit_actor called on a non-actor worker.")
        raise ActorExit(0)

    def running_locked(self) -> Iterator[PendingTask]:
        """Return the calls that run, as far as is known here."""
        for actor in self._actors.values():
            if actor.inflight:
                yield from actor.running_locked()

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


_CREATION = CallTemplate(
    MethodTemplate(0, "__init__", "__init__", 0, "", 0), 0, False, "__init__", Tally(0, "__init__")
)
