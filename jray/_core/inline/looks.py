"""Owns what this engine can say of a ref: state, origin, type and size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jray._core.client.looks import failed
from jray._core.inline.calls import Call
from jray._core.inline.failures import Death, Failure
from jray._core.refs import ATOM, ERROR, PENDING, ObjectRef, RefFacts
from jray._core.sketch import describe
from jray._core.skim import describe_serialized

if TYPE_CHECKING:
    from jray._core.inline.core import InlineClient


def facts_of(client: InlineClient, ref: ObjectRef[Any], *, is_brief: bool) -> RefFacts:
    """See `jray._core.refs.RefHome.ref_facts`."""
    state, data = ref._state, ref._data
    if state == PENDING:
        if not isinstance(data, Call):
            return RefFacts("pending")
        is_running = client.cluster.state_of(data) == "RUNNING"
        return RefFacts("running" if is_running else "waiting", data.name, data.template.cell)
    call = None if is_brief else client.cluster.ended_call(ref._id)
    made: tuple[str, int] = ("", 0) if call is None else (call.name, call.template.cell)
    if state == ERROR:
        if isinstance(data, Failure):
            data = data.blob
        elif isinstance(data, Death):
            data = data.load()
        return failed(data, made, is_brief=is_brief)
    if state == ATOM:
        return RefFacts("ready", *made, about=describe(data))
    about = "" if is_brief else describe_serialized(data)
    return RefFacts("ready", *made, about=about, size=len(data))
