"""Owns the room in a full store: creates that wait for it, and the rounds that move objects to disk.

What is moved is decided by `jray._core.machine.spilling`; files are written by a thread, one at a time.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from jray._core.config import Config
from jray._core.machine import spilling as machine
from jray._core.store.arena import Store
from jray._core.store.ledger import Block, StoreFull
from jray._core.store.segment import SegmentError
from jray._core.store.spill import DiskFull, Place, SpillFiles, layout, write_file
from jray._core.wire import messages

#: seconds that clients may take to offer something
_OFFER_S = 2.0
#: after a round that found nothing, the next waits this long
_AGAIN_S = 0.1
_AGAIN_IN_BACKGROUND_S = 1.0
_AGAIN_AFTER_FAILURE_S = 2.0
#: a round in the background goes on until the store is this much below its threshold
_DOWN_BY = 0.2
#: a round moves at least this many bytes (Ray's figure), but no more than that part of the store: few and large files
_LEAST_BYTES = 100 * 1000**2
_LEAST_PART = 0.25


@dataclasses.dataclass(slots=True)
class _Waiting:
    """A create that has no room yet."""

    client: int  #: 0: the node itself
    object_id: bytes
    size: int
    deadline_s: float
    answer: Callable[[tuple[str, Any]], None]


class SpillService:
    """Gives creates their blocks, and makes room for them.  For one thread, but for the writing.

    `send(client, message)` reaches a client if it lives; `wake()` makes the loop call `advance` soon.
    """

    def __init__(
        self,
        *,
        config: Config,
        node_id: bytes,
        store: Store,
        files: SpillFiles,
        send: Callable[[int, tuple[Any, ...]], None],
        wake: Callable[[], None],
    ) -> None:
        self._config = config
        self._store = store
        self.files = files
        self._node_id = node_id
        self._send = send
        self._wake = wake
        self._machine = machine.Spilling()
        self._waiting: deque[_Waiting] = deque()
        #: what the writing thread left to be handled: (round, error or None)
        self._written: deque[tuple[int, BaseException | None]] = deque()
        #: writes the file of the round that goes on
        self._writer: threading.Thread | None = None
        self._chosen: tuple[machine.Offer, ...] = ()
        self._places: list[Place] = []
        self._offers_until_s = 0.0
        self._not_before_s = 0.0
        #: why nothing could be written the last time
        self._fault: BaseException | None = None
        self.rounds = 0
        #: drops so many bytes of what nobody needs here, and tells whether there was any
        self.evict: Callable[[int], bool] = lambda _: False

    # -- what clients say -------------------------------------------------------------------------

    def create(self, client: int, request: int, object_id: bytes, size: int) -> None:
        """Answer with a block, now or when there is room, or say in time that there will be none."""

        def answer(found: tuple[str, Any]) -> None:
            self._send(client, (messages.REPLY, request, False, found))

        self._enqueue(client, object_id, size, answer)

    def reserve(self, object_id: bytes, size: int, answer: Callable[[tuple[str, Any]], None]) -> None:
        """Do as `create` for the node itself; `answer` gets what a client would."""
        self._enqueue(0, object_id, size, answer)

    def _enqueue(
        self, client: int, object_id: bytes, size: int, answer: Callable[[tuple[str, Any]], None]
    ) -> None:
        deadline_s = time.monotonic() + self._config.store_full_grace_s
        entry = _Waiting(client, object_id, size, deadline_s, answer)
        if self._waiting:
            self._waiting.append(entry)  # in turn, or small ones would take what was cleared for a large one
        elif not self._try(entry, is_last=size > self._store.ledger.capacity or not self._config.spills):
            self._waiting.append(entry)
            self._serve(time.monotonic())

    def sealed(self) -> None:
        """An object more: if there are many, begin to move some before somebody has to wait."""
        ledger = self._store.ledger
        if self._machine.round or ledger.used <= self._config.spill_threshold * ledger.capacity:
            return
        now = time.monotonic()
        if self._config.spills and now >= self._not_before_s:
            self._not_before_s = now + _AGAIN_IN_BACKGROUND_S
            target = (self._config.spill_threshold - _DOWN_BY) * ledger.capacity
            if self.evict(int(ledger.used - target)) and ledger.used <= target:
                return
            self._begin(int(ledger.used - target), now)

    def freed(self, object_ids: Iterable[bytes]) -> None:
        """Objects are needed no more: those on disk are removed."""
        for object_id in object_ids:
            self.files.free(object_id)

    def offered(self, client: int, round_: int, offers: list[tuple[Any, ...]]) -> None:
        """A client can do without these."""
        self._perform(self._machine.offered(round_, client, [machine.Offer(*offer) for offer in offers]))

    def moved(self, client: int, round_: int, places: list[int]) -> None:
        """A client took these copies."""
        self._perform(self._machine.moved(round_, client, places))

    def client_gone(self, client: int) -> None:
        """A client died: nobody reads what it owned on disk, nor waits for its creates."""
        self._waiting = deque(entry for entry in self._waiting if entry.client != client)
        self._perform(self._machine.client_gone(client))
        self.files.release_client(client)

    # -- the loop ---------------------------------------------------------------------------------

    def next_deadline_s(self) -> float | None:
        """Return when `advance` must be called at the latest; None: no matter."""
        moments = [entry.deadline_s for entry in self._waiting]
        if self._waiting and not self._machine.round:
            moments.append(self._not_before_s)
        if self._machine.is_asking:
            moments.append(self._offers_until_s)
        return min(moments, default=None)

    def advance(self) -> None:
        """Do what is due; called after each turn of the loop."""
        if not self._waiting and not self._written and not self._machine.round:
            return
        while self._written:
            round_, error = self._written.popleft()
            # what is gone was freed meanwhile: another round will find other objects
            self._fault = None if isinstance(error, SegmentError) else error
            if error is None:
                self.files.written_file(self._places)
                self._perform(self._machine.copied(round_))
            else:
                wait_s = _AGAIN_S if self._fault is None else _AGAIN_AFTER_FAILURE_S
                self._not_before_s = time.monotonic() + wait_s
                self._perform(self._machine.failed(round_))
        now = time.monotonic()
        if self._machine.is_asking and now >= self._offers_until_s:
            self._perform(self._machine.overdue())
        self._serve(now)

    def close(self) -> None:
        """Wait for the thread, if there is one, and remove what it wrote."""
        if self._writer is not None:
            self._writer.join()
        self.files.close()

    # -- inside -----------------------------------------------------------------------------------

    def _serve(self, now: float) -> None:
        """Give blocks in turn, and begin a round when the first gets none."""
        if now >= self._not_before_s:
            self._fault = None  # it was long ago: there may be room on the disk by now
        while self._waiting:
            entry = self._waiting[0]
            is_over = now >= entry.deadline_s and not self._machine.round
            is_last = is_over or self._fault is not None or entry.size > self._store.ledger.capacity
            if not self._try(entry, is_last=is_last):
                if not self._machine.round and now >= self._not_before_s:
                    self._begin(entry.size, now)
                break
            self._waiting.popleft()

    def _try(self, entry: _Waiting, *, is_last: bool) -> bool:
        """Answer a create; return False if there is no room and time to wait for it."""
        answer: tuple[str, Any]
        try:
            answer = ("block", self._create(entry))
        except StoreFull as full:
            if not is_last:
                return False
            numbers = {
                "needed_bytes": full.needed, "free_bytes": full.free, "capacity_bytes": full.capacity,
            }  # fmt: skip
            answer = ("full", numbers)
            if isinstance(self._fault, DiskFull):
                answer = ("disk", self._fault.numbers)
            elif self._fault is not None:
                answer = ("failed", f"nothing could be moved to disk: {self._fault}")
        except OSError as error:
            answer = ("failed", f"{type(error).__name__}: {error}")
        entry.answer(answer)
        return True

    def _create(self, entry: _Waiting) -> Block:
        try:
            return self._store.create(entry.object_id, entry.size, entry.client)
        except StoreFull:
            if not self.evict(entry.size):
                raise
            return self._store.create(entry.object_id, entry.size, entry.client)

    def _begin(self, wanted: int, now: float) -> None:
        self.rounds += 1
        self._fault = None
        self._offers_until_s = now + _OFFER_S
        least = min(_LEAST_BYTES, int(self._store.ledger.capacity * _LEAST_PART))
        self._perform(self._machine.begin(max(wanted, least), self._store.ledger.owners()))

    def _perform(self, actions: list[machine.Action]) -> None:
        for action in actions:
            if isinstance(action, machine.Ask):
                for client in action.clients:
                    self._send(client, (messages.SPILL_ASK, self._node_id, action.round, action.wanted))
            elif isinstance(action, machine.Copy):
                self._copy(action)
            elif isinstance(action, machine.Move):
                moves = [
                    (place, *self._chosen[place][:3], self._places[place].file, self._places[place].offset)
                    for place in action.places
                ]
                self._send(action.client, (messages.SPILL_MOVE, self._node_id, action.round, moves))
            elif isinstance(action, machine.Settle):
                self._settle(action)
            else:
                self._ended(action)

    def _copy(self, action: machine.Copy) -> None:
        self._chosen = action.offers
        self._places = layout(self.files.new_file(), [offer.size for offer in action.offers])
        places = self._places
        try:
            sources = [(*self._store.file_of(offer.segment), offer.offset) for offer in action.offers]
        except KeyError as error:  # freed since, with its segment
            self._written.append((action.round, SegmentError(f"segment {error} is gone")))
            self._wake()
            return

        def write() -> None:
            error: BaseException | None = None
            try:
                self.files.make_directory()
                write_file(self.files.directory, places, sources)
            except BaseException as failure:  # noqa: BLE001 -- whatever it is, the loop must hear of it
                error = failure
            self._written.append((action.round, error))
            self._wake()

        self._writer = threading.Thread(target=write, name="jray-spill", daemon=True)
        self._writer.start()

    def _settle(self, action: machine.Settle) -> None:
        for place in action.taken:
            object_id, segment, offset, _ = self._chosen[place]
            self._store.ledger.evict(object_id, segment, offset)
            self.files.keep(object_id, self._places[place], action.client)
        for place in action.refused:
            self.files.drop(self._places[place])

    def _ended(self, action: machine.Ended) -> None:
        now = time.monotonic()
        if action.freed:
            self._not_before_s = now
            for entry in self._waiting:
                entry.deadline_s = now + self._config.store_full_grace_s
        else:
            self._not_before_s = max(self._not_before_s, now + _AGAIN_S)
        self._wake()
