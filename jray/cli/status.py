"""Owns `jray status`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

from jray._core.client.finding import running_heads
from jray._core.sketch import human_size
from jray._heads.cards import Head
from jray._heads.keepers import read_keeper
from jray.cli.asking import add_address, asking
from jray.cli.output import add_format, as_data, elapsed, note, write

#: resources that are bytes
_BYTES = {"memory", "object_store_memory"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("-v", "--verbose", action="store_true", help="also what each node has.")
    add_format(parser)
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    """Print what the cluster has, what is in use, and what waits."""
    with asking(options.address) as client:
        total, free = client.cluster.resources(), client.cluster.available()
        nodes = [row for row in client.cluster.nodes() if row["Alive"]]
        waiting = client.ask("waiting")
        jobs = [row for row in client.ask("jobs") if row["status"] == "RUNNING"]
        address = client.whereabouts().address
    heads = running_heads()
    head = next((head for head in heads if head.address == address), None)
    usage = {
        name: {"used": quantity - free.get(name, 0.0), "total": quantity}
        for name, quantity in sorted(total.items())
        if not name.startswith("node:")
    }
    demands = [{"name": name, "count": count, "reason": reason} for name, _, count, reason, _ in waiting]
    if options.format in {"json", "yaml"}:
        answer = {
            "head": None if head is None else head.to_record(),
            "nodes": nodes,
            "jobs": len(jobs),
            "usage": usage,
            "demands": demands,
        }
        write(as_data(answer, options.format))
        return 0
    write(_about(head, address))
    write(f"Nodes: {len(nodes)}    Jobs: {len(jobs)}\n\nUsage:")
    write("\n".join(f"  {_used(name, **entry)}" for name, entry in usage.items()))
    write("\nDemands:")
    write("\n".join(f"  {row['count']} x {row['name']}: {row['reason']}" for row in demands) or "  (none)")
    if options.verbose:
        write("\n".join(["", "Nodes:", *map(_node, nodes)]))
    if len(heads) > 1 and options.address is None:
        note(f"Note: {len(heads)} heads of yours run; `jray ps` shows them, --address chooses one.")
    return 0


def _about(head: Head | None, address: str) -> str:
    if head is None:
        return f"Head at {address}"
    words = [f"Head of session {head.session}, pid {head.pid}, for {elapsed(time.time() - head.created_s)}"]
    if head.owner_pid is not None:
        words.append(f"ends with the program of pid {head.owner_pid}")
    else:
        words.append(f"started by {head.started_by}")
        if head.idle_timeout_s is not None:
            words.append(f"ends if nobody uses it for {head.idle_timeout_s:g} s")
        words += _kept(head)
    return "; ".join(words)


def _kept(head: Head) -> list[str]:
    try:
        keeper = read_keeper(head.folder)
    except (OSError, ValueError) as error:
        return [f"who keeps it cannot be read ({error})"]
    if keeper is None:
        return []
    lives = "" if keeper.process.is_running() else ", which has ended"
    if keeper.keep_s is None:
        return [f"kept by process {keeper.process.pid}{lives}"]
    return [f"kept by process {keeper.process.pid}{lives}, and for {keeper.keep_s:g} s after it"]


def _used(name: str, used: float, total: float) -> str:
    if name in _BYTES:
        return f"{human_size(used)}/{human_size(total)} {name}"
    return f"{used:g}/{total:g} {name}"


def _node(row: Mapping[str, Any]) -> str:
    amounts = ", ".join(
        human_size(value) + f" {name}" if name in _BYTES else f"{value:g} {name}"
        for name, value in sorted(row["Resources"].items())
    )
    return f"  {row['NodeID'][:8]} {row['NodeManagerHostname']}: {amounts}"
