"""Owns what travels to a remote cell: which names are sent, how large they are, which cannot be."""

from __future__ import annotations

import builtins
import dataclasses
import sys
import types
from collections.abc import Collection, Mapping
from typing import Any

from jray._core import serialization
from jray._core.refs import ObjectRef
from jray._core.sketch import human_size
from jray.notebook.capture import CellAnalysis

#: A captured value from this size on is named, with the advice to put it once.
LARGE_BYTES = 10 * 1024 * 1024
#: How many items of a container are looked at to judge its size.
_SAMPLED_ITEMS = 1000
#: What a worker's cell has of its own under the name that IPython uses.
_WORKERS_OWN = {"display": "IPython.core.display_functions", "get_ipython": "IPython.core.getipython"}
#: Shell methods that work on a worker too.
_WORKERS_SHELL = frozenset({"getoutput", "system"})


@dataclasses.dataclass(frozen=True, slots=True)
class Shipment:
    """The names that a cell takes along."""

    values: dict[str, Any]
    #: ObjectRefs to be delivered as their values (`--resolve`)
    resolved: dict[str, Any]
    #: names that are neither in the notebook nor builtins: the cell fails if it gets to them
    unknown: tuple[str, ...]


def gather(
    analysis: CellAnalysis,
    namespace: Mapping[str, Any],
    *,
    resolve: bool,
    provided: Collection[str] = (),
) -> Shipment:
    """Look up the names that the cell reads; those *provided* it finds where it runs."""
    values: dict[str, Any] = {}
    resolved: dict[str, Any] = {}
    unknown: list[str] = []
    for name in analysis.reads:
        if name in provided:
            continue
        if name not in namespace:
            if not hasattr(builtins, name) and name not in _WORKERS_OWN:
                unknown.append(name)
            continue
        value = namespace[name]
        if _is_workers_own(name, value):
            continue
        if resolve and isinstance(value, ObjectRef):
            resolved[name] = value
        else:
            values[name] = value
    return Shipment(values, resolved, tuple(unknown))


def _is_workers_own(name: str, value: object) -> bool:
    """Tell whether *value* is IPython's: a bound method of the shell, or the function of that module."""
    module = _WORKERS_OWN.get(name)
    if module is None:
        return False
    return isinstance(value, types.MethodType) or getattr(value, "__module__", None) == module


def unsupported_syntax(analysis: CellAnalysis) -> str | None:
    """Return why the cell cannot run on a worker for IPython's syntax in it; None: it can."""
    for call in analysis.shell_calls:
        if call.method in _WORKERS_SHELL:
            continue
        sign = {"run_line_magic": "%", "run_cell_magic": "%%"}.get(call.method)
        what = f"{sign}{call.argument}" if sign else f"get_ipython().{call.method}"
        if call.argument in ("pinfo", "pinfo2", "psearch"):
            what = "the ? help"
        return (
            f"{what} in line {call.line} of a remote cell needs the notebook's own process; "
            "only !commands run on a worker. Use it in a cell of its own."
        )
    return None


def missing_outputs(wanted: tuple[str, ...], analysis: CellAnalysis) -> str | None:
    """Return why an output can never come; None: each may."""
    if analysis.is_dynamic or analysis.star_imports:
        return None
    for name in wanted:
        if name == "_exit_code" and analysis.shell_calls:
            continue
        # a captured name may come back too, changed in place
        if name not in analysis.assigns and name not in analysis.reads:
            known = ", ".join(analysis.assigns) or "nothing"
            return f"-o {name}: the cell never assigns {name!r}; it assigns {known}."
    return None


def rough_size_bytes(value: Any) -> int:
    """Return about how many bytes *value* takes, without pickling it."""
    for attribute in ("nbytes", "memory_usage"):
        found = getattr(value, attribute, None) if type(value).__module__ != "builtins" else None
        if isinstance(found, types.MethodType):
            found = _total(found())
        if isinstance(found, int):
            return found
    if isinstance(value, list | tuple | set | frozenset | dict):
        items = list(value.values()) if isinstance(value, dict) else list(value)
        sample = items[:: len(items) // _SAMPLED_ITEMS + 1]
        return sys.getsizeof(value) + sum(map(_shallow_size, sample)) * len(items) // max(len(sample), 1)
    return _shallow_size(value)


def _total(value: Any) -> int | None:
    total = value.sum() if hasattr(value, "sum") else value
    return int(total) if hasattr(total, "__int__") else None


def _shallow_size(value: Any) -> int:
    size = getattr(value, "nbytes", None)
    return size if isinstance(size, int) else sys.getsizeof(value)


def large_names(shipment: Shipment) -> dict[str, int]:
    """Return name -> bytes of the values worth putting once."""
    sizes = {name: rough_size_bytes(value) for name, value in shipment.values.items()}
    return {name: size for name, size in sizes.items() if size >= LARGE_BYTES}


def advice(name: str, size: int) -> str:
    """Say what to do about a large captured value."""
    return (
        f"`{name}` is {human_size(size)} and is sent again with every run of this cell; "
        f"put it once: `{name} = jray.put({name})`, then run the cell with --resolve."
    )


def culprit(shipment: Shipment) -> tuple[str, TypeError] | None:
    """Return the first name whose value cannot be sent, and why."""
    for name, value in shipment.values.items():
        try:
            serialization.serialize(value)
        except TypeError as error:
            return name, error
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """A line of the dry run."""

    name: str
    kind: str
    size_bytes: int | None  #: None: it cannot be sent
    note: str


def manifest(shipment: Shipment) -> list[Item]:
    """List what would be sent, largest first.  Pickles every value."""
    items = [Item(name, "ObjectRef", 0, "its value, from the store") for name in shipment.resolved]
    for name, value in shipment.values.items():
        if isinstance(value, types.ModuleType):
            items.append(Item(name, "module", 0, f"imported there: {value.__name__}"))
            continue
        try:
            size = serialization.serialize(value).size
        except TypeError as error:
            items.append(
                Item(name, type(value).__name__, None, "cannot be sent: " + str(error).partition("\n")[0])
            )
            continue
        note = advice(name, size) if size >= LARGE_BYTES else ""
        items.append(Item(name, type(value).__name__, size, note))
    items += [
        Item(name, "?", 0, "not in the notebook: NameError if the cell gets to it")
        for name in shipment.unknown
    ]
    return sorted(items, key=lambda item: -1 if item.size_bytes is None else item.size_bytes, reverse=True)


def manifest_text(items: list[Item]) -> str:
    """Return the dry run as a table of text."""
    if not items:
        return "The cell uses nothing of the notebook."
    width = max(len(item.name) for item in items)
    kinds = max(len(item.kind) for item in items)
    lines = []
    for item in items:
        size = "-" if item.size_bytes is None else human_size(item.size_bytes)
        lines.append(f"{item.name:<{width}}  {item.kind:<{kinds}}  {size:>9}  {item.note}".rstrip())
    total = sum(item.size_bytes or 0 for item in items)
    return "\n".join([*lines, f"{'total':<{width}}  {'':<{kinds}}  {human_size(total):>9}"])
