"""Decides when a head that nobody owns ends by itself: it is not used, or who keeps it has gone.  Pure.

It is in use while a driver is connected or a task runs.  What only waits to be called, a detached actor, does not
count: it is what such a head is kept for, and so it ends with it.
"""

from __future__ import annotations


class Lifetime:
    """Seconds are monotonic.  Tell it what changes, in any order; ask it at `next_deadline_s`."""

    def __init__(self, idle_timeout_s: float | None, now_s: float) -> None:
        self._idle_timeout_s = idle_timeout_s
        #: since when nobody uses it; None: somebody does
        self._idle_since_s: float | None = now_s
        self._keep_s: float | None = None
        #: since when its keeper is gone; None: it has none, or that one lives
        self._alone_since_s: float | None = None

    def used(self, now_s: float, *, is_in_use: bool) -> None:
        """Take note of whether it is in use."""
        if is_in_use:
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = now_s

    def kept(self, keep_s: float | None) -> None:
        """Take note of a keeper that lives, and of how long the head is to outlive it; None: for ever."""
        self._keep_s = keep_s
        self._alone_since_s = None

    def keeper_gone(self, now_s: float) -> None:
        """Take note of the keeper's end."""
        if self._alone_since_s is None:
            self._alone_since_s = now_s

    def next_deadline_s(self) -> float | None:
        """Return when there may be a reason to end; None: not before something changes."""
        if self._idle_since_s is None:
            return None
        moments = []
        if self._idle_timeout_s is not None:
            moments.append(self._idle_since_s + self._idle_timeout_s)
        if self._alone_since_s is not None and self._keep_s is not None:
            # no sooner than its last user has left: who computes is not cut off
            moments.append(max(self._alone_since_s + self._keep_s, self._idle_since_s))
        return min(moments, default=None)

    def reason_to_end(self, now_s: float) -> str | None:
        """Return why it ends now; None: it does not."""
        deadline_s = self.next_deadline_s()
        if deadline_s is None or now_s < deadline_s:
            return None
        if self._alone_since_s is not None and self._keep_s is not None and (
            now_s >= self._alone_since_s + self._keep_s
        ):  # fmt: skip
            return f"the process that kept it has been gone for {self._keep_s:g} s"
        return f"nobody has used it for {self._idle_timeout_s:g} s"
