"""Owns the choice of the engine under test: the variable JRAY_TEST_ENGINE, and the alias it needs.

With "jray", the default, nothing is done.  With "inline" jray runs everything in this process.  With "ray" the
name `jray` stands for Ray's package in this process, submodules too, so that one text of a test serves both.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ENGINE = os.environ.get("JRAY_TEST_ENGINE", "jray")
ON_RAY = ENGINE == "ray"
ON_INLINE = ENGINE == "inline"
#: what tests may mean by an engine when they name it: the inline engine is jray too
NAMES = {"jray", "inline"} if ON_INLINE else {ENGINE}

#: how often Ray may try to start, on a machine that is busy
_STARTS = 4
# Ray is to be quick, quiet and reachable by nobody but the test; none of this touches its semantics.
_RAY_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}


class _AliasFinder(MetaPathFinder, Loader):
    """Answer `import jray.x` with the module `ray.x` itself, not with a second copy of it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname.startswith("jray.") else None

    def exec_module(self, module: ModuleType) -> None:
        # The import system takes over what stands in sys.modules when this returns.
        sys.modules[module.__name__] = importlib.import_module(module.__name__.removeprefix("j"))


def _is_installed() -> bool:
    """Tell whether `jray` names Ray already; RuntimeError if it names jray, which would be tested in Ray's name."""
    known = sys.modules.get("jray")
    if known is not None and known.__name__ != "ray":
        message = "jray was imported before the tests could give its name to Ray"
        raise RuntimeError(message)
    return known is not None


def install() -> None:
    """Make `import jray` give the engine under test."""
    if ENGINE not in ("jray", "inline", "ray"):
        message = f"JRAY_TEST_ENGINE={ENGINE!r} is no engine; give 'jray', 'inline' or 'ray'"
        raise ValueError(message)
    if ON_INLINE:
        os.environ["JRAY_ENGINE"] = ENGINE
    if not ON_RAY or _is_installed():
        return
    for name, value in _RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    sys.meta_path.insert(0, _AliasFinder())
    ray: Any = importlib.import_module("ray")
    ray.init = _patient(ray.init, ray.shutdown)
    sys.modules["jray"] = ray


def _patient(init: Callable[..., Any], shutdown: Callable[[], None]) -> Callable[..., Any]:
    """Return an `init` that tries again where the 30 s are over that Ray gives a node to start."""

    @functools.wraps(init)
    def start(*args: Any, **options: Any) -> Any:
        for _ in range(_STARTS - 1):
            try:
                return init(*args, **options)
            except Exception as error:
                if "timed out during startup" not in str(error):
                    raise
                shutdown()
        return init(*args, **options)

    return start
