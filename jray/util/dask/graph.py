"""Owns the reading of Dask graphs: which nodes there are, in which order, with which options and refs.

It submits nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dask
from dask.core import flatten
from dask.order import order

from jray import ObjectRef

try:
    from dask._task_spec import Alias, DataNode, GraphNode, Task, convert_legacy_graph
except ModuleNotFoundError:
    raise ImportError(f"jray.util.dask needs Dask 2024.12 or later; this is {dask.__version__}.") from None

__all__ = [
    "Alias",
    "DataNode",
    "GraphNode",
    "Options",
    "needs",
    "put_in",
    "read",
    "refs_in",
    "refuse_resources",
    "target",
    "wanted",
]

_RESOURCES = (
    'Use ray_remote_args={"resources": {...}} instead of resources={...} to say what tasks need; the options are '
    "those of jray.remote."
)

#: options of tasks by the key of their node
Options = dict[Any, dict[str, Any]]


def read(dsk: Any, ray_remote_args: Mapping[str, Any]) -> tuple[dict[Any, GraphNode], Options]:
    """Return the nodes of *dsk*, a graph of any of Dask's kinds, and the options of their tasks.

    Options come, later ones over earlier, from *ray_remote_args*, from `dask.annotate` around the computation,
    and from `dask.annotate` where the graph was made.  Raises ValueError for annotations of resources, which
    are Dask's own.
    """
    around = dask.get_annotations()
    annotations = _annotations(dsk)
    if "resources" in around or "resources" in annotations:
        raise ValueError(_RESOURCES)
    if not isinstance(dsk, Mapping):
        dsk = dsk.__dask_graph__()
    nodes = convert_legacy_graph(dsk)
    everywhere = {**ray_remote_args, **around.get("ray_remote_args", {})}
    own = annotations.get("ray_remote_args", {})
    return nodes, {key: {**everywhere, **own.get(key, {})} for key in nodes} if everywhere or own else {}


def refuse_resources() -> None:
    """Raise the ValueError for `resources=` given to a computation."""
    raise ValueError(_RESOURCES)


def _annotations(dsk: Any) -> Mapping[str, Mapping[Any, Any]]:
    """Return what the graph's layers are annotated with: by name, then by key."""
    if hasattr(dsk, "__dask_annotations__"):
        found: Mapping[str, Mapping[Any, Any]] = dsk.__dask_annotations__()
        return found
    by_name: dict[str, dict[Any, Any]] = {}
    for layer in getattr(dsk, "layers", {}).values():
        for name, value in (layer.annotations or {}).items():
            for key in layer:
                by_name.setdefault(name, {})[key] = value(key) if callable(value) else value
    return by_name


def wanted(nodes: Mapping[Any, GraphNode], keys: Any) -> list[Any]:
    """Return the keys of the nodes that *keys* need, each after those it needs, near ones close to each other."""
    found: dict[Any, GraphNode] = {}
    stack = list(flatten([keys]))
    while stack:
        key = stack.pop()
        if key not in found:
            found[key] = nodes[key]
            stack.extend(needs(nodes[key]))
    ranks = order(found)
    return sorted(found, key=ranks.__getitem__)


def needs(node: GraphNode) -> frozenset[Any]:
    """Return the keys of the nodes whose values *node* needs."""
    found: frozenset[Any] = node.dependencies
    return found


def target(alias: Alias) -> Any:
    """Return the key that *alias* stands for."""
    (key,) = alias.dependencies
    return key


def refs_in(value: Any) -> Iterator[ObjectRef[Any]]:
    """Yield the refs that stand for values in a node: those of persisted collections, and given as arguments.

    Refs in lists and other objects are the user's own, and stay refs (Ray's rule for arguments).
    """
    if isinstance(value, ObjectRef):
        yield value
    elif isinstance(value, Task):
        yield from refs_in(value.args)
        yield from refs_in(value.kwargs)
    elif isinstance(value, DataNode):
        yield from refs_in(value.value)
    elif type(value) is tuple:
        for part in value:
            yield from refs_in(part)
    elif type(value) is dict:
        for part in value.values():
            yield from refs_in(part)


def put_in(value: Any, values: Mapping[ObjectRef[Any], Any]) -> Any:
    """Return *value*, whose refs `refs_in` gave, with the refs' *values* in their place; its nodes are changed."""
    if isinstance(value, ObjectRef):
        return values[value]
    if isinstance(value, Task):
        value.args = put_in(value.args, values)
        value.kwargs = put_in(value.kwargs, values)
    elif isinstance(value, DataNode):
        value.value = put_in(value.value, values)
        value.typ = type(value.value)
    elif type(value) is tuple:
        return tuple(put_in(part, values) for part in value)
    elif type(value) is dict:
        return {name: put_in(part, values) for name, part in value.items()}
    return value
