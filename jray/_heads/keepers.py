"""Owns who keeps a head: a process such as a Jupyter server, and for how long the head outlives it.

It is told by the file `keeper.json` beside the head's card.  Whoever takes a head into its keeping writes that file and
sends the head SIGHUP, upon which it reads it again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal

from jray._heads.cards import Head
from jray._heads.processes import ProcessId

_FILE = "keeper.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Keeper:
    """Who keeps a head."""

    process: ProcessId
    #: seconds that the head outlives its process; None: it does not mind
    keep_s: float | None

    def __post_init__(self) -> None:
        if self.keep_s is not None and not 0 <= self.keep_s < math.inf:
            raise ValueError(f"a head is kept for a number of seconds from 0 up, not {self.keep_s!r}")

    def to_json(self) -> str:
        """Return the text of its file."""
        fields = {"pid": self.process.pid, "start_time": self.process.start_time, "keep_s": self.keep_s}
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str | bytes) -> Keeper:
        """Read the text of such a file.  Raises ValueError if it is none."""
        record = json.loads(text)
        try:
            pid, start_time, keep_s = (record[key] for key in ("pid", "start_time", "keep_s"))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{_FILE} lacks {error}") from None
        if (
            type(pid) is not int
            or type(start_time) is not int
            or type(keep_s) not in (int, float, type(None))
        ):
            raise ValueError(f"the numbers of {_FILE} are {pid!r}, {start_time!r} and {keep_s!r}")
        return cls(ProcessId(pid, start_time), keep_s)


def read_keeper(folder: str) -> Keeper | None:
    """Return the keeper of the head whose card is in *folder*; None: it has none.  Raises ValueError for a bad file."""
    try:
        with open(os.path.join(folder, _FILE), "rb") as file:
            return Keeper.from_json(file.read())
    except FileNotFoundError:
        return None


def write_keeper(folder: str, keeper: Keeper) -> None:
    """Write the keeper of the head whose card is in *folder*, whole at once."""
    path = os.path.join(folder, f"{_FILE}.{os.getpid()}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(keeper.to_json())
    os.replace(path, os.path.join(folder, _FILE))


def take(head: Head, keeper: Keeper) -> bool:
    """Take a running head into somebody's keeping, and have it know; tell whether it still runs.

    Raises OSError if its directory cannot be written.
    """
    try:
        write_keeper(head.folder, keeper)
    except FileNotFoundError:  # it has just ended, with its directory
        return False
    return head.process.signal(signal.SIGHUP)
