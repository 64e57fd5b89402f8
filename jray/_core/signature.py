"""Owns the check of a call's arguments on the caller's side, before anything is sent."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class CallShape:
    """How a function may be called.  Picklable and small: defaults are left out."""

    __slots__ = ("_name", "_parameters", "_signature", "least", "most")

    def __init__(self, name: str, parameters: tuple[tuple[str, int, bool], ...]) -> None:
        self._name = name
        self._parameters = parameters
        self._signature: inspect.Signature | None = None
        needed = [kind for _, kind, has_default in parameters if not has_default]
        has_rest = any(kind == inspect.Parameter.VAR_POSITIONAL for _, kind, _ in parameters)
        #: with only positional arguments, any number from `least` to `most` fits; `most` is -1 if none does
        self.least = sum(kind in _POSITIONAL for kind in needed)
        self.most = 1 << 60 if has_rest else sum(kind in _POSITIONAL for _, kind, _ in parameters)
        if inspect.Parameter.KEYWORD_ONLY in needed:
            self.most = -1

    @classmethod
    def of(cls, function: Callable[..., Any], *, drop_first: bool = False) -> CallShape:
        """Return the shape of *function*, without `self` if `drop_first`; anything goes if it has no signature."""
        name = getattr(function, "__name__", repr(function))
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # a builtin
            return cls(name, (("args", 2, True), ("kwargs", 4, True)))
        if drop_first and parameters and parameters[0].kind in _POSITIONAL:
            parameters = parameters[1:]
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return cls(
            name,
            tuple((p.name, int(p.kind), p.default is not p.empty or p.kind in variadic) for p in parameters),
        )

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise TypeError, in Python's words, if the arguments do not fit."""
        if not kwargs and self.least <= len(args) <= self.most:
            return
        if self._signature is None:
            kinds = list(inspect._ParameterKind)
            self._signature = inspect.Signature(
                [
                    inspect.Parameter(name, kinds[kind], default=None)
                    if has_default and kind not in (2, 4)
                    else inspect.Parameter(name, kinds[kind])
                    for name, kind, has_default in self._parameters
                ]
            )
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._name}() {error}") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return CallShape, (self._name, self._parameters)
