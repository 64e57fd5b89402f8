"""Segment files: what is refused, what is reserved, and how long their mappings live."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from jray._core.store.segment import PAGE_BYTES, Segment, SegmentError

MIB = 1024 * 1024


class Keepalive:
    """Something a weak reference can watch."""


def allocated(path: str) -> int:
    return os.stat(path).st_blocks * 512


def test_a_new_segment_is_private_sparse_and_of_its_size(shm_dir: str) -> None:
    """A segment takes no memory before it is written, and other users cannot open it."""
    path = f"{shm_dir}/s"
    segment = Segment.create(path, 256 * MIB)
    status = os.stat(path)
    assert status.st_mode & 0o777 == 0o600
    assert status.st_size == 256 * MIB
    assert allocated(path) == 0
    assert not os.get_inheritable(segment._file())
    segment.close()


def test_what_one_mapping_writes_another_reads(shm_dir: str) -> None:
    """Both ways of writing, and of offsets that are no multiple of anything, reach the same bytes."""
    path = f"{shm_dir}/s"
    writer, reader = Segment.create(path, MIB), Segment.open(path, MIB)
    writer.reserve(0, 10_000)
    writer.write_reserved(3, b"reserved")
    writer.populate(5000, 5000)
    writer.write_touched(5003, memoryview(b"touched"))
    writer.write_touched(9000, memoryview(bytes(range(8))).cast("I"))
    assert bytes(reader.read(3, 8, None)) == b"reserved"
    assert bytes(reader.read(5003, 7, None)) == b"touched"
    assert bytes(reader.read(9000, 8, None)) == bytes(range(8))
    assert bytes(reader.read(9500, 100, None)) == bytes(100)
    assert bytes(reader.read(MIB, 0, None)) == b""
    writer.close()
    reader.close()


def test_large_copies_arrive_whole(shm_dir: str) -> None:
    """Copies longer than one step are complete."""
    size = 20 * MIB + 5
    data = os.urandom(MIB) * 21
    segment = Segment.create(f"{shm_dir}/s", 64 * MIB)
    segment.reserve(64, size)
    segment.write_reserved(64, memoryview(data)[:size])
    assert segment.read(64, size, None) == data[:size]
    segment.populate(64, size)
    segment.write_touched(64, memoryview(data)[5 : size + 5])
    assert segment.read(64, size, None) == data[5 : size + 5]
    segment.close()


def test_reserving_keeps_what_is_there_and_punching_does_not(shm_dir: str) -> None:
    """`reserve` gives a range its pages once; `punch` takes them from all processes."""
    path = f"{shm_dir}/s"
    segment = Segment.create(path, MIB)
    segment.reserve(100, PAGE_BYTES)
    assert allocated(path) == 2 * PAGE_BYTES
    segment.write_reserved(100, b"kept")
    segment.reserve(0, 8 * PAGE_BYTES)
    assert bytes(segment.read(100, 4, None)) == b"kept"
    assert allocated(path) == 8 * PAGE_BYTES
    if segment.punch(0, 4 * PAGE_BYTES):
        assert allocated(path) == 4 * PAGE_BYTES
        assert bytes(segment.read(100, 4, None)) == bytes(4)
    segment.close()


def test_reserving_works_without_the_system_call(shm_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `posix_fallocate` is missing or refused, the range is written instead, and only the range."""
    path = f"{shm_dir}/s"
    segment = Segment.create(path, 4 * MIB)
    segment.reserve(0, PAGE_BYTES)
    segment.write_reserved(0, b"\xff" * PAGE_BYTES)

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    segment.reserve(100, 2 * PAGE_BYTES)
    assert bytes(segment.read(99, 2, None)) == b"\xff\0"
    assert allocated(path) == 3 * PAGE_BYTES
    monkeypatch.delattr(os, "posix_fallocate")
    segment.reserve(MIB, 2 * MIB)
    assert allocated(path) == 3 * PAGE_BYTES + 2 * MIB
    segment.close()


def test_populating_is_optional(shm_dir: str) -> None:
    """A kernel that refuses to populate pages costs speed and nothing else."""
    segment = Segment.create(f"{shm_dir}/s", MIB)
    segment.reserve(0, MIB)
    segment._can_populate = False
    segment.populate(0, MIB)
    segment.write_touched(0, b"x")
    assert bytes(segment.read(0, 1, None)) == b"x"
    segment.close()


def test_a_full_file_system_is_an_error_and_no_signal(small_shm: str) -> None:
    """Reserving more than there is raises ENOSPC, in a process that lives to catch it."""
    segment = Segment.create(f"{small_shm}/s", 256 * MIB)
    segment.reserve(0, 32 * MIB)
    with pytest.raises(OSError, match="No space left") as info:
        segment.reserve(32 * MIB, 100 * MIB)
    assert info.value.errno == errno.ENOSPC
    segment.reserve(32 * MIB, 16 * MIB)
    segment.close()


def test_existing_files_are_not_taken_over(shm_dir: str) -> None:
    """`create` makes a new file or none."""
    path = f"{shm_dir}/s"
    Path(path).write_bytes(b"somebody's")
    with pytest.raises(FileExistsError):
        Segment.create(path, MIB)
    assert Path(path).read_bytes() == b"somebody's"


def make_short(path: Path) -> None:
    path.write_bytes(b"x" * 5)
    path.chmod(0o600)


def make_open(path: Path) -> None:
    path.write_bytes(bytes(MIB))
    path.chmod(0o644)


def make_link(path: Path) -> None:
    target = path.with_name("target")
    target.write_bytes(bytes(MIB))
    path.symlink_to(target)


def make_foreign(path: Path) -> None:
    path.write_bytes(bytes(MIB))
    path.chmod(0o600)
    try:
        os.chown(path, os.geteuid() + 1, -1)
    except PermissionError:
        pytest.skip("only root can give a file away")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "No such file or directory; was its node shut down"),
        (make_short, f"it has 5 bytes instead of {MIB}"),
        (make_open, "its mode 644 opens it to other users"),
        (make_link, "cannot be opened: Too many levels of symbolic links"),
        (make_foreign, r"it belongs to user \d+, not \d+"),
        (lambda path: os.mkfifo(path, 0o600), "it is not a plain file"),
    ],
)
def test_foreign_and_corrupt_files_are_refused(
    shm_dir: str, make: Callable[[Path], None], message: str
) -> None:
    """A file that its store did not make is not mapped, and the error says why and which."""
    path = Path(shm_dir, "s")
    make(path)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SegmentError, match=message) as info:
        Segment.open(str(path), MIB)
    assert info.value.filename == str(path)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_ranges_outside_are_refused(shm_dir: str) -> None:
    """No method reaches beyond the file, where access would end the process."""
    segment = Segment.create(f"{shm_dir}/s", MIB)
    for offset, size in ((-1, 5), (0, MIB + 1), (MIB, 1), (5, -1)):
        for call in (segment.reserve, segment.populate, segment.view, segment.punch):
            with pytest.raises(ValueError, match=f"bytes {offset} to {offset + size} are outside"):
                call(offset, size)
        with pytest.raises(ValueError, match=f"bytes {offset} to {offset + size} are outside"):
            segment.read(offset, size, None)
    with pytest.raises(ValueError, match="outside"):
        segment.write_reserved(MIB - 1, b"ab")
    with pytest.raises(ValueError, match="outside"):
        segment.write_touched(MIB - 1, b"ab")
    segment.close()


def test_views_outlive_the_segment(shm_dir: str) -> None:
    """Closing with views is fine: they stay good, and the mapping goes with the last of them."""
    segment = Segment.create(f"{shm_dir}/s", MIB)
    keepalive = Keepalive()
    gone = weakref.ref(keepalive)
    segment.reserve(0, 100)
    segment.write_reserved(0, b"still here")
    view = segment.read(0, 10, keepalive)
    memory = weakref.ref(segment._mapped())
    del keepalive
    segment.close()
    segment.close()
    segment.unlink()
    segment.unlink()
    assert bytes(view) == b"still here"
    assert memory() is not None
    del view
    assert memory() is None
    assert gone() is None
    with pytest.raises(ValueError, match="is closed"):
        segment.read(0, 10, None)
    with pytest.raises(ValueError, match="is closed"):
        segment.write_reserved(0, b"x")


def test_reads_are_read_only(shm_dir: str) -> None:
    """Nobody writes sealed bytes by accident."""
    segment = Segment.create(f"{shm_dir}/s", MIB)
    view = segment.read(0, 10, None)
    assert (view.readonly, view.format, view.nbytes, view.ndim) == (True, "B", 10, 1)
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1
    del view
    segment.close()


def test_what_is_looked_at_is_known_and_what_was_is_forgotten(shm_dir: str) -> None:
    """Also after many reads, of which some live; a view of a view counts as the first."""
    segment = Segment.create(f"{shm_dir}/s", MIB)
    kept = [Keepalive() for _ in range(3)]
    views = [segment.read(n * PAGE_BYTES, 10, keepalive) for n, keepalive in enumerate(kept)]
    for _ in range(5000):
        segment.read(0, 10, Keepalive())
    assert len(segment._windows) < 1000
    views[1] = views[1][2:4]
    del views[0]
    assert {id(found) for found in segment.keepalives()} == {id(kept[1]), id(kept[2])}
    views.clear()
    assert segment.keepalives() == []
    segment.close()
