"""The Jupyter Server extension of jray: what the server knows of this user's heads, over HTTP.

It runs in the server's process, which is not a driver, so it uses nothing of the runtime: heads are
found by the files that they leave in the runtime directory.
"""

from __future__ import annotations

from typing import Any

from jray_ext.extension import JrayExtApp

__all__ = ["JrayExtApp"]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": "jray_ext", "app": JrayExtApp}]
