"""Owns `RayEngine`: a driver or worker that is part of a Ray cluster, as the public API sees it.

An `ObjectRef` of this engine holds Ray's ref in `_data`; who owns, counts and moves objects is Ray's affair.  A
ref in a pickle is Ray's ref with a call of `arrived_ref` around it, so Ray sees every ref that travels.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import ray
from ray.core.generated.common_pb2 import Address

from jray._core import serialization
from jray._core.dynamic import DynamicObjectRefGenerator
from jray._core.engine import Whereabouts
from jray._core.environments import Environment
from jray._core.frontend import get_frontend
from jray._core.generator import ObjectRefGenerator
from jray._core.on_ray.actors import RayActors
from jray._core.on_ray.cluster import RayCluster
from jray._core.on_ray.errors import translated
from jray._core.on_ray.groups import RayGroups
from jray._core.on_ray.output import current_call, make_tag
from jray._core.on_ray.registrations import Registrations
from jray._core.on_ray.streams import Streams
from jray._core.on_ray.tasks import RayTasks
from jray._core.on_ray.watch import RayWatch
from jray._core.on_ray.whereabouts import RayWhereabouts
from jray._core.peek import Peek, peek
from jray._core.refs import ObjectRef, RefFacts, current
from jray._core.strategies import NOBODY, Caller
from jray.exceptions import GetTimeoutError, ObjectLostError, RaySystemError

#: Ray looks for signals once a second; a driver's main thread waits in rounds of this length
_ROUND_S = 0.1
_NOT_YET = object()


class RayEngine:
    """One per process; in a worker made when the first thing of jray's arrives."""

    engine_name = "ray"
    #: Ray knows itself in which placement group its workers are ...
    is_in_group = False
    #: ... and what the job says of its actors
    default_actor_lifetime = "non_detached"
    #: the number that a client has in jray's own engine
    number = 0

    def __init__(self, *, is_worker: bool, shows_output: bool = False) -> None:
        context = ray.get_runtime_context()
        self.job_id: bytes = bytes.fromhex(context.get_job_id())
        self.node_id: bytes = bytes.fromhex(context.get_node_id())
        self.namespace: str = context.namespace
        self.runtime_env: Environment = ()
        self.shows_output = shows_output
        self.is_worker = is_worker
        #: whether this process only talks to one that is part of the cluster (`ray://`)
        self.is_remote_client = bool(ray.util.client.ray.is_connected())
        self.watch = RayWatch(self)
        self.tasks = RayTasks(self)
        self.actors = RayActors(self)
        self.groups = RayGroups(self)
        self.cluster = RayCluster(self)
        self.streams = Streams(self)
        self.registrations = Registrations()
        self._numbers = itertools.count(1)
        #: outcomes that came with the news that they are there, by ref
        self._came: dict[int, tuple[ObjectRef[Any], Any]] = {}

    # -- refs -------------------------------------------------------------------------------------

    def ref_of(self, rays: Any) -> ObjectRef[Any]:
        """Return jray's ref for one of Ray's."""
        return ObjectRef(rays.binary(), self, rays)

    def rays_ref(self, ref: ObjectRef[Any]) -> Any:
        """Return Ray's ref for one of jray's.  Raises RaySystemError for one of another session."""
        if ref._client is not self:
            _refuse(ref)
        return ref._data

    def refs_of_result(self, result: Any, num_returns: Any, name: str) -> Any:
        """Return what a call gives the user for what Ray's call gave."""
        if num_returns in (1, "dynamic"):
            return self.ref_of(result)
        if num_returns == "streaming":
            return ObjectRefGenerator(self.streams.opened(result, name))
        if num_returns == 0:
            return None
        return [self.ref_of(rays) for rays in result]

    # what an ObjectRef asks of its client (jray._core.refs.RefHome)

    def ref_dropped(self, ref_id: bytes, owner: str | None, state: int, data: Any, nested: Any) -> None:
        """Nothing: Ray's ref, which has died with it, tells Ray."""

    def ref_exported(self, ref: ObjectRef[Any]) -> None:
        """Nothing: Ray sees its ref travel."""

    def ref_from_id(self, ref_id: bytes, owner: str | None) -> ObjectRef[Any]:  # noqa: ARG002 -- Ray knows its owners
        return ObjectRef(ref_id, self, ray.ObjectRef(ref_id))

    def ref_address(self, ref: ObjectRef[Any]) -> str:
        raw = b"" if self.is_remote_client else self.rays_ref(ref).owner_address()
        address = Address.FromString(raw)
        return f"{address.ip_address}:{address.port}" if address.ip_address else ""

    def reduce_ref(self, ref: ObjectRef[Any]) -> tuple[Any, ...]:
        return arrived_ref, (self.rays_ref(ref),)

    def when_ready(self, ref: ObjectRef[Any], callback: Callable[[ObjectRef[Any]], None]) -> None:
        """Call `callback(ref)` from a thread of Ray's once *ref* has a value or an error."""

        def came(outcome: Any) -> None:
            self._came[id(ref)] = ref, outcome
            callback(ref)
            self._came.pop(id(ref), None)

        self.rays_ref(ref)._on_completed(came)

    def ref_value(self, ref: ObjectRef[Any]) -> Any:
        _, outcome = self._came.pop(id(ref), (ref, _NOT_YET))
        if outcome is _NOT_YET:
            return self.get((ref,), None)[0]
        if isinstance(outcome, ray.exceptions.RayError):
            raise translated(outcome)
        return self.opened(outcome)

    def ref_facts(self, ref: ObjectRef[Any], *, is_brief: bool = False) -> RefFacts:
        """Tell only what Ray's own tables of this process say: whether there is a value or an error."""
        if is_brief:
            return RefFacts("pending")
        ready, _ = ray.wait([self.rays_ref(ref)], timeout=0, fetch_local=False)
        return RefFacts("ready" if ready else "pending")

    def ref_peek(self, ref: ObjectRef[Any]) -> Peek:
        """Look at a value; Ray brings it to this machine for that."""
        return peek(self, ref, 0)

    # -- the public operations --------------------------------------------------------------------

    def put(self, value: Any) -> ObjectRef[Any]:
        self.registrations.follow()
        try:
            rays = ray.put(value)
        except Exception as error:  # noqa: BLE001 -- Ray's, translated
            raise self.submit_error(error, value) from None
        return self.ref_of(rays)

    def get(self, refs: Sequence[Any], timeout_s: float | None) -> list[Any]:
        """Return the values, blocking until each is there; raises as the engine protocol says."""
        wanted = [self.rays_ref(ref) for ref in refs]
        try:
            for round_s in self.rounds(timeout_s):
                try:
                    values = ray.get(wanted, timeout=round_s)
                except ray.exceptions.GetTimeoutError:
                    continue
                except ray.exceptions.RayError as error:
                    if len(refs) == 1:
                        self.watch.failed(refs[0], translated(error))
                    else:  # Ray does not say whose it is
                        self.watch.look()
                    raise translated(error) from None
                except SystemError as error:
                    if isinstance(error.__cause__, KeyboardInterrupt):
                        # it struck while Ray was about to raise something else
                        raise error.__cause__ from None
                    raise
                return [self.opened(value) for value in values]
        finally:
            # what the tasks wrote stands before what the caller writes next
            get_frontend().flush()
        raise GetTimeoutError(
            f"Get timed out: {_some(refs)} had no value in time. The tasks go on; get them again later."
        )

    def opened(self, value: Any) -> Any:
        """Return the value as jray has it: what a "dynamic" generator made holds jray's refs."""
        if type(value) is ray.DynamicObjectRefGenerator:
            return DynamicObjectRefGenerator(self.ref_of(rays) for rays in value)
        return value

    def wait(
        self, refs: list[Any], num_returns: int, timeout_s: float | None, *, fetch_local: bool = True
    ) -> tuple[list[Any], list[Any]]:
        """Return (ready, others): at most `num_returns` ready ones, both in the order of *refs*."""
        waitables = [
            self.rays_ref(ref) if isinstance(ref, ObjectRef) else ref._stream.waitable() for ref in refs
        ]
        ready: set[Any] = set()
        for round_s in self.rounds(timeout_s):
            found, _ = ray.wait(waitables, num_returns=num_returns, timeout=round_s, fetch_local=fetch_local)
            ready = set(found)
            if len(ready) >= num_returns:
                break
        first: list[Any] = []
        others: list[Any] = []
        for ref, waitable in zip(refs, waitables, strict=True):
            (first if waitable in ready and len(first) < num_returns else others).append(ref)
        return first, others

    def cancel(self, target: Any, *, force: bool, recursive: bool) -> None:
        """Cancel the task that makes this ref, or this generator's items; nothing happens if it is done."""
        try:
            if isinstance(target, ObjectRefGenerator):
                stream: Any = target._stream
                stream.cancel(force=force, recursive=recursive)
            else:
                ray.cancel(self.rays_ref(target), force=force, recursive=recursive)
        except ray.exceptions.RayError as error:
            raise translated(error) from None

    def free(self, refs: Sequence[Any]) -> NoReturn:
        """Not possible: Ray frees what nothing refers to."""
        raise NotImplementedError("Ray cannot free an object by hand. Delete the references to it instead.")

    def failed_calls(self) -> NoReturn:
        """Not kept: Ray has the arguments."""
        raise NotImplementedError(
            "On a Ray cluster the arguments of failed calls are not kept. Start jray's own engine with jray.init(), or "
            "use Ray's debugger."
        )

    def whereabouts(self) -> Whereabouts:
        """Tell who and where the calling code is; each field is looked up when it is read."""
        here: Any = RayWhereabouts(self)
        found: Whereabouts = here
        return found

    def forked(self, null: int) -> None:
        """Nothing: Ray's connections belong to threads that a fork does not take along."""

    def caller(self) -> Caller:
        """Return nobody: see `is_in_group`."""
        return NOBODY

    def tag(self, cell: int) -> int:
        """Return what a call from *cell* says of itself: the cell, and how many calls came before."""
        call = current_call.get()
        return make_tag(cell, next(self._numbers) if call is None else call.number)

    # -- inside -----------------------------------------------------------------------------------

    def submit_error(self, error: Exception, *parts: Any) -> BaseException:
        """Return what to raise where Ray did not take a call or a value."""
        if isinstance(error, TypeError) and "serialize" in str(error):
            # Ray's text names neither the place nor the remedy as shortly
            return TypeError(serialization.explain(parts[0] if len(parts) == 1 else parts, error))
        return translated(error)

    def rounds(self, timeout_s: float | None) -> Iterator[float | None]:
        """Yield for how long to wait, again and again until *timeout_s* is over."""
        deadline_s = None if timeout_s is None else time.monotonic() + max(timeout_s, 0.0)
        # elsewhere no signal comes; and a worker tells its node each time that it waits
        is_interrupted = not self.is_worker and threading.current_thread() is threading.main_thread()
        while True:
            left_s = None if deadline_s is None else max(deadline_s - time.monotonic(), 0.0)
            if not is_interrupted:
                yield left_s
                return
            yield _ROUND_S if left_s is None else min(_ROUND_S, left_s)
            if left_s is not None and left_s <= _ROUND_S:
                return


def arrived_ref(rays: Any) -> ObjectRef[Any]:
    """Return jray's ref for one of Ray's that came in a pickle."""
    client = current.client
    if not isinstance(client, RayEngine):
        return ObjectRef(rays.binary())
    return client.ref_of(rays)


def _some(refs: Sequence[Any]) -> str:
    return repr(refs[0]) if len(refs) == 1 else f"at least one of {len(refs)} refs"


def _refuse(ref: ObjectRef[Any]) -> NoReturn:
    if ref._client is None:
        raise ObjectLostError(ref._id.hex())
    raise RaySystemError(
        f"{ref!r} belongs to a session that has ended; objects and actors do not outlive jray.shutdown()."
    )
