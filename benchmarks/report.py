"""Turn results into the tables of the README.  Pure: no file is read, nothing is measured."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results import Results
from benchmarks.rows import JRAY, LIMIT_ROWS, LIMITS, POOL, PROBES, RAY, ROWS, Limit, Row

BEGIN = "<!-- table: begin (written by `python -m benchmarks`; edits are lost) -->"
END = "<!-- table: end -->"

_NOT_APPLICABLE = "-"


def render(results: Results, rows: Sequence[Row] = ROWS, limits: Sequence[Limit] = LIMIT_ROWS) -> str:
    """The whole generated part: notes, the table of rows, the limits, the machine."""
    parts = [_heading(results), _rows_table(results, rows), _limits_table(results, limits), _machine(results)]
    if results.problems:
        parts.append(_problems(results))
    return "\n\n".join(part for part in parts if part) + "\n"


def replace_table(readme: str, table: str) -> str:
    """*readme* with *table* between the markers; raises `ValueError` when a marker is missing."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        message = f"The README has no place for the table: it needs the lines {BEGIN!r} and {END!r}."
        raise ValueError(message)
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def ratio(row: Row, results: Results) -> float | None:
    """How many times better jray is than Ray: above 1 is better, whatever the row's direction."""
    return _times_better(row.better, results.value(row.key, JRAY), results.value(row.key, RAY))


def share(row: Row, results: Results) -> float | None:
    """Which part of its limit jray reaches: 1 is the limit itself."""
    if row.limit is None:
        return None
    return _times_better(row.better, results.value(row.key, JRAY), results.value(row.limit, LIMITS))


def verdict(row: Row, results: Results) -> str:
    """Whether the row's goal is met: "yes", "no", "not measured", or "-" for a row without one."""
    pairs = [(row.goal_ratio, ratio(row, results)), (row.goal_share, share(row, results))]
    asked = [(goal, reached) for goal, reached in pairs if goal is not None]
    if not asked:
        return _NOT_APPLICABLE
    if any(reached is not None and reached < goal for goal, reached in asked):
        return "**no**"
    return "not measured" if any(reached is None for _, reached in asked) else "yes"


def figure(value: float) -> str:
    """Three digits that count, with commas between thousands."""
    if value == 0:
        return "0"
    digits = 3 - len(str(int(abs(value)))) if abs(value) >= 1 else 3
    if abs(value) < 1:
        return f"{value:.{digits}f}" if abs(value) >= 0.01 else f"{value:.2g}"
    return f"{round(value, digits):,.{max(0, digits)}f}"


def _times_better(better: str, ours: float | None, theirs: float | None) -> float | None:
    if ours is None or theirs is None:
        return None
    above, below = (ours, theirs) if better == "higher" else (theirs, ours)
    if below == 0:
        return 1.0 if above == 0 else float("inf")
    return above / below


def _heading(results: Results) -> str:
    notes = [f"Measured {results.measured_at}, rounds: {results.rounds}."]
    if results.provisional:
        notes.insert(0, "**Provisional:** other programs used the machine meanwhile; to be measured again.")
    if results.quick:
        notes.insert(
            0, "**Quick run:** counts and sizes are a tenth of what the rows say; not for comparing."
        )
    notes += [
        f"{found.title} is missing: {found.missing}." for found in results.engines.values() if found.missing
    ]
    return "\n\n".join(notes)


def _rows_table(results: Results, rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    titles = [_title(results, name) for name in (JRAY, RAY, POOL)]
    head = ["row", "unit", *titles, "jray over Ray", "limit", "share of limit", "goal", "met?"]
    lines = [_line(head), _line(["---", "---", *["---:"] * 6, "---", "---"])]
    for row in rows:
        against, part = ratio(row, results), share(row, results)
        limit = None if row.limit is None else results.value(row.limit, LIMITS)
        lines.append(
            _line(
                [
                    row.title,
                    row.unit + (" (less is better)" if row.better == "lower" else ""),
                    *[_cell(results, row.key, row.probe, name) for name in (JRAY, RAY, POOL)],
                    _NOT_APPLICABLE if against is None else f"{_times(against)}",
                    _NOT_APPLICABLE if limit is None else figure(limit),
                    _NOT_APPLICABLE if part is None else f"{part:.0%}",
                    _goal(row),
                    verdict(row, results),
                ]
            )
        )
    return "\n".join(lines)


def _limits_table(results: Results, limits: Sequence[Limit]) -> str:
    if not limits:
        return ""
    lines = [_line(["limit of this machine", "unit", "figure"]), _line(["---", "---", "---:"])]
    lines += [
        _line([limit.title, limit.unit, _cell(results, limit.key, limit.probe, LIMITS)]) for limit in limits
    ]
    return "\n".join(lines)


def _machine(results: Results) -> str:
    described = [f"{name}: {value}" for name, value in results.machine.items()]
    described += [
        f"{_title(results, name)}: Python {found.python}, numpy {found.numpy}"
        for name, found in results.engines.items()
        if not found.missing and name != LIMITS
    ]
    return "\n".join(f"- {line}" for line in described)


def _problems(results: Results) -> str:
    lines = [
        f"- {_title(results, problem.engine)}, `{problem.probe}`, round {problem.round}: "
        + problem.text.replace("\n", " ")
        for problem in results.problems
    ]
    return "What went wrong:\n\n" + "\n".join(lines)


def _cell(results: Results, key: str, probe: str, engine: str) -> str:
    medians = results.medians(key, engine)
    value = results.value(key, engine)
    if value is not None:
        if len(medians) == 1:
            return figure(value)
        return f"{figure(value)} ({figure(min(medians))}-{figure(max(medians))})"
    if not any(known.name == probe and engine in known.engines for known in PROBES):
        return _NOT_APPLICABLE
    if engine not in results.engines:
        return "left out"
    if results.engines[engine].missing:
        return "missing"
    texts = [
        problem.text for problem in results.problems if (problem.engine, problem.probe) == (engine, probe)
    ]
    if not texts:
        return "not run"
    return texts[-1] if texts[-1].startswith("timed out") else "failed"


def _goal(row: Row) -> str:
    goals = []
    if row.goal_ratio is not None:
        goals.append("not slower than Ray" if row.goal_ratio == 1 else f"{row.goal_ratio:g}x Ray")
    if row.goal_share is not None:
        goals.append(f"{row.goal_share:.0%} of the limit")
    return ", ".join(goals) or _NOT_APPLICABLE


def _times(value: float) -> str:
    return "all of it" if value == float("inf") else f"{figure(value)}x"


def _title(results: Results, name: str) -> str:
    found = results.engines.get(name)
    return name if found is None else f"{found.title} {found.version}".strip()


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
