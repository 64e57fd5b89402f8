"""The Jupyter Server extension of jray: this user's heads, over HTTP, and one for the server's kernels.

It runs in the server's process, which is not a driver, so it uses nothing of the runtime: heads are found by the files
that they leave in the runtime directory, and started by the command line.
"""

from __future__ import annotations

from typing import Any

from jray_ext.extension import JrayExtApp

__all__ = ["JrayExtApp"]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": "jray_ext", "app": JrayExtApp}]
