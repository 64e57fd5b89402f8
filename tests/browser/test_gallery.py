"""Each notebook of the gallery runs from top to bottom in both front ends; JupyterLab's pictures are kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.behaviour import support
from tests.browser.conftest import Bench
from tools.frontends import ROOT, THEMES, Frontend

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = ROOT / "build" / "screenshots"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(bench: Bench, frontend: Frontend, path: Path) -> None:
    """No cell raises, every cell of code has run, and no process is left when the kernel is gone."""
    before = bench.processes()
    shutil.copy(path, bench.server.folder)
    with bench.open(frontend, path.name) as page:
        assert page.run_all() == []
        assert page.counts() == list(range(1, len(page.counts()) + 1))
        if frontend == "lab":
            for theme in THEMES:
                page.set_theme(theme)
                assert page.photograph(PICTURES, f"{path.stem}-{theme}")
    support.wait_until(
        lambda: bench.processes().keys() <= before.keys(),
        what=lambda: f"nothing but {before}: {bench.processes()}",
    )
