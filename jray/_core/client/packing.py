"""Owns the packages of a job: made of local files before there is a cluster, uploaded when there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jray._core.client.environments import pickled_hook, upload
from jray._core.config import Config, package_excludes
from jray._core.packages import Package, pack_directory, pack_file

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient


class JobPackages:
    """Makes packages of what the job's environment names, and keeps them until they are uploaded."""

    def __init__(self, config: Config) -> None:
        self._most_bytes = config.package_max_bytes
        self._packages: dict[str, Package] = {}
        self._functions: dict[str, bytes] = {}

    def directory(self, path: str, excludes: Sequence[str], *, keeps_name: bool) -> str:
        default, heeds_gitignore = package_excludes()
        return self._keep(
            pack_directory(
                path,
                [*default, *excludes],
                keeps_name=keeps_name,
                heeds_gitignore=heeds_gitignore,
                most_bytes=self._most_bytes,
            )
        )

    def file(self, path: str) -> str:
        return self._keep(pack_file(path, most_bytes=self._most_bytes))

    def function(self, function: Callable[[], Any]) -> str:
        uri, self._functions[uri] = pickled_hook(function)
        return uri

    def _keep(self, package: Package) -> str:
        known = self._packages.setdefault(package.uri, package)
        if known is not package:
            package.close()
        return package.uri

    def upload(self, client: CoreClient) -> None:
        """Give the cluster those that it lacks; blocks."""
        for uri, package in self._packages.items():
            upload(client, uri, package.chunks())
        for uri, blob in self._functions.items():
            upload(client, uri, [blob])

    def close(self) -> None:
        """Remove the packages from this process."""
        for package in self._packages.values():
            package.close()
        self._packages.clear()
