"""Owns one actor: the making of its instances, its calls that wait, and which of them runs next."""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jray._core.client.actor_errors import died
from jray._core.client.arguments import PackedArguments
from jray._core.engine import ActorPlan
from jray._core.environments import Environment
from jray._core.inline import coroutines, failures
from jray._core.inline.calls import NEEDS_ACTOR, Call, MethodTemplate, Template
from jray._core.inline.code import load_class
from jray._core.inline.failures import Death, Failure
from jray._core.inline.lives import Life
from jray._core.inline.loops import ActorLoop
from jray._core.machine import actors as machine
from jray._core.resources import Allocation, ResourceSet
from jray._core.specs import DEFAULT_GROUP, ActorSpec
from jray._core.worker.actor_host import SPECIAL_METHODS

if TYPE_CHECKING:
    from jray._core.client.functions import ExportedCode
    from jray._core.inline.core import InlineClient


class LocalActor:
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
        self._groups = {DEFAULT_GROUP: spec.max_concurrency, **dict(spec.concurrency_groups)}
        self._method_groups = dict(spec.method_groups)
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
                ", ".join(name for name in map(repr, self._groups) if name != repr(DEFAULT_GROUP)) or "none"
            )
            raise ValueError(
                f"The actor {self.spec.class_name} has no concurrency group {group!r}; it has {known}."
            )
        return found

    def _group_of(self, call: Call) -> str:
        assert isinstance(call.template, MethodTemplate)
        return call.template.concurrency_group or self._method_groups.get(call.template.method, DEFAULT_GROUP)

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
        self.client.lives.init_failed(self, blob)

    def refuse(self, reason: str) -> None:
        """What it must run on is gone, or never was."""
        self.client.lives.refused(self, reason)

    def start(self, allocation: Allocation) -> None:
        """Run the constructor, in this thread."""
        lives = self.client.lives
        life = lives.begin(self, allocation)
        if life is None:
            return
        call = life.creation = self._creation()
        call.life = life
        self.client.runner.run(call, lambda: functools.partial(self._construct, life), lambda: None)
        if life.is_made and self.life is life:
            lives.made(self, life)

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
        if self.client.lives.is_dead(self):
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
                coroutines.start(self, call, life, group)
            else:
                self.client.runner.run(
                    call,
                    functools.partial(self.method, call, life),
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
            elif not (self.spec.is_ordered and call.parent in held_back):
                group = self._group_of(call)
                if group in self._groups and not life.has_room(group):
                    continue
                del self.queue[index]
                call.life = life
                life.enter(call, group)
                return call, life, group
        return None

    def method(self, call: Call, life: Life) -> Callable[..., Any]:
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
            self.client.lives.end(life, failures.quiet_end("it left"), is_graceful=True)
        elif self.queue:
            self.client.turns.due.append(self.advance)

    def requeue(self, call: Call, *, at_end: bool) -> None:
        """Have a call run once more; what still runs of it is heard no more."""
        call.attempt += 1
        call.life, call.handle, call.phase = None, None, NEEDS_ACTOR
        with self.client.lock:
            if at_end:
                self.queue.append(call)
            else:
                self.queue.appendleft(call)
        self.client.turns.due.append(self.advance)

    def fail_queue(self) -> None:
        """The actor is dead, and with it the calls that waited."""
        with self.client.lock:
            queue = list(self.queue)
            self.queue.clear()
        for call in queue:
            self.client.runner.fail(call, self.death())

    def death(self) -> Death:
        """Return the error of a call to the dead actor."""
        return Death(died(self.actor_id, self.client.lives.view(self)), self.init_failure)

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
        if life is None or not life.is_made:
            view = self.client.lives.view(self)
            state = "not made yet" if view is None or view.state == machine.PENDING else "restarting"
            return f"its actor is {state}, for it waits for resources, arguments, or its own constructor"
        if life.calls:
            others = ", ".join(f"{other.name}()" for other in life.calls[:3])
            return (
                f"its actor is in the middle of {others}, which waits for this in turn or was left unfinished"
            )
        del call
        return "a call before it waits for an argument"
