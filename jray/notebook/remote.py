"""Owns a remote cell as the notebook sees it: sent, waited for, stopped, shown."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Callable, Generator
from typing import Any, Protocol

from jray._core.frontend import Frontend, Output, OutputKind
from jray.notebook import shipment as shipments
from jray.notebook.remote_cell import CellCode, CellOutcome, run_cell, run_cell_inside
from jray.notebook.shipment import Shipment


class Runtime(Protocol):
    """The part of jray's public API that the notebook uses."""

    exceptions: Any

    def init(self, address: Any = None, **options: Any) -> Any: ...
    def shutdown(self) -> None: ...
    def is_initialized(self) -> bool: ...
    def remote(self, function: Any) -> Any: ...
    def get_actor(self, name: str) -> Any: ...
    def kill(self, handle: Any) -> None: ...
    def get(self, refs: Any, *, timeout: float | None = None) -> Any: ...
    def cancel(self, ref: Any) -> None: ...
    def nodes(self) -> list[dict[str, Any]]: ...
    def cluster_resources(self) -> dict[str, float]: ...
    def available_resources(self) -> dict[str, float]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class CellRequest:
    """Everything about one run of a remote cell."""

    code: CellCode
    shipment: Shipment
    options: dict[str, Any]  #: for `RemoteFunction.options`, without name and num_returns
    name: str
    timeout_s: float | None
    returns_refs: bool
    #: the handle of the actor in which the cell runs; None: it is a task of its own
    actor: Any = None

    @property
    def num_returns(self) -> int:
        return 2 if self.code.is_lenient else 1 + len(self.code.outputs)


def source_name(label: str, text: str) -> str:
    """Return the file name that tracebacks show for a cell; the same cell always has the same."""
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return f"<remote cell {label} {digest}>"


def submit(runtime: Runtime, request: CellRequest) -> list[Any]:
    """Send the cell and return its refs: of the `CellOutcome`, then of each output.

    Raises:
        TypeError: a captured value cannot be pickled; the message names the variable.
    """
    code, shipment = request.code, request.shipment
    options = {**request.options, "name": request.name, "num_returns": request.num_returns}
    arguments: tuple[Any, ...] = (
        code,
        shipment.values,
        tuple(shipment.resolved),
        *shipment.resolved.values(),
    )
    if request.actor is None:
        task = runtime.remote(run_cell).options(**options)
    else:
        task = request.actor.__ray_call__.options(**options)
        arguments = (run_cell_inside, *arguments)
    try:
        refs = task.remote(*arguments)
    except TypeError:
        found = shipments.culprit(shipment)
        if found is None:
            raise
        name, error = found
        message = f"The cell uses `{name}`, which cannot be sent to a worker. {error}"
        raise _shown_as(TypeError(message), [f"TypeError: {message}"]) from None
    return list(refs) if request.num_returns > 1 else [refs]


def wait(runtime: Runtime, request: CellRequest, refs: list[Any]) -> tuple[CellOutcome, dict[str, Any]]:
    """Wait for the cell and return what it displayed and its outputs by name.

    An interrupt, or the end of the time given, cancels the cell.
    """
    wanted = refs[:1] if request.returns_refs else refs
    try:
        outcome, *values = runtime.get(wanted, timeout=request.timeout_s)
    except runtime.exceptions.GetTimeoutError:
        stop(runtime, refs)
        message = f"{request.name} took longer than --timeout {request.timeout_s:g} s and was cancelled."
        error = runtime.exceptions.GetTimeoutError(message)
        raise _shown_as(error, [f"GetTimeoutError: {message}"]) from None
    except KeyboardInterrupt as interrupt:
        stop(runtime, refs)
        raise _shown_as(interrupt, [f"KeyboardInterrupt: {request.name} was cancelled."])  # noqa: B904 -- the same one
    if request.code.is_lenient:
        return outcome, values[0]
    values = refs[1:] if request.returns_refs else values
    return outcome, dict(zip(request.code.outputs, values, strict=True))


def stop(runtime: Runtime, refs: list[Any]) -> None:
    """Cancel the cell's task, if it has not ended."""
    # the answer to "stop" must not be another error: it may have ended, or the runtime be gone
    with contextlib.suppress(runtime.exceptions.RayError, ValueError):
        runtime.cancel(refs[0])


def _shown_as(error: BaseException, lines: list[str]) -> BaseException:
    """Let IPython show *lines* for *error* instead of frames of jray."""
    error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]  # IPython's protocol
    return error


class RemoteCell:
    """A remote cell that runs while the notebook goes on.

    `await cell` and `cell.result()` give its outputs by name; `cell.refs` holds their ObjectRefs.
    """

    def __init__(self, runtime: Runtime, request: CellRequest, refs: list[Any]) -> None:
        self.name = request.name
        self.refs: dict[str, Any] = dict(zip(request.code.outputs, refs[1:], strict=True))
        self._runtime = runtime
        self._refs = refs
        self._ended = threading.Event()
        self._timer: threading.Timer | None = None
        if request.timeout_s is not None:
            self._timer = threading.Timer(request.timeout_s, self.cancel)
            self._timer.daemon = True
            self._timer.start()

    def __repr__(self) -> str:
        # not the name: it counts cells, and the same notebook must read the same in every run
        return f"RemoteCell({', '.join(self.refs)})"

    def done(self) -> bool:
        """Tell whether the cell has ended, well or not."""
        return self._ended.is_set()

    def cancel(self) -> None:
        """Stop the cell."""
        stop(self._runtime, self._refs)

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the outputs by name, waiting for them up to *timeout* seconds.

        Raises:
            Exception: what the cell raised.
            GetTimeoutError: it has not ended by then; it goes on.
        """
        _, *values = self._runtime.get(self._refs, timeout=timeout)
        return dict(zip(self.refs, values, strict=True))

    def __await__(self) -> Generator[Any, None, dict[str, Any]]:
        values = []
        for ref in self._refs:
            values.append((yield from ref.__await__()))  # noqa: PERF401 -- no `yield` in comprehensions
        return dict(zip(self.refs, values[1:], strict=True))

    def held_refs(self) -> list[Any]:
        """Return the references that this keeps alive."""
        return list(self._refs)

    def show_when_done(self, frontend: Callable[[], Frontend], *, with_error: bool = True) -> None:
        """Show what the cell displays, or its error, under the cell that runs now."""
        cell = frontend().cell
        task_id = self._refs[0].task_id().hex()

        def show(future: Any) -> None:
            self._ended.set()
            if self._timer is not None:
                self._timer.cancel()
            if not with_error and future.exception() is not None:
                return  # it is told by whoever asks for the value
            for kind, text, data in _endings(future):
                frontend().write(Output(cell, kind, text, data, self.name, 0, task_id))

        self._refs[0].future().add_done_callback(show)


def _endings(future: Any) -> list[tuple[str, str, dict[str, Any] | None]]:
    """Return (kind, text, data) of what to show for a cell that ended."""
    error = future.exception()
    if error is None:
        outcome: CellOutcome = future.result()
        return [
            (OutputKind.DISPLAY, "", {"data": bundle.data, "metadata": bundle.metadata})
            for bundle in outcome.bundles
        ]
    render = getattr(error, "_render_traceback_", None)
    lines = render() if callable(render) else [f"{type(error).__name__}: {error}"]
    return [(OutputKind.STDERR, "\n".join([*lines, ""]), None)]
