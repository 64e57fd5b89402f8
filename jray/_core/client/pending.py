"""Owns the record of a submitted task, and what the calls of one remote function share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jray._core.client.functions import ExportedCode
from jray._core.client.streams import Stream
from jray._core.machine.dispatch import Timing
from jray._core.refs import ObjectRef
from jray._core.specs import FunctionTemplate

if TYPE_CHECKING:
    from jray._core.client.leasing import OwnerQueue


class RemoteTemplate:
    """What the calls of one remote function, with the same options and from the same cell, share here."""

    __slots__ = ("code", "max_retries", "name", "num_returns", "queue", "refusal", "retry_exceptions", "wire")

    def __init__(
        self,
        wire: FunctionTemplate,
        code: ExportedCode,
        queue: OwnerQueue,
        retry_exceptions: bool | tuple[type[BaseException], ...],
        refusal: BaseException | None,
    ) -> None:
        self.wire = wire
        #: the error of every call, if the scheduling strategy allows no node
        self.refusal = refusal
        self.code = code
        self.queue = queue
        self.name = wire.name
        self.num_returns = wire.num_returns
        self.max_retries = wire.max_retries
        self.retry_exceptions = retry_exceptions


class PendingTask:
    """A submitted task that has no result yet."""

    __slots__ = (
        "actor", "dependencies", "is_cancelled", "is_solo", "lease", "number", "parent", "payload", "pins",
        "positions", "refs", "retries_left", "stream", "template", "timing", "unready",
    )  # fmt: skip

    def __init__(
        self, number: int, template: Any, payload: Any, retries_left: int, timing: Timing, parent: Any
    ) -> None:
        self.number = number
        self.template = template
        #: plain args, serialized (args, kwargs), or a ref to these
        self.payload = payload
        self.retries_left = retries_left
        self.timing = timing
        self.parent = parent
        self.is_solo = False
        self.is_cancelled = False
        self.positions: tuple[int | str, ...] | None = None
        self.dependencies: list[ObjectRef[Any]] | None = None
        self.pins: Any = None
        #: how many of `dependencies` have no value yet
        self.unready = 0
        self.lease: Any = None
        self.actor: Any = None
        self.stream: Stream | None = None
        self.refs: Any = None

    @property
    def name(self) -> str:
        return str(self.template.name)
