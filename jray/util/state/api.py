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
from collections.abc import Iterable, Sequence
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
    """Return the rows of a kind; `tolerant`: also if some are missing."""
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
            warnings.warn(text, UserWarning, stacklevel=4)
        if len(answer.rows) < answer.total:
            text = f"{len(answer.rows)} of {answer.total} {kind}: raise limit to get more, or filter."
            warnings.warn(text, UserWarning, stacklevel=4)
    return answer


def _list(
    kind: str,
    schema: type[Schema],
    address: str | None,
    filters: Filters,
    limit: int,
    timeout: float,
    detail: bool,
    raise_on_missing_output: bool,
    explain: bool,
) -> list[Schema]:
    checked = queries.checked_filters(schema, filters)
    queries.checked_limit(limit)
    if checked is None:
        return []
    answer = _ask(
        kind, address, timeout, checked, limit,
        detail=detail, tolerant=not raise_on_missing_output, explain=explain,
    )  # fmt: skip
    shown = schema.columns() if detail else schema.base_columns()
    return [
        schema.from_row({name: value for name, value in row.items() if name in shown}) for row in answer.rows
    ]


def _find(
    kind: str, schema: type[Schema], key: str, wanted: str, address: str | None, timeout: float, explain: bool
) -> list[Schema]:
    """Return the rows with that id, with detail."""
    answer = _ask(kind, address, timeout, ((key, "=", wanted),), detail=True, explain=explain)
    return [schema.from_row(row) for row in answer.rows]


# -- lists ----------------------------------------------------------------------------------------------


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


def _lister(kind: str, schema: type[Schema], text: str) -> Lister[Schema]:
    """Return the function that lists a kind, with that docstring."""

    def ask(
        address: str | None = None,
        filters: Filters = None,
        limit: int = DEFAULT_LIMIT,
        timeout: float = DEFAULT_RPC_TIMEOUT,
        detail: bool = False,
        raise_on_missing_output: bool = True,
        _explain: bool = False,
    ) -> list[Schema]:
        return _list(
            kind, schema, address, filters, limit, timeout, detail, raise_on_missing_output, _explain
        )

    ask.__name__ = ask.__qualname__ = f"list_{kind}"
    ask.__doc__ = text
    return ask


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


def get_actor(
    id: str, address: str | None = None, timeout: float = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> ActorState | None:
    """Return the actor of that id with detail, or None."""
    found = _find("actors", ActorState, "actor_id", id, address, timeout, _explain)
    return found[0] if found else None


def get_task(
    id: str, address: str | None = None, timeout: float = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> TaskState | list[TaskState] | None:
    """Return the task of that id with detail, a list if there are several attempts, or None."""
    found = _find("tasks", TaskState, "task_id", id, address, timeout, _explain)
    return found if len(found) > 1 else found[0] if found else None


def get_objects(
    id: str, address: str | None = None, timeout: float = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> list[ObjectState]:
    """Return what each process holds of the object of that id."""
    return _find("objects", ObjectState, "object_id", id, address, timeout, _explain)


def get_node(
    id: str, address: str | None = None, timeout: float = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> NodeState | None:
    """Return the node of that id with detail, or None."""
    found = _find("nodes", NodeState, "node_id", id, address, timeout, _explain)
    return found[0] if found else None


def get_worker(
    id: str, address: str | None = None, timeout: float = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> WorkerState | None:
    """Return the worker of that id with detail, or None."""
    found = _find("workers", WorkerState, "worker_id", id, address, timeout, _explain)
    return found[0] if found else None


def get_job(
    id: str, address: str | None = None, timeout: float = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> JobState | None:
    """Return the job of that submission id, or else of that job id, with detail, or None."""
    found = _find("jobs", JobState, "submission_id", id, address, timeout, _explain)
    found = found or _find("jobs", JobState, "job_id", id, address, timeout, _explain)
    return found[0] if found else None


def get_placement_group(
    id: str, address: str | None = None, timeout: float = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> PlacementGroupState | None:
    """Return the placement group of that id with detail, or None."""
    found = _find(
        "placement_groups", PlacementGroupState, "placement_group_id", id, address, timeout, _explain
    )
    return found[0] if found else None


# -- summaries --------------------------------------------------------------------------------------------


def summarize_tasks(
    address: str | None = None,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """Return how many tasks there are of each name and state: `{"cluster": {"summary": {name: ...}, ...}}`."""
    answer = _ask("tasks", address, timeout, (), 0, tolerant=not raise_on_missing_output)
    return {"cluster": queries.task_summary(answer.counts)}


def summarize_actors(
    address: str | None = None,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """Return how many actors there are of each class and state: `{"cluster": {"summary": {class: ...}, ...}}`."""
    answer = _ask("actors", address, timeout, tolerant=not raise_on_missing_output, explain=_explain)
    return {"cluster": queries.actor_summary(answer.rows)}


def summarize_objects(
    address: str | None = None,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """Return how many objects there are, and how large, of each place in the code that made them."""
    answer = _ask("objects", address, timeout, tolerant=not raise_on_missing_output, explain=_explain)
    return {"cluster": queries.object_summary(answer.rows)}
