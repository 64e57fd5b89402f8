# ruff: noqa: A002 -- `id` is Ray's name for it
"""Owns the questions of the state API: `list_*`, `get_*` and `summarize_*`.

The answers are gathered when they are asked for: owners tell of their tasks and objects, the head of the rest.
All functions block for them.  `address`, where it is given, must be that of this session's cluster, or "auto".

Raises ServerUnavailable without a session or a head, RayStateApiException for what cannot be asked, and where a process
did not answer in time, unless `raise_on_missing_output=False` takes what there is.  What is in time is the `timeout` of
the call, in seconds; where that is left at Ray's 30 s it is `JRAY_REPORT_TIMEOUT_S`, 2 s, for a process that is busy
answers all the same.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from jray._core.engine import Rows
from jray._core.filters import Filter
from jray._core.refs import current
from jray.exceptions import RaySystemError
from jray.util.state import queries
from jray.util.state.common import (
    DEFAULT_LIMIT,
    DEFAULT_RPC_TIMEOUT,
    ActorState,
    ClusterEventState,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    RuntimeEnvState,
    StateSchema,
    TaskState,
    WorkerState,
)
from jray.util.state.exception import RayStateApiException, ServerUnavailable

#: what the user gives: (column, "=" or "!=", value)
Filters = Iterable[Sequence[Any]] | None
Schema = TypeVar("Schema", bound=StateSchema)
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)
Function = TypeVar("Function", bound=Callable[..., Any])

#: kinds of things that a cluster may know nothing of
_MAY_LACK = {"runtime_envs"}


def require_client(address: str | None) -> Any:
    """Return the client of this session.  Raises ServerUnavailable if there is none, or if it is of another cluster."""
    client = current.client
    if client is None:
        raise ServerUnavailable(
            "There is no session whose state could be asked for. Call jray.init() first; jray.init(address=...) joins "
            "a cluster that runs."
        )
    if address not in {None, "auto"} and address != client.whereabouts().address:
        raise ServerUnavailable(
            f"address={address!r} is not the cluster of this session, {client.whereabouts().address}. "
            "Call jray.shutdown(), then jray.init(address=...) to ask that one."
        )
    return client


def _ask(
    kind: str,
    address: str | None,
    timeout: float,
    filters: tuple[Filter, ...] = (),
    limit: int = sys.maxsize,
    *,
    detail: bool = False,
    tolerant: bool = False,
    explain: bool = False,
) -> Rows:
    """Return the rows of a kind; `tolerant`: also if some are missing, which `explain` says to the caller's caller."""
    client = require_client(address)
    timeout_s = None if timeout == DEFAULT_RPC_TIMEOUT else max(0.0, timeout)
    try:
        answer: Rows = client.cluster.rows(
            kind, filters=filters, limit=limit, detail=detail, timeout_s=timeout_s
        )
    except ValueError:
        if kind not in _MAY_LACK:
            raise
        return Rows([], 0)
    except RaySystemError as error:
        raise ServerUnavailable(str(error)) from error
    if answer.warnings and not tolerant:
        raise RayStateApiException(
            f"Some {kind} are missing. {' '.join(answer.warnings)} "
            "Pass raise_on_missing_output=False to take what there is."
        )
    if explain:
        for text in answer.warnings:
            warnings.warn(text, UserWarning, stacklevel=3)
    return answer


# Each kind of question is a function, and each thing that can be asked for an entry below it.


class Lister(Protocol[Schema]):
    """A function that asks for a list."""

    def __call__(
        self,
        address: str | None = None,
        filters: Filters = None,
        limit: int = DEFAULT_LIMIT,
        timeout: float = DEFAULT_RPC_TIMEOUT,
        detail: bool = False,
        raise_on_missing_output: bool = True,
        _explain: bool = False,
    ) -> list[Schema]: ...


class Getter(Protocol[Answer_co]):
    """A function that asks for the thing of one id, with detail."""

    def __call__(
        self,
        id: str,
        address: str | None = None,
        timeout: float = DEFAULT_RPC_TIMEOUT,
        _explain: bool = False,
    ) -> Answer_co: ...


class Summarizer(Protocol):
    """A function that asks how many there are of each."""

    def __call__(
        self,
        address: str | None = None,
        timeout: float = DEFAULT_RPC_TIMEOUT,
        raise_on_missing_output: bool = True,
        _explain: bool = False,
    ) -> dict[str, Any]: ...


def _named(function: Function, name: str, text: str) -> Function:
    """Give a function that was made here its public name and docstring."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    return function


def _lister(kind: str, schema: type[Schema], text: str) -> Lister[Schema]:
    def ask(
        address: str | None = None,
        filters: Filters = None,
        limit: int = DEFAULT_LIMIT,
        timeout: float = DEFAULT_RPC_TIMEOUT,
        detail: bool = False,
        raise_on_missing_output: bool = True,
        _explain: bool = False,
    ) -> list[Schema]:
        checked = queries.checked_filters(schema, filters)
        queries.checked_limit(limit)
        if checked is None:
            return []
        answer = _ask(
            kind, address, timeout, checked, limit,
            detail=detail, tolerant=not raise_on_missing_output, explain=_explain,
        )  # fmt: skip
        if _explain and len(answer.rows) < answer.total:
            text = f"{len(answer.rows)} of {answer.total} {kind}: raise limit to get more, or filter."
            warnings.warn(text, UserWarning, stacklevel=2)
        shown = schema.columns() if detail else schema.base_columns()
        return [
            schema.from_row({name: value for name, value in row.items() if name in shown})
            for row in answer.rows
        ]

    return _named(ask, f"list_{kind}", text)


def _getter(
    name: str,
    kind: str,
    schema: type[Schema],
    keys: Sequence[str],
    choose: Callable[[list[Schema]], Answer],
    text: str,
) -> Getter[Answer]:
    """Return the function `get_<name>`, which looks for the id in one column of *keys* after the other."""

    def ask(
        id: str, address: str | None = None, timeout: float = DEFAULT_RPC_TIMEOUT, _explain: bool = False
    ) -> Answer:
        found: list[Schema] = []
        for key in keys:
            answer = _ask(kind, address, timeout, ((key, "=", id),), detail=True, explain=_explain)
            found = [schema.from_row(row) for row in answer.rows]
            if found:
                break
        return choose(found)

    return _named(ask, f"get_{name}", text)


def _summarizer(
    kind: str, add_up: Callable[[Rows], dict[str, Any]], text: str, *, limit: int = sys.maxsize
) -> Summarizer:
    """Return the function `summarize_<kind>`, which adds up at most *limit* rows, and the counts of all."""

    def ask(
        address: str | None = None,
        timeout: float = DEFAULT_RPC_TIMEOUT,
        raise_on_missing_output: bool = True,
        _explain: bool = False,
    ) -> dict[str, Any]:
        answer = _ask(
            kind, address, timeout, limit=limit, tolerant=not raise_on_missing_output, explain=_explain
        )
        return {"cluster": add_up(answer)}

    return _named(ask, f"summarize_{kind}", text)


# -- lists ----------------------------------------------------------------------------------------------


_MOST = "at most *limit* (up to 10 000)"

list_actors = _lister(
    "actors", ActorState, f"Return the actors that match all *filters*, also dead ones, {_MOST}."
)
list_tasks = _lister(
    "tasks", TaskState, f"Return the tasks that match all *filters*, {_MOST}: of ended ones only the latest."
)
list_objects = _lister("objects", ObjectState, f"Return the references that match all *filters*, {_MOST}.")
list_nodes = _lister("nodes", NodeState, "Return the nodes that match all *filters*.")
list_workers = _lister(
    "workers", WorkerState, f"Return the drivers and workers that match all *filters*, {_MOST}."
)
list_jobs = _lister("jobs", JobState, f"Return the jobs that match all *filters*, also ended ones, {_MOST}.")
list_placement_groups = _lister(
    "placement_groups",
    PlacementGroupState,
    f"Return the placement groups that match all *filters*, {_MOST}.",
)
list_runtime_envs = _lister(
    "runtime_envs", RuntimeEnvState, f"Return the runtime environments that match all *filters*, {_MOST}."
)


def list_cluster_events(
    address: str | None = None,
    filters: Filters = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ClusterEventState]:
    """Not supported: jray keeps no events.  Raises NotImplementedError."""
    raise NotImplementedError(
        "jray keeps no cluster events. jray.util.state.list_workers(detail=True) tells how workers ended, "
        "list_actors(detail=True) why actors died."
    )


# -- one thing --------------------------------------------------------------------------------------------


def _first(found: list[Schema]) -> Schema | None:
    return found[0] if found else None


def _attempts(found: list[TaskState]) -> TaskState | list[TaskState] | None:
    return found if len(found) > 1 else _first(found)


get_actor = _getter(
    "actor", "actors", ActorState, ["actor_id"], _first,
    "Return the actor of that id with detail, or None.",
)  # fmt: skip
get_task = _getter(
    "task", "tasks", TaskState, ["task_id"], _attempts,
    "Return the task of that id with detail, a list if there are several attempts, or None.",
)  # fmt: skip
get_objects = _getter(
    "objects", "objects", ObjectState, ["object_id"], list,
    "Return what each process holds of the object of that id.",
)  # fmt: skip
get_node = _getter(
    "node", "nodes", NodeState, ["node_id"], _first,
    "Return the node of that id with detail, or None.",
)  # fmt: skip
get_worker = _getter(
    "worker", "workers", WorkerState, ["worker_id"], _first,
    "Return the worker of that id with detail, or None.",
)  # fmt: skip
get_job = _getter(
    "job", "jobs", JobState, ["submission_id", "job_id"], _first,
    "Return the job of that submission id, or else of that job id, with detail, or None.",
)  # fmt: skip
get_placement_group = _getter(
    "placement_group", "placement_groups", PlacementGroupState, ["placement_group_id"], _first,
    "Return the placement group of that id with detail, or None.",
)  # fmt: skip


# -- summaries --------------------------------------------------------------------------------------------

summarize_tasks = _summarizer(
    "tasks",
    lambda answer: queries.task_summary(answer.counts),
    'Return how many tasks there are of each name and state: `{"cluster": {"summary": {name: ...}, ...}}`.',
    limit=0,
)
summarize_actors = _summarizer(
    "actors",
    lambda answer: queries.actor_summary(answer.rows),
    'Return how many actors there are of each class and state: `{"cluster": {"summary": {class: ...}, ...}}`.',
)
summarize_objects = _summarizer(
    "objects",
    lambda answer: queries.object_summary(answer.rows),
    "Return how many objects there are, and how large, of each place in the code that made them.",
)
