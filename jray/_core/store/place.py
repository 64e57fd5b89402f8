"""Owns where a node's files go, and how large its store is, before there is any: whoever starts a node asks here."""

from __future__ import annotations

import os
from typing import NamedTuple

MIN_CAPACITY_BYTES = 75 * 1000**2
MAX_CAPACITY_BYTES = 200 * 1000**3
#: part of the machine's memory, as with Ray
_MEMORY_SHARE = 0.3
#: part of the free shared memory that a store takes at most: others need some too
_SHM_SHARE = 0.95
#: A store is made smaller than it would be to fit into shared memory, but not smaller than this.
_SMALLEST_SHM_STORE_BYTES = 1000**3


class StorePlace(NamedTuple):
    """Where a store's files go."""

    base: str  #: an existing directory, in which the session makes its own
    warning: str  #: what the user must know, once; empty if all is well


def default_capacity(memory_bytes: int, shm_free_bytes: int) -> int:
    """Return the store's size in bytes: 30 % of memory, 75 MB to 200 GB, less if that fits shared memory."""
    wanted = int(min(max(memory_bytes * _MEMORY_SHARE, MIN_CAPACITY_BYTES), MAX_CAPACITY_BYTES))
    fitting = int(shm_free_bytes * _SHM_SHARE)
    if _SMALLEST_SHM_STORE_BYTES <= fitting < wanted:
        return fitting
    return wanted


def choose_place(capacity_bytes: int, temp_dir: str, shm_dir: str = "/dev/shm") -> StorePlace:  # noqa: S108
    """Choose shared memory if it can hold the capacity, *temp_dir* and a warning if not.

    Raises:
        OSError: *temp_dir* is needed and is not there.
    """
    shm_free = _free_bytes(shm_dir)
    if shm_free >= capacity_bytes:
        return StorePlace(shm_dir, "")
    if shm_free >= 0:
        why = f"{shm_dir} has {_human(shm_free)} free, and the object store may take {_human(capacity_bytes)}"
    else:
        why = f"{shm_dir} cannot be written"
    warning = (
        f"{why}; objects are stored in files under {temp_dir} instead, which may be slower. "
        f"Give the container more shared memory (docker run --shm-size={-(-capacity_bytes // 1000**2)}m) "
        f"or ask for a smaller store with jray.init(object_store_memory=...)."
    )
    temp_free = _free_bytes(temp_dir)
    if temp_free < 0:
        raise OSError(f"{why}, and {temp_dir}, where it would go instead, cannot be written either")
    if temp_free < capacity_bytes:
        warning += f" {temp_dir} has {_human(temp_free)} free, so the store may be full earlier."
    return StorePlace(temp_dir, warning)


def free_bytes(directory: str) -> int:
    """Return the bytes that a user may still write there; 0 if there is no such directory."""
    return max(0, _free_bytes(directory))


def disk_directory(wanted: str) -> str:
    """Return *wanted*, or a directory for temporary files if that one is in memory and this one is not."""
    candidates = (wanted, os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp")  # noqa: S108 -- the session's own is made in it
    for directory in candidates:
        if directory and os.access(directory, os.W_OK | os.X_OK) and not _is_in_memory(directory):
            return directory
    return wanted


def _is_in_memory(directory: str) -> bool:
    """Tell whether what is written there takes memory."""
    path = os.path.realpath(directory)
    found = ("", "")
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                _, point, kind, *_ = line.split(" ")
                point = point.encode().decode("unicode_escape")  # a blank is \\040 there
                inside = path == point or path.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(found[0]):
                    found = (point, kind)
    except OSError:
        return False
    return found[1] in {"tmpfs", "ramfs"}


def _free_bytes(directory: str) -> int:
    """Return the free bytes of a directory's file system, or -1 if it cannot be written."""
    if not os.access(directory, os.W_OK | os.X_OK):
        return -1
    try:
        status = os.statvfs(directory)
    except OSError:
        return -1
    return status.f_bavail * status.f_frsize


def _human(size: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
