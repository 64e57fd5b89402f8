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
    return "\n".join([_HEAD, *entries, ""])


if __name__ == "__main__":
    PAGE.write_text(make(DIFFERENCES))
