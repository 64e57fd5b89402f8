"""Owns what a question to the state API means before anybody is asked, and how rows are added up.  Pure."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jray._core.filters import Filter
from jray.util.state.common import MAX_LIMIT, StateSchema
from jray.util.state.exception import RayStateApiException

_TRUE, _FALSE = {"true", "1"}, {"false", "0"}


def checked_filters(
    schema: type[StateSchema], filters: Iterable[Sequence[Any]] | None
) -> tuple[Filter, ...] | None:
    """Return the filters with values of their columns' types; None: they contradict each other.

    Column names and values are taken in any case.  Raises ValueError for what is no (column, "=" or "!=", value),
    RayStateApiException for a column that cannot be filtered by and a value that does not fit it.
    """
    found = []
    for entry in filters or ():
        if len(entry) != 3:
            raise ValueError(f"{entry!r} is no filter: give (column, '=' or '!=', value).")
        column, sign, value = entry
        if sign not in {"=", "!="}:
            raise ValueError(f"Unsupported filter predicate {sign!r} in {entry!r}: give '=' or '!='.")
        name = str(column).lower()
        if name not in schema.filterable_columns():
            columns = ", ".join(sorted(schema.filterable_columns()))
            raise RayStateApiException(
                f"Cannot filter by {column!r}; the columns to filter by are: {columns}."
            )
        found.append((name, sign, _converted(name, schema.column_types()[name], value)))
    wanted: dict[str, Any] = {}
    for name, sign, value in found:
        if sign == "=" and wanted.setdefault(name, value) != value:
            warnings.warn(
                f"No row has {name} = {wanted[name]!r} and {name} = {value!r}: the answer is empty.",
                UserWarning,
                stacklevel=3,
            )
            return None
    return tuple(found)


def _converted(column: str, kind: type, value: Any) -> Any:
    if value is None:  # the rows that have nothing there
        return None
    if kind is bool:
        text = str(value).lower()
        if text not in _TRUE | _FALSE:
            raise RayStateApiException(f"Cannot filter {column} by {value!r}: give True or False.")
        return text in _TRUE
    if kind in {int, float}:
        try:
            return kind(value)
        except (TypeError, ValueError):
            raise RayStateApiException(f"Cannot filter {column} by {value!r}: give a number.") from None
    return value.lower() if isinstance(value, str) else value


def checked_limit(limit: int) -> int:
    """Return *limit*; raises RayStateApiException if it is not from 0 to 10 000."""
    if not 0 <= limit <= MAX_LIMIT:
        raise RayStateApiException(
            f"limit={limit} is not from 0 to {MAX_LIMIT}; use filters to get fewer rows."
        )
    return limit


def task_summary(counts: Mapping[tuple[str, ...], int]) -> dict[str, Any]:
    """Return Ray's summary of tasks from how many there are of each (name, type, state)."""
    summary: dict[str, dict[str, Any]] = {}
    of_type = {"NORMAL_TASK": 0, "ACTOR_TASK": 0, "ACTOR_CREATION_TASK": 0}
    for (name, kind, state), count in sorted(counts.items()):
        group = summary.setdefault(name, {"func_or_class_name": name, "type": kind, "state_counts": {}})
        group["state_counts"][state] = group["state_counts"].get(state, 0) + count
        of_type[kind] = of_type.get(kind, 0) + count
    return {
        "summary": summary,
        "total_tasks": of_type["NORMAL_TASK"],
        "total_actor_tasks": of_type["ACTOR_TASK"],
        "total_actor_scheduled": of_type["ACTOR_CREATION_TASK"],
        "summary_by": "func_name",
    }


def actor_summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return Ray's summary of actors, by class."""
    summary: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row["class_name"]
        counts = summary.setdefault(name, {"class_name": name, "state_counts": {}})["state_counts"]
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    return {"summary": summary, "total_actors": len(rows), "summary_by": "class"}


def object_summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return Ray's summary of objects, by the place in the code that made them.  Sizes are in MiB."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["call_site"], []).append(row)
    return {
        "summary": {call_site: _object_group(members) for call_site, members in groups.items()},
        "total_objects": len(rows),
        "total_size_mb": _mib(rows),
        "callsite_enabled": "disabled" not in groups,
        "summary_by": "callsite",
    }


def _object_group(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "total_objects": len(rows),
        "total_size_mb": _mib(rows),
        "total_num_workers": len({row["pid"] for row in rows}),
        "total_num_nodes": len({row["ip"] for row in rows}),
        "task_state_counts": _counts(rows, "task_status"),
        "task_attempt_number_counts": _counts(rows, "attempt_number"),
        "ref_type_counts": _counts(rows, "reference_type"),
    }


def _counts(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[str(row[column])] = counts.get(str(row[column]), 0) + 1
    return counts


def _mib(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the size of all together; what is not known (-1) counts nothing."""
    return float(sum(max(0, row["object_size"]) for row in rows) / 1024**2)
