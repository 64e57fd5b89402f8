"""Owns looking into a serialized value without running any code that is in it.

Unpickling calls whatever the pickle names.  Here it may call what makes plain data, arrays, frames and jray's own
errors; everything else is replaced by a stand-in, of which no more is known than its name.
"""

from __future__ import annotations

import io
import pickle
import re
import sys
from typing import Any, Self

from jray._core.serialization import deserialize, pickled_size
from jray._core.sketch import describe
from jray.exceptions import RayTaskError

#: makers of plain data, by module; what isn't loaded here is not loaded for this
_ALLOWED: dict[str, frozenset[str]] = {
    "builtins": frozenset({"bytearray", "complex", "dict", "float", "frozenset", "int", "list", "range", "set", "slice",
                           "str", "tuple"}),
    "collections": frozenset({"Counter", "OrderedDict", "defaultdict", "deque"}),
    "datetime": frozenset({"date", "datetime", "time", "timedelta", "timezone"}),
}  # fmt: skip
#: where classes are data and nothing else
_DATA_PACKAGES = ("numpy.dtypes", "pandas.arrays", "pandas.core", "pandas._libs", "jray.exceptions")
_DATA_CLASSES = frozenset({"DataFrame", "Series", "StringDtype", "dtype", "ndarray"})
#: functions by which arrays, frames and jray's errors are made again
_MAKERS = re.compile(
    r"_reconstruct|_frombuffer|scalar|_new_\w*Index|_unpickle_block|__pyx_unpickle_\w+|_restore"
)

#: pickles larger than this are not read for a description
_MOST_BYTES = 2**20


class StandIn:
    """Something that is not made here: an instance, or what a function would return."""

    #: of the class it would be of; empty: not known
    name = ""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> StandIn:
        return StandIn()

    def __setstate__(self, _: Any) -> None: ...
    def __setitem__(self, _: Any, __: Any) -> None: ...
    def append(self, _: Any) -> None: ...
    def extend(self, _: Any) -> None: ...
    def add(self, _: Any) -> None: ...


def _stand_in(name: str) -> type[StandIn]:
    return type("StandIn", (StandIn,), {"name": name})


def _made_class(_kind: Any, name: str, *_: Any) -> type[StandIn]:
    """Stand for cloudpickle's making of a class that travels by value."""
    return _stand_in(name)


class _Skimmer(pickle.Unpickler):
    """Finds nothing but what makes data."""

    def find_class(self, module: str, name: str) -> Any:
        if name in _ALLOWED.get(module, ()) or _is_data(module, name):
            return super().find_class(module, name)
        if module.startswith("cloudpickle.") and name == "_make_skeleton_class":
            return _made_class
        known = getattr(sys.modules.get(module), name, None)
        return _stand_in(name if isinstance(known, type) else "")


def _is_data(module: str, name: str) -> bool:
    """Tell whether that name stands for a maker of data, of a package that is loaded."""
    if module not in sys.modules or not f"{module}.".startswith(("numpy.", "pandas.", "jray.exceptions.")):
        return False
    found = getattr(sys.modules[module], name, None)
    if not isinstance(found, type):
        return _MAKERS.fullmatch(name) is not None
    return name in _DATA_CLASSES or name.endswith("Index") or module.startswith(_DATA_PACKAGES)


def _load(data: bytes | memoryview, *, buffers: Any = None) -> Any:
    return _Skimmer(io.BytesIO(data), buffers=buffers).load()


def describe_serialized(data: bytes | memoryview) -> str:
    """Return what `describe` would say of the value in *data*; empty where that cannot be told, or would take long."""
    try:
        if pickled_size(data) > _MOST_BYTES:
            return ""
        value = deserialize(data, _load)
    except Exception:  # noqa: BLE001 -- a stand-in may not do for the maker of what it is a part of
        return ""
    return value.name if isinstance(value, StandIn) else describe(value)


def error_line(error: bytes | BaseException) -> str:
    """Return the class and the first line of an error, serialized or not; empty where that cannot be told."""
    found: Any = error
    if isinstance(error, bytes):
        if not error:
            return "TaskCancelledError"
        try:
            found = deserialize(error, _load)
        except Exception:  # noqa: BLE001 -- as above
            return ""
    if isinstance(found, RayTaskError):
        cause: Any = found.cause
        name = cause.name if isinstance(cause, StandIn) else type(cause).__name__
        return _line_of(found.traceback_str, name)
    if isinstance(found, StandIn):
        return found.name
    text = str(found).strip().partition("\n")[0]
    return f"{type(found).__name__}: {text}" if text else type(found).__name__


def _line_of(traceback: str, name: str) -> str:
    """Return the line of a traceback that names an exception of that class: the last such line, at the margin."""
    wanted = re.escape(name) or r"[\w.]+"
    lines = re.findall(rf"^(?:[\w.<>]+\.)?({wanted}(?::.*|$))", traceback, re.MULTILINE)
    return str(lines[-1]) if lines else name
