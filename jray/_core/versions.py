"""Owns which versions must be the same in all processes of a cluster, since code and values travel as pickles."""

from __future__ import annotations

import sys

from jray import __version__


def own_versions() -> tuple[str, str]:
    """Return the versions of Python, without its patches, and of jray that this process runs."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}", __version__
