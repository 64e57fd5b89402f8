"""Owns what makes a process a client: its identity, its lock, its connections, and the parts that use them."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NoReturn, Protocol

from jray._core.client.actors import ActorSubmitter
from jray._core.client.cluster import ClusterView
from jray._core.client.environments import CallPackages
from jray._core.client.failures import FailedCalls
from jray._core.client.functions import CodeTable, ExportedCode, check_out_of_band
from jray._core.client.groups import GroupMaker
from jray._core.client.interrupts import Shields
from jray._core.client.leasing import Leasing
from jray._core.client.looks import Looks
from jray._core.client.node_link import GONE, NodeLink
from jray._core.client.objects import ObjectTable
from jray._core.client.outcomes import Outcomes
from jray._core.client.peers import Peer, Peers
from jray._core.client.pump import Pump, Waiter
from jray._core.client.readiness import is_ready, split, split_all
from jray._core.client.recovery import Recovery
from jray._core.client.reports import Reports
from jray._core.client.spilling import Spiller
from jray._core.client.tasks import TaskSubmitter
from jray._core.client.watch import Watching
from jray._core.config import Config
from jray._core.engine import FailedCall, Whereabouts
from jray._core.environments import Environment, as_dict
from jray._core.faults import Faults
from jray._core.frontend import Output, OutputKind, get_frontend, store_fills
from jray._core.ids import TaskIdSource
from jray._core.peek import Peek
from jray._core.refs import ATOM, ERROR, PENDING, ObjectRef, RefFacts, restore_ref
from jray._core.serialization import deserialize, serialize
from jray._core.specs import ActorSpec
from jray._core.store.arena import ArenaView
from jray._core.strategies import NOBODY, Caller
from jray._core.wire import messages
from jray._core.wire.connection import Connection, Listener, Message, Reactor
from jray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    RaySystemError,
)

#: a `get` of several refs waits this long for one before it looks at the others
_MOMENT_S = 0.02
#: of an error that nobody gets, so many characters are said
_LONGEST_ERROR = 4000


class Context(Protocol):
    """Which task the calling thread runs, if any."""

    def task_number(self) -> Any: ...
    def blocks(self) -> bool: ...
    def waiting(self) -> None: ...
    def resumed(self) -> None: ...


class DriverContext:
    """No task: the user's own program."""

    def task_number(self) -> Any:
        return None

    def blocks(self) -> bool:
        """Tell whether waiting must be told to the node."""
        return False

    def waiting(self) -> None:
        pass

    def resumed(self) -> None:
        pass


class CoreClient:
    """A driver's or a worker's part in a cluster: jray's own engine (see `jray._core.engine`)."""

    engine_name = "jray"

    def __init__(
        self,
        *,
        config: Config,
        address: str,
        node_socket: socket.socket,
        shields: Shields,
        reactor: Reactor,
        context: Context,
    ) -> None:
        self.config = config
        self.faults = Faults(config.fault)
        self.address = address
        self.context = context
        self.shields = shields
        self.reactor = reactor
        self.lock = threading.Lock()
        self.is_closing = False
        #: why nothing can be submitted any more
        self.loss: RaySystemError | None = None
        self.number = 0  #: as the node knows this client
        self.node_id = b""
        self.job_id = b""
        self.namespace = ""
        self.session_dir = ""
        self.facts: dict[str, Any] = {}
        #: the Worker, in a worker
        self.worker: Any = None
        #: what tasks and actors made here inherit
        self.runtime_env: Environment = ()
        #: what makes packages of what tasks and actors name in theirs
        self.local = CallPackages(self)
        self.default_actor_lifetime = "non_detached"
        self.pid = os.getpid()
        #: whether what runs here, or has run, is in a placement group
        self.is_in_group = False
        #: actors with calls waiting a moment for company
        self.gathering: list[Any] = []
        self._watched: dict[int, ObjectRef[Any]] = {}
        self._deferred: deque[Callable[[], None]] = deque()
        self._numbers = itertools.count(1)
        self._ids: TaskIdSource
        self._id_start = 0
        self._id_suffix = b""
        #: none of the node's segments until it has said where they are; it may ask what is looked at before
        self.arena = ArenaView("")
        self.pump = Pump(reactor, shields, self._housekeeping, config.handover_s)
        self.objects = ObjectTable(self)
        self.spiller = Spiller(self)
        self.recovery = Recovery(self)
        self.code = CodeTable(config)
        self.tasks = TaskSubmitter(self)
        self.leasing = Leasing(self)
        self.outcomes = Outcomes(self)
        self.actors = ActorSubmitter(self)
        self.groups = GroupMaker(self)
        self.cluster = ClusterView(self)
        self.reports = Reports(self)
        self.watch = Watching(self)
        self.looks = Looks(self)
        self.failures = FailedCalls(self)
        self.peers = Peers(reactor, address, self._hello, self.handle, self._peer_closed)
        self.node = NodeLink(node_socket, reactor, self.lock, self.handle, self._node_closed)
        self.node.pump = self.pump
        self._listener: Listener | None = None
        #: whether what tasks write is shown here
        self.shows_output = True
        #: whether errors that nobody gets are said
        self.shows_unhandled = config.shows_unhandled_errors
        self._told_unhandled: bytes | BaseException | None = None
        #: called once when the node is gone
        self.on_node_lost: Callable[[], None] = lambda: None
        objects, leasing, outcomes = self.objects, self.leasing, self.outcomes
        self.handlers: dict[int, Callable[[Any, Message], None]] = {
            messages.DONE: lambda p, m: outcomes.on_done(p, m[1], m[2]),
            messages.ITEMS: lambda p, m: outcomes.on_items(p, m[1], m[2], m[3]),
            messages.GIVEN_BACK: lambda p, m: leasing.on_given_back(p, m[1]),
            messages.RETIRING: lambda p, _: leasing.on_retiring(p),
            messages.OUTPUT: lambda _, m: self.show_output(Output(*m[1:])),
            messages.HELLO_PEER: lambda p, m: self.peers.introduced(p, *m[1:]),
            messages.BORROW: lambda p, m: objects.on_borrow(p, m[1], m[2]),
            messages.BORROWED: lambda _, m: objects.on_borrowed(m[1]),
            messages.RELEASE: lambda p, m: objects.on_release(p, m[1]),
            messages.WANT: lambda p, m: objects.on_want(p, m[1]),
            messages.CANCEL_OF: lambda _, m: self._on_cancel_of(*m[1:]),
            messages.LOST: lambda p, m: self.recovery.on_lost(p, m[1], m[2], m[3]),
            messages.VALUE: lambda _, m: objects.on_value(m[1], m[2], m[3]),
            messages.REPLY: lambda _, m: self._on_reply(m),
            messages.GRANT: lambda _, m: leasing.on_grant(*m[1:]),
            messages.REFUSED: lambda _, m: leasing.on_refused(m[1], m[2]),
            messages.IDLE_WANTED: lambda _, m: leasing.on_idle_wanted(m[1]),
            messages.ACTOR_STATE: lambda _, m: self._on_actor_state(m[1]),
            messages.NOTICE: lambda _, m: self.show_output(
                Output(m[1], OutputKind.NOTICE, m[2], None, "jray", 0, "")
            ),
            messages.CLIENT_GONE: lambda _, m: objects.on_client_gone(m[1], m[2]),
            messages.LOW_MEMORY: lambda _, m: leasing.on_low_memory(m[1], m[2]),
            messages.STORE_FILLS: lambda _, m: self._on_store_fills(m[1], m[2]),
            messages.SPILL_ASK: lambda _, m: self.spiller.on_ask(*m[1:]),
            messages.SPILL_MOVE: lambda _, m: self.spiller.on_move(*m[1:]),
            messages.TELL: lambda _, m: self.reports.on_tell(*m[1:]),
            messages.CANCEL_TASKS: lambda _, m: self._on_cancel_tasks(*m[1:]),
        }

    # -- identity ---------------------------------------------------------------------------------

    def listen(self) -> None:
        """Let other clients connect.  A worker does so before it registers, and so before anybody knows it."""
        self._listener = Listener(self.address, self.reactor, self.peers.accept)

    def register(self, kind: str, facts: dict[str, Any], timeout_s: float) -> None:
        """Join the cluster; blocks until the node has answered."""
        self.pump.start()
        welcome = self.node.request(
            messages.REGISTER, kind, self.pid, self.address, facts, timeout_s=timeout_s
        )
        self.number = welcome["client"]
        self.job_id = welcome["job_id"]
        self.namespace = welcome["namespace"]
        self.node_id = welcome["node_id"]
        self.session_dir = welcome["session_dir"]
        self.facts = welcome
        self._ids = TaskIdSource(self.job_id)
        self._id_start, self._id_suffix = self._ids._start, self._ids.suffix
        self.arena = ArenaView(welcome["store_dir"], welcome["spill_dir"])

    def _hello(self) -> tuple[int, int, bytes]:
        return self.number, self._id_start, self._id_suffix

    def next_number(self) -> int:
        """Return a new number for a task or object; each has an id of its own."""
        return next(self._numbers)

    def task_id(self, number: int) -> bytes:
        return ((self._id_start + number) & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little") + self._id_suffix

    def object_id(self, number: int, index: int) -> bytes:
        return (
            ((self._id_start + number) & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")
            + self._id_suffix
            + index.to_bytes(4, "little")
        )

    def number_of(self, object_id: bytes) -> int | None:
        """Return the number of the task or object of this id, should it have been made here; None: it was not."""
        return self.number_of_task(object_id[:-4])

    def number_of_task(self, task_id: bytes) -> int | None:
        """Return the number of the task of this id, should it have been submitted here; None: it was not."""
        if task_id[8:] != self._id_suffix:
            return None
        return (int.from_bytes(task_id[:8], "little") - self._id_start) & 0xFFFFFFFFFFFFFFFF

    def next_object_id(self) -> bytes:
        return self.object_id(next(self._numbers), 1)

    def caller(self) -> Caller:
        """Return in which placement group the calling code runs."""
        worker = self.worker
        if worker is None:
            return NOBODY
        if worker.actor is not None:
            spec: ActorSpec = worker.actor.spec
            return Caller(spec.where.group, spec.captures)
        # a thread that the task has started is the task's
        task = self.context.task_number() or worker.executor.current
        return NOBODY if task is None else Caller(task.template.group, task.template.captures)

    def detached_actor(self) -> bytes:
        """Return the id of the detached actor that this code is part of; empty: of none."""
        host = None if self.worker is None else self.worker.actor
        return host.spec.actor_id if host is not None and host.spec.is_detached else b""

    def code_of(self, key: Any, code: Any, kind: str, name: str, cell: int) -> ExportedCode:
        """Return the export of *code* for *key*, its remote function or actor class, as that cell is to have it."""
        return self.code.current(key, code, kind, name, cell if self.worker is None else 0)

    # -- what refs ask (jray._core.refs.RefHome) --------------------------------------------------------

    def ref_dropped(self, ref_id: bytes, owner: str | None, state: int, data: Any, nested: Any) -> None:
        # A finalizer may run anywhere, also with the lock held: leave it for housekeeping.
        self.objects.dropped.append((ref_id, owner, state, data, nested))
        self.pump.nudge()

    def ref_exported(self, ref: ObjectRef[Any]) -> None:
        self.objects.exported(ref)

    def reduce_ref(self, ref: ObjectRef[Any]) -> tuple[Any, ...]:
        # Nobody will tell when that pickle is gone, so the object is kept for the rest of the job (Ray does the same).
        check_out_of_band(ref, self.config)
        self.objects.exported(ref)
        self.objects.pin_forever(ref)
        return restore_ref, (ref._id, self.ref_address(ref))

    def ref_from_id(self, ref_id: bytes, owner: str | None) -> ObjectRef[Any]:
        return self.objects.ref_from_id(ref_id, owner)

    def ref_address(self, ref: ObjectRef[Any]) -> str:
        return ref._owner or self.address

    def when_ready(self, ref: ObjectRef[Any], callback: Callable[[ObjectRef[Any]], None]) -> None:
        """Call `callback(ref)` from some thread, with no lock held, once *ref* has a value or an error."""
        self.pump.watchers += 1
        self._watched[id(ref)] = ref  # nobody else may hold a ref that only a callback waits for

        def ready(ready_ref: ObjectRef[Any]) -> None:
            self.pump.watchers -= 1
            self._watched.pop(id(ready_ref), None)
            self.defer(lambda: callback(ready_ref))

        with self.lock:
            self.objects.when_ready_locked(ref, ready)

    def ref_value(self, ref: ObjectRef[Any]) -> Any:
        return self.objects.value(ref)

    def ref_status(self, ref: ObjectRef[Any]) -> str:
        return self.reports.status(ref)

    def ref_facts(self, ref: ObjectRef[Any], *, is_brief: bool = False) -> RefFacts:
        return self.looks.facts(ref, is_brief=is_brief)

    def ref_peek(self, ref: ObjectRef[Any]) -> Peek:
        return self.looks.peek(ref)

    # -- the public operations ------------------------------------------------------------------------

    def put(self, value: Any) -> ObjectRef[Any]:
        return self.objects.put(value)

    def free(self, refs: Sequence[ObjectRef[Any]]) -> None:
        """Drop the values of objects of this process, whoever refers to them."""
        self.objects.free(refs)

    def failed_calls(self) -> list[FailedCall]:
        """Return the last calls from the notebook's cells that raised, the latest first."""
        return self.failures.tell()

    def whereabouts(self) -> Whereabouts:
        """Tell who and where the calling code is."""
        worker, task, caller = self.worker, self.context.task_number(), self.caller()
        host = None if worker is None else worker.actor
        task_id = None if task is None else task.task_id
        function_name = None
        if task is not None and host is not None:
            cls = type(host.instance)
            method = getattr(task.template, "method", "__init__")
            function_name = f"{cls.__module__}.{cls.__qualname__}.{method}"
            if not task.number:  # the constructor: Ray's form of such an id
                task_id = b"\xff" * 8 + host.spec.actor_id
                function_name = task.name
        elif task is not None and (function := getattr(task.template, "function", None)) is not None:
            function_name = f"{function.__module__}.{function.__qualname__}"
        return Whereabouts(
            job_id=self.job_id,
            node_id=self.node_id,
            worker_id=None if worker is None else worker.worker_id,
            namespace=self.namespace,
            session_dir=self.session_dir,
            address=f"{self.session_dir}/node.sock",
            runtime_env=as_dict(self.runtime_env),
            resources={} if worker is None else dict(worker.resources),
            gpu_ids=() if worker is None else tuple(worker.gpu_ids),
            task_id=task_id,
            task_name=None if task is None else task.name,
            function_name=function_name,
            is_cancelled=task is not None and bool(task.is_cancelled),
            actor_id=None if host is None else host.spec.actor_id,
            actor_name=None if host is None else host.spec.name,
            actor_meta=None if host is None else deserialize(host.spec.methods),
            restarts=0 if host is None else host.restarts,
            group_id=caller.group or None,
            captures=caller.captures,
        )

    def get(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None) -> list[Any]:
        """Return the values, blocking until each is there.

        Raises an error as soon as there is one, the first in the order of *refs*, and GetTimeoutError at the end of
        `timeout_s`.
        """
        deadline = None if timeout_s is None else monotonic() + timeout_s
        values = []
        value = self.objects.value
        alarm: Alarm | None = None
        try:
            for ref in refs:
                if ref._client is not self:
                    self._refuse(ref)
                if ref._state == PENDING:
                    if alarm is None and len(refs) > 1 and not self._wait_shortly(ref, deadline):
                        alarm = Alarm(refs)
                        with self.lock:
                            alarm.set_locked(self.objects)
                    if ref._state == PENDING:
                        self.wait_value(ref, deadline, alarm)
                values.append(ref._data if ref._state == ATOM else value(ref, deadline))
        finally:
            if alarm is not None:
                with self.lock:
                    self.objects.alarms.remove(alarm)
            # what the tasks wrote stands before what the caller writes next
            get_frontend().flush()
        return values

    def _refuse(self, ref: ObjectRef[Any]) -> NoReturn:
        if ref._client is None:
            raise ObjectLostError(ref._id.hex())
        raise RaySystemError(
            f"{ref!r} belongs to a session that has ended; objects and actors do not outlive jray.shutdown()."
        )

    def _wait_shortly(self, ref: ObjectRef[Any], deadline: float | None) -> bool:
        """Wait a moment for *ref*, without looking at others; return whether that was enough."""
        if self.context.blocks():  # it would give its CPU back twice
            return False
        try:
            self.wait_value(ref, _earlier(deadline, monotonic() + _MOMENT_S))
        except GetTimeoutError:
            if deadline is not None and monotonic() >= deadline:
                raise
            return False
        return True

    def wait_value(self, ref: ObjectRef[Any], deadline: float | None, alarm: Alarm | None = None) -> None:
        """Block until *ref* has a value or an error, or raise what sets off the alarm."""
        waiter = Waiter()
        with self.lock:
            self.objects.when_ready_locked(ref, waiter.notify)
            if alarm is not None:
                alarm.waiter = waiter
                if alarm.is_set_off and not waiter.done:
                    waiter.notify()
        left = None if deadline is None else max(0.0, deadline - monotonic())
        if waiter.done or self.wait_blocking(waiter, left):
            if ref._state != PENDING:
                return
            if alarm is None or not alarm.is_set_off:
                raise RaySystemError(GONE)
            with self.lock:
                _forget(ref, waiter)
            raise self.objects.error(alarm.first_failed())
        with self.lock:
            _forget(ref, waiter)
        raise GetTimeoutError(
            f"Get timed out: {ref!r} had no value in time. The task goes on; get it again later."
        )

    def wait_blocking(self, waiter: Waiter, timeout_s: float | None) -> bool:
        """Wait; a task that waits longer than a moment gives its CPU back meanwhile."""
        context = self.context
        if not context.blocks():
            return self.pump.wait(waiter, timeout_s)
        first = self.config.blocked_after_s
        if timeout_s is not None and timeout_s <= first:
            return self.pump.wait(waiter, timeout_s)
        if self.pump.wait(waiter, first):
            return True
        context.waiting()
        try:
            return self.pump.wait(waiter, None if timeout_s is None else timeout_s - first)
        finally:
            context.resumed()

    def wait(
        self,
        refs: list[Any],
        num_returns: int,
        timeout_s: float | None,
        *,
        fetch_local: bool = True,  # noqa: ARG002 -- what is on another node is fetched by `get`
    ) -> tuple[list[Any], list[Any]]:
        """Return (ready, others): at most `num_returns` ready ones, both in the order of *refs*."""
        found = split(refs, num_returns)
        if found is not None:
            return found
        waiter = self._watch(refs, num_returns)
        if not waiter.done:
            if timeout_s == 0:
                self.pump.poll_nowait()
            else:
                self.wait_blocking(waiter, timeout_s)
            self._unwatch(refs, waiter)
        if self.is_closing or not self.node.connection.is_open:
            self._raise_if_lost(refs, num_returns)
        return split(refs, num_returns) or split_all(refs, num_returns)

    def _raise_if_lost(self, refs: list[Any], num_returns: int) -> None:
        if sum(is_ready(ref) for ref in refs) < num_returns and self.is_closing:
            raise RaySystemError(GONE)

    def _watch(self, refs: list[Any], num_returns: int) -> Waiter:
        waiter = Waiter(num_returns)
        notify = waiter.notify
        with self.lock:
            for ref in refs:
                if isinstance(ref, ObjectRef):
                    self.objects.when_ready_locked(ref, notify)
                else:
                    ref._stream.when_next_locked(notify)
                if waiter.done:
                    break
        return waiter

    def _unwatch(self, refs: list[Any], waiter: Waiter) -> None:
        notify = waiter.notify
        with self.lock:
            for ref in refs:
                if isinstance(ref, ObjectRef):
                    if ref._waiters and notify in ref._waiters:
                        ref._waiters.remove(notify)
                elif notify in ref._stream._waiters:
                    ref._stream._waiters.remove(notify)

    def cancel(self, target: Any, *, force: bool, recursive: bool) -> None:
        """Cancel the task that makes this ref, or this generator's items; nothing happens if it is done."""
        task = target._data if isinstance(target, ObjectRef) else target._stream.task
        with self.lock:
            if isinstance(target, ObjectRef):
                if target._state != PENDING:
                    return
                if target._owner is not None:
                    self._cancel_elsewhere(target, force=force, recursive=recursive)
                    return
                if task is None:
                    return
            elif target._stream.is_complete:
                return
            if task.actor is not None:
                if force:
                    raise ValueError(
                        "force=True is not supported for actor tasks: end the actor with jray.kill()."
                    )
                task.actor.cancel(task, recursive=recursive)
            else:
                self.tasks.cancel(task, force=force, recursive=recursive)

    def _cancel_elsewhere(self, ref: ObjectRef[Any], *, force: bool, recursive: bool) -> None:
        """Have the owner of a borrowed ref cancel its task; the lock is held."""
        assert ref._owner is not None
        try:
            peer = self.peers.get(ref._owner)
        except OSError:  # the owner is gone, and its tasks with it
            return
        peer.connection.send((messages.CANCEL_OF, ref._id, force, recursive))

    def _on_cancel_of(self, ref_id: bytes, force: bool, recursive: bool) -> None:
        ref = self.objects.known(ref_id)
        if ref is not None:
            # force for an actor's call: the borrower cannot know, nor be told
            with contextlib.suppress(ValueError):
                self.cancel(ref, force=force, recursive=recursive)

    def _on_cancel_tasks(self, number: int, task_ids: list[bytes], name: str | None, force: bool) -> None:
        self.node.tell(messages.TOLD, number, tuple(self.watch.cancel_own(task_ids, name, force=force)))

    def tell_store(self, node_id: bytes, *message: Any) -> None:
        """Send a message, which has no answer, to the store of a node."""
        if node_id == self.node_id:
            self.node.tell(*message)
        else:
            self.node.tell(messages.TO_STORE, node_id, message)

    def ask(self, question: str, *arguments: Any) -> Any:
        """Ask the head or the node; blocks for the answer."""
        return self.node.request(messages.ASK, question, arguments)

    # -- messages ---------------------------------------------------------------------------------

    def handle(self, connection: Connection, message: Message) -> None:
        """Handle a message of a peer or of the node."""
        handler = self.handlers.get(message[0])
        if handler is None:
            raise ValueError(f"a message of unknown kind {message[0]}")
        try:
            handler(connection.peer, message)
        except Exception:  # noqa: BLE001 -- a defect of jray; without this it would end the thread that reads
            sys.stderr.write("A defect of jray, please report it:\n")
            traceback.print_exc(file=sys.stderr)

    def _on_reply(self, message: Message) -> None:
        with self.lock:
            self.node.replied(message)

    def peers_peer_of(self, address: str) -> Peer:
        """Return the peer that listens at *address*; a dead one's messages go nowhere."""
        with self.lock:
            return self.peers.get_or_gone(address)

    def _on_store_fills(self, used: int, capacity: int) -> None:
        if self.worker is None:
            store_fills(used, capacity)

    def _on_actor_state(self, view: Any) -> None:
        with self.lock:
            self.actors.on_state_locked(view)

    def show_output(self, output: Output) -> None:
        """Show what a task wrote, or a message of jray itself."""
        if self.shows_output or output.kind == OutputKind.NOTICE:
            get_frontend().write(output)

    def tell_unhandled(self, blob: bytes | BaseException) -> None:
        """Say that a task failed and nobody will ever get its error; the lock is held."""
        if blob is self._told_unhandled or not self.shows_unhandled or self.is_closing:
            return
        self._told_unhandled = blob  # all returns of a task share it

        def tell() -> None:
            try:
                error = deserialize(blob) if isinstance(blob, bytes) else blob
            except Exception as failure:  # noqa: BLE001 -- whatever a user's class raises
                error = f"an exception that cannot be deserialized here: {failure!r}"
            text = f"Unhandled error (suppress with RAY_IGNORE_UNHANDLED_ERRORS=1): {_shortened(str(error))}"
            # what it is without where it was: front ends say how often, not as often
            kind = {"same": f"{getattr(error, 'function_name', '')}: {_last_line(error)}"}
            self.show_output(Output(0, OutputKind.NOTICE, text, kind, "jray", 0, ""))

        self.defer(tell)

    def _peer_closed(self, peer: Peer) -> None:
        self.leasing.worker_lost(peer)
        self.actors.peer_lost(peer)
        self.objects.peer_gone(peer)

    def _node_closed(self) -> None:
        if self.is_closing:
            return
        with self.lock:
            error = self.loss = RaySystemError(GONE)
            for task in list(self.tasks.pending.values()):
                self.outcomes.fail(task, error)
            self.actors.node_lost(error)
        self.on_node_lost()

    # -- housekeeping -----------------------------------------------------------------------------

    def defer(self, callback: Callable[[], None]) -> None:
        """Run *callback* soon in the polling thread, without the lock."""
        self._deferred.append(callback)
        self.pump.nudge()

    def _housekeeping(self) -> None:
        while self._deferred:
            callback = self._deferred.popleft()
            try:
                callback()
            except Exception:  # noqa: BLE001 -- a user's callback must not end the I/O thread
                traceback.print_exc(file=sys.stderr)
        if self.gathering:
            with self.lock:
                gathering, self.gathering = self.gathering, []
                for actor in gathering:
                    actor.flush()
        if self.objects.copies.ended:
            self.objects.copies.tell_ended()
        if self.objects.dropped:
            self.objects.drain_dropped()
        if self.worker is not None:
            self.worker.executor.watch()

    def dump_error(self, error: BaseException) -> bytes:
        """Return *error* as bytes for another process."""
        return serialize(error).to_bytes()

    def forked(self, null: int) -> None:
        """In a forked child: talk to nobody any more.

        Descriptors are not closed but led to *null*: the numbers stay taken, for objects of the parent's still
        close and write them.
        """
        listening = [] if self._listener is None else [self._listener.fileno()]
        node = [self.node.connection.fd] if self.node.connection.is_open else []
        for fd in [*self.peers.fds(), *node, *listening, *self.reactor.fds()]:
            os.dup2(null, fd, inheritable=False)
        self.pump.forget()

    def fail_pending(self) -> None:
        """Give up all work that is under way, and say that it was the shutdown that ended it."""
        with self.lock:
            self.is_closing = True
            self.tasks.close(RaySystemError("the session was shut down with jray.shutdown()"))

    def close(self) -> None:
        """Leave the cluster: pending work fails, connections close, the I/O thread ends."""
        self.fail_pending()
        self.pump.close()
        if self._listener is not None:
            self._listener.close()
        self.peers.close()
        self.node.connection.close()
        self.reactor.close()
        if self.node_id:
            self.arena.close()


class Alarm:
    """Ends the wait for one of several refs when any of them fails.  The client's lock guards it.

    The object table tells it of every failure; registering with each ref would cost more than waiting for all.
    """

    def __init__(self, refs: Sequence[ObjectRef[Any]]) -> None:
        self._refs = refs
        self._watched: set[int] = set()
        #: who waits now
        self.waiter: Waiter | None = None
        self.is_set_off = False

    def set_locked(self, objects: ObjectTable) -> None:
        for ref in self._refs:
            if ref._state == PENDING:
                self._watched.add(id(ref))
                if ref._owner is not None:
                    objects.want_locked(ref)
        objects.alarms.append(self)
        self.is_set_off = any(ref._state == ERROR for ref in self._refs)

    def failed_locked(self, ref: ObjectRef[Any]) -> None:
        """Some ref got an error."""
        if id(ref) in self._watched:
            self.is_set_off = True
            if self.waiter is not None and not self.waiter.done:
                self.waiter.notify()

    def first_failed(self) -> ObjectRef[Any]:
        return next(ref for ref in self._refs if ref._state == ERROR)


def _earlier(deadline: float | None, other: float) -> float:
    return other if deadline is None else min(deadline, other)


def _forget(ref: ObjectRef[Any], waiter: Waiter) -> None:
    """Take back that *waiter* waits for *ref*; the client's lock is held."""
    if ref._state == PENDING and ref._waiters and waiter.notify in ref._waiters:
        ref._waiters.remove(waiter.notify)


def _last_line(error: object) -> str:
    """Return the line of an error's text that says what it is."""
    return _shortened(str(error).rstrip().rpartition("\n")[2])


def _shortened(text: str) -> str:
    more = len(text) - _LONGEST_ERROR
    return f"{text[:_LONGEST_ERROR]}... ({more} more characters)" if more > 0 else text
