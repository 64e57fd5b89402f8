"""Helpers beside the core: serializers, named actors, the node's address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jray._core import serialization
from jray._core.refs import current
from jray._core.serialization_report import find_culprits

__all__ = [
    "deregister_serializer",
    "get_node_ip_address",
    "inspect_serializability",
    "list_named_actors",
    "register_serializer",
]


def register_serializer(
    cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
) -> None:
    """Serialize instances of *cls* (not of its subclasses) by `serializer(instance)`, in this process.

    `deserializer` travels with the value: other processes need not register it.
    """
    serialization.register(cls, serializer, deserializer)


def deregister_serializer(cls: type) -> None:
    """Forget the serializer of *cls*; nothing happens if there is none."""
    serialization.deregister(cls)


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: Any = None
) -> tuple[bool, set[Any]]:
    """Return (whether *base_obj* can be pickled, its innermost parts that cannot), and print the paths to them."""
    del depth  # Ray's way to bound the search; ours is bounded by itself
    culprits = list(find_culprits(base_obj))
    for path, part in culprits:
        print(f"{name or type(base_obj).__name__}{path}: {part!r} cannot be pickled", file=print_file)
    return not culprits, {_FailureTuple(part, path, base_obj) for path, part in culprits}


class _FailureTuple:
    """A part that cannot be pickled, its name, and the whole it is in (Ray's FailureTuple)."""

    def __init__(self, obj: Any, name: str, parent: Any) -> None:
        self.obj = obj
        self.name = name
        self.parent = parent

    def __repr__(self) -> str:
        return f"FailTuple({self.name} [obj={self.obj!r}, parent={self.parent!r}])"


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """Return the names of the living named actors of this namespace, or dicts of name and namespace of all."""
    client = current.require()
    found = client.ask("actor_names", None if all_namespaces else client.namespace)
    if all_namespaces:
        return [{"name": name, "namespace": namespace} for namespace, name in found]
    return [name for _, name in found]


def get_node_ip_address() -> str:
    """Return the address of this node."""
    return "127.0.0.1"
