"""Owns what a client tells of the references it holds: what kind they are, what made their objects, and what holds them.

Nothing is noted while nobody asks, but for what made an object in the store: the rest is found where Python keeps it.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jray._core.filters import Filter, matches
from jray._core.refs import ATOM, ERROR, INLINE, PENDING, STORED, ObjectRef
from jray._core.sites import Made

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient

#: an answer is made in pieces of so many references
_AT_ONCE = 1000
#: items of a container that are looked at for references
_MOST_ITEMS = 10_000


class Holdings:
    """Looks for the references of this process, and at them."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client

    def rows(self, filters: Sequence[Filter], limit: int) -> Generator[None, None, dict[str, Any]]:
        """Return rows (at most *limit*) and how many there are; yields between pieces of the work."""
        client = self._client
        with client.lock:
            pending = list(client.tasks.pending.values())
        needed = {id(ref) for task in pending for ref in task.dependencies or ()}
        viewed = client.arena.viewed()
        yield
        refs = [ref for ref in gc.get_objects() if isinstance(ref, ObjectRef) and ref._client is client]
        captured = Counter(id(ref) for outer in refs for ref in _nested(outer))
        names = self._names()
        with client.lock:
            lent = set(client.objects.lent_ids())
        rows: list[dict[str, Any]] = []
        total = 0
        for at in range(len(refs)):
            if not (at + 1) % _AT_ONCE:
                yield
            if not filters and len(rows) >= limit:
                total += len(refs) - at
                break
            ref = refs[at]
            is_lent = ref._id in lent
            row = self._row(ref, is_lent=is_lent) | {
                "reference_type": self._kind(refs, at, needed, viewed, captured, is_lent=is_lent),
                "holder": names.get(id(ref)) or self._process(),
            }
            if matches(row, filters):
                total += 1
                if len(rows) < limit:
                    rows.append(row)
        return {"rows": rows, "total": total, "counts": {}}

    def _kind(
        self,
        refs: list[ObjectRef[Any]],
        at: int,
        needed: set[int],
        viewed: set[int],
        captured: Mapping[int, int],
        *,
        is_lent: bool,
    ) -> str:
        """Return Ray's name for why the object of a reference is kept here."""
        key = id(refs[at])
        if refs[at]._id in self._client.objects.actor_of:
            return "ACTOR_HANDLE"
        if key in needed:
            return "USED_BY_PENDING_TASK"
        if key in viewed or self._client.objects.copies.is_in_use(refs[at]):
            return "PINNED_IN_MEMORY"
        # the caller's variable is one more than those of the measured one
        others = sys.getrefcount(refs[at]) - _BASE - 1 - captured.get(key, 0) - is_lent
        if captured.get(key) and others <= 0:
            return "CAPTURED_IN_OBJECT"
        return "LOCAL_REFERENCE"

    def _row(self, ref: ObjectRef[Any], *, is_lent: bool) -> dict[str, Any]:
        client = self._client
        made = self._made(ref)
        return {
            "object_id": ref._id.hex(),
            "object_size": _size(ref),
            "task_status": "PENDING" if ref._state == PENDING else "FINISHED",
            "attempt_number": 0,
            "call_site": "disabled" if made is None else call_site(made),
            "type": "DRIVER" if client.worker is None else "WORKER",
            "pid": client.pid,
            "ip": "127.0.0.1",
            "is_owner": ref._owner is None,
            #: what Ray has no columns for
            "job_id": client.job_id.hex(),
            "made": None if made is None else tuple(made),
            "is_lent": is_lent,
            "is_spilled": ref._state == STORED and ref._data.segment < 0,
        }

    def _made(self, ref: ObjectRef[Any]) -> Made | None:
        made = self._client.objects.made.get(ref._id)
        if made is None and ref._state == PENDING and ref._owner is None and ref._data is not None:
            task = ref._data
            made = Made(task.name, task.template.wire.cell, task.site)
        return made

    # -- who holds --------------------------------------------------------------------------------

    def _process(self) -> str:
        """Return what this process is to those who look for a holder."""
        worker = self._client.worker
        if worker is None:
            return "a driver"
        if worker.actor is not None:
            spec = worker.actor.spec
            return f"actor {spec.class_name}" + (f" {spec.name!r}" if spec.name else "")
        task = worker.executor.current
        return "a worker" if task is None else f"task {task.name}"

    def _names(self) -> dict[int, str]:
        """Return by which attribute an actor holds references, by their identity."""
        worker = self._client.worker
        if worker is None or worker.actor is None:
            return {}
        process = self._process()
        attributes = getattr(worker.actor.instance, "__dict__", None)
        found: dict[int, str] = {}
        for name, value in list(attributes.items()) if isinstance(attributes, dict) else ():
            for ref in refs_in(value):
                found.setdefault(id(ref), f"{process}, attribute `{name}`")
        return found


def refs_in(value: Any) -> Iterator[ObjectRef[Any]]:
    """Yield the references that a value is, or holds as a container of them."""
    if isinstance(value, ObjectRef):
        yield value
    elif type(value) in (list, tuple, set, frozenset):
        yield from _only_refs(list(value)[:_MOST_ITEMS])
    elif type(value) is dict:
        yield from _only_refs([item for pair in list(value.items())[:_MOST_ITEMS] for item in pair])


def _only_refs(items: Iterable[Any]) -> Iterator[ObjectRef[Any]]:
    return (item for item in items if isinstance(item, ObjectRef))


def call_site(made: Made) -> str:
    """Return what made an object, in which cell and where, as the state API has it."""
    parts = [made.what]
    if made.cell:
        parts.append(f"In[{made.cell}]")
    if made.site is not None:
        parts.append(f"{made.site.file}:{made.site.line}")
    return ", ".join(parts)


def _nested(ref: ObjectRef[Any]) -> Iterable[ObjectRef[Any]]:
    nested = ref._nested
    return nested if isinstance(nested, list) else ()


def _size(ref: ObjectRef[Any]) -> int:
    """Return the bytes of a value; -1: not known."""
    if ref._state == STORED:
        size: int = ref._data.size
        return size
    if ref._state in {INLINE, ERROR} and isinstance(ref._data, bytes):
        return len(ref._data)
    if ref._state == ATOM:
        return len(ref._data) if isinstance(ref._data, str | bytes) else 0
    return -1


def _base() -> int:
    """Return what `sys.getrefcount` says of an item that only a list holds."""
    items = [object()]
    return sys.getrefcount(items[0])


_BASE = _base()
