"""The points at which a process can be made to die: known by name, each in the code, and nothing unless asked for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from jray._core.faults import POINTS, Faults
from tests.behaviour.support import ROOT


def test_each_point_is_reached_somewhere_and_each_that_is_reached_is_known() -> None:
    found = [
        name
        for path in (ROOT / "jray").rglob("*.py")
        for name in re.findall(r'reached\("([\w.]+)"\)', path.read_text())
    ]
    assert sorted(set(found)) == sorted(POINTS)


def test_without_a_setting_nothing_happens() -> None:
    faults = Faults("")
    for point in POINTS:
        faults.reached(point)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("put.creatd:kill", "no point 'put.creatd', but put.begin, put.created"),
        ("kill", "no point 'kill'"),
        ("put.created", r"put\.created:kill, put\.created:stop"),
        ("put.created:die", "'put.created:die' does not say what is to happen at put.created"),
        ("put.created:kill:0", "'put.created:kill:0'"),
        ("put.created:kill:x", "'put.created:kill:x'"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Faults(setting)


def test_it_happens_at_that_point_and_that_time_alone() -> None:
    text = """
        import sys
        from jray._core.faults import Faults
        faults = Faults("put.written:kill:3")
        for point in ["put.written", "put.created", "put.written", "get.mapped"]:
            faults.reached(point)
        print("lives", flush=True)
        faults.reached("put.written")
        print("lives on", flush=True)
    """
    lines = "\n".join(line.strip() for line in text.splitlines()).replace(
        "faults.reached(point)", " faults.reached(point)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", lines],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "lives\n"), ended.stderr
