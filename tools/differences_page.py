"""Write docs/differences-from-ray.md from the list in tests/behaviour/differences.py.

usage: python tools/differences_page.py
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.behaviour.differences import DIFFERENCES, Difference  # noqa: E402 -- found by the line above

PAGE = ROOT / "docs" / "differences-from-ray.md"
_WIDTH = 120
_HEAD = """\
# Where jray differs from Ray

On purpose, and each held by a test in `tests/behaviour`, whose other tests run on jray and on Ray 2.60 alike.
Made by `python tools/differences_page.py` from `tests/behaviour/differences.py`.
"""
#: what `tests/notebook` holds, for Ray has no word of its own there
_TAIL = """\

## In a notebook

Held by tests in `tests/notebook`.

- **A cell sees what was defined anew**: helpers, constants and classes that a remote function of the notebook refers to
  are compared once per cell, and local modules are read again when their files changed; in scripts jray has Ray's rule,
  the code as it was at the first call.
- **Interrupting a cell cancels what it has submitted**: in Ray the work goes on; `%jray interrupt detach` has it so.
- **An instance that comes back is of the notebook's own class**: and does not change it; in Ray the class gets what the
  worker's copy had.
- **Output goes to the cell that called**: in Ray to the cell that runs.
"""


def make(differences: Sequence[Difference]) -> str:
    """Return the page's text."""
    entries = [
        textwrap.fill(
            f"- **{difference.title}**: {difference.reason}.",
            _WIDTH,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for difference in differences
    ]
    return "\n".join([_HEAD, *entries, _TAIL])


if __name__ == "__main__":
    PAGE.write_text(make(DIFFERENCES))
