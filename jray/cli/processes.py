"""Owns `jray ps`."""

from __future__ import annotations

import argparse
import time
from typing import Any

from jray._core.sketch import human_size
from jray._heads.cards import Head, runtime_dir, survey
from jray._heads.processes import started_s
from jray._heads.trees import Member, members, memory_bytes, strays
from jray.cli.output import add_format, as_data, elapsed, note, table, write

_COLUMNS = ("kind", "pid", "session", "since", "memory", "what")
#: longer command lines are cut in the table
_WIDEST = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_format(parser, has_table=True)


def run(options: argparse.Namespace) -> int:
    """List the processes; asks none of them, so that one that hangs is listed, too."""
    base = runtime_dir()
    found = survey(base)
    rows = [_row(member, head) for head in found.heads for member in members(head)]
    rows += [_row(member, None) for member in strays(base, found.heads)]
    for path, why in found.unreadable:
        note(f"Note: {path} tells of no head: {why}.")
    if options.format in {"json", "yaml"}:
        write(as_data(rows, options.format))
    elif rows:
        write(table(_COLUMNS, [_shown(row) for row in rows]))
    else:
        write(f"No head of yours is running in {base}.")
    return 0


def _row(member: Member, head: Head | None) -> dict[str, Any]:
    return {
        "kind": member.kind,
        "pid": member.process.pid,
        "session": member.session,
        "started_s": started_s(member.process),
        "memory_bytes": memory_bytes(member.process.pid),
        "what": _what(member, head),
    }


def _what(member: Member, head: Head | None) -> str:
    if member.kind == "head" and head is not None:
        ends = (
            f"of the program with pid {head.owner_pid}" if head.owner_pid else f"started by {head.started_by}"
        )
        return f"{head.num_cpus:g} CPUs, {ends}"
    if member.kind in {"node", "zygote", "worker", "stray"}:
        return ""
    return member.command


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    memory, what = row["memory_bytes"], row["what"]
    return row | {
        "since": elapsed(time.time() - row["started_s"]),
        "memory": None if memory is None else human_size(memory),
        "what": what if len(what) <= _WIDEST else f"{what[: _WIDEST - 3]}...",
    }
