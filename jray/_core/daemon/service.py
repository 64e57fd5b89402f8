"""Owns the loop of a head process: accepts clients, and hands each message to the head or to the node."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from jray._core.config import Config
from jray._core.head.service import HeadService
from jray._core.machine.actors import NameTaken
from jray._core.machine.gathering import Gathering, Gatherings
from jray._core.node.pool import WorkerPool, ZygoteProcess
from jray._core.node.service import LocalWorker, NodeService
from jray._core.node.spilling import SpillService
from jray._core.node.strays import adopt_orphans, end_children
from jray._core.resources import NodeResources, ResourceSet
from jray._core.specs import ActorSpec, ExitCause
from jray._core.store.arena import Store
from jray._core.store.spill import SpillFiles
from jray._core.store.sweep import claim, sweep
from jray._core.wire import messages
from jray._core.wire.connection import Connection, Listener, Message, Reactor

_TICK_S = 0.5
_GRACE_S = 5.0
#: where a zygote finds its socket
ZYGOTE_FD = 3


@dataclasses.dataclass(frozen=True, slots=True)
class ClientFacts:
    """A driver or a worker, living or ended."""

    number: int
    kind: str  #: "driver" or "worker"
    address: str
    pid: int
    job_id: bytes
    worker_id: bytes | None


@dataclasses.dataclass(frozen=True, slots=True)
class ClientRecord(ClientFacts):
    """A driver or a worker that is connected."""

    connection: Connection


def _without_connection(client: ClientRecord) -> ClientFacts:
    """Return what is remembered of a client that has ended."""
    return ClientFacts(
        client.number, client.kind, client.address, client.pid, client.job_id, client.worker_id
    )


class Daemon:
    """Head and node of one machine in one process."""

    def __init__(self, settings: dict[str, Any], zygote: ZygoteProcess) -> None:
        self._settings = settings
        self._config = Config.from_environ()
        self._session_dir: str = settings["session_dir"]
        self._reactor = Reactor()
        self._clients: dict[int, ClientRecord] = {}
        #: the latest that left
        self._ended: deque[ClientFacts] = deque(maxlen=1000)
        self._number = 0
        self._gatherings = Gatherings()
        self._is_stopping = False
        self.node_id = os.urandom(28)
        total = ResourceSet(settings["resources"])
        cpus = max(1, total.get("CPU") // 10_000)
        pool = WorkerPool(
            zygote,
            lambda: _spawn_zygote(eager=settings["eager_zygote"]),
            self._reactor,
            self._workers_exited,
            self._fail,
        )
        self._store = Store(
            settings["store_dir"],
            capacity_bytes=settings["store_bytes"],
            segment_bytes=self._config.segment_bytes,
        )
        self._pool = pool
        self.node = NodeService(
            config=self._config,
            node_id=self.node_id,
            resources=NodeResources(total, settings["gpu_ids"]),
            labels={**settings["labels"], "ray.io/node-id": self.node_id.hex()},
            pool=pool,
            store=self._store,
            spilling=SpillService(
                config=self._config,
                store=self._store,
                files=SpillFiles(settings["spill_dir"]),
                clients=lambda: list(self._clients),
                send=self._send,
                wake=self._reactor.wake,
            ),
            session_dir=self._session_dir,
            send=self._send,
            job_facts=self._job_facts,
            fail=self._fail,
            max_starting=max(4, cpus),
            soft_limit=cpus,
        )
        self.head = HeadService(self._send, self.node)
        self.node.cluster = self.head
        self._handlers: dict[int, Callable[[Any, Message], object]] = {
            messages.REGISTER: self._register,
            messages.LEASE: self._lease,
            messages.RETURN: lambda _, m: self.node.returned(m[1], retire=m[2]),
            messages.CREATE: lambda c, m: self.node.spilling.create(c.number, m[1], m[2], m[3]),
            messages.SPILL_OFFER: lambda c, m: self.node.spilling.offered(c.number, m[1], m[2]),
            messages.SPILL_MOVED: lambda c, m: self.node.spilling.moved(c.number, m[1], m[2]),
            messages.SEAL: lambda c, m: self.node.seal(m[1], m[2], c.number),
            messages.ABORT: lambda c, m: self.node.abort(m[1], c.number),
            messages.FREE: lambda _, m: self.node.free(m[1]),
            messages.HOLDS: lambda c, m: self.node.free(self.node.orphans.answered(c.number, m[1], m[2])),
            messages.DROPPED: lambda c, m: self.node.free(self.node.orphans.dropped(c.number, m[1])),
            messages.BLOCKED: lambda c, _: self.node.blocked(c.worker_id or b""),
            messages.UNBLOCKED: lambda c, _: self.node.unblocked(c.worker_id or b""),
            messages.ANNOUNCE_ACTOR: lambda c, m: self._enter_actor(self.head.announce_actor, c, m[1]),
            messages.CREATE_ACTOR: lambda c, m: self._enter_actor(self.head.create_actor, c, m[1]),
            messages.ACTOR_INFO: lambda c, m: self._reply(c, m[1], self.head.subscribe(c.number, m[2])),
            messages.KILL_ACTOR: lambda _, m: self.head.kill_actor(m[1], no_restart=m[2], reason=m[3]),
            messages.ACTOR_RELEASED: lambda _, m: self.head.actor_released(m[1]),
            messages.ACTOR_READY: self._actor_ready,
            messages.ACTOR_FAILED: lambda _, m: self.head.actor_init_failed(m[1], m[2]),
            messages.ACTOR_EXITING: lambda _, m: self.head.actor_exiting(m[1], m[2]),
            messages.CREATE_GROUP: lambda c, m: self.head.groups.create(m[1], c.number),
            messages.REMOVE_GROUP: lambda _, m: self.head.groups.remove(m[1]),
            messages.WAIT_GROUP: lambda c, m: self.head.groups.wait(c.number, m[1], m[2]),
            messages.ASK: self._ask,
            messages.TOLD: self._told,
            messages.WHY_DIED: lambda c, m: self.node.why_died(c.number, m[1], m[2]),
            messages.JOB_OUTPUT: self._job_output,
            messages.EXIT_JOB: lambda c, _: self._job_left(c),
            messages.EXIT: lambda c, _: self.node.kept(c.worker_id or b""),
        }

    # -- the loop ---------------------------------------------------------------------------------

    def run(self, owner: socket.socket | None) -> None:
        """Serve until stopped: by SIGTERM, or by the end of the driver that owns this head."""
        signal.signal(signal.SIGTERM, self._stop_signal)
        listener = Listener(self._settings["address"], self._reactor, self._accept)
        if owner is not None:
            self._accept(owner, is_owner=True)
        self._write_card()
        directories = (
            self._session_dir, self._settings["card_dir"], self._store.directory, self._settings["spill_dir"]
        )  # fmt: skip
        for base in {os.path.dirname(directory) for directory in directories}:
            sweep(base)  # what was left by heads that could not clean up
        next_tick = time.monotonic() + _TICK_S
        try:
            while not self._is_stopping:
                # with nobody to end there is nothing to wake up for
                idle = not self.node.leases.workers
                deadline = self._gatherings.next_deadline_s()
                self.node.memory.needed(self.node.leases.is_in_use)
                moments = (
                    None if idle else next_tick, deadline, self.node.spilling.next_deadline_s(),
                    self.node.memory.next_deadline_s(),
                )  # fmt: skip
                until = min((at for at in moments if at is not None), default=None)
                self._reactor.poll(None if until is None else max(0.0, until - time.monotonic()))
                if deadline is not None:
                    for gathering in self._gatherings.overdue(time.monotonic()):
                        self._gathered(gathering)
                self.node.spilling.advance()
                self.node.memory.advance()
                if time.monotonic() >= next_tick:
                    next_tick = time.monotonic() + _TICK_S
                    self.node.tick()
        finally:
            listener.close()
            self._pool.close()
            self.node.spilling.close()

    def _stop_signal(self, *_: object) -> None:
        self._is_stopping = True
        self._reactor.wake()

    def _accept(self, sock: socket.socket, *, is_owner: bool = False) -> None:
        connection = Connection(sock, self._reactor, self._handle, self._closed)
        connection.peer = None
        if is_owner:
            connection.known.add("owner")

    def _handle(self, connection: Connection, message: Message) -> None:
        client = connection.peer
        try:
            kind = message[0]
            if client is None and kind != messages.REGISTER:
                connection.close()  # a stranger, who must say first who it is
                return
            self._handlers[kind](connection if client is None else client, message)
        except Exception:  # noqa: BLE001 -- one bad message must not end everybody's cluster
            traceback.print_exc()
            sys.stderr.flush()
            if connection.peer is None:
                connection.close()

    def _closed(self, connection: Connection) -> None:
        client: ClientRecord | None = connection.peer
        if client is not None:
            if self._clients.pop(client.number, None) is not None:
                self._ended.append(_without_connection(client))
            for gathering in self._gatherings.client_gone(client.number):
                self._gathered(gathering)
            others = [other for other in self._clients.values() if other.job_id == client.job_id]
            self.node.client_gone(client.number, [other.number for other in others])
            self.head.client_gone(client.number)
            for other in others:
                other.connection.send((messages.CLIENT_GONE, client.address, client.number))
            if client.kind == "driver":
                self._job_left(client)
            elif client.worker_id is not None:
                self._pool.disconnected(client.worker_id)
        if "owner" in connection.known:
            self._is_stopping = True

    def _job_left(self, client: ClientRecord) -> None:
        self.head.end_job(client.job_id)
        self.node.job_gone(client.job_id)

    # -- messages ---------------------------------------------------------------------------------

    def _register(self, connection: Any, message: Message) -> None:
        _, request, kind, pid, address, facts = message
        self._number += 1
        if kind == "driver":
            job = self.head.start_job(self._number, facts)
            job_id, namespace = job.job_id, job.namespace
        else:
            job_id, namespace = facts["job_id"], facts["namespace"]
        client = ClientRecord(self._number, kind, address, pid, job_id, facts.get("worker_id"), connection)
        connection.peer = client
        self._clients[client.number] = client
        welcome = {
            "client": client.number,
            "job_id": job_id,
            "namespace": namespace,
            "node_id": self.node_id,
            "session_dir": self._session_dir,
            "store_dir": self._store.directory,
            "spill_dir": self._settings["spill_dir"],
            "node_pid": os.getpid(),
        }
        self._reply(client, request, welcome)
        if client.worker_id is not None:
            self.node.worker_registered(client.worker_id, LocalWorker(client.number, address, pid))
        elif kind == "driver":
            cpus = ResourceSet(self._settings["resources"]).get("CPU") // 10_000
            self.node.prestart(job_id, min(cpus, os.cpu_count() or 1))

    def _lease(self, client: ClientRecord, message: Message) -> None:
        _, class_number, units, wanted, runtime_env, *details = message
        self.node.lease(client.number, class_number, units, wanted, (client.job_id, runtime_env), *details)

    def _enter_actor(
        self, enter: Callable[[int, ActorSpec], None], client: ClientRecord, spec: ActorSpec
    ) -> None:
        try:
            enter(client.number, spec)
        except NameTaken:  # the client reserved it first, so that this says something about another client
            self._send(client.number, (messages.NOTICE, spec.cell, f"actor name {spec.name!r} is taken"))

    def _actor_ready(self, client: ClientRecord, message: Message) -> None:
        self.node.actor_made(message[1])
        self.head.actor_made(message[1], address=client.address, pid=client.pid, repr_name=message[2])

    def _ask(self, client: ClientRecord, message: Message) -> None:
        _, request, question, arguments = message
        patience_s = self._config.report_timeout_s
        if question == "tell":
            self._gather(client, request, (messages.TELL, *arguments), patience_s)
            return
        if question == "tell_within":
            self._gather(client, request, (messages.TELL, *arguments[1:]), arguments[0])
            return
        if question == "cancel":
            self._gather(client, request, (messages.CANCEL_TASKS, *arguments), patience_s)
            return
        own: dict[str, Callable[..., Any]] = {
            "resources": self._resources,
            "node": self._node_row,
            "waiting": lambda: self.node.waiting_rows(client.job_id),
            "workers": self._worker_rows,
            "clients": self._client_rows,
            "store": self._store_row,
        }
        try:
            value = own[question](*arguments) if question in own else self.head.answer(
                client.number, question, arguments
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 -- it is the asker's to handle
            client.connection.send((messages.REPLY, request, True, f"{type(error).__name__}: {error}"))
        else:
            self._reply(client, request, value)

    def _gather(
        self, client: ClientRecord, request: int, question: tuple[Any, ...], timeout_s: float
    ) -> None:
        """Put a question to all drivers and workers; the answer comes once all have told, or time is over.

        A question is the kind of its message, and what that says besides its number.
        """
        deadline_s = time.monotonic() + timeout_s
        number = self._gatherings.begin(client.number, request, set(self._clients), deadline_s)
        for asked in list(self._clients.values()):
            asked.connection.send((question[0], number, *question[1:]))

    def _told(self, client: ClientRecord, message: Message) -> None:
        gathering = self._gatherings.answered(message[1], client.number, message[2])
        if gathering is not None:
            self._gathered(gathering)

    def _gathered(self, gathering: Gathering) -> None:
        asker = self._clients.get(gathering.asker)
        if asker is None:
            return
        silent = [self._clients[number].pid for number in gathering.waiting if number in self._clients]
        self._reply(asker, gathering.request, ([answer for _, answer in gathering.answers], silent))

    def _client_rows(self) -> list[dict[str, Any]]:
        """Return a row for each driver and worker, living or lately ended, with Ray's keys."""
        return [self._client_row(client) for client in (*self._clients.values(), *self._ended)]

    def _client_row(self, client: ClientFacts) -> dict[str, Any]:
        is_alive = client.number in self._clients
        cause = None if is_alive else self._pool.causes.get(client.worker_id or b"")
        return {
            "worker_id": (client.worker_id or client.job_id + b"\xff" * 24).hex(),
            "is_alive": is_alive,
            "worker_type": client.kind.upper(),
            "exit_type": None if cause is None else _exit_type(cause),
            "exit_detail": None if cause is None else cause.detail or cause.last_lines,
            "node_id": self.node_id.hex(),
            "ip": "127.0.0.1",
            "pid": client.pid,
            "job_id": client.job_id.hex(),
            "address": client.address,
        }

    def _resources(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return what there is of each resource, and what of it is free."""
        resources = self.node.resources
        store = self._store.ledger.statistics()
        total = {**resources.total.to_floats(), "object_store_memory": float(store.capacity)}
        free = {
            **resources.available.to_floats(),
            "object_store_memory": float(store.capacity - store.used),
        }
        return total, free

    def _store_row(self) -> dict[str, Any]:
        files = self.node.spilling.files
        return {
            **dataclasses.asdict(self._store.ledger.statistics()),
            "spilled_objects": len(files),
            "spilled_bytes": files.used,
            "spilled_bytes_ever": files.written,
            "spill_dir": files.directory,
        }

    def _node_row(self) -> dict[str, Any]:
        return {
            "node_id": self.node_id,
            "hostname": socket.gethostname(),
            "name": self._settings["node_name"],
            "labels": self._settings["labels"],
            "address": self._settings["address"],
            "pid": os.getpid(),
            "resources": self._resources()[0],
            "store_dir": self._store.directory,
        }

    def _worker_rows(self) -> list[dict[str, Any]]:
        return [
            {
                "worker_id": worker.worker_id, "state": worker.state, "actor_id": worker.actor_id,
                "pid": process.pid if (process := self._pool.processes.get(worker.worker_id)) else 0,
                "is_blocked": worker.is_blocked,
            }
            for worker in self.node.leases.workers.values()
        ]  # fmt: skip

    def _job_output(self, client: ClientRecord, message: Message) -> None:
        job = self.head.jobs.get(client.job_id)
        if job is not None:
            self._send(job.client, (messages.OUTPUT, *message[1:]))

    # -- seams ------------------------------------------------------------------------------------

    def _reply(self, client: ClientRecord, request: int, value: Any) -> None:
        client.connection.send((messages.REPLY, request, False, value))

    def _send(self, number: int, message: Message) -> None:
        client = self._clients.get(number)
        if client is not None:
            client.connection.send(message)

    def _job_facts(self, job_id: bytes) -> dict[str, Any]:
        job = self.head.jobs[job_id]
        return {**job.facts, "namespace": job.namespace}

    def _workers_exited(self, ended: list[tuple[bytes, ExitCause]]) -> None:
        if not self._is_stopping:
            self.node.workers_exited(ended)

    def _fail(self, text: str) -> None:
        """End this head, because it can do nothing any more, and tell the drivers why."""
        print(text, flush=True)  # noqa: T201 -- stdout is the head's log
        for client in list(self._clients.values()):
            if client.kind == "driver":
                client.connection.send((messages.NOTICE, 0, f"jray ends: {text}"))
                client.connection.drain(1.0)
        self._is_stopping = True

    # -- what others find on disk --------------------------------------------------------------------

    def _write_card(self) -> None:
        """Write head.json, by which other programs of this user find the head."""
        settings = self._settings
        card = {
            "session": os.path.basename(self._session_dir),
            "pid": os.getpid(),
            "start_time": _start_time(),
            "address": settings["address"],
            "num_cpus": ResourceSet(settings["resources"]).to_floats().get("CPU", 0),
            "owner_pid": settings["owner_pid"],
            "python": sys.executable,
            "created_s": time.time(),
        }
        path = f"{settings['card_dir']}/head.json"
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(card, file)
        os.replace(path + ".new", path)

    def close(self) -> None:
        """Remove everything this head has on disk and in shared memory."""
        self._store.close()
        self._reactor.close()


def _exit_type(cause: ExitCause) -> str:
    """Return Ray's name for the way a worker ended."""
    if cause.detail:
        return "INTENDED_SYSTEM_EXIT"
    return "INTENDED_USER_EXIT" if cause.exit_code == 0 else "SYSTEM_ERROR"


def run(settings: dict[str, Any], zygote_socket: socket.socket, zygote_pid: int, zygote_log: int) -> None:
    """Be the head until told to stop, then leave nothing behind."""
    adopt_orphans()
    _allow_many_files()
    directories = [settings["session_dir"], settings["store_dir"], settings["card_dir"]]
    try:
        holders = [claim(directory) for directory in dict.fromkeys(directories)]
    except OSError as error:
        raise SystemExit(
            f"The directory {error.filename} cannot be made: {error.strerror}. "
            "Set JRAY_RUNTIME_DIR to a directory that you can write."
        ) from error
    os.mkdir(f"{settings['session_dir']}/logs", 0o700)
    _log_to(f"{settings['session_dir']}/logs/head.log")
    owner_fd = settings["owner_fd"]
    owner = socket.socket(fileno=owner_fd) if owner_fd is not None else None
    try:
        daemon = Daemon(settings, ZygoteProcess(zygote_socket, zygote_pid, io.FileIO(zygote_log)))
        try:
            daemon.run(owner)
        finally:
            daemon.close()
    finally:
        end_children(_GRACE_S)
        for holder in reversed(holders):
            holder.remove()


def _spawn_zygote(*, eager: bool) -> ZygoteProcess:
    """Start a zygote in place of one that died: a new interpreter, for this one has sockets and locks open."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    log = os.memfd_create("jray-zygote-log", os.MFD_CLOEXEC)
    settings = {"is_zygote": True, "eager_zygote": eager, "keep_fd": ZYGOTE_FD, "sys_path": sys.path}
    pid = os.posix_spawn(
        sys.executable,
        [*sys.orig_argv[:-1], json.dumps(settings)],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), ZYGOTE_FD),
        ],
    )
    theirs.close()
    return ZygoteProcess(ours, pid, io.FileIO(log))


def _allow_many_files() -> None:
    """Raise this process's limit of open files: it has a connection to each worker."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _log_to(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _start_time() -> int:
    """Return when this process started, in the kernel's ticks: with the pid it names one process for ever."""
    with open("/proc/self/stat", "rb") as file:
        return int(file.read().rsplit(b")", 1)[1].split()[19])
