"""Owns a worker's copies of the user's own modules: lets go of them when one's file has changed, so that it is read anew.

A notebook's worker lives through many cells, between which the files beside the notebook are edited.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import time
from types import ModuleType

_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
#: parts of paths under which lies what was installed
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

#: when a file was changed last, by its system's clock in ns, and its size
_Stamp = tuple[int, int]


class LocalModules:
    """The modules that were loaded from Python files under a folder, except what is installed there."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.abspath(folder) + os.sep
        self._stamps: dict[str, _Stamp] = {}
        #: names of modules that are none of these
        self._foreign: set[str] = set()
        self._looked_ns = time.time_ns()

    def refresh(self) -> bool:
        """Let go of all if the file of one has changed since it was loaded; return whether.

        All, because each may have names of the changed one.  They are loaded anew by whoever imports them next.
        """
        now_ns = time.time_ns()
        local = self._local()
        changed = []
        for name, path in local.items():
            try:
                status = os.stat(path)
            except OSError:  # it is gone, and what was loaded is all there is
                continue
            stamp = status.st_mtime_ns, status.st_size
            # one not seen before was loaded since the last look: what is older than that look is what was loaded
            if self._stamps.get(name, stamp) != stamp or (
                name not in self._stamps and stamp[0] >= self._looked_ns
            ):
                changed.append(path)
            self._stamps[name] = stamp
        self._looked_ns = now_ns
        if not changed:
            return False
        for path in changed:
            # compiled files know seconds and sizes only, and an edit may change neither
            with contextlib.suppress(OSError, NotImplementedError):
                os.unlink(importlib.util.cache_from_source(path))
        for name in local:
            sys.modules.pop(name, None)
        self._stamps.clear()
        importlib.invalidate_caches()
        return True

    def _local(self) -> dict[str, str]:
        """Return the files of those modules, by name."""
        found = {}
        for name in sys.modules.keys() - self._foreign:
            path = self._path(sys.modules.get(name))
            if path is None:
                self._foreign.add(name)
            else:
                found[name] = path
        return found

    def _path(self, module: ModuleType | None) -> str | None:
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or not path.endswith(".py"):
            return None
        path = os.path.abspath(path)
        if not path.startswith(self._folder) or path.startswith((_STANDARD, _PACKAGE)):
            return None
        return None if any(part in path for part in _INSTALLED) else path
