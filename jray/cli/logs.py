"""Owns `jray logs`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from jray.cli.asking import add_address, asking
from jray.cli.output import add_format, as_data, note, write
from jray.cli.problems import Problem
from jray.exceptions import RaySystemError
from jray.util.state.logs import get_log, list_logs

_KINDS = ("cluster", "actor", "worker", "task")
_FOLLOW_S = 0.5
_LAST_LINES = 1000  #: Ray's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add(
        "what",
        metavar="WHAT",
        nargs="*",
        help="nothing, or [cluster] PATTERN: the names of log files, or the contents of the only one that matches; "
        "actor --id ID; worker --pid PID; task --id ID: what it wrote.",
    )
    add("--id", "-a", metavar="ID", help="the actor or task, as `jray list` shows it.")
    add("--pid", metavar="PID", type=int, help="the process.")
    add("--attempt-number", metavar="N", type=int, default=0, help="which attempt of a task (default: 0).")
    add("-f", "--follow", action="store_true", help="go on with what is written later.")
    add(
        "--tail",
        metavar="N",
        type=int,
        default=_LAST_LINES,
        help=f"so many lines from the end; -1: all (default: {_LAST_LINES}).",
    )
    add("--err", action="store_true", help="stderr instead of stdout.")
    add("--interval", metavar="SECONDS", type=float, default=_FOLLOW_S, help="between two looks of --follow.")
    add("--node-id", metavar="ID", help="the node that has the files (default: the head's own).")
    add("--node-ip", metavar="ADDRESS", help="the node's address.")
    add_format(parser)
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    """Print names, or what is in a file."""
    kind, pattern = _wanted(options)
    whose = {} if kind == "cluster" else _whose(kind, options)
    with asking(options.address):
        if whose:
            _print(options, **whose)
            return 0
        found = list_logs(node_id=options.node_id, node_ip=options.node_ip, glob_filter=pattern)
        names = [name for group in found.values() for name in group]
        if len(names) == 1 and pattern is not None:
            _print(options, filename=names[0])
        elif options.format in {"json", "yaml"}:
            write(as_data(found, options.format))
        elif names:
            for group, members in found.items():
                write("\n".join([f"{group}:", *(f"  {name}" for name in members)]))
        else:
            note(f"No log file matches {pattern!r}." if pattern else "There are no log files.")
            return 1 if pattern else 0
    return 0


def _wanted(options: argparse.Namespace) -> tuple[str, str | None]:
    """Return what kind of log is wanted, and the pattern of names."""
    first, *rest = options.what or ["cluster"]
    kind = first if first in _KINDS else "cluster"
    patterns = rest if first in _KINDS else options.what
    if len(patterns) > 1 or (patterns and kind != "cluster"):
        raise Problem(
            f"{' '.join(options.what)!r} is no kind of log: give {', '.join(_KINDS)}, or one PATTERN.", 2
        )
    return kind, patterns[0] if patterns else None


def _whose(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    if kind == "worker":
        if options.pid is None:
            raise Problem("give the worker's --pid; `jray list workers` shows them.", 2)
        return {"pid": options.pid}
    if kind == "actor" and options.pid is not None and options.id is None:
        return {"pid": options.pid}
    if options.id is None:
        raise Problem(f"give the {kind}'s --id; `jray list {kind}s` shows them.", 2)
    if kind == "task":
        return {"task_id": options.id, "attempt_number": options.attempt_number}
    return {"actor_id": options.id}


def _print(options: argparse.Namespace, **whose: Any) -> None:
    pieces = get_log(
        **whose,
        node_id=options.node_id,
        node_ip=options.node_ip,
        follow=options.follow,
        tail=options.tail,
        suffix="err" if options.err else "out",
        errors="replace",
        _interval=options.interval,
    )
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    except RaySystemError:
        if not options.follow:
            raise
        note("The head has ended.")
