"""Owns the reading of amounts as people write them on command lines and in magics.

What is no amount raises argparse.ArgumentTypeError, whose text an option's error shows.
"""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?", re.IGNORECASE)


def size_bytes(text: str) -> int:
    """Read ``1073741824``, ``500MB`` or ``2GiB``."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; write bytes or a unit, as in 500MB or 2GiB"
        )
    return int(float(match[1]) * _UNITS[match[2].lower()])


def amount(text: str) -> float:
    """Read a number of CPUs, GPUs or seconds; whole ones stay integers."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return int(value) if value == int(value) else value


def resources(text: str) -> dict[str, float]:
    """Read ``{"license": 1}`` or ``license=1,disk=0.5``."""
    if text.lstrip().startswith("{"):
        try:
            read = json.loads(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text} is not JSON: {error}") from None
        return {str(name): _resource_amount(name, value) for name, value in read.items()}
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): _resource_amount(name, value) for name, _, value in pairs}


def labels(text: str) -> dict[str, str]:
    """Read ``zone=a,disk=fast``."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, sign, value = part.partition("=")
        if not sign or not name.strip():
            raise argparse.ArgumentTypeError(f"{part!r} is not a label; write NAME=VALUE,...")
        found[name.strip()] = value.strip()
    return found


def _resource_amount(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(
            f"the amount of {name.strip()!r} is {value!r}, not a number; write NAME=NUMBER,... or JSON"
        ) from None
