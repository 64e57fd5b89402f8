"""Owns `JrayBackend`, which runs joblib's batches in the workers of a pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from jray._core.refs import current
from jray.api import cluster_resources
from jray.util.joblib.shipment import Loads, pack, run
from jray.util.multiprocessing.pool import Pool
from jray.util.multiprocessing.results import AsyncResult


class JrayBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc] # it has no annotations
    """Runs batches in a `jray.util.multiprocessing.Pool`, which lives as long as the backend.

    `joblib.parallel_config(backend="jray", ray_remote_args={...})` gives the pool's workers options.
    """

    supports_retrieve_callback = True
    #: whoever chooses a cluster for backend wants all of it
    default_n_jobs = -1

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        ray_remote_args: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **options)
        self._ray_remote_args = dict(ray_remote_args or {})
        self._pool: Pool | None = None
        self._pool_of: tuple[Any, int, dict[str, Any]] | None = None
        self._loads = Loads()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many workers *n_jobs* means: -1 is one for each CPU of the cluster, and never more."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        current.require()
        cpus = max(1, int(cluster_resources().get("CPU", 1)))
        return max(1, cpus + 1 + n_jobs) if n_jobs < 0 else min(n_jobs, cpus)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        ray_remote_args: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> int:
        """Get workers ready for a call of `joblib.Parallel`; return how many."""
        del prefer, require  # hints for who chooses a backend
        self.parallel = parallel
        size = self.effective_n_jobs(n_jobs)
        options = self._ray_remote_args if ray_remote_args is None else dict(ray_remote_args)
        wanted = (current.client, size, options)
        if size > 1 and (
            self._pool is None or self._pool_of != wanted
        ):  # joblib runs the work of one job itself
            self._drop_pool()
            self._pool_of = wanted
            self._start_pool()
        return size

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> AsyncResult:
        """Have a batch run; `callback((result, error))` is called when it has ended."""
        assert self._pool is not None
        tell = callback or (lambda _: None)
        return self._pool.apply_async(
            run,
            pack(func, self._loads),
            callback=lambda result: tell((result, None)),
            error_callback=lambda error: tell((None, error)),
        )

    def retrieve_result_callback(self, out: tuple[Any, BaseException | None]) -> Any:
        """Return the result of a batch, or raise its error."""
        result, error = out
        if error is not None:
            raise error
        return result

    def terminate(self) -> None:
        """End a call of `joblib.Parallel`; the workers stay for the next."""
        self._loads.clear()
        self.reset_batch_stats()
        self.parallel = None  # else the two would keep each other alive, and the workers with them

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End the batches that run, with their workers."""
        self._drop_pool()
        if ensure_ready:
            self._start_pool()

    def _start_pool(self) -> None:
        assert self._pool_of is not None
        _, size, options = self._pool_of
        self._pool = Pool(size, ray_remote_args=options)

    def _drop_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()
