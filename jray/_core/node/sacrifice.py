"""Owns the order in which the system's killer takes jray's processes when memory is out: the user's own is the last.

Workers are the first, with the largest score there is (see `jray._core.worker.main`), for a task can run again.
"""

from __future__ import annotations

#: another zygote is started when one dies
ZYGOTE_SCORE = 900
#: with the head all work is lost, and a notebook keeps its variables
HEAD_SCORE = 500


def offer(score: int) -> None:
    """Have the system's killer prefer this process, and what it starts from now on, to those of a lower score."""
    try:
        with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
            if int(file.read()) < score:  # to lower it takes a right that few have
                file.seek(0)
                file.write(str(score))
    except OSError:  # not Linux, or not permitted in this container; it is not vital
        pass
