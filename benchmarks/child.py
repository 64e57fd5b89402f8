"""Run one probe in this process, and leave its samples, or what went wrong, in a file.

Started by `runner` with the interpreter of the engine; not meant to be run by hand.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

from benchmarks import limits, probes_api, probes_pool
from benchmarks.bench import Bench
from benchmarks.engines import Engine, engines
from benchmarks.processes import MARK_VARIABLE
from benchmarks.rows import LIMITS
from benchmarks.timing import Samples, Scale


def run(engine: Engine, probe: str, scale: Scale, result: Path) -> None:
    """Run *probe*; the samples are kept before the engine is shut down, so that a hang there loses none."""
    mark = os.environ[MARK_VARIABLE]
    if engine.module is None:
        functions = limits.PROBES if engine.name == LIMITS else probes_pool.PROBES
        _keep(result, functions[probe](Bench(engine, scale, mark)))
        return
    if probe in probes_api.IN_OTHERS:
        _keep(result, probes_api.IN_OTHERS[probe](Bench(engine, scale, mark)))
        return
    bench = Bench(engine, scale, mark, importlib.import_module(engine.module))
    if probe in probes_api.WITHOUT_SESSION:
        _keep(result, probes_api.WITHOUT_SESSION[probe](bench))
        return
    bench.start()
    try:
        _keep(result, probes_api.IN_SESSION[probe](bench))
    finally:
        bench.api.shutdown()


def _keep(result: Path, samples: Samples) -> None:
    unfinished = result.with_suffix(".part")
    unfinished.write_text(json.dumps(samples))
    unfinished.rename(result)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.child", description="Run one probe of one engine.")
    parser.add_argument("--engine", required=True)
    parser.add_argument("--probe", required=True)
    parser.add_argument("--result", required=True, type=Path)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    engine = engines(sys.executable, sys.executable)[asked.engine]
    try:
        run(engine, asked.probe, Scale(asked.quick), asked.result)
    except Exception:  # noqa: BLE001 - the boundary of the process: the runner shows the last line
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
