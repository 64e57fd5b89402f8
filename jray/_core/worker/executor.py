"""Owns the running of tasks in a worker's main thread: takes them in order, runs them, sends results.

Results of short tasks are held back for a moment to travel together; a timer in the polling thread sends
them if the task that runs next turns out to be long, and then also gives back the tasks behind it.
"""

from __future__ import annotations

import inspect
import itertools
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection
from time import monotonic, perf_counter
from typing import Any, NoReturn

from jray._core.client.core import CoreClient
from jray._core.client.peers import Peer
from jray._core.client.pump import Waiter
from jray._core.client.results import DYNAMIC, MANY, STREAM_END, STREAMING
from jray._core.dynamic import DynamicObjectRefGenerator
from jray._core.refs import ATOM, ERROR, INLINE, PENDING, STORED
from jray._core.serialization import deserialize, is_atom, serialize
from jray._core.sketch import describe
from jray._core.specs import FunctionTemplate
from jray._core.wire import messages
from jray._core.worker.modules import LocalModules
from jray._core.worker.output import OutputRouter
from jray._core.worker.running import RunningTask, current_task
from jray._core.worker.spans import span_rows
from jray._core.worker.tracebacks import remember_sources, task_error
from jray.exceptions import RayTaskError

#: a task that has run this long is long: what waits behind it goes elsewhere
_LONG_S = 0.004
#: functions at most this long on average may run while results are held
_SHORT_US = 400.0
_HOLD_S = 0.003
#: after a task this long, what arrived meanwhile is handled before the next begins
_SETTLE_US = 1000.0
_CATCH_UP_S = 0.05
#: how often the output of child processes is looked for while a task runs
_WATCH_S = 0.25


class WorkerFunction:
    """A function with its options, as an owner defined it."""

    __slots__ = (
        "average_us", "backpressure", "calls_left", "captures", "cell", "concurrency_group", "flush_first", "function",
        "group", "method", "name", "num_returns",
    )  # fmt: skip

    def __init__(self, template: Any, function: Any) -> None:
        self.function = function
        self.name = template.name
        self.num_returns = template.num_returns
        self.cell = template.cell
        self.backpressure = template.backpressure
        #: its placement group, and whether what it submits runs there too
        self.group: bytes = getattr(template, "group", b"")
        self.captures: bool = getattr(template, "captures", False)
        self.average_us: float | None = None
        self.method: str = getattr(template, "method", "")
        self.concurrency_group = getattr(template, "concurrency_group", "")
        #: a task that must not run twice: no result may be lost with it, or by it
        self.flush_first = isinstance(template, FunctionTemplate) and not template.max_retries


class Retire(Exception):  # noqa: N818 -- a signal to the main loop
    """This worker has run a function as often as it may."""


class Executor:
    """Runs what arrives, one after the other.  `loop` never returns normally."""

    def __init__(self, client: CoreClient, router: OutputRouter) -> None:
        self.client = client
        self.router = router
        self.inbox: deque[tuple[Peer, tuple[Any, ...]]] = deque()
        self.current: RunningTask | None = None
        #: the task that runs, or ran last
        self._last: RunningTask | None = None
        self._started_s = 0.0
        self._is_blocked = False
        #: the last tasks that ended here
        self.ran: deque[RunningTask] = deque(maxlen=client.config.task_history)
        self._idle: Waiter | None = None
        # reentrant: settling borrows while flushing may poll, and a poll may flush
        self._lock = threading.RLock()
        self._held: list[tuple[Any, ...]] = []
        self._held_peer: Peer | None = None
        self._held_since = 0.0
        self._held_us = 0.0
        #: streams that are being made here, which may hold items back
        self.streams: set[ItemSender] = set()
        self._timer_is_set = False
        #: pickled functions, and those of them that have been called, by id
        self._functions: dict[bytes, bytes] = {}
        self._loaded: dict[bytes, Any] = {}
        self._modules = LocalModules(os.getcwd())
        self._calls_left: dict[bytes, int] = {}
        #: cancelled tasks that were neither waiting nor running when the cancel came: the main thread was between the two
        self._cancelled: deque[tuple[Peer, int]] = deque(maxlen=64)
        self._flush_s = client.config.flush_us / 1e6
        self.host: Any = None  #: the ActorHost, once this worker is an actor
        self._exit_reason: str | None = None
        self._is_retiring = False
        #: functions with a max_calls, by identity
        self._limited: dict[int, bytes] = {}
        self._becoming: Callable[[], None] | None = None
        handlers = client.handlers
        handlers[messages.PUSH] = self._on_push
        handlers[messages.CALL] = self._on_push
        handlers[messages.CANCEL] = self._on_cancel
        handlers[messages.CONSUMED] = self._on_consumed
        handlers[messages.TRANSIT_DONE] = self._on_transit_done
        client.reports.running = self._running
        client.reports.executed = self._executed
        client.reports.spans = self._spans
        client.context.on_waiting = self._waiting  # type: ignore[attr-defined]
        client.context.on_resumed = self._resumed  # type: ignore[attr-defined]

    # -- arrivals (polling thread) ----------------------------------------------------------------

    def _on_push(self, peer: Peer, message: tuple[Any, ...]) -> None:
        _, tasks, definitions = message
        for template, blob in definitions:
            if isinstance(template, FunctionTemplate):
                if blob is not None:
                    self._functions[template.function_id] = blob[0]
                    remember_sources(blob[1])
                if template.group:
                    self.client.is_in_group = True
                peer.templates[template.number] = _Undefined(template)
            else:
                peer.templates[template.number] = WorkerFunction(template, None)
        if self.host is not None and self.host.is_exiting:
            return  # their caller learns that the actor is dead
        if self.host is not None and self.host.takes(peer, tasks):
            return
        if self._is_retiring:
            peer.connection.send((messages.GIVEN_BACK, [task[0] for task in tasks]))
            return
        self.inbox.extend([(peer, task) for task in tasks])
        if self.current is not None:
            self.arm(_HOLD_S)
        self._wake()

    def _on_cancel(self, peer: Peer, message: tuple[Any, ...]) -> None:
        _, number, force, recursive = message
        if self.host is not None and self.host.cancel(peer, number):
            if recursive:
                self._cancel_children(peer, number, force=force)
            return
        for entry in list(self.inbox):
            if entry[0] is peer and entry[1][0] == number:
                try:
                    self.inbox.remove(entry)
                except ValueError:  # the main thread was faster
                    break
                self.send_result(peer, (number, ERROR, self._cancel_error(), True))
                return
        task = self.current
        if task is None or task.peer is not peer or task.number != number:
            self._cancelled.append((peer, number))
            task = self.current  # it may have come there meanwhile, and not have looked
        if task is not None and task.peer is peer and task.number == number:
            task.is_cancelled = True
            if not force and not task.is_actor_call:
                # before its children are, or it would see their cancellation and not its own
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            if recursive:
                self.client.tasks.cancel_children(task, force=force)
            if force:
                self.flush()
                os._exit(1)
            if task.is_actor_call:
                self.wake_producer(task)

    def _cancel_children(self, peer: Peer, number: int, *, force: bool) -> None:
        task = self.host.running(peer, number)
        if task is not None:
            self.client.tasks.cancel_children(task, force=force)

    def is_cancel_wanted(self) -> bool:
        """Tell whether the task of the main thread is to be interrupted."""
        task = self.current
        return task is not None and task.is_cancelled

    def _on_consumed(self, peer: Peer, message: tuple[Any, ...]) -> None:
        task = peer.executing.get(message[1])
        if task is not None:
            with self.client.lock:
                task.consumed = max(task.consumed, message[2])
            self.wake_producer(task)

    def wake_producer(self, task: RunningTask) -> None:
        """Let a generator look again whether it may go on, if it waits for its consumer."""
        with self.client.lock:
            waiter, task.waiter = task.waiter, None
            if waiter is not None:
                waiter.notify()

    def _on_transit_done(self, peer: Peer, message: tuple[Any, ...]) -> None:
        for number in message[1]:
            peer.held_results.pop(number, None)

    def become(self, make: Callable[[], None]) -> None:
        """Have the main thread call *make*, which turns this worker into an actor."""
        self._becoming = make
        self._wake()

    def _wake(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            with self.client.lock:
                idle.notify()

    # -- the main loop (main thread) -----------------------------------------------------------------

    def loop(self) -> None:
        """Run tasks until told to end."""
        inbox = self.inbox
        while True:
            if not inbox:
                self.flush()
                if self._becoming is not None:
                    make, self._becoming = self._becoming, None
                    make()
                    continue
                if self._is_retiring or self._exit_reason is not None:
                    self._end()
                waiter = self._idle = Waiter()
                if inbox or self._exit_reason is not None or self._becoming is not None:
                    self._idle = None
                    continue
                try:
                    self.client.pump.wait(waiter, None)
                except KeyboardInterrupt:  # a cancel that came after its task had ended
                    pass
                continue
            try:
                peer, entry = inbox.popleft()
            except IndexError:  # the polling thread gave it back
                continue
            self.run(peer, entry)

    def run(self, peer: Peer, entry: tuple[Any, ...]) -> None:
        """Run one task in this thread, and send or hold its result."""
        number = entry[0]
        function = peer.templates[entry[1]]
        if self._held and (
            self._held_peer is not peer
            or function.flush_first
            or function.average_us is None
            or function.average_us > _SHORT_US
            or perf_counter() - self._held_since > self._flush_s
        ):
            self.flush()
        task = RunningTask(peer, number, function, is_actor_call=self.host is not None)
        start = task.started_s = perf_counter()
        self._started_s = start
        token = current_task.set(task)
        self.current = self._last = task
        if self.inbox and not self._timer_is_set:
            self.arm(_HOLD_S)
        result: tuple[Any, ...] | None
        try:
            if self._cancelled and (peer, number) in self._cancelled:
                result = (number, ERROR, self._cancel_error(), True)
            else:
                result = self._call(task, function, entry)
        except KeyboardInterrupt:  # a cancel that came a moment after the code had returned
            result = (number, ERROR, self._cancel_error(), True)
        finally:
            self.current = None
            current_task.reset(token)
        end = perf_counter()
        took_us = (end - start) * 1e6
        task.ended_s = end
        self.ran.append(task)
        if self.client.pump.is_forgotten:
            self.end_fork()
        average = function.average_us
        function.average_us = took_us if average is None else average + 0.3 * (took_us - average)
        if self._calls_left:
            self._count_call(task)
        if result is not None:
            task.has_failed = result[1] == ERROR
            self._hold(peer, result, took_us)
        if not self.inbox or function.flush_first or function.num_returns < 0:
            self.flush()
        elif took_us > _SETTLE_US and peer.connection.has_arrived():
            # a cancel, say, of the next: it was sent before this task's end, and must count
            self.client.pump.catch_up(_CATCH_UP_S)

    def end_fork(self) -> NoReturn:
        """End a child that a task forked, and that came back from the task: it is not a worker."""
        self.router.flush()
        os._exit(0)

    def _call(
        self, task: RunningTask, function: WorkerFunction | _Undefined, entry: tuple[Any, ...]
    ) -> tuple[Any, ...] | None:
        """Return the result of a task in its wire form, or None if it has none; never raises."""
        number = task.number
        peer = task.peer
        try:
            if isinstance(function, _Undefined):
                defined: WorkerFunction = self._unpickled(self._define, peer, entry[1])
                function = task.template = defined
                task.ready_s = monotonic()
            callee = function.function
            if callee is None:
                callee = self.host.method(function)
            payload = entry[2]
            if type(payload) is tuple:
                value = callee(*payload)
            else:
                args, kwargs = self.arguments(entry)
                task.ready_s = monotonic()
                value = callee(*args, **kwargs)
                del args, kwargs
            if task.is_cancelled and self.host is not None:
                # a call that was told and came to its end is cancelled all the same (Ray's rule)
                return number, ERROR, self._cancel_error(), True
            if function.num_returns == 1 and is_atom(value):
                return number, ATOM, value
            return self.pack(task, function, value)
        except BaseException as error:  # noqa: BLE001 -- whatever user code raises is its result
            return self.failure(task, error)

    def failure(self, task: RunningTask, error: BaseException) -> tuple[Any, ...] | None:
        """Return what a task that raised *error* answers; ends the process where that is what it means.

        None: nothing, for its caller learns from the actor's end.
        """
        if task.is_cancelled and isinstance(error, KeyboardInterrupt):
            return task.number, ERROR, self._cancel_error(), True
        if isinstance(error, SystemExit) and not (self.host is not None and self.host.is_exit(error)):
            self._die(error)
        if self.host is not None:
            outcome: tuple[Any, ...] | None = self.host.failure(task, error)
            return outcome
        return task.number, ERROR, task_error(task.name, error, task_id=task.task_id), False

    def _die(self, error: SystemExit) -> None:
        """`sys.exit` in a task ends its worker, as in Ray."""
        self.flush()
        code = error.code
        if isinstance(code, str):
            sys.stderr.write(code + "\n")
            self.router.flush()
        os._exit(code if isinstance(code, int) else 1 if code else 0)

    def _cancel_error(self) -> bytes:
        return b""

    def _unpickled(self, load: Callable[..., Any], *args: Any) -> Any:
        """Return `load(*args)`; an interrupt waits until that is done, or it would leave modules half imported."""
        shield = self.client.shields.current()
        shield.enter()
        try:
            return load(*args)
        finally:
            shield.leave()

    def _define(self, peer: Peer, number: int) -> WorkerFunction:
        """Unpickle the function of a template on its first call: what that raises is the task's error."""
        template = peer.templates[number].template
        if template.cell and self._modules.refresh():
            self._loaded.clear()  # functions have modules, and what these had, in hand
        code = self._loaded.get(template.function_id)
        if code is None:
            code = self._loaded[template.function_id] = pickle.loads(self._functions[template.function_id])
        if template.max_calls:
            self._calls_left.setdefault(template.function_id, template.max_calls)
            self._limited[id(code)] = template.function_id
        function = peer.templates[number] = WorkerFunction(template, code)
        return function

    def arguments(self, entry: tuple[Any, ...], *, are_recent: bool = True) -> tuple[Any, dict[str, Any]]:
        """Return (args, kwargs) of a task that is not all plain values.

        `are_recent`: its owner keeps what the entry tells of places in the store as it was.
        """
        payload = entry[2]
        if len(entry) == 6:  # large: in the store
            args, kwargs = self._dependency(entry[5], is_recent=are_recent)
        elif type(payload) is tuple:
            args, kwargs = payload, {}
        else:
            args, kwargs = self._unpickled(deserialize, payload)
        if len(entry) > 3 and entry[3]:
            args = list(args)
            for position, description in zip(entry[3], entry[4], strict=True):
                value = self._dependency(description, is_recent=are_recent)
                if isinstance(position, int):
                    args[position] = value
                else:
                    kwargs[position] = value
        return args, kwargs

    def _dependency(self, description: tuple[Any, ...], *, is_recent: bool) -> Any:
        state, data, ref_id, owner = description
        if state == ATOM:
            return data
        if state == INLINE:
            return self._unpickled(deserialize, data)
        objects = self.client.objects
        ref = objects.ref_from_id(ref_id, owner)
        if not is_recent:  # something else may lie there by now: its owner knows
            return self.client.get([ref], None)[0]
        if ref._state == PENDING:
            with self.client.lock:
                objects.resolve_locked(ref, state, data)
        return objects.value(ref)

    # -- results ----------------------------------------------------------------------------------

    def pack(self, task: RunningTask, function: WorkerFunction, value: Any) -> tuple[Any, ...] | None:
        """Return the result of a task that returned *value*, in its wire form."""
        count = function.num_returns
        number = task.number
        values: list[Any] | None = None
        if count > 0 and inspect.isgenerator(value):
            # one more than there are refs, so that one with as many runs to its end; what is over is dropped (Ray's rule)
            values = list(itertools.islice(value, count + 1))[:count]
            value.close()
            if count == 1 and values:
                value, values = values[0], None
        if count == 1 and values is None:
            if isinstance(
                value, RayTaskError
            ):  # a task's error, returned bare, is this task's error (Ray's rule)
                return number, ERROR, serialize(value).to_bytes(), False
            entry = self.pack_value(task, 1, value)
            return (number, *entry)
        if count == STREAMING:
            return self._stream(task, function, value)
        if count == DYNAMIC:
            refs = DynamicObjectRefGenerator(self.client.put(item) for item in value)
            return (number, *self.pack_value(task, 1, refs))
        if count == 0:
            return number, MANY, []
        if values is None:
            values = list(value)
        if len(values) != count:
            # not raised: the user's code has no part in the traceback, and jray's would tell nothing
            return self.failure(
                task, ValueError(f"Task returned {len(values)} objects, but num_returns={count}.")
            )
        return number, MANY, [self.pack_value(task, index + 1, item) for index, item in enumerate(values)]

    def pack_value(self, task: RunningTask, index: int, value: Any) -> tuple[Any, ...]:
        """Return (state, data[, nested]) for one value; large ones are written to the store."""
        if is_atom(value):
            return ATOM, value
        serialized = serialize(value)
        client = self.client
        state: int
        data: Any
        if serialized.size <= client.config.inline_limit_bytes:
            state, data = INLINE, serialized.to_bytes()
        else:
            peer = task.peer
            ref_id = peer.task_id(task.number) + index.to_bytes(4, "little")
            state = STORED
            data = client.objects.write_stored(ref_id, serialized, peer.number, describe(value))
        if not serialized.refs:
            return state, data
        # the reader must come to hold these before we may let go
        task.peer.held_results.setdefault(task.number, []).extend(serialized.refs)
        return state, data, client.objects.nested_ids(serialized.refs)

    def _stream(self, task: RunningTask, function: WorkerFunction, iterator: Any) -> tuple[Any, ...]:
        """Run a generator to its end, sending its items on the way."""
        sender = ItemSender(self, task)
        self.streams.add(sender)
        task.peer.executing[task.number] = task
        try:
            for value in iterator:
                sender.add(self.pack_value(task, sender.count + 1, value))
                if 0 < function.backpressure <= sender.count - task.consumed:
                    sender.flush()
                    self._wait_consumed(task, sender.count - function.backpressure + 1)
                if task.is_cancelled and task.is_actor_call:  # a task is interrupted, a call is told
                    return task.number, ERROR, self._cancel_error(), True
        finally:
            sender.flush()
            self.streams.discard(sender)
            task.peer.executing.pop(task.number, None)
        return task.number, STREAM_END

    def _wait_consumed(self, task: RunningTask, wanted: int) -> None:
        while task.consumed < wanted and not task.is_cancelled:
            with self.client.lock:
                if task.consumed >= wanted or task.is_cancelled:
                    return
                waiter = task.waiter = Waiter()
            self.client.wait_blocking(waiter, None)

    def _hold(self, peer: Peer, result: tuple[Any, ...], took_us: float) -> None:
        with self._lock:
            if self._held and self._held_peer is not peer:
                self._flush_held()
            if not self._held:
                self._held_peer = peer
                self._held_since = perf_counter()
            self._held.append(result)
            self._held_us += took_us

    def send_result(self, peer: Peer, result: tuple[Any, ...]) -> None:
        """Send a result at once, from any thread."""
        self.router.flush()
        self.router.forward_raw(self._last)
        peer.connection.send((messages.DONE, [result], 0.0))

    def flush(self) -> None:
        """Send what is held: output first, so that it is shown before the value it belongs to."""
        self.router.flush()
        self.router.forward_raw(self._last)
        if self._held:
            with self._lock:
                self._flush_held()

    def _flush_held(self) -> None:
        held, self._held = self._held, []
        peer, took_us, self._held_us = self._held_peer, self._held_us, 0.0
        if not held or peer is None:
            return
        if self.client.objects._untold:
            # owners must know what we keep before the caller lets its own references go
            self.client.objects.settle_borrows(peer)
        peer.connection.send((messages.DONE, held, took_us))

    # -- the timer (polling thread) ------------------------------------------------------------------

    def arm(self, delay_s: float) -> None:
        """Have what is held looked after while the main thread runs user code."""
        if not self._timer_is_set:
            self._timer_is_set = True
            self.client.pump.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer_is_set = False
        self.router.flush()
        for items in tuple(self.streams):
            items.flush()
        running = self.current
        if running is not None:
            self.router.forward_raw(running)
        if running is None or threading.current_thread() is threading.main_thread():
            return
        if self._held:
            with self._lock:
                # once more: what is held may have come since, and what its task wrote goes before it
                self.router.flush()
                self.router.forward_raw(self._last)
                self._flush_held()
        if self.inbox and self.host is None:
            if perf_counter() - self._started_s > _LONG_S:
                self.give_back()
            else:
                self.arm(_HOLD_S)

    def watch(self) -> None:
        """Look now and then at what a long task writes; called before each poll of the I/O thread."""
        if self.current is not None and not self._timer_is_set:
            self.arm(_WATCH_S)

    def give_back(self) -> None:
        """Return what has not been started to its owners."""
        by_peer: dict[Peer, list[int]] = {}
        while self.inbox:
            try:
                peer, entry = self.inbox.pop()
            except IndexError:
                break
            by_peer.setdefault(peer, []).append(entry[0])
        for peer, numbers in by_peer.items():
            peer.connection.send((messages.GIVEN_BACK, numbers[::-1]))

    # -- waiting inside a task (main thread) -----------------------------------------------------------

    def _waiting(self) -> None:
        self._is_blocked = True
        self.flush()
        if self.host is None:
            self.give_back()
        self.client.node.tell(messages.BLOCKED)

    def _resumed(self) -> None:
        self._is_blocked = False
        self.client.node.tell(messages.UNBLOCKED)

    # -- what is told of it (polling thread) -------------------------------------------------------------

    def _running(self) -> list[tuple[bytes, str, float, bool]]:
        """Return (task id, name, start, is blocked) of what runs now."""
        tasks = [task for task in (self.current,) if task is not None and task.number]
        if self.host is not None:
            tasks += self.host.running_tasks()
        return [
            (task.task_id, task.name, task.started_s, self._is_blocked and task is self.current)
            for task in tasks
        ]

    def _executed(self, wanted: Collection[bytes]) -> list[tuple[bytes, float, float]]:
        """Return (task id, start, end) of what ran of these."""
        ran = [(task.task_id, task) for task in list(self.ran)]
        return [(task_id, task.started_s, task.ended_s) for task_id, task in ran if task_id in wanted]

    def _spans(self, cell: int | None, since_s: float, resolution_s: float) -> list[tuple[Any, ...]]:
        """Return what ran since then, and what runs, for a cell: see `jray._core.client.reports`."""
        tasks = [task for task in (self.current,) if task is not None and task.number]
        ran = list(self.ran)
        if self.host is not None:
            tasks += self.host.running_tasks()
        actor = "" if self.host is None else self.host.spec.class_name
        return [
            (actor, row.name, row.cell, row.start_s, row.end_s, row.calls, row.failed, row.busy_s, row.bringing_s,
             row.first.task_id)
            for row in span_rows(tasks, ran, cell, since_s, resolution_s)
        ]  # fmt: skip

    # -- the end ----------------------------------------------------------------------------------

    def _count_call(self, task: RunningTask) -> None:
        """Count a call towards its function's max_calls; at the last, take no more tasks."""
        function_id = self._limited.get(id(task.template.function))
        if function_id is None:
            return
        self._calls_left[function_id] -= 1
        if self._calls_left[function_id] <= 0 and not self._is_retiring:
            self._is_retiring = True
            self.give_back()
            # before the result: its owner's next task must not come here
            task.peer.connection.send((messages.RETIRING,))

    def exit_when_idle(self, reason: str) -> None:
        """End after what has arrived has run; called by the polling thread."""
        self._exit_reason = reason
        self._wake()

    def _end(self) -> None:
        """End this process, unless others borrow objects it owns."""
        if self.host is None and self._exit_reason == "idle" and self.client.objects.is_needed():
            self._exit_reason = None
            self.client.node.tell(messages.EXIT)
            return
        if self._is_retiring and self._exit_reason is None:
            # the node ends us once the owner has returned the lease; until then there is nothing to do
            self._exit_reason = "max_calls reached"
            deadline = monotonic() + 1.0
            while monotonic() < deadline and self._exit_reason == "max_calls reached":
                self.client.pump.wait(Waiter(), 0.05)
        raise SystemExit(0)


class _Undefined:
    """A template whose function has not been unpickled yet."""

    __slots__ = (
        "average_us", "backpressure", "captures", "cell", "concurrency_group", "flush_first", "function", "group", "name",
        "num_returns", "template",
    )  # fmt: skip

    def __init__(self, template: FunctionTemplate) -> None:
        self.template = template
        self.name = template.name
        self.cell = template.cell
        self.num_returns = template.num_returns
        self.average_us: float | None = None
        self.flush_first = not template.max_retries
        self.function = None
        self.backpressure = template.backpressure
        self.group = template.group
        self.captures = template.captures
        self.concurrency_group = ""


class ItemSender:
    """Sends the items of one stream, several at a time when they come quickly."""

    __slots__ = ("_executor", "_held", "_lock", "_sent_s", "_task", "count")

    def __init__(self, executor: Any, task: RunningTask) -> None:
        self._executor = executor
        self._task = task
        self._held: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()
        self._sent_s = 0.0
        self.count = 0

    def add(self, entry: tuple[Any, ...]) -> None:
        with self._lock:
            self._held.append(entry)
            self.count += 1
        if perf_counter() - self._sent_s > 0.00025:
            self.flush()
        else:
            self._executor.arm(_HOLD_S)

    def flush(self) -> None:
        with self._lock:
            held, self._held = self._held, []
            if not held:
                return
            self._executor.router.flush()
            if self._executor.client.objects._untold:
                self._executor.client.objects.settle_borrows(self._task.peer)
            self._task.peer.connection.send((messages.ITEMS, self._task.number, self.count - len(held), held))
            self._sent_s = perf_counter()
