"""Owns the record of a task, or of an actor's call, from its submission to its end; and which one runs here."""

from __future__ import annotations

import contextvars
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any

from jray._core.client.functions import ExportedCode
from jray._core.engine import Tally
from jray._core.environments import Environment
from jray._core.inline.environments import environment_of
from jray._core.options import MethodOptions, TaskOptions
from jray._core.placement import Placement
from jray._core.refs import ObjectRef
from jray._core.resources import Allocation, ResourceSet

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from jray._core.inline.lives import Life
    from jray._core.inline.local_actor import LocalActor
    from jray._core.inline.streams import Stream

# What a call waits for, or does: `Call.phase`.
SUBMITTED = "submitted"
NEEDS_ARGUMENTS = "needs arguments"
NEEDS_RESOURCES = "needs resources"
NEEDS_ACTOR = "needs its actor"
RUNS = "runs"
IS_PAUSED = "is paused"  #: its generator is as far ahead of its consumer as it may be
IS_DONE = "is done"


class Template:
    """What all calls of a function or method with the same options from the same cell have in common."""

    __slots__ = (
        "backpressure", "cell", "function_name", "is_told", "max_retries", "name", "num_returns", "retry_exceptions",
        "tally",
    )  # fmt: skip

    def __init__(
        self,
        *,
        name: str,
        function_name: str,
        num_returns: int,
        max_retries: int,
        retry_exceptions: bool | tuple[type[BaseException], ...] | None,
        backpressure: int | None,
        cell: int,
        tally: Tally | None,
        is_told: bool = True,
    ) -> None:
        self.name = name
        self.function_name = function_name
        #: or STREAMING or DYNAMIC of `jray._core.client.results`
        self.num_returns = num_returns
        #: -1: any number
        self.max_retries = max_retries
        self.retry_exceptions = retry_exceptions
        #: items that a stream may be ahead of its consumer; 0: any number
        self.backpressure = max(0, backpressure or 0)
        self.cell = cell
        #: None: runs of constructors are not counted
        self.tally = tally
        #: whether the state API shows these calls (enable_task_events)
        self.is_told = is_told

    def retries_after(self, error: BaseException) -> bool:
        """Tell whether an exception of this class is a reason to run the call again."""
        retry = self.retry_exceptions
        return retry is True or (bool(retry) and isinstance(getattr(error, "cause", error), tuple(retry)))  # type: ignore[arg-type]


class TaskTemplate(Template):
    """The template of a remote function's calls."""

    __slots__ = ("_environments", "_options", "captures", "code", "request", "where")

    def __init__(self, code: ExportedCode, options: TaskOptions, placement: Placement, **fields: Any) -> None:
        super().__init__(**fields)
        self.code = code
        self._options = options
        #: what a run takes of the node's resources
        self.request: ResourceSet = options.resources_request
        self.where, self.captures = placement
        self._environments: dict[Environment, Environment] = {}

    def environment(self, parent: Environment) -> Environment:
        """Return the environment of a call made in that one; raises what `environment_of` raises."""
        known = self._environments.get(parent)
        if known is None:
            known = self._environments[parent] = environment_of(self._options.runtime_env, parent)
        return known


class MethodTemplate(Template):
    """The template of an actor method's calls."""

    __slots__ = ("concurrency_group", "method")

    def __init__(self, method: str, options: MethodOptions, **fields: Any) -> None:
        super().__init__(**fields)
        self.method = method
        self.concurrency_group = options.concurrency_group or ""


class Call:
    """One task, one call of an actor's method, or one run of its constructor."""

    __slots__ = (
        "actor", "allocation", "attempt", "callee", "context", "dependencies", "ended_s", "environment", "handle",
        "has_failed", "is_aside", "is_cancelled", "items", "keep", "life", "number", "on_left", "owner", "parent",
        "payload", "phase", "pins", "positions", "refs", "result", "retries_left", "started_s", "stream", "submitted_s",
        "task_id", "template", "unready",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        task_id: bytes,
        template: Template,
        parent: Call | None,
        environment: Environment,
    ) -> None:
        self.number = number
        self.task_id = task_id
        self.template = template
        #: the call that made this one; None: the driver
        self.parent = parent
        #: the actor's life that owns what this returns; None: the driver or a task
        self.owner: Life | None = None if parent is None else parent.life
        self.environment = environment
        self.phase = SUBMITTED
        self.submitted_s = monotonic()
        self.started_s = 0.0
        self.ended_s = 0.0
        #: plain arguments, serialized (args, kwargs), or a ref to these
        self.payload: Any = ()
        self.positions: tuple[int | str, ...] | None = None
        self.dependencies: list[ObjectRef[Any]] = []
        #: refs inside the arguments
        self.pins: list[ObjectRef[Any]] = []
        #: the handle that was called
        self.keep: Any = None
        #: how many of `dependencies` have no value yet
        self.unready = 0
        self.retries_left = template.max_retries
        #: grows when what runs now is not to be heard any more
        self.attempt = 0
        #: what the results go to, until they do
        self.refs: list[ObjectRef[Any]] = []
        #: what the caller gets: its ref, refs, generator or None
        self.result: Any = None
        self.stream: weakref.ref[Stream] | None = None
        #: finds the code, and what gives back what its run holds
        self.callee: Callable[[], Callable[..., Any]] | None = None
        self.on_left: Callable[[], None] | None = None
        #: what a generator still has to yield, and the context it runs in
        self.items: Iterator[Any] | None = None
        self.context: contextvars.Context | None = None
        self.is_cancelled = False
        self.has_failed = False
        self.actor: LocalActor | None = None
        #: of the actor it runs in
        self.life: Life | None = None
        #: resources held for this run; None: those of an actor's life, or none
        self.allocation: Allocation | None = None
        #: whether its CPU is given up because it waits
        self.is_aside = False
        #: of a coroutine
        self.handle: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.template.name

    @property
    def ready_s(self) -> float:
        """In one process no arguments are brought."""
        return 0.0

    @property
    def is_done(self) -> bool:
        return self.phase is IS_DONE

    def take_retry(self) -> bool:
        """Tell whether the call may run once more, and count that."""
        if not self.retries_left or self.is_cancelled:
            return False
        self.retries_left -= self.retries_left > 0
        return True

    def get_stream(self) -> Stream | None:
        """Return what the items go to; None if there are none, or nobody waits for them any more."""
        return None if self.stream is None else self.stream()

    def take_result(self) -> Any:
        """Return what the caller gets, once; for the same reason as `take_refs`."""
        result, self.result = self.result, None
        return result

    def take_refs(self) -> list[ObjectRef[Any]]:
        """Return what the results go to, once: frames of an error must not lead back to the ref that has that."""
        refs, self.refs = self.refs, []
        return refs


#: the call that this code is part of
running: contextvars.ContextVar[Call | None] = contextvars.ContextVar("jray_inline_call", default=None)


class Stack(threading.local):
    """What of the engine's is on this thread's stack, innermost last: calls, and loops of async actors."""

    def __init__(self) -> None:
        self.frames: list[Any] = []
