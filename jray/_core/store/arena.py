"""Owns the way to a node's stored bytes: `ArenaView` in every client, `Store` in the node that keeps them.

Files are named after their segment's number and size, so that a client needs nothing but the directory
and can tell a truncated file.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Sequence

from jray._core.store.ledger import Block, Ledger, StoreFull
from jray._core.store.segment import PAGE_BYTES, Buffer, Segment, SegmentError
from jray._core.store.spill import read_spilled

__all__ = ["ArenaView", "Buffer", "Store", "StoreFull"]

#: Processes map each segment; this many keep descriptors and mappings far from their limits.
_MOST_SEGMENTS = 64

_PREFIX = "segment-"


class ArenaView:
    """One process's view of a node's segments, each mapped when it is first needed.  Thread-safe."""

    def __init__(self, directory: str, spill_directory: str = "") -> None:
        self.directory = directory
        self._spill_directory = spill_directory
        self._segments: dict[int, Segment] = {}
        self._lock = threading.Lock()

    def write(self, block: Block, parts: Sequence[tuple[int, Buffer]]) -> None:
        """Copy each part to its offset in the block; the bytes between parts are undefined.

        Parts are contiguous buffers.  The block is nobody's to read before it is sealed, so whatever
        is raised here, also an interrupt, is answered by aborting it.

        Raises:
            OSError: the pages of a fresh block cannot be had (ENOSPC).
            SegmentError: the segment's file is not what its node made.
            ValueError: a part does not fit into the block.
        """
        index, start, size, is_fresh = block
        segment = self._segments.get(index) or self._map(index)
        for offset, part in parts:
            length = part.nbytes if isinstance(part, memoryview) else len(part)
            if offset < 0 or offset + length > size:
                raise ValueError(
                    f"a part of {length} bytes at {offset} is outside of a block of {size} bytes"
                )
        if is_fresh:
            segment.reserve(start, size or 1)
            copy = segment.write_reserved
        else:
            segment.populate(start, size)
            copy = segment.write_touched
        for offset, part in parts:
            copy(start + offset, part)

    def read(self, segment: int, offset: int, size: int, keepalive: object) -> memoryview:
        """Return stored bytes, read-only and not copied.

        *keepalive* is referred to until the last view of these bytes is gone, also numpy arrays and
        what was unpickled around them; then it is let go in whatever thread that happens.  A negative *segment*
        is a file of spilled objects: what is mapped of it stays good by itself.

        Raises:
            OSError: the object is not there any more.
        """
        if segment < 0:
            return read_spilled(self._spill_directory, -segment, offset, size)
        mapped = self._segments.get(segment) or self._map(segment)
        return mapped.read(offset, size, keepalive)

    def viewed(self) -> set[int]:
        """Return the `id` of each keepalive that some living view refers to.  Looks at all objects of the process."""
        types = {segment.window_type for segment in list(self._segments.values())} - {None}
        # a window may have been made a moment ago and have no keepalive yet
        return (
            {id(getattr(found, "keepalive", None)) for found in gc.get_objects() if type(found) in types}
            if types
            else set()
        )

    def forget(self, segment: int) -> None:
        """Unmap a segment that the node dropped, when its last view is gone; unknown ones are ignored."""
        with self._lock:
            mapped = self._segments.pop(segment, None)
        if mapped is not None:
            mapped.close()

    def close(self) -> None:
        """Unmap everything; views that live stay good."""
        with self._lock:
            segments = list(self._segments.values())
            self._segments.clear()
        for segment in segments:
            segment.close()

    def _map(self, index: int) -> Segment:
        with self._lock:
            segment = self._segments.get(index)
            if segment is not None:
                return segment
            sizes = _segment_files(self.directory)
            if index not in sizes:
                raise SegmentError(
                    f"segment {index} is not in {self.directory}: the object was freed, or its node shut down"
                )
            # What the node dropped has no file any more.  Segments are few and new ones rare, so this
            # is the time to look.
            for old in [old for old in self._segments if old not in sizes]:
                self._segments.pop(old).close()
            segment = Segment.open(_segment_path(self.directory, index, sizes[index]), sizes[index])
            self._segments[index] = segment
            return segment


class Store:
    """The node's side: a ledger, and the files that it decides on.  For one thread.

    Seals, frees and the rest go to `ledger` directly; `create` and `trim` have work to do on files.
    The directory must exist, be the session's own and hold no segments.
    """

    def __init__(self, directory: str, capacity_bytes: int, segment_bytes: int) -> None:
        self.directory = directory
        # Sparse files of any size cost the same, so a large store gets larger ones rather than more.
        segment_bytes = max(segment_bytes, capacity_bytes // _MOST_SEGMENTS)
        self.ledger = Ledger(capacity_bytes, segment_bytes, page_bytes=PAGE_BYTES)
        self._files: dict[int, Segment] = {}

    def create(self, object_id: bytes, size_bytes: int, creator: int) -> Block:
        """Give *creator* a block whose file exists.

        Raises:
            StoreFull: there is no room.
            OSError: a new segment's file cannot be made; the accounts are as before.
        """
        block = self.ledger.create(object_id, size_bytes, creator)
        reclaim = self.ledger.take_reclaim()
        if reclaim is not None:
            for segment, offset, size in reclaim.punch:
                self._punch(segment, offset, size)
            for segment in reclaim.drop:
                self._drop(segment)
        if block.segment not in self._files:
            size = self.ledger.segment_size(block.segment)
            try:
                path = _segment_path(self.directory, block.segment, size)
                self._files[block.segment] = Segment.create(path, size)
            except BaseException:
                self.ledger.abort(object_id, creator)
                raise
        return block

    def segment(self, segment: int) -> Segment:
        """Return a segment, for writing into a block of it.  Raises KeyError if there is none of that number."""
        return self._files[segment]

    def file_of(self, segment: int) -> tuple[str, int]:
        """Return the path and the size of a segment's file.  Raises KeyError if there is none of that number."""
        size = self._files[segment].size
        return _segment_path(self.directory, segment, size), size

    def trim(self, min_bytes: int = 1024 * 1024) -> int:
        """Give memory of free blocks back to the system; return the bytes.  For idle times: blocks.

        Only stretches of *min_bytes* and more; writing there again costs ten times the copy.
        """
        ranges = [part for part in self.ledger.reclaimable(min_bytes) if self._punch(*part)]
        self.ledger.punched(ranges)
        for segment in self.ledger.drop_empty_segments():
            self._drop(segment)
        return sum(part.size for part in ranges)

    def close(self) -> None:
        """Unlink every segment; mappings of clients stay good."""
        for segment in list(self._files):
            self._drop(segment)

    def _punch(self, segment: int, offset: int, size: int) -> bool:
        file = self._files.get(segment)
        return file is not None and file.punch(offset, size)

    def _drop(self, segment: int) -> None:
        file = self._files.pop(segment, None)
        if file is not None:
            file.unlink()
            file.close()


def _segment_path(directory: str, index: int, size: int) -> str:
    return os.path.join(directory, f"{_PREFIX}{index}-{size}")


def _segment_files(directory: str) -> dict[int, int]:
    """Return the sizes of the segments in a directory by their numbers; none if it is gone."""
    sizes = {}
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return {}
    for name in names:
        index, _, size = name.removeprefix(_PREFIX).partition("-")
        if name.startswith(_PREFIX) and index.isdecimal() and size.isdecimal():
            sizes[int(index)] = int(size)
    return sizes
