"""The arena between processes: what one writes others read, and what lives how long."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jray._core.store.arena import ArenaView, Store, StoreFull
from jray._core.store.ledger import Block
from jray._core.store.place import choose_place, default_capacity, free_bytes
from jray._core.store.segment import PAGE_BYTES, SegmentError

MIB = 1024 * 1024
WORKER, DRIVER, OTHER = 1, 2, 3
Child = Callable[..., "subprocess.Popen[str]"]


def oid(number: int) -> bytes:
    return number.to_bytes(28, "big")


def put(store: Store, arena: ArenaView, number: int, data: bytes) -> Block:
    block = store.create(oid(number), len(data), WORKER)
    arena.write(block, [(0, data)])
    assert store.ledger.seal(oid(number), DRIVER, WORKER)
    return block


def files(directory: str) -> list[str]:
    return sorted(os.listdir(directory))


WRITER = """
import sys
from jray._core.store.arena import ArenaView
from jray._core.store.ledger import Block
directory, segment, offset, size, is_fresh = sys.argv[1:6]
block = Block(int(segment), int(offset), int(size), is_fresh == "True")
arena = ArenaView(directory)
data = bytes(i % 251 for i in range(block.size - 128))
arena.write(block, [(0, b"head"), (128, data)])
print("written", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("size", [1000, 100_000, 3_000_000])
@pytest.mark.parametrize("reused", [False, True])
def test_what_a_child_writes_its_parent_reads(shm_dir: str, child: Child, size: int, reused: bool) -> None:
    """Bytes written by another process are read here, in fresh pages and in used ones."""
    store, arena = Store(shm_dir, 64 * MIB, 16 * MIB), ArenaView(shm_dir)
    if reused:
        put(store, arena, 0, b"\xff" * size)
        store.ledger.free(oid(0))
    block = store.create(oid(1), size, WORKER)
    assert block.is_fresh is not reused
    writer = child(WRITER, shm_dir, *block)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "written\n"
    view = arena.read(block.segment, block.offset, block.size, None)
    assert bytes(view[:4]) == b"head"
    assert bytes(view[128:]) == bytes(i % 251 for i in range(size - 128))
    del view
    arena.close()
    store.close()
    assert files(shm_dir) == []


def test_a_writer_killed_half_way_leaves_nothing(shm_dir: str, child: Child) -> None:
    """After kill -9 of a writer its block is free, never visible, and other objects are whole."""
    store, arena = Store(shm_dir, 64 * MIB, 16 * MIB), ArenaView(shm_dir)
    other = put(store, arena, 7, b"other" * 100_000)
    block = store.create(oid(1), 8 * MIB, WORKER)
    writer = child(
        "import sys\n"
        "from jray._core.store.segment import Segment\n"
        "segment = Segment.open(sys.argv[1], int(sys.argv[2]))\n"
        "offset, size = int(sys.argv[3]), int(sys.argv[4])\n"
        "segment.reserve(offset, size)\n"
        "segment.write_reserved(offset, b'half' * (size // 8))\n"
        "print('half', flush=True)\n"
        "sys.stdin.readline()\n",
        f"{shm_dir}/segment-{block.segment}-{16 * MIB}",
        16 * MIB,
        block.offset,
        block.size,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half\n"
    os.kill(writer.pid, signal.SIGKILL)
    assert writer.wait(30) == -signal.SIGKILL
    assert store.ledger.lookup(oid(1)) is None
    assert store.ledger.release_client(WORKER) == [oid(1)]
    store.ledger.check_invariants()
    assert store.ledger.statistics().objects == 1
    assert store.create(oid(2), 8 * MIB, OTHER) == block
    assert bytes(arena.read(other.segment, other.offset, other.size, None)) == b"other" * 100_000
    arena.close()
    store.close()


class Pin:
    """Stands for the object that views keep alive."""


def test_the_pin_lives_as_long_as_any_view(shm_dir: str) -> None:
    """Slices, casts and unpickled arrays all hold the object; the last of them lets it go."""
    store, arena = Store(shm_dir, 64 * MIB, 16 * MIB), ArenaView(shm_dir)
    array = np.arange(100_000, dtype=np.float64).reshape(100, 1000)
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps({"a": array, "b": [array]}, protocol=5, buffer_callback=buffers.append)
    raw = buffers[0].raw()
    block = store.create(oid(1), 128 + raw.nbytes, WORKER)
    arena.write(block, [(128, raw)])

    pin = Pin()
    pinned = weakref.ref(pin)
    view = arena.read(block.segment, block.offset, block.size, pin)
    value = pickle.loads(head, buffers=[view[128:]])
    row = value["b"][0][3, 10:20]
    del pin, view
    assert pinned() is not None
    assert not row.flags.writeable
    del value
    gc.collect()
    assert pinned() is not None
    assert row.tolist() == [float(i) for i in range(3010, 3020)]
    again = np.frombuffer(memoryview(row), dtype=np.float64)
    del row
    assert pinned() is not None
    arena.close()
    store.close()
    assert again[0] == 3010.0
    del again
    assert pinned() is None


def test_each_read_has_its_own_pin(shm_dir: str) -> None:
    """Two reads of the same bytes pin two things, and one does not hold the other's."""
    store, arena = Store(shm_dir, 64 * MIB, 16 * MIB), ArenaView(shm_dir)
    block = put(store, arena, 1, b"data")
    pins = [Pin(), Pin()]
    watched = [weakref.ref(pin) for pin in pins]
    views = [arena.read(block.segment, block.offset, 4, pin) for pin in pins]
    pins.clear()
    del views[0]
    assert [watch() is not None for watch in watched] == [False, True]
    assert bytes(views[0]) == b"data"
    views.clear()
    arena.close()
    store.close()


def test_reads_of_many_sizes_make_one_type(shm_dir: str) -> None:
    """Reading does not grow any cache: ctypes would keep a class for each length."""
    store, arena = Store(shm_dir, 64 * MIB, 16 * MIB), ArenaView(shm_dir)
    block = put(store, arena, 1, bytes(10_000))
    types = {type(arena.read(block.segment, block.offset, size, None).obj) for size in range(1, 5000, 7)}
    assert len(types) == 1
    arena.close()
    store.close()


def test_reading_needs_neither_numpy_nor_ctypes_at_import() -> None:
    """Importing the store loads nothing that is slow to load."""
    program = (
        "import sys, jray._core.store.arena, jray._core.store.sweep\n"
        "print(sorted({'ctypes', 'numpy', 'asyncio', 'multiprocessing'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_threads_map_a_segment_once(shm_dir: str) -> None:
    """Threads that meet a new segment at the same time share one mapping."""
    store, arena = Store(shm_dir, 64 * MIB, 16 * MIB), ArenaView(shm_dir)
    blocks = [store.create(oid(number), MIB, WORKER) for number in range(8)]
    barrier = threading.Barrier(len(blocks))

    def write(number: int, block: Block) -> None:
        barrier.wait(30)
        arena.write(block, [(0, bytes([number]) * MIB)])

    threads = [threading.Thread(target=write, args=item) for item in enumerate(blocks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for number, (segment, offset, size, _) in enumerate(blocks):
        assert bytes(arena.read(segment, offset, size, None)) == bytes([number]) * MIB
    assert len(arena._segments) == 1
    arena.close()
    store.close()


def test_parts_must_fit_their_block(shm_dir: str) -> None:
    """A part that would reach into a neighbour is refused before anything is written."""
    store, arena = Store(shm_dir, 64 * MIB, 16 * MIB), ArenaView(shm_dir)
    block = store.create(oid(1), 1000, WORKER)
    for parts in ([(0, b"x" * 1001)], [(0, b"fits"), (997, b"beyond")], [(-1, b"x")]):
        with pytest.raises(ValueError, match="outside of a block of 1000 bytes"):
            arena.write(block, parts)
    arena.write(block, [(0, bytearray(b"a")), (992, np.arange(1.0).data)])
    view = arena.read(block.segment, block.offset, block.size, None)
    assert (view[0], bytes(view[992:])) == (ord("a"), np.arange(1.0).tobytes())
    del view
    arena.close()
    store.close()


def test_empty_objects_have_a_place(shm_dir: str) -> None:
    """An object of no bytes is stored and read like any other."""
    store, arena = Store(shm_dir, 64 * MIB, 16 * MIB), ArenaView(shm_dir)
    for number in range(3):
        block = put(store, arena, number, b"")
        assert bytes(arena.read(block.segment, block.offset, 0, None)) == b""
    arena.close()
    store.close()


def test_unknown_and_truncated_segments_are_refused(shm_dir: str) -> None:
    """A location whose file is gone, or is shorter than its name says, is an error and no SIGBUS."""
    store, arena = Store(shm_dir, 64 * MIB, 16 * MIB), ArenaView(shm_dir)
    with pytest.raises(SegmentError, match=f"segment 3 is not in {shm_dir}"):
        arena.read(3, 0, 5, None)
    block = put(store, arena, 1, b"data")
    (name,) = files(shm_dir)
    os.truncate(f"{shm_dir}/{name}", PAGE_BYTES)
    with pytest.raises(SegmentError, match=f"it has {PAGE_BYTES} bytes instead of {16 * MIB}"):
        ArenaView(shm_dir).read(block.segment, block.offset, 4, None)
    arena.close()
    store.close()
    with pytest.raises(SegmentError, match="its node shut down"):
        arena.read(block.segment, block.offset, 4, None)


def test_the_arena_does_not_grow_when_pages_can_be_used_again(shm_dir: str) -> None:
    """The same puts and frees over and over take the memory of one round."""
    store, arena = Store(shm_dir, 256 * MIB, 64 * MIB), ArenaView(shm_dir)
    data = bytes(10_000_000)
    for number in range(50):
        put(store, arena, number, data)
        store.ledger.free(oid(number))
        (name,) = files(shm_dir)
        assert os.stat(f"{shm_dir}/{name}").st_blocks * 512 <= len(data) + PAGE_BYTES
    arena.close()
    store.close()


def test_memory_stays_within_the_capacity(shm_dir: str) -> None:
    """Pages in pieces are really given back before others are taken, and live objects keep theirs."""
    store, arena = Store(shm_dir, 16 * MIB, 16 * MIB), ArenaView(shm_dir)
    blocks = [put(store, arena, number, bytes([number]) * MIB) for number in range(16)]
    for number in range(0, 16, 2):
        store.ledger.free(oid(number))
    put(store, arena, 100, b"x" * (8 * MIB))
    assert sum(os.stat(f"{shm_dir}/{name}").st_blocks * 512 for name in files(shm_dir)) <= 16 * MIB
    for number in range(1, 16, 2):
        segment, offset, size, _ = blocks[number]
        assert bytes(arena.read(segment, offset, size, None)) == bytes([number]) * MIB
    with pytest.raises(StoreFull):
        store.create(oid(101), 100, WORKER)
    arena.close()
    store.close()


def test_an_idle_store_gives_memory_back(shm_dir: str) -> None:
    """`trim` frees what no object holds, drops empty segments, and clients forget them."""
    store, arena = Store(shm_dir, 64 * MIB, 4 * MIB), ArenaView(shm_dir)
    kept = put(store, arena, 1, b"kept" * MIB)
    gone = put(store, arena, 2, b"gone" * MIB)
    assert kept.segment != gone.segment
    assert store.trim() == 0
    store.ledger.free(oid(2))
    assert store.trim() == 4 * MIB
    assert store.trim() == 0
    assert files(shm_dir) == [f"segment-{kept.segment}-{4 * MIB}"]
    assert bytes(arena.read(kept.segment, kept.offset, kept.size, None)) == b"kept" * MIB
    put(store, arena, 3, b"new!" * MIB)
    assert gone.segment not in arena._segments
    arena.forget(kept.segment)
    arena.forget(99)
    assert bytes(arena.read(kept.segment, kept.offset, kept.size, None)) == b"kept" * MIB
    arena.close()
    store.close()


def test_a_segment_that_cannot_be_made_costs_no_account(tmp_path: Path) -> None:
    """When the file system refuses, the error is the system's and the ledger is as before."""
    store = Store(str(tmp_path / "missing"), 64 * MIB, 16 * MIB)
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            store.create(oid(1), 100, WORKER)
    store.ledger.check_invariants()
    assert store.ledger.statistics().objects == 0
    (tmp_path / "missing").mkdir()
    put(store, ArenaView(store.directory), 1, b"data")
    store.close()


def test_shared_memory_smaller_than_thought_is_an_error_for_the_writer(small_shm: str) -> None:
    """Where others took the memory, a put raises ENOSPC, and its block can be aborted and tried again."""
    store, arena = Store(small_shm, 256 * MIB, 64 * MIB), ArenaView(small_shm)
    put(store, arena, 1, bytes(40 * MIB))
    block = store.create(oid(2), 40 * MIB, WORKER)
    with pytest.raises(OSError, match="No space left"):
        arena.write(block, [(0, bytes(40 * MIB))])
    store.ledger.abort(oid(2), WORKER)
    store.ledger.free(oid(1))
    put(store, arena, 2, bytes(40 * MIB))
    arena.close()
    store.close()


# -- where, and how much -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "shm_free", "capacity"),
    [
        (16e9, 8e9, 4.8e9),  # 30 % of memory
        (100e6, 50e6, 75e6),  # a least size
        (2e12, 1e12, 200e9),  # a largest
        (16e9, 4e9, 3.8e9),  # less, to fit shared memory
        (16e9, 64e6, 4.8e9),  # a container's: in files, so as large as wanted
        (2e9, 0.0, 600e6),
    ],
)
def test_default_capacity(memory: float, shm_free: float, capacity: float) -> None:
    """The store takes 30 % of memory within bounds, and less where that saves it from lying on disk."""
    assert default_capacity(int(memory), int(shm_free)) == int(capacity)


def test_large_enough_shared_memory_is_chosen_silently(shm_dir: str, tmp_path: Path) -> None:
    """The store lies in shared memory if it fits, and nobody is told anything."""
    assert free_bytes(shm_dir) > 0
    assert choose_place(1000, str(tmp_path), shm_dir) == (shm_dir, "")


def test_the_shared_memory_of_a_container_is_too_small(small_shm: str, shm_dir: str) -> None:
    """With 64 MB of shared memory a larger store goes into files, and one warning tells what to do."""
    assert free_bytes(small_shm) == 64 * MIB
    assert choose_place(64 * MIB, shm_dir, small_shm) == (small_shm, "")
    base, warning = choose_place(600_000_000, shm_dir, small_shm)
    assert base == shm_dir
    assert warning.startswith(f"{small_shm} has 67.1 MB free, and the object store may take 600 MB; ")
    assert "docker run --shm-size=600m" in warning
    assert "object_store_memory" in warning
    assert "\n" not in warning


def test_a_store_in_files_works(tmp_path: Path) -> None:
    """Nothing depends on the file system being in memory."""
    store, arena = Store(str(tmp_path), 64 * MIB, 16 * MIB), ArenaView(str(tmp_path))
    for number in range(20):
        block = put(store, arena, number, bytes([number]) * 10 * MIB)
        assert bytes(arena.read(block.segment, block.offset, block.size, None)) == bytes([number]) * 10 * MIB
        store.ledger.free(oid(number))
    arena.close()
    store.close()
    assert files(str(tmp_path)) == []


def test_no_shared_memory_at_all(tmp_path: Path) -> None:
    """A machine without the directory gets files; one without either gets an error that names both."""
    missing = str(tmp_path / "missing")
    assert free_bytes(missing) == 0
    base, warning = choose_place(1000, str(tmp_path), missing)
    assert base == str(tmp_path)
    assert warning.startswith(f"{missing} cannot be written; objects are stored in files under {tmp_path}")
    with pytest.raises(OSError, match=f"{missing} cannot be written, and {missing}2"):
        choose_place(1000, f"{missing}2", missing)


def test_little_room_for_files_is_said(tmp_path: Path) -> None:
    """When the temporary directory is too small as well, the one warning says that too."""
    _, warning = choose_place(10**18, str(tmp_path), str(tmp_path / "missing"))
    assert "so the store may be full earlier" in warning
