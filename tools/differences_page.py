"""Write docs/differences-from-ray.md from the list in tests/behaviour/differences.py.

usage: python tools/differences_page.py
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from jray import session  # noqa: E402 -- found by the line above
from tests.behaviour.differences import DIFFERENCES, Difference  # noqa: E402 -- found by the line above

PAGE = ROOT / "docs" / "differences-from-ray.md"
_WIDTH = 120
_HEAD = """\
# Where jray differs from Ray

On purpose, and each held by a test in `tests/behaviour`, whose other tests run on jray and on Ray 2.60 alike.
Made by `python tools/differences_page.py` from `tests/behaviour/differences.py`.
"""
#: options of Ray's that are taken and change nothing, for what they ask for is so, or is nowhere to be found here
_WITHOUT_EFFECT = {
    "jray.wait(fetch_local=...)": "what exists on any node is ready; on a Ray cluster it has Ray's meaning",
    "jray.shutdown(wait_for_processes=...)": "it always waits",
    "jray.init(_redis_password=..., _redis_username=..., _skip_env_hook=...)": "there is no such service, and no hook",
    "JobConfig(_disable_job_level_lineage_reconstruction=...)": "what a lost node held is made again where it can be",
    "list_logs(timeout=...), get_log(timeout=...)": "nodes answer at once, or not at all",
    "ray.autoscaler.sdk.request_resources(...), under jray.compat": "a hint, with nobody to follow it",
}
_MIDDLE = """\

## Options without an effect

What jray takes from Ray's signatures is carried out or refused by name, but for these. `jray.init` warns of those
that it is given in vain:
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
    entries = [f"**{difference.title}**: {difference.reason}" for difference in differences]
    warned = [f"`{name}`: {why}" for name, (_, why) in session._WITHOUT_EFFECT.items()]
    silent = [f"`{name}`: {why}" for name, why in _WITHOUT_EFFECT.items()]
    between = "\nThe others go without saying:\n"
    return "\n".join([_HEAD, *_items(entries), _MIDDLE, *_items(warned), between, *_items(silent), _TAIL])


def _items(texts: Iterable[str]) -> list[str]:
    return [
        textwrap.fill(
            f"- {text}.", _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        for text in texts
    ]


if __name__ == "__main__":
    PAGE.write_text(make(DIFFERENCES))
