"""Describe the machine a run was made on, from /proc, without anything that names it."""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path


def describe() -> dict[str, str]:
    """CPU, memory, shared memory, kernel and load, in words for the report."""
    memory_kib = int(_first(r"^MemTotal:\s+(\d+)", "/proc/meminfo") or 0)
    shared = shutil.disk_usage("/dev/shm").total  # noqa: S108 - its size is what is told
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "CPU": _first(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo") or platform.machine(),
        "memory": f"{memory_kib / 2**20:.1f} GiB",
        "shared memory": f"{shared / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load average at the start": f"{os.getloadavg()[0]:.2f}",
    }


def is_busy() -> bool:
    """Others use a tenth of a core or more, so that figures will suffer."""
    return os.getloadavg()[0] > 0.5


def _first(pattern: str, path: str) -> str:
    match = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    return match[1].strip() if match else ""
