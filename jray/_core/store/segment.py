"""Owns one segment file: its making, its checks, its mapping, and the reservation and return of its pages.

It does not know what lies where in it; that is the ledger's.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import threading
import weakref
from collections import deque
from typing import Any

PAGE_BYTES = mmap.PAGESIZE

#: madvise(2), Linux 5.14: map pages that exist without a fault for each; a fifth of the cost of faults.
_MADV_POPULATE_READ = 22
#: `mmap.madvise` holds the interpreter's lock; a step of this size takes about a millisecond.
_POPULATE_STEP_BYTES = 16 * 1024 * 1024
#: A copy holds the lock as well; between steps of this size other threads may run.
_COPY_STEP_BYTES = 8 * 1024 * 1024
_ZEROS_BYTES = 1024 * 1024
#: so many windows are remembered at least before those that are gone are looked for
_LEAST_WINDOWS = 256

Buffer = bytes | bytearray | memoryview


class SegmentError(OSError):
    """A segment file is not what its store made: missing, foreign, of the wrong size or kind."""


class Segment:
    """A mapped segment file.

    Offsets and sizes are in bytes.  Thread-safe, but for `close`, which must be the last call.
    """

    def __init__(self, path: str, fd: int, size: int) -> None:
        """Map the open file *fd*, which stays the caller's; use `create` or `open`."""
        self.path = path
        self.size = size
        self._map: mmap.mmap | None = mmap.mmap(fd, size)
        self._window_type: Any = None
        #: what was read, also what nobody looks at any more; added to without a lock, by an operation that is one
        self._windows: deque[weakref.ref[Any]] = deque()
        self._most_windows = _LEAST_WINDOWS
        self._windows_lock = threading.Lock()
        #: a byte for each page: 1 if this process has it in its page table
        self._populated: bytearray | None = None
        self._can_populate = hasattr(mmap.mmap, "madvise")
        self._fd = -1
        self._fd_lock = threading.Lock()

    @classmethod
    def create(cls, path: str, size: int) -> Segment:
        """Make the file, sparse and readable by this user alone.

        Raises:
            FileExistsError: there is a file already.
            OSError: the directory is gone, or the file system takes no file of that size.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(fd, size)
            return cls(path, fd, size)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(fd)

    @classmethod
    def open(cls, path: str, size: int) -> Segment:
        """Map the file that another process made.

        Raises:
            SegmentError: it is missing, not a plain file of *size* bytes, or not this user's alone.
        """
        fd = open_segment_file(path, size)
        try:
            return cls(path, fd, size)
        finally:
            os.close(fd)

    def reserve(self, offset: int, size: int) -> None:
        """Give the range its pages, so that writing it cannot fail; what is written there stays.

        Blocks for about 1 us a page.

        Raises:
            OSError: ENOSPC if the file system is full, where a plain write to the mapping would end the
                process by SIGBUS.
        """
        self._check(offset, size)
        fd = self._file()
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(fd, offset, size)
            except OSError as exc:
                if exc.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
            else:
                return
        # No such call here: writing the bytes does the same.  Only these bytes, for the neighbours on
        # the first and last page are others'.
        end = offset + size
        while offset < end:
            offset += os.pwrite(fd, bytes(min(_ZEROS_BYTES, end - offset)), offset)

    def write_reserved(self, offset: int, part: Buffer) -> None:
        """Copy *part* into pages just reserved, by write(2).

        Twice as fast there as the mapping: the system needs neither clear the pages first nor enter
        them in this process's page table.  Lets other threads run.
        """
        fd = self._file()
        with memoryview(part) as whole, whole.cast("B") as octets:
            self._check(offset, octets.nbytes)
            done = 0
            while done < octets.nbytes:
                done += os.pwrite(fd, octets[done:], offset + done)

    def write_touched(self, offset: int, part: Buffer) -> None:
        """Copy *part* into pages that exist, by the mapping: the speed of memcpy once they are populated."""
        with memoryview(part) as whole, whole.cast("B") as octets, self.view(offset, octets.nbytes) as target:
            if octets.nbytes <= _COPY_STEP_BYTES:
                target[:] = octets
                return
            for start in range(0, octets.nbytes, _COPY_STEP_BYTES):
                target[start : start + _COPY_STEP_BYTES] = octets[start : start + _COPY_STEP_BYTES]

    def populate(self, offset: int, size: int) -> None:
        """Enter existing pages in this process's page table, those it did not enter before.

        Costs 0.3 us a page, where writing would fault at 1.6 us a page.  Only a matter of speed: where
        the system cannot do it, nothing happens.
        """
        self._check(offset, size)
        first, last = offset // PAGE_BYTES, -(-(offset + size) // PAGE_BYTES)
        if self._populated is None:
            self._populated = bytearray(-(-self.size // PAGE_BYTES))
        if not self._can_populate or self._populated.find(0, first, last) < 0:
            return
        memory = self._mapped()
        start, end = first * PAGE_BYTES, min(last * PAGE_BYTES, self.size)
        try:
            while start < end:
                memory.madvise(_MADV_POPULATE_READ, start, min(_POPULATE_STEP_BYTES, end - start))
                start += _POPULATE_STEP_BYTES
        except OSError:
            self._can_populate = False  # an older kernel, EINVAL; the faults then come one by one
        else:
            self._populated[first:last] = b"\x01" * (last - first)

    def view(self, offset: int, size: int) -> memoryview:
        """Return the range, writable.  It keeps the mapping, but nothing else, alive."""
        self._check(offset, size)
        with memoryview(self._mapped()) as whole:
            return whole[offset : offset + size]

    def read(self, offset: int, size: int, keepalive: object) -> memoryview:
        """Return the range, read-only; *keepalive* lives as long as any view made of it.

        Views made of it are slices, casts, numpy arrays and pickle buffers, at any remove.
        """
        self._check(offset, size)
        if self._window_type is None:
            # Late, because it costs 5 ms of import and only processes that read stored objects need it.
            import ctypes  # noqa: PLC0415

            # One type per segment, however many sizes are read: ctypes makes and caches a class per length.
            self._window_type = ctypes.c_ubyte * self.size
        # A ctypes object exports a buffer and takes attributes; nothing in Python before 3.12 does both
        # without a copy.  Memoryviews and numpy arrays refer to the first exporter, so to *keepalive* too.
        window = self._window_type.from_buffer(self._mapped())
        window.keepalive = keepalive
        self._windows.append(weakref.ref(window))
        if len(self._windows) > self._most_windows:
            self._forget_windows()
        return memoryview(window)[offset : offset + size].toreadonly().cast("B")

    def keepalives(self) -> list[object]:
        """Return what `read` was given for each view that lives."""
        with self._windows_lock:
            windows = [window() for window in list(self._windows)]
        return [window.keepalive for window in windows if window is not None]

    def _forget_windows(self) -> None:
        """Drop those that are gone: as many as came since the last time, so that each read pays for one."""
        with self._windows_lock:
            for _ in range(len(self._windows)):
                window = self._windows.popleft()
                if window() is not None:
                    self._windows.append(window)
            self._most_windows = max(_LEAST_WINDOWS, 2 * len(self._windows))

    def punch(self, offset: int, size: int) -> bool:
        """Give whole pages back to the system, for all processes; tell whether it could.

        Their bytes are lost.  Blocks for about 0.5 us a page.
        """
        self._check(offset, size)
        try:
            self._mapped().madvise(mmap.MADV_REMOVE, offset, size)
        except (AttributeError, OSError):
            return False  # not Linux, or a file system without holes; the pages stay and are used again
        return True

    def unlink(self) -> None:
        """Remove the file's name; mappings stay.  Nothing happens if it is gone."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass

    def close(self) -> None:
        """Unmap, or leave that to the last view if there are any.  Closing twice is allowed."""
        with self._fd_lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
        memory, self._map = self._map, None
        if memory is not None:
            try:
                memory.close()
            except BufferError:
                pass  # views refer to the mapping; it ends with the last of them

    def _mapped(self) -> mmap.mmap:
        memory = self._map
        if memory is None:
            raise ValueError(f"segment {self.path} is closed")
        return memory

    def _file(self) -> int:
        # Only who writes fresh pages needs the file: readers of many segments spend no descriptors on it.
        if self._fd < 0:
            with self._fd_lock:
                if self._fd < 0:
                    self._mapped()
                    self._fd = open_segment_file(self.path, self.size)
        return self._fd

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ValueError(
                f"bytes {offset} to {offset + size} are outside of segment {self.path}, which has {self.size}"
            )


def open_segment_file(path: str, size: int) -> int:
    """Open a segment file for reading and writing, and make sure that it is one of this user."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as exc:
        raise SegmentError(
            exc.errno, f"the segment cannot be opened: {exc.strerror}; was its node shut down?", path
        ) from exc
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            fault = "it is not a plain file"
        elif status.st_uid != os.geteuid():
            fault = f"it belongs to user {status.st_uid}, not {os.geteuid()}"
        elif status.st_mode & 0o077:
            fault = f"its mode {stat.S_IMODE(status.st_mode):o} opens it to other users"
        elif status.st_size != size:
            fault = f"it has {status.st_size} bytes instead of {size}"
        else:
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    raise SegmentError(errno.EINVAL, f"the segment is refused, for {fault}; restart the session", path)
