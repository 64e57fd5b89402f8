"""Owns `jray health-check`."""

from __future__ import annotations

import argparse

from jray.cli.asking import add_address, asking


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    """End with 0 if the head answers; Problem, and so 1, if not."""
    with asking(options.address) as client:
        client.ask("nodes")
    return 0
