"""Run probes of all engines in turns, each in a fresh process, and gather their samples.

The engines take turns probe by probe, and another one begins in each round, so that whatever
else the machine does hits all of them alike.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import processes
from benchmarks.engines import Engine
from benchmarks.results import Problem, Results
from benchmarks.rows import Probe
from benchmarks.timing import Samples

#: Directory that holds the `benchmarks` package.
ROOT = Path(__file__).resolve().parent.parent

#: Seconds that a probe's processes get to end by themselves before they are killed and reported.
_END_S = 10.0


def run_rounds(
    results: Results, engines: list[Engine], probes: Iterable[Probe], say: Callable[[str], None]
) -> None:
    """Measure into *results*; *say* gets a line for each probe as it ends."""
    chosen = list(probes)
    for number in range(1, results.rounds + 1):
        turn = (number - 1) % max(1, len(engines))
        for probe in chosen:
            if number > probe.most_rounds:
                continue
            for engine in engines[turn:] + engines[:turn]:
                if engine.name not in probe.engines:
                    continue
                start = time.monotonic()
                samples, trouble = run_probe(engine, probe, quick=results.quick)
                for key, values in samples.items():
                    results.add(key, engine.name, values)
                if trouble:
                    results.problems.append(Problem(engine.name, probe.name, number, trouble))
                outcome = trouble or ", ".join(f"{key} {values[-1]:.4g}" for key, values in samples.items())
                say(
                    f"round {number}/{results.rounds} {probe.name:22} {engine.name:7}"
                    f"{time.monotonic() - start:6.1f} s  {outcome}"
                )


def run_probe(engine: Engine, probe: Probe, *, quick: bool) -> tuple[Samples, str]:
    """Run one probe of one engine: its samples, and what went wrong ("" if nothing).

    Blocks until no process of it is left; what outlives its time is killed.
    """
    # A short name, because Unix sockets below it have to fit 107 bytes.
    scratch = Path(tempfile.mkdtemp(prefix="b-"))
    try:
        return _run_in(scratch, engine, probe, quick=quick)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run_in(scratch: Path, engine: Engine, probe: Probe, *, quick: bool) -> tuple[Samples, str]:
    result = scratch / "result.json"
    mark = uuid.uuid4().hex
    command = [engine.python, "-m", "benchmarks.child", "--engine", engine.name, "--probe", probe.name]
    command += ["--result", str(result), *(["--quick"] if quick else [])]
    trouble = ""
    with (scratch / "errors.txt").open("w+") as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(mark, scratch),
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )
        try:
            status = process.wait(probe.timeout_s)
            if status != 0:
                errors.seek(0)
                # A report is for other machines too: it names no folder of this one.
                said = errors.read().replace(str(scratch), "$TMPDIR").replace(str(ROOT), ".")
                trouble = _last_error(said) or f"exit status {status}"
            elif left := processes.wait_gone(mark, process.pid, _END_S):
                trouble = f"{len(left)} processes were left {_END_S:.0f} s after the end"
        except subprocess.TimeoutExpired:
            trouble = f"timed out after {probe.timeout_s:.0f} s"
        finally:
            processes.kill(mark, process.pid)
            process.wait()
    samples: Samples = json.loads(result.read_text()) if result.exists() else {}
    return samples, trouble


def _environment(mark: str, scratch: Path) -> dict[str, str]:
    """This process's environment without what would configure an engine: each runs with its defaults."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "JRAY_"))}
    return kept | {
        processes.MARK_VARIABLE: mark,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(scratch),
        # Ray would otherwise report its use over the network.
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _last_error(text: str) -> str:
    """The last line of a traceback that names the error; warnings of exiting processes may follow it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception", "Interrupt"))]
    return (named or lines or [""])[-1][:200]
