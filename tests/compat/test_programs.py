"""Programs of the kind that Ray's documentation shows: on jray, and with the same words on Ray where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
pytestmark = pytest.mark.timeout(240)
#: an interpreter that has Ray
RAY_PYTHON = os.environ.get("JRAY_RAY_PYTHON")

SAID = {
    "actor_tree": [
        "total 27",
        "leaves ['r.0.0', 'r.0.1', 'r.1.0', 'r.1.1']",
        "inner True ['r.1.0', 'r.1.1']",
        "registered ['r', 'r.0', 'r.0.0', 'r.0.1', 'r.1', 'r.1.0', 'r.1.1']",
        "lost True",
    ],
    "monte_carlo_pi": ["never back True", "pi 3.1374", "resources 3.0"],
    "parameter_server": ["weights [2.0, -3.0, 0.5]"],
    "pipeline": [
        "results True 5520000.0",
        "outcomes [0, (True, 'item 1'), 2, (True, 'item 3')]",
        "generated [0, 1, 2, 3, 4]",
        "options 2",
        "timeout True",
    ],
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_program_on_jray(run: Callable[..., str], program: Path) -> None:
    """A program that only knows Ray says the right things."""
    assert run(str(program)).splitlines() == SAID[program.stem]


@pytest.mark.skipif(RAY_PYTHON is None, reason="JRAY_RAY_PYTHON names no interpreter that has Ray")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_program_on_ray(run: Callable[..., str], program: Path) -> None:
    """Ray says the same."""
    out = run(
        str(program),
        compat=False,
        python=str(RAY_PYTHON),
        RAY_AUTH_MODE="disabled",
        RAY_USAGE_STATS_ENABLED="0",
    )
    said = [line for line in out.splitlines() if not line.startswith(("(", "\x1b"))]
    assert said == SAID[program.stem]
