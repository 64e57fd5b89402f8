"""Owns what becomes of an actor's calls whose code raised, or that were under way when the actor's life ended."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from jray._core.client.actor_errors import unavailable
from jray._core.client.exits import ActorExit
from jray._core.inline import failures
from jray._core.inline.calls import Call
from jray._core.inline.failures import Failure
from jray._core.machine import actors as machine
from jray._core.worker.actor_host import own_repr
from jray._core.worker.tracebacks import users_traceback
from jray.exceptions import ActorDiedError, TaskCancelledError

if TYPE_CHECKING:
    from jray._core.inline.lives import Life
    from jray._core.inline.local_actor import LocalActor


def failed(actor: LocalActor, call: Call, error: BaseException) -> bool:
    """The code of a call, or the constructor, raised; return False if it is to run again at once."""
    lives, runner, life = actor.client.lives, actor.client.runner, call.life
    assert life is not None
    if failures.is_crash(error):
        assert isinstance(error, SystemExit)
        lives.end(life, failures.exit_cause(error))
    elif call is life.creation:
        if isinstance(error, ActorExit):
            lives.exiting(life, "exit_actor() was called")
            lives.end(life, failures.quiet_end("exit_actor() was called"))
        else:
            actor.init_failure = Failure.of(call.name, error, actor_id=actor.actor_id.hex())
            if not failures.passes_on(error):
                # nobody need ever call the actor, and an actor must not die without a word
                sys.stderr.write(f"{call.name}() raised, and the actor is dead:\n{users_traceback(error)}")
            lives.init_failed(actor, actor.init_failure.blob)
    elif isinstance(error, ActorExit):
        lives.exiting(life, "exit_actor() was called")
        runner.fail(call, _left_error(actor))
        _drop_waiting(actor, life)
    elif call.is_cancelled and isinstance(error, asyncio.CancelledError | TaskCancelledError):
        runner.fail(call, TaskCancelledError(call.task_id.hex()))
    else:
        outcome = Failure.of(
            call.name,
            error,
            actor_repr=own_repr(life.instance) or actor.spec.class_name,
            actor_id=actor.actor_id.hex(),
        )
        outcome.is_told = failures.passes_on(error)
        wanted = call.template.retries_after(error) and not failures.passes_on(error)
        if wanted and call.take_retry():
            actor.requeue(call, at_end=True)
        else:
            runner.fail(call, outcome)
    return True


def _drop_waiting(actor: LocalActor, life: Life) -> None:
    """The actor leaves: coroutines that have not begun never do."""
    for call in [call for call in life.calls if call.handle is not None and not call.started_s]:
        handle = call.handle
        assert handle is not None
        actor.client.runner.fail(call, _left_error(actor))
        life.call_soon(handle.cancel)


def settle_lost(actor: LocalActor, calls: Iterable[Call], view: machine.ActorView) -> None:
    """Decide about calls that were under way when a life ended: they may have run."""
    runner = actor.client.runner
    for call in reversed(list(calls)):
        if call.is_done:
            continue
        if call.is_cancelled:
            runner.fail(call, TaskCancelledError(call.task_id.hex()))
        elif view.state == machine.DEAD:
            runner.fail(call, actor.death())
        elif call.take_retry():
            actor.requeue(call, at_end=False)
            continue
        else:
            runner.fail(call, unavailable(view))
        call.attempt += 1  # what still runs of it is heard no more


def _left_error(actor: LocalActor) -> ActorDiedError:
    spec = actor.spec
    return ActorDiedError(
        actor_id=actor.actor_id.hex(),
        error_msg=f"The actor {spec.class_name} is dead: exit_actor() was called.",
        class_name=spec.class_name,
        name=spec.name,
        namespace=spec.namespace,
        pid=os.getpid(),
    )
