"""Owns the seam between the public API and what runs it: jray's own runtime, this process alone, or Ray.

The public modules talk to `jray._core.refs.current.client`, which is an `Engine`.  Templates, actor records and
keepers are the engine's own business: the public side only hands them back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from jray._core.environments import Environment
from jray._core.filters import Filter
from jray._core.options import ActorOptions, MethodOptions, TaskOptions
from jray._core.strategies import NOBODY, Caller


@dataclasses.dataclass(frozen=True, slots=True)
class FunctionPlan:
    """A remote function with certain options."""

    key: Any  #: what stands for the function: its code is pickled once per engine and key
    function: Any  #: the plain function
    full_name: str  #: with its module
    is_generator: bool
    options: TaskOptions
    cell: int  #: that submits
    caller: Caller = NOBODY


@dataclasses.dataclass(frozen=True, slots=True)
class ActorPlan:
    """An actor that is to be made."""

    key: Any  #: what stands for the class, as in `FunctionPlan`
    cls: type  #: the plain class
    meta: Any  #: what handles know of it (`jray.actor.ActorMeta`); picklable
    is_async: bool
    options: ActorOptions
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    cell: int


@dataclasses.dataclass(frozen=True, slots=True)
class CallPlan:
    """A method of an actor with certain options."""

    class_name: str
    method: str
    is_generator: bool
    options: MethodOptions
    max_task_retries: int  #: the actor's own
    cell: int
    enable_task_events: bool = True  #: the actor's own

    @property
    def function_name(self) -> str:
        return f"{self.class_name}.{self.method}"

    @property
    def name(self) -> str:
        """What the calls are called."""
        return self.options.name or self.function_name

    @property
    def retries(self) -> int:
        """How often a call may run again; -1: any number."""
        retries = self.options.max_task_retries
        return self.max_task_retries if retries is None else retries

    @property
    def is_told(self) -> bool:
        """Whether the state API and the timeline show the calls."""
        told = self.options.enable_task_events
        return self.enable_task_events if told is None else told


@dataclasses.dataclass(frozen=True, slots=True)
class Whereabouts:
    """Who and where the calling code is.  Ids are bytes; None: there is no such thing here."""

    job_id: bytes
    node_id: bytes
    worker_id: bytes | None
    namespace: str
    session_dir: str
    address: str  #: of the head
    runtime_env: dict[str, Any]
    resources: dict[str, float]  #: assigned to the worker
    gpu_ids: tuple[int | str, ...]  #: text where the user's CUDA_VISIBLE_DEVICES names them
    task_id: bytes | None = None
    task_name: str | None = None
    function_name: str | None = None
    is_cancelled: bool = False
    actor_id: bytes | None = None
    actor_name: str | None = None
    actor_meta: Any = None  #: `jray.actor.ActorMeta` of the actor the code runs in
    restarts: int = 0
    group_id: bytes | None = None  #: of the placement group that it runs in
    captures: bool = False  #: whether its children run there too


@dataclasses.dataclass(slots=True)
class Tally:
    """How far the calls of one function are that one cell has submitted from this process."""

    cell: int
    name: str
    is_actor_call: bool = False
    submitted: int = 0
    finished: int = 0
    failed: int = 0  #: with those that were cancelled
    cancelled: int = 0
    running: int = 0  #: of those without an outcome; only in snapshots
    last_error: Any = None  #: of the last call that failed: an exception, or one pickled

    @property
    def ended(self) -> int:
        return self.finished + self.failed

    @property
    def waiting(self) -> int:
        """How many have neither begun nor an outcome."""
        return max(0, self.submitted - self.ended - self.running)


class Span(NamedTuple):
    """What one worker ran for a while: one call, or short ones of one function in a row."""

    worker_id: str
    pid: int
    actor: str  #: class of the actor; "" for a worker of tasks
    name: str
    cell: int
    start_ms: float  #: since the epoch
    end_ms: float | None  #: None: it runs
    calls: int = 1
    failed: int = 0
    #: time of the calls themselves, of those that have ended, without what is between them; None: not known
    busy_ms: float | None = None
    #: part of these calls' time for which their code and arguments were brought
    bringing_ms: float = 0.0
    #: when the first of them was submitted, since the epoch; None: not known
    submitted_ms: float | None = None


class Holder(NamedTuple):
    """What holds some of what a demand waits for."""

    name: str  #: of a function, or "actor " and the class
    cell: int  #: 0: of another program's
    workers: int


class Demand(NamedTuple):
    """What waits for resources, and why."""

    name: str  #: of the function that asked first, or "actor " and the class
    cell: int  #: 0: of another program's
    wanted: int  #: workers asked for
    reason: str  #: as a clause: "waits for 1 CPU: 2 of 2 in use"
    holders: tuple[Holder, ...] = ()  #: the actors first; empty where that is not known


class Stopped(NamedTuple):
    """What a stop found."""

    running: int
    waiting: int


@dataclasses.dataclass(frozen=True, slots=True)
class FailedCall:
    """A call from a notebook that raised, and the means to run it again."""

    task_id: str  #: hexadecimal
    name: str
    cell: int
    error: str  #: its class and first line
    is_actor_call: bool
    #: return the function as it was sent, and the arguments; both block and raise what unpickling raises,
    #: NotImplementedError and LookupError where there is none, and why
    load_function: Callable[[], Callable[..., Any]]
    load_arguments: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]


class Watch(Protocol):
    """Tells front ends what runs for a cell, and stops it."""

    def tallies(self, cell: int | None = None) -> list[Tally]:
        """Return snapshots for a cell, or for all: one for each function, in the order of their first calls.

        Cheap, and asks nobody.
        """

    def spans(self, cell: int | None, since_ms: float, resolution_ms: float) -> list[Span]:
        """Return what workers ran for a cell and that had not ended by `since_ms`, in the order of their starts.

        Calls shorter than `resolution_ms` come many in a span.  Blocks until the workers have answered or their time
        is over; one that does not answer is missing.
        """

    def demands(self) -> list[Demand]:
        """Return what waits for resources in the whole cluster.  Blocks for an answer."""

    def stop(self, cell: int, *, force: bool) -> Stopped:
        """Cancel what a cell has submitted from this process and what that has submitted in turn; returns at once.

        With *force*, the processes that run it are ended.  Calls of actors are cancelled but never forced.
        """

    def cancel(self, task_ids: Collection[str] = ..., *, name: str | None = ..., force: bool) -> Stopped:
        """Cancel the tasks with these ids (hexadecimal) and those of that name, whichever process submitted them.

        What they have submitted in turn is cancelled too; *force* is as in `stop`.  Blocks until all who may own such
        tasks have told what they found; who is silent cancels later, and is not counted.  Raises NotImplementedError
        if the engine cannot reach a task, after it has cancelled the others.
        """


@dataclasses.dataclass(slots=True)
class Rows:
    """An answer about the cluster's state."""

    rows: list[dict[str, Any]]  #: at most as many as were asked for
    total: int  #: how many matched
    warnings: list[str] = dataclasses.field(default_factory=list)  #: what is missing, and why
    #: of tasks: how many there are of each (name, type, state), all of them
    counts: dict[tuple[str, ...], int] = dataclasses.field(default_factory=dict)


class Tasks(Protocol):
    """Runs functions."""

    def prepare(self, plan: FunctionPlan) -> Any:
        """Return the template of all calls by this plan."""

    def submit(self, template: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] = ...) -> Any:
        """Submit a call; return its ref, refs, generator or None, as its num_returns says."""


class Actors(Protocol):
    """Makes, finds, calls and ends actors."""

    def make(self, plan: ActorPlan) -> tuple[bytes, Any]:
        """Have an actor made; return its id, and the keeper that keeps it alive (None: nothing need).

        Raises `ActorExists` if the name is taken, which says by whom.
        """

    def get(self, actor_id: bytes) -> Any:
        """Return this process's record of an actor; it has a dict `template_numbers` for the handles' use."""

    def find(self, name: str, namespace: str | None) -> tuple[bytes, Any] | None:
        """Return (id, meta) of a living named actor; blocks while it is being made."""

    def prepare(self, record: Any, plan: CallPlan) -> Any:
        """Return the template of all calls by this plan."""

    def call(
        self,
        record: Any,
        template: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        max_pending_calls: int,
        keep: Any,
    ) -> Any:
        """Call a method; `keep` lives until the call is done."""

    def kill(self, actor_id: bytes, *, no_restart: bool) -> None:
        """End an actor; returns at once."""

    def exit(self) -> None:
        """Raise what ends the actor that calls this; TypeError outside an actor."""


@dataclasses.dataclass(frozen=True, slots=True)
class GroupPlan:
    """A placement group that is to be made."""

    bundles: Sequence[Mapping[str, float]]
    strategy: str
    name: str  #: "": it has none
    is_detached: bool
    #: for each bundle labels of its node, and conditions; empty: any node
    label_selectors: Sequence[Mapping[str, str]] = ()
    preferred: bytes = b""  #: id of the node where all go if they fit, with STRICT_PACK


class Groups(Protocol):
    """Makes, finds and removes placement groups."""

    def create(self, plan: GroupPlan) -> bytes:
        """Have a group made, and return its id at once.  Raises RaySystemError if the name is taken."""

    def remove(self, group_id: bytes) -> None:
        """Remove a group; returns at once."""

    def wait(self, group_id: bytes, timeout_s: float) -> bool:
        """Block until the group is placed; return False if it is not in time, or was removed."""

    def find(self, name: str) -> bytes | None:
        """Return the id of the group of that name in this namespace.  Blocks for an answer."""

    def table(self, group_id: bytes | None) -> dict[str, Any]:
        """Return what there is to tell of a group, {} if nothing is known of it; None: of each, by id.

        Ray's keys.  Blocks for an answer.
        """

    def bundles(self, group_id: bytes) -> list[dict[str, float]]:
        """Return what the bundles of a group are; none for a group that is not known.  May block for an answer."""


class Cluster(Protocol):
    """Tells about the cluster.  Everything here blocks for an answer."""

    def nodes(self) -> list[dict[str, Any]]:
        """Return a row for each node, with Ray's keys."""

    def resources(self) -> dict[str, float]: ...

    def available(self) -> dict[str, float]: ...

    def actor_names(self, namespace: str | None) -> list[tuple[str, str]]:
        """Return (namespace, name) of the living named actors; None: of all namespaces."""

    def log_names(self, node_id: str) -> list[str]:
        """Return the names of the log files of a node; none of an engine without processes."""

    def log_piece(self, node_id: str, name: str, start: int) -> bytes | None:
        """Return what a log file of a node has from *start* on, or a first part of it; None: there is no such file."""

    def rows(
        self,
        kind: str,
        *,
        filters: Sequence[Filter] = ...,
        limit: int = ...,
        detail: bool = ...,
        timeout_s: float | None = ...,
    ) -> Rows:
        """Return rows of "tasks", "actors", "objects", "nodes", "workers", "jobs" or "placement_groups".

        Keys are Ray's, ids hexadecimal text, times milliseconds since the epoch.  What has not answered in time is
        missing; None: the engine's own patience.  ValueError for another kind.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class StartOptions:
    """What `jray.init` was asked for, checked as far as no engine is needed for it."""

    address: str | None
    num_cpus: int | None
    num_gpus: int | None
    resources: Mapping[str, float] | None
    labels: Mapping[str, str] | None
    object_store_memory: int | None  #: bytes
    memory: int | None  #: bytes
    namespace: str | None
    runtime_env: Mapping[str, Any] | None
    temp_dir: str | None
    log_to_driver: bool
    node_name: str | None = None
    spill_dir: str | None = None  #: where objects of a full store go
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)  #: of the job
    #: of the job's actors that name none: "detached" or "non_detached"
    default_actor_lifetime: str = "non_detached"
    search_path: Sequence[str] = ()  #: directories that come first on the workers' sys.path
    logging: Mapping[str, Any] | None = None  #: for the workers: fields of `LoggingConfig`
    include_dashboard: bool | None = None  #: for a Ray that is started here


class Session(Protocol):
    """An engine that runs, and how to leave it."""

    @property
    def client(self) -> Engine: ...

    address: str  #: what `jray.init(address)` takes to come to the same place
    info: dict[str, Any]  #: `RayContext.address_info`
    warning: str  #: what the user should know, once

    def is_alive(self) -> bool:
        """Tell whether there is still something to talk to."""

    def close(self) -> None:
        """Leave, and end what was started for this session; blocks until it has ended."""


class Engine(Protocol):
    """One of the runtimes, as this process takes part in it.  It is also its refs' `RefHome`."""

    engine_name: str  #: "jray", "inline" or "ray"

    @property
    def tasks(self) -> Tasks: ...
    @property
    def actors(self) -> Actors: ...
    @property
    def cluster(self) -> Cluster: ...
    @property
    def groups(self) -> Groups: ...
    @property
    def watch(self) -> Watch: ...

    job_id: bytes
    node_id: bytes
    namespace: str
    runtime_env: Environment
    #: of actors made here that name none; "non_detached" too where the engine sees to it itself
    default_actor_lifetime: str
    shows_output: bool
    #: whether code of this process may run in a placement group that the engine wants to be told of
    is_in_group: bool

    def caller(self) -> Caller:
        """Return in which placement group the calling code runs."""

    def put(self, value: Any) -> Any: ...
    def get(self, refs: Sequence[Any], timeout_s: float | None) -> list[Any]: ...
    def wait(
        self, refs: list[Any], num_returns: int, timeout_s: float | None, *, fetch_local: bool = ...
    ) -> tuple[list[Any], list[Any]]:
        """Return (ready, others): at most `num_returns` ready ones, both in the order of *refs*.

        With `fetch_local` what is on another machine is ready only once it is here.
        """

    def cancel(self, target: Any, *, force: bool, recursive: bool) -> None: ...
    def free(self, refs: Sequence[Any]) -> None:
        """Drop the values of objects of this process, whoever refers to them: getting one raises ObjectFreedError."""

    def whereabouts(self) -> Whereabouts: ...
    def failed_calls(self) -> list[FailedCall]:
        """Return the last calls of this process that raised, the latest first; NotImplementedError: none is kept."""

    def forked(self, null: int) -> None:
        """In a forked child: lead every descriptor to *null* and do nothing any more."""


class ActorExists(Exception):  # noqa: N818 -- says what is, and becomes an error or not as the user wants
    """An actor of that name exists already."""
