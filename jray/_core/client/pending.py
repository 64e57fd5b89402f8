"""Owns the record of a submitted task, and what the calls of one remote function share."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from jray._core.client.functions import ExportedCode
from jray._core.client.streams import Stream
from jray._core.engine import Tally
from jray._core.refs import ObjectRef
from jray._core.specs import FunctionTemplate

if TYPE_CHECKING:
    from jray._core.client.leasing import OwnerQueue


class RemoteTemplate:
    """What the calls of one remote function, with the same options and from the same cell, share here."""

    __slots__ = (
        "code", "function_name", "is_told", "max_retries", "name", "num_returns", "queue", "retry_exceptions", "tally",
        "timing", "wire",
    )  # fmt: skip

    def __init__(
        self,
        wire: FunctionTemplate,
        code: ExportedCode,
        queue: OwnerQueue,
        retry_exceptions: bool | tuple[type[BaseException], ...],
        function_name: str,
        is_told: bool,
        tally: Tally,
    ) -> None:
        self.wire = wire
        self.tally = tally
        self.code = code
        self.timing = code.timing
        self.queue = queue
        self.name = wire.name
        self.function_name = function_name
        #: whether the state API and the timeline show these calls (enable_task_events)
        self.is_told = is_told
        self.num_returns = wire.num_returns
        self.max_retries = wire.max_retries
        self.retry_exceptions = retry_exceptions


class PendingTask:
    """A submitted task that has no result yet, or, stripped of what it held, the memory of one that had."""

    __slots__ = (
        "actor", "dependencies", "ended_s", "error_type", "is_cancelled", "is_solo", "lease", "number", "parent",
        "payload", "pins", "positions", "queue", "refs", "retries_left", "stream", "submitted_s", "template", "unready",
    )  # fmt: skip

    def __init__(self, number: int, template: Any, payload: Any, retries_left: int, parent: Any) -> None:
        self.number = number
        self.template = template
        #: plain args, serialized (args, kwargs), or a ref to these; of an ended task its error, as exception or bytes
        self.payload = payload
        self.retries_left = retries_left
        self.parent = parent
        self.submitted_s = monotonic()
        self.is_solo = False
        self.is_cancelled = False
        self.positions: tuple[int | str, ...] | None = None
        self.dependencies: list[ObjectRef[Any]] | None = None
        self.pins: Any = None
        #: where it waits for a worker, if that is not its template's queue but that of the node of its arguments
        self.queue: OwnerQueue | None = None
        #: how many of `dependencies` have no value yet
        self.unready = 0
        self.lease: Any = None
        self.actor: Any = None
        self.stream: Stream | None = None
        self.refs: Any = None
        #: when its outcome came, by the monotonic clock; 0: it has none yet
        self.ended_s = 0.0
        #: Ray's name for what ended it, once somebody has asked
        self.error_type: str | None = None

    @property
    def name(self) -> str:
        return str(self.template.name)

    @property
    def is_sent(self) -> bool:
        """Whether a worker or an actor has it, and has not answered."""
        place = self.actor if self.actor is not None else self.lease
        return place is not None and self.number in place.inflight

    def strip(self) -> None:
        """Let go of everything that others could miss: from now on this is only a memory."""
        self.queue = None
        self.refs = self.pins = self.dependencies = self.stream = None
