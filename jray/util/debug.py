"""Owns which messages this process has logged already: `if log_once("key"): logger.warning(...)`."""

from __future__ import annotations

import time

_PERIOD_S = 60.0


class _Logged:
    """The keys that were asked for, and when this becomes old."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.since_s = 0.0
        self.is_disabled = False
        self.is_periodic = False


_logged = _Logged()


def log_once(key: str) -> bool:
    """Tell whether this is the first call with *key*; so too once a minute if `enable_periodic_logging` was called."""
    now_s = time.monotonic()
    if _logged.is_periodic and now_s - _logged.since_s > _PERIOD_S:
        _logged.keys.clear()
    if _logged.is_disabled or key in _logged.keys:
        return False
    if not _logged.keys:
        _logged.since_s = now_s
    _logged.keys.add(key)
    return True


def disable_log_once_globally() -> None:
    """Make `log_once` return False from now on, in this process."""
    _logged.is_disabled = True


def enable_periodic_logging() -> None:
    """Let `log_once` forget every minute what was logged, in this process."""
    _logged.is_periodic = True


def reset_log_once(key: str | None = None) -> None:
    """Forget that *key* was logged; None: that anything was."""
    if key is None:
        _logged.keys.clear()
    else:
        _logged.keys.discard(key)
