"""Owns what the public API asks of actors: to make, find, call and end them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from jray._core.client.actor_errors import check_outstanding
from jray._core.client.actor_spec import actor_spec
from jray._core.client.exits import ActorExit
from jray._core.client.results import returns_number
from jray._core.engine import ActorExists, ActorPlan, CallPlan
from jray._core.inline.calls import NEEDS_ACTOR, MethodTemplate, running
from jray._core.inline.environments import environment_of
from jray._core.inline.local_actor import LocalActor
from jray._core.inline.objects import ADDRESS
from jray._core.options import MethodOptions, check_supported
from jray._core.placement import placement
from jray._core.refs import ATOM, ObjectRef
from jray.exceptions import RaySystemError

if TYPE_CHECKING:
    from jray._core.inline.core import InlineClient


class ActorMaker:
    """See `jray._core.engine.Actors`."""

    def __init__(self, client: InlineClient) -> None:
        self._client = client
        self._lives = client.lives
        #: objects that stand for an actor's lifetime
        self._kept: dict[bytes, bytes] = {}

    # -- making -------------------------------------------------------------------------------------

    def make(self, plan: ActorPlan) -> tuple[bytes, ObjectRef[Any] | None]:
        client, lives, options = self._client, self._lives, plan.options
        check_supported(options)
        with client.operation():
            actor_id = os.urandom(12) + client.job_id
            namespace = options.namespace or client.namespace
            if options.name is not None:
                with client.lock:
                    holder = lives.machine.reserve(namespace, options.name, actor_id)
                if holder != actor_id:
                    raise ActorExists(namespace)
            try:
                keeper = self._make(plan, actor_id, namespace)
            except BaseException:
                if options.name is not None:
                    with client.lock:
                        lives.machine.unreserve(namespace, options.name, actor_id)
                raise
        return actor_id, keeper

    def _make(self, plan: ActorPlan, actor_id: bytes, namespace: str) -> ObjectRef[Any] | None:
        client, lives, options, cls = self._client, self._lives, plan.options, plan.cls
        place = placement(options, client.caller(), cls.__name__, client.groups.bundles)
        full_name = f"{cls.__module__}.{cls.__qualname__}"
        code = client.code.export(plan.key, cls, "actor class", full_name, plan.cell)
        environment = environment_of(options.runtime_env, client.environment())
        arguments = client.pack(plan.args, plan.kwargs)
        parent = running.get()
        spec = actor_spec(
            plan,
            actor_id,
            code,
            namespace=namespace,
            environment=environment,
            job=client.job_id,
            owner=ADDRESS,
            placement=place,
            home=client.node_id,
        )
        actor = LocalActor(client, plan, spec, code, arguments, environment)
        with client.lock:
            lives.actors[actor_id] = actor
        keeper = client.objects.new_ref(client.object_id(client.next_number(), 1))
        keeper._state, keeper._tracked = ATOM, True
        if not options.is_detached:
            self._kept[keeper._id] = actor_id
        owner = parent.life.number if parent is not None and parent.life is not None else 0
        lives.decide(lives.machine.create, spec, owner)
        return None if options.is_detached else keeper

    # -- finding ------------------------------------------------------------------------------------

    def names(self) -> list[tuple[str, str]]:
        with self._client.lock:
            return self._lives.machine.names()

    def find(self, name: str, namespace: str | None) -> tuple[bytes, Any] | None:
        client, lives = self._client, self._lives
        with client.operation():
            where = namespace or client.namespace

            def settled() -> bool:  # another thread has the name, and is about to make its actor
                found = lives.machine.lookup(where, name)
                return found is None or found in lives.actors

            client.turns.wait(settled, None, lambda: f"the actor {name} is being made")
            found = lives.machine.lookup(where, name)
        return None if found is None else (found, lives.actors[found].meta)

    def get(self, actor_id: bytes) -> LocalActor:
        found = self._lives.actors.get(actor_id)
        if found is None:
            raise RaySystemError(f"There is no actor {actor_id.hex()} in this session.")
        return found

    # -- calling ------------------------------------------------------------------------------------

    def prepare(self, record: LocalActor, plan: CallPlan) -> MethodTemplate:
        del record
        options: MethodOptions = plan.options
        check_supported(options)
        return MethodTemplate(
            plan.method,
            options,
            name=plan.name,
            function_name=plan.function_name,
            num_returns=returns_number(options.returns(plan.is_generator)),
            max_retries=plan.retries,
            retry_exceptions=options.retry_exceptions,
            backpressure=options._generator_backpressure_num_objects,
            cell=plan.cell,
            tally=self._client.watch.tally(plan.cell, plan.name, is_actor_call=True),
            is_told=plan.is_told,
        )

    def call(
        self,
        record: LocalActor,
        template: MethodTemplate,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        max_pending_calls: int,
        keep: Any,
    ) -> Any:
        client = self._client
        with client.operation():
            call = client.new_call(template, args, kwargs, record.environment)
            call.actor, call.keep = record, keep
            if max_pending_calls > 0:
                check_outstanding(record.outstanding(), max_pending_calls)
            call.phase = NEEDS_ACTOR
            client.make_result(call)
            record.submit(call)
            return call.take_result()

    # -- ending -------------------------------------------------------------------------------------

    def kill(self, actor_id: bytes, *, no_restart: bool) -> None:
        with self._client.operation():
            self._end(actor_id, "it was killed by jray.kill()", no_restart=no_restart)

    def _end(self, actor_id: bytes, reason: str, *, no_restart: bool) -> None:
        lives = self._lives
        lives.decide(lives.machine.kill, actor_id, no_restart=no_restart, reason=reason)

    def exit(self) -> NoReturn:
        call = running.get()
        if call is None or call.life is None:
            raise TypeError("exit_actor called on a non-actor worker.")
        raise ActorExit(0)

    def is_kept_by(self, ref_id: bytes) -> bool:
        return ref_id in self._kept

    def keeper_dropped(self, ref_id: bytes) -> None:
        """The object that stands for an actor's lifetime is gone, if it was one."""
        actor_id = self._kept.pop(ref_id, None)
        if actor_id is not None:
            self._lives.decide(self._lives.machine.released, actor_id)

    def close(self) -> None:
        """End all actors, detached ones too."""
        self._kept.clear()
        for record in self._lives.records():
            self._end(record.spec.actor_id, "its job ended", no_restart=True)
