"""Owns the running of async actors' calls, as coroutines of the actor's loop."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Awaitable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from jray._core.client.results import STREAMING
from jray._core.inline import failures
from jray._core.inline.calls import RUNS, Call, running
from jray._core.inline.objects import Entry
from jray.exceptions import TaskCancelledError

if TYPE_CHECKING:
    from jray._core.inline.core import InlineClient
    from jray._core.inline.lives import Life
    from jray._core.inline.local_actor import LocalActor


def start(actor: LocalActor, call: Call, life: Life, group: str) -> None:
    """Have a call begin when the loop is given a round and its group has room."""
    call.phase = RUNS

    def begin() -> None:
        assert life.loop is not None
        call.handle = life.loop.create_task(_coroutine(actor, call, life, group))

    life.call_soon(begin)


async def _coroutine(actor: LocalActor, call: Call, life: Life, group: str) -> None:
    attempt, runner = call.attempt, actor.client.runner
    running.set(call)
    passing: BaseException | None = None
    try:
        async with life.semaphore(group):
            entries = await _run(actor, call, life)
    except BaseException as error:  # noqa: BLE001 -- whatever the user's code raises is its result
        actor.client.end_fork()
        if failures.passes_on(error):
            passing = error
        if call.attempt == attempt:
            runner.failed(call, error)
    else:
        actor.client.end_fork()
        if call.attempt == attempt:
            runner.succeeded(call, entries)
    actor.left(call, life, group)
    if passing is not None:
        assert life.loop is not None
        life.loop.passing = passing  # asyncio would keep it as the outcome of its task
        life.loop.stop()


async def _run(actor: LocalActor, call: Call, life: Life) -> Iterable[Entry]:
    runner = actor.client.runner
    call.started_s = monotonic()
    args, kwargs = runner.arguments(call)
    value = actor.method(call, life)(*args, **kwargs)
    del args, kwargs
    if inspect.isasyncgen(value):
        if call.template.num_returns != STREAMING:
            raise ValueError(
                f"{call.name}() is an async generator, which makes a stream of items: leave out num_returns."
            )
        await _stream(actor.client, call, value)
        return []
    if inspect.isawaitable(value):
        value = await value
    if call.template.num_returns == STREAMING:
        await _stream(actor.client, call, _as_async(value))
        return []
    return runner.entries(call, value)


async def _stream(client: InlineClient, call: Call, values: Any) -> None:
    stream = call.get_stream()
    if stream is not None:
        stream.restarted()
    del stream  # the consumer alone keeps it
    async for value in values:
        entry = client.objects.entry(value)
        ready = _item_made(call, entry)
        if ready is not None:
            await ready
        if call.is_cancelled:
            raise TaskCancelledError(call.task_id.hex())


def _item_made(call: Call, entry: Entry) -> Awaitable[None] | None:
    """Hand on an item; return what to wait for before the next is made."""
    stream = call.get_stream()
    if stream is None:
        return asyncio.sleep(0)  # one that never ends must not hold up its loop
    stream.arrived(entry)
    if not stream.is_ahead():
        return None
    loop, life = asyncio.get_running_loop(), call.life
    ready: asyncio.Future[None] = loop.create_future()
    consumer = weakref.ref(stream)

    def settle() -> None:
        if not ready.done():
            ready.set_result(None)

    def taken() -> None:
        current = consumer()
        if life is not None and (current is None or not current.is_ahead()):
            life.call_soon(settle)

    stream.on_taken = taken
    return ready


async def _as_async(values: Iterable[Any]) -> Any:
    for value in values:
        yield value
