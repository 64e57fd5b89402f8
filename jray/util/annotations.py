"""Owns the decorators that mark an API as public, for developers, or deprecated; libraries for Ray import them.

They add a line to the documentation, and `Deprecated(warning=True)` a warning to each call.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal, TypeVar

T = TypeVar("T")

_STABILITIES = ("stable", "beta", "alpha")


class AnnotationType(Enum):
    """What an annotated object was declared to be."""

    PUBLIC_API = "PublicAPI"
    DEVELOPER_API = "DeveloperAPI"
    DEPRECATED = "Deprecated"
    UNKNOWN = "Unknown"


class RayDeprecationWarning(DeprecationWarning):
    """A deprecated API was used."""


def PublicAPI(  # noqa: N802 -- Ray's name
    obj: Any = None,
    *,
    stability: Literal["stable", "beta", "alpha"] = "stable",
    api_group: str = "Others",
) -> Any:
    """Mark a function or class as public: `@PublicAPI` or `@PublicAPI(stability="beta")`."""
    if stability not in _STABILITIES:
        raise AssertionError(f"stability must be one of {_STABILITIES}, not {stability!r}.")
    line = "" if stability == "stable" else f"{stability}: this may change before it becomes stable."

    def mark(target: T) -> T:
        return _annotate(target, AnnotationType.PUBLIC_API, line, api_group)

    return mark if obj is None else mark(obj)


def DeveloperAPI(obj: Any = None) -> Any:  # noqa: N802 -- Ray's name
    """Mark a function or class as one for developers of libraries: `@DeveloperAPI` or `@DeveloperAPI()`."""

    def mark(target: T) -> T:
        return _annotate(
            target, AnnotationType.DEVELOPER_API, "For developers: this may change between minor releases."
        )

    return mark if obj is None else mark(obj)


def Deprecated(obj: Any = None, *, message: str = "", warning: bool = False) -> Any:  # noqa: N802 -- Ray's name
    """Mark a function or class as deprecated; with `warning`, calling it warns, with *message*."""
    text = f"Deprecated: this may be removed in a future release. {message}".rstrip()

    def mark(target: Any) -> Any:
        _annotate(target, AnnotationType.DEPRECATED, text)
        return _warning_when_called(target, text) if warning else target

    return mark if obj is None else mark(obj)


def _annotate(target: T, kind: AnnotationType, line: str, api_group: str = "Others") -> T:
    if line:
        target.__doc__ = f"{inspect.cleandoc(target.__doc__ or '')}\n\n{line}".lstrip()
    name = getattr(target, "__name__", None)
    if name is not None:  # a property has none, and no attributes to set either
        marked: Any = target
        marked._annotated = name
        marked._annotated_type = kind
        marked._annotated_api_group = api_group
    return target


def _warning_when_called(target: Any, text: str) -> Any:
    function: Callable[..., Any] = target.__init__ if inspect.isclass(target) else target

    @functools.wraps(function)
    def warn_and_call(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(text, RayDeprecationWarning, stacklevel=2)
        return function(*args, **kwargs)

    if not inspect.isclass(target):
        return warn_and_call
    target.__init__ = warn_and_call  # type: ignore[method-assign]  # the class stays the same class
    return target
