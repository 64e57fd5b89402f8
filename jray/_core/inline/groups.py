"""Owns the placement groups of the inline engine: bundles of this process's one node."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jray._core.client.groups import group_spec
from jray._core.engine import GroupPlan
from jray._core.head.groups import GroupNameTaken, GroupTable
from jray._core.inline.calls import running
from jray._core.machine.groups import CREATED, GROUP_REMOVED, REMOVED, Group
from jray._core.rows import group_state, group_table_entry
from jray._core.specs import ExitCause, GroupSpec
from jray.exceptions import RaySystemError

if TYPE_CHECKING:
    from jray._core.inline.core import InlineClient


class InlineGroups:
    """See `jray._core.engine.Groups`.  The client's lock guards it."""

    def __init__(self, client: InlineClient, is_gone: Callable[[bytes], bool]) -> None:
        self._client = client
        self._table = GroupTable(lambda _, __: None, self, is_gone)
        self._groups: dict[bytes, Group] = {}

    # -- what the public API asks --------------------------------------------------------------------

    def create(self, plan: GroupPlan) -> bytes:
        client = self._client
        call = running.get()
        actor = None if call is None or call.life is None else call.life.actor
        keeper = actor.actor_id if actor is not None and actor.spec.is_detached else b""
        spec = group_spec(plan, client.job_id, client.namespace, keeper)
        with client.operation():
            try:
                with client.lock:
                    self._table.create(spec, client.number)
            except GroupNameTaken as error:
                raise RaySystemError(str(error)) from None
        return spec.group_id

    def remove(self, group_id: bytes) -> None:
        client = self._client
        with client.operation():
            with client.lock:
                self._table.remove(group_id)
            self.end_what_runs_in_none()

    def wait(self, group_id: bytes, timeout_s: float | None) -> bool:
        with self._client.operation():
            self._client.turns.wait(
                lambda: self._state(group_id) in {CREATED, REMOVED},
                timeout_s,
                lambda: f"A placement group can't be waited for: {self.group_reason(group_id)}.",
            )
        return self._state(group_id) == CREATED

    def _state(self, group_id: bytes) -> str:
        group = self._groups.get(group_id)
        return REMOVED if group is None else group.state

    def find(self, name: str) -> bytes | None:
        return self._table.find(self._client.namespace, name)

    def table(self, group_id: bytes | None) -> dict[str, Any]:
        with self._client.lock:
            if group_id is None:
                return {row["placement_group_id"]: group_table_entry(row) for row in self._table.rows()}
            row = self._table.row(group_id)
            return {} if row is None else group_table_entry(row)

    def bundles(self, group_id: bytes) -> list[dict[str, float]]:
        return list(self.table(group_id).get("bundles", {}).values())

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the state API."""
        with self._client.lock:
            return list(map(group_state, self._table.rows()))

    # -- what the table asks, with the lock held ---------------------------------------------------------

    def create_group(self, spec: GroupSpec) -> None:
        self._groups[spec.group_id] = Group.of(spec)
        self._client.turns.accounts.bundles[spec.group_id] = {}
        self.place_locked()

    def remove_group(self, group_id: bytes) -> None:
        group = self._groups.pop(group_id, None)
        if group is not None:
            del self._client.turns.accounts.bundles[group_id]
            group.give_back()
            self._table.moved(group_id, REMOVED)
            self._client.turns.may_start()

    def nodes_of_group(self, group_id: bytes) -> dict[int, bytes]:
        bundles = self._client.turns.accounts.bundles.get(group_id, {})
        return {i: account.node_id for i, account in bundles.items()}

    def group_reason(self, group_id: bytes) -> str:
        return self._groups[group_id].waiting_reason(list(self._client.turns.accounts.nodes.values()))

    # -- what the engine asks ----------------------------------------------------------------------------

    def place_locked(self) -> None:
        """Place the groups that wait and fit."""
        accounts = self._client.turns.accounts
        for group in self._groups.values():
            if group.state == CREATED:
                continue
            placed = group.place(accounts.nodes.values())
            if placed is not None:
                accounts.bundles[group.group_id].update(placed)
                self._table.moved(group.group_id, CREATED)
                self._client.turns.may_start()

    def owner_gone(self, owner: bytes) -> None:
        """An actor died for good: the groups that it kept go too."""
        with self._client.lock:
            self._table.owner_gone(owner)
        self.end_what_runs_in_none()

    def end_what_runs_in_none(self) -> None:
        """End the actors of groups that are gone, and fail what waits for these; tasks that run come to their end."""
        client = self._client
        for job in client.turns.jobs():
            if job.where.group and job.where.group not in self._groups and client.turns.withdraw(job):
                job.refuse(GROUP_REMOVED)
        for life in client.lives.current():
            group_id = life.actor.spec.where.group
            if group_id and group_id not in self._groups:
                client.lives.end(life, ExitCause(os.getpid(), None, signal.SIGKILL, "", GROUP_REMOVED))
