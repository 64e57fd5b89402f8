"""Lines of the user's code, as they are noted: those that led to jray's, found once for all calls that come from one."""

from __future__ import annotations

import sys
from typing import Any

from jray._core import sites
from jray._core.sites import LastSite, Site, here, site_of


def line() -> int:
    return sys._getframe(1).f_lineno


def test_it_is_the_line_that_led_to_jray() -> None:
    """What is between is jray's own."""
    between: dict[str, Any] = {"here": here}
    code = compile("def call(): return here()", f"{sites._HOME}between.py", "exec")
    exec(code, between)  # noqa: S102 -- code that stands for jray's
    assert between["call"]() == Site(__file__, line())


def test_front_ends_are_no_place_of_the_users() -> None:
    """A magic is called by IPython, and the line there says nothing."""
    magic: dict[str, Any] = {"__name__": "IPython.core.magic", "here": here}
    exec(compile("def call(): return here()", "magic.py", "exec"), magic)  # noqa: S102 -- code that stands for IPython's
    assert magic["call"]() is None


def test_calls_of_one_line_are_looked_up_once_and_others_again() -> None:
    last = LastSite()
    found = [last.of(sys._getframe()) for _ in range(3)]
    first = line() - 1
    assert found == [Site(__file__, first)] * 3
    assert found[1] is found[2]
    assert last.of(sys._getframe()) == Site(__file__, line())


def test_there_may_be_none() -> None:
    assert site_of(None) is None
