"""Owns `%jray memory` and `%jray free`: what takes room in the store, what in the notebook holds it, how to let go."""

from __future__ import annotations

import argparse
import ast
import gc
import os
import re
import sys
from collections import Counter
from typing import Any

from IPython.core.error import UsageError

from jray._core.detect import memory_share
from jray._core.engine import Engine
from jray._core.refs import ObjectRef
from jray._core.sketch import human_size
from jray.notebook.arguments import option, unquote
from jray.notebook.context import Context, closest
from jray.notebook.holders import TRACEBACK, drop_outputs, drop_traceback, held_in, holders_of, places
from jray.notebook.inventory import CELL, ID, LIMIT, ask, object_rows
from jray.notebook.listing import Column, Listing, count

MEMORY_OPTIONS = (LIMIT,)
FREE_OPTIONS = (
    option(
        "what",
        nargs="?",
        metavar="NAME|Out[n]",
        type=unquote,
        completes="held",
        help="a variable that holds ObjectRefs, or an output.",
    ),
    option("--out", action="store_true", help="every output that holds ObjectRefs, and the last traceback."),
    option(
        "--force",
        action="store_true",
        help="drop the values too, whoever else refers to them: getting one raises ObjectFreedError.",
    ),
)
#: of what fills a store, so many are named
_MOST_TOLD = 3
_OUT = re.compile(r"Out\s*\[\s*(\d+)\s*\]")


def store_use(engine: Engine) -> tuple[float, float]:
    """Return (bytes in use, bytes there are) of the object store."""
    total = engine.cluster.resources().get("object_store_memory", 0.0)
    return total - engine.cluster.available().get("object_store_memory", 0.0), total


def held_objects(context: Context) -> list[dict[str, Any]]:
    """Return a row for each object that has bytes, the largest first, with all that holds it."""
    by_object: dict[str, dict[str, Any]] = {}
    for row in object_rows(context):
        group = by_object.setdefault(row["object_id"], {**row, "holders": []})
        if row["holder"] not in group["holders"]:
            group["holders"].append(row["holder"])
        # its owner knows what made it; who borrows it and has not looked at it does not even know its size
        for name in ("size", "made_by", "cell", "place"):
            group[name] = group[name] or row[name]
        if row["kind"] not in group["kind"]:
            group["kind"] += f", {row['kind']}"
    found = [{**row, "holder": "; ".join(row.pop("holders"))} for row in by_object.values() if row["size"]]
    return sorted(found, key=lambda row: -row["size"])


def filling_hint(context: Context, used: int, capacity: int) -> str:
    """Return what to say when the store is nearly full: what holds most of it, and how to let go."""
    sizes: Counter[tuple[str, str]] = Counter()
    numbers: Counter[tuple[str, str]] = Counter()
    holders: dict[tuple[str, str], str] = {}
    for row in held_objects(context):
        origin = row["made_by"], row["cell"]
        sizes[origin] += row["size"]
        numbers[origin] += 1
        holders.setdefault(origin, row["holder"])
    most = [
        f"{human_size(size)} in {count(numbers[origin], 'object')} made by {origin[0] or 'something unknown'}"
        + (f" in {origin[1]}" if origin[1] else "")
        + f", held by {holders[origin]}"
        for origin, size in sizes.most_common(_MOST_TOLD)
    ]
    told = f" Most of it: {'; '.join(most)}." if most else ""
    return (
        f"jray: the object store is {100 * used / capacity:.0f} % full ({human_size(used)} of {human_size(capacity)}); "
        f"what nobody reads goes to disk.{told} %jray memory shows all, %jray free NAME lets go of a variable.\n"
    )


def show_memory(context: Context, arguments: argparse.Namespace) -> Listing:
    """Return what is in the store, by what made it and what holds it."""
    used, total = store_use(context.engine())
    rows = held_objects(context)
    notes = []
    if len(rows) > arguments.limit:
        notes.append(f"{len(rows) - arguments.limit} more: --limit N shows them.")
    on_disk = sum(row["size"] for row in rows if row["place"])
    if on_disk:
        notes.append(f"{human_size(on_disk)} of this is on disk, and read from there when it is needed.")
    pinned = [
        row for row in rows if "Out[" in row["holder"] or "`_" in row["holder"] or TRACEBACK in row["holder"]
    ]
    if pinned:
        room = human_size(sum(row["size"] for row in pinned))
        notes.append(f"Outputs and the last traceback hold {room}: %jray free --out lets go of them.")
    if rows:
        notes.append(
            "%jray free NAME takes a variable and what IPython keeps of it out of the notebook; a value goes when "
            "nothing refers to it."
        )
    if not context.is_deterministic():
        notes += _process_notes(context)
    share = f" ({100 * used / total:.0f} %)" if total else ""
    columns = (
        ID,
        Column("size", show=human_size, is_number=True),
        Column("made_by", "made by"),
        CELL,
        Column("kind", "what refers to it"),
        Column("holder", "held by"),
        Column("place", "where", varies=True),  # which of many it is is chance
    )
    # how large the store is depends on the machine
    of = "" if context.is_deterministic() else f" of {human_size(total)}{share}"
    title = f"Object store: {human_size(used)}{of} in use; {count(len(rows), 'value')} referred to"
    return Listing(title, columns, rows[: arguments.limit], tuple(notes), context.is_deterministic())


def _process_notes(context: Context) -> list[str]:
    """Return what the processes of this machine have in memory besides the store."""
    here = context.engine().whereabouts().node_id.hex()
    sizes: dict[str, list[int]] = {}
    for row in ask(context, "workers").rows:
        if not row["is_alive"] or row["node_id"] != here:
            continue
        share = memory_share(row["pid"])
        if share is not None:
            kind = "this notebook" if row["pid"] == os.getpid() else str(row["worker_type"]).lower()
            sizes.setdefault(kind, []).append(share)
    told = [
        f"{human_size(sum(found))} in {kind if kind == 'this notebook' else count(len(found), kind)}"
        for kind, found in sizes.items()
    ]
    if not told:
        return []
    return [f"Besides the store, whose pages all share and which count once: {', '.join(told)}."]


def free(context: Context, arguments: argparse.Namespace) -> None:
    """Let go of references, and say how much room that gave."""
    engine = context.engine()
    if arguments.out == (arguments.what is not None):
        raise UsageError("%jray free takes a variable, an output as in Out[3], or --out for all outputs.")
    before, _ = store_use(engine)
    if arguments.out:
        done = _free_outputs(context, engine, force=arguments.force)
    else:
        done = _free_named(context, engine, arguments.what, force=arguments.force)
    gc.collect()  # what a traceback held is often in cycles
    after, _ = store_use(engine)
    sys.stdout.write(f"jray: {done}; {human_size(max(0.0, before - after))} came back.\n")


def _free_outputs(context: Context, engine: Engine, *, force: bool) -> str:
    wanted: dict[int, Any] = {}
    for place, value in places(context.shell):
        if place.startswith(("Out[", "`_")) and any(True for _ in held_in(value, ObjectRef)):
            wanted[id(value)] = value
    refs = [ref for value in wanted.values() for ref in held_in(value, ObjectRef)]
    dropped = drop_outputs(context.shell, wanted)
    drop_traceback(context.shell)
    if force and refs:
        engine.free(refs)
    del refs, wanted
    return f"dropped {', '.join(dropped) or 'no output'} and the last traceback"


def _free_named(context: Context, engine: Engine, what: str, *, force: bool) -> str:
    shell = context.shell
    match = _OUT.fullmatch(what)
    if match is not None:
        outputs = context.namespace.get("_oh") or {}
        if int(match[1]) not in outputs:
            raise UsageError(f"There is no {what}: that cell had no output, or it is gone already.")
        value = outputs[int(match[1])]
    elif what in context.namespace:
        value = context.namespace[what]
    else:
        held = [place[10:-1] for place, value in places(shell) if place.startswith("variable ")]
        raise UsageError(f"The notebook has no variable {what!r}{closest(what, held) or '.'}")
    refs = list(held_in(value, ObjectRef))
    if not refs:
        raise UsageError(f"{what} holds no ObjectRef; `del {what}` is all that it takes to drop it.")
    if force:
        engine.free(refs)
        return f"dropped the values of {count(len(refs), 'ObjectRef')} of {what}"
    # what IPython keeps of the same refs would keep the values
    same = {id(ref) for ref in refs}
    pins = {
        id(kept): kept
        for place, kept in places(shell)
        if place.startswith(("Out[", "`_")) and any(id(ref) in same for ref in held_in(kept, ObjectRef))
    }
    dropped = [] if match is not None else [what]
    if match is None:
        del context.namespace[what]
    dropped += drop_outputs(shell, pins)
    if any(
        id(ref) in same
        for place, kept in places(shell)
        if place.startswith(TRACEBACK)
        for ref in held_in(kept, ObjectRef)
    ):
        drop_traceback(shell)
        dropped.append(TRACEBACK)
    left = {
        place for ref, names in holders_of(shell, ObjectRef).values() if id(ref) in same for place in names
    }
    del refs, pins, value
    kept_by = f" (still held by {', '.join(sorted(left))})" if left else ""
    return f"dropped {', '.join(dropped)}{kept_by}"


def referred(context: Context, text: str) -> Any:
    """Return the value of an expression over the notebook's variables, as in ``refs[3]``; None: it is none.

    Only names, items and attributes are evaluated: looking must not run anything of the user's that matters.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError:
        return None
    allowed = (
        ast.Expression, ast.Name, ast.Load, ast.Subscript, ast.Attribute, ast.Constant, ast.UnaryOp, ast.USub, ast.Slice,
    )  # fmt: skip
    if not all(isinstance(node, allowed) for node in ast.walk(tree)):
        return None
    roots = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    if not roots or not all(name in context.namespace for name in roots):
        return None
    try:
        return context.shell.ev(text.strip())
    except Exception as error:  # noqa: BLE001 -- whatever the user's `[]` and `.` raise
        raise UsageError(f"{text}: {type(error).__name__}: {error}") from None
