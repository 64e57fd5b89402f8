"""Owns the filters of the state API: which rows a question wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: (key, "=" or "!=", value)
Filter = tuple[str, str, Any]


def matches(row: Mapping[str, Any], filters: Sequence[Filter]) -> bool:
    """Tell whether *row* passes every filter.  Values are compared as text, whatever its case (Ray's rule)."""
    return all((_text(row.get(key)) == _text(value)) == (sign == "=") for key, sign, value in filters)


def _text(value: Any) -> str:
    return str(value).lower()
