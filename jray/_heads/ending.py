"""Owns the end of heads by others: asked first, forced after a while, and with all processes that were theirs."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Sequence

from jray._heads.cards import Head
from jray._heads.trees import members

#: a process that was killed is gone by then, if it ever is
_KILLED_S = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """What became of a head."""

    head: Head
    how: str  #: "ended" when asked to, "killed" because it did not or was not asked, "alive": nothing helped
    processes: int  #: how many there were of it, itself included


def end_heads(heads: Sequence[Head], *, grace_s: float, force: bool = False) -> list[Ended]:
    """End heads with their nodes, zygotes and workers, all at once; blocks until they are gone.

    Each is asked by SIGTERM and killed after *grace_s* seconds, or at once with *force*.
    """
    parts = {
        head.pid: [member.process for member in members(head) if member.kind not in {"head", "driver"}]
        for head in heads
    }
    for head in heads:
        head.process.signal(signal.SIGKILL if force else signal.SIGTERM)
    deadline = time.monotonic() + (_KILLED_S if force else grace_s)
    found = []
    for head in heads:
        has_ended = head.process.wait_ended(deadline - time.monotonic())
        how = "killed" if force else "ended"
        if not has_ended and not force:
            head.process.signal(signal.SIGKILL)
            has_ended, how = head.process.wait_ended(_KILLED_S), "killed"
        found.append(Ended(head, how if has_ended else "alive", 1 + len(parts[head.pid])))
    # What belongs to a head ends with it: by its hand, or by a watch of its own, unless somebody has stopped it.
    rest = [part for ended in found if ended.how != "alive" for part in parts[ended.head.pid]]
    if not force:
        for part in rest:
            part.wait_ended(deadline - time.monotonic())
    for part in rest:
        part.signal(signal.SIGKILL)
    deadline = time.monotonic() + _KILLED_S
    for part in rest:
        part.wait_ended(deadline - time.monotonic())
    return found
