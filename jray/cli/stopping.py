"""Owns `jray stop`."""

from __future__ import annotations

import argparse
import signal

from jray._core.store.sweep import sweep
from jray._heads.cards import Head, runtime_dir, survey
from jray._heads.ending import Ended, end_heads
from jray._heads.trees import strays
from jray.cli.output import add_format, as_data, note, write
from jray.cli.problems import Problem

#: seconds that a head has to end by itself; Ray's
_GRACE_S = 16.0
_KILLED_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "sessions",
        metavar="SESSION",
        nargs="*",
        help="end these heads, as `jray ps` names them (default: all of this user, also those of programs).",
    )
    parser.add_argument("-f", "--force", action="store_true", help="kill at once, instead of asking first.")
    parser.add_argument(
        "-g",
        "--grace-period",
        metavar="SECONDS",
        type=float,
        default=_GRACE_S,
        help="how long a head may take to end before it is killed (default: 16).",
    )
    add_format(parser)


def run(options: argparse.Namespace) -> int:
    """End heads, and what dead ones have left running; say which."""
    if not 0 <= options.grace_period < float("inf"):
        raise Problem(f"--grace-period={options.grace_period} is not a number of seconds from 0 up.", 2)
    base = runtime_dir()
    found = survey(base)
    heads = _chosen(found.heads, options.sessions)
    left = [] if options.sessions else strays(base, found.heads)
    ended = end_heads(heads, grace_s=options.grace_period, force=options.force)
    for stray in left:
        stray.process.signal(signal.SIGKILL)
    for stray in left:
        stray.process.wait_ended(_KILLED_S)
    for place in {base, *(place for head in (*heads, *found.dead) for place in head.places)}:
        sweep(place)  # what was killed could not clean up itself
    if options.format in {"json", "yaml"}:
        rows = [{"session": one.head.session, "pid": one.head.pid, "how": one.how} for one in ended]
        write(as_data(rows, options.format))
    else:
        for one in ended:
            write(_told(one))
        if left:
            pids = ", ".join(str(stray.process.pid) for stray in left)
            write(f"Killed what heads that are gone have left running: {pids}.")
        if not ended and not left:
            write(f"No head of yours is running in {base}.")
    return 1 if any(one.how == "alive" for one in ended) else 0


def _chosen(heads: list[Head], sessions: list[str]) -> list[Head]:
    if not sessions:
        return heads
    named = {head.session: head for head in heads} | {head.address: head for head in heads}
    unknown = [session for session in sessions if session not in named]
    if unknown:
        running = ", ".join(head.session for head in heads) or "none"
        raise Problem(f"no head of yours has the session {', '.join(unknown)}; running are: {running}.")
    return list({session: named[session] for session in sessions}.values())


def _told(ended: Ended) -> str:
    head = ended.head
    whose = f"started by {head.started_by}" if head.is_free else f"of the program with pid {head.owner_pid}"
    name = f"the head of session {head.session} (pid {head.pid}, {whose})"
    if ended.how == "alive":
        note(f"{name[0].upper()}{name[1:]} is still there, though it was killed: it may wait for a device.")
        return f"Could not end {name}."
    word = "Ended" if ended.how == "ended" else "Killed"
    return f"{word} {name}, {ended.processes} process{'es' if ended.processes > 1 else ''}."
