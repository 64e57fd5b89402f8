"""Owns the table of placement groups: their names and states, who keeps them, and who waits for them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Protocol

from jray._core.machine.groups import CREATED, PENDING, REMOVED, RESCHEDULING
from jray._core.rows import group_row
from jray._core.specs import GroupSpec
from jray._core.wire import messages

#: of groups that were removed so many are remembered, the latest
_REMEMBERED = 1000


class GroupNameTaken(Exception):  # noqa: N818 -- its text becomes a RaySystemError where the user is
    """A placement group of that name is there in that namespace."""


class Reservations(Protocol):
    """What this asks of the scheduler, which answers with `GroupTable.moved`."""

    def create_group(self, spec: GroupSpec) -> None: ...
    def remove_group(self, group_id: bytes) -> None: ...
    def nodes_of_group(self, group_id: bytes) -> dict[int, bytes]: ...
    def group_reason(self, group_id: bytes) -> str: ...


@dataclasses.dataclass(slots=True)
class _Record:
    spec: GroupSpec
    created_s: float
    state: str = PENDING
    placed_s: float | None = None
    #: (client, request) of those who wait until it is placed
    waiting: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    @property
    def owner(self) -> bytes:
        """Return the job or actor with whose end the group goes; empty: with nobody's."""
        return b"" if self.spec.is_detached else self.spec.keeper or self.spec.job


class GroupTable:
    """The cluster's placement groups.  `is_gone(job or actor)` tells of who might keep one."""

    def __init__(
        self,
        send: Callable[[int, tuple[Any, ...]], None],
        reservations: Reservations,
        is_gone: Callable[[bytes], bool],
    ) -> None:
        self._send = send
        self._reservations = reservations
        self._is_gone = is_gone
        #: those that were removed, too
        self._records: dict[bytes, _Record] = {}
        self._names: dict[tuple[str, str], bytes] = {}
        #: groups by the job or actor that keeps them
        self._owned: dict[bytes, set[bytes]] = {}
        self._removed: dict[bytes, None] = {}

    # -- events -----------------------------------------------------------------------------------

    def create(self, spec: GroupSpec, client: int) -> None:  # noqa: ARG002 -- who asks is in the spec
        """A group is wanted.  Raises GroupNameTaken."""
        key = (spec.namespace, spec.name)
        if spec.name:
            if key in self._names:
                raise GroupNameTaken(
                    f"Failed to create placement group '{spec.group_id.hex()}' because name '{spec.name}' already exists."
                )
            self._names[key] = spec.group_id
        record = self._records[spec.group_id] = _Record(spec, time.time())
        if record.owner:
            self._owned.setdefault(record.owner, set()).add(spec.group_id)
        self._reservations.create_group(spec)
        if record.owner and self._is_gone(record.owner):
            self.remove(spec.group_id)

    def remove(self, group_id: bytes) -> None:
        """Nobody wants the group any more; nothing happens if it is removed already."""
        self._reservations.remove_group(group_id)

    def wait(self, client: int, request: int, group_id: bytes) -> None:
        """Tell the client when the group is placed, or removed."""
        record = self._records.get(group_id)
        if record is None or record.state in {CREATED, REMOVED}:
            self._answer(client, request, is_placed=record is not None and record.state == CREATED)
        else:
            record.waiting.append((client, request))

    def moved(self, group_id: bytes, state: str) -> None:
        """The scheduler tells of a new state."""
        record = self._records[group_id]
        record.state = state
        if state == CREATED and record.placed_s is None:
            record.placed_s = time.time()
        if state == REMOVED:
            self._forget(record)
        if state in {CREATED, REMOVED}:
            waiting, record.waiting = record.waiting, []
            for client, request in waiting:
                self._answer(client, request, is_placed=state == CREATED)

    def owner_gone(self, owner: bytes) -> None:
        """A job ended or an actor died: the groups that it kept go too."""
        for group_id in list(self._owned.get(owner, ())):
            self.remove(group_id)

    def client_gone(self, client: int) -> None:
        for record in self._records.values():
            if record.waiting:
                record.waiting = [entry for entry in record.waiting if entry[0] != client]

    def _forget(self, record: _Record) -> None:
        spec = record.spec
        if spec.name:
            del self._names[spec.namespace, spec.name]
        if record.owner:
            owned = self._owned[record.owner]
            owned.remove(spec.group_id)
            if not owned:
                del self._owned[record.owner]
        self._removed[spec.group_id] = None
        if len(self._removed) > _REMEMBERED:
            oldest = next(iter(self._removed))
            del self._removed[oldest], self._records[oldest]

    def _answer(self, client: int, request: int, *, is_placed: bool) -> None:
        self._send(client, (messages.REPLY, request, False, is_placed))

    # -- questions --------------------------------------------------------------------------------

    def find(self, namespace: str, name: str) -> bytes | None:
        return self._names.get((namespace, name))

    def row(self, group_id: bytes) -> dict[str, Any] | None:
        """Return what there is to tell of a group, by Ray's keys; None: nothing is known of it."""
        record = self._records.get(group_id)
        return None if record is None else self._row(record)

    def rows(self) -> list[dict[str, Any]]:
        return [self._row(record) for record in self._records.values()]

    def _row(self, record: _Record) -> dict[str, Any]:
        spec = record.spec
        is_waiting = record.state in {PENDING, RESCHEDULING}
        return group_row(
            spec,
            record.state,
            self._reservations.nodes_of_group(spec.group_id),
            reason=self._reservations.group_reason(spec.group_id) if is_waiting else "",
            took_s=0.0 if record.placed_s is None else record.placed_s - record.created_s,
        )
