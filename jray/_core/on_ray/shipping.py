"""Owns jray's own sources on their way to the cluster: their digest, their archive, what stands for them in a pickle."""

from __future__ import annotations

import importlib
import io
import os
import zipfile
from typing import Any

import ray

import jray
from jray._core.on_ray import courier


class Sources:
    """Stands for the driver's jray in what is sent: where it is unpickled, that jray becomes importable."""

    __slots__ = ("digest", "version")

    def __init__(self, version: str, digest: str) -> None:
        self.version = version
        self.digest = digest

    def __reduce__(self) -> tuple[Any, ...]:
        return courier.install, (self.version, self.digest)


class _Here:
    """The sources that this process sends on: the driver's own, or those it got."""

    def __init__(self) -> None:
        self.sources: Sources | None = None


_here = _Here()


def sources() -> Sources:
    """Return what this process sends ahead of everything that refers to jray."""
    if _here.sources is None:
        raise AssertionError("publish() or receive() comes first")
    return _here.sources


def publish() -> Sources:
    """Have the cluster hold this process's jray, for workers that lack it."""
    folder = os.path.dirname(os.path.abspath(jray.__file__))
    files = courier.sources_of(folder)
    digest = courier.digest_of(files)
    key_value = importlib.import_module("ray.experimental.internal_kv")
    key, namespace = f"jray_{digest}".encode(), courier.NAMESPACE.encode()
    if not key_value._internal_kv_exists(key, namespace=namespace):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as target:
            for path, content in files.items():
                target.writestr(path, content)
        # stays with the cluster: actors that outlive this driver restart with it
        key_value._internal_kv_put(key, archive.getvalue(), namespace=namespace)
    travel_by_value()
    _here.sources = Sources(jray.__version__, digest)
    return _here.sources


def receive(version: str, digest: str) -> Sources:
    """Note which sources this process has got.  Raises ImportError if it had imported others before."""
    if jray.__version__ != version:
        raise ImportError(
            f"This worker has jray {jray.__version__} ({jray.__file__}) and the driver has {version}. Install jray "
            f"{version} on the cluster, or none: the driver brings its own."
        )
    if _here.sources is None:
        travel_by_value()
        _here.sources = Sources(version, digest)
    return _here.sources


def travel_by_value() -> None:
    """Have Ray pickle the courier's functions and classes themselves, not their names."""
    ray.cloudpickle.register_pickle_by_value(courier)
