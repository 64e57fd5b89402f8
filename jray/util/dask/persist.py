"""Owns `persist` for jray's schedulers: its results stay in the object store, as ObjectRefs in the graph."""

from __future__ import annotations

import functools
from typing import Any

import dask
from dask.base import get_scheduler, unpack_collections

from jray.util.dask.scheduler import ray_dask_get, ray_dask_get_sync

_OURS = (ray_dask_get, ray_dask_get_sync)
_plain = dask.base.persist


@functools.wraps(_plain)
def ray_dask_persist(*args: Any, traverse: bool = True, **kwargs: Any) -> Any:
    """Do what `dask.persist` does, without waiting for the results where jray runs the tasks."""
    collections, _ = unpack_collections(*args, traverse=traverse)
    if collections and get_scheduler(scheduler=kwargs.get("scheduler"), collections=collections) in _OURS:
        kwargs["ray_persist"] = True
    return _plain(*args, traverse=traverse, **kwargs)


# Dask asks a scheduler for values or does not tell it what they are for; the method of collections goes this way too
dask.persist = dask.base.persist = ray_dask_persist
