"""Owns Dask's scheduler on jray: arrays, bags, data frames and delayed values computed by tasks.

    import dask.array as da
    from jray.util.dask import enable_dask_on_ray

    enable_dask_on_ray()
    da.ones((4000, 4000), chunks=(1000, 1000)).sum().compute()

Every node of a Dask graph that computes something becomes one task; chunks stay in the object store between
them.  `persist` leaves its results there.  Importing this module makes Dask's `persist` do so where the
scheduler is one of these; nothing else of Dask changes.
"""

from __future__ import annotations

from jray.util.dask.callbacks import (
    ProgressBarCallback,
    RayDaskCallback,
    local_ray_callbacks,
    unpack_ray_callbacks,
)
from jray.util.dask.optimizations import dataframe_optimize
from jray.util.dask.persist import ray_dask_persist
from jray.util.dask.scheduler import (
    disable_dask_on_ray,
    enable_dask_on_ray,
    ray_dask_get,
    ray_dask_get_sync,
)

__all__ = [
    "ProgressBarCallback",
    "RayDaskCallback",
    "dataframe_optimize",
    "disable_dask_on_ray",
    "enable_dask_on_ray",
    "local_ray_callbacks",
    "ray_dask_get",
    "ray_dask_get_sync",
    "ray_dask_persist",
    "unpack_ray_callbacks",
]
