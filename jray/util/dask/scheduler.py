"""Owns the running of Dask graphs: a task for each node that computes, refs between them."""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dask
from dask.callbacks import local_callbacks, unpack_callbacks
from dask.core import flatten

import jray
from jray import ObjectRef
from jray._core.serialization import is_atom
from jray.util.dask import graph
from jray.util.dask.callbacks import RayCallbacks, local_ray_callbacks, unpack_ray_callbacks
from jray.util.dask.graph import Alias, DataNode, GraphNode
from jray.util.dask.optimizations import dataframe_optimize


def enable_dask_on_ray(shuffle: str | None = "tasks", use_shuffle_optimization: bool | None = True) -> Any:
    """Make jray Dask's scheduler, from now on or, as a context manager, inside the `with`.

    Args:
        shuffle: how data frames exchange rows: "tasks" through the object store, "disk" through files.
        use_shuffle_optimization: accepted for Ray's sake: it concerns data frames that Dask had before 2025.1.
    """
    return dask.config.set(
        {
            "scheduler": ray_dask_get,
            "dataframe.shuffle.method": shuffle,
            "dataframe_optimize": dataframe_optimize if use_shuffle_optimization else None,
        }
    )


def disable_dask_on_ray() -> Any:
    """Give Dask its own scheduler and shuffle back, from now on or, as a context manager, inside the `with`."""
    return dask.config.set({"scheduler": None, "dataframe.shuffle.method": None, "dataframe_optimize": None})


def ray_dask_get(
    dsk: Any,
    keys: Any,
    *,
    ray_callbacks: Iterable[Any] | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    ray_persist: bool = False,
    num_workers: int | None = None,
    pool: Any = None,
    _ray_enable_progress_bar: bool | None = None,
    **others: Any,
) -> Any:
    """Compute the values of *keys* in the graph *dsk* by tasks; blocks until they are there.

    Dask calls it, with what was given to `compute`: `collection.compute(scheduler=ray_dask_get, ...)`.
    Where it fails or is interrupted the tasks that are not done are cancelled.

    Args:
        ray_callbacks: instead of the active `RayDaskCallback`s.
        ray_remote_args: options for all tasks, as in `jray.remote`; `dask.annotate(ray_remote_args=...)` gives
            them to some.
        ray_persist: return ObjectRefs instead of values, and do not wait.
        num_workers, pool, _ray_enable_progress_bar: accepted for Ray's sake, where threads submit the tasks, and
            the progress bar is asked for twice.  How many tasks run at once is up to the cluster.

    Raises:
        The exception of a failed task, as `jray.get` does.
        TypeError: an unknown keyword.  ValueError: `resources=`, which are among ray_remote_args.
    """
    del num_workers, pool, _ray_enable_progress_bar
    if "resources" in others:
        graph.refuse_resources()
    if others:
        raise TypeError(f"ray_dask_get got an unexpected keyword argument {next(iter(others))!r}.")
    nodes, options = graph.read(dsk, ray_remote_args or {})
    with local_ray_callbacks(ray_callbacks) as active, local_callbacks() as dasks_own:
        run = _Run(nodes, keys, options, unpack_ray_callbacks(active))
        return run.results(_Watch(dasks_own, run), is_persisted=ray_persist)


def ray_dask_get_sync(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Do what `ray_dask_get` does: it submits from the calling thread as well."""
    return ray_dask_get(dsk, keys, **kwargs)


class _Run:
    """One computation of a graph."""

    def __init__(
        self, nodes: Mapping[Any, GraphNode], keys: Any, options: graph.Options, callbacks: RayCallbacks
    ) -> None:
        self._keys = keys
        self._options = options
        self._callbacks = callbacks
        in_tasks = [*callbacks.ray_pretask_cbs, *callbacks.ray_posttask_cbs]
        #: for the tasks; put once
        self._inside = (
            jray.put((callbacks.ray_pretask_cbs, callbacks.ray_posttask_cbs)) if any(in_tasks) else None
        )
        self.order = graph.wanted(nodes, keys)
        self.nodes = {key: nodes[key] for key in self.order}
        #: what a key's value is, while it is needed: a ref, or the value itself
        self._values: dict[Any, Any] = {}
        self._refs: weakref.WeakSet[ObjectRef[Any]] = weakref.WeakSet()

    def results(self, watch: _Watch, *, is_persisted: bool) -> Any:
        """Submit everything; return what the keys stand for, nested as they are."""
        with watch:
            try:
                found = self._submit(watch)
                for function in self._callbacks.ray_postsubmit_all_cbs:
                    function(_nested(self._keys, found), self.nodes)
                if not is_persisted:
                    values = watch.wait({value for value in found.values() if isinstance(value, ObjectRef)})
                    found = {
                        key: values[value] if isinstance(value, ObjectRef) else value
                        for key, value in found.items()
                    }
            except BaseException:
                self._cancel()
                raise
        result = _nested(self._keys, found)
        for function in self._callbacks.ray_finish_cbs:
            function(result)
        return result

    def _submit(self, watch: _Watch) -> dict[Any, Any]:
        """Submit the tasks; return what the wanted keys stand for, and keep nothing else."""
        asked = set(flatten([self._keys]))
        uses = Counter(key for node in self.nodes.values() for key in graph.needs(node))
        for key in self.order:
            node = self.nodes[key]
            if isinstance(node, Alias):
                self._values[key] = self._values[graph.target(node)]
            elif isinstance(node, DataNode):
                self._values[key] = self._stored(node.value, is_used=uses[key] > 0, is_asked=key in asked)
            else:
                watch.submitting(key)
                self._values[key] = self._submit_task(key, node)
                watch.submitted(key, self._values[key])
            for needed in graph.needs(node):
                uses[needed] -= 1
                if not uses[needed] and needed not in asked:
                    del self._values[needed]
        found, self._values = self._values, {}
        return found

    @staticmethod
    def _stored(value: Any, *, is_used: bool, is_asked: bool) -> Any:
        """Return *value*, or a ref to it if tasks need it and it is too large to go along with each."""
        return (
            value
            if is_asked or not is_used or isinstance(value, ObjectRef) or is_atom(value)
            else jray.put(value)
        )

    def _submit_task(self, key: Any, node: GraphNode) -> Any:
        deps = {needed: self._values[needed] for needed in graph.needs(node)}
        for function in self._callbacks.ray_presubmit_cbs:
            instead = function(node, key, deps)
            if instead is not None:
                return instead
        inner = tuple(dict.fromkeys(graph.refs_in(node)))
        options = {"name": f"dask:{key!s}", **self._options.get(key, {})}
        ref = _run_node.options(**options).remote(
            # in a list the refs stay refs, which tell where their values go; the tasks waits for them all the same
            key, node, [*inner], tuple(deps), self._inside, *inner, *deps.values()
        )  # fmt: skip
        self._refs.add(ref)
        for function in self._callbacks.ray_postsubmit_cbs:
            function(node, key, deps, ref)
        return ref

    def _cancel(self) -> None:
        """Cancel what is not done; of what nobody needs there is no ref any more."""
        for ref in list(self._refs):
            with contextlib.suppress(Exception):  # the reason why this runs is the error to show
                jray.cancel(ref)


@jray.remote
def _run_node(
    key: Any, node: Any, inner: list[ObjectRef[Any]], needed: tuple[Any, ...], callbacks: Any, *values: Any
) -> Any:
    """Compute a node: *values* are those of the refs in it, then those of the keys that it needs."""
    pretasks, posttasks = callbacks or ((), ())
    given = values[len(inner) :]
    states = [None if function is None else function(key, given) for function in pretasks]
    node = graph.put_in(node, dict(zip(inner, values, strict=False)))
    result = node(dict(zip(needed, given, strict=True)))
    for function, state in zip(posttasks, states, strict=True):
        if function is not None:
            function(key, result, state)
    return result


def _nested(keys: Any, values: Mapping[Any, Any]) -> Any:
    """Return the values of *keys*, which are nested in lists, nested in tuples as Dask wants them."""
    return tuple(_nested(key, values) for key in keys) if isinstance(keys, list) else values[keys]


class _Watch:
    """Waits for what was submitted, and tells Dask's own callbacks what begins and what has ended.

    Where there are callbacks it holds the ref of each task until the task has ended.
    """

    def __init__(self, callbacks: Iterable[tuple[Any, ...]], run: _Run) -> None:
        self._callbacks = list(callbacks)
        self._run = run
        self._started: list[tuple[Any, ...]] = []
        _, _, self._pretask, self._posttask, _ = unpack_callbacks(self._callbacks)
        self._pending: dict[ObjectRef[Any], Any] = {}
        #: with the names that Dask's own schedulers use, for the callbacks
        self._state: dict[str, Any] = {}

    def __enter__(self) -> None:
        if not self._callbacks:
            return
        tasks = [key for key in self._run.order if not isinstance(self._run.nodes[key], Alias | DataNode)]
        self._state = {
            "waiting": {key: set(graph.needs(self._run.nodes[key])) for key in tasks},
            "ready": [],
            "running": set(),
            "finished": set(),
            "dependencies": {key: set(graph.needs(node)) for key, node in self._run.nodes.items()},
        }
        for callback in self._callbacks:
            self._call(callback[0], self._run.nodes)
            self._started.append(callback)
            self._call(callback[1], self._run.nodes, self._state)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for callback in self._started:
            self._call(callback[4], self._run.nodes, self._state, kind is not None)

    @staticmethod
    def _call(function: Callable[..., Any] | None, *args: Any) -> None:
        if function:
            function(*args)

    def submitting(self, key: Any) -> None:
        """Say that the task is about to be submitted."""
        if self._callbacks:
            self._state["waiting"].pop(key)
            self._state["running"].add(key)
            for function in self._pretask:
                function(key, self._run.nodes, self._state)

    def submitted(self, key: Any, value: Any) -> None:
        """Say that the task is submitted, and what stands for its value; anything but a ref is the value."""
        if self._callbacks:
            if isinstance(value, ObjectRef):
                self._pending[value] = key
            else:
                self._done(key, value)

    def wait(self, asked: set[ObjectRef[Any]]) -> dict[ObjectRef[Any], Any]:
        """Return the values of *asked* when all are there; raises when one of them has failed, whatever others do."""
        values: dict[ObjectRef[Any], Any] = {}
        pending = dict.fromkeys([*self._pending, *asked])
        while pending:
            ready, _ = jray.wait(list(pending), num_returns=1)
            more, _ = jray.wait(list(pending), num_returns=len(pending), timeout=0)
            for ref in dict.fromkeys([*ready, *more]):
                del pending[ref]
                if ref in self._pending:
                    self._done(self._pending.pop(ref), ref)
                if ref in asked:
                    values[ref] = jray.get(ref)
        return values

    def _done(self, key: Any, value: Any) -> None:
        self._state["running"].discard(key)
        self._state["finished"].add(key)
        for function in self._posttask:
            function(key, value, self._run.nodes, self._state, None)
