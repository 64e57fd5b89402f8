"""Owns how numbers and counts are said, in text and in HTML alike.  Pure."""

from __future__ import annotations

import time

from jray.notebook.lens.progress import Counts

_MINUTE_S = 60
_HOUR_S = 3600


def duration(seconds: float) -> str:
    """Return a time with two or three digits: ``40 ms``, ``12.4 s``, ``2 min 5 s``, ``1 h 20 min``."""
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < _MINUTE_S - 0.05:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR_S:
        minutes, rest = divmod(whole, _MINUTE_S)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(round(whole / _MINUTE_S), _MINUTE_S)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def number(value: int) -> str:
    return f"{value:,}"


def many(value: int, noun: str) -> str:
    return f"{number(value)} {noun}{'' if value == 1 else 's'}"


def rate(value: float) -> str:
    if value < 0.95:
        return f"{value * 60:.2g}/min"
    if value < 9.95:
        return f"{value:.1f}/s"
    digits = max(0, len(str(int(value))) - 3)  # three that count
    return f"{round(value, -digits):,.0f}/s"


def counts(row: Counts) -> list[str]:
    """Return the parts of ``120 of 200 done, 4 running, 76 waiting, 1 failed``."""
    parts = [f"{number(row.finished)} of {number(row.submitted)} done"]
    parts += [
        f"{number(value)} {word}"
        for value, word in ((row.running, "running"), (row.waiting, "waiting"))
        if value
    ]
    return parts


def failures(row: Counts) -> list[str]:
    """Return the parts of ``1 failed, 3 cancelled``."""
    return [
        f"{number(value)} {word}"
        for value, word in ((row.failed, "failed"), (row.cancelled, "cancelled"))
        if value
    ]


def speed(row: Counts) -> list[str]:
    """Return the parts of ``61/s, 2 s left``: those that are known, of what is not done."""
    if not row.pending:
        return []
    parts = [] if row.rate is None else [rate(row.rate)]
    if row.left_s is None:
        return parts
    left = max(1, round(row.left_s))  # an estimate needs no more digits
    return [*parts, f"{left} s left" if left < _MINUTE_S else f"{duration(left)} left"]


def clock(time_ms: float) -> str:
    """Return a time of day, of this place: ``14:02:31``."""
    return time.strftime("%H:%M:%S", time.localtime(time_ms / 1000))


def clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
