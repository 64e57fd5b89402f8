"""Owns the public functions: `remote`, `get`, `put`, `wait`, `cancel` and what tells about the cluster."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, overload

from jray._core.config import Config
from jray._core.generator import ObjectRefGenerator
from jray._core.options import ActorOptions, TaskOptions
from jray._core.refs import ObjectRef, current
from jray.actor import ActorClass, make_actor_class
from jray.exceptions import GetTimeoutError, RaySystemError
from jray.remote_function import P, R, RemoteFunction


def _client() -> Any:
    return current.client or current.require()


def _client_of(refs: Any) -> Any:
    """Start a cluster where there is none, but not to be asked for refs that cannot be its own."""
    for ref in refs if isinstance(refs, list) else [refs]:
        if isinstance(ref, ObjectRef) and ref._client is not None:
            raise RaySystemError(
                f"{ref!r} belongs to a session that has ended; objects and actors do not outlive jray.shutdown()."
            )
    return current.require()


# -- tasks and actors ---------------------------------------------------------------------------------


@overload
def remote(function: Callable[P, R], /) -> RemoteFunction[P, R]: ...
@overload
def remote(function: type, /) -> ActorClass: ...
@overload
def remote(**options: Any) -> Callable[[Any], Any]: ...
def remote(*args: Any, **options: Any) -> Any:
    """Make a function a remote function, or a class an actor class.

    `@jray.remote`, `@jray.remote(num_cpus=2, ...)` or `jray.remote(f)`.  Raises TypeError or ValueError for
    a wrong option, AssertionError for other ways to call it.
    """
    if len(args) == 1 and not options and callable(args[0]):
        return _make_remote(args[0], {})
    if args or not options:
        raise AssertionError(
            "The @jray.remote decorator must be applied either with no arguments and no parentheses, as in "
            "'@jray.remote', or with keyword arguments only, as in '@jray.remote(num_returns=2)'."
        )

    def decorate(target: Any) -> Any:
        return _make_remote(target, options)

    # what is wrong whatever it decorates is said at once
    _check_options(options)
    return decorate


def _check_options(options: dict[str, Any]) -> None:
    try:
        TaskOptions.from_kwargs(options)
    except (ValueError, TypeError, NotImplementedError):
        pass
    else:
        return
    try:
        ActorOptions.from_kwargs(options)
    except (ValueError, TypeError, NotImplementedError):
        # valid for neither: the decorated thing decides which of the two errors is shown
        return


def _make_remote(target: Any, options: dict[str, Any]) -> Any:
    if inspect.isclass(target):
        return make_actor_class(target, ActorOptions.from_kwargs(options))
    if isinstance(target, RemoteFunction | ActorClass):
        raise TypeError(f"{target!r} is remote already.")
    if inspect.isfunction(target) or inspect.isbuiltin(target) or callable(target):
        if not inspect.isfunction(target):
            raise TypeError("The @jray.remote decorator must be applied to either a function or a class.")
        is_generator = inspect.isgeneratorfunction(target)
        made = TaskOptions.from_kwargs(
            options, is_generator=is_generator, default_max_retries=Config.from_environ().task_max_retries
        )
        return RemoteFunction(target, made)
    raise TypeError("The @jray.remote decorator must be applied to either a function or a class.")


# -- objects ------------------------------------------------------------------------------------------


def put(value: Any) -> ObjectRef[Any]:
    """Store a copy of *value*; return its ref.  Arrays are copied once, and read without copying.

    Raises TypeError for an ObjectRef (put it in a list) and for what cannot be pickled,
    ObjectStoreFullError if it fits nowhere.
    """
    client = _client()
    if isinstance(value, ObjectRef):
        raise TypeError(
            "Calling 'put' on an ObjectRef is not allowed. If you really want to do this, you can wrap the ObjectRef "
            "in a list and call 'put' on it."
        )
    ref: ObjectRef[Any] = client.put(value)
    return ref


def get(refs: Any, *, timeout: float | None = None, return_exceptions: bool = False) -> Any:
    """Return the value of a ref, or the list of values of a list of refs; blocks until they are there.

    Arrays from the store are read-only views of shared memory.  `timeout` is in seconds, 0 only looks, and -1 is no limit
    as None is (Ray's rule).
    With `return_exceptions` the errors of failed tasks stand in place of their values instead of being raised.

    Raises:
        GetTimeoutError: it took longer; the tasks go on.
        The exception of a failed task, as an instance of its own class and of RayTaskError.
    """
    client = current.client or _client_of(refs)
    if timeout == -1:
        timeout = None
    if isinstance(refs, ObjectRef):
        return (_outcomes if return_exceptions else client.get)((refs,), timeout)[0]
    if isinstance(refs, ObjectRefGenerator):
        return refs
    if not isinstance(refs, list):
        raise ValueError(  # noqa: TRY004 -- the class is Ray's
            f"Invalid type of object refs, {type(refs)}, is given. 'object_refs' must either be an ObjectRef or a "
            "list of ObjectRefs. "
        )
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"Attempting to call `get` on the value {ref}, which is not an ObjectRef.")
    return (_outcomes if return_exceptions else client.get)(refs, timeout)


def _outcomes(refs: Sequence[ObjectRef[Any]], timeout: float | None) -> list[Any]:
    """Return each ref's value or exception.  Raises GetTimeoutError if one has neither in time."""
    deadline = None if timeout is None else monotonic() + timeout
    client = _client()
    found: list[Any] = []
    for ref in refs:
        ready, _ = client.wait([ref], 1, None if deadline is None else max(0.0, deadline - monotonic()))
        if not ready:
            raise GetTimeoutError(
                f"Get timed out: {ref!r} had no outcome in time. The task goes on; get it again later."
            )
        try:
            found += client.get((ref,), None)
        except Exception as error:  # noqa: BLE001 -- a task's error may be of any class
            found.append(error)
    return found


def wait(
    refs: Sequence[Any],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[Any], list[Any]]:
    """Return (ready, others) once `num_returns` are ready, or `timeout` seconds have passed.

    Both lists keep the order of *refs*; at most `num_returns` are in the first.  A failed task is ready.  On a Ray
    cluster `fetch_local` says whether ready means here, or anywhere; otherwise anywhere, from where `get` fetches it.
    """
    client = current.client or _client_of(refs)
    if isinstance(refs, ObjectRef):
        raise TypeError("wait() expected a list of jray.ObjectRef, got a single jray.ObjectRef")
    if isinstance(refs, ObjectRefGenerator):
        raise TypeError(
            "wait() expected a list of jray.ObjectRefGenerator, got a single jray.ObjectRefGenerator"
        )
    if not isinstance(refs, list):
        raise TypeError(f"wait() expected a list of ObjectRef or ObjectRefGenerator, got {type(refs)}")
    if timeout is not None and timeout < 0:
        raise ValueError(f"The 'timeout' argument must be nonnegative. Received {timeout}")
    if not refs:
        return [], []
    # by kinds and not one by one: waiting for one at a time over many refs must not look at each in Python
    for kind in set(map(type, refs)):
        if not issubclass(kind, ObjectRef | ObjectRefGenerator):
            raise TypeError(
                f"wait() expected a list of ObjectRef or ObjectRefGenerator, got list containing {kind}"
            )
    if len(set(map(id, refs))) != len(refs):
        raise ValueError("Wait requires a list of unique ray_waitables.")
    if num_returns <= 0:
        raise ValueError("Invalid number of objects to return 0: num_returns must be positive.")
    if num_returns > len(refs):
        raise ValueError("num_returns cannot be greater than the number of ray_waitables provided to wait().")
    return client.wait(refs, num_returns, timeout, fetch_local=fetch_local)  # type: ignore[no-any-return]


def cancel(ref: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancel the task that makes *ref*: drop it if it has not started, interrupt it if it runs.

    `force` ends its process; `recursive` cancels the tasks it started too.  Returns at once; what is
    finished stays finished.  Getting a cancelled ref raises TaskCancelledError.
    """
    client = _client()
    if not isinstance(ref, ObjectRef | ObjectRefGenerator):
        raise TypeError(
            f"jray.cancel() only supported for object refs. For actors, try jray.kill(). Got: {type(ref)}."
        )
    client.cancel(ref, force=force, recursive=recursive)


# -- the cluster ----------------------------------------------------------------------------------------


def _started() -> Any:
    if current.client is None:
        raise RaySystemError(
            "Ray has not been started yet. Trying to use state API before jray.init() has been called."
        )
    return current.client


def nodes() -> list[dict[str, Any]]:
    """Return a row for each node of the cluster."""
    found: list[dict[str, Any]] = _started().cluster.nodes()
    return found


def cluster_resources() -> dict[str, float]:
    """Return what the cluster has of each resource."""
    total: dict[str, float] = _started().cluster.resources()
    return total


def available_resources() -> dict[str, float]:
    """Return what is free now of each resource; names of which nothing is free are left out."""
    free: dict[str, float] = _started().cluster.available()
    return free


def get_gpu_ids() -> list[Any]:
    """Return the ids of the GPUs assigned to the task or actor that asks.

    Numbers from 0 on, or entries of CUDA_VISIBLE_DEVICES, as text, where the worker began with that variable.
    """
    return list(_client().whereabouts().gpu_ids)
