"""Owns what a notebook's function or class refers to: whether any of it has changed since it was pickled."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from jray._core.serialization import is_atom, is_importable

#: what every class has, and says nothing about it
_NOTHING = frozenset({"__dict__", "__doc__", "__module__", "__weakref__"})
_FIXED = (types.BuiltinFunctionType, types.GetSetDescriptorType, types.MemberDescriptorType)


class Captures:
    """What code refers to, directly and through other code that travels by value with it.

    Code and plain values are compared as such, classes by identity; of other data only the identity is known.
    """

    __slots__ = ("_seen", "has_data", "marks")

    def __init__(self, code: Any) -> None:
        #: whether some of it may change without being replaced
        self.has_data = False
        self._seen: set[int] = set()
        self.marks: tuple[Any, ...] = tuple(self._marks_of(code))
        del self._seen

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Captures) and other.marks == self.marks

    __hash__ = None  # type: ignore[assignment]

    def _marks_of(self, value: Any) -> Iterator[Any]:
        value = _plain_code(value)
        if isinstance(value, types.FunctionType):
            if id(value) not in self._seen and not is_importable(value):
                self._seen.add(id(value))
                yield from self._marks_of_function(value)
        elif isinstance(value, type):
            if id(value) not in self._seen and not is_importable(value):
                self._seen.add(id(value))
                yield from self._marks_of_class(value)
        elif is_atom(value):
            yield type(value), value
        elif isinstance(value, types.ModuleType):
            yield value.__name__
        elif not isinstance(value, _FIXED):
            self.has_data = True
            yield _Identity(value)

    def _marks_of_function(self, function: types.FunctionType) -> Iterator[Any]:
        code = function.__code__
        yield code
        values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for cell in function.__closure__ or ():
            try:
                values.append(cell.cell_contents)
            except ValueError:  # it has no value yet
                yield None
        found = function.__globals__
        values += [found[name] for name in _names(code) if name in found]
        for value in values:
            yield from self._marks_of(value)

    def _marks_of_class(self, cls: type) -> Iterator[Any]:
        yield weakref.ref(cls)
        for name, member in vars(cls).items():
            if name not in _NOTHING:
                yield name
                yield from self._marks_of(member)
        for base in cls.__bases__:
            yield from self._marks_of(base)


class _Identity:
    """One very object.  What cannot be watched is held, or another could have its address: lists, dicts and the like."""

    __slots__ = ("_get",)

    def __init__(self, value: Any) -> None:
        try:
            self._get: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            self._get = lambda: value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Identity):
            return NotImplemented
        value = self._get()
        return value is not None and value is other._get()

    __hash__ = None  # type: ignore[assignment]


def _plain_code(value: Any) -> Any:
    """Return the function or class that *value* is made of, if it is a remote one, a property or the like."""
    if isinstance(value, staticmethod | classmethod):
        return value.__func__
    if isinstance(value, property):
        return value.fget
    actor_class = getattr(type(value), "_jray_class", None)
    if actor_class is not None:
        return actor_class
    wrapped = getattr(value, "__dict__", None) if type(value).__module__ == "jray.remote_function" else None
    return value if wrapped is None else wrapped.get("__wrapped__", value)


def _names(code: types.CodeType) -> Iterator[str]:
    """Return the names of globals that code may look up, also that of functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
