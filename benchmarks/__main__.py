"""`python -m benchmarks`: measure everything in one run, and write the tables into the README."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks import machine, report
from benchmarks.engines import Engine, engines, find
from benchmarks.results import Results, from_json, to_json
from benchmarks.rows import JRAY, LIMIT_ROWS, LIMITS, POOL, PROBES, RAY, ROWS, Limit, Row
from benchmarks.runner import ROOT, run_rounds

_HERE = Path(__file__).resolve().parent
_RESULTS = _HERE / "results.json"
_README = _HERE / "README.md"
_EVERYTHING: tuple[Row | Limit, ...] = (*LIMIT_ROWS, *ROWS)
_ALL_ENGINES = (JRAY, RAY, POOL, LIMITS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure jray, Ray and ProcessPoolExecutor in turns, with the machine's own limits. "
        "A full run writes results.json and the tables of README.md; one with --quick, --rows or "
        "--engines only prints them.",
    )
    parser.add_argument("--rounds", type=_positive, help="rounds to measure (default 3; 1 with --quick)")
    parser.add_argument(
        "--quick", action="store_true", help="one round, with a tenth of the counts and sizes"
    )
    parser.add_argument(
        "--rows", metavar="PATTERN", help="only rows and limits whose key matches, e.g. 'task*'"
    )
    parser.add_argument("--engines", metavar="NAMES", help=f"only these of {','.join(_ALL_ENGINES)}")
    parser.add_argument(
        "--jray-python", default=sys.executable, metavar="PATH", help="default: this interpreter"
    )
    parser.add_argument(
        "--ray-python", default=sys.executable, metavar="PATH", help="default: this interpreter"
    )
    parser.add_argument(
        "--provisional", action="store_true", help="mark the figures as taken on a busy machine"
    )
    parser.add_argument("--list", action="store_true", help="list the rows and limits, and measure nothing")
    parser.add_argument("--report", action="store_true", help="write README.md from results.json again")
    return parser


def main() -> int:
    parser = _parser()
    asked = parser.parse_args()
    if asked.list:
        for row in _EVERYTHING:
            print(f"{row.key:20} {row.title} [{row.unit}]")
        return 0
    if not sys.platform.startswith("linux"):
        parser.error(f"the probes read /proc and /dev/shm: run them on Linux, not on {sys.platform}")
    if asked.report:
        _write_readme(from_json(_RESULTS.read_text()))
        return 0

    rows = [row for row in ROWS if asked.rows is None or fnmatchcase(row.key, asked.rows)]
    wanted_limits = {row.limit for row in rows}
    limits = [
        limit for limit in LIMIT_ROWS
        if asked.rows is None or limit.key in wanted_limits or fnmatchcase(limit.key, asked.rows)
    ]  # fmt: skip
    if not rows and not limits:
        parser.error(f"no row's key matches {asked.rows!r}: --list shows them")
    names = _ALL_ENGINES if asked.engines is None else tuple(asked.engines.split(","))
    if unknown := set(names) - set(_ALL_ENGINES):
        parser.error(f"no engine {', '.join(sorted(unknown))}: they are {', '.join(_ALL_ENGINES)}")

    if machine.is_busy():
        _say("The load average is above 0.5: other programs will distort the figures.")
    results = _empty_results(
        asked.rounds or (1 if asked.quick else 3), quick=asked.quick, provisional=asked.provisional
    )
    usable = _find(
        [engine for engine in engines(asked.jray_python, asked.ray_python).values() if engine.name in names],
        results,
    )
    needed = {row.probe for row in rows} | {limit.probe for limit in limits}
    run_rounds(results, usable, [probe for probe in PROBES if probe.name in needed], _say)

    if asked.quick or asked.rows is not None or asked.engines is not None:
        print(report.render(results, rows, limits))
        _say("A part of a run: results.json and README.md are left as they were.")
    else:
        _RESULTS.write_text(to_json(results))
        _write_readme(results)
    return 1 if results.problems else 0


def _empty_results(rounds: int, *, quick: bool, provisional: bool) -> Results:
    return Results(
        measured_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        rounds=rounds,
        quick=quick,
        provisional=provisional,
        machine=machine.describe(),
        engines={},
    )


def _find(chosen: list[Engine], results: Results) -> list[Engine]:
    """Those of *chosen* that can run here; the versions, or why not, go into *results*."""
    usable = []
    for engine in chosen:
        found = find(engine, ROOT)
        results.engines[engine.name] = found
        if found.missing:
            _say(f"{engine.title} is missing: {found.missing}")
        else:
            usable.append(engine)
    return usable


def _write_readme(results: Results) -> None:
    _README.write_text(report.replace_table(_README.read_text(), report.render(results)))
    _say(f"wrote {_README.relative_to(ROOT)}")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        message = f"a whole number from 1 is needed, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
