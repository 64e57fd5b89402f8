"""Owns finding the running heads of this user; it neither starts, joins nor ends one.

A head tells of itself in `head.json`, in a directory `jray-<uid>-<anything>` of mode 0700 inside the
runtime directory:

    key         type             meaning
    session     string           name of the session, unique among this user's
    pid         integer          process of the head
    start_time  integer          when that process started, in the kernel's ticks since boot
    address     string           where the head listens
    num_cpus    number           CPUs it hands out
    owner_pid   integer or null  process that it ends with, if it ends with one
    python      string           its Python's executable
    created_s   number           Unix time at which this file was written
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from traitlets import Unicode, default
from traitlets.config import LoggingConfigurable


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """What a head says of itself; the fields are the keys of `head.json`."""

    session: str
    pid: int
    start_time: int
    address: str
    num_cpus: float
    owner_pid: int | None
    python: str
    created_s: float

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read the text of a `head.json`, ignoring keys of later versions.

        Raises:
            ValueError: it is not JSON, or a key is missing or of another type.
        """
        record = json.loads(text)
        if not isinstance(record, dict):
            raise ValueError(f"an object was expected, not {type(record).__name__}")  # noqa: TRY004 -- bad text
        return cls(
            session=_field(record, "session", str),
            pid=_field(record, "pid", int),
            start_time=_field(record, "start_time", int),
            address=_field(record, "address", str),
            num_cpus=_field(record, "num_cpus", int, float),
            owner_pid=_field(record, "owner_pid", int, type(None)),
            python=_field(record, "python", str),
            created_s=_field(record, "created_s", int, float),
        )


def _field(record: dict[str, Any], key: str, *types: type) -> Any:
    if key not in record:
        raise ValueError(f"the key {key!r} is missing")
    value = record[key]
    if type(value) not in types:  # not isinstance: true is no pid
        raise ValueError(f"{key} is {value!r}, of type {type(value).__name__}")
    return value


class HeadManager(LoggingConfigurable):
    """Finds the running heads of this user.  Reads files, so call it off the event loop."""

    runtime_dir = Unicode(
        help="Where the directories of heads are. Default: JRAY_RUNTIME_DIR, else $XDG_RUNTIME_DIR/jray "
        "if that exists, else /tmp."
    ).tag(config=True)

    @default("runtime_dir")
    def _default_runtime_dir(self) -> str:
        return str(runtime_dir())

    def heads(self) -> list[Head]:
        """Return the running heads, oldest first."""
        found = (self._read(folder) for folder in _own_folders(Path(self.runtime_dir)))
        return sorted((head for head in found if head and _is_running(head)), key=lambda head: head.created_s)

    def _read(self, folder: Path) -> Head | None:
        path = folder / "head.json"
        try:
            return Head.from_json(path.read_bytes())
        except FileNotFoundError:
            return None  # a head that is just starting or ending
        except (OSError, ValueError) as error:
            self.log.debug("No head is listed for %s: %s", path, error)
            return None


def runtime_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the runtime of this user keeps its directories."""
    if chosen := environ.get("JRAY_RUNTIME_DIR"):
        return Path(chosen)
    if session := environ.get("XDG_RUNTIME_DIR"):
        folder = Path(session) / "jray"
        if folder.is_dir():
            return folder
    return Path("/tmp")  # noqa: S108 -- shared with others: `_own_folders` takes only what nobody else can write


def _own_folders(base: Path) -> Iterator[Path]:
    """Yield the directories of heads in `base` that belong to this user and to nobody else.

    In /tmp anybody can make a directory of that name, and a link to anywhere.
    """
    uid = os.geteuid()
    try:
        folders = sorted(base.glob(f"jray-{uid}-*"))
    except OSError:
        return
    for folder in folders:
        try:
            status = folder.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & 0o077:
            yield folder


def _is_running(head: Head) -> bool:
    """Tell whether the process of `head` lives, and not another that has been given its pid since."""
    try:
        line = Path(f"/proc/{head.pid}/stat").read_bytes()
    except OSError:
        return False
    # The second field is the program's name in parentheses, with any character inside; from the third on
    # (proc(5)): the state, where Z has ended and waits for its parent, and as the 22nd the start.
    fields = line.rpartition(b")")[2].split()
    return fields[0] != b"Z" and int(fields[19]) == head.start_time
