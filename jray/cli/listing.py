"""Owns `jray list`."""

from __future__ import annotations

import argparse

from jray.cli.asking import add_address, add_timeout, asking
from jray.cli.output import add_format, as_data, note, table, write
from jray.cli.resources import RESOURCES
from jray.util.state.common import DEFAULT_LIMIT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("resource", choices=sorted(RESOURCES), help="what to list.")
    parser.add_argument(
        "-f",
        "--filter",
        metavar="COLUMN=VALUE",
        action="append",
        default=[],
        type=_filter,
        help='only rows with that value, or with another: COLUMN!=VALUE; several must all hold. As in "state=ALIVE".',
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=int,
        default=DEFAULT_LIMIT,
        help=f"most rows, up to 10000 (default: {DEFAULT_LIMIT}).",
    )
    parser.add_argument(
        "--detail", action="store_true", help="with all columns; as YAML, if no format is given."
    )
    add_format(parser, has_table=True)
    add_address(parser)
    add_timeout(parser)


def _filter(text: str) -> tuple[str, str, str]:
    column, sign, value = text.partition("=")
    if column.endswith("!"):
        column, sign = column[:-1], "!="
    if not (column.strip() and sign and value.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=VALUE or COLUMN!=VALUE")
    return column.strip(), sign, value.strip()


def run(options: argparse.Namespace) -> int:
    """Print the rows."""
    resource = RESOURCES[options.resource]
    with asking(options.address):
        found = resource.lister(
            filters=options.filter,
            limit=options.limit,
            timeout=options.timeout,
            detail=options.detail,
            raise_on_missing_output=False,
            _explain=True,
        )
    columns = resource.schema.list_columns(detail=options.detail)
    rows = [{name: value for name, value in row.asdict().items() if name in columns} for row in found]
    form = options.format
    if form == "default":
        form = "yaml" if options.detail else "table"
    if form != "table":
        write(as_data(rows, form))
    elif rows:
        write(table(columns, rows))
    else:
        note(f"No {options.resource}{' that match' if options.filter else ''} in the cluster.")
    return 0
