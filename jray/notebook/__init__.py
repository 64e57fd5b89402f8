"""The notebook: a guest of the runtime, which runs without it.

Importing this imports no IPython; scripts and workers may do it for free.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["activate", "load_ipython_extension", "unload_ipython_extension"]


def activate() -> None:
    """Route the output of tasks to the cells of this process's kernel, if it has one.

    Cheap, harmless without a kernel, and the same when done again.
    """
    if "IPython" not in sys.modules:
        return
    shell = sys.modules["IPython"].get_ipython()
    if shell is not None:
        _guest_of(shell).attend()


def load_ipython_extension(shell: Any) -> None:
    """Add ``%%remote`` and ``%jray`` to *shell*; what ``%load_ext jray`` calls."""
    _guest_of(shell).load()


def unload_ipython_extension(shell: Any) -> None:
    """Take everything of jray out of *shell* again.  A running cluster goes on."""
    _guest_of(shell).leave()


def _guest_of(shell: Any) -> Any:
    # IPython is loaded by now: only here may modules be imported that need it
    return importlib.import_module("jray.notebook.guest").guest_of(shell)
