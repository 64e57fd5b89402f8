"""Owns `jray summary`."""

from __future__ import annotations

import argparse
from typing import Any

from jray.cli.asking import add_address, add_timeout, asking
from jray.cli.output import add_format, as_data, table, write
from jray.util.state.api import summarize_actors, summarize_objects, summarize_tasks

_SUMMARIES = {"tasks": summarize_tasks, "actors": summarize_actors, "objects": summarize_objects}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("resource", choices=sorted(_SUMMARIES), help="what to count.")
    add_format(parser, has_table=True)
    add_address(parser)
    add_timeout(parser)


def run(options: argparse.Namespace) -> int:
    """Print how many there are of each."""
    with asking(options.address):
        answer = _SUMMARIES[options.resource](
            timeout=options.timeout, raise_on_missing_output=False, _explain=True
        )["cluster"]
    if options.format in {"json", "yaml"}:
        write(as_data(answer, options.format))
        return 0
    totals = {name: value for name, value in answer.items() if name.startswith("total_")}
    write("\n".join(f"{name}: {_number(value)}" for name, value in totals.items()))
    rows = _rows(answer["summary"], answer["summary_by"])
    if rows:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        write("\n" + table(columns, rows))
    return 0


def _rows(summary: dict[str, dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """Return a row for each group: its name first, counts as words."""
    return [
        {by: name} | {key: _words(value) for key, value in group.items() if value != name}
        for name, group in sorted(summary.items())
    ]


def _words(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count}" for name, count in value.items())
    return _number(value)


def _number(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value
