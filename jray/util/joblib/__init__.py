"""jray as a backend of joblib, and so of scikit-learn's `n_jobs`.

from jray.util.joblib import register_jray

register_jray()
with joblib.parallel_config(backend="jray"):
    search.fit(X, y)
"""

from __future__ import annotations

import importlib

__all__ = ["register_jray", "register_ray"]


def register_jray() -> None:
    """Let joblib know the backend "jray".  Raises ImportError if joblib is not installed."""
    _register("jray")


def register_ray() -> None:
    """Let joblib know jray's backend by the name "ray", as programs for Ray call it."""
    _register("ray")


def _register(name: str) -> None:
    try:
        joblib = importlib.import_module("joblib")
    except ImportError as error:
        raise ImportError(
            "jray.util.joblib needs joblib, which comes with scikit-learn: pip install joblib"
        ) from error
    backend = importlib.import_module("jray.util.joblib.backend").JrayBackend
    joblib.register_parallel_backend(name, backend)
