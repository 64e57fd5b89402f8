"""Owns the cluster's tables and drives the actors' machine.  It knows workers only by the seam `Nodes`."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any, Protocol

from jray._core.environments import as_dict, uris_of
from jray._core.head.groups import GroupTable
from jray._core.head.packages import Packages
from jray._core.machine import actors as machine
from jray._core.rows import actor_row
from jray._core.specs import ActorSpec, ExitCause, GroupSpec
from jray._core.wire import messages

#: of jobs that have ended so many are remembered
REMEMBERED_JOBS = 1000


class Nodes(Protocol):
    """What the head asks of the nodes."""

    def place_actor(self, spec: ActorSpec, client: int) -> None: ...
    def unplace_actor(self, actor_id: bytes) -> None: ...
    def end_worker(self, worker_id: bytes, *, force: bool, reason: str) -> None: ...
    def create_group(self, spec: GroupSpec) -> None: ...
    def remove_group(self, group_id: bytes) -> None: ...
    def nodes_of_group(self, group_id: bytes) -> dict[int, bytes]: ...
    def group_reason(self, group_id: bytes) -> str: ...


@dataclasses.dataclass(slots=True)
class Job:
    job_id: bytes
    client: int
    namespace: str
    facts: dict[str, Any]  #: cwd, sys_path, entrypoint, pid ... as its driver told
    started_s: float
    ended_s: float | None = None


class HeadService:
    """Jobs, actors and names of one cluster.  `send(client, message)` reaches a client if it still lives."""

    def __init__(self, send: Callable[[int, tuple[Any, ...]], None], nodes: Nodes) -> None:
        self._send = send
        self._nodes = nodes
        self.jobs: dict[bytes, Job] = {}
        self.actors = machine.Actors()
        self.groups = GroupTable(send, nodes, self._is_gone)
        self.packages = Packages()
        self._kv: dict[tuple[str, bytes], bytes] = {}
        self._job_number = 0

    # -- jobs -------------------------------------------------------------------------------------

    def start_job(self, client: int, facts: dict[str, Any]) -> Job:
        """Admit a driver: it gets a job id, and a namespace of its own unless it named one."""
        self._job_number += 1
        namespace = facts.get("namespace") or _anonymous_namespace()
        job = Job(self._job_number.to_bytes(4, "little"), client, namespace, facts, time.time())
        self.jobs[job.job_id] = job
        return job

    def end_job(self, job_id: bytes) -> None:
        job = self.jobs.get(job_id)
        if job is not None and job.ended_s is None:
            job.ended_s = time.time()
            self._perform(self.actors.job_gone(job_id))
            self.groups.owner_gone(job_id)
            self._drop_packages(job_id)
            self._forget_jobs()

    def _drop_packages(self, job_id: bytes) -> None:
        """Drop the packages that only that job needed: detached actors of it may still be started again."""
        if not self.packages.uris():
            return
        living = [record.spec for record in self.actors.records.values() if record.state != machine.DEAD]
        needed = {uri for spec in living for uri in uris_of(spec.runtime_env)}
        self.packages.job_gone(job_id, needed)

    def _forget_jobs(self) -> None:
        """Of jobs that have ended keep the latest, and those whose detached actors live: a head that stays sees many."""
        ended = [job_id for job_id, job in self.jobs.items() if job.ended_s is not None]
        if len(ended) > REMEMBERED_JOBS:
            needed = {
                record.spec.job for record in self.actors.records.values() if record.state != machine.DEAD
            }
            for job_id in ended[:-REMEMBERED_JOBS]:
                if job_id not in needed:
                    del self.jobs[job_id]

    def _is_gone(self, owner: bytes) -> bool:
        """Tell whether that job has ended, or that actor is dead."""
        job, actor = self.jobs.get(owner), self.actors.records.get(owner)
        return (job is None or job.ended_s is not None) and (actor is None or actor.state == machine.DEAD)

    # -- actors -----------------------------------------------------------------------------------

    def announce_actor(self, client: int, spec: ActorSpec) -> None:
        self._perform(self.actors.announce(spec, client))

    def create_actor(self, client: int, spec: ActorSpec) -> None:
        self._perform(self.actors.create(spec, client))

    def kill_actor(self, actor_id: bytes, *, no_restart: bool, reason: str) -> None:
        self._perform(self.actors.kill(actor_id, no_restart=no_restart, reason=reason))

    def actor_released(self, actor_id: bytes) -> None:
        self._perform(self.actors.released(actor_id))

    def actor_placed(self, actor_id: bytes, worker_id: bytes, node_id: bytes) -> bool:
        """Return whether the actor is still wanted there."""
        actions = self.actors.placed(actor_id, worker_id, node_id)
        self._perform(actions)
        return not actions

    def actor_made(self, actor_id: bytes, *, address: str, pid: int, repr_name: str) -> None:
        self._perform(self.actors.made(actor_id, address=address, pid=pid, repr_name=repr_name))

    def actor_init_failed(self, actor_id: bytes, error: bytes) -> None:
        self._perform(self.actors.init_failed(actor_id, error))

    def actor_exiting(self, actor_id: bytes, reason: str) -> None:
        self._perform(self.actors.exiting(actor_id, reason))

    def actor_worker_died(self, actor_id: bytes, cause: ExitCause) -> None:
        self._perform(self.actors.worker_died(actor_id, cause))

    def actor_refused(self, actor_id: bytes, reason: str) -> None:
        self._perform(self.actors.refused(actor_id, reason))

    def group_moved(self, group_id: bytes, state: str) -> None:
        self.groups.moved(group_id, state)

    def client_gone(self, client: int) -> None:
        self._perform(self.actors.client_gone(client))
        self.groups.client_gone(client)

    def subscribe(self, client: int, actor_id: bytes) -> machine.ActorView | None:
        return self.actors.subscribe(actor_id, client)

    def _perform(self, actions: list[machine.Action]) -> None:
        for action in actions:
            record = self.actors.records.get(getattr(action, "actor_id", b""))
            if isinstance(action, machine.Place) and record is not None:
                self._nodes.place_actor(record.spec, record.client)
            elif isinstance(action, machine.Unplace):
                self._nodes.unplace_actor(action.actor_id)
                self.groups.owner_gone(action.actor_id)
                self._drop_packages(b"")
            elif isinstance(action, machine.EndActorWorker):
                self._nodes.end_worker(action.worker_id, force=action.force, reason=action.reason)
            elif isinstance(action, machine.Publish) and record is not None:
                message = (messages.ACTOR_STATE, record.view())
                for client in list(record.subscribers):
                    self._send(client, message)

    # -- questions (messages.ASK) --------------------------------------------------------------------

    def answer(self, client: int, question: str, arguments: tuple[Any, ...]) -> Any:
        """Answer a client's question; raises KeyError for one that the head does not know."""
        answers: dict[str, Callable[..., Any]] = {
            "reserve_name": lambda space, name, actor_id: self.actors.reserve(space, name, actor_id, client),
            "unreserve_name": self.actors.unreserve,
            "find_actor": lambda namespace, name: self._find_actor(client, namespace, name),
            "actor_names": self._actor_names,
            "actors": self._actor_rows,
            "jobs": self._job_rows,
            "create_group": lambda spec: self.groups.create(spec, client),
            "find_group": self.groups.find,
            "group": self.groups.row,
            "groups": self.groups.rows,
            "has_package": self.packages.has,
            "put_package": self.packages.put,
            "seal_package": self.packages.seal,
            "kv_put": self._kv_put,
            "kv_get": lambda space, key: self._kv.get((space, key)),
            "kv_delete": lambda space, key: self._kv.pop((space, key), None) is not None,
            "kv_keys": lambda space, prefix: [k for s, k in self._kv if s == space and k.startswith(prefix)],
        }
        return answers[question](*arguments)

    def _find_actor(self, client: int, namespace: str, name: str) -> machine.ActorView | bytes | None:
        """Return the actor's view; only its id while its creation is on its way; None if there is none."""
        actor_id = self.actors.lookup(namespace, name)
        return None if actor_id is None else self.actors.subscribe(actor_id, client) or actor_id

    def _actor_names(self, namespace: str | None) -> list[tuple[str, str]]:
        """Return (namespace, name) of the living named actors, of one namespace or of all."""
        return [pair for pair in self.actors.names() if namespace is None or pair[0] == namespace]

    def _actor_rows(self) -> list[dict[str, Any]]:
        """Return a row for each actor there ever was, with Ray's keys."""
        return [actor_row(record) for record in self.actors.records.values()]

    def _job_rows(self) -> list[dict[str, Any]]:
        """Return a row for each job that runs, and for the latest that have ended, with Ray's keys."""
        return [
            {
                "job_id": job.job_id.hex(),
                "submission_id": None,
                "entrypoint": job.facts.get("entrypoint", ""),
                "type": "DRIVER",
                "status": "RUNNING" if job.ended_s is None else "SUCCEEDED",
                "message": None,
                "error_type": None,
                "driver_info": {
                    "id": job.job_id.hex(),
                    "node_ip_address": "127.0.0.1",
                    "pid": job.facts.get("pid"),
                },
                "start_time": int(job.started_s * 1000),
                "end_time": None if job.ended_s is None else int(job.ended_s * 1000),
                "namespace": job.namespace,
                "metadata": dict(job.facts.get("metadata", {})),
                "runtime_env": as_dict(job.facts.get("runtime_env", ())),
            }
            for job in self.jobs.values()
        ]

    def _kv_put(self, space: str, key: bytes, value: bytes, overwrite: bool) -> bool:
        """Store *value*; return whether the key was new."""
        is_new = (space, key) not in self._kv
        if is_new or overwrite:
            self._kv[space, key] = value
        return is_new


def _anonymous_namespace() -> str:
    """Return a name that no other job has, shaped like a version 4 UUID as in Ray."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
