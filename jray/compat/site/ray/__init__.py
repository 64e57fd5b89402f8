"""Stands for Ray in `sys.path`: the public names of jray, and the modules that `jray.compat.alias` finds."""

from __future__ import annotations

import logging
import sys

from jray.compat import alias

__version__ = "2.60.0"
logger = logging.getLogger("ray")

alias.dress(sys.modules[__name__])
