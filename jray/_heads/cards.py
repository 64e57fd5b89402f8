"""Owns what a head tells of itself on disk: its card, `head.json`, and which cards are those of living heads.

A card lies in a directory `jray-<uid>-<session>` of mode 0700 inside the runtime directory:

    key             type             meaning
    session         string           name of the session, unique among this user's
    pid             integer          process of the head
    start_time      integer          when that process started, in the kernel's ticks since boot
    address         string           where the head listens
    session_dir     string           where its sockets and logs are
    store_dir       string           where its objects are
    spill_dir       string           where those go that the store has no room for
    num_cpus        number           CPUs it hands out
    owner_pid       integer or null  process that it ends with, if it ends with one
    started_by      string           "jray.init", "jray start" or "jupyter"
    idle_timeout_s  number or null   seconds without use after which it ends by itself, if it does
    python          string           its Python's executable
    created_s       number           Unix time at which this file was written
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

from jray._heads.processes import ProcessId

_CARD = "head.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """What a head says of itself; the fields are the keys of its card, but for `folder`."""

    session: str
    pid: int
    start_time: int
    address: str
    session_dir: str
    store_dir: str
    spill_dir: str
    num_cpus: float
    owner_pid: int | None
    started_by: str
    idle_timeout_s: float | None
    python: str
    created_s: float
    #: the directory that its card is in
    folder: str = ""

    @classmethod
    def from_json(cls, text: str | bytes, folder: str = "") -> Self:
        """Read the text of a card, ignoring keys of later versions.

        Raises:
            ValueError: it is not JSON, or a key is missing or of another type.
        """
        record = json.loads(text)
        if not isinstance(record, dict):
            raise ValueError(f"an object was expected, not {type(record).__name__}")  # noqa: TRY004 -- bad text
        return cls(**{key: _field(record, key, types) for key, types in _KEYS.items()}, folder=folder)

    def to_record(self) -> dict[str, Any]:
        """Return the keys of its card with their values."""
        return {key: getattr(self, key) for key in _KEYS}

    @property
    def process(self) -> ProcessId:
        return ProcessId(self.pid, self.start_time)

    @property
    def is_free(self) -> bool:
        """Whether it outlives who started it."""
        return self.owner_pid is None

    @property
    def places(self) -> set[str]:
        """Where its directories are."""
        directories = (self.folder, self.session_dir, self.store_dir, self.spill_dir)
        return {os.path.dirname(directory) for directory in directories}

    def write(self) -> None:
        """Write the card into `folder`, whole at once: others read at any moment."""
        path = os.path.join(self.folder, _CARD)
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(self.to_record(), file)
        os.replace(path + ".new", path)


_KEYS: dict[str, tuple[type, ...]] = {
    "session": (str,),
    "pid": (int,),
    "start_time": (int,),
    "address": (str,),
    "session_dir": (str,),
    "store_dir": (str,),
    "spill_dir": (str,),
    "num_cpus": (int, float),
    "owner_pid": (int, type(None)),
    "started_by": (str,),
    "idle_timeout_s": (int, float, type(None)),
    "python": (str,),
    "created_s": (int, float),
}


def _field(record: dict[str, Any], key: str, types: tuple[type, ...]) -> Any:
    if key not in record:
        raise ValueError(f"the key {key!r} is missing")
    value = record[key]
    if type(value) not in types:  # not isinstance: true is no pid
        raise ValueError(f"{key} is {value!r}, of type {type(value).__name__}")
    return value


class Survey(NamedTuple):
    """What there is in a runtime directory."""

    heads: list[Head]  #: that run, oldest first
    dead: list[Head]  #: whose cards are there, and which do not run any more
    unreadable: list[tuple[str, str]]  #: (path, why) of what is no card


def runtime_dir(environ: Mapping[str, str] = os.environ) -> str:
    """Return the directory that holds the directories of this user's sessions."""
    if chosen := environ.get("JRAY_RUNTIME_DIR"):
        return os.path.abspath(chosen)
    if session := environ.get("XDG_RUNTIME_DIR"):
        folder = os.path.join(session, "jray")
        if os.path.isdir(folder):
            return folder
    return "/tmp"  # noqa: S108 -- shared with others: `_own_folders` takes only what nobody else can write


def survey(base: str) -> Survey:
    """Read all cards of this user in *base*; a directory that is not there holds none."""
    found = Survey([], [], [])
    for folder in _own_folders(base):
        path = os.path.join(folder, _CARD)
        try:
            with open(path, "rb") as file:
                head = Head.from_json(file.read(), folder)
        except FileNotFoundError:
            continue  # a head that is just starting or ending
        except (OSError, ValueError) as error:
            found.unreadable.append((path, str(error)))
            continue
        if head.process.is_running():
            found.heads.append(head)
        else:
            found.dead.append(head)
    found.heads.sort(key=lambda head: head.created_s)
    return found


def _own_folders(base: str) -> Iterator[str]:
    """Yield the directories of heads in *base* that belong to this user and to nobody else.

    In /tmp anybody can make a directory of that name, and a link to anywhere.
    """
    uid = os.geteuid()
    try:
        names = sorted(os.listdir(base))
    except OSError:
        return
    for name in names:
        # with a dot: it is being made, or removed
        if not name.startswith(f"jray-{uid}-") or "." in name:
            continue
        folder = os.path.join(base, name)
        try:
            status = os.lstat(folder)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & 0o077:
            yield folder
