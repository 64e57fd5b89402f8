"""Owns the packing of a call's arguments into what travels: plain values, bytes, or a stored object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jray._core.refs import ObjectRef
from jray._core.serialization import ATOM_MAX_LENGTH, ATOMS, Serialized, serialize

#: Atoms of bounded size, and those that need a look at their length.
_SCALARS = ATOMS - {str, bytes}


class PackedArguments:
    """Arguments that are not all plain values."""

    __slots__ = ("dependencies", "payload", "pins", "positions")

    def __init__(
        self,
        payload: bytes | ObjectRef[Any],
        positions: tuple[int | str, ...],
        dependencies: list[ObjectRef[Any]],
        pins: list[ObjectRef[Any]],
    ) -> None:
        #: the serialized (args, kwargs) with None where a top-level ref was; a ref if that is large
        self.payload = payload
        #: index or keyword of each top-level ref
        self.positions = positions
        #: the top-level refs: the call waits for them
        self.dependencies = dependencies
        #: refs inside other arguments: kept alive until the call is done
        self.pins = pins


def are_plain(args: tuple[Any, ...]) -> bool:
    """Tell whether all of *args* may travel as they are."""
    for value in args:
        kind = type(value)
        if kind not in _SCALARS and not ((kind is str or kind is bytes) and len(value) <= ATOM_MAX_LENGTH):
            return False
    return True


def _blame(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise a TypeError that names the argument which cannot be pickled."""
    named = [(f"Positional argument {index}", value) for index, value in enumerate(args)]
    named += [(f"Keyword argument {name!r}", value) for name, value in kwargs.items()]
    for name, value in named:
        try:
            serialize(value)
        except TypeError as error:
            raise TypeError(f"{name} cannot be sent to another process. {error}") from error


def pack(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    inline_limit_bytes: int,
    store: Callable[[Serialized], ObjectRef[Any]],
) -> PackedArguments:
    """Serialize a call's arguments; `store` puts them away when they are large.

    Raises TypeError, naming the path to it, for an argument that cannot be pickled.
    """
    positions: list[int | str] = []
    dependencies: list[ObjectRef[Any]] = []
    values: list[Any] = list(args)
    for index, value in enumerate(args):
        if isinstance(value, ObjectRef):
            positions.append(index)
            dependencies.append(value)
            values[index] = None
    named = dict(kwargs)
    for name, value in kwargs.items():
        if isinstance(value, ObjectRef):
            positions.append(name)
            dependencies.append(value)
            named[name] = None
    try:
        serialized = serialize((tuple(values), named))
    except TypeError:
        _blame(args, kwargs)
        raise
    payload: bytes | ObjectRef[Any]
    payload = serialized.to_bytes() if serialized.size <= inline_limit_bytes else store(serialized)
    return PackedArguments(payload, tuple(positions), dependencies, serialized.refs)
