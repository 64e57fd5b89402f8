"""Owns the client of the inline engine: its identity, its parts, and what the public API and refs ask of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, NoReturn

from jray._core.client.arguments import PackedArguments, are_plain, pack
from jray._core.client.readiness import split, split_all
from jray._core.client.results import STREAMING
from jray._core.config import Config
from jray._core.detect import VISIBLE_GPUS, gpus_as_seen, sets_visible_gpus
from jray._core.engine import Whereabouts
from jray._core.environments import Environment, as_dict
from jray._core.frontend import Output, OutputKind, get_frontend
from jray._core.ids import TaskIdSource, object_id
from jray._core.inline.actors import ActorMaker
from jray._core.inline.calls import (
    IS_DONE,
    IS_PAUSED,
    NEEDS_ACTOR,
    NEEDS_ARGUMENTS,
    NEEDS_RESOURCES,
    RUNS,
    Call,
    Stack,
    TaskTemplate,
    Template,
    running,
)
from jray._core.inline.cluster import InlineCluster
from jray._core.inline.code import Code
from jray._core.inline.driving import Companion, Ticker, running_loop
from jray._core.inline.failures import Death, Failure
from jray._core.inline.groups import InlineGroups
from jray._core.inline.lives import Life, Lives
from jray._core.inline.looks import facts_of
from jray._core.inline.objects import ADDRESS, Objects
from jray._core.inline.runner import Runner
from jray._core.inline.streams import Stream
from jray._core.inline.surroundings import Surroundings
from jray._core.inline.tasks import TaskMaker
from jray._core.inline.turns import Turns
from jray._core.inline.watch import InlineWatch
from jray._core.peek import Peek, peek
from jray._core.refs import ERROR, INLINE, PENDING, UNSEEN, ObjectRef, RefFacts
from jray._core.resources import NodeResources
from jray._core.serialization import pickled_size
from jray._core.strategies import NOBODY, Caller
from jray.exceptions import GetTimeoutError, ObjectLostError, RaySystemError, TaskCancelledError

_ENDED = "the session was shut down with jray.shutdown()"


class InlineClient:
    """This process as a whole cluster: see `jray._core.engine.Engine`."""

    engine_name = "inline"
    number = 1  #: asked of every client, to see whether it is a forked child's stand-in

    def __init__(
        self,
        *,
        config: Config,
        resources: NodeResources,
        store_bytes: int,
        job_id: bytes,
        namespace: str,
        runtime_env: Environment,
        labels: Mapping[str, str],
        node_name: str | None,
        metadata: Mapping[str, str],
        default_actor_lifetime: str,
    ) -> None:
        self.config = config
        self.job_id = job_id
        self.node_id = os.urandom(28)
        #: of the tasks; an actor has one of its own
        self.worker_id = os.urandom(28)
        self.namespace = namespace
        #: what all tasks and actors have
        self.runtime_env = runtime_env
        self.default_actor_lifetime = default_actor_lifetime
        self._visible_gpus = os.environ.get(VISIBLE_GPUS)
        self.shows_output = True
        self.is_closing = False
        self.pid = os.getpid()
        #: where a session would have its files; nothing makes it
        self.session_dir = f"{tempfile.gettempdir()}/jray-inline-{self.pid}"
        self.lock = threading.Lock()
        #: something has come to be that another thread may wait for
        self.changed = threading.Condition(self.lock)
        self.stack = Stack()
        #: calls without a result, oldest first
        self.pending: dict[int, Call] = {}
        #: thread that drives event loops for those who wait where the engine can't see them
        self.companion: Companion | None = None
        self._tickers: weakref.WeakKeyDictionary[Any, Ticker] = weakref.WeakKeyDictionary()
        self._numbers = itertools.count(1)
        self._ids = TaskIdSource(job_id)
        self._is_tidying = False
        self.objects = Objects(self, store_bytes)
        self.objects.on_dropped = self._on_dropped
        self.code = Code(config)
        self.surroundings = Surroundings()
        self.runner = Runner(self)
        self.turns = Turns(self, resources, {**labels, "ray.io/node-id": self.node_id.hex()})
        self.watch = InlineWatch(self)
        self.tasks = TaskMaker(self)
        self.lives = Lives(self)
        self.actors = ActorMaker(self)
        self.groups = InlineGroups(self, self.lives.is_gone)
        self.cluster = InlineCluster(self, labels=labels, node_name=node_name, metadata=metadata)

    # -- identity ---------------------------------------------------------------------------------

    def next_number(self) -> int:
        return next(self._numbers)

    def object_id(self, number: int, index: int) -> bytes:
        return object_id(self._ids.task_id(number), index)

    @property
    def is_in_group(self) -> bool:
        """Whether the code that asks may be in a placement group: it is no driver's."""
        return running.get() is not None

    def caller(self) -> Caller:
        """Return in which placement group the calling code runs."""
        call = running.get()
        if call is None:
            return NOBODY
        if call.actor is not None:
            return Caller(call.actor.spec.where.group, call.actor.spec.captures)
        assert isinstance(call.template, TaskTemplate)
        return Caller(call.template.where.group, call.template.captures)

    def environment(self) -> Environment:
        """Return the runtime environment of the code that asks: what it submits inherits that."""
        call = running.get()
        return self.runtime_env if call is None else call.environment

    def variables(self, environment: Environment, gpu_ids: Sequence[str]) -> dict[str, str]:
        """Return the environment variables of code with that environment and those GPUs."""
        variables = dict(dict(environment).get("env_vars", ()))
        seen = self.gpus_as_seen(environment, gpu_ids) if gpu_ids else []
        if seen and sets_visible_gpus({**os.environ, **variables}):
            variables[VISIBLE_GPUS] = ",".join(map(str, seen))
        return variables

    def gpus_as_seen(self, environment: Environment, gpu_ids: Sequence[str]) -> list[int] | list[str]:
        """Return those GPUs as code with that environment sees them."""
        own_list = dict(dict(environment).get("env_vars", ())).get(VISIBLE_GPUS, self._visible_gpus)
        return gpus_as_seen(gpu_ids, nodes_list=self._visible_gpus, own_list=own_list)

    def whereabouts(self) -> Whereabouts:
        call = running.get()
        life = None if call is None else call.life
        actor = None if life is None else life.actor
        where: dict[str, Any] = {
            "job_id": self.job_id,
            "node_id": self.node_id,
            "namespace": self.namespace,
            "session_dir": self.session_dir,
            "address": ADDRESS,
            "runtime_env": as_dict(self.environment()),
        }
        if call is None:
            return Whereabouts(worker_id=None, resources={}, gpu_ids=(), **where)
        caller = self.caller()
        holder = call if life is None else life
        allocation = holder.allocation
        return Whereabouts(
            worker_id=self.worker_id if life is None else life.worker_id,
            resources={} if allocation is None else allocation.request.to_floats(),
            gpu_ids=()
            if allocation is None
            else tuple(self.gpus_as_seen(self.environment(), allocation.gpu_ids)),
            task_id=call.task_id,
            task_name=call.name,
            function_name=call.template.function_name or None,
            is_cancelled=call.is_cancelled,
            actor_id=None if actor is None else actor.actor_id,
            actor_name=None if actor is None else actor.spec.name,
            actor_meta=None if actor is None else actor.meta,
            restarts=0 if life is None else life.restarts,
            group_id=caller.group or None,
            captures=caller.captures,
            **where,
        )

    # -- operations -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def operation(self) -> Iterator[None]:
        """Do something for the user's code: the task that asks waits meanwhile, and what becomes possible is done."""
        if self.is_closing:
            raise RaySystemError(_ENDED)
        if self.objects.dropped:
            self.tidy()
        self.turns.helps()
        with self.turns.aside():
            yield
            self.turns.settle()

    def new_call(
        self,
        template: Template,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        environment: Environment,
    ) -> Call:
        """Return the record of a call, its arguments copied.  Raises TypeError for what cannot be pickled."""
        number = self.next_number()
        call = Call(number, self._ids.task_id(number), template, running.get(), environment)
        if not kwargs and are_plain(args):
            call.payload = args
            return call
        packed = self.pack(args, kwargs)
        call.payload, call.positions = packed.payload, packed.positions
        call.dependencies, call.pins = packed.dependencies, packed.pins
        return call

    def pack(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> PackedArguments:
        """Return a copy of a call's arguments.  Raises TypeError for what cannot be pickled."""
        return pack(args, kwargs, self.config.inline_limit_bytes, self._store)

    def _store(self, serialized: Any) -> ObjectRef[Any]:
        ref = self.objects.new_ref(self.object_id(self.next_number(), 1))
        self.objects.resolve(ref, (INLINE, self.objects.store(serialized), None))
        return ref

    def own(self, ref: ObjectRef[Any], owner: Life | None) -> ObjectRef[Any]:
        """Note who owns an object: what an actor owns dies with it."""
        if owner is not None:
            owner.owned.add(ref)
        return ref

    def make_result(self, call: Call) -> None:
        """Make the refs of a call, and what its caller gets of them; from now on it is pending."""
        count = call.template.num_returns
        if count == STREAMING:
            stream = Stream(self, call)
            call.stream = weakref.ref(stream)
            call.result = stream.generator()
        else:
            call.refs = [
                self.own(self.objects.new_ref(self.object_id(call.number, index + 1), call), call.owner)
                for index in range(count if count >= 0 else 1)
            ]
            call.result = None if not count else call.refs[0] if count in {1, -2} else list(call.refs)
        with self.lock:
            self.pending[call.number] = call
            if call.template.tally is not None:
                call.template.tally.submitted += 1

    def when_arguments(self, call: Call, ready: Callable[[Call], None]) -> None:
        """Call `ready(call)` when each argument has a value or an error: now, or when somebody has time then."""
        waiting = {id(ref): ref for ref in call.dependencies if ref._state == PENDING}
        call.unready = len(waiting)
        if not waiting:
            ready(call)
            return
        call.phase = NEEDS_ARGUMENTS

        def one_ready(_: ObjectRef[Any]) -> None:
            with self.lock:
                call.unready -= 1
                is_ready = not call.unready
            if is_ready:
                self.turns.due.append(lambda: ready(call))

        for ref in waiting.values():
            self.objects.when_ready(ref, one_ready)

    @staticmethod
    def failed_argument(call: Call) -> ObjectRef[Any] | None:
        return next((ref for ref in call.dependencies if ref._state == ERROR), None)

    def ended(self, call: Call, error: Any) -> None:
        """A call is over."""
        with self.lock:
            if self.pending.pop(call.number, None) is not None:
                _count(call, error)
            self.changed.notify_all()
        self.cluster.ended(call, error)

    def put(self, value: Any) -> ObjectRef[Any]:
        if self.is_closing:
            raise RaySystemError(_ENDED)
        if self.objects.dropped:
            self.tidy()
        call = running.get()
        ref = self.objects.put(self.object_id(self.next_number(), 1), value)
        return self.own(ref, None if call is None else call.life)

    def free(self, refs: Sequence[ObjectRef[Any]]) -> None:
        self.objects.free(refs)

    def get(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None) -> list[Any]:
        values = []
        deadline = None if timeout_s is None else monotonic() + timeout_s
        with self.operation():
            for ref in refs:
                if ref._client is not self:
                    self._refuse(ref)
                if ref._state == PENDING:
                    self._wait_value(ref, refs, deadline)
                values.append(self.objects.value(ref))
        return values

    @staticmethod
    def _refuse(ref: ObjectRef[Any]) -> NoReturn:
        if ref._client is None:
            raise ObjectLostError(ref._id.hex())
        raise RaySystemError(
            f"{ref!r} belongs to a session that has ended; objects and actors do not outlive jray.shutdown()."
        )

    def _wait_value(
        self, ref: ObjectRef[Any], refs: Sequence[ObjectRef[Any]], deadline: float | None
    ) -> None:
        """Wait until *ref* has a value or an error; raises the error of any of *refs* before."""
        self._say_blocking()
        objects, seen = self.objects, -1
        failed: ObjectRef[Any] | None = None

        def is_over() -> bool:
            nonlocal seen, failed
            if ref._state == PENDING and seen != objects.failures:
                seen = objects.failures
                failed = next((ref for ref in refs if ref._client is self and ref._state == ERROR), None)
            return ref._state != PENDING or failed is not None

        left = None if deadline is None else max(0.0, deadline - monotonic())
        if not self.turns.wait(is_over, left, lambda: self.explain([ref])):
            raise GetTimeoutError(
                f"Get timed out: {ref!r} had no value in time. The task goes on; get it again later."
            )
        if failed is not None:
            raise objects.error(failed)

    def _say_blocking(self) -> None:
        """Say once of each async actor that a blocking call in it is better done otherwise."""
        call = running.get()
        if self.turns.is_in_coroutine() and call is not None and call.actor is not None:
            call.actor.say_blocking()

    def wait(
        self,
        refs: list[Any],
        num_returns: int,
        timeout_s: float | None,
        *,
        fetch_local: bool = True,  # noqa: ARG002 -- on one node everything is local
    ) -> tuple[list[Any], list[Any]]:
        if timeout_s != 0 and split(refs, num_returns) is None:
            self._say_blocking()
        with self.operation():
            self.turns.wait(
                lambda: split(refs, num_returns) is not None, timeout_s, lambda: self.explain(refs)
            )
        return split(refs, num_returns) or split_all(refs, num_returns)

    def wait_until(self, is_done: Callable[[], Any], timeout_s: float | None, call: Call) -> bool:
        """Run what can run until `is_done()`, which *call* is to bring about; return whether it is so in time."""
        with self.operation():
            return self.turns.wait(is_done, timeout_s, lambda: self._cannot(call))

    # -- what can't come to pass ----------------------------------------------------------------------

    def explain(self, refs: Sequence[Any]) -> str:
        """Return why the first of *refs* that isn't ready can't become so."""
        for ref in refs:
            if isinstance(ref, ObjectRef):
                if ref._state == PENDING and isinstance(ref._data, Call):
                    return self._cannot(ref._data)
            elif not ref._stream.has_next():
                return self._cannot(ref._stream.call)
        return "Nothing can make these objects ready any more."

    def _cannot(self, call: Call) -> str:
        return (
            f'{call.name}() can\'t be waited for: {self._why(call)}.  With engine="inline" all code runs in this '
            "process, in the thread that submits or waits, and nothing is left that could run meanwhile.  Do first what "
            "it needs, give get() or wait() a timeout, or use jray's own engine."
        )

    def _why(self, call: Call) -> str:
        if call.phase is NEEDS_ARGUMENTS:
            ref = next((ref for ref in call.dependencies if ref._state == PENDING), None)
            if ref is None or not isinstance(ref._data, Call):
                return "an argument of it never comes"
            return f"its argument is the result of {ref._data.name}(), and {self._why(ref._data)}"
        if call.phase is NEEDS_RESOURCES:
            job = self.turns.job_of(call)
            if job is not None and self.turns.is_hopeless(job):
                return "it needs more of a resource than there is"
            if job is not None and job.where.group and not self.turns.accounts.allowed(job.where):
                return f"its placement group is not placed: {self.groups.group_reason(job.where.group)}"
            return "it needs resources that are held, by an actor or by code that waits for this"
        if call.phase is NEEDS_ACTOR and call.actor is not None:
            return call.actor.why_not(call)
        if call.phase is IS_PAUSED:
            return "its generator goes on only when an item of it is taken"
        if call.phase is RUNS and call.handle is not None:
            return "it awaits something that nothing which runs now will bring about"
        return "it is itself in the middle of this call"

    # -- cancelling -------------------------------------------------------------------------------

    def cancel(self, target: Any, *, force: bool, recursive: bool) -> None:
        with self.operation():
            if isinstance(target, ObjectRef):
                if target._client is not self:
                    self._refuse(target)
                call = target._data if target._state == PENDING else None
            else:
                call = None if target._stream.is_complete else target._stream.call
            if not isinstance(call, Call) or call.is_done:
                return
            if call.actor is not None and force:
                raise ValueError(
                    "force=True is not supported for actor tasks: end the actor with jray.kill()."
                )
            self.cancel_call(call, recursive=recursive)

    def cancel_call(self, call: Call, *, recursive: bool) -> None:
        """Have a call end as cancelled: at once if it waits, else as far as whoever runs it lets it."""
        call.is_cancelled = True
        if recursive:
            for child in [child for child in list(self.pending.values()) if child.parent is call]:
                self.cancel_call(child, recursive=True)
        if call.phase is RUNS:
            if call.handle is not None and call.life is not None:
                call.life.call_soon(call.handle.cancel)
            return  # whoever runs it is told by is_canceled(), and can't be stopped
        error = TaskCancelledError(call.task_id.hex())
        if call.phase is IS_PAUSED:
            self.runner.abandon(call, error)
            return
        self.withdraw(call)
        self.runner.fail(call, error)

    def withdraw(self, call: Call) -> None:
        """Have a call that waits wait no more."""
        job = self.turns.job_of(call)
        if job is not None:
            self.turns.withdraw(job)
        if call.actor is not None:
            call.actor.withdraw(call)

    def failed_calls(self) -> NoReturn:
        """Not kept: the frames of what failed are in this process."""
        raise NotImplementedError(
            "With the inline engine tasks run in this very process: use %debug, or pdb.pm(), after the error."
        )

    # -- what refs ask (jray._core.refs.RefHome) --------------------------------------------------------

    def ref_dropped(self, ref_id: bytes, owner: str | None, state: int, data: Any, nested: Any) -> None:  # noqa: ARG002
        if nested is UNSEEN or self.actors.is_kept_by(ref_id):
            self.objects.ref_dropped(ref_id, data, nested)

    def ref_exported(self, ref: ObjectRef[Any]) -> None:
        self.objects.exported(ref)

    def ref_from_id(self, ref_id: bytes, owner: str | None) -> ObjectRef[Any]:  # noqa: ARG002
        return self.objects.ref_from_id(ref_id)

    def ref_address(self, ref: ObjectRef[Any]) -> str:  # noqa: ARG002
        return ADDRESS

    def reduce_ref(self, ref: ObjectRef[Any]) -> tuple[Any, ...]:
        return self.objects.reduce(ref)

    def ref_value(self, ref: ObjectRef[Any]) -> Any:
        return self.objects.value(ref)

    def ref_status(self, ref: ObjectRef[Any]) -> str:
        call = ref._data
        return self.cluster.state_of(call) if isinstance(call, Call) else "NIL"

    def ref_facts(self, ref: ObjectRef[Any], *, is_brief: bool = False) -> RefFacts:
        return facts_of(self, ref, is_brief=is_brief)

    def ref_peek(self, ref: ObjectRef[Any]) -> Peek:
        return peek(self, ref, pickled_size(ref._data) if ref._state == INLINE else 0)

    def when_ready(self, ref: ObjectRef[Any], callback: Callable[[ObjectRef[Any]], None]) -> None:
        """Call `callback(ref)` once *ref* has a value or an error: now, or from a thread that brings it about."""
        if not self.objects.when_ready(ref, callback):
            self.drive_until(lambda: ref._state != PENDING)

    def drive_until(self, is_done: Callable[[], bool]) -> None:
        """Have loops driven until `is_done()`, though nobody waits for that in the engine.

        Where an event loop of the user's runs in this thread, that does it; else a thread.
        """
        loop = running_loop()
        if loop is not None:
            if loop not in self._tickers:
                self._tickers[loop] = Ticker(self, loop)
            self._tickers[loop].watch(is_done)
            return
        companion = self.companion
        if not self.turns.is_in_coroutine() and not (companion is not None and companion.watch(is_done)):
            self.companion = Companion(self, is_done)

    # -- finalizers -------------------------------------------------------------------------------

    def _on_dropped(self) -> None:
        # This is a finalizer: it may run anywhere, with the lock taken by this very thread.
        if not self._is_tidying and self.lock.acquire(blocking=False):
            self.lock.release()
            self.tidy()

    def tidy(self) -> None:
        """Do what finalizers left to be done."""
        if self._is_tidying:
            return
        self._is_tidying = True
        try:
            while self.objects.dropped:
                ref_id, nested, data = self.objects.dropped.popleft()
                if nested is UNSEEN:
                    self._tell_unhandled(data)
                self.actors.keeper_dropped(ref_id)
        finally:
            self._is_tidying = False

    def _tell_unhandled(self, failure: Failure) -> None:
        """Say that a task failed and nobody will ever get its error."""
        if failure.is_told or not self.config.shows_unhandled_errors or self.is_closing:
            return
        failure.is_told = True  # all returns of a task share it
        text = f"Unhandled error (suppress with RAY_IGNORE_UNHANDLED_ERRORS=1): {failure.load()}"
        self.tell(Output(0, OutputKind.NOTICE, text, None, "jray", 0, ""))

    def tell(self, output: Output) -> None:
        get_frontend().write(output)

    def refuse_to_wait(self, text: str) -> NoReturn:
        raise RaySystemError(text)

    # -- the end ----------------------------------------------------------------------------------

    def forked(self, null: int) -> None:
        for loop in self.turns.loops:
            for fd in loop.descriptors():
                os.dup2(null, fd, inheritable=False)
        self.turns.loops.clear()

    def end_fork(self) -> None:
        """End this process if it is a child that a task forked and that came back: it is no second driver."""
        if os.getpid() == self.pid:
            return
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(0)

    def close(self) -> None:
        """End all actors, fail what is pending."""
        self.is_closing = True
        try:
            self.actors.close()
            for call in list(self.pending.values()):
                if call.phase is IS_PAUSED:
                    self.runner.abandon(call, RaySystemError(_ENDED))
                elif call.phase is not IS_DONE:
                    self.runner.fail(call, RaySystemError(_ENDED))
        except Exception:  # noqa: BLE001 -- code of the user's that ends badly must not keep the session open
            traceback.print_exc(file=sys.stderr)
        if self.companion is not None:
            self.companion.end()
        self.objects.forget()


def _count(call: Call, error: Any) -> None:
    """Count the end of a call; the lock is held."""
    tally = call.template.tally
    call.has_failed = error is not None
    if tally is None:
        return
    if error is None:
        tally.finished += 1
        return
    tally.failed += 1
    if isinstance(error, TaskCancelledError):
        tally.cancelled += 1
    else:
        # without its frames, which would keep what they refer to
        tally.last_error = (
            error.blob if isinstance(error, Failure) else error.load() if isinstance(error, Death) else error
        )
