"""Owns the matplotlib backend of workers: figures are drawn in memory and shown in the notebook.

Loaded by matplotlib itself, as ``module://jray.notebook.figures``, so that nothing here costs a worker
that draws nothing.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jray.notebook.worker_display import display

#: What matplotlib looks for in a backend module.
FigureCanvas = FigureCanvasAgg


def show(*_args: Any, **_kwargs: Any) -> None:
    """Publish the open figures, oldest first, and close them, as a notebook's inline backend does."""
    for number in plt.get_fignums():
        display(plt.figure(number))
        plt.close(number)
