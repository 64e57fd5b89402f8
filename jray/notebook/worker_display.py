"""Owns how `display()` and `plt.show()` in a task reach the notebook, though its process has no shell.

Nothing is imported for it: IPython and matplotlib are seen to when the user's own code imports them.
"""

from __future__ import annotations

import builtins
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

_BACKEND = "module://jray.notebook.figures"
#: Backends that a worker has because a notebook, or a machine without a screen, has them: nobody chose them for it.
_UNCHOSEN = frozenset({"", "agg", "inline", "module://matplotlib_inline.backend_inline", _BACKEND})


class _Process:
    """Where displays go, until the first one is made."""

    def __init__(self) -> None:
        self.send: Callable[[dict[str, Any]], None] | None = None


_process = _Process()


def install(send: Callable[[dict[str, Any]], None]) -> None:
    """Have what this worker's tasks display given to *send*, as the data of an `Output`."""
    _process.send = send
    # IPython makes `display` a builtin of notebooks: functions that come from there call it without an import
    builtins.display = display  # type: ignore[attr-defined]
    hook = _AfterImport({"IPython.core.display_functions": _see_to_ipython, "matplotlib": _see_to_matplotlib})
    hook.install()


def display(*values: Any, **options: Any) -> Any:
    """Show values under the cell that submitted this task; takes what IPython's `display` does."""
    # what it takes is imported by the first display: most workers never show anything
    publisher: Any = importlib.import_module("jray.notebook.publisher")
    if _process.send is not None:
        publisher.publish_live(_process.send)
        _process.send = None
    current = publisher.current_publisher()
    return current.display(*values, **options) if current is not None else None


def update_display(value: Any, *, display_id: str, **options: Any) -> None:
    """Replace what was displayed under that id."""
    display(value, display_id=display_id, **{**options, "update": True})


def publish_display_data(
    data: dict[str, Any], metadata: dict[str, Any] | None = None, source: Any = None, **options: Any
) -> None:
    """Show a mime bundle; `source` is ignored, as by IPython."""
    del source
    display(data, metadata=metadata, raw=True, **options)


def _see_to_ipython(module: Any) -> None:
    module.display = display
    module.update_display = update_display
    module.publish_display_data = publish_display_data


def _see_to_matplotlib(module: Any) -> None:
    # `matplotlib.use`, a matplotlibrc and an MPLBACKEND with another backend still have their way
    chosen = (
        module.rcParams._get_backend_or_none() if hasattr(module.rcParams, "_get_backend_or_none") else None
    )
    if (chosen or os.environ.get("MPLBACKEND") or "").lower() in _UNCHOSEN:
        module.rcParams["backend"] = _BACKEND


class _AfterImport:
    """A finder that finds what others find, and has it seen to once it is imported."""

    def __init__(self, actions: dict[str, Callable[[Any], None]]) -> None:
        self._actions = actions

    def install(self) -> None:
        for name in [name for name in self._actions if name in sys.modules]:
            self._actions.pop(name)(sys.modules[name])
        sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> Any:
        """Return what the finders behind this one find, with a loader that does more."""
        if name not in self._actions:
            return None
        for finder in sys.meta_path:
            spec: Any = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader, self._actions.pop(name))
                return spec
        return None


class _Loader:
    """Loads as another loader does; a module is seen to before anybody else gets it."""

    def __init__(self, loader: Any, action: Callable[[Any], None]) -> None:
        self._loader = loader
        self._action = action

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._action(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
