"""What hardware this process may use: CPUs, memory, GPUs.

Reads files of the operating system and starts nothing. Each function takes the root of the file system,
so that a test can lay out another machine's files.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_ROOT = Path("/")

#: which GPUs a process may use, and in which order: numbers or names
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"

# cgroup v1 says "no limit" with the largest multiple of a page that 63 bits hold; nothing real comes near.
_NO_LIMIT_BYTES = 2**60


def detect_num_cpus(*, root: Path = _ROOT, affinity: int | None = None) -> int:
    """How many CPUs this process may use at once: whole, and at least 1.

    The smaller of the CPUs it is bound to and the quota of its control group (version 1 or 2, and
    those above it), cut to a whole number.

    Args:
        affinity: the CPUs it is bound to; None asks the operating system.
    """
    if affinity is None:
        affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([float(affinity), *_cpu_quotas(root)])))


def detect_memory_bytes(*, root: Path = _ROOT) -> int:
    """Memory that this process and its children may use together, in bytes.

    The smaller of the machine's memory and the limit of the control group; it counts what is in use.
    """
    return min([_machine_memory_bytes(root), *_memory_limits_bytes(root)])


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Memory in use and in all, in bytes, where it is scarcest: of the machine, or of a control group."""

    used: int
    total: int


def memory_usage(*, root: Path = _ROOT) -> MemoryUsage:
    """Return how much memory is in use; what the system would drop when it is needed does not count."""
    facts = _machine_memory(root)
    total = facts.get("MemTotal") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = [MemoryUsage(total - facts.get("MemAvailable", total), total)]
    for is_v2, folder in _group_folders(root, "memory"):
        limit = _read_int(folder / ("memory.max" if is_v2 else "memory.limit_in_bytes"))
        used = _read_int(folder / ("memory.current" if is_v2 else "memory.usage_in_bytes"))
        if limit is None or used is None or not 0 < limit < _NO_LIMIT_BYTES:
            continue
        dropped = "inactive_file" if is_v2 else "total_inactive_file"
        words = (_read(folder / "memory.stat") or "").split()
        spare = int(words[words.index(dropped) + 1]) if dropped in words else 0
        found.append(MemoryUsage(max(0, used - spare), limit))
    return max(found, key=lambda usage: usage.used / usage.total)


def resident_bytes(pid: int, *, root: Path = _ROOT) -> int:
    """Return the memory of a process that it shares with no other; 0 if there is none of that number."""
    fields = (_read(root / f"proc/{pid}/statm") or "0 0 0").split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


def memory_share(pid: int, *, root: Path = _ROOT) -> int | None:
    """Return a process's memory but for shared memory files, such as a store's; None: it cannot be seen.

    Of what n processes have in common, as forks have, each has an n-th: the sum over processes counts every page once.
    """
    facts = dict(_sizes(_read(root / f"proc/{pid}/smaps_rollup") or ""))
    if "Pss_Anon" in facts:
        return facts["Pss_Anon"] + facts.get("Pss_File", 0)
    return resident_bytes(pid, root=root) or None  # an older kernel does not tell


def detect_gpu_ids(*, root: Path = _ROOT, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Ids of the NVIDIA GPUs this process may use, as CUDA_VISIBLE_DEVICES would list them.

    A GPU counts if it has a device file: a container may see the driver's /proc of a machine whose
    GPUs it was not given.
    """
    try:
        names = os.listdir(root / "dev")
    except OSError:
        return []
    count = sum(1 for name in names if re.fullmatch(r"nvidia\d+", name))
    if not count:
        return []
    visible = environ.get(VISIBLE_GPUS)
    if visible is None:
        return [str(index) for index in range(count)]
    ids: list[str] = []
    for entry in visible.split(","):
        gpu_id = entry.strip()
        is_index = gpu_id.isdecimal()
        # CUDA itself ignores everything from the first entry on that names no GPU, or one named before.
        if gpu_id in ids or (is_index and int(gpu_id) >= count) or not (is_index or _is_uuid(gpu_id)):
            break
        ids.append(gpu_id)
    return ids


def gpu_ids_for(num_gpus: int, *, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Ids for a node that is said to have *num_gpus* GPUs.

    Those that CUDA_VISIBLE_DEVICES lists, or else the numbers from 0 on, whether or not there are such
    GPUs: resources are what the user says they are.

    Raises:
        ValueError: CUDA_VISIBLE_DEVICES is set and lists fewer than *num_gpus*.
    """
    visible = environ.get(VISIBLE_GPUS)
    if visible is None:
        return [str(index) for index in range(num_gpus)]
    ids = _entries(visible)
    if num_gpus > len(ids):
        raise ValueError(
            f"num_gpus={num_gpus} is more than the {len(ids)} GPUs that "
            f"{VISIBLE_GPUS}={visible!r} lists. Ask for fewer, or unset the variable."
        )
    return ids[:num_gpus]


def gpus_as_seen(
    gpu_ids: Sequence[str], *, nodes_list: str | None, own_list: str | None
) -> list[int] | list[str]:
    """Return the GPUs of a worker as its code is to see them.

    Numbers, or entries of *own_list*, the CUDA_VISIBLE_DEVICES that the worker began with; None: it had none.  Where
    that is another than *nodes_list*, from which the node has its ids, an entry stands for the node's GPU of the same
    position, and all of them are given where one is missing (Ray's rule).
    """
    if own_list is None:
        return [int(gpu_id) for gpu_id in gpu_ids]
    if own_list == nodes_list:
        return list(gpu_ids)
    nodes = None if nodes_list is None else _entries(nodes_list)
    positions = [int(gpu_id) if nodes is None else nodes.index(gpu_id) for gpu_id in gpu_ids]
    own = _entries(own_list)
    return [own[position] for position in positions] if max(positions, default=-1) < len(own) else own


def _entries(devices: str) -> list[str]:
    return [entry.strip() for entry in devices.split(",") if entry.strip()]


def sets_visible_gpus(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a worker's GPUs are put into `VISIBLE_GPUS`, as they are unless the user keeps that variable."""
    return environ.get("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "") in {"", "0"}


def _is_uuid(gpu_id: str) -> bool:
    return gpu_id.startswith(("GPU-", "MIG-"))


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _read_int(path: Path) -> int | None:
    try:
        return int(_read(path) or "")
    except ValueError:  # absent, or "max"
        return None


def _group_folders(root: Path, controller: str) -> Iterator[tuple[bool, Path]]:
    """Folders of this process's control groups that may limit *controller*: is it version 2, and where.

    From the innermost outwards, since a group is bound by those above it too.
    """
    mount = root / "sys/fs/cgroup"
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        is_v2 = not controllers
        if is_v2:
            tops = [mount, mount / "unified"]
        elif controller in controllers.split(","):
            tops = [mount / controllers, mount / controller]
        else:
            continue
        for top in tops:
            # In a container the path may be the host's, which isn't mounted; then the top alone is there.
            folder = top / path.lstrip("/")
            while folder != top:
                yield is_v2, folder
                folder = folder.parent
            yield is_v2, top


def _cpu_quotas(root: Path) -> Iterator[float]:
    for is_v2, folder in _group_folders(root, "cpu"):
        if is_v2:
            words = (_read(folder / "cpu.max") or "").split()
            if len(words) == 2 and words[0] != "max":
                yield int(words[0]) / int(words[1])
        else:
            quota_us = _read_int(folder / "cpu.cfs_quota_us")
            period_us = _read_int(folder / "cpu.cfs_period_us")
            if quota_us is not None and period_us and quota_us > 0:
                yield quota_us / period_us


def _memory_limits_bytes(root: Path) -> Iterator[int]:
    for is_v2, folder in _group_folders(root, "memory"):
        limit = _read_int(folder / ("memory.max" if is_v2 else "memory.limit_in_bytes"))
        if limit is not None and 0 < limit < _NO_LIMIT_BYTES:
            yield limit


def _machine_memory_bytes(root: Path) -> int:
    return _machine_memory(root).get("MemTotal") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _machine_memory(root: Path) -> dict[str, int]:
    """Return what /proc/meminfo tells, in bytes."""
    return dict(_sizes(_read(root / "proc/meminfo") or ""))


def _sizes(text: str) -> Iterator[tuple[str, int]]:
    """Yield (name, bytes) of the lines of a file under /proc."""
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if len(fields) == 2 and fields[1] == "kB":  # the others are counts
            yield name, int(fields[0]) * 1024
