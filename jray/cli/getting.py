"""Owns `jray get`."""

from __future__ import annotations

import argparse

from jray.cli.asking import add_address, add_timeout, asking
from jray.cli.output import add_format, as_data, table, write
from jray.cli.problems import Problem
from jray.cli.resources import RESOURCES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    kinds = sorted(name for name, resource in RESOURCES.items() if resource.getter is not None)
    parser.add_argument("resource", choices=kinds, help="what kind of thing it is.")
    parser.add_argument("id", metavar="ID", help="its id, as `jray list` shows it.")
    add_format(parser, default="yaml", has_table=True)
    add_address(parser)
    add_timeout(parser)


def run(options: argparse.Namespace) -> int:
    """Print what is known of one thing."""
    resource = RESOURCES[options.resource]
    assert resource.getter is not None
    with asking(options.address):
        found = resource.getter(options.id, timeout=options.timeout, _explain=True)
    several = found if isinstance(found, list) else [] if found is None else [found]
    if not several:
        raise Problem(
            f"nothing among the {options.resource} has the id {options.id!r}; `jray list {options.resource}` has ids."
        )
    rows = [row.asdict() for row in several]
    if options.format in {"table", "default"}:
        # one column for each thing: rows of 30 columns cannot be read
        columns = [str(n) for n in range(len(rows))] if len(rows) > 1 else ["value"]
        lines = [
            {"field": name} | {column: row[name] for column, row in zip(columns, rows, strict=True)}
            for name in rows[0]
        ]
        write(table(["field", *columns], lines))
    else:
        write(as_data(rows if len(rows) > 1 else rows[0], options.format))
    return 0
