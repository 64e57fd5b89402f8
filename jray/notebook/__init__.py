"""The notebook: a guest of the runtime, which runs without it.

Importing this imports no IPython; scripts and workers may do it for free.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["activate", "load_ipython_extension", "new_magic", "unload_ipython_extension"]


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
    """Add ``%jray``, ``%%remote`` and their kin to *shell*; what ``%load_ext jray`` calls."""
    _guest_of(shell).load()


def unload_ipython_extension(shell: Any) -> None:
    """Take everything of jray out of *shell* again.  A running cluster goes on."""
    _guest_of(shell).leave()


def new_magic(name: str, **options: Any) -> None:
    """Give this notebook the magics ``%%name`` and ``%name``: ``%%remote`` with defaults of its own.

    *options* are those of ``%%remote``, written as keywords; what a cell says on its magic line comes before them.
    ``jray.new_magic("gpu", num_gpus=1)`` lets ``%%gpu`` run cells with a GPU, with help and completion.  Giving the
    same name again changes the defaults.

    Raises:
        RuntimeError: there is no IPython here.
        TypeError: an option does not exist, or its value is of the wrong type.
        ValueError: the name cannot be a magic's, or a magic of another making has it.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        raise RuntimeError(
            "jray.new_magic() makes magics for a notebook or IPython, and this is neither. In a script, "
            "jray.remote(...).options(...) gives a function its defaults."
        )
    _guest_of(shell).add_magic(name, options)


def _guest_of(shell: Any) -> Any:
    # IPython is loaded by now: only here may modules be imported that need it
    return importlib.import_module("jray.notebook.guest").guest_of(shell)
