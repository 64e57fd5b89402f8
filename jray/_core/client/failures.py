"""Owns the memory of a notebook's last failed calls, with the arguments they had, for running them again."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jray._core.engine import FailedCall
from jray._core.refs import ATOM, INLINE, STORED, ObjectRef
from jray._core.serialization import deserialize
from jray._core.sketch import human_size
from jray._core.skim import error_line

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient
    from jray._core.client.pending import PendingTask


class _Kept:
    """What a call was sent with."""

    __slots__ = ("dependencies", "error", "number", "payload", "pins", "positions", "size", "template")

    def __init__(self, task: PendingTask, error: bytes, pins: list[ObjectRef[Any]]) -> None:
        self.number = task.number
        self.template = task.template
        self.error = error
        self.payload = task.payload
        self.positions = task.positions or ()
        self.dependencies = task.dependencies or []
        #: refs inside the arguments
        self.pins = pins
        self.size = sum(map(_size, (self.payload, *self.dependencies, *pins)))

    def strip(self) -> None:
        """Let the arguments go."""
        self.payload, self.dependencies, self.pins = None, [], []


class FailedCalls:
    """The last calls from a notebook's cells that raised.  The client's lock guards it.

    Refs among the arguments live as long as they are remembered, actors do not.
    """

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        self._kept: deque[_Kept] = deque()
        self._size = 0

    def keep(self, task: PendingTask, error: bytes) -> None:
        """Remember a call that raised, before it is stripped; older ones are forgotten for it."""
        client = self._client
        config = client.config
        if client.worker is not None or not task.template.wire.cell or not config.failed_calls:
            return
        pins = task.pins if isinstance(task.pins, list) else []
        refs = [ref for ref in pins if isinstance(ref, ObjectRef) and ref._id not in client.objects.actor_of]
        kept = _Kept(task, error, refs)
        if kept.size > config.failed_calls_bytes:
            kept.strip()
        else:
            self._size += kept.size
        self._kept.append(kept)
        while len(self._kept) > config.failed_calls or self._size > config.failed_calls_bytes:
            oldest = self._kept.popleft()
            self._size -= 0 if oldest.payload is None else oldest.size

    def tell(self) -> list[FailedCall]:
        """Return what is remembered, the latest first."""
        client = self._client
        with client.lock:
            found = list(reversed(self._kept))
        calls = []
        for kept in found:
            wire = kept.template.wire
            is_method = hasattr(wire, "method")
            calls.append(
                FailedCall(
                    task_id=client.task_id(kept.number).hex(),
                    name=wire.name,
                    cell=wire.cell,
                    error=error_line(kept.error),
                    is_actor_call=is_method,
                    load_function=self._no_function if is_method else _loader(kept),
                    load_arguments=lambda kept=kept: self._arguments(kept),  # type: ignore[misc]
                )
            )
        return calls

    def _arguments(self, kept: _Kept) -> tuple[tuple[Any, ...], dict[str, Any]]:
        client = self._client
        payload = kept.payload
        if payload is None:
            raise LookupError(
                f"The arguments of {kept.template.wire.name}() were not kept: they take {human_size(kept.size)}, and all "
                f"that are kept may take {human_size(client.config.failed_calls_bytes)}. Set JRAY_FAILED_CALLS_BYTES "
                "before jray starts, and call it again."
            )
        if type(payload) is tuple:
            args, kwargs = payload, {}
        elif isinstance(payload, ObjectRef):
            args, kwargs = client.get([payload], None)[0]
        else:
            args, kwargs = deserialize(payload)
        values = client.get(kept.dependencies, None)
        positional, named = list(args), dict(kwargs)
        for position, value in zip(kept.positions, values, strict=True):
            if isinstance(position, int):
                positional[position] = value
            else:
                named[position] = value
        return tuple(positional), named

    @staticmethod
    def _no_function() -> Any:
        raise NotImplementedError(
            "It ran in an actor, whose state is in another process and cannot be had here. Take the arguments of the "
            "call with jray.util.failures.failed_call(...).arguments(), and call the method of an instance that you make."
        )


def _loader(kept: _Kept) -> Callable[[], Any]:
    # the code as it was sent, whatever the notebook has defined since
    return lambda: pickle.loads(kept.template.code.blob)


def _size(part: Any) -> int:
    """Return the bytes of arguments, or of a value of which only a ref is among them."""
    if isinstance(part, ObjectRef):
        if part._state == STORED:
            size: int = part._data.size
            return size
        return _size(part._data) if part._state in {ATOM, INLINE} else 0
    return len(part) if isinstance(part, bytes | str) else sum(map(_size, part)) if type(part) is tuple else 0
