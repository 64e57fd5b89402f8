"""What is set side by side: each engine's name, module, interpreter, and how it is started."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rows import JRAY, LIMITS, POOL, RAY

#: CPUs every engine is told to use, so that figures of different machines mean the same.
CPUS = 2
RAY_VERSION = "2.60.0"

_DESCRIBE = """
import importlib, json, platform, sys
found = {"python": platform.python_version(), "executable": sys.executable}
for name in sys.argv[1:]:
    found[name] = importlib.import_module(name).__version__
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """One column of the table."""

    name: str
    title: str
    python: str
    #: Module with Ray's API; None for the two that have none.
    module: str | None = None
    #: Keywords of its `init`, beside `num_cpus`.
    init_options: Mapping[str, object] = field(default_factory=dict)
    #: What to do when `module` can't be imported.
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """An engine as found on this machine; `missing` says why it can't run, with the remedy."""

    title: str
    python: str = ""
    version: str = ""
    numpy: str = ""
    missing: str = ""


def engines(jray_python: str, ray_python: str) -> dict[str, Engine]:
    """All engines, in the order of the table's columns."""
    listed = (
        Engine(JRAY, "jray", jray_python, "jray", remedy="run `pip install -e .` in the checkout"),
        Engine(
            RAY,
            "Ray",
            ray_python,
            "ray",
            # Its lightest start: no dashboard.
            {"include_dashboard": False},
            f"run `python -m venv .venv-ray && .venv-ray/bin/pip install ray=={RAY_VERSION} numpy`, "
            "and give `--ray-python .venv-ray/bin/python`",
        ),
        Engine(POOL, "ProcessPoolExecutor", jray_python),
        Engine(LIMITS, "limits of the machine", jray_python),
    )
    return {engine.name: engine for engine in listed}


def find(engine: Engine, root: Path) -> Found:
    """Ask the engine's interpreter for its versions; imports the engine there once."""
    modules = ["numpy"] if engine.module is None else ["numpy", engine.module]
    try:
        done = subprocess.run(
            [engine.python, "-c", _DESCRIBE, *modules],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = f"its interpreter does not run ({type(error).__name__})"
        return Found(engine.title, missing=f"{reason}; {engine.remedy}".rstrip("; "))
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        reason = reason.replace(str(root), ".")
        return Found(engine.title, missing=f"{reason}; {engine.remedy}".rstrip("; "))
    answer = json.loads(done.stdout.splitlines()[-1])
    version = "" if engine.module is None else answer[engine.module]
    return Found(engine.title, answer["python"], version, answer["numpy"])
