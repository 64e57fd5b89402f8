"""Owns the items of a generator call: those it has yielded, and its going on as they are taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jray._core.generator import ObjectRefGenerator
from jray._core.inline.calls import Call
from jray._core.inline.objects import Entry
from jray._core.refs import ATOM, ERROR, ObjectRef

if TYPE_CHECKING:
    from jray._core.inline.core import InlineClient

_END_INDEX = 0xFFFFFFFF


class Stream:
    """What an `ObjectRefGenerator` reads from: see `jray._core.generator.ItemStream`.

    Only the consumer keeps it: its producer has a weak reference, and goes on without it.
    """

    __slots__ = (
        "__weakref__", "_client", "_end_ref", "_expected", "_items", "_restarted", "_taken", "_waiters", "call",
        "is_complete", "name", "on_taken",
    )  # fmt: skip

    def __init__(self, client: InlineClient, call: Call) -> None:
        self._client = client
        self.call = call
        self.name = call.name
        self._items: deque[ObjectRef[Any]] = deque()
        #: items there have been, and how many of these the present attempt has yielded again
        self._expected = 0
        self._restarted = 0
        self._taken = 0
        self._waiters: list[Callable[[object], None]] = []
        self.is_complete = False
        self._end_ref: ObjectRef[Any] | None = None
        #: makes a producer that waits for its consumer go on
        self.on_taken: Callable[[], None] | None = None

    def generator(self) -> ObjectRefGenerator:
        return ObjectRefGenerator(self)

    # -- what the producer tells ----------------------------------------------------------------------

    def restarted(self) -> None:
        """The generator begins anew; items that were there before do not come twice."""
        self._restarted = 0

    def arrived(self, entry: Entry) -> None:
        self._restarted += 1
        if self._restarted <= self._expected:
            return
        self._expected += 1
        self._add(entry)
        self._wake()

    def is_ahead(self) -> bool:
        """Tell whether the producer is to wait until an item is taken."""
        limit = self.call.template.backpressure
        return 0 < limit <= self._restarted - self._taken

    def ended(self) -> None:
        if self.is_complete:
            return
        self.is_complete = True
        self.on_taken = None
        end, self._end_ref = self._end_ref, None
        if end is not None:
            self._client.objects.resolve(end, (ATOM, None, None))
        self._wake()

    def failed(self, error: Any) -> None:
        """The error is the last item."""
        if not self.is_complete:
            self._expected += 1
            self._add((ERROR, error, None))
            self.ended()

    def _add(self, entry: Entry) -> None:
        client, call = self._client, self.call
        ref = client.own(client.objects.new_ref(client.object_id(call.number, self._expected)), call.owner)
        client.objects.resolve(ref, entry)
        self._items.append(ref)

    def _wake(self) -> None:
        with self._client.lock:
            waiters, self._waiters = self._waiters, []
            self._client.changed.notify_all()
        for waiter in waiters:
            waiter(None)

    # -- what consumers ask ---------------------------------------------------------------------------

    def has_next(self) -> bool:
        return bool(self._items) or self.is_complete

    def ready_count(self) -> int:
        return len(self._items)

    def is_finished(self) -> bool:
        return self.is_complete and not self._items

    def task_id(self) -> bytes:
        return self.call.task_id

    def when_next(self, callback: Callable[[object], None]) -> None:
        with self._client.lock:
            waits = not self.has_next()
            if waits:
                self._waiters.append(callback)
        if waits:
            self._client.drive_until(self.has_next)
        else:
            callback(None)

    def wait_next(self, timeout_s: float | None) -> bool:
        return self.has_next() or self._client.wait_until(self.has_next, timeout_s, self.call)

    def take(self) -> ObjectRef[Any] | None:
        if not self._items:
            return None
        ref = self._items.popleft()
        self._taken += 1
        if self.on_taken is not None:
            self.on_taken()
        return ref

    def end_ref(self) -> ObjectRef[Any]:
        client, call = self._client, self.call
        if self._end_ref is not None:
            return self._end_ref
        ref = client.own(client.objects.new_ref(client.object_id(call.number, _END_INDEX), call), call.owner)
        if self.is_complete:
            client.objects.resolve(ref, (ATOM, None, None))
        else:
            self._end_ref = ref
        return ref

    def __del__(self) -> None:
        # nobody will take an item any more, so a producer that waits for that goes on; not here, as a finalizer may
        # run anywhere
        if not self.is_complete and self.on_taken is not None:
            self._client.turns.abandoned.append(self.on_taken)
