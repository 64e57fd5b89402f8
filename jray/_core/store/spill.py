"""Owns the files that objects of a full store go to: written in one go, read by mapping, removed with their objects.

A file holds the objects of one round, each from the start of a page, so that a reader maps just the bytes it wants.
What a reader has mapped stays good after the file is gone.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence
from typing import NamedTuple

from jray._core.store.segment import Segment
from jray._core.store.sweep import SessionLock, claim

_PREFIX = "spill-"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
#: the writing thread may be asked to stop, by the interpreter's end, between steps of this size
_STEP_BYTES = 4 * 1024 * 1024
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


def write_file(directory: str, places: Sequence[Place], sources: Sequence[tuple[Segment, int]]) -> None:
    """Copy stretches of segments, each from its offset, to a new file.  Blocks; no lock is needed.

    What is freed meanwhile is copied in whatever state it is: nobody will take such a copy.

    Raises:
        DiskFull: the file system has too little room; nothing is left of the file.
        OSError: it cannot be written; likewise.
        ValueError: a segment is closed.
    """
    path = spill_path(directory, places[0].file)
    last = places[-1]
    # the last page in full: a mapping may not reach beyond the end
    size = last.offset + max(1, last.size)
    _check_room(directory, size)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _reserve(target, size)
        os.ftruncate(target, size)
        for place, (segment, start) in zip(places, sources, strict=True):
            for done in range(0, place.size, _STEP_BYTES):
                step = min(_STEP_BYTES, place.size - done)
                # By write(2) from the mapping, and not by sendfile(2), which does it page by page: that took twice as
                # long, and left a file of which each page is read by itself.
                segment.populate(start + done, step)
                with segment.view(start + done, step) as part:
                    written = 0
                    while written < step:
                        written += os.pwrite(target, part[written:], place.offset + done + written)
    except BaseException as error:
        os.unlink(path)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:  # others were faster
            raise _disk_full(directory, size) from error
        raise
    finally:
        os.close(target)


def _reserve(fd: int, size: int) -> None:
    """Have the file system find all of the blocks at once, where it can: a third less work than one by one."""
    import ctypes  # noqa: PLC0415 -- 5 ms, which every client would pay

    libc = ctypes.CDLL(None, use_errno=True)
    # Not `os.posix_fallocate`, which writes to each block where the file system knows no better.
    try:
        failed = libc.fallocate(fd, 0, ctypes.c_longlong(0), ctypes.c_longlong(size))
    except AttributeError:  # not Linux
        return
    if failed and ctypes.get_errno() in _NO_ROOM:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


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
    if size > free - int(status.f_blocks * status.f_frsize * _LEFT_FREE):
        raise _disk_full(directory, size)


def _disk_full(directory: str, size: int) -> DiskFull:
    status = os.statvfs(directory)
    capacity = status.f_blocks * status.f_frsize
    free = status.f_bavail * status.f_frsize - int(capacity * _LEFT_FREE)
    return DiskFull(directory, size, max(0, free), capacity)
