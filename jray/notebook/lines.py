"""Owns how a line of code is named in a notebook: by its cell, where it is in one."""

from __future__ import annotations

import os
from typing import Any


def line_label(shell: Any, file: str, line: int) -> str:
    """Return ``In[3], line 2``, or ``model.py, line 40`` for what is in no cell of this notebook."""
    name = _cell_of(shell, file)
    return f"{name or os.path.basename(file)}, line {line}"


def _cell_of(shell: Any, file: str) -> str:
    """Return ``In[3]`` for what a cell was compiled as; "" for other files."""
    # IPython's own table, by which its tracebacks name cells: the name of the code, and the cell's number
    known = getattr(getattr(shell, "compile", None), "_filename_map", None)
    number = known.get(file) if isinstance(known, dict) else None
    return "" if number is None else f"In[{number}]"
