"""Owns which process is meant: a pid is given to others by and by, with its start time it names one process for ever."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple, Self

#: how often a process is looked at where the kernel cannot tell of its end
_LOOK_S = 0.02


class ProcessId(NamedTuple):
    """One process, living or not."""

    pid: int
    start_time: int  #: in the kernel's ticks since boot

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Return the process that has *pid* now; None if there is none, or it has ended and nobody has asked how."""
        found = _state_and_start(pid)
        return None if found is None or found[0] in "ZX" else cls(pid, found[1])

    @classmethod
    def own(cls) -> Self:
        """Return the calling process."""
        found = cls.of(os.getpid())
        assert found is not None
        return found

    def is_running(self) -> bool:
        """Tell whether it lives, and not another that has been given its pid since."""
        return ProcessId.of(self.pid) == self

    def watch(self) -> int | None:
        """Return a descriptor that is readable once it has ended; None: the kernel has none, so look again and again.

        Raises ProcessLookupError if it does not run.
        """
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            raise
        except (OSError, AttributeError):  # an old kernel, or one that allows it to nobody
            if not self.is_running():
                raise ProcessLookupError(self.pid) from None
            return None
        if self.is_running():  # asked after the descriptor has fixed the process
            return fd
        os.close(fd)
        raise ProcessLookupError(self.pid)

    def signal(self, number: signal.Signals) -> bool:
        """Send it a signal, never to another of its pid; tell whether there was somebody to take it."""
        try:
            fd = self.watch()
        except ProcessLookupError:
            return False
        try:
            if fd is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        finally:
            if fd is not None:
                os.close(fd)
        return True

    def wait_ended(self, timeout_s: float) -> bool:
        """Block until it has ended, *timeout_s* seconds at most; tell whether it has."""
        try:
            fd = self.watch()
        except ProcessLookupError:
            return True
        if fd is None:
            deadline = time.monotonic() + timeout_s
            while self.is_running():
                if time.monotonic() > deadline:
                    return False
                time.sleep(_LOOK_S)
            return True
        try:
            ended = select.poll()
            ended.register(fd, select.POLLIN)
            return bool(ended.poll(max(0.0, timeout_s) * 1000))
        finally:
            os.close(fd)


def _state_and_start(pid: int) -> tuple[str, int] | None:
    """Return the state (proc(5): R, S, Z ...) and start time of the process *pid*."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read()
    except OSError:
        return None
    # the second field is the program's name in parentheses, with any character inside
    fields = line.rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[19])


def children() -> dict[int, list[int]]:
    """Return the pids of all processes by their parent's."""
    found: dict[int, list[int]] = {}
    for pid, parent in _parents():
        found.setdefault(parent, []).append(pid)
    return found


def descendants(pid: int, tree: dict[int, list[int]]) -> Iterator[int]:
    """Yield who is below *pid* in the *tree* of `children`, parents first."""
    waiting = [pid]
    while waiting:
        below = tree.get(waiting.pop(0), [])
        yield from below
        waiting += below


def _parents() -> Iterator[tuple[int, int]]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            yield int(name), int(fields[1])


def boot_time_s() -> float:
    """Return the Unix time to which start times are counted from."""
    with open("/proc/stat", encoding="ascii") as file:
        return next(float(line.split()[1]) for line in file if line.startswith("btime"))


def started_s(process: ProcessId) -> float:
    """Return the Unix time at which a process started, to a second or so."""
    return boot_time_s() + process.start_time / os.sysconf("SC_CLK_TCK")
