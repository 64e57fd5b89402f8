"""Owns the error about a module of Ray that jray has not: it says what to do instead."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NoReturn

import jray
from jray._refusals import REFUSED

#: what the functions in a placeholder do
_REFUSE = "refuse"
_NOTHING = "return None"

_NO_SESSION: dict[str, dict[str, str]] = {
    "ray.train": {},
    "ray.train._internal": {},
    "ray.train._internal.session": {"get_session": _NOTHING},
}
#: library -> missing module that it imports with itself, though it can do without -> the functions that it imports
_TOLERATED: dict[str, dict[str, dict[str, str]]] = {
    "lightgbm_ray": _NO_SESSION,
    "modin": {"ray.data": {"from_pandas_refs": _REFUSE}},
    "xgboost_ray": _NO_SESSION,
}


class MissingPartError(ModuleNotFoundError):
    """`import ray.x` asks for a part of Ray that jray has not.

    Its `name` is "ray" and not that of the part: `from ray import x` would drop an error that names `ray.x`,
    and say less.
    """

    def __init__(self, module: str) -> None:
        super().__init__(explain(module), name="ray")
        self._module = module

    def __reduce__(self) -> tuple[type[MissingPartError], tuple[str]]:
        return type(self), (self._module,)


def explain(module: str) -> str:
    """Say that jray lacks that module of Ray, and what to do instead."""
    name = module.removeprefix("ray.")
    while name:
        if name in REFUSED:
            return f"ray.{name} {REFUSED[name]}"
        name = name.rpartition(".")[0]
    return (
        f"jray {jray.__version__} has no {module}. It has the public modules of Ray Core; a program that uses "
        "this one must run on Ray."
    )


def placeholder(module: str, importer: str) -> ModuleType | None:
    """Return what the library *importer* gets for a missing module that it can do without; None: it gets an error.

    There is nothing in it but the functions that the library imports: they do nothing where Ray's would find
    nothing either, else raise NotImplementedError.
    """
    functions = _TOLERATED.get(importer, {}).get(module)
    if functions is None:
        return None
    made = ModuleType(module, explain(module))
    made.__path__ = []  # what is in it is decided here too

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(explain(module))

    def nothing(*args: Any, **kwargs: Any) -> None: ...

    for name, behaviour in functions.items():
        setattr(made, name, nothing if behaviour == _NOTHING else refuse)
    return made
