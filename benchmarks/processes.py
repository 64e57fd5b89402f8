"""Which processes an engine started, and what they cost: read from /proc, whatever the engine.

A process belongs to a probe when it carries the probe's mark in its environment, lies in the
probe's session, or descends from one that does.  Any one alone would miss some: a runtime may
give its children sessions of their own, and one that rewrites its title overwrites its environment.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

#: Environment variable that holds the mark of the probe a process belongs to.
MARK_VARIABLE = "BENCHMARK_MARK"

_PROC = Path("/proc")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def members(mark: str, session: int) -> set[int]:
    """Ids of the live processes of the probe that has *mark* and *session*."""
    needle = f"{MARK_VARIABLE}={mark}".encode()
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(*_GONE):
            # The command's name stands in brackets and may hold spaces and brackets itself.
            state, parent, _, own_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if state in "ZX":
                continue
            pid = int(entry.name)
            parents[pid] = int(parent)
            if int(own_session) == session or needle in (entry / "environ").read_bytes().split(b"\0"):
                found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def pss_mb(pids: Iterable[int]) -> float:
    """Sum of the proportional set sizes, in MB: a page shared by n processes counts 1/n in each."""
    total_kib = 0
    for pid in pids:
        with suppress(*_GONE):
            text = (_PROC / str(pid) / "smaps_rollup").read_text()
            total_kib += int(_field(text, "Pss"))
    return total_kib * 1024 / 1e6


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that all threads of these processes have used so far, to the nanosecond."""
    total_ns = 0
    for pid in pids:
        with suppress(*_GONE):
            for thread in (_PROC / str(pid) / "task").iterdir():
                with suppress(*_GONE):
                    total_ns += int((thread / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def reset_peak_rss() -> float:
    """Forget this process's peak RSS; the RSS it has now, in MB."""
    (_PROC / "self/clear_refs").write_text("5")
    return _own_mb("VmRSS")


def peak_rss_mb() -> float:
    """Highest RSS of this process since `reset_peak_rss`, in MB."""
    return _own_mb("VmHWM")


def wait_gone(mark: str, session: int, timeout_s: float, spare: int | None = None) -> set[int]:
    """Wait until no process of the probe is left but *spare*; those that are left after *timeout_s*."""
    deadline = time.monotonic() + timeout_s
    while (left := members(mark, session) - {spare}) and time.monotonic() < deadline:
        time.sleep(0.005)
    return left


def kill(mark: str, session: int, timeout_s: float = 10) -> None:
    """Kill every process of the probe, also those that appear meanwhile."""
    deadline = time.monotonic() + timeout_s
    while (left := members(mark, session)) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _own_mb(field: str) -> float:
    return int(_field((_PROC / "self/status").read_text(), field)) * 1024 / 1e6


def _field(text: str, name: str) -> str:
    match = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    if match is None:
        message = f"/proc shows no {name} on this kernel"
        raise ProcessLookupError(message)
    return match[1]
