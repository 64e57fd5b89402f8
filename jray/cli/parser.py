"""Owns the commands there are, and the reading of a command line."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from typing import Protocol

from jray import __version__

#: command -> (module, what it does in a line)
COMMANDS = {
    "start": ("starting", "start a head that stays when this command has ended"),
    "stop": ("stopping", "end heads, with all their processes"),
    "status": ("status", "show what a cluster has, and what is in use"),
    "ps": ("processes", "show the processes of jray on this machine"),
    "list": ("listing", "list nodes, actors, tasks, objects, placement groups, workers or jobs"),
    "get": ("getting", "show one of them with all details"),
    "summary": ("summary", "count tasks, actors or objects"),
    "memory": ("memory", "show which references hold which objects, and how full the store is"),
    "logs": ("logs", "show log files, or what a worker or an actor wrote"),
    "timeline": ("timeline", "write what ran when as a trace for chrome://tracing or ui.perfetto.dev"),
    "health-check": ("health", "tell by the exit status whether a head answers"),
}

_EPILOG = "`jray COMMAND --help` has the options of a command."


class Command(Protocol):
    """A module with a command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add what the command takes."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it; return the exit status.  Raises Problem."""


def command_module(name: str) -> Command:
    """Return the module of a command."""
    return importlib.import_module(f"jray.cli.{COMMANDS[name][0]}")


def build_parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser; only the command that *given* names has its arguments, others' modules are not loaded."""
    parser = argparse.ArgumentParser(
        prog="jray",
        description="Heads that stay when programs end, and what runs on them.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"jray, version {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    wanted = next((word for word in given if not word.startswith("-")), None)
    for name, (_, text) in COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
        )
        if name == wanted:
            command_module(name).add_arguments(command)
    return parser
