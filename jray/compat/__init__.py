"""Owns what lets programs and libraries written for Ray run on jray, unmodified.

`python -m jray.compat program.py` runs a program so; `jray.compat.install()` does it for the running process.
From then on `import ray` and `from ray.x import y` give jray here, in its workers and in the processes that
this one starts.  Nothing of Ray need be installed, and where it is, it is not used.
"""

from __future__ import annotations

import importlib
import os
import sys

from jray._core.environments import normalize
from jray._core.refs import current
from jray.compat.alias import SITE, RayModule, add_to_path, load
from jray.compat.parts import MissingPartError

__all__ = ["RAY_VERSION", "MissingPartError", "install"]

#: the Ray whose API jray answers for: what libraries that check a version are told
RAY_VERSION = "2.60.0"

#: what a worker calls before it does anything else (see `jray._core.worker.main`)
_SETUP = {"JRAY_WORKER_SETUP": "jray.compat:install"}


def install() -> None:
    """Make `import ray` mean jray, in this process and in those that it starts; nothing happens twice.

    Functions and actors that a running cluster is given afterwards find it so as well.

    Raises RuntimeError where Ray itself is imported already, or jray is to run on Ray (JRAY_ENGINE=ray).
    """
    if os.environ.get("JRAY_ENGINE") == "ray":
        raise RuntimeError(
            "JRAY_ENGINE=ray runs jray on Ray, so `import ray` must stay Ray's. Unset it, or run the program itself."
        )
    known = sys.modules.get("ray")
    if known is not None and not isinstance(known, RayModule):
        raise RuntimeError(
            f"{known!r} is imported already. Call jray.compat.install() before anything imports ray, or start the "
            "program with `python -m jray.compat`."
        )
    add_to_path()
    importlib.invalidate_caches()
    found = load("ray")
    if not isinstance(found, RayModule):
        del sys.modules["ray"]
        raise RuntimeError(  # noqa: TRY004 -- it is about where the module lies, not what it is
            f"`import ray` finds {found!r}, which stands before {SITE} in sys.path. Rename that file."
        )
    client = current.client
    # Its workers have the sys.path that the driver had when it started.
    if client is not None and isinstance(getattr(client, "runtime_env", None), tuple):
        client.runtime_env = normalize({"env_vars": _SETUP}, client.runtime_env)
