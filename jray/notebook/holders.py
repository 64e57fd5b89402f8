"""Owns the finding of what in a notebook keeps references alive: variables, outputs, the last traceback."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from jray._core.refs import ObjectRef

T = TypeVar("T")

#: names under which IPython keeps what cells gave and were given
_IPYTHONS = re.compile(r"_+|_\d+|_i+|_i\d+|_ih|_oh|_dh|In|Out")
_OUTPUTS = re.compile(r"_+|_\d+")
_LAST = ("_", "__", "___")
TRACEBACK = "the last traceback"
#: views of views that are followed
_DEEPEST = 20
#: items of a container that are looked at for views
_MOST_ITEMS = 10_000


def held_in(value: Any, kind: type[T]) -> Iterator[T]:
    """Yield the references of *kind* in a value: itself, what a container holds, or a running cell's."""
    if isinstance(value, kind):
        yield value
    elif type(value) in (list, tuple, set, frozenset):
        yield from (item for item in value if isinstance(item, kind))
    elif type(value) is dict:
        yield from (item for pair in value.items() for item in pair if isinstance(item, kind))
    else:
        # what `%%remote --async` gives
        refs = getattr(type(value), "held_refs", None)
        if callable(refs):
            yield from (item for item in refs(value) if isinstance(item, kind))


def ref_under(value: Any) -> ObjectRef[Any] | None:
    """Return the reference whose stored bytes an array looks at; None: it looks at none."""
    for _ in range(_DEEPEST):
        if isinstance(value, memoryview):
            value = value.obj
        elif type(value).__module__ == "numpy":
            value = getattr(value, "base", None)
        else:
            break
    # what the store hands out refers to what it belongs to
    kept = getattr(value, "keepalive", None) if type(value).__module__ == "jray._core.store.segment" else None
    kept = getattr(kept, "ref", kept)  # of a copy of what is on another node
    return kept if isinstance(kept, ObjectRef) else None


def places(shell: Any) -> Iterator[tuple[str, Any]]:
    """Yield (what it is called, value) of everything that a notebook holds at its top level."""
    namespace: Mapping[str, Any] = shell.user_ns
    for name, value in list(namespace.items()):
        if not _IPYTHONS.fullmatch(name):
            yield f"variable `{name}`", value
    out = namespace.get("_oh")
    if isinstance(out, dict):
        for number, value in list(out.items()):
            yield f"Out[{number}]", value
    for name in _LAST:
        if name in namespace:
            yield f"`{name}`", namespace[name]
        # who has a variable of that name does not see IPython's own any more, which keeps what it had
        kept = getattr(shell.displayhook, name, "")
        if kept is not namespace.get(name):
            yield f"`_` of IPython ({name})", kept
    for name, value in _traceback_locals():
        yield f"{TRACEBACK} (`{name}`)", value


def _traceback_locals() -> Iterator[tuple[str, Any]]:
    """Yield the locals of the functions in the last traceback; a cell's own are the notebook's variables."""
    trace = getattr(sys, "last_traceback", None)
    while isinstance(trace, types.TracebackType):
        frame = trace.tb_frame
        if frame.f_code.co_name != "<module>":
            yield from list(frame.f_locals.items())
        trace = trace.tb_next


def holders_of(shell: Any, kind: type[T]) -> dict[int, tuple[T, list[str]]]:
    """Return, by identity, each reference of *kind* that the notebook holds, and what holds it."""
    found: dict[int, tuple[T, list[str]]] = {}
    for place, value in places(shell):
        for ref in held_in(value, kind):
            names = found.setdefault(id(ref), (ref, []))[1]
            name = place if ref is value else f"a {type(value).__name__} in {place.removeprefix('variable ')}"
            if name not in names:
                names.append(name)
    return found


def viewers_of(shell: Any) -> dict[int, tuple[ObjectRef[Any], list[str]]]:
    """Return, by identity, each reference whose bytes the notebook looks at, and what looks at them."""
    found: dict[int, tuple[ObjectRef[Any], list[str]]] = {}
    for place, value in places(shell):
        items = value if type(value) in (list, tuple) else value.values() if type(value) is dict else (value,)
        for item in list(items)[:_MOST_ITEMS]:
            ref = ref_under(item)
            if ref is None:
                continue
            names = found.setdefault(id(ref), (ref, []))[1]
            name = (
                place if item is value else f"a {type(value).__name__} in {place.removeprefix('variable ')}"
            )
            if name not in names:
                names.append(name)
    return found


def drop_outputs(shell: Any, values: Mapping[int, Any] | None = None) -> list[str]:
    """Take outputs out of Out, `_`, `__`, `___` and `_n`; *values*, by identity, tells which: None means all.

    Returns the names dropped, as in ``Out[7]``.
    """
    namespace = shell.user_ns
    hook = shell.displayhook
    out = namespace.get("_oh")
    dropped = []
    for number, value in list(out.items()) if isinstance(out, dict) else ():
        if values is None or id(value) in values:
            del out[number]
            dropped.append(f"Out[{number}]")
            namespace.pop(f"_{number}", None)
    for name in _LAST:
        value, kept = namespace.get(name), getattr(hook, name, None)
        # "" is what IPython has there before there is an output
        if value is not None and (values is None or id(value) in values):
            namespace[name] = ""
        if kept is not None and (values is None or id(kept) in values):
            setattr(hook, name, "")
    # IPython notes what it has put among the variables, values and all
    hidden = shell.user_ns_hidden
    for name, value in list(hidden.items()):
        if _OUTPUTS.fullmatch(name) and (values is None or id(value) in values):
            hidden[name] = namespace.get(name, "")
    return dropped


def drop_traceback(shell: Any) -> None:
    """Let go of the last error and the frames it holds; `%tb` and `%debug` have nothing more to show."""
    for name in ("last_exc", "last_value", "last_type", "last_traceback"):
        if hasattr(sys, name):
            delattr(sys, name)
    formatter = getattr(shell, "InteractiveTB", None)
    for name in ("tb", "etype", "value"):
        if hasattr(formatter, name):
            setattr(formatter, name, None)
