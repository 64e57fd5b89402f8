"""Owns the actor in this process: makes it, and runs its calls in order, in threads or on an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import os
import pickle
import threading
import traceback
from collections.abc import Callable
from typing import Any

from jray._core.client.exits import ActorExit
from jray._core.client.peers import Peer
from jray._core.client.results import STREAM_END
from jray._core.client.streams import settle
from jray._core.refs import ERROR
from jray._core.serialization import serialize
from jray._core.specs import ActorSpec
from jray._core.wire import messages
from jray._core.worker.executor import Executor, ItemSender, WorkerFunction
from jray._core.worker.running import RunningTask, current_task
from jray._core.worker.tracebacks import remember_sources, task_error
from jray.exceptions import ActorDiedError

_DEFAULT_GROUP = "_default"


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
        self._stop: Any = None

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
            args, kwargs = self._executor.arguments(entry)
            if spec.is_async:
                self._loop = asyncio.new_event_loop()
                asyncio.set_event_loop(self._loop)
            self.instance = cls(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 -- whatever the constructor raises
            if isinstance(error, SystemExit) and not isinstance(error, ActorExit):
                self._executor._die(error)
            if isinstance(error, ActorExit):
                client.node.tell(messages.ACTOR_EXITING, spec.actor_id, "exit_actor() was called")
                self._executor.flush()
                return False
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
        client.node.tell(messages.ACTOR_READY, spec.actor_id)
        return True

    def _make_pools(self) -> None:
        for group, limit in {_DEFAULT_GROUP: self.spec.max_concurrency, **self._groups}.items():
            self._pools[group] = concurrent.futures.ThreadPoolExecutor(
                limit, thread_name_prefix=f"jray-{group}"
            )

    # -- methods ----------------------------------------------------------------------------------

    def method(self, function: WorkerFunction) -> Callable[..., Any]:
        """Return what a call of that method runs; looked up each time, as an actor may change its own."""
        special = _SPECIAL.get(function.method)
        if special is not None:
            return functools.partial(special, self)
        found: Callable[..., Any] = getattr(self.instance, function.method)
        return found

    def _group_of(self, function: WorkerFunction) -> str:
        group = function.concurrency_group or self._method_groups.get(function.method, _DEFAULT_GROUP)
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
                error = ValueError(
                    f"The actor {self.spec.class_name} has no concurrency group {self._group_of(function)!r}"
                )
                self._executor.send_result(peer, (entry[0], ERROR, task_error(function.name, error), False))
                continue
            task = RunningTask(peer, entry[0], function, is_actor_call=True)
            with self._running_lock:
                future = pool.submit(self._run_in_thread, task, function, entry)
                self._running[id(peer), entry[0]] = (task, future)
        return True

    def _run_in_thread(self, task: RunningTask, function: WorkerFunction, entry: tuple[Any, ...]) -> None:
        token = current_task.set(task)
        try:
            result = self._executor._call(task, function, entry)
        finally:
            current_task.reset(token)
            with self._running_lock:
                self._running.pop((id(task.peer), task.number), None)
        self._client.objects.settle_borrows(task.peer)
        self._executor.send_result(task.peer, result)
        if self.is_exiting:
            self._executor.exit_when_idle("exit_actor() was called")

    # -- async ------------------------------------------------------------------------------------

    def run_loop(self) -> None:
        """Run the event loop of an async actor until it ends."""
        assert self._loop is not None
        self._stop = self._loop.create_future()
        self._loop.run_until_complete(self._stop)
        self._loop.run_until_complete(asyncio.sleep(0))

    def _start_async(self, peer: Peer, tasks: list[tuple[Any, ...]]) -> None:
        assert self._loop is not None
        for entry in tasks:
            function = peer.templates[entry[1]]
            task = RunningTask(peer, entry[0], function, is_actor_call=True)
            coroutine = self._run_async(task, function, entry)
            self._running[id(peer), entry[0]] = (task, self._loop.create_task(coroutine))

    def _semaphore(self, function: WorkerFunction) -> asyncio.Semaphore:
        group = self._group_of(function)
        semaphore = self._semaphores.get(group)
        if semaphore is None:
            limit = self.spec.max_concurrency if group == _DEFAULT_GROUP else self._groups.get(group)
            if limit is None:
                raise ValueError(f"The actor {self.spec.class_name} has no concurrency group {group!r}")
            semaphore = self._semaphores[group] = asyncio.Semaphore(limit)
        return semaphore

    async def _run_async(self, task: RunningTask, function: WorkerFunction, entry: tuple[Any, ...]) -> None:
        current_task.set(task)
        try:
            async with self._semaphore(function):
                result = await self._call_async(task, function, entry)
        except BaseException as error:  # noqa: BLE001 -- whatever user code raises is its result
            if isinstance(error, asyncio.CancelledError) and task.is_cancelled:
                result = (task.number, ERROR, b"", True)
            else:
                result = self._executor.failure(task, error)
        self._running.pop((id(task.peer), task.number), None)
        if self._client.objects._untold:
            self._client.objects.settle_borrows(task.peer)
        self._executor.send_result(task.peer, result)
        if self.is_exiting and not self._running and not self._stop.done():
            self._stop.set_result(None)

    async def _call_async(
        self, task: RunningTask, function: WorkerFunction, entry: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        payload = entry[2]
        kwargs: dict[str, Any] = {}
        args = payload
        if type(payload) is not tuple or len(entry) > 3:
            args, kwargs = self._executor.arguments(entry)
        value = self.method(function)(*args, **kwargs)
        if inspect.isasyncgen(value):
            return await self._stream_async(task, function, value)
        if inspect.isawaitable(value):
            value = await value
        return self._executor.pack(task, function, value)

    async def _stream_async(
        self, task: RunningTask, function: WorkerFunction, values: Any
    ) -> tuple[Any, ...]:
        sender = ItemSender(self._executor, task)
        task.peer.executing[task.number] = task
        try:
            async for value in values:
                sender.add(self._executor.pack_value(task, sender.count + 1, value))
                if 0 < function.backpressure <= sender.count - task.consumed:
                    sender.flush()
                    await self._consumed_async(task, sender.count - function.backpressure + 1)
        finally:
            sender.flush()
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
        if self._loop is not None:
            self._loop.call_soon_threadsafe(handle.cancel)
        elif handle.cancel():  # it had not started
            with self._running_lock:
                self._running.pop((id(peer), number), None)
            self._executor.send_result(peer, (number, ERROR, b"", True))
        return True

    def is_exit(self, error: BaseException) -> bool:
        return isinstance(error, ActorExit)

    def failure(self, task: RunningTask, error: BaseException) -> tuple[Any, ...]:
        """Return the result of a call that raised."""
        spec = self.spec
        if isinstance(error, ActorExit):
            self.exit("exit_actor() was called")
            died = ActorDiedError(
                actor_id=spec.actor_id.hex(),
                error_msg=f"The actor {spec.class_name} is dead: exit_actor() was called.",
                class_name=spec.class_name,
                name=spec.name,
                namespace=spec.namespace,
                pid=os.getpid(),
            )
            return task.number, ERROR, serialize(died).to_bytes(), False
        blob = task_error(task.name, error, actor_repr=self.repr(), actor_id=spec.actor_id.hex())
        return task.number, ERROR, blob, False

    def repr(self) -> str:
        """Return what the actor calls itself, if it says more than its class's name."""
        cls = type(self.instance)
        if getattr(cls, "__repr__", None) is object.__repr__:
            return self.spec.class_name
        try:
            return repr(self.instance)
        except Exception:  # noqa: BLE001 -- a user's __repr__
            return self.spec.class_name

    def exit(self, reason: str) -> None:
        """End the actor after the calls that run now."""
        self.is_exiting = True
        self._client.node.tell(messages.ACTOR_EXITING, self.spec.actor_id, reason)
        if self._loop is None and not self._pools:
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
        hook = getattr(self.instance, "__ray_shutdown__", None)
        if hook is not None:
            try:
                hook()
            except Exception:  # noqa: BLE001 -- the actor ends all the same
                traceback.print_exc()
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


def _terminate(_: ActorHost) -> None:
    raise ActorExit(0)


def _ready(_: ActorHost) -> bool:
    return True


def _call(host: ActorHost, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(host.instance, *args, **kwargs)


#: methods that every actor has; under jray's own names too
_SPECIAL: dict[str | None, Callable[..., Any]] = {
    "__ray_terminate__": _terminate,
    "__jray_terminate__": _terminate,
    "__ray_ready__": _ready,
    "__jray_ready__": _ready,
    "__ray_call__": _call,
    "__jray_call__": _call,
}
