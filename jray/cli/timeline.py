"""Owns `jray timeline`."""

from __future__ import annotations

import argparse
import time

from jray.cli.asking import add_address, asking
from jray.cli.output import write
from jray.cli.problems import Problem
from jray.util.state.timeline import timeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="where it goes (default: jray-timeline-<time>.json in this directory).",
    )
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    """Write the trace."""
    path = options.output or time.strftime("jray-timeline-%Y-%m-%d_%H-%M-%S.json")
    with asking(options.address):
        try:
            timeline(path)
        except OSError as error:
            raise Problem(f"{path} cannot be written: {error.strerror}.") from None
    write(f"Wrote {path}. Open it in ui.perfetto.dev or chrome://tracing.")
    return 0
