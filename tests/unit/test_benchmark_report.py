"""The benchmark's report: ratios, verdicts and tables from results, without measuring anything."""

from __future__ import annotations

import pytest

from benchmarks import limits, probes_api, probes_pool, report
from benchmarks.engines import Found
from benchmarks.results import Problem, Results, from_json, to_json
from benchmarks.rows import JRAY, LIMIT_ROWS, LIMITS, POOL, PROBES, RAY, ROWS, Row

RATE = Row(
    "task_sync", "task", "/s", "higher", "tasks_one_by_one", "ping_pong", goal_ratio=12, goal_share=0.5
)
TIME = Row("wait_1000", "wait", "s", "lower", "wait_one_by_one", goal_ratio=8)
PLAIN = Row("import", "import", "s", "lower", "import_time")


def results(**figures: dict[str, list[list[float]]]) -> Results:
    return Results(
        measured_at="2026-01-02 03:04 UTC",
        rounds=3,
        quick=False,
        provisional=False,
        machine={"cores": "2"},
        engines={
            JRAY: Found("jray", "3.11.7", "0.1.0", "2.0.0"),
            RAY: Found("Ray", "3.11.7", "2.60.0", "2.0.0"),
            POOL: Found("ProcessPoolExecutor", "3.11.7", "", "2.0.0"),
            LIMITS: Found("limits of the machine", "3.11.7", "", "2.0.0"),
        },
        samples=dict(figures),
    )


def cells(table: str, title: str) -> list[str]:
    line = next(line for line in table.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_figure_is_the_median_of_the_rounds_medians() -> None:
    """One wild sample in a round, or one wild round, does not move the figure."""
    measured = results(task_sync={JRAY: [[1, 10, 900], [20], [5000, 5000]]})
    assert measured.medians("task_sync", JRAY) == [10, 20, 5000]
    assert measured.value("task_sync", JRAY) == 20


def test_ratio_above_one_means_that_jray_is_better_in_both_directions() -> None:
    """A higher rate and a shorter time both count as times better."""
    measured = results(task_sync={JRAY: [[6000.0]], RAY: [[500.0]]}, wait_1000={JRAY: [[0.05]], RAY: [[0.6]]})
    assert report.ratio(RATE, measured) == pytest.approx(12)
    assert report.ratio(TIME, measured) == pytest.approx(12)


def test_goal_is_met_only_if_every_part_of_it_is() -> None:
    """A row that beats Ray as asked, but not its share of the limit, does not pass."""
    rates = {JRAY: [[6000.0]], RAY: [[500.0]]}
    assert report.verdict(RATE, results(task_sync=rates, ping_pong={LIMITS: [[10_000.0]]})) == "yes"
    assert report.verdict(RATE, results(task_sync=rates, ping_pong={LIMITS: [[20_000.0]]})) == "**no**"


def test_verdict_is_open_without_a_figure_and_empty_without_a_goal() -> None:
    """What was not measured is neither met nor missed."""
    assert report.verdict(TIME, results(wait_1000={RAY: [[0.6]]})) == "not measured"
    assert report.verdict(PLAIN, results()) == "-"


def test_part_that_fails_outweighs_a_part_not_measured() -> None:
    """A goal missed against Ray is missed, whatever the limit would have said."""
    assert report.verdict(RATE, results(task_sync={JRAY: [[600.0]], RAY: [[500.0]]})) == "**no**"


def test_zero_is_infinitely_better_than_something_and_equal_to_zero() -> None:
    """An idle engine that uses no CPU at all breaks no division."""
    row = Row("idle_cpu", "idle CPU", "%", "lower", "idle")
    assert report.ratio(row, results(idle_cpu={JRAY: [[0.0]], RAY: [[6.0]]})) == float("inf")
    assert report.ratio(row, results(idle_cpu={JRAY: [[0.0]], RAY: [[0.0]]})) == 1
    assert "all of it" in report.render(results(idle_cpu={JRAY: [[0.0]], RAY: [[6.0]]}), [row], [])


def test_row_shows_figures_spread_ratio_limit_goal_and_verdict() -> None:
    """A row's line can be read by itself."""
    measured = results(
        task_sync={JRAY: [[9000.0], [10_000.0], [11_000.0]], RAY: [[500.0]], POOL: [[2500.0]]},
        ping_pong={LIMITS: [[20_000.0]]},
    )
    assert cells(report.render(measured, [RATE], []), "task") == [
        "task", "/s", "10,000 (9,000-11,000)", "500", "2,500", "20.0x", "20,000", "50%",
        "12x Ray, 50% of the limit", "yes",
    ]  # fmt: skip


def test_empty_cell_says_why_it_is_empty() -> None:
    """Not applicable, left out, missing, timed out, failed and not run are told apart."""
    measured = results()
    measured.engines[JRAY] = Found("jray", missing="ImportError: no; run this")
    measured.problems.append(Problem(RAY, "wait_one_by_one", 2, "timed out after 90 s"))
    measured.problems.append(Problem(RAY, "import_time", 1, "ValueError: odd"))
    table = report.render(measured, [TIME, PLAIN], [])
    assert cells(table, "wait")[2:5] == ["missing", "timed out after 90 s", "-"]
    assert cells(table, "import")[3:5] == ["failed", "not run"]
    assert "jray is missing: ImportError: no; run this." in table
    del measured.engines[JRAY]
    assert cells(report.render(measured, [TIME], []), "wait")[2] == "left out"
    assert "- Ray 2.60.0, `import_time`, round 1: ValueError: odd" in table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00452, "0.0045"),
        (0.12345, "0.123"),
        (4.866, "4.87"),
        (21.63, "21.6"),
        (569.1, "569"),
        (25_467.0, "25,500"),
        (999_999.0, "1,000,000"),
    ],
)
def test_figure_has_three_digits_that_count(value: float, text: str) -> None:
    """Digits beyond the noise are not shown."""
    assert report.figure(value) == text


def test_run_that_is_not_for_keeping_says_so() -> None:
    """A provisional or a quick run can't be mistaken for the real one."""
    measured = results()
    assert "Provisional" not in report.render(measured)
    measured.provisional = measured.quick = True
    assert "**Provisional:**" in report.render(measured)
    assert "**Quick run:**" in report.render(measured)


def test_tables_are_replaced_and_the_text_around_them_stays() -> None:
    """Writing twice gives the same as writing once."""
    readme = f"before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n"
    once = report.replace_table(readme, "new\n")
    assert once == f"before\n\n{report.BEGIN}\n\nnew\n\n{report.END}\n\nafter\n"
    assert report.replace_table(once, "new\n") == once


def test_readme_without_markers_is_refused() -> None:
    """Nothing is overwritten when the place of the tables is not found."""
    with pytest.raises(ValueError, match="no place for the table"):
        report.replace_table("text", "new")


def test_results_survive_json() -> None:
    """What is kept is all that a report needs."""
    measured = results(task_sync={JRAY: [[1.5, 2.0]]})
    measured.problems.append(Problem(RAY, "idle", 1, "timed out after 60 s"))
    assert from_json(to_json(measured)) == measured


def test_every_row_has_its_probe_and_its_limit() -> None:
    """The table of rows names nothing that does not exist, and no key twice."""
    keys = [row.key for row in ROWS] + [limit.key for limit in LIMIT_ROWS]
    probes = {probe.name for probe in PROBES}
    assert len(keys) == len(set(keys))
    assert {row.probe for row in ROWS} | {limit.probe for limit in LIMIT_ROWS} == probes
    assert {row.limit for row in ROWS} - {None} <= {limit.key for limit in LIMIT_ROWS}


def test_every_engine_has_the_probes_that_the_table_says_it_has() -> None:
    """Nothing is asked of an engine that it can't be measured on, and no probe is forgotten."""
    listed = {
        name: {probe.name for probe in PROBES if name in probe.engines} for name in (JRAY, RAY, POOL, LIMITS)
    }
    both = probes_api.IN_SESSION.keys() | probes_api.WITHOUT_SESSION.keys() | probes_api.IN_OTHERS.keys()
    assert listed[JRAY] == listed[RAY] == both
    assert listed[POOL] == probes_pool.PROBES.keys()
    assert listed[LIMITS] == limits.PROBES.keys()
