"""Helpers beside the core: serializers, named actors, the node's address."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jray._core.refs import current
from jray._core.serialization import deregister, register
from jray._core.serialization_report import find_culprits

if TYPE_CHECKING:
    from jray.util.actor_pool import ActorPool as ActorPool
    from jray.util.executor import Executor as Executor
    from jray.util.namespaces import notebook_namespace as notebook_namespace
    from jray.util.placement_group import get_current_placement_group as get_current_placement_group
    from jray.util.placement_group import get_placement_group as get_placement_group
    from jray.util.placement_group import placement_group as placement_group
    from jray.util.placement_group import placement_group_table as placement_group_table
    from jray.util.placement_group import remove_placement_group as remove_placement_group
    from jray.util.sync import Barrier as Barrier
    from jray.util.sync import Event as Event
    from jray.util.sync import Lock as Lock
    from jray.util.sync import Semaphore as Semaphore

# left by the first line: Ray has a module of that name here
del annotations

#: names of this package that a module of it has, loaded when first used
_HOMES: dict[str, str] = {
    **dict.fromkeys(("as_completed", "map", "map_unordered"), "jray.util.iteration"),
    "ActorPool": "jray.util.actor_pool",
    **dict.fromkeys(("Barrier", "Event", "Lock", "Semaphore"), "jray.util.sync"),
    "Executor": "jray.util.executor",
    **dict.fromkeys(
        (
            "get_current_placement_group",
            "get_placement_group",
            "placement_group",
            "placement_group_table",
            "remove_placement_group",
        ),
        "jray.util.placement_group",
    ),
    **dict.fromkeys(("disable_log_once_globally", "enable_periodic_logging", "log_once"), "jray.util.debug"),
    "get_node_instance_id": "jray._private.services",
    "notebook_namespace": "jray.util.namespaces",
}

__all__ = sorted(  # noqa: PLE0605 -- a test compares it with the namespace
    [
        "deregister_serializer",
        "get_node_ip_address",
        "inspect_serializability",
        "list_named_actors",
        "register_serializer",
        *_HOMES,
    ]
)


#: modules of this package that programs use without importing them, as Ray's
_MODULES = {"actor_pool", "annotations", "debug", "scheduling_strategies", "serialization"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"jray.util.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'jray.util' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if not name.startswith("_"))})


def register_serializer(
    cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
) -> None:
    """Serialize instances of *cls* (not of its subclasses) by `serializer(instance)`, in this process.

    `deserializer` travels with the value: other processes need not register it.
    """
    register(cls, serializer, deserializer)


def deregister_serializer(cls: type) -> None:
    """Forget the serializer of *cls*; nothing happens if there is none."""
    deregister(cls)


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: Any = None
) -> tuple[bool, set[Any]]:
    """Return (whether *base_obj* can be pickled, its innermost parts that cannot), and print the paths to them."""
    del depth  # Ray's way to bound the search; ours is bounded by itself
    culprits = list(find_culprits(base_obj))
    for path, part in culprits:
        print(f"{name or type(base_obj).__name__}{path}: {part!r} cannot be pickled", file=print_file)
    return not culprits, {_FailureTuple(part, (path or str(name),), base_obj) for path, part in culprits}


class _FailureTuple:
    """A part that cannot be pickled, the path to it, and the whole it is in (Ray's FailureTuple)."""

    def __init__(self, obj: Any, path: tuple[str, ...], parent: Any) -> None:
        self.obj = obj
        self.path = path
        self.parent = parent

    def __repr__(self) -> str:
        return f"FailTuple({' -> '.join(self.path)} [obj={self.obj!r}, parent={self.parent!r}])"


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """Return the names of the living named actors of this namespace, or dicts of name and namespace of all."""
    client = current.require()
    found = client.cluster.actor_names(None if all_namespaces else client.namespace)
    if all_namespaces:
        return [{"name": name, "namespace": namespace} for namespace, name in found]
    return [name for _, name in found]


def get_node_ip_address() -> str:
    """Return the address of this node."""
    return "127.0.0.1"
