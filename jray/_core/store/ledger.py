"""Owns the accounts of one node's store: which object has which bytes of which segment.

Pure: it touches no memory and no file.  What its decisions ask of the operating system (segments to
make, pages to give back) it returns, and its shell, `jray._core.store.arena.Store`, carries it out.

What shapes it is that writing a page for the first time costs ten times the copy into it:

- A block comes from pages that were written before, wherever one fits: best fit, the most recently freed
  first among equals.  Only then from free space of which a part was never written, and there from where
  the most was.
- Segments are sparse files, so address space costs nothing; pages do.  The capacity bounds live bytes
  and written pages, not the sizes of the segments.  Where free space has the bytes but not in one
  piece, scattered free pages are given back to the system and as many new ones are taken elsewhere, so
  fragmentation costs time on that one create, and never room.
- Blocks below `SMALL_BYTES` live in segments of their own, where they cannot cut up the space of large
  ones.  Large blocks consist of whole pages.

A page is FRESH (never written, or given back), PROMISED (given to a creator who has not sealed: perhaps
written) or TOUCHED.  A writer reserves the pages of its block first unless all of them are touched.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import NamedTuple

#: Blocks below this many bytes are kept apart from larger ones.
SMALL_BYTES = 256 * 1024
#: How many partly written free runs are compared for the one that needs the fewest fresh pages.
_COMPARED_RUNS = 16

_FRESH, _TOUCHED, _PROMISED = 0, 1, 2


class Block(NamedTuple):
    """Where an object's bytes go.  A tuple, because it crosses the wire as one."""

    segment: int
    offset: int  #: bytes from the segment's start, a multiple of the alignment
    size: int  #: bytes, as asked for
    is_fresh: bool  #: some page of it was perhaps never written: its writer reserves it first


class PageRange(NamedTuple):
    """Whole pages of a segment."""

    segment: int
    offset: int  #: bytes
    size: int  #: bytes


class Reclaim(NamedTuple):
    """What the shell does before it answers the request that caused it."""

    punch: tuple[PageRange, ...]  #: pages to give back to the system
    drop: tuple[int, ...]  #: segments to unlink afterwards; their numbers are never used again


class StoreFull(Exception):  # noqa: N818 -- an answer with numbers; the shell turns it into the public error
    """The store has no room for an object; `str` says it in bytes, the fields carry the numbers."""

    def __init__(self, *, needed: int, free: int, capacity: int, largest_free: int, objects: int) -> None:
        self.needed = needed
        self.free = free
        self.capacity = capacity
        #: no object larger than this can be stored now; below `free` where small live objects hold pages
        self.largest_free = largest_free
        self.objects = objects
        super().__init__(
            f"the store cannot hold {needed} more bytes: {free} of {capacity} are free, "
            f"{largest_free} of them usable for one object, and {objects} objects hold the rest"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class LedgerStatistics:
    """The store in numbers; all sizes in bytes."""

    capacity: int
    used: int  #: of live blocks, rounded up to the alignment or to pages
    touched: int  #: of pages that take memory or may, live and free
    objects: int  #: live blocks, also those replaced or freed whose writer is not done
    unsealed: int  #: blocks still being written
    largest_free: int  #: no larger object can be stored now
    largest_touched_free: int  #: no larger object can be stored without writing fresh pages
    free_runs: int
    segments: int
    address_space: int  #: sum of the sizes of the segments, which are sparse


class _Segment:
    __slots__ = ("ends", "index", "is_small", "pages", "size", "starts")

    def __init__(self, index: int, size: int, page_bytes: int, *, is_small: bool) -> None:
        self.index = index
        self.size = size
        self.is_small = is_small
        self.pages = bytearray(size // page_bytes)
        self.starts: dict[int, _Run] = {}
        self.ends: dict[int, _Run] = {}


class _Run:
    """A maximal stretch of free bytes."""

    __slots__ = ("is_touched", "offset", "segment", "size")

    def __init__(self, segment: _Segment, offset: int, size: int, *, is_touched: bool) -> None:
        self.segment = segment
        self.offset = offset
        self.size = size
        #: every page it overlaps is TOUCHED.  False may be out of date, True never is.
        self.is_touched = is_touched


class _Record:
    """One block and its story.  `older` is the block that a retried task's one replaced."""

    __slots__ = (
        "creator",
        "is_doomed",
        "is_sealed",
        "object_id",
        "offset",
        "older",
        "owner",
        "segment",
        "size",
        "wanted",
    )

    def __init__(
        self, object_id: bytes, segment: _Segment, offset: int, size: int, wanted: int, creator: int
    ) -> None:
        self.object_id = object_id
        self.segment = segment
        self.offset = offset
        self.size = size
        #: bytes as asked for; `size` is what the block takes
        self.wanted = wanted
        self.creator = creator
        #: whose death frees it; the creator until it is sealed
        self.owner = creator
        self.is_sealed = False
        #: freed or replaced while it is being written
        self.is_doomed = False
        self.older: _Record | None = None


class _SizeIndex:
    """Free runs by size; among equals the last one added comes first."""

    __slots__ = ("bins", "sizes")

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.bins: dict[int, dict[_Run, None]] = {}

    def add(self, run: _Run) -> None:
        bin_ = self.bins.get(run.size)
        if bin_ is None:
            self.bins[run.size] = {run: None}
            insort(self.sizes, run.size)
        else:
            bin_[run] = None

    def remove(self, run: _Run) -> None:
        bin_ = self.bins[run.size]
        del bin_[run]
        if not bin_:
            self._drop_bin(run.size)

    def take(self, size: int) -> _Run | None:
        """Remove and return the smallest run of at least *size* bytes."""
        at = bisect_left(self.sizes, size)
        if at == len(self.sizes):
            return None
        size = self.sizes[at]
        bin_ = self.bins[size]
        run, _ = bin_.popitem()
        if not bin_:
            del self.bins[size]
            del self.sizes[at]
        return run

    def _drop_bin(self, size: int) -> None:
        del self.bins[size]
        del self.sizes[bisect_left(self.sizes, size)]

    def at_least(self, size: int) -> Iterator[_Run]:
        """Yield the runs of at least *size* bytes, smallest first; the index must not change meanwhile."""
        for at in range(bisect_left(self.sizes, size), len(self.sizes)):
            yield from reversed(self.bins[self.sizes[at]])

    def largest_first(self) -> Iterator[_Run]:
        for size in reversed(self.sizes):
            yield from self.bins[size]

    def largest(self) -> int:
        return self.sizes[-1] if self.sizes else 0

    def __len__(self) -> int:
        return sum(map(len, self.bins.values()))


class _Zone:
    """The free runs of the small or of the large segments."""

    __slots__ = ("mixed", "touched")

    def __init__(self) -> None:
        self.touched = _SizeIndex()
        self.mixed = _SizeIndex()

    def index_of(self, run: _Run) -> _SizeIndex:
        return self.touched if run.is_touched else self.mixed


class Ledger:
    """Give out and take back the blocks of one store.

    Clients are numbers that are never used twice.  `segment_bytes` is the size of a segment; an object
    that is larger gets a segment of its own size.
    """

    def __init__(
        self, capacity_bytes: int, segment_bytes: int, alignment: int = 64, *, page_bytes: int = 4096
    ) -> None:
        if capacity_bytes <= 0 or segment_bytes <= 0:
            raise ValueError(
                f"a store needs a capacity and segments of at least one byte, "
                f"not {capacity_bytes} and {segment_bytes}"
            )
        if page_bytes % alignment:
            raise ValueError(f"the page size, {page_bytes}, must be a multiple of the alignment, {alignment}")
        self.capacity = capacity_bytes
        self.alignment = alignment
        self.page_bytes = page_bytes
        self._segment_bytes = _round_up(segment_bytes, page_bytes)
        self._segments: dict[int, _Segment] = {}
        self._next_segment = 0
        self._small = _Zone()
        self._large = _Zone()
        self._objects: dict[bytes, _Record] = {}
        self._held: dict[int, dict[_Record, None]] = {}
        # Kept for good, some 60 bytes each: a task may run long after its owner's death, then seal for it.
        self._dead: set[int] = set()
        self._blocks = 0
        self._used = 0
        self._committed_pages = 0
        self._to_punch: list[PageRange] = []
        self._to_drop: list[int] = []

    # -- objects ---------------------------------------------------------------------------------------------

    def create(self, object_id: bytes, size_bytes: int, creator: int) -> Block:
        """Give *creator* a block to write *size_bytes* into; follow with `take_reclaim`.

        An id that exists is replaced, for a retried task makes the same one again.  The older block
        goes at once if *creator* was writing it; when its own writer seals, aborts or dies if somebody
        else is; and with the next `free` of the id if it is sealed, because its owner may have views.

        Raises:
            StoreFull: nothing is changed, except that what *creator* was writing under this id is gone.
            ValueError: *size_bytes* is negative.
        """
        if size_bytes < 0:
            raise ValueError(f"an object cannot have {size_bytes} bytes")
        size = _round_up(size_bytes or 1, self.alignment)
        zone = self._small
        if size >= SMALL_BYTES:
            size = _round_up(size, self.page_bytes)
            zone = self._large
        older = self._objects.get(object_id)
        if older is not None:
            older = self._retire(object_id, creator)
        if size > self.capacity - self._used:
            raise self._full(size, self.capacity - self._used)

        run = zone.touched.take(size)
        if run is not None:
            segment, offset = run.segment, run.offset
            is_fresh = False
            del segment.starts[offset]
            if run.size == size:
                del segment.ends[offset + size]
            else:
                run.offset = offset + size
                run.size -= size
                segment.starts[run.offset] = run
                zone.touched.add(run)
        else:
            segment, offset, is_fresh = self._claim_mixed(zone, size)

        self._used += size
        self._blocks += 1
        record = _Record(object_id, segment, offset, size, size_bytes, creator)
        record.older = older
        self._objects[object_id] = record
        held = self._held.get(creator)
        if held is None:
            self._held[creator] = {record: None}
        else:
            held[record] = None
        return Block(segment.index, offset, size_bytes, is_fresh)

    def seal(self, object_id: bytes, owner: int, creator: int) -> bool:
        """Make the block that *creator* wrote visible and *owner*'s; tell whether it is.

        False if the object was freed in the meantime or *owner* is dead: its block is free now.  And
        if *creator* is not writing such a block, which a second seal or a race with its own death makes
        legal.
        """
        record = self._unsealed(object_id, creator)
        if record is None:
            return False
        if record.is_doomed or owner in self._dead:
            self._remove(record)
            return False
        segment = record.segment
        first, last = self._pages_of(record.offset, record.size)
        pages = segment.pages
        if pages.find(_PROMISED, first, last) >= 0:
            # Whoever got a block with such a page has reserved it before writing, and so has this one.
            pages[first:last] = b"\x01" * (last - first)
        if owner != creator:
            self._unhold(creator, record)
            self._held.setdefault(owner, {})[record] = None
        record.owner = owner
        record.is_sealed = True
        return True

    def abort(self, object_id: bytes, creator: int) -> None:
        """Take back the block that *creator* will not seal; ignored if there is none (it was released)."""
        record = self._unsealed(object_id, creator)
        if record is not None:
            self._remove(record)

    def free(self, object_id: bytes) -> None:
        """Free the object and the blocks it replaced: no client has a view of any.

        A block that is still being written is freed when its creator seals, aborts or dies.  An unknown
        id is ignored: the object's owner or creator may have died, which freed it, while this was on its way.
        """
        record = self._objects.get(object_id)
        while record is not None:
            older = record.older
            if record.is_sealed:
                self._remove(record)
            else:
                record.is_doomed = True
            record = older

    def evict(self, object_id: bytes, segment: int, offset: int) -> None:
        """Free that very block of the object, and no newer or older one; ignored if it is gone."""
        record = self._objects.get(object_id)
        while record is not None:
            if record.is_sealed and (record.segment.index, record.offset) == (segment, offset):
                self._remove(record)
                return
            record = record.older

    def release_client(self, client: int) -> list[bytes]:
        """Free what the dead *client* was writing and what it owned; return the ids, once per block.

        What others write for it is freed when they seal.  A client that held nothing is as good as any.
        """
        self._dead.add(client)
        released = []
        for record in list(self._held.get(client, ())):
            released.append(record.object_id)
            self._remove(record)
        return released

    def bequeath(self, client: int, heir: int) -> list[bytes]:
        """Free what the dead *client* was writing, and make what it owned *heir*'s; return the ids of the latter.

        For objects that others may still have views of: the heir frees them once nobody has.
        """
        self._dead.add(client)
        kept = []
        for record in list(self._held.get(client, ())):
            if not record.is_sealed:
                self._remove(record)
                continue
            self._unhold(client, record)
            self._held.setdefault(heir, {})[record] = None
            record.owner = heir
            kept.append(record.object_id)
        return kept

    def lookup(self, object_id: bytes) -> Block | None:
        """Return the newest sealed block of the object, or None."""
        record = self._objects.get(object_id)
        while record is not None:
            if record.is_sealed:
                return Block(record.segment.index, record.offset, record.wanted, is_fresh=False)
            record = record.older
        return None

    def owner_of(self, object_id: bytes) -> int:
        """Return the client whose death frees the object; 0: nobody's does."""
        record = self._objects.get(object_id)
        return 0 if record is None else record.owner

    def owners(self) -> list[int]:
        """Return the clients that own or write something here."""
        return [client for client, held in self._held.items() if held and client]

    # -- pages and segments ----------------------------------------------------------------------------------

    def segment_size(self, segment: int) -> int:
        """Return the size of a segment in bytes.  Raises KeyError if there is none of that number."""
        return self._segments[segment].size

    def take_reclaim(self) -> Reclaim | None:
        """Return, once, what the last `create` needs done before its block is written; usually None."""
        if not self._to_punch and not self._to_drop:
            return None
        reclaim = Reclaim(tuple(self._to_punch), tuple(self._to_drop))
        self._to_punch.clear()
        self._to_drop.clear()
        return reclaim

    def reclaimable(self, min_bytes: int) -> list[PageRange]:
        """Return the stretches of free pages of at least *min_bytes* that take memory."""
        ranges = []
        for run in self._runs():
            for first, last in self._committed_in(run):
                if (last - first) * self.page_bytes >= min_bytes:
                    ranges.append(self._range(run.segment, first, last))
        return sorted(ranges)

    def punched(self, ranges: Iterable[PageRange]) -> None:
        """Note that these ranges, just got from `reclaimable`, were given back: they are fresh again.

        Raises:
            ValueError: a range is not wholly free.
        """
        runs: dict[int, list[_Run]] = {}
        for segment, offset, size in ranges:
            if segment not in runs:
                starts = self._segments[segment].starts
                runs[segment] = [starts[start] for start in sorted(starts)]
            at = bisect_left(runs[segment], offset + 1, key=lambda run: run.offset) - 1
            run = runs[segment][at] if at >= 0 else None
            if run is None or run.offset > offset or run.offset + run.size < offset + size:
                raise ValueError(f"segment {segment} has live blocks in bytes {offset} to {offset + size}")
            self._mark_fresh(run, offset // self.page_bytes, (offset + size) // self.page_bytes)

    def drop_empty_segments(self) -> list[int]:
        """Forget the segments that have no block and take no memory; return them, to be unlinked."""
        dropped = []
        for segment in list(self._segments.values()):
            run = segment.starts.get(0)
            if run is not None and run.size == segment.size and not segment.pages.strip(b"\0"):
                self._drop(run)
                dropped.append(segment.index)
        return dropped

    @property
    def used(self) -> int:
        """Bytes of live blocks."""
        return self._used

    def statistics(self) -> LedgerStatistics:
        """Count; takes time in proportion to the free runs."""
        unsealed = sum(not record.is_sealed for held in self._held.values() for record in held)
        return LedgerStatistics(
            capacity=self.capacity,
            used=self._used,
            touched=self._committed_pages * self.page_bytes,
            objects=self._blocks,
            unsealed=unsealed,
            largest_free=self._largest_free(),
            largest_touched_free=max(self._small.touched.largest(), self._large.touched.largest()),
            free_runs=sum(1 for _ in self._runs()),
            segments=len(self._segments),
            address_space=sum(segment.size for segment in self._segments.values()),
        )

    # -- records ---------------------------------------------------------------------------------------------

    def _retire(self, object_id: bytes, creator: int) -> _Record | None:
        """Prepare the blocks of an id for a newer one; return the newest that stays."""
        record = self._objects.get(object_id)
        while record is not None:
            older = record.older
            if not record.is_sealed:
                if record.creator == creator:
                    self._remove(record)
                else:
                    record.is_doomed = True
            record = older
        return self._objects.get(object_id)

    def _unsealed(self, object_id: bytes, creator: int) -> _Record | None:
        record = self._objects.get(object_id)
        while record is not None and (record.is_sealed or record.creator != creator):
            record = record.older
        return record

    def _unhold(self, client: int, record: _Record) -> None:
        held = self._held[client]
        del held[record]
        if not held:
            del self._held[client]

    def _remove(self, record: _Record) -> None:
        """Take a record out of the accounts and make its bytes free."""
        newest = self._objects[record.object_id]
        if newest is record:
            if record.older is None:
                del self._objects[record.object_id]
            else:
                self._objects[record.object_id] = record.older
        else:
            while newest.older is not record:
                assert newest.older is not None
                newest = newest.older
            newest.older = record.older
        self._unhold(record.owner, record)
        self._used -= record.size
        self._blocks -= 1
        # A sealed block's pages are all touched, and stay so as long as it lives.
        is_touched = record.is_sealed or self._is_touched(record.segment, record.offset, record.size)
        self._release(record.segment, record.offset, record.size, is_touched=is_touched)

    # -- free space ------------------------------------------------------------------------------------------

    def _release(self, segment: _Segment, offset: int, size: int, *, is_touched: bool) -> None:
        """Make bytes a free run, joined with its free neighbours."""
        zone = self._small if segment.is_small else self._large
        left = segment.ends.pop(offset, None)
        right = segment.starts.pop(offset + size, None)
        if right is not None:
            zone.index_of(right).remove(right)
            size += right.size
            is_touched = is_touched and right.is_touched
        if left is not None:
            zone.index_of(left).remove(left)
            left.size += size
            left.is_touched = is_touched and left.is_touched
            run = left
        elif right is not None:
            right.offset, right.size, right.is_touched = offset, size, is_touched
            segment.starts[offset] = run = right
        else:
            segment.starts[offset] = run = _Run(segment, offset, size, is_touched=is_touched)
        segment.ends[run.offset + run.size] = run
        zone.index_of(run).add(run)

    def _claim_mixed(self, zone: _Zone, size: int) -> tuple[_Segment, int, bool]:
        """Take *size* bytes from a run of which not all pages are touched, or from a new segment."""
        run, offset, fresh = self._choose_mixed(zone, size)
        if run is None:
            run = self._add_segment(size, is_small=zone is self._small)
            fresh = self._pages_of(0, size)[1]
        segment = run.segment
        self._carve(zone, run, offset, size)
        if not fresh:
            return segment, offset, not self._is_touched(segment, offset, size)

        excess = self._committed_pages + fresh - self.capacity // self.page_bytes
        if excess > 0:
            victims = self._find_reclaimable(excess)
            if victims is None:
                self._release(segment, offset, size, is_touched=False)
                raise self._full(size, self._largest_free())
            for victim, ranges in victims:
                self._reclaim(victim, ranges)
        first, last = self._pages_of(offset, size)
        segment.pages[first:last] = segment.pages[first:last].replace(b"\0", b"\x02")
        self._committed_pages += fresh
        return segment, offset, True

    def _choose_mixed(self, zone: _Zone, size: int) -> tuple[_Run | None, int, int]:
        """Return the run and the place at one of its ends that need the fewest fresh pages, and how many."""
        best: _Run | None = None
        best_offset = best_fresh = 0
        for run in itertools.islice(zone.mixed.at_least(size), _COMPARED_RUNS):
            for offset in (run.offset, run.offset + run.size - size):
                first, last = self._pages_of(offset, size)
                # `find` runs at the speed of memory and mostly settles it; `count` does not.
                at = run.segment.pages.find(_FRESH, first, last)
                if at < 0:
                    return run, offset, 0
                fresh = run.segment.pages.count(_FRESH, at, last)
                if best is None or fresh < best_fresh:
                    best, best_offset, best_fresh = run, offset, fresh
        return best, best_offset, best_fresh

    def _carve(self, zone: _Zone, run: _Run, offset: int, size: int) -> None:
        """Cut bytes at one end out of a mixed run; what is left of it stays free."""
        zone.mixed.remove(run)
        segment = run.segment
        if offset == run.offset:
            del segment.starts[offset]
            run.offset += size
            run.size -= size
            if not run.size:
                del segment.ends[run.offset]
                return
            segment.starts[run.offset] = run
        else:
            del segment.ends[run.offset + run.size]
            run.size -= size
            segment.ends[offset] = run
        run.is_touched = self._is_touched(segment, run.offset, run.size)
        zone.index_of(run).add(run)

    def _add_segment(self, size: int, *, is_small: bool) -> _Run:
        segment = _Segment(
            self._next_segment,
            max(self._segment_bytes, _round_up(size, self.page_bytes)),
            self.page_bytes,
            is_small=is_small,
        )
        self._next_segment += 1
        self._segments[segment.index] = segment
        self._release(segment, 0, segment.size, is_touched=False)
        return segment.starts[0]

    def _drop(self, run: _Run) -> None:
        """Forget the segment that *run* is the whole of."""
        zone = self._small if run.segment.is_small else self._large
        zone.index_of(run).remove(run)
        del self._segments[run.segment.index]

    def _find_reclaimable(self, pages: int) -> list[tuple[_Run, list[tuple[int, int]]]] | None:
        """Choose that many free pages that take memory, in the longest runs first; None if there are fewer.

        Longest first makes the fewest system calls, and no touched run was long enough for the
        request anyway.
        """
        found = []
        for run in heapq.merge(
            *(index.largest_first() for index in self._indexes()), key=lambda run: run.size, reverse=True
        ):
            ranges = []
            for start, last in reversed(self._committed_in(run)):
                first = max(start, last - pages)
                ranges.append((first, last))
                pages -= last - first
                if not pages:
                    break
            if ranges:
                found.append((run, ranges))
            if not pages:
                return found
        return None

    def _reclaim(self, run: _Run, ranges: list[tuple[int, int]]) -> None:
        segment = run.segment
        for first, last in ranges:
            self._mark_fresh(run, first, last)
            self._to_punch.append(self._range(segment, first, last))
        if segment.size > self._segment_bytes and run.size == segment.size and not segment.pages.strip(b"\0"):
            self._drop(run)
            self._to_drop.append(segment.index)

    def _mark_fresh(self, run: _Run, first: int, last: int) -> None:
        pages = run.segment.pages
        self._committed_pages -= (last - first) - pages.count(_FRESH, first, last)
        pages[first:last] = bytes(last - first)
        if run.is_touched:
            zone = self._small if run.segment.is_small else self._large
            zone.touched.remove(run)
            run.is_touched = False
            zone.mixed.add(run)

    def _committed_in(self, run: _Run) -> list[tuple[int, int]]:
        """Return the stretches of pages wholly inside a run that take memory."""
        first = -(-run.offset // self.page_bytes)
        last = (run.offset + run.size) // self.page_bytes
        find = run.segment.pages.find
        ranges: list[tuple[int, int]] = []
        touched = promised = first - 1
        while True:
            # Three `find`s a stretch, each at the speed of memory: 30 times faster than a regular expression.
            if touched < first:
                touched = _or_end(find(_TOUCHED, first, last), last)
            if promised < first:
                promised = _or_end(find(_PROMISED, first, last), last)
            start = min(touched, promised)
            if start >= last:
                return ranges
            first = _or_end(find(_FRESH, start, last), last)
            ranges.append((start, first))

    def _is_touched(self, segment: _Segment, offset: int, size: int) -> bool:
        first, last = self._pages_of(offset, size)
        pages = segment.pages
        return pages.find(_FRESH, first, last) < 0 and pages.find(_PROMISED, first, last) < 0

    def _pages_of(self, offset: int, size: int) -> tuple[int, int]:
        return offset // self.page_bytes, -(-(offset + size) // self.page_bytes)

    def _range(self, segment: _Segment, first: int, last: int) -> PageRange:
        return PageRange(segment.index, first * self.page_bytes, (last - first) * self.page_bytes)

    def _indexes(self) -> tuple[_SizeIndex, ...]:
        return self._small.touched, self._small.mixed, self._large.touched, self._large.mixed

    def _runs(self) -> Iterator[_Run]:
        for index in self._indexes():
            yield from index.largest_first()

    def _largest_free(self) -> int:
        reclaimable = sum(last - first for run in self._runs() for first, last in self._committed_in(run))
        pages = self.capacity // self.page_bytes - self._committed_pages + reclaimable
        return max(0, min(self.capacity - self._used, pages * self.page_bytes))

    def _full(self, needed: int, largest_free: int) -> StoreFull:
        return StoreFull(
            needed=needed,
            free=self.capacity - self._used,
            capacity=self.capacity,
            largest_free=largest_free,
            objects=self._blocks,
        )

    # -- checks ----------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Assert that blocks and free runs tile every segment and that all accounts agree (for tests)."""
        spans: dict[int, list[tuple[int, int, bool]]] = {index: [] for index in self._segments}
        used = blocks = 0
        for object_id, newest in self._objects.items():
            record: _Record | None = newest
            writers = set()
            while record is not None:
                assert record.object_id == object_id
                assert record.segment is self._segments[record.segment.index]
                assert record in self._held[record.owner]
                assert record.segment.is_small == (record.size < SMALL_BYTES)
                assert record.offset % self.alignment == 0
                if not record.is_sealed:
                    assert record.creator not in writers
                    writers.add(record.creator)
                else:
                    assert self._is_touched(record.segment, record.offset, record.size)
                spans[record.segment.index].append((record.offset, record.offset + record.size, False))
                used += record.size
                blocks += 1
                record = record.older
        assert (used, blocks) == (self._used, self._blocks)
        assert sum(map(len, self._held.values())) == blocks
        assert all(self._held.values())
        for segment in self._segments.values():
            for offset, run in segment.starts.items():
                assert (run.segment, run.offset) == (segment, offset)
                assert segment.ends[offset + run.size] is run
                zone = self._small if segment.is_small else self._large
                assert run in zone.index_of(run).bins[run.size]
                assert not run.is_touched or self._is_touched(segment, run.offset, run.size)
                spans[segment.index].append((offset, offset + run.size, True))
            assert len(segment.starts) == len(segment.ends)
            position, was_free = 0, False
            for start, stop, is_free in sorted(spans[segment.index]):
                assert start == position, f"segment {segment.index}: bytes {position} to {start}"
                assert not (was_free and is_free), f"segment {segment.index}: two free runs meet at {start}"
                position, was_free = stop, is_free
            assert position == segment.size
        for index in self._indexes():
            assert index.sizes == sorted(index.bins)
            assert all(index.bins.values())
        assert sum(map(len, self._indexes())) == sum(len(s.starts) for s in self._segments.values())
        committed = sum(len(s.pages) - s.pages.count(_FRESH) for s in self._segments.values())
        assert committed == self._committed_pages
        assert self._used <= self.capacity
        assert committed * self.page_bytes <= self.capacity


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _or_end(found: int, end: int) -> int:
    return end if found < 0 else found
