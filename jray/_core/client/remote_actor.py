"""Owns one actor as this process calls it: where it is, the calls on their way, and what becomes of these."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from jray._core.client.actor_errors import died, unavailable
from jray._core.client.pending import PendingTask
from jray._core.engine import Tally
from jray._core.frontend import Output, OutputKind
from jray._core.machine.actors import ALIVE, DEAD, ActorView
from jray._core.machine.dispatch import Timing
from jray._core.sites import LastSite
from jray._core.specs import ONE_BY_ONE, MethodTemplate
from jray._core.wire import messages

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient
    from jray._core.client.peers import Peer

#: calls that wait for company are sent by then, or when this many have gathered
_GATHER_S = 0.0002
_GATHER_CALLS = 64
#: more calls than these waiting for one actor are said (Ray's figure)
_MANY_CALLS = 5000


class CallTemplate:
    """What the calls of one method, with the same options and from the same cell, share here."""

    __slots__ = (
        "function_name", "is_told", "max_task_retries", "name", "num_returns", "retry_exceptions", "sites", "tally",
        "timing", "wire",
    )  # fmt: skip

    def __init__(
        self,
        wire: MethodTemplate,
        max_task_retries: int,
        retry_exceptions: Any,
        function_name: str,
        tally: Tally,
        *,
        is_told: bool = True,
    ) -> None:
        self.wire = wire
        self.tally = tally
        self.function_name = function_name
        self.timing = _NO_TIMING
        self.name = wire.name
        self.num_returns = wire.num_returns
        #: -1: any number
        self.max_task_retries = max_task_retries
        self.retry_exceptions = retry_exceptions
        #: whether the state API and the timeline show these calls (enable_task_events)
        self.is_told = is_told
        #: where the calls stand in a cell; None: they come from no cell, and nobody will ask
        self.sites = LastSite() if wire.cell else None

    @property
    def max_retries(self) -> int:
        return self.max_task_retries


#: nobody divides an actor's calls into batches by their length
_NO_TIMING = Timing()


class RemoteActor:
    """One actor as this client calls it.  All its handles here share it; the client's lock guards it."""

    __slots__ = (
        "_client", "_gathered", "_last_sent_s", "_was_told_of_many", "actor_id", "inflight", "is_ordered",
        "is_reachable", "peer", "queue", "template_numbers", "view",
    )  # fmt: skip

    def __init__(self, client: CoreClient, actor_id: bytes, *, is_ordered: bool) -> None:
        self._client = client
        self.actor_id = actor_id
        self.view: ActorView | None = None
        self.is_ordered = is_ordered
        #: calls that can't be sent yet, in the order they were made
        self.queue: deque[PendingTask] = deque()
        #: calls sent and not answered, oldest first
        self.inflight: dict[int, PendingTask] = {}
        #: calls that could be sent and wait a moment for company
        self._gathered: list[PendingTask] = []
        self._last_sent_s = 0.0
        self._was_told_of_many = False
        self.peer: Peer | None = None
        self.is_reachable = False
        self.template_numbers: dict[Any, CallTemplate] = {}

    # -- calls ------------------------------------------------------------------------------------

    def running_locked(self) -> Iterator[PendingTask]:
        """Return the calls that run, as far as is known here: the oldest, as many as the actor lets run at once."""
        concurrency = ONE_BY_ONE if self.view is None else self.view.concurrency
        return concurrency.running(
            (task.template.wire.method, task.template.wire.concurrency_group, task)
            for task in self.inflight.values()
        )

    def outstanding(self) -> int:
        return len(self.queue) + len(self.inflight) + len(self._gathered)

    def tell_if_many(self) -> None:
        """Say once that calls pile up."""
        if self._was_told_of_many or self.outstanding() <= _MANY_CALLS:
            return
        self._was_told_of_many = True
        name = f"the actor {self.view.class_name}" if self.view is not None else "an actor"
        text = (
            f"More than {_MANY_CALLS} calls of {name} ({self.actor_id.hex()}) are waiting. Wait for some with "
            "jray.wait() before you make more, or give the actor max_pending_calls."
        )
        self._client.show_output(Output(0, OutputKind.NOTICE, text, None, "jray", 0, ""))

    def submit(self, task: PendingTask) -> None:
        """Send a call now, soon, or when the actor is there and its arguments are."""
        client = self._client
        if client.loss is not None:
            client.outcomes.fail(task, client.loss)
            return
        if self.view is not None and self.view.state == DEAD:
            client.outcomes.fail(task, self.death())
            return
        if task.dependencies and not client.tasks.wait_for_dependencies(task, self._ready):
            if self.is_ordered:
                self.queue.append(task)
            return
        if self.is_reachable and not self.queue:
            self._gather(task)
        else:
            self.queue.append(task)

    def _ready(self, task: PendingTask) -> None:
        if not self.is_ordered:
            self.queue.append(task)
        self.advance()

    def advance(self) -> None:
        """Send what can be sent."""
        while self.is_reachable and self.queue and not self.queue[0].unready:
            self._gather(self.queue.popleft())

    def _gather(self, task: PendingTask) -> None:
        gathered = self._gathered
        gathered.append(task)
        if not self.inflight or len(gathered) >= _GATHER_CALLS or monotonic() - self._last_sent_s > _GATHER_S:
            self.flush()
        elif len(gathered) == 1:
            self._client.gathering.append(self)
            self._client.pump.nudge()

    def flush(self) -> None:
        """Send the calls that were gathered."""
        tasks, self._gathered = self._gathered, []
        peer = self.peer
        if not tasks:
            return
        if peer is None:
            self.queue.extendleft(reversed(tasks))
            return
        known = peer.connection.known
        definitions: list[Any] = []
        wire: list[Any] = []
        for task in tasks:
            definition = task.template.wire
            if task.positions is None:
                wire.append((task.number, definition.number, task.payload))
            else:
                entry = self._client.tasks.wire_form(task)
                if entry is None:  # an argument failed: so did the call
                    continue
                wire.append(entry)
            if definition.number not in known:
                known.add(definition.number)
                definitions.append((definition, None))
            self.inflight[task.number] = task
        if wire:
            peer.connection.send((messages.CALL, wire, definitions))
        self._last_sent_s = monotonic()

    def answered(self) -> None:
        """The actor answered: it has room for what was gathered meanwhile."""
        if self._gathered:
            self.flush()

    def requeue(self, task: PendingTask) -> None:
        """Call again, after what is queued already."""
        self.queue.append(task)
        self.advance()

    # -- what becomes of the actor -------------------------------------------------------------------

    def changed(self, view: ActorView) -> None:
        """The head told a new state."""
        self.view = view
        self.is_ordered = view.is_ordered
        if view.state == ALIVE:
            if self.peer is not None and self.peer.address == view.address:
                return
            try:
                peer = self._client.peers.get(view.address)
            except OSError:  # it died since, and the head will say so
                return
            peer.actor = self
            self.peer = peer
            self.is_reachable = True
            self.advance()
            return
        self.is_reachable = False
        self._settle_lost(view)
        if view.state == DEAD:
            queue, self.queue = self.queue, deque()
            for task in queue:
                self._client.outcomes.fail(task, self.death())

    def disconnected(self) -> None:
        """The connection closed; the head will tell whether the actor restarts."""
        self.peer = None
        self.is_reachable = False

    def _settle_lost(self, view: ActorView) -> None:
        """Decide about the calls that the dead process had: they may have run."""
        lost = [*self.inflight.values(), *self._gathered]
        self.inflight = {}
        self._gathered = []
        again: list[PendingTask] = []
        for task in lost:
            if task.is_cancelled:
                self._client.outcomes.fail_cancelled(task)
            elif view.state != DEAD and task.retries_left:
                task.retries_left -= task.retries_left > 0
                if task.stream is not None:
                    task.stream.restarted()
                again.append(task)
            elif view.state == DEAD:
                self._client.outcomes.fail(task, self.death())
            else:
                self._client.outcomes.fail(task, unavailable(view))
        self.queue.extendleft(reversed(again))

    def death(self) -> BaseException:
        """Return the error of a call to the dead actor."""
        return died(self.actor_id, self.view)

    def cancel(self, task: PendingTask, *, recursive: bool) -> None:
        """Cancel a call: drop it if it was not sent, else ask the actor."""
        task.is_cancelled = True
        if task.number in self.inflight and self.peer is not None:
            self.peer.connection.send((messages.CANCEL, task.number, False, recursive))
            return
        for place in (self.queue, self._gathered):
            if task in place:
                place.remove(task)
        task.unready = -1
        self._client.outcomes.fail_cancelled(task)
        self.advance()

    def drop_cancelled(self) -> None:
        """Take the cancelled calls out of what waits to be sent."""
        self.queue = deque(task for task in self.queue if not task.is_cancelled)
        self._gathered = [task for task in self._gathered if not task.is_cancelled]
