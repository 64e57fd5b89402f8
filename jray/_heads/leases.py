"""Owns the lease of a head: the process that keeps it, such as a Jupyter server, and for how long after that one's end.

It is the file `lease.json` beside the head's card.  Whoever takes a head into its keeping writes it and sends the head
SIGHUP, upon which the head reads it again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal

from jray._heads.cards import Head
from jray._heads.processes import ProcessId

_FILE = "lease.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """Who keeps a head."""

    holder: ProcessId
    #: seconds that the head outlives its holder; None: it does not mind
    keep_s: float | None

    def __post_init__(self) -> None:
        if self.keep_s is not None and not 0 <= self.keep_s < math.inf:
            raise ValueError(f"a head is kept for a number of seconds from 0 up, not {self.keep_s!r}")

    def to_json(self) -> str:
        """Return the text of its file."""
        fields = {"pid": self.holder.pid, "start_time": self.holder.start_time, "keep_s": self.keep_s}
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str | bytes) -> Lease:
        """Read the text of such a file.  Raises ValueError if it is none."""
        record = json.loads(text)
        try:
            pid, start_time, keep_s = (record[key] for key in ("pid", "start_time", "keep_s"))
        except (KeyError, TypeError) as error:
            raise ValueError(f"the text of a lease lacks {error}") from None
        if (
            type(pid) is not int
            or type(start_time) is not int
            or type(keep_s) not in (int, float, type(None))
        ):
            raise ValueError(f"the numbers of a lease are {pid!r}, {start_time!r} and {keep_s!r}")
        return cls(ProcessId(pid, start_time), keep_s)


def read_lease(folder: str) -> Lease | None:
    """Return the lease in the directory of a head; None: nobody keeps it.  Raises ValueError for a bad file."""
    try:
        with open(os.path.join(folder, _FILE), "rb") as file:
            return Lease.from_json(file.read())
    except FileNotFoundError:
        return None


def write_lease(folder: str, lease: Lease) -> None:
    """Put a lease into the directory of a head, whole at once."""
    path = os.path.join(folder, f"{_FILE}.{os.getpid()}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(lease.to_json())
    os.replace(path, os.path.join(folder, _FILE))


def take(head: Head, lease: Lease) -> bool:
    """Take a running head into somebody's keeping, and have it know; tell whether it still runs.

    Raises OSError if its directory cannot be written.
    """
    try:
        write_lease(head.folder, lease)
    except FileNotFoundError:  # it has just ended, with its directory
        return False
    return head.process.signal(signal.SIGHUP)
