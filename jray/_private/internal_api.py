"""Owns `free`, the one name of Ray's `_private.internal_api` that programs use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jray import _refusals
from jray._core.refs import ObjectRef, current


def free(object_refs: ObjectRef[Any] | Sequence[ObjectRef[Any]], local_only: bool = False) -> None:
    """Drop the values of objects that this process made, whoever refers to them: getting one raises ObjectFreedError.

    `local_only` asks for the copies on this machine, of which there are no others.
    """
    del local_only
    refs = [object_refs] if isinstance(object_refs, ObjectRef) else object_refs
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(
                f"free() takes a jray.ObjectRef or a list of them, not {ref!r} ({type(ref).__name__})."
            )
    if refs:
        current.require().free(refs)


def __getattr__(name: str) -> Any:
    advice = _refusals.advice(f"_private.internal_api.{name}")
    raise AttributeError(advice or f"module {__name__!r} has no attribute {name!r}")
