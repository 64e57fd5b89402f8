"""Owns the words for a value that cannot be pickled: which part of it, and where that part hides."""

from __future__ import annotations

import dis
import functools
import importlib
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

#: How deep to look before the whole is blamed; real culprits sit near the top.
_MAX_DEPTH = 6
_MAX_CHILDREN = 200
_MAX_TEXT = 120

#: What every class has of its own and no pickle holds.
_NOT_OF_THE_CLASS = {"__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__slots__"}


def can_pickle(value: object) -> bool:
    """Tell whether cloudpickle takes *value*."""
    try:
        importlib.import_module("cloudpickle").dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 -- a user's __reduce__ may raise anything
        return False
    return True


def explain(value: object, error: BaseException, takes: Callable[[object], bool] = can_pickle) -> str:
    """Return a message that names the path from *value* to the innermost parts that cannot be pickled.

    `takes(part)` tells whether a part can be.
    """
    culprits = list(find_culprits(value, takes))
    lines = [f"Cannot serialize {_describe(value)}: {error}"]
    lines += [f"  {path or 'the value itself'}: {_describe(part)}" for path, part in culprits]
    lines.append(
        "Create it inside the task or actor instead, leave it out by __getstate__, or pass what it is made from."
    )
    return "\n".join(lines)


def find_culprits(
    value: object, takes: Callable[[object], bool] = can_pickle
) -> Iterator[tuple[str, object]]:
    """Yield (path, part) of each innermost part of *value* that cannot be pickled on its own."""
    yield from _search(value, "", 0, set(), takes)


def _search(
    value: object, path: str, depth: int, seen: set[int], takes: Callable[[object], bool]
) -> Iterator[tuple[str, object]]:
    if id(value) in seen or depth > _MAX_DEPTH or takes(value):
        return
    seen.add(id(value))
    found = False
    for number, (name, child) in enumerate(_children(value)):
        if number >= _MAX_CHILDREN:
            break
        for culprit in _search(child, _join(path, name), depth + 1, seen, takes):
            found = True
            yield culprit
    if not found:
        yield path, value


def _join(path: str, name: str) -> str:
    return f"{path}, {name}" if path and name[0] not in ".[" else path + name


def _children(value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[{_describe(key)}]", item
            yield f"the key {_describe(key)}", key
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f"an element of the {type(value).__name__}", item) for item in value)
    elif inspect.isfunction(value):
        yield from _captured(value)
    elif inspect.isclass(value):
        yield from ((f"{value.__name__}.{name}", item) for name, item in _own(value))
        yield from ((f"base class {base.__name__}", base) for base in value.__bases__)
    elif inspect.ismethod(value):
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield from ((f".args[{index}]", item) for index, item in enumerate(value.args))
        yield from ((f".keywords[{name!r}]", item) for name, item in value.keywords.items())
    else:
        if isinstance(value, BaseException):
            yield ".args", value.args
        yield from ((f".{name}", item) for name, item in _attributes(value))
        yield f"class {type(value).__name__}", type(value)


def _captured(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    name = function.__name__
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{name} -> {variable}", cell.cell_contents
        except ValueError:  # nothing is assigned to it yet
            continue
    for variable in _globals_of(function.__code__):
        if variable in function.__globals__:
            yield f"{name} -> {variable}", function.__globals__[variable]
    code = function.__code__
    defaults = function.__defaults__ or ()
    parameters = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    defaults_by_name = dict(zip(parameters, defaults, strict=True)) | (function.__kwdefaults__ or {})
    yield from ((f"{name}, default of {parameter}", item) for parameter, item in defaults_by_name.items())
    yield from ((f"{name}.{attribute}", item) for attribute, item in vars(function).items())


def _globals_of(code: types.CodeType) -> dict[str, None]:
    """Return the names of the globals that *code* reads, and the functions inside it."""
    found = {i.argval: None for i in dis.get_instructions(code) if i.opname in {"LOAD_GLOBAL", "LOAD_NAME"}}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _globals_of(constant)
    return found


def _own(cls: type) -> Iterator[tuple[str, object]]:
    for name, item in vars(cls).items():
        if isinstance(item, staticmethod | classmethod):
            yield name, item.__func__
        elif isinstance(item, property):
            yield from ((name, part) for part in (item.fget, item.fset, item.fdel) if part is not None)
        elif name not in _NOT_OF_THE_CLASS:
            yield name, item


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    yield from (getattr(value, "__dict__", None) or {}).items()
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            attribute = f"_{cls.__name__.lstrip('_')}{name}" if name.startswith("__") else name
            if name not in _NOT_OF_THE_CLASS and hasattr(value, attribute):
                yield attribute, getattr(value, attribute)


def _describe(value: object) -> str:
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 -- a user's __repr__ may raise anything
        text = object.__repr__(value)
    return f"{text[: _MAX_TEXT - 3]}..." if len(text) > _MAX_TEXT else text
