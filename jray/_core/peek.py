"""Owns `Peek`: what a ref's `peek()` returns, and its text."""

from __future__ import annotations

import dataclasses
from typing import Any

from jray._core.refs import ObjectRef, RefFacts
from jray._core.sketch import Sketch, human_size, sketch

#: pickles larger than this are not unpickled for a look: arrays and the columns of frames are no part of them
LARGEST_PICKLE_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Peek:
    """A look at an object: what is known of it, and a sketch of its value if it has one."""

    facts: RefFacts
    sketch: Sketch | None = None

    def __repr__(self) -> str:
        lines = [headline(self.facts, self.sketch)]
        if self.sketch is None:
            return lines[0]
        lines += [f"  {name}: {text}" for name, text in self.sketch.facts]
        if self.sketch.columns:
            table = [self.sketch.columns, *self.sketch.rows]
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines += [
                "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
                for row in table
            ]
        return "\n".join(lines)


def headline(facts: RefFacts, shown: Sketch | None = None) -> str:
    """Return what and how large the value is, or why there is none."""
    if facts.state == "ready":
        about = facts.about or (shown.title if shown is not None else "") or "object"
        return about if facts.size is None else f"{about}, {human_size(facts.size)}"
    if facts.state == "failed":
        return f"failed: {facts.error or 'its error cannot be read here'}"
    made = f" {facts.task}()" if facts.task else ""
    return {
        "freed": "freed: its value was dropped by hand",
        "lost": f"lost: {facts.error}",
        "running": f"no value yet:{made} runs",
        "waiting": f"no value yet:{made} waits to run",
    }.get(facts.state, "no value yet: only its owner knows how far it is")


def peek(client: Any, ref: ObjectRef[Any], pickled_bytes: int) -> Peek:
    """Look at an object; *pickled_bytes* of it must be read for that."""
    facts: RefFacts = client.ref_facts(ref)
    if facts.state != "ready":
        return Peek(facts)
    if pickled_bytes > LARGEST_PICKLE_BYTES:
        note = f"not looked into: loading takes {human_size(pickled_bytes)} of objects; jray.get() does it"
        return Peek(facts, Sketch(facts.about or "object", (("note", note),)))
    try:
        return Peek(facts, sketch(client.ref_value(ref)))
    except Exception as error:  # noqa: BLE001 -- freed meanwhile, or a class that cannot be unpickled here
        return Peek(facts._replace(state="failed", error=f"{type(error).__name__}: {error}"))
