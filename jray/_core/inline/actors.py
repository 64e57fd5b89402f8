"""Owns the actors of the session: their making, their calls, their ends and their names."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import signal
import sys
import traceback
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from jray._core.client.arguments import PackedArguments
from jray._core.client.exits import ActorExit
from jray._core.client.remote_actor import RemoteActor
from jray._core.client.results import STREAMING, returns_number
from jray._core.engine import ActorExists, ActorPlan, CallPlan
from jray._core.environments import Environment, normalize
from jray._core.inline import failures
from jray._core.inline.calls import NEEDS_ACTOR, RUNS, Call, MethodTemplate, Template, running
from jray._core.inline.code import load_class
from jray._core.inline.failures import Death, Failure
from jray._core.inline.loops import ActorLoop
from jray._core.inline.objects import ADDRESS, Entry
from jray._core.machine import actors as machine
from jray._core.options import MethodOptions, check_supported
from jray._core.placement import placement
from jray._core.refs import ATOM, ObjectRef
from jray._core.resources import Allocation, ResourceSet
from jray._core.specs import ActorSpec, ExitCause
from jray._core.worker.actor_host import SPECIAL_METHODS, own_repr
from jray._core.worker.tracebacks import users_traceback
from jray.exceptions import (
    ActorDiedError,
    OwnerDiedError,
    PendingCallsLimitExceeded,
    RaySystemError,
    TaskCancelledError,
)

if TYPE_CHECKING:
    from jray._core.client.functions import ExportedCode
    from jray._core.inline.core import InlineClient

_DEFAULT_GROUP = "_default"
_UNMADE = object()


class Life:
    """One instance of an actor: what would be its process."""

    def __init__(self, actor: Actor, number: int, allocation: Allocation, restarts: int) -> None:
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
    def is_ready(self) -> bool:
        return self.instance is not _UNMADE and not self.is_exiting

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


class Actor:
    """One actor, and its calls that wait.  It is the record that handles share, and a job while it is not made."""

    def __init__(
        self,
        client: InlineClient,
        plan: ActorPlan,
        spec: ActorSpec,
        code: ExportedCode,
        arguments: PackedArguments,
        environment: Environment,
    ) -> None:
        self.client = client
        self.actor_id = spec.actor_id
        self.spec = spec
        self.meta = plan.meta
        self.environment = environment
        self.name = spec.class_name
        self.cell = spec.cell
        self.placement: ResourceSet = plan.options.placement_request
        self.request: ResourceSet = plan.options.running_request
        self.where = spec.where
        self.template_numbers: dict[Any, MethodTemplate] = {}
        self._class = plan.cls
        self._code = code
        #: of the constructor; None once there will be no other life
        self.arguments: PackedArguments | None = arguments
        self._groups = {_DEFAULT_GROUP: spec.max_concurrency, **dict(spec.concurrency_groups)}
        self._method_groups = dict(spec.method_groups)
        self._is_ordered = not (spec.is_async or spec.max_concurrency > 1 or spec.concurrency_groups)
        #: calls that wait, in the order they were made
        self.queue: deque[Call] = deque()
        self.life: Life | None = None
        self._was_told_of_blocking = False
        #: what the constructor raised
        self.init_failure: Failure | None = None

    def limit(self, group: str) -> int:
        """Return how many calls of a group may run at once.  Raises ValueError for a group that there isn't."""
        found = self._groups.get(group)
        if found is None:
            known = (
                ", ".join(name for name in map(repr, self._groups) if name != repr(_DEFAULT_GROUP)) or "none"
            )
            raise ValueError(
                f"The actor {self.spec.class_name} has no concurrency group {group!r}; it has {known}."
            )
        return found

    def _group_of(self, call: Call) -> str:
        assert isinstance(call.template, MethodTemplate)
        return call.template.concurrency_group or self._method_groups.get(
            call.template.method, _DEFAULT_GROUP
        )

    # -- a life begins ------------------------------------------------------------------------------

    def place(self) -> None:
        """Make an instance, once the constructor's arguments and the resources are there."""
        assert self.arguments is not None
        call = self._creation()
        self.client.when_arguments(call, self._placed)

    def _creation(self) -> Call:
        """Return a new run of the constructor."""
        client, arguments = self.client, self.arguments
        assert arguments is not None
        template = Template(
            name=f"{self.spec.class_name}.__init__",
            function_name="",
            num_returns=0,
            max_retries=0,
            retry_exceptions=False,
            backpressure=None,
            cell=self.spec.cell,
            tally=None,
        )
        call = client.new_call(template, (), {}, self.environment)
        call.payload, call.positions = arguments.payload, arguments.positions
        call.dependencies, call.pins = list(arguments.dependencies), arguments.pins
        call.actor = self
        return call

    def _placed(self, call: Call) -> None:
        failed = self.client.failed_argument(call)
        if failed is None:
            if self.arguments is not None:
                self.client.turns.submit(self)
            return
        failed._nested = None  # it is passed on, and so not unseen
        data = failed._data
        if isinstance(data, Failure):
            self.init_failure = data
            blob = data.blob
        else:
            error = data.load() if isinstance(data, Death) else data
            blob = Failure.pickled(error)
        self.client.actors.init_failed(self, blob)

    def refuse(self, reason: str) -> None:
        """What it must run on is gone, or never was."""
        self.client.actors.refused(self, reason)

    def start(self, allocation: Allocation) -> None:
        """Run the constructor, in this thread."""
        makers = self.client.actors
        life = makers.begin(self, allocation)
        if life is None:
            return
        call = life.creation = self._creation()
        call.life = life
        self.client.runner.run(call, lambda: functools.partial(self._construct, life), lambda: None)
        if life.instance is not _UNMADE and self.life is life:
            makers.made(self, life)

    def _construct(self, life: Life, *args: Any, **kwargs: Any) -> None:
        cls = load_class(self._code.blob, self._class)
        if not self.spec.is_async:
            life.instance = cls(*args, **kwargs)
            return
        loop = ActorLoop(self.client, life)
        self.client.turns.loops.append(loop)
        life.loop = loop
        with loop.current():
            instance = cls(*args, **kwargs)
        life.instance = instance

    # -- calls --------------------------------------------------------------------------------------

    def outstanding(self) -> int:
        return len(self.queue) + (len(self.life.calls) if self.life is not None else 0)

    def submit(self, call: Call) -> None:
        """Take a call; it runs now if it may."""
        if self.client.actors.is_dead(self):
            self.client.runner.fail(call, self.death())
            return
        with self.client.lock:
            self.queue.append(call)
        self.client.when_arguments(call, self._arguments_came)
        if self.client.turns.is_in_coroutine() and not self.spec.is_async:
            self.client.turns.due.append(self.advance)
        else:
            self.advance()

    def _arguments_came(self, call: Call) -> None:
        call.phase = NEEDS_ACTOR
        self.client.turns.due.append(self.advance)

    def withdraw(self, call: Call) -> None:
        with self.client.lock:
            if call in self.queue:
                self.queue.remove(call)

    def advance(self) -> None:
        """Run the calls that may run, oldest first."""
        while True:
            with self.client.lock:
                found = self._next_call()
            if found is None:
                return
            call, life, group = found
            failed = self.client.failed_argument(call)
            if failed is not None:
                self.client.runner.fail_by_argument(call, failed)
                self.left(call, life, group)
            elif life.loop is not None:
                self._start_coroutine(call, life, group)
            else:
                self.client.runner.run(
                    call,
                    functools.partial(self._method, call, life),
                    functools.partial(self.left, call, life, group),
                )

    def _next_call(self) -> tuple[Call, Life, str] | None:
        life = self.life
        if life is None or not life.is_ready:
            return None
        held_back = set()
        for index, call in enumerate(self.queue):
            if call.unready:
                held_back.add(call.parent)
            elif not (self._is_ordered and call.parent in held_back):
                group = self._group_of(call)
                if group in self._groups and not life.has_room(group):
                    continue
                del self.queue[index]
                call.life = life
                life.enter(call, group)
                return call, life, group
        return None

    def _method(self, call: Call, life: Life) -> Callable[..., Any]:
        """Return what a call runs; looked up each time, as an actor may change its own."""
        assert isinstance(call.template, MethodTemplate)
        self.limit(self._group_of(call))
        special = SPECIAL_METHODS.get(call.template.method)
        if special is not None:
            return functools.partial(special, life)
        found: Callable[..., Any] = getattr(life.instance, call.template.method)
        return found

    def left(self, call: Call, life: Life, group: str) -> None:
        """A call is over: another may take its place, or the actor end."""
        with self.client.lock:
            life.leave(call, group)
        if life.is_exiting and not life.calls:
            self.client.actors.end(life, _exited("it left"), is_graceful=True)
        elif self.queue:
            self.client.turns.due.append(self.advance)

    # -- coroutines ---------------------------------------------------------------------------------

    def _start_coroutine(self, call: Call, life: Life, group: str) -> None:
        call.phase = RUNS

        def start() -> None:
            assert life.loop is not None
            call.handle = life.loop.create_task(self._coroutine(call, life, group))

        life.call_soon(start)

    async def _coroutine(self, call: Call, life: Life, group: str) -> None:
        attempt, runner = call.attempt, self.client.runner
        running.set(call)
        passing: BaseException | None = None
        try:
            async with life.semaphore(group):
                entries = await self._run_coroutine(call, life)
        except BaseException as error:  # noqa: BLE001 -- whatever the user's code raises is its result
            self.client.end_fork()
            if failures.passes_on(error):
                passing = error
            if call.attempt == attempt:
                runner.failed(call, error)
        else:
            self.client.end_fork()
            if call.attempt == attempt:
                runner.succeeded(call, entries)
        self.left(call, life, group)
        if passing is not None:
            assert life.loop is not None
            life.loop.passing = passing  # asyncio would keep it as the outcome of its task
            life.loop.stop()

    async def _run_coroutine(self, call: Call, life: Life) -> Iterable[Entry]:
        runner = self.client.runner
        call.started_s = monotonic()
        args, kwargs = runner.arguments(call)
        value = self._method(call, life)(*args, **kwargs)
        del args, kwargs
        if inspect.isasyncgen(value):
            if call.template.num_returns != STREAMING:
                raise ValueError(
                    f"{call.name}() is an async generator, which makes a stream of items: leave out num_returns."
                )
            await self._stream(call, value)
            return []
        if inspect.isawaitable(value):
            value = await value
        if call.template.num_returns == STREAMING:
            await self._stream(call, _as_async(value))
            return []
        return runner.entries(call, value)

    async def _stream(self, call: Call, values: Any) -> None:
        stream = call.get_stream()
        if stream is not None:
            stream.restarted()
        del stream  # the consumer alone keeps it
        async for value in values:
            entry = self.client.objects.entry(value)
            ready = self._item_made(call, entry)
            if ready is not None:
                await ready
            if call.is_cancelled:
                raise TaskCancelledError(call.task_id.hex())

    def _item_made(self, call: Call, entry: Entry) -> asyncio.Future[None] | None:
        """Hand on an item; return what to wait for before the next is made."""
        stream = call.get_stream()
        if stream is None:
            return None
        stream.arrived(entry)
        if not stream.is_ahead():
            return None
        loop, life = asyncio.get_running_loop(), call.life
        ready: asyncio.Future[None] = loop.create_future()
        consumer = weakref.ref(stream)

        def settle() -> None:
            if not ready.done():
                ready.set_result(None)

        def taken() -> None:
            current = consumer()
            if life is not None and (current is None or not current.is_ahead()):
                life.call_soon(settle)

        stream.on_taken = taken
        return ready

    # -- ends ---------------------------------------------------------------------------------------

    def failed(self, call: Call, error: BaseException) -> bool:
        """The code of a call, or the constructor, raised; return False if it is to run again at once."""
        makers, runner, life = self.client.actors, self.client.runner, call.life
        assert life is not None
        if failures.is_crash(error):
            assert isinstance(error, SystemExit)
            makers.end(life, failures.exit_cause(error))
        elif call is life.creation:
            if isinstance(error, ActorExit):
                makers.exiting(life, "exit_actor() was called")
                makers.end(life, _exited("exit_actor() was called"))
            else:
                self.init_failure = Failure.of(call.name, error, actor_id=self.actor_id.hex())
                if not failures.passes_on(error):
                    # nobody need ever call the actor, and an actor must not die without a word
                    sys.stderr.write(
                        f"{call.name}() raised, and the actor is dead:\n{users_traceback(error)}"
                    )
                makers.init_failed(self, self.init_failure.blob)
        elif isinstance(error, ActorExit):
            makers.exiting(life, "exit_actor() was called")
            runner.fail(call, self._left_error())
            self._drop_waiting(life)
        elif call.is_cancelled and isinstance(error, asyncio.CancelledError | TaskCancelledError):
            runner.fail(call, TaskCancelledError(call.task_id.hex()))
        else:
            outcome = Failure.of(
                call.name,
                error,
                actor_repr=own_repr(life.instance) or self.spec.class_name,
                actor_id=self.actor_id.hex(),
            )
            outcome.is_told = failures.passes_on(error)
            wanted = call.template.retries_after(error) and not failures.passes_on(error)
            if wanted and call.retries_left and not call.is_cancelled:
                call.retries_left -= call.retries_left > 0
                self._requeue(call, at_end=True)
            else:
                runner.fail(call, outcome)
        return True

    def _drop_waiting(self, life: Life) -> None:
        """The actor leaves: coroutines that have not begun never do."""
        for call in [call for call in life.calls if call.handle is not None and not call.started_s]:
            handle = call.handle
            assert handle is not None
            self.client.runner.fail(call, self._left_error())
            life.call_soon(handle.cancel)

    def _requeue(self, call: Call, *, at_end: bool) -> None:
        call.attempt += 1
        call.life, call.handle, call.phase = None, None, NEEDS_ACTOR
        with self.client.lock:
            if at_end:
                self.queue.append(call)
            else:
                self.queue.appendleft(call)
        self.client.turns.due.append(self.advance)

    def _left_error(self) -> ActorDiedError:
        spec = self.spec
        return ActorDiedError(
            actor_id=self.actor_id.hex(),
            error_msg=f"The actor {spec.class_name} is dead: exit_actor() was called.",
            class_name=spec.class_name,
            name=spec.name,
            namespace=spec.namespace,
            pid=os.getpid(),
        )

    def settle_lost(self, calls: Iterable[Call], view: machine.ActorView) -> None:
        """Decide about calls that were under way when a life ended: they may have run."""
        runner = self.client.runner
        for call in reversed(list(calls)):
            if call.is_done:
                continue
            if call.is_cancelled:
                runner.fail(call, TaskCancelledError(call.task_id.hex()))
            elif view.state == machine.DEAD:
                runner.fail(call, self.death())
            elif call.retries_left:
                call.retries_left -= call.retries_left > 0
                self._requeue(call, at_end=False)
                continue
            else:
                runner.fail(call, self._told(view)._unavailable(view))
            call.attempt += 1  # what still runs of it is heard no more

    def fail_queue(self) -> None:
        """The actor is dead, and with it the calls that waited."""
        with self.client.lock:
            queue = list(self.queue)
            self.queue.clear()
        for call in queue:
            self.client.runner.fail(call, self.death())

    def death(self) -> Death:
        """Return the error of a call to the dead actor."""
        return Death(self._told(self.client.actors.view(self)).death(), self.init_failure)

    def _told(self, view: machine.ActorView | None) -> RemoteActor:
        """Return jray's own record of an actor in that state, which knows the words for its errors."""
        told = RemoteActor(self.client, self.actor_id, is_ordered=True)  # type: ignore[arg-type]
        told.view = view
        return told

    def say_blocking(self) -> None:
        """Say, once, that a coroutine of this actor makes a blocking call."""
        if not self._was_told_of_blocking:
            self._was_told_of_blocking = True
            sys.stderr.write(
                f"A blocking call of jray inside the async actor {self.spec.class_name} blocks its event loop: no other "
                "call runs meanwhile. Write `await ref`, or asyncio.gather for several.\n"
            )

    def why_not(self, call: Call) -> str:
        """Return why a call that waits for this actor can't run."""
        life = self.life
        if life is None or life.instance is _UNMADE:
            view = self.client.actors.view(self)
            state = "not made yet" if view is None or view.state == machine.PENDING else "restarting"
            return f"its actor is {state}, for it waits for resources, arguments, or its own constructor"
        if life.calls:
            others = ", ".join(f"{other.name}()" for other in life.calls[:3])
            return (
                f"its actor is in the middle of {others}, which waits for this in turn or was left unfinished"
            )
        del call
        return "a call before it waits for an argument"


def _exited(text: str) -> ExitCause:
    return ExitCause(os.getpid(), 0, None, "", text)


async def _as_async(values: Iterable[Any]) -> Any:
    for value in values:
        yield value


class ActorMaker:
    """See `jray._core.engine.Actors`.  What becomes of actors is decided by the same machine as in a head."""

    def __init__(self, client: InlineClient) -> None:
        self._client = client
        self._machine = machine.Actors()
        self._actors: dict[bytes, Actor] = {}
        self._lives: dict[bytes, Life] = {}
        #: objects that stand for an actor's lifetime
        self._kept: dict[bytes, bytes] = {}
        self._numbers = iter(range(1, 1 << 62))

    # -- making -------------------------------------------------------------------------------------

    def make(self, plan: ActorPlan) -> tuple[bytes, ObjectRef[Any] | None]:
        client, options = self._client, plan.options
        check_supported(options)
        with client.operation():
            actor_id = os.urandom(12) + client.job_id
            namespace = options.namespace or client.namespace
            if options.name is not None:
                with client.lock:
                    holder = self._machine.reserve(namespace, options.name, actor_id)
                if holder != actor_id:
                    raise ActorExists(namespace)
            try:
                keeper = self._make(plan, actor_id, namespace)
            except BaseException:
                if options.name is not None:
                    with client.lock:
                        self._machine.unreserve(namespace, options.name, actor_id)
                raise
        return actor_id, keeper

    def _make(self, plan: ActorPlan, actor_id: bytes, namespace: str) -> ObjectRef[Any] | None:
        client, options, cls = self._client, plan.options, plan.cls
        where, captures = placement(options, client.caller(), cls.__name__, client.groups.bundles)
        full_name = f"{cls.__module__}.{cls.__qualname__}"
        code = client.code.export(plan.key, cls, "actor class", full_name, plan.cell)
        environment = normalize(options.runtime_env, client.environment())
        arguments = client.pack(plan.args, plan.kwargs)
        parent = running.get()
        spec = ActorSpec(
            actor_id=actor_id,
            class_id=code.function_id,
            class_blob=b"",
            sources={},
            class_name=cls.__name__,
            args_blob=b"",
            positions=(),
            dependencies=(),
            name=options.name,
            namespace=namespace,
            is_detached=options.is_detached,
            max_restarts=options.max_restarts,
            max_task_retries=options.max_task_retries,
            max_concurrency=options.concurrency(plan.is_async),
            concurrency_groups=tuple((options.concurrency_groups or {}).items()),
            method_groups=tuple(
                (name, method.options.concurrency_group)
                for name, method in plan.meta.methods.items()
                if method.options.concurrency_group
            ),
            is_async=plan.is_async,
            placement_request=dict(options.placement_request.items()),
            running_request=dict(options.running_request.items()),
            runtime_env=environment,
            cell=plan.cell,
            job=client.job_id,
            owner=ADDRESS,
            where=where,
            home=client.node_id,
            captures=captures,
        )
        actor = Actor(client, plan, spec, code, arguments, environment)
        with client.lock:
            self._actors[actor_id] = actor
        keeper = client.objects.new_ref(client.object_id(client.next_number(), 1))
        keeper._state, keeper._tracked = ATOM, True
        with client.lock:
            if not options.is_detached:
                self._kept[keeper._id] = actor_id
            owner = parent.life.number if parent is not None and parent.life is not None else 0
            actions = self._machine.create(spec, owner)
        self._carry_out(actions)
        return None if options.is_detached else keeper

    # -- what the machine decides ---------------------------------------------------------------------

    def _carry_out(self, actions: Iterable[machine.Action]) -> None:
        for action in actions:
            if isinstance(action, machine.EndActorWorker):
                life = self._lives.get(action.worker_id)
                if life is not None:
                    self._end_worker(life, action.reason, is_forced=action.force)
                continue
            actor = self._actors[action.actor_id]
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
            self.end(life, _exited(reason), is_graceful=True)

    def begin(self, actor: Actor, allocation: Allocation) -> Life | None:
        """There are resources for an actor; return its new life, or None if it is not wanted any more."""
        with self._client.lock:
            record = self._machine.records[actor.actor_id]
            life = Life(actor, next(self._numbers), allocation, record.restarts)
            is_wanted = not self._machine.placed(actor.actor_id, life.worker_id)
            if is_wanted:
                actor.life = life
                self._lives[life.worker_id] = life
        if is_wanted:
            return life
        self._client.turns.release(life)
        return None

    def made(self, actor: Actor, life: Life) -> None:
        """The constructor came to its end."""
        repr_name = own_repr(life.instance)
        with self._client.lock:
            actions = self._machine.made(
                actor.actor_id, address=ADDRESS, pid=os.getpid(), repr_name=repr_name
            )
        self._carry_out(actions)
        actor.advance()

    def refused(self, actor: Actor, reason: str) -> None:
        """An actor has no place to be."""
        with self._client.lock:
            actions = self._machine.refused(actor.actor_id, reason)
        self._carry_out(actions)

    def lives(self) -> list[Life]:
        with self._client.lock:
            return list(self._lives.values())

    def is_gone(self, owner: bytes) -> bool:
        """Tell whether an actor is dead; jobs last as long as this engine."""
        record = self._machine.records.get(owner)
        return record is not None and record.state == machine.DEAD

    def init_failed(self, actor: Actor, blob: bytes) -> None:
        with self._client.lock:
            actions = self._machine.init_failed(actor.actor_id, blob)
        self._carry_out(actions)

    def exiting(self, life: Life, reason: str) -> None:
        """The actor leaves, after the calls that run now."""
        life.is_exiting = True
        with self._client.lock:
            actions = self._machine.exiting(life.actor.actor_id, reason)
        self._carry_out(actions)

    def end(self, life: Life, cause: ExitCause, *, is_graceful: bool = False) -> None:
        """A life is over: its calls fail or wait for the next, what it held and owned is gone."""
        client, actor = self._client, life.actor
        with client.lock:
            if self._lives.pop(life.worker_id, None) is None:
                return
            calls, life.calls = life.calls, []
            actor.life = None
        if is_graceful:
            _say_good_bye(life)
        if life.creation is not None and not life.creation.is_done:
            life.creation.attempt += 1
        with client.lock:
            actions = self._machine.worker_died(actor.actor_id, cause)
            view = self._machine.records[actor.actor_id].view()
        client.turns.release(life)
        actor.settle_lost(calls, view)
        self._lose_owned(life)
        if life.loop is not None:
            client.turns.end_loop(life.loop)
        life.instance = _UNMADE
        self._carry_out(actions)
        with client.lock:
            actions = self._machine.client_gone(life.number)
        self._carry_out(actions)
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

    # -- finding ------------------------------------------------------------------------------------

    def view(self, actor: Actor) -> machine.ActorView | None:
        record = self._machine.records.get(actor.actor_id)
        return None if record is None else record.view()

    def records(self) -> list[machine.ActorRecord]:
        with self._client.lock:
            return list(self._machine.records.values())

    def is_dead(self, actor: Actor) -> bool:
        record = self._machine.records.get(actor.actor_id)
        return record is not None and record.state == machine.DEAD

    def names(self) -> list[tuple[str, str]]:
        with self._client.lock:
            return self._machine.names()

    def find(self, name: str, namespace: str | None) -> tuple[bytes, Any] | None:
        client = self._client
        with client.operation():
            where = namespace or client.namespace

            def settled() -> bool:  # another thread has the name, and is about to make its actor
                found = self._machine.lookup(where, name)
                return found is None or found in self._actors

            client.turns.wait(settled, None, lambda: f"the actor {name} is being made")
            found = self._machine.lookup(where, name)
        return None if found is None else (found, self._actors[found].meta)

    def get(self, actor_id: bytes) -> Actor:
        found = self._actors.get(actor_id)
        if found is None:
            raise RaySystemError(f"There is no actor {actor_id.hex()} in this session.")
        return found

    # -- calling ------------------------------------------------------------------------------------

    def prepare(self, record: Actor, plan: CallPlan) -> MethodTemplate:
        del record
        options: MethodOptions = plan.options
        check_supported(options)
        retries = options.max_task_retries
        name = options.name or f"{plan.class_name}.{plan.method}"
        return MethodTemplate(
            plan.method,
            options,
            name=name,
            function_name=f"{plan.class_name}.{plan.method}",
            num_returns=returns_number(options.returns(plan.is_generator)),
            max_retries=plan.max_task_retries if retries is None else retries,
            retry_exceptions=options.retry_exceptions,
            backpressure=options._generator_backpressure_num_objects,
            cell=plan.cell,
            tally=self._client.watch.tally(plan.cell, name, is_actor_call=True),
        )

    def call(
        self,
        record: Actor,
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
            if max_pending_calls > 0 and record.outstanding() >= max_pending_calls:
                raise PendingCallsLimitExceeded(
                    f"The handle has {record.outstanding()} calls outstanding, and its max_pending_calls is "
                    f"{max_pending_calls}. Wait for some with jray.wait(), or raise the limit."
                )
            call.phase = NEEDS_ACTOR
            client.make_result(call)
            record.submit(call)
            return call.take_result()

    # -- ending -------------------------------------------------------------------------------------

    def kill(self, actor_id: bytes, *, no_restart: bool) -> None:
        with self._client.operation():
            with self._client.lock:
                actions = self._machine.kill(
                    actor_id, no_restart=no_restart, reason="it was killed by jray.kill()"
                )
            self._carry_out(actions)

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
            with self._client.lock:
                actions = self._machine.released(actor_id)
            self._carry_out(actions)

    def close(self) -> None:
        """End all actors, detached ones too."""
        with self._client.lock:
            self._kept.clear()
            living = [record.spec.actor_id for record in self._machine.records.values()]
        for actor_id in living:
            with self._client.lock:
                actions = self._machine.kill(actor_id, no_restart=True, reason="its job ended")
            self._carry_out(actions)


def _say_good_bye(life: Life) -> None:
    """Call the user's hook of an actor that ends in good order."""
    for name in ("__jray_shutdown__", "__ray_shutdown__"):
        hook = getattr(life.instance, name, None)
        if hook is None:
            continue
        try:
            hook()
        except Exception:  # noqa: BLE001 -- the actor ends all the same
            traceback.print_exc()
        break
