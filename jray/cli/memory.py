"""Owns `jray memory`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from jray.cli.asking import add_address, add_timeout, asking
from jray.cli.output import add_format, as_data, note, table, write
from jray.cli.problems import Problem
from jray.util.state.api import list_objects
from jray.util.state.common import MAX_LIMIT

_UNITS = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}
_GROUPS = {"NODE_ADDRESS": "ip", "STACK_TRACE": "call_site"}
_ORDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "PID": lambda row: row["pid"],
    "OBJECT_SIZE": lambda row: -row["object_size"],
    "REFERENCE_TYPE": lambda row: row["reference_type"],
}
_COLUMNS = ("ip", "pid", "type", "call_site", "size", "reference_type", "task_status", "object_id")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "--group-by", choices=sorted(_GROUPS), default="NODE_ADDRESS", help="what a group has in common."
    )
    parser.add_argument(
        "--sort-by",
        choices=sorted(_ORDERS),
        default="OBJECT_SIZE",
        help="the order inside a group (default: OBJECT_SIZE, the largest first).",
    )
    parser.add_argument("--units", choices=list(_UNITS), default="B", help="what sizes are counted in.")
    parser.add_argument("--stats-only", action="store_true", help="only how full the store is.")
    parser.add_argument(
        "--num-entries", "--n", metavar="N", type=int, help="at most so many references of a group."
    )
    add_format(parser, has_table=True)
    add_address(parser)
    add_timeout(parser)


def run(options: argparse.Namespace) -> int:
    """Print the references, in groups, and the store's figures."""
    if options.num_entries is not None and options.num_entries < 1:
        raise Problem(f"--num-entries={options.num_entries} is not a number from 1 up.", 2)
    with asking(options.address) as client:
        stores = {node_id.hex(): row for node_id, row in client.cluster.stores().items()}
        found = (
            []
            if options.stats_only
            else list_objects(
                limit=MAX_LIMIT, timeout=options.timeout, raise_on_missing_output=False, _explain=True
            )
        )
    rows = sorted((row.asdict() for row in found), key=_ORDERS[options.sort_by])
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row[_GROUPS[options.group_by]]), []).append(row)
    if options.format in {"json", "yaml"}:
        data = {"stores": stores} if options.stats_only else {"groups": groups, "stores": stores}
        write(as_data(data, options.format))
        return 0
    for name, members in groups.items():
        _write_group(name, members, options)
    if not groups and not options.stats_only:
        note("No process holds a reference.")
    for node_id, store in stores.items():
        where = f" of node {node_id[:8]}" if len(stores) > 1 else ""
        write(_store_lines(where, store, options.units))
    return 0


def _write_group(name: str, members: list[dict[str, Any]], options: argparse.Namespace) -> None:
    kinds: dict[str, int] = {}
    for row in members:
        kinds[row["reference_type"]] = kinds.get(row["reference_type"], 0) + 1
    total = sum(max(0, row["object_size"]) for row in members)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    write(f"{options.group_by}: {name}\n{_size(total, options.units)} of objects in references: {counts}\n")
    shown = members[: options.num_entries]
    write(table(_COLUMNS, [row | {"size": _size(row["object_size"], options.units)} for row in shown]))
    if len(shown) < len(members):
        write(f"... and {len(members) - len(shown)} more: raise --num-entries.")
    write("")


def _store_lines(where: str, store: dict[str, Any], unit: str) -> str:
    """Return what there is in the store, in words."""
    share = store["used"] / store["capacity"] if store["capacity"] else 0.0
    lines = [
        f"Object store{where}: {_size(store['used'], unit)} of {_size(store['capacity'], unit)} used ({share:.1%})."
    ]
    if store["spilled_objects"]:
        lines.append(
            f"{store['spilled_objects']} objects, {_size(store['spilled_bytes'], unit)}, are in {store['spill_dir']}."
        )
    return "\n".join(lines)


def _size(size: int, unit: str) -> str:
    if size < 0:
        return "?"
    return f"{size} B" if unit == "B" else f"{size / _UNITS[unit]:.2f} {unit}"
