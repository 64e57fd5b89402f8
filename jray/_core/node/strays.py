"""Owns the end of what processes leave running: the kernel gives orphans to an adopter, which kills them.

A worker adopts what its tasks leave behind, so that this lives as long as the worker, whatever session or
group it made for itself; the zygote adopts what a dead worker leaves, the node what a dead zygote leaves.
So a child of the zygote or of the node that it did not start has lost its worker, and nobody wants it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Container, Iterator

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: of the flags in a process's status: it ends
_PF_EXITING = 0x4
_LOOK_S = 0.001


def adopt_orphans() -> None:
    """Have the kernel make the orphans among this process's descendants its children."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when *parent*, the process that forked it, dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


def children() -> list[int]:
    """Return the children of this process, those included that ended and were not waited for."""
    me = os.getpid()
    try:
        with open(f"/proc/self/task/{me}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without that list
        return [pid for pid, parent in _all_processes() if parent == me]


def end_strays(own: Container[int]) -> None:
    """Kill the children of this process that are not in *own*.  Call it whenever a child ended."""
    for pid in children():
        if pid not in own:
            _kill(pid)


def end_children(timeout_s: float, besides: Container[int] = ()) -> dict[int, int]:
    """Kill and reap all children, and what comes to this process by their death; return the wait statuses.

    Those in *besides* are left alone: somebody else waits for them.
    """
    deadline = time.monotonic() + timeout_s
    statuses: dict[int, int] = {}
    while True:
        end_strays(besides)
        left = [pid for pid in children() if pid not in besides]
        for pid in left:
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # another thread has waited for it
                continue
            if ended:
                statuses[pid] = status
        if not left or time.monotonic() > deadline:
            return statuses
        time.sleep(_LOOK_S)


def is_ending(pid: int) -> bool:
    """Tell whether the process has begun to end, or is gone; its descriptors close after it has begun."""
    try:
        fields = _stat(pid)
    except OSError:
        return True
    return fields[0] in (b"Z", b"X") or bool(int(fields[6]) & _PF_EXITING)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # PermissionError: it runs a set-user-id program
        pass


def _all_processes() -> Iterator[tuple[int, int]]:
    """Yield (pid, parent's pid) of each process."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                yield int(name), int(_stat(int(name))[1])
            except OSError:  # it ended meanwhile
                pass


def _stat(pid: int) -> list[bytes]:
    """Return the fields of a process's status from the third on: state, parent ... flags."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rsplit(b")", 1)[1].split()
