"""Owns the actor in this process: makes it, and runs its calls in order, in threads or on an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import pickle
import sys
import threading
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Any

from jray._core.client.exits import ActorExit
from jray._core.client.peers import Peer
from jray._core.client.results import STREAM_END, STREAMING
from jray._core.generator import settle
from jray._core.refs import ERROR
from jray._core.specs import DEFAULT_GROUP, ActorSpec
from jray._core.wire import messages
from jray._core.worker.executor import Executor, ItemSender, WorkerFunction
from jray._core.worker.running import RunningTask, current_task
from jray._core.worker.tracebacks import remember_sources, task_error, users_traceback

_EXIT_REASON = "exit_actor() was called"
#: an actor that has waited this long while it owes itself an answer is told
_WAITS_FOR_ITSELF_S = 1.0


class ActorHost:
    """The actor of this worker."""

    def __init__(self, executor: Executor, spec: ActorSpec, restarts: int) -> None:
        self.spec = spec
        self.restarts = restarts
        self._executor = executor
        self._client = executor.client
        self.instance: Any = None
        self._groups = dict(spec.concurrency_groups)
        self._method_groups = dict(spec.method_groups)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._semaphores: dict[str, asyncio.Semaphore] = {}
        self._pools: dict[str, concurrent.futures.ThreadPoolExecutor] = {}
        self._running: dict[tuple[int, int], tuple[RunningTask, Any]] = {}
        self._running_lock = threading.Lock()
        self.is_exiting = False
        #: whether calls that have not begun are left undone: exit_actor() was called
        self._drops_waiting = False
        self._stop: Any = None
        self._was_told_of_blocking = self._was_told_of_itself = False
        self._client.context.on_actor_waits = self._waits  # type: ignore[attr-defined]

    @property
    def is_concurrent(self) -> bool:
        return self.spec.is_async or self.spec.max_concurrency > 1 or bool(self._groups)

    # -- making -----------------------------------------------------------------------------------

    def make(self) -> bool:
        """Run the constructor; return whether there is an actor now."""
        spec, client = self.spec, self._client
        template = _ConstructorTemplate(spec)
        peer = client.peers_peer_of(spec.owner)
        task = RunningTask(peer, 0, template, is_actor_call=True)
        token = current_task.set(task)
        self._executor.current = task
        try:
            remember_sources(spec.sources)
            cls = pickle.loads(spec.class_blob)
            payload = spec.args_blob
            entry: tuple[Any, ...]
            if isinstance(payload, bytes):
                entry = (0, 0, payload, spec.positions, spec.dependencies)
            elif isinstance(payload, tuple) and len(payload) == 4 and isinstance(payload[2], bytes):
                entry = (0, 0, None, spec.positions, spec.dependencies, payload)
            else:
                entry = (0, 0, payload)
            args, kwargs = self._executor.arguments(entry, are_recent=not self.restarts)
            if spec.is_async:
                self._loop = asyncio.new_event_loop()
                asyncio.set_event_loop(self._loop)
                self.instance = self._loop.run_until_complete(_constructed(cls, args, kwargs))
            else:
                self.instance = cls(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 -- whatever the constructor raises
            if isinstance(error, SystemExit) and not isinstance(error, ActorExit):
                self._executor._die(error)
            if isinstance(error, ActorExit):
                client.node.tell(messages.ACTOR_EXITING, spec.actor_id, _EXIT_REASON)
                self._executor.flush()
                return False
            # nobody need ever call the actor, and an actor must not die without a word
            sys.stderr.write(f"The constructor raised, and the actor is dead:\n{users_traceback(error)}")
            blob = task_error(f"{spec.class_name}.__init__", error, actor_id=spec.actor_id.hex())
            self._executor.flush()
            client.node.tell(messages.ACTOR_FAILED, spec.actor_id, blob)
            return False
        finally:
            self._executor.current = None
            current_task.reset(token)
        self._executor.flush()
        client.objects.settle_borrows()
        if self.is_concurrent and not spec.is_async:
            self._make_pools()
        client.node.tell(messages.ACTOR_READY, spec.actor_id, own_repr(self.instance))
        return True

    def _make_pools(self) -> None:
        for group, limit in {DEFAULT_GROUP: self.spec.max_concurrency, **self._groups}.items():
            self._pools[group] = concurrent.futures.ThreadPoolExecutor(
                limit, thread_name_prefix=f"jray-{group}"
            )

    # -- methods ----------------------------------------------------------------------------------

    def method(self, function: WorkerFunction) -> Callable[..., Any]:
        """Return what a call of that method runs; looked up each time, as an actor may change its own."""
        group = function.concurrency_group
        if group and group != DEFAULT_GROUP and group not in self._groups:
            raise ValueError(self._no_group(group))
        special = SPECIAL_METHODS.get(function.method)
        if special is not None:
            return functools.partial(special, self)
        found: Callable[..., Any] = getattr(self.instance, function.method)
        return found

    def _no_group(self, group: str) -> str:
        known = ", ".join(map(repr, self._groups)) or "none"
        return f"The actor {self.spec.class_name} has no concurrency group {group!r}; it has {known}."

    def _group_of(self, function: WorkerFunction) -> str:
        group = function.concurrency_group or self._method_groups.get(function.method, DEFAULT_GROUP)
        return str(group)

    # -- concurrent calls (taken in the polling thread) --------------------------------------------------

    def takes(self, peer: Peer, tasks: list[tuple[Any, ...]]) -> bool:
        """Start calls that need not wait for each other; return False if they go through the main thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._start_async, peer, tasks)
            return True
        if not self._pools:
            return False
        for entry in tasks:
            function = peer.templates[entry[1]]
            pool = self._pools.get(self._group_of(function))
            if pool is None:
                error = ValueError(self._no_group(self._group_of(function)))
                self._executor.send_result(peer, (entry[0], ERROR, task_error(function.name, error), False))
                continue
            task = RunningTask(peer, entry[0], function, is_actor_call=True)
            with self._running_lock:
                future = pool.submit(self._run_in_thread, task, function, entry)
                self._running[id(peer), entry[0]] = (task, future)
        return True

    def _ended(self, task: RunningTask) -> None:
        task.ended_s = monotonic()
        self._executor.ran.append(task)

    def running_tasks(self) -> list[RunningTask]:
        """Return the concurrent calls whose code has begun."""
        with self._running_lock:
            return [task for task, _ in list(self._running.values()) if task.started_s]

    def _run_in_thread(self, task: RunningTask, function: WorkerFunction, entry: tuple[Any, ...]) -> None:
        if self._drops_waiting:
            self._forget(task)
            return
        token = current_task.set(task)
        task.started_s = monotonic()
        try:
            result = self._executor._call(task, function, entry)
        finally:
            if self._client.pump.is_forgotten:
                self._executor.end_fork()
            self._ended(task)
            current_task.reset(token)
            self._forget(task)
        self._client.objects.settle_borrows(task.peer)
        if result is not None:
            task.has_failed = result[1] == ERROR
            self._executor.send_result(task.peer, result)
        if self.is_exiting:
            self._executor.exit_when_idle(_EXIT_REASON)

    def _forget(self, task: RunningTask) -> None:
        with self._running_lock:
            self._running.pop((id(task.peer), task.number), None)

    # -- async ------------------------------------------------------------------------------------

    def run_loop(self) -> None:
        """Run the event loop of an async actor until it ends."""
        assert self._loop is not None
        self._stop = self._loop.create_future()
        self._loop.run_until_complete(self._stop)
        self._loop.run_until_complete(asyncio.sleep(0))

    def _start_async(self, peer: Peer, tasks: list[tuple[Any, ...]]) -> None:
        assert self._loop is not None
        if self._drops_waiting:
            return
        for entry in tasks:
            function = peer.templates[entry[1]]
            task = RunningTask(peer, entry[0], function, is_actor_call=True)
            coroutine = self._run_async(task, function, entry)
            self._running[id(peer), entry[0]] = (task, self._loop.create_task(coroutine))

    def _semaphore(self, function: WorkerFunction) -> asyncio.Semaphore:
        group = self._group_of(function)
        semaphore = self._semaphores.get(group)
        if semaphore is None:
            limit = self.spec.max_concurrency if group == DEFAULT_GROUP else self._groups.get(group)
            if limit is None:
                raise ValueError(self._no_group(group))
            semaphore = self._semaphores[group] = asyncio.Semaphore(limit)
        return semaphore

    async def _run_async(self, task: RunningTask, function: WorkerFunction, entry: tuple[Any, ...]) -> None:
        current_task.set(task)
        result: tuple[Any, ...] | None
        try:
            async with self._semaphore(function):
                task.started_s = monotonic()
                result = await self._call_async(task, function, entry)
        except BaseException as error:  # noqa: BLE001 -- whatever user code raises is its result
            if isinstance(error, asyncio.CancelledError) and task.is_cancelled:
                result = (task.number, ERROR, b"", True)
            elif self._drops_waiting and not task.started_s:
                result = None
            else:
                result = self._executor.failure(task, error)
        if self._client.pump.is_forgotten:
            self._executor.end_fork()
        self._running.pop((id(task.peer), task.number), None)
        if task.started_s:
            self._ended(task)
        if self._client.objects._untold:
            self._client.objects.settle_borrows(task.peer)
        if result is not None:
            task.has_failed = result[1] == ERROR
            self._executor.send_result(task.peer, result)
        if self.is_exiting and not self._running and not self._stop.done():
            self._stop.set_result(None)

    async def _call_async(
        self, task: RunningTask, function: WorkerFunction, entry: tuple[Any, ...]
    ) -> tuple[Any, ...] | None:
        payload = entry[2]
        kwargs: dict[str, Any] = {}
        args = payload
        if type(payload) is not tuple or len(entry) > 3:
            args, kwargs = self._executor.arguments(
                entry, are_recent=not self.restarts and task.peer.connection.is_open
            )
            task.ready_s = monotonic()
        value = self.method(function)(*args, **kwargs)
        if inspect.isasyncgen(value):
            if function.num_returns == STREAMING:
                return await self._stream_async(task, function, value)
            text = f"{function.name}() is an async generator, which makes a stream of items: leave out num_returns."
            return self._executor.failure(task, ValueError(text))
        if inspect.isawaitable(value):
            value = await value
        return self._executor.pack(task, function, value)

    async def _stream_async(
        self, task: RunningTask, function: WorkerFunction, values: Any
    ) -> tuple[Any, ...]:
        sender = ItemSender(self._executor, task)
        self._executor.streams.add(sender)
        task.peer.executing[task.number] = task
        try:
            async for value in values:
                sender.add(self._executor.pack_value(task, sender.count + 1, value))
                if 0 < function.backpressure <= sender.count - task.consumed:
                    sender.flush()
                    await self._consumed_async(task, sender.count - function.backpressure + 1)
        finally:
            sender.flush()
            self._executor.streams.discard(sender)
            task.peer.executing.pop(task.number, None)
        return task.number, STREAM_END

    async def _consumed_async(self, task: RunningTask, wanted: int) -> None:
        loop = asyncio.get_running_loop()
        while task.consumed < wanted:
            ready: asyncio.Future[None] = loop.create_future()
            with self._client.lock:
                if task.consumed >= wanted:
                    return
                task.waiter = _LoopWaiter(loop, ready)
            await ready

    # -- waits that do harm -----------------------------------------------------------------------------

    def _waits(self) -> None:
        """Say once what a call that is about to block may not know."""
        if threading.current_thread() is not threading.main_thread():
            return
        name = self.spec.class_name
        if self._loop is not None:
            if not self._was_told_of_blocking:
                self._was_told_of_blocking = True
                sys.stderr.write(
                    f"A blocking call of jray inside the async actor {name} blocks its event loop: no other call "
                    "runs meanwhile. Write `await ref`, or asyncio.gather for several.\n"
                )
        elif not self._was_told_of_itself and self._calls_to_itself():
            call = self._executor.current

            def look_again() -> None:
                if self._was_told_of_itself:
                    return
                if self._executor.current is call and self._calls_to_itself():
                    self._was_told_of_itself = True
                    token = current_task.set(call)  # whose words these are, whichever thread says them
                    sys.stderr.write(
                        f"The actor {name} waits while a call that it made to itself is queued behind the waiting "
                        "one. If it waits for that call it waits for ever: call the method directly, or give the "
                        "actor a max_concurrency.\n"
                    )
                    current_task.reset(token)

            self._client.pump.call_later(_WAITS_FOR_ITSELF_S, look_again)

    def _calls_to_itself(self) -> int:
        me = self._client.actors._actors.get(self.spec.actor_id)
        return 0 if me is None else me.outstanding()

    # -- cancelling, ending ---------------------------------------------------------------------------

    def running(self, peer: Peer, number: int) -> RunningTask | None:
        found = self._running.get((id(peer), number))
        return found[0] if found is not None else None

    def cancel(self, peer: Peer, number: int) -> bool:
        """Cancel a concurrent call; return False if it isn't one."""
        found = self._running.get((id(peer), number))
        if found is None:
            return False
        task, handle = found
        task.is_cancelled = True
        self._executor.wake_producer(task)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(handle.cancel)
        elif handle.cancel():  # it had not started
            with self._running_lock:
                self._running.pop((id(peer), number), None)
            self._executor.send_result(peer, (number, ERROR, b"", True))
        return True

    def is_exit(self, error: BaseException) -> bool:
        return isinstance(error, ActorExit)

    def failure(self, task: RunningTask, error: BaseException) -> tuple[Any, ...] | None:
        """Return the result of a call that raised; None if it ends the actor, of which its caller hears."""
        if isinstance(error, ActorExit):
            self.exit(_EXIT_REASON)
            return None
        actor_id = self.spec.actor_id.hex()
        blob = task_error(task.name, error, actor_repr=self.repr(), actor_id=actor_id, task_id=task.task_id)
        return task.number, ERROR, blob, False

    def repr(self) -> str:
        """Return what the actor calls itself, if it says more than its class's name."""
        return own_repr(self.instance) or self.spec.class_name

    def exit(self, reason: str) -> None:
        """End the actor after the calls that run now; those that wait are left undone."""
        self._drops_waiting = self.is_exiting = True
        self._client.node.tell(messages.ACTOR_EXITING, self.spec.actor_id, reason)
        if self._loop is not None:
            for key, (task, waiting) in list(self._running.items()):
                if not task.started_s:
                    waiting.cancel()
                    # one cancelled before its first step never comes to say that it has ended
                    del self._running[key]
        elif not self._pools:
            self._executor.inbox.clear()
            self._executor.exit_when_idle(reason)

    def finish(self, reason: str) -> None:
        """End after all calls that have arrived; called by the polling thread."""
        if self._loop is None:
            self._executor.exit_when_idle(reason)
            return

        def stop_when_done() -> None:
            self.is_exiting = True
            if not self._running and not self._stop.done():
                self._stop.set_result(None)

        self._loop.call_soon_threadsafe(stop_when_done)

    def close(self) -> None:
        """Say good-bye: the user's hook, then exit handlers."""
        for pool in self._pools.values():
            pool.shutdown(wait=True)
        say_good_bye(self.instance)
        self._executor.flush()


class _LoopWaiter:
    """Looks like a Waiter, and wakes a coroutine."""

    __slots__ = ("_loop", "_ready")

    def __init__(self, loop: asyncio.AbstractEventLoop, ready: asyncio.Future[None]) -> None:
        self._loop = loop
        self._ready = ready

    def notify(self) -> None:
        self._loop.call_soon_threadsafe(settle, self._ready)


class _ConstructorTemplate:
    """Stands for the template of a call, while the constructor runs."""

    def __init__(self, spec: ActorSpec) -> None:
        self.name = f"{spec.class_name}.__init__"
        self.cell = spec.cell


async def _constructed(cls: type, args: Any, kwargs: Any) -> Any:
    """Make an instance where the event loop runs: the constructor may ask for it, and start tasks on it."""
    return cls(*args, **kwargs)


def own_repr(instance: Any) -> str:
    """Return what an actor calls itself; "" if its class does not say how, or it fails."""
    if getattr(type(instance), "__repr__", None) is object.__repr__:
        return ""
    try:
        return repr(instance)
    except Exception:  # noqa: BLE001 -- a user's __repr__
        return ""


def say_good_bye(instance: Any) -> None:
    """Call the user's hook of an actor that ends in good order."""
    for name in ("__jray_shutdown__", "__ray_shutdown__"):
        hook = getattr(instance, name, None)
        if hook is None:
            continue
        try:
            hook()
        except Exception:  # noqa: BLE001 -- the actor ends all the same
            traceback.print_exc()
        break


def _terminate(_: ActorHost) -> None:
    raise ActorExit(0)


def _ready(_: ActorHost) -> bool:
    return True


def _call(host: ActorHost, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(host.instance, *args, **kwargs)


#: methods that every actor has; under jray's own names too
SPECIAL_METHODS: dict[str | None, Callable[..., Any]] = {
    "__ray_terminate__": _terminate,
    "__jray_terminate__": _terminate,
    "__ray_ready__": _ready,
    "__jray_ready__": _ready,
    "__ray_call__": _call,
    "__jray_call__": _call,
}
