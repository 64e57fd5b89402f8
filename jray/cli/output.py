"""Owns how rows and records are written: as JSON, as YAML, and as tables."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: keys that need no quotes in YAML, and those among them that mean something else without
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}

_FORMATS = ("default", "json", "yaml")


def add_format(parser: argparse.ArgumentParser, *, default: str = "default", has_table: bool = False) -> None:
    """Add --format; `has_table`: "table" is one, too."""
    choices = (*_FORMATS, "table") if has_table else _FORMATS
    parser.add_argument(
        "--format", choices=choices, default=default, help=f"how the answer is written (default: {default})."
    )


def write(text: str) -> None:
    """Write a line or several to stdout."""
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def note(text: str) -> None:
    """Write what is no part of the answer."""
    sys.stderr.write(f"{text}\n")


def as_data(value: Any, form: str) -> str:
    """Return plain data as JSON or YAML."""
    if form == "json":
        return json.dumps(value, default=str)
    return "---\n" + "".join(f"{line}\n" for line in _yaml(value)) + "..."


def _yaml(value: Any) -> Iterable[str]:
    """Yield the lines of a value; JSON's scalars are YAML's."""
    if isinstance(value, Mapping) and value:
        for key, entry in value.items():
            yield from _under(f"{_scalar(str(key), is_key=True)}:", entry)
    elif isinstance(value, list | tuple) and value:
        for entry in value:
            first, *rest = _yaml(entry)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(value)


def _under(head: str, value: Any) -> Iterable[str]:
    if isinstance(value, Mapping | list | tuple) and value:
        yield head
        yield from (f"  {line}" for line in _yaml(value))
    else:
        yield f"{head} {_scalar(value)}"


def _scalar(value: Any, *, is_key: bool = False) -> str:
    if is_key and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return str(value)
    if isinstance(value, list | tuple):
        return "[]"
    if isinstance(value, Mapping):
        return "{}"
    return json.dumps(value, default=str)


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as aligned text under their columns' names; what is not there is empty."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(columns)]
    lines = [[name.upper() for name in columns], *cells]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping | list | tuple):
        value = json.dumps(value, default=str)
    # a name may hold anything: a table keeps its lines
    return " ".join(str(value).split())


def elapsed(seconds: float) -> str:
    """Return how long ago something was, in words."""
    whole = max(0, int(seconds))
    for unit, name, part, part_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= unit:
            rest = whole % unit // part
            return f"{whole // unit} {name} {rest} {part_name}" if rest else f"{whole // unit} {name}"
    return f"{whole // 60} min" if whole >= 60 else f"{whole} s"
