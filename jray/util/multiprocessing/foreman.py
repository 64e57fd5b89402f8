"""Owns a pool's workers and the thread that gives them work, which alone touches them."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable
from typing import Any

from jray._core.refs import ObjectRef, current
from jray._core.serialization import deserialize
from jray.exceptions import ActorDiedError, RayActorError, RayError, RaySystemError, RayTaskError
from jray.util.multiprocessing.results import Job
from jray.util.multiprocessing.roster import Roster

#: how often the thread looks whether the cluster is still there
_LOOK_S = 1.0
_LOST = "The pool was terminated before this work was done."
_SHUT_DOWN = "jray was shut down before this work was done."


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """Calls that one worker makes in a row.  What they need is pickled when they are submitted."""

    job: Job
    index: int
    function: Any  #: a ref
    how: str  #: see `jray.util.multiprocessing.worker`
    items: Any  #: a ref


#: what can be said beside a chunk and the end of one
_CLOSE, _TERMINATE, _MORE, _NO_MORE = object(), object(), object(), object()


class Foreman:
    """Has chunks run by workers.  Everything is said to its thread through a queue, from any thread.

    `hire()` makes a worker; it is called here first, and again in the thread for each that is replaced.
    """

    def __init__(self, hire: Callable[[], Any], workers: int, most_chunks: int | None) -> None:
        self._hire = hire
        self.client = current.client  #: that the workers belong to
        self._roster: Roster[Chunk] = Roster(workers, most_chunks)
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._workers = [hire() for _ in range(workers)]
        self.client.get([worker.ready.remote() for worker in self._workers], None)
        self._is_closing = False
        self._expected = 0  #: who may still give work although the pool is closed
        #: why no work is taken any more
        self._over: BaseException | None = None
        #: becomes true of each worker when it has ended
        self._endings: list[ObjectRef[Any]] = []
        self._thread = threading.Thread(target=self._run, name="jray-pool", daemon=True)
        self._thread.start()

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store what a chunk needs.  Raises RaySystemError if the cluster was shut down."""
        if not self.is_connected:
            raise RaySystemError("The cluster that this pool ran on was shut down. Make another pool.")
        ref: ObjectRef[Any] = self.client.put(value)
        return ref

    def give(self, chunk: Chunk) -> None:
        """Have a chunk run."""
        self._inbox.put(chunk)
        if self._over is not None:
            # the thread looked into the inbox for the last time after it had set this, or will
            self._fail_given(self._over)

    @property
    def is_connected(self) -> bool:
        """Whether the workers' cluster is still this process's.

        To be asked before what would start another one: nothing here does so without being asked.
        """
        return current.client is self.client

    @property
    def is_over(self) -> bool:
        """Whether no work is taken any more."""
        return self._over is not None or not self.is_connected

    def expect_more(self) -> None:
        """Have the workers stay, even if the pool is closed, until `expect_no_more` is called."""
        self._inbox.put(_MORE)

    def expect_no_more(self) -> None:
        """End one `expect_more`.  May be called by a finalizer."""
        self._inbox.put(_NO_MORE)

    def close(self) -> None:
        """End the workers once all that was given is done; returns at once."""
        self._inbox.put(_CLOSE)

    def terminate(self) -> None:
        """End the workers now; what is not done fails.  Returns at once.  May be called by a finalizer."""
        self._inbox.put(_TERMINATE)

    def join(self) -> None:
        """Wait until the workers have ended."""
        self._thread.join()
        if self._endings and self.is_connected:
            self.client.wait(self._endings, len(self._endings), None)

    # -- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            over = self._work()
        except BaseException as error:
            self._stop(error)
            if isinstance(error, RayError) and not self.is_connected:
                return  # the cluster was shut down, and took the workers along
            raise
        self._stop(over)

    def _work(self) -> BaseException:
        """Give out work until there will be no more; return why there is none."""
        while not (self._is_closing and self._roster.is_idle and not self._expected):
            try:
                note = self._inbox.get(timeout=_LOOK_S)
            except queue.Empty:
                if not self.is_connected:
                    return RaySystemError(_SHUT_DOWN)
                continue
            if note is _TERMINATE:
                self._end_workers(at_once=True)
                return ActorDiedError(error_msg=_LOST)
            if note is _CLOSE:
                self._is_closing = True
            elif note is _MORE:
                self._expected += 1
            elif note is _NO_MORE:
                self._expected -= 1
            elif isinstance(note, Chunk):
                self._roster.add(note)
            else:
                self._finish(*note)
            self._start_what_can()
        self._end_workers(at_once=False)
        return ActorDiedError(error_msg=_LOST)

    def _stop(self, error: BaseException) -> None:
        self._over = error
        for chunk in self._roster.drop():
            chunk.job.fail(chunk.index, error)
        self._fail_given(error)

    def _fail_given(self, error: BaseException) -> None:
        while True:
            try:
                note = self._inbox.get_nowait()
            except queue.Empty:
                return
            if isinstance(note, Chunk):
                note.job.fail(note.index, error)

    def _start_what_can(self) -> None:
        for number, chunk in self._roster.assign():
            try:
                ref = self._workers[number].run.remote(chunk.function, chunk.how, chunk.items)
            except RayError as error:  # the cluster is gone, or the worker refuses: an outcome as any other
                self._inbox.put((number, error))
            else:
                self._tell_when_ready(number, ref)

    def _tell_when_ready(self, number: int, ref: ObjectRef[Any]) -> None:
        inbox = self._inbox
        self.client.when_ready(ref, lambda ready: inbox.put((number, ready)))

    def _finish(self, number: int, outcome: Any) -> None:
        failure: BaseException | None = outcome if isinstance(outcome, BaseException) else None
        if failure is None:
            try:
                results, failures = self.client.ref_value(outcome)
                errors = {place: _unpack(error) for place, error in failures.items()}
            except Exception as error:  # noqa: BLE001 -- whatever kept the results from coming is their outcome
                failure = error
        chunk, is_spent = self._roster.finish(number, died=isinstance(failure, RayActorError))
        if is_spent:
            self._replace(number)
        if failure is None:
            chunk.job.deliver(chunk.index, results, errors)
        else:
            chunk.job.fail(chunk.index, failure)

    def _replace(self, number: int) -> None:
        if not self.is_connected:
            raise RaySystemError(_SHUT_DOWN)
        if self._endings:
            self._endings = self.client.wait(self._endings, len(self._endings), 0)[1]
        self._let_end(self._workers[number])
        self._workers[number] = self._hire()

    def _let_end(self, worker: Any) -> None:
        ending = worker.__ray_terminate__.remote()
        self.client.when_ready(ending, _expected_end)
        self._endings.append(ending)

    def _end_workers(self, *, at_once: bool) -> None:
        workers, self._workers = self._workers, []
        if not self.is_connected:
            return
        for worker in workers:
            self._let_end(worker)
            if at_once:
                self.client.actors.kill(worker._jray_id, no_restart=True)


def _expected_end(ending: ObjectRef[Any]) -> None:
    """Look at the error that a call gets which ends its actor: one that nobody looked at would be reported."""
    with contextlib.suppress(RayError):
        ending._client.ref_value(ending)


def _unpack(failure: bytes) -> BaseException:
    """Return the exception that an item raised, with the remote traceback as what caused it."""
    error: RayTaskError = deserialize(failure)
    error.cause.__cause__ = error
    return error.cause
