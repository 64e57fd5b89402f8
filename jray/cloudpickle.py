"""Owns nothing: the import path `jray.cloudpickle`, by which programs for Ray reach the pickler of functions and classes.

It is the package of that name, with the two functions that Ray adds to its own copy.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import cloudpickle as _cloudpickle
from cloudpickle import (
    CloudPickler,
    Pickler,
    dump,
    dumps,
    load,
    loads,
    register_pickle_by_value,
    unregister_pickle_by_value,
)

from jray._core.serialization_report import explain

__version__: str = _cloudpickle.__version__

__all__ = [
    "CloudPickler",
    "Pickler",
    "dump",
    "dump_debug",
    "dumps",
    "dumps_debug",
    "load",
    "loads",
    "register_pickle_by_value",
    "unregister_pickle_by_value",
]


def dumps_debug(obj: Any, *args: Any, **kwargs: Any) -> bytes:
    """Pickle as `dumps` does; the TypeError for what cannot be pickled names the part that is to blame."""
    made: bytes = _explained(obj, lambda: dumps(obj, *args, **kwargs))
    return made


def dump_debug(obj: Any, file: io.BufferedIOBase, *args: Any, **kwargs: Any) -> None:
    """Pickle into a file as `dump` does; the TypeError for what cannot be pickled names the part to blame."""
    _explained(obj, lambda: dump(obj, file, *args, **kwargs))


def _explained(obj: Any, pickle: Callable[[], Any]) -> Any:
    try:
        return pickle()
    except Exception as error:
        raise TypeError(explain(obj, error)) from error
