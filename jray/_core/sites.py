"""Owns the places in the user's code that objects come from: a line of a file, which may stand for a notebook's cell."""

from __future__ import annotations

import os
import sys
import types
from typing import NamedTuple

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: what calls a cell's code, or a magic's
_FRONT_ENDS = frozenset({"IPython", "ipykernel"})


class Site(NamedTuple):
    """A line of code."""

    file: str  #: as compiled; of a cell that is a name which only its kernel knows
    line: int


class Made(NamedTuple):
    """What made an object."""

    what: str  #: "jray.put", or a task's name
    cell: int  #: that ran then, as tasks carry it; 0: none
    site: Site | None  #: None: not noted


def is_own(frame: types.FrameType) -> bool:
    """Tell whether a frame runs code of jray."""
    return frame.f_code.co_filename.startswith(_HOME)


def site_of(frame: types.FrameType | None) -> Site | None:
    """Return the line of the user's that led to a frame of jray's; None: there is none in this thread."""
    while frame is not None and is_own(frame):
        frame = frame.f_back
    if frame is None or str(frame.f_globals.get("__name__")).partition(".")[0] in _FRONT_ENDS:
        return None
    return Site(frame.f_code.co_filename, frame.f_lineno)


def here() -> Site | None:
    """Return the line of the user's that the calling code of jray works for."""
    return site_of(sys._getframe(1))


class LastSite:
    """The line that the last of many like calls came from, and so, mostly, the next: to find it costs ten times this."""

    __slots__ = ("_at", "_code", "_site")

    def __init__(self) -> None:
        self._code: types.CodeType | None = None
        self._at = 0
        self._site: Site | None = None

    def of(self, frame: types.FrameType) -> Site | None:
        """Return the line of a call that *frame* makes."""
        if frame.f_code is self._code and frame.f_lasti == self._at:
            return self._site
        site = site_of(frame)
        if not is_own(frame):  # jray's own code calls for various lines of the user's
            self._code, self._at, self._site = frame.f_code, frame.f_lasti, site
        return site
