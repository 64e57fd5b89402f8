"""Owns where the error of a cell that is no Python stands: at the line that the user sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jray.notebook.cells import running_number


@contextmanager
def reading(shell: Any, magic: str, python: str) -> Iterator[None]:
    """Let a SyntaxError of the cell below *magic* name the running cell and its lines, as IPython's own errors do.

    `python` is the cell as it was read: after IPython's transformations.
    """
    try:
        yield
    except SyntaxError as error:
        text = f"{magic.rstrip()}\n{python}"
        error.filename = shell.compile.cache(text, running_number(shell, is_recorded=True))
        if error.lineno is not None:
            error.lineno += 1
        if error.end_lineno is not None:
            error.end_lineno += 1
        raise
