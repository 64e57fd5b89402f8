"""Stands for Ray's private package: of its modules those that programs use, and that mean something here."""

from __future__ import annotations

import sys

from jray.compat import alias

sys.modules[__name__].__class__ = alias.Package
