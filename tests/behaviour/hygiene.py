"""Owns the check that a shut-down cluster leaves nothing: process, thread, descriptor, socket, shared memory.

Other clusters may run on the machine meanwhile, so a file counts as left only if no live process uses it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.behaviour import support

SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Traces:
    """What can be seen of a process and its clusters from outside."""

    threads: frozenset[int]
    descriptors: Counter[str]
    files: frozenset[str]


def look() -> Traces:
    """See what there is now."""
    return Traces(
        frozenset(thread.ident or 0 for thread in threading.enumerate()),
        Counter(_descriptors()),
        frozenset(_files()),
    )


def check_nothing_left(before: Traces, timeout: float = support.PATIENCE_S) -> None:
    """Fail if there is more than *before*, after a grace for what ends by itself."""
    support.wait_until(
        lambda: not any(_left(before).values()), timeout, lambda: f"a clean machine; left are {_left(before)}"
    )


def _left(before: Traces) -> dict[str, list[str]]:
    files = set(_files()) - before.files
    if files:
        used = set(_paths_in_use())
        files = {path for path in files if not any(use == path or use.startswith(f"{path}/") for use in used)}
        # Others' clusters that ended while their users were looked for have taken theirs along.
        files = {path for path in files if os.path.lexists(path)}
    mark = os.environ[support.RUN_VARIABLE]
    return {
        "processes": [
            f"{process.pid} {_command(process)}"
            for process in support.processes_marked(mark, besides=[os.getpid()])
        ],
        "threads": [thread.name for thread in threading.enumerate() if thread.ident not in before.threads],
        "descriptors": sorted((Counter(_descriptors()) - before.descriptors).elements()),
        "files": sorted(files),
    }


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return "(ended)"


def _descriptors() -> Iterator[str]:
    """What this process's descriptors lead to; sockets, pipes and the like by kind, for their numbers change."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith("/proc/"):
                continue  # the listing itself
            yield target.partition(":")[0] if target.startswith(("socket:", "pipe:")) else target


def _files() -> Iterator[str]:
    """Entries of shared memory, and of the places for sockets that carry jray's name.

    Folders that tests of the clusters' insides make for themselves are in nobody's use for much of the time.
    """
    yield from map(str, SHARED_MEMORY.iterdir())
    for folder in {tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", tempfile.gettempdir())}:
        with contextlib.suppress(OSError):
            for path in Path(folder).iterdir():
                if "jray" in path.name and not path.name.startswith("jray-test-"):
                    yield str(path)


def shared_memory() -> set[str]:
    """The names of all entries of shared memory, whoever made them."""
    return {path.name for path in SHARED_MEMORY.iterdir()}


def shared_memory_of(processes: Iterable[psutil.Process]) -> set[str]:
    """The names of the entries of shared memory that *processes* have open or mapped."""
    paths = (Path(path) for process in processes for path in _paths_used_by(process))
    return {path.relative_to(SHARED_MEMORY).parts[0] for path in paths if SHARED_MEMORY in path.parents}


def _paths_in_use() -> Iterator[str]:
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8:
            yield fields[7]
    for process in psutil.process_iter():
        yield from _paths_used_by(process)


def _paths_used_by(process: psutil.Process) -> Iterator[str]:
    with contextlib.suppress(psutil.Error, OSError):
        folder = Path(f"/proc/{process.pid}")
        for entry in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield os.readlink(entry)
        for line in (folder / "maps").read_text().splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6:
                yield fields[5]
