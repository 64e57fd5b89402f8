"""Owns what a Ray cluster tells about itself, in the engine protocol's words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray

from jray._core.engine import Rows
from jray._core.filters import Filter
from jray._core.on_ray import courier
from jray.exceptions import RaySystemError

if TYPE_CHECKING:
    from jray._core.on_ray.engine import RayEngine

#: the kinds of rows that Ray's state API has under these names
_KINDS = {"actors", "jobs", "nodes", "objects", "placement_groups", "runtime_envs", "tasks", "workers"}
#: the most rows that Ray answers with
_MOST = 10_000


class RayCluster:
    """Asks Ray; every answer is awaited."""

    def __init__(self, engine: RayEngine) -> None:
        self._engine = engine

    def nodes(self) -> list[dict[str, Any]]:
        """Return a row for each node."""
        return list(ray.nodes())

    def resources(self) -> dict[str, float]:
        return dict(ray.cluster_resources())

    def available(self) -> dict[str, float]:
        return dict(ray.available_resources())

    def actor_names(self, namespace: str | None) -> list[tuple[str, str]]:
        """Return (namespace, name) of the living named actors; None: of all namespaces."""
        if self._engine.is_remote_client:
            ask = ray.remote(num_cpus=0)(courier.named_actors)
            found = ray.get(ask.remote())
        else:
            found = courier.named_actors()
        return [
            (where, name)
            for where, name in found
            if where != courier.NAMESPACE and namespace in (None, where)
        ]

    def rows(
        self,
        kind: str,
        *,
        filters: Sequence[Filter] = (),
        limit: int = _MOST,
        detail: bool = False,
        timeout_s: float | None = None,
    ) -> Rows:
        """Return at most *limit* rows of *kind* with Ray's keys, every column of them; 10 000 is the most there is.

        Raises ValueError for an unknown kind, RaySystemError where the cluster has no dashboard to ask.
        """
        del detail  # columns that nobody asked for do no harm
        if kind not in _KINDS:
            raise ValueError(f"{kind!r} is none of {', '.join(sorted(_KINDS))}.")
        most = min(limit, _MOST)
        try:
            if self._engine.is_remote_client:
                ask = ray.remote(num_cpus=0)(courier.state_rows)
                rows = ray.get(ask.remote(kind, list(filters), most, timeout_s))
            else:
                rows = courier.state_rows(kind, list(filters), most, timeout_s)
        except Exception as error:
            raise RaySystemError(
                f"Ray's state API did not answer for {kind}: {error} It is part of the dashboard: install it where the "
                "head runs with `pip install 'ray[default]'` and start the head with "
                "`ray start --head --include-dashboard=true`."
            ) from error
        counts: Counter[tuple[str, ...]] = Counter(
            (str(row["name"] or row["func_or_class_name"]), str(row["type"]), str(row["state"]))
            for row in (rows if kind == "tasks" else ())
        )
        warnings = [f"Ray gives no more than {_MOST} {kind}."] if len(rows) >= _MOST else []
        return Rows(rows, len(rows), warnings, dict(counts))
