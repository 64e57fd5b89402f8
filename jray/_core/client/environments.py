"""Owns how what runtime environments name of this process gets to the cluster: packages, uploaded once by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from jray._core.client.functions import pickle_code
from jray._core.environments import refuse_local

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient


class CallPackages:
    """What tasks and actors may name in theirs: functions, but no files, which only a job has (Ray's rule)."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client

    def directory(self, path: str, excludes: Sequence[str], *, keeps_name: bool) -> str:  # noqa: ARG002
        refuse_local("py_modules" if keeps_name else "working_dir", path)

    def file(self, path: str) -> str:
        refuse_local("py_modules" if path.endswith((".py", ".whl")) else "working_dir", path)

    def function(self, function: Callable[[], Any]) -> str:
        """Upload a function; return its URI."""
        uri, blob = pickled_hook(function)
        upload(self._client, uri, [blob])
        return uri


def pickled_hook(function: Callable[[], Any]) -> tuple[str, bytes]:
    """Return the URI of a function, and its pickle; raises TypeError if it can't be pickled."""
    name = getattr(function, "__qualname__", type(function).__name__)
    blob, _ = pickle_code(function, "worker_process_setup_hook", name)
    return f"gcs://_jray_hook_{hashlib.blake2b(blob, digest_size=20).hexdigest()}.pkl", blob


def upload(client: CoreClient, uri: str, chunks: Iterable[bytes]) -> None:
    """Give the cluster a package, unless it has it; blocks.  Raises RaySystemError if the head is gone."""
    if client.ask("has_package", client.job_id, uri):
        return
    for chunk in chunks:
        client.ask("put_package", client.job_id, uri, chunk)
    client.ask("seal_package", client.job_id, uri)
