"""The kernel "Python (jray)": what the wheel brings, and that it starts with jray at hand."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "jupyter-config" / "kernels" / "jray"

pytestmark = pytest.mark.timeout(300)


def test_the_wheel_is_told_to_bring_it() -> None:
    """The shared data of the wheel puts the folder where Jupyter looks for kernels."""
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    shared = targets["wheel"]["shared-data"]
    assert shared[str(SPEC.relative_to(ROOT))] == "share/jupyter/kernels/jray"


def test_a_built_wheel_has_it(tmp_path: Path) -> None:
    """All of its files are in the wheel, beside the configuration of the server extension."""
    pytest.importorskip("hatchling", reason="building needs hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition(".data/data/")[2] for name in archive.namelist()}
    kernel = {f"share/jupyter/kernels/jray/{path.name}" for path in SPEC.iterdir()}
    assert kernel <= names
    assert "etc/jupyter/jupyter_server_config.d/jray_ext.json" in names


def test_it_is_python_with_jray_loaded() -> None:
    """The start command is that of the usual kernel, with jray as an extension."""
    spec = json.loads((SPEC / "kernel.json").read_text())
    assert spec["argv"] == ["python", "-m", "ipykernel_launcher", "--ext=jray", "-f", "{connection_file}"]
    assert (spec["display_name"], spec["language"]) == ("Python (jray)", "python")


@pytest.mark.parametrize("pixels", [32, 64])
def test_its_logos_have_the_sizes_of_their_names(pixels: int) -> None:
    """Front ends take them by name."""
    data = (SPEC / f"logo-{pixels}x{pixels}.png").read_bytes()
    assert struct.unpack(">II", data[16:24]) == (pixels, pixels)


def test_it_starts_with_the_magics_and_submits(make_kernel: Callable[..., Any]) -> None:
    """Nothing is loaded by hand, and what tasks print stands under their cell from the first one on."""
    kernel = make_kernel([SPEC.parent], JRAY_NONINTERACTIVE="0")
    started = kernel.start("%jray start --num-cpus 1")
    kernel.wait_idle(started)
    assert kernel.errors(started) == []
    first = kernel.start("%remote -o x x = print('on a worker') or 41 + 1")
    kernel.wait_idle(first)
    assert kernel.errors(first) == []
    assert kernel.text(first) == "on a worker\n"
    second = kernel.start("x")
    kernel.wait_idle(second)
    assert [data["text/plain"] for data in kernel.displays(second)] == ["42"]
    listed = kernel.start("%jray tasks")
    kernel.wait_idle(listed)
    (shown,) = kernel.displays(listed)
    assert "In[2]" in shown["text/plain"]
    assert 'class="jray-listing"' in shown["text/html"]
    kernel.wait_idle(kernel.start("%jray stop"))
