"""Owns the frozen data that processes tell each other about tasks, actors and stored objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from jray._core.strategies import ANYWHERE, LabelRule, Where


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


class Location(NamedTuple):
    """Where a stored object's bytes lie.  A tuple, because thousands of them travel in one message."""

    node: bytes  #: id of the node whose store holds it
    segment: int  #: negative: the object was spilled to the file of that number, `-segment`
    offset: int  #: bytes from the segment's or the file's start
    size: int  #: bytes
    about: str = ""  #: what `jray._core.sketch.describe` says of it; empty: nobody did


class Dependency(NamedTuple):
    """A top-level `ObjectRef` argument as the worker gets it: enough to have the value without asking."""

    state: int  #: ATOM, INLINE or STORED of `jray._core.refs`
    data: Any  #: the value, its bytes, or its `Location`
    ref_id: bytes
    owner: str  #: address of the owner


@dataclasses.dataclass(frozen=True, slots=True)
class FunctionTemplate:
    """What all calls of one remote function with the same options from the same cell have in common.

    A worker gets it once per connection; each task then names it by `number`.
    """

    number: int
    function_id: bytes  #: hash of the pickled function; the code itself travels once per connection
    name: str
    num_returns: int  #: number of objects; -1: a stream of them, -2: a dynamic number in one object
    max_retries: int
    max_calls: int
    cell: int
    backpressure: int = -1  #: items a stream may be ahead of its consumer; -1: any number
    group: bytes = b""  #: id of the placement group it runs in
    captures: bool = False  #: whether what it submits runs in that group too


@dataclasses.dataclass(frozen=True, slots=True)
class MethodTemplate:
    """What all calls of one actor method with the same options from the same cell have in common."""

    number: int
    method: str
    name: str
    num_returns: int
    concurrency_group: str
    cell: int
    backpressure: int = -1


#: the concurrency group of methods that have no other
DEFAULT_GROUP = "_default"


@dataclasses.dataclass(frozen=True, slots=True)
class Concurrency:
    """How many calls of an actor may run at once, in each of its concurrency groups."""

    limits: tuple[tuple[str, int], ...]  #: group -> calls at once
    method_groups: tuple[tuple[str, str], ...]  #: method name -> its group, where that is not the default

    def running(self, calls: Iterable[tuple[str, str, Any]]) -> Iterator[Any]:
        """Yield what runs of calls that arrived in this order, each given as (method, group or "", call)."""
        room = dict(self.limits)
        groups = dict(self.method_groups)
        left = sum(room.values())
        for method, group, call in calls:
            group = group or groups.get(method, DEFAULT_GROUP)  # noqa: PLW2901 -- that is the group it runs in
            if room.get(group, 0):
                room[group] -= 1
                left -= 1
                yield call
            if not left:
                return


#: one call after the other: what most actors do
ONE_BY_ONE = Concurrency(((DEFAULT_GROUP, 1),), ())


@dataclasses.dataclass(frozen=True, slots=True)
class ActorSpec:
    """Everything needed to make an actor, again and again."""

    actor_id: bytes
    class_id: bytes
    class_blob: bytes  #: the pickled class
    sources: dict[str, str]  #: text of the class's code by file name, where there is no file
    class_name: str
    args_blob: Any  #: serialized (args, kwargs) of the constructor; a `Dependency` if they are large
    positions: tuple[int | str, ...]  #: where in them the values of `dependencies` go
    dependencies: tuple[Any, ...]  #: each a `Dependency`
    name: str | None
    namespace: str
    is_detached: bool
    max_restarts: int
    max_task_retries: int
    max_concurrency: int
    concurrency_groups: tuple[tuple[str, int], ...]
    method_groups: tuple[tuple[str, str], ...]  #: method name -> its concurrency group
    is_async: bool
    placement_request: dict[str, int]  #: resources needed to place it, units of 1/10,000
    running_request: dict[str, int]  #: resources it holds while alive
    runtime_env: tuple[tuple[str, Any], ...]
    cell: int
    job: bytes
    owner: str  #: address of the process that made it
    out_of_order: bool = (
        False  #: whether calls of one caller may overtake each other, though one runs at a time
    )
    methods: bytes = (
        b""  #: serialized, for handles looked up by name: the head never unpickles a user's classes
    )
    where: Where = ANYWHERE
    home: bytes = b""  #: node of the process that made it
    captures: bool = False  #: whether what it submits runs in its placement group too

    @property
    def is_ordered(self) -> bool:
        """Whether calls of one caller run in the order they were made."""
        return not (self.out_of_order or self.is_async or self.max_concurrency > 1 or self.concurrency_groups)

    @property
    def concurrency(self) -> Concurrency:
        return Concurrency(
            ((DEFAULT_GROUP, self.max_concurrency), *self.concurrency_groups), self.method_groups
        )


@dataclasses.dataclass(frozen=True, slots=True)
class GroupSpec:
    """A placement group, as its creator wants it."""

    group_id: bytes
    name: str  #: "": it has none
    namespace: str
    bundles: tuple[dict[str, int], ...]  #: resources of each, in units of 1/10,000
    strategy: str
    job: bytes
    is_detached: bool
    #: the detached actor that made it, with whose death it goes; else it goes with its job
    keeper: bytes = b""
    rules: tuple[tuple[LabelRule, ...], ...] = ()  #: for each bundle, of which node it is; empty: of any
    preferred: bytes = b""  #: id of the node where all go if they fit, with STRICT_PACK


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryReport:
    """How memory stood when a worker was ended because there was too little.  All sizes in bytes."""

    used: int
    total: int
    threshold: float  #: part of `total`
    worker_bytes: int
    #: (seconds before, bytes used) of the last samples, oldest first
    curve: tuple[tuple[float, int], ...]
    #: (pid, what it runs, bytes) of the largest workers
    holders: tuple[tuple[int, str, int], ...]
    runs_again: bool  #: whether its task is worth another try

    def explanation(self) -> str:
        """Return in words how the memory came to be in use, and who holds most."""
        text = ""
        if len(self.curve) > 1:
            before_s, first = self.curve[0]
            text = f"In the {before_s:.1f} s before, memory in use went from {_gib(first)} to {_gib(self.used)}. "
        held = ", ".join(f"{_gib(size)} by pid {pid} ({name})" for pid, name, size in self.holders)
        return f"{text}The largest workers held {held}." if held else text.rstrip()


#: exit code of a worker whose setup hook raised
SETUP_FAILED = 71


class SetupFailure(str):
    """Why a runtime environment can't be made: a reason to refuse what was to run in it."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True, slots=True)
class MemorySample:
    """How memory stands at a node that has less of it free than should be.  All sizes in bytes."""

    used: int
    total: int
    threshold: float  #: part of `total`
    #: (seconds before, bytes used) of the last samples, oldest first
    curve: tuple[tuple[float, int], ...]
    workers: dict[bytes, tuple[int, int]]  #: of each worker: its pid, and what it has for itself


@dataclasses.dataclass(frozen=True, slots=True)
class ExitCause:
    """Why a worker process ended."""

    pid: int
    exit_code: int | None
    signal: int | None
    last_lines: str  #: the end of what it wrote to stderr
    detail: str = ""  #: why jray ended it, where it did
    memory: MemoryReport | None = None  #: it was ended because memory was low
