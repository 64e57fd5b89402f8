"""Owns what this client can say of its refs without asking anybody: state, origin, type and size."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from jray._core.peek import Peek, peek
from jray._core.refs import ATOM, ERROR, PENDING, STORED, ObjectRef, RefFacts
from jray._core.serialization import pickled_size
from jray._core.sketch import describe
from jray._core.skim import describe_serialized, error_line
from jray._core.specs import Location
from jray.exceptions import ObjectFreedError, ObjectLostError

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient

_RUNNING = frozenset({"RUNNING", "SUBMITTED_TO_WORKER"})


class Looks:
    """Looks at refs, in this client's tables only."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client

    def facts(self, ref: ObjectRef[Any], *, is_brief: bool) -> RefFacts:
        """See `jray._core.refs.RefHome.ref_facts`."""
        state, data = ref._state, ref._data
        if state == PENDING:
            task = data if ref._owner is None else None
            if task is None:
                return RefFacts("pending")
            if is_brief:
                place = task.actor if task.actor is not None else task.lease
                is_sent = place is not None and task.number in place.inflight
                return RefFacts("running" if is_sent else "waiting", task.name, task.template.wire.cell)
            told = self._client.reports.status(ref)
            if told in {"FINISHED", "FAILED"}:  # meanwhile
                return self.facts(ref, is_brief=is_brief)
            how = "running" if told in _RUNNING else "waiting"
            return RefFacts(how, task.name, task.template.wire.cell)
        task = None if is_brief or ref._owner is not None else self._origin(ref._id)
        made: tuple[str, int] = ("", 0) if task is None else (task.name, task.template.wire.cell)
        if state == ERROR:
            return failed(data, made, is_brief=is_brief)
        if state == ATOM:
            return RefFacts("ready", *made, about=describe(data))
        if state == STORED:
            return RefFacts("ready", *made, about=data.about, size=data.size)
        return RefFacts("ready", *made, about="" if is_brief else describe_serialized(data), size=len(data))

    def _origin(self, ref_id: bytes) -> Any:
        """Return the memory of the task that made an object of ours, if there is one."""
        client = self._client
        number = client.number_of(ref_id)
        if number is None:
            return None
        with client.lock:
            return next((task for task in reversed(client.reports.ended) if task.number == number), None)

    def peek(self, ref: ObjectRef[Any]) -> Peek:
        """Look at a value, in the store where it lies there."""
        client, data = self._client, ref._data
        size = 0
        if isinstance(data, Location):
            with contextlib.suppress(OSError):  # it is gone: getting it will say so
                # only the head is read, and pages that nobody reads cost nothing
                size = pickled_size(client.arena.read(data.segment, data.offset, data.size, ref))
        return peek(client, ref, size)


def failed(error: bytes | BaseException, made: tuple[str, int], *, is_brief: bool) -> RefFacts:
    """Return what to say of a ref with that error; *made*: the name of what made it, and its cell."""
    if isinstance(error, ObjectFreedError):
        return RefFacts("freed", *made)
    line = "" if is_brief else error_line(error)
    return RefFacts("lost" if isinstance(error, ObjectLostError) else "failed", *made, error=line)
