"""Owns the files that objects of a full store go to: written in one go, read by mapping, removed with their objects.

A file holds the objects of one round, each from the start of a page, so that a reader maps just the bytes it wants.
What a reader has mapped stays good after the file is gone.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import NamedTuple

from jray._core.store.segment import open_segment_file
from jray._core.store.sweep import SessionLock, claim

_PREFIX = "spill-"
#: part of a file system that is left free (Ray's figure)
_LEFT_FREE = 0.05


class Place(NamedTuple):
    """Where a spilled object is."""

    file: int
    offset: int  #: a multiple of the page size
    size: int  #: bytes


class DiskFull(OSError):  # noqa: N818 -- names the state, like StoreFull
    """A file system has too little room for what is to be spilled to it.  All sizes in bytes."""

    def __init__(self, path: str, needed: int, free: int, capacity: int) -> None:
        super().__init__(f"{needed} bytes for {path}, whose file system has {free} of {capacity} free")
        self.numbers = {"path": path, "needed_bytes": needed, "free_bytes": free, "capacity_bytes": capacity}


def spill_path(directory: str, file: int) -> str:
    return os.path.join(directory, f"{_PREFIX}{file}")


def layout(file: int, sizes: Sequence[int]) -> list[Place]:
    """Return where objects of these sizes go in a file."""
    places = []
    offset = 0
    for size in sizes:
        places.append(Place(file, offset, size))
        offset += -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
    return places


def write_file(directory: str, places: Sequence[Place], sources: Sequence[tuple[str, int, int]]) -> None:
    """Copy stretches of segments, (path, segment's size, offset) each, to a new file.  Blocks; no lock is needed.

    Raises:
        DiskFull: the file system has too little room; nothing is left of the file.
        OSError: it cannot be written; likewise.
    """
    file = places[0].file
    path = spill_path(directory, file)
    _check_room(directory, sum(place.size for place in places))
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    opened: dict[str, int] = {}
    try:
        for place, (source, source_size, start) in zip(places, sources, strict=True):
            fd = opened.get(source)
            if fd is None:
                fd = opened[source] = open_segment_file(source, source_size)
            os.lseek(target, place.offset, os.SEEK_SET)
            position, left = start, place.size
            while left:
                # 0: the segment ends here, and nobody will take such a copy
                sent = os.sendfile(target, fd, position, left) or left
                position += sent
                left -= sent
        # the last page in full: a mapping may not reach beyond the end
        last = places[-1]
        os.ftruncate(target, last.offset + max(1, last.size))
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(target)
        for fd in opened.values():
            os.close(fd)


def read_spilled(directory: str, file: int, offset: int, size: int) -> memoryview:
    """Return the bytes of a spilled object, read-only and not copied: pages come from the disk when they are touched.

    Raises:
        OSError: the file is gone, or somebody else's.
    """
    if not size:
        return memoryview(b"")
    fd = os.open(spill_path(directory, file), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            raise PermissionError(f"{spill_path(directory, file)} belongs to another user")
        mapped = mmap.mmap(fd, size, access=mmap.ACCESS_READ, offset=offset)
    finally:
        os.close(fd)
    return memoryview(mapped)


class SpillFiles:
    """Which objects are in which file; a file goes with its last object.  For one thread."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        #: the directory, once something was spilled
        self._claimed: SessionLock | None = None
        self._last = 0
        #: object -> its place and its owner
        self._objects: dict[bytes, tuple[Place, int]] = {}
        #: file -> how many objects in it may still be read
        self._needed: dict[int, int] = {}
        #: bytes that live objects have in files
        self.used = 0
        #: bytes written since the start
        self.written = 0

    def __len__(self) -> int:
        return len(self._objects)

    def make_directory(self) -> None:
        """Make the directory, if there is none yet.  Raises OSError if that cannot be.  May be called by any thread."""
        if self._claimed is None:
            self._claimed = claim(self.directory)

    def close(self) -> None:
        """Remove all files and their directory."""
        if self._claimed is not None:
            self._claimed.remove()
            self._claimed = None

    def new_file(self) -> int:
        self._last += 1
        return self._last

    def written_file(self, places: Sequence[Place]) -> None:
        """A file was written; each of its places is to be `keep`-ed or `drop`-ped once."""
        self._needed[places[0].file] = len(places)
        self.written += sum(place.size for place in places)

    def keep(self, object_id: bytes, place: Place, owner: int) -> None:
        """The object is there now."""
        self.free(object_id)  # the same, made again by a retried task
        self._objects[object_id] = (place, owner)
        self.used += place.size

    def find(self, object_id: bytes) -> tuple[Place, int] | None:
        """Return where the object is, and its owner."""
        return self._objects.get(object_id)

    def drop(self, place: Place) -> None:
        """Nobody will read that place."""
        self._needed[place.file] -= 1
        if not self._needed[place.file]:
            del self._needed[place.file]
            try:
                os.unlink(spill_path(self.directory, place.file))
            except FileNotFoundError:
                pass  # the directory was cleared by somebody

    def free(self, object_id: bytes) -> None:
        """Free an object; unknown ones are ignored."""
        found = self._objects.pop(object_id, None)
        if found is not None:
            self.used -= found[0].size
            self.drop(found[0])

    def release_client(self, client: int) -> None:
        """Free what a dead client owned; who has it mapped can go on."""
        for object_id in [object_id for object_id, (_, owner) in self._objects.items() if owner == client]:
            self.free(object_id)


def _check_room(directory: str, size: int) -> None:
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    left = int(status.f_blocks * status.f_frsize * _LEFT_FREE)
    if size > free - left:
        raise DiskFull(directory, size, max(0, free - left), status.f_blocks * status.f_frsize)
