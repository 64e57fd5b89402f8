"""Owns the words for a value that cannot be pickled: which part of it, and where that part hides."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

#: How deep to look before the whole is blamed; real culprits sit near the top.
_MAX_DEPTH = 6
_MAX_CHILDREN = 200


def explain(value: object, error: BaseException) -> str:
    """Return a message that names the path from *value* to the innermost part that cannot be pickled."""
    culprits = list(find_culprits(value))
    lines = [f"Cannot serialize {_describe(value)}: {error}"]
    lines += [f"  {path or 'the value itself'}: {_describe(part)}" for path, part in culprits]
    lines.append(
        "Create it inside the task or actor instead, leave it out by __getstate__, or pass what it is made from."
    )
    return "\n".join(lines)


def find_culprits(value: object) -> Iterator[tuple[str, object]]:
    """Yield (path, part) of each innermost part of *value* that cannot be pickled on its own."""
    yield from _search(value, "", 0, set())


def can_pickle(value: object) -> bool:
    """Tell whether cloudpickle takes *value*."""
    try:
        importlib.import_module("cloudpickle").dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 -- a user's __reduce__ may raise anything
        return False
    return True


def _search(value: object, path: str, depth: int, seen: set[int]) -> Iterator[tuple[str, object]]:
    if id(value) in seen or depth > _MAX_DEPTH or can_pickle(value):
        return
    seen.add(id(value))
    found = False
    for name, child in _children(value):
        for culprit in _search(child, f"{path}{name}", depth + 1, seen):
            found = True
            yield culprit
    if not found:
        yield path, value


def _children(value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        pairs = ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        pairs = ((f"[{index}]", item) for index, item in enumerate(value))
    elif inspect.isfunction(value):
        closure = inspect.getclosurevars(value)
        pairs = (
            (f"{value.__name__} -> {name}", item)
            for names in (closure.nonlocals, closure.globals)
            for name, item in names.items()
        )
    elif inspect.isclass(value):
        pairs = ((f"{value.__name__}.{name}", item) for name, item in vars(value).items() if not name.startswith("__"))
    elif inspect.ismethod(value):
        pairs = iter([(".__self__", value.__self__)])
    else:
        state = getattr(value, "__dict__", None) or {}
        pairs = ((f".{name}", item) for name, item in state.items())
    for number, pair in enumerate(pairs):
        if number >= _MAX_CHILDREN:
            return
        yield pair


def _describe(value: object) -> str:
    text = repr(value) if not isinstance(value, dict | list | tuple) else f"a {type(value).__name__} of {len(value)}"
    return f"{text[:117]}..." if len(text) > 120 else text
