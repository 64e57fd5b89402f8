"""Owns the running of a call's code: its arguments, context and variables, and what becomes of its end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import itertools
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from jray._core.client.results import DYNAMIC, STREAMING
from jray._core.dynamic import DynamicObjectRefGenerator
from jray._core.inline import actor_outcomes, failures
from jray._core.inline.calls import IS_DONE, IS_PAUSED, RUNS, Call, TaskTemplate, running
from jray._core.inline.failures import Death, Failure
from jray._core.inline.objects import Entry
from jray._core.refs import ERROR, ObjectRef
from jray._core.serialization import deserialize, serialize
from jray.exceptions import RayError, RayTaskError, TaskCancelledError

if TYPE_CHECKING:
    from jray._core.inline.core import InlineClient


class Runner:
    """Runs calls in the calling thread."""

    def __init__(self, client: InlineClient) -> None:
        self._client = client

    # -- the way in ---------------------------------------------------------------------------------

    def run(self, call: Call, callee: Callable[[], Callable[..., Any]], on_left: Callable[[], None]) -> None:
        """Run a call until its end or, a generator, until it is paused; again if it is to be retried.

        `callee` finds the code; what it raises is the call's error.  `on_left` is called at the end, to give
        back what the run holds.  Raises only what `passes_on`.
        """
        call.callee, call.on_left = callee, on_left
        try:
            self._attempts(call)
        finally:
            self._left(call)

    def _attempts(self, call: Call) -> None:
        attempt = call.attempt
        while True:
            call.phase = RUNS
            call.started_s = monotonic()
            call.context = contextvars.copy_context()
            if self._enter(call, lambda: self._begin(call)) or call.attempt != attempt:
                return

    def _left(self, call: Call) -> None:
        """The code of a call has been left: give back what it held, unless it is paused."""
        if call.phase is IS_PAUSED:
            self._client.turns.give_up_cpu(call)
            return
        on_left, call.on_left = call.on_left, None
        if on_left is not None:
            on_left()

    def _enter(self, call: Call, step: Callable[[], list[Entry] | None]) -> bool:
        """Do a step of a call as its code; return False if it is to run again, or isn't heard any more."""
        client, attempt = self._client, call.attempt
        assert call.context is not None
        frames = client.stack.frames
        frames.append(call)
        surroundings = client.surroundings.enter(self.variables(call))
        outer = _set_running_loop(None)
        try:
            entries = call.context.run(step)
        except BaseException as error:
            if call.attempt != attempt:
                if failures.passes_on(error):
                    raise
                return False
            is_over = self.failed(call, error)
            if failures.passes_on(error):
                raise
            return is_over
        finally:
            client.end_fork()
            _set_running_loop(outer)
            client.surroundings.leave(surroundings)
            frames.pop()
        if call.attempt != attempt:
            return False
        if entries is not None:
            self.succeeded(call, entries)
        return True

    def variables(self, call: Call) -> dict[str, str]:
        """Return the environment variables that a call's code sees besides the process's own."""
        if call.life is not None:
            return call.life.variables
        return self._client.variables(
            call.environment, () if call.allocation is None else call.allocation.gpu_ids
        )

    # -- the code, in the call's context ------------------------------------------------------------------

    def _begin(self, call: Call) -> list[Entry] | None:
        running.set(call)
        assert call.callee is not None
        function = call.callee()
        args, kwargs = self.arguments(call)
        value = function(*args, **kwargs)
        if call.template.num_returns != STREAMING:
            return self.entries(call, value)
        del args, kwargs
        stream = call.get_stream()
        if stream is not None:
            stream.restarted()
        call.items = iter(value)
        return self._produce(call)

    def _produce(self, call: Call) -> list[Entry] | None:
        """Take items until the generator ends, or is so far ahead that it is paused."""
        assert call.items is not None
        for value in call.items:
            entry = self._client.objects.entry(value)
            stream = call.get_stream()
            if stream is None:
                if not call.template.backpressure:
                    continue  # nobody waits for them: it goes on all the same
                call.phase = IS_PAUSED
                self._client.turns.abandoned.append(lambda: self.resume(call))
                return None
            stream.arrived(entry)
            if call.is_cancelled:
                raise TaskCancelledError(call.task_id.hex())
            if stream.is_ahead():
                call.phase = IS_PAUSED
                stream.on_taken = lambda: self.resume(call)
                return None
        return []

    def arguments(self, call: Call) -> tuple[Any, dict[str, Any]]:
        """Return copies of a call's arguments, with the values of refs in their places."""
        payload = call.payload
        if isinstance(payload, ObjectRef):
            args, kwargs = self._client.objects.value(payload)
        elif isinstance(payload, tuple):
            args, kwargs = payload, {}
        else:
            args, kwargs = deserialize(payload)
        if call.positions:
            args = list(args)
            for position, ref in zip(call.positions, call.dependencies, strict=True):
                value = self._client.objects.value(ref)
                if isinstance(position, int):
                    args[position] = value
                else:
                    kwargs[position] = value
        return args, kwargs

    def entries(self, call: Call, value: Any) -> list[Entry]:
        """Return what a call's refs get if its code returned *value*."""
        client, count = self._client, call.template.num_returns
        values: list[Any] | None = None
        if count > 0 and inspect.isgenerator(value):
            # one more than there are refs, so that one with as many runs to its end; what is over is dropped (Ray's rule)
            values = list(itertools.islice(value, count + 1))[:count]
            value.close()
            if count == 1 and values:
                value, values = values[0], None
        if count == 1 and values is None:
            if isinstance(value, RayTaskError):  # returned bare, a task's error is this one's (Ray's rule)
                return [(ERROR, Failure(serialize(value).to_bytes()), None)]
            return [client.objects.entry(value)]
        if count == DYNAMIC:
            return [client.objects.entry(DynamicObjectRefGenerator(client.put(item) for item in value))]
        if count == 0:
            return []
        if values is None:
            values = list(value)
        if len(values) != count:
            raise ValueError(f"Task returned {len(values)} objects, but num_returns={count}.")
        return [client.objects.entry(item) for item in values]

    # -- a generator that was paused --------------------------------------------------------------------

    def resume(self, call: Call) -> None:
        """Let a paused generator go on: an item was taken, or nobody is left who would take one."""
        if call.phase is not IS_PAUSED:
            return
        stream = call.get_stream()
        if stream is None:
            self._go_on(call)
        elif not stream.is_ahead():
            stream.on_taken = None
            with self._client.operation():
                self._go_on(call)

    def _go_on(self, call: Call) -> None:
        call.phase = RUNS
        attempt = call.attempt
        self._client.turns.take_back_cpu(call)
        try:
            if not self._enter(call, lambda: self._produce(call)) and call.attempt == attempt:
                self._attempts(call)
        finally:
            self._left(call)

    def abandon(self, call: Call, error: BaseException) -> None:
        """End a paused generator, with *error* as the last item."""
        if call.phase is not IS_PAUSED:
            return
        items, call.items = call.items, None
        with contextlib.suppress(Exception):
            items.close()  # type: ignore[union-attr]  # only generators are paused
        stream = call.get_stream()
        self._finish(call, error)
        if stream is not None:
            stream.failed(error)
        self._left(call)

    # -- the end ------------------------------------------------------------------------------------

    def succeeded(self, call: Call, entries: Iterable[Entry]) -> None:
        """The code came to its end."""
        if call.is_cancelled and call.actor is not None:
            # a call that was told and came to its end is cancelled all the same (Ray's rule)
            self.fail(call, TaskCancelledError(call.task_id.hex()))
            return
        stream, refs = call.get_stream(), call.take_refs()
        self._finish(call)
        if stream is not None:
            stream.ended()
        for ref, entry in zip(refs, entries, strict=True):
            self._client.objects.resolve(ref, entry)

    def failed(self, call: Call, error: BaseException) -> bool:
        """The code raised; return False if it is to run again, at once."""
        if call.actor is not None:
            return actor_outcomes.failed(call.actor, call, error)
        if isinstance(error, TaskCancelledError) and call.is_cancelled:
            self.fail(call, error)
            return True
        if failures.is_crash(error):
            assert isinstance(error, SystemExit)
            outcome: Failure | RayError = failures.crash(call.name, error)
            wanted = True
        else:
            outcome = Failure.of(call.name, error)
            outcome.is_told = failures.passes_on(error)
            wanted = call.template.retries_after(error) and not failures.passes_on(error)
        if wanted and call.take_retry():
            return False
        self.fail(call, outcome)
        return True

    def fail(self, call: Call, outcome: Failure | Death | BaseException) -> None:
        """Make an error the outcome of a call, run or not."""
        if call.is_done:
            return
        stream, refs = call.get_stream(), call.take_refs()
        self._finish(call, outcome)
        if stream is not None:
            stream.failed(outcome)
        for ref in refs:
            self._client.objects.resolve(ref, (ERROR, outcome, None))

    def fail_by_argument(self, call: Call, ref: ObjectRef[Any]) -> None:
        """An argument's error becomes the call's."""
        original = ref._data
        ref._nested = None  # it is passed on, and so not unseen
        if isinstance(original, Failure | Death):
            original = original.load()
        failed = RayTaskError.from_failed_argument(call.name, original)
        if isinstance(original, RayTaskError):  # blame the first failure, not each that it caused
            failed = RayTaskError(call.name, failed.traceback_str, original.cause)
        self.fail(call, failed)

    def _finish(self, call: Call, error: Any = None) -> None:
        call.phase = IS_DONE
        call.ended_s = monotonic()
        # what it was called with is needed no more, and frames of its error must not keep it
        call.payload, call.positions, call.dependencies, call.pins, call.keep = (), None, [], [], None
        call.items = call.context = call.handle = call.callee = None
        self._client.ended(call, error)

    # -- tasks ----------------------------------------------------------------------------------------

    def run_task(self, call: Call) -> None:
        """Run a task whose resources are there."""
        template = call.template
        assert isinstance(template, TaskTemplate)
        client = self._client
        self.run(call, lambda: client.code.function(template.code), lambda: client.turns.release(call))


def _set_running_loop(loop: Any) -> Any:
    """Make *loop* the one that runs in this thread, and return which was.

    A task may use `asyncio.run`, as it could in a worker, also where its caller is in an event loop: a notebook.
    """
    outer = asyncio._get_running_loop()
    if outer is not loop:
        asyncio._set_running_loop(loop)
    return outer
