"""Owns `Queue`: a first-in, first-out queue that lives in an actor, and the actor."""

from __future__ import annotations

import asyncio
import operator
import os
import queue
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import jray
from jray.util._vows import CONCURRENCY, Vows

if TYPE_CHECKING:
    import concurrent.futures

T = TypeVar("T")


class Empty(queue.Empty):
    """There is nothing in the queue, or less than was asked for."""


class Full(queue.Full):
    """There is no room in the queue, or less than was asked for."""


class Queue:
    """A first-in, first-out queue for tasks, actors and drivers.

        queue = Queue(maxsize=10)
        producer.remote(queue)
        queue.get(timeout=5)

    The items live in an actor, one small process, that needs no CPU unless `actor_options` asks for one.  It
    ends with the last copy of the queue in any process, or by `shutdown`.  A queue passed to a task or put
    into an object is the same queue there.  Items are copied; a top-level ObjectRef is replaced by its value.

    Every operation is a call of that actor and blocks for its answer; all raise ActorDiedError once it is
    gone.  An interrupt of a blocking `get` loses no item, nor does the cancelling of `get_async`.
    """

    def __init__(self, maxsize: int = 0, actor_options: Mapping[str, Any] | None = None) -> None:
        """Make a queue of at most `maxsize` items; any number for 0 or less.

        `actor_options` are options of the queue's actor, such as `{"name": "jobs", "lifetime": "detached"}`.
        """
        self.maxsize = operator.index(maxsize)
        options = {"num_cpus": 0, "max_concurrency": CONCURRENCY, **(actor_options or {})}
        #: None after `shutdown`
        self.actor: Any = _REMOTE_QUEUE.options(**options).remote(self.maxsize)

    def __repr__(self) -> str:
        return f"Queue(maxsize={self.maxsize}, actor={self.actor!r})"

    # -- looking ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """Return how many items are in the queue."""
        count: int = jray.get(self._living().qsize.remote())
        return count

    def qsize(self) -> int:
        """Return how many items are in the queue."""
        return self.size()

    def empty(self) -> bool:
        """Tell whether there is no item in the queue."""
        is_empty: bool = jray.get(self._living().empty.remote())
        return is_empty

    def full(self) -> bool:
        """Tell whether there is no room in the queue."""
        is_full: bool = jray.get(self._living().full.remote())
        return is_full

    # -- one item ---------------------------------------------------------------------------------

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item at the end; blocks while the queue is full, at most `timeout` seconds.

        Raises Full at the end of that time, or at once without `block`; ValueError for a negative `timeout`.
        """
        call = self._living().put.remote(item, _patience(block, timeout))
        try:
            is_done = jray.get(call)
        except BaseException as error:
            _withdraw(call, error)
            raise
        if not is_done:
            raise Full(f"The queue holds {self.maxsize} items and takes no more.")

    async def put_async(
        self,
        item: Any,
        block: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 -- Ray's parameter
    ) -> None:
        """Do as `put`, but let other coroutines run meanwhile."""
        call = self._living().put.remote(item, _patience(block, timeout))
        try:
            is_done = await call
        except BaseException as error:
            _withdraw(call, error)
            raise
        if not is_done:
            raise Full(f"The queue holds {self.maxsize} items and takes no more.")

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the first item; blocks while there is none, at most `timeout` seconds.

        Raises Empty at the end of that time, or at once without `block`; ValueError for a negative `timeout`.
        """
        timeout_s = _patience(block, timeout)
        items = self._received(self._get(0))
        if not items and timeout_s != 0:
            items = self._received(self._get(timeout_s))
        if not items:
            raise Empty("The queue is empty.")
        return items[0]

    async def get_async(
        self,
        block: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 -- Ray's parameter
    ) -> Any:
        """Do as `get`, but let other coroutines run meanwhile."""
        timeout_s = _patience(block, timeout)
        items = await self._received_async(self._get(0))
        if not items and timeout_s != 0:
            items = await self._received_async(self._get(timeout_s))
        if not items:
            raise Empty("The queue is empty.")
        return items[0]

    def put_nowait(self, item: Any) -> None:
        """Add an item, or raise Full at once."""
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        """Take the first item, or raise Empty at once."""
        return self.get(block=False)

    # -- many items -------------------------------------------------------------------------------

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Add all the items, in order, or raise Full at once and add none."""
        if not isinstance(items, Iterable):
            raise TypeError(f"items must be an iterable, got {items!r}")
        batch = list(items)
        size = jray.get(self._living().put_batch.remote(batch))
        if size is not None:
            raise Full(
                f"The queue holds {size} of at most {self.maxsize} items: no room for {len(batch)} more."
            )

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take the first `num_items` items, or raise Empty at once and take none."""
        if not isinstance(num_items, int):
            raise TypeError(f"num_items must be an int, got {num_items!r}")
        if num_items < 0:
            raise ValueError(f"num_items must not be negative, got {num_items}")
        is_done, items = jray.get(self._living().get_batch.remote(num_items))
        if not is_done:
            raise Empty(f"The queue holds {items} items, not {num_items}.")
        batch: list[Any] = items
        return batch

    # -- the end ----------------------------------------------------------------------------------

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the queue's actor; what is in it is lost, and those who wait get ActorDiedError.

        Blocks for at most `grace_period_s` seconds while calls that wait may still finish; `force` gives
        them no time.  A second call does nothing.
        """
        actor, self.actor = self.actor, None
        if actor is None:
            return
        if not force:
            ending = actor.__ray_terminate__.remote()
            if jray.wait([ending], timeout=grace_period_s)[0]:
                return
        jray.kill(actor, no_restart=True)

    # -- helpers ----------------------------------------------------------------------------------

    def _living(self) -> Any:
        if self.actor is None:
            raise RuntimeError("This queue was shut down with Queue.shutdown().")
        return self.actor

    def _get(self, timeout_s: float | None) -> Any:
        """Call the actor; return the ref of a list of the item, which is empty at the end of the time."""
        actor = self._living()
        if timeout_s == 0:
            return actor.get.remote(0)
        token = os.urandom(8)
        return actor.get.remote(timeout_s, token, [actor.vow.remote(token)])

    def _received(self, call: Any) -> list[Any]:
        try:
            items: list[Any] = jray.get(call)
        except BaseException as error:
            self._give_up(call, error)
            raise
        return items

    async def _received_async(self, call: Any) -> list[Any]:
        try:
            items: list[Any] = await call
        except BaseException as error:
            self._give_up(call, error)
            raise
        return items

    def _give_up(self, call: Any, error: BaseException) -> None:
        """See to it that a `get` whose caller was interrupted takes no item."""
        if not _withdraw(call, error):
            return
        actor = self.actor

        def give_back(future: concurrent.futures.Future[Any]) -> None:
            if future.exception() is None and future.result():
                actor.give_back.remote(future.result())

        # the item may have been on its way already
        call.future().add_done_callback(give_back)


def _patience(block: bool, timeout: float | None) -> float | None:
    """Return how many seconds the actor shall wait; None: without end."""
    if not block:
        return 0
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout must not be negative, got {timeout}")
    return timeout


def _withdraw(call: Any, error: BaseException) -> bool:
    """Cancel a call if it was not the queue that raised *error*, but an interrupt; return whether."""
    if isinstance(error, Exception):
        return False
    jray.cancel(call)
    return True


class _QueueActor:
    """The items, and who waits for them: all on one event loop, so that no step is seen half done."""

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._items: deque[Any] = deque()
        #: of those that wait for an item, longest first: resolved with a list of it, or with none
        self._getters: dict[asyncio.Future[list[Any]], None] = {}
        #: of those that wait for room, longest first, with what they want to add
        self._putters: dict[asyncio.Future[bool], Any] = {}
        self._vows = Vows()

    def qsize(self) -> int:
        return len(self._items)

    def empty(self) -> bool:
        return not self._items

    def full(self) -> bool:
        return 0 < self._maxsize <= len(self._items)

    async def put(self, item: Any, timeout_s: float | None) -> bool:
        """Return whether the item was added; it is not after `timeout_s` seconds without room."""
        if not self.full():
            self._items.append(item)
            self._match()
            return True
        if timeout_s == 0:
            return False
        added: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._putters[added] = item
        try:
            return await _within(added, timeout_s, otherwise=False)
        finally:
            self._putters.pop(added, None)

    async def get(self, timeout_s: float | None, token: bytes = b"", vow: Sequence[Any] = ()) -> list[Any]:
        """Return a list of the item, which is empty after `timeout_s` seconds without one.

        Who waits vows for it: no item may go to a process that has died while it waited.
        """
        if self._items or timeout_s == 0:
            items = [self._items.popleft()] if self._items else []
            self._match()
            if token:
                self._vows.end(token)
            return items
        found: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._getters[found] = None
        self._vows.watch(token, vow[0], found.cancel)
        try:
            return await _within(found, timeout_s, otherwise=[])
        except asyncio.CancelledError:
            if found.done() and not found.cancelled():
                self.give_back(found.result())
            raise
        finally:
            self._getters.pop(found, None)
            self._vows.end(token)

    async def vow(self, token: bytes) -> None:
        """Last until the `get` of that token ends."""
        await self._vows.keep(token)

    def put_batch(self, items: list[Any]) -> int | None:
        """Add all and return None; or add none and return how many there are."""
        if 0 < self._maxsize < len(self._items) + len(items):
            return len(self._items)
        self._items.extend(items)
        self._match()
        return None

    def get_batch(self, num_items: int) -> tuple[bool, Any]:
        """Return True and that many; or False and how many there are."""
        if len(self._items) < num_items:
            return False, len(self._items)
        batch = [self._items.popleft() for _ in range(num_items)]
        self._match()
        return True, batch

    def give_back(self, items: list[Any]) -> None:
        """Put what was taken and not received to the front again, if need be beyond the maximum."""
        self._items.extendleft(reversed(items))
        self._match()

    def _match(self) -> None:
        """Let those who wait have what there is by now: items, room."""
        while True:
            if self._items and (found := _first(self._getters)) is not None:
                del self._getters[found]
                found.set_result([self._items.popleft()])
            elif not self.full() and (added := _first(self._putters)) is not None:
                self._items.append(self._putters.pop(added))
                added.set_result(True)
            else:
                return


def _first(waiting: dict[asyncio.Future[Any], Any]) -> asyncio.Future[Any] | None:
    """Return the first of those that still wait."""
    return next((future for future in waiting if not future.done()), None)


async def _within(future: asyncio.Future[T], timeout_s: float | None, *, otherwise: T) -> T:
    """Wait for *future*, which after `timeout_s` seconds resolves to `otherwise`.

    Unlike `asyncio.wait_for`, it either resolves to what somebody gave it or nobody can give it anything.
    """

    def expire() -> None:
        if not future.done():
            future.set_result(otherwise)

    timer = None if timeout_s is None else asyncio.get_running_loop().call_later(timeout_s, expire)
    try:
        return await future
    finally:
        if timer is not None:
            timer.cancel()


_REMOTE_QUEUE = jray.remote(_QueueActor)
