"""Owns the lives of session directories: who is in one, and the removal of those left by the dead.

A session's files of one kind lie in `<base>/jray-<uid>-<session>/`, which holds a lock file.  The node
process locks it by flock(2) as long as it lives, so a lock that can be taken means a dead session:
the system lets go of it however the process ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
from typing import Self

_LOCK = "lock"
#: `jray-<uid>-<session>`; while it is being made `jray-<uid>-<session>.new-<pid>`, while it is being removed `.old-<pid>`
_NAME = re.compile(r"jray-(\d+)-[^.]+(?:\.(?:new|old)-(\d+))?")


class SessionInUse(OSError):  # noqa: N818 -- like the builtin FileExistsError, it names the state
    """The directory belongs to a session that lives."""


class SessionLock:
    """A claimed session directory.  A context manager that removes it.

    The lock is shared with children made by a bare fork; such a child must call `close`, or the session
    would seem to live as long as the child.  Programs that it starts do not inherit it.
    """

    def __init__(self, directory: str, fd: int) -> None:
        self.directory = directory
        self._fd = fd

    def close(self) -> None:
        """Let go of the lock and leave the files: for forked children.  Closing twice is allowed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Remove the directory with all that is in it, then let go of the lock."""
        if self._fd >= 0:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()


def session_directory(base: str, session: str) -> str:
    """Return the directory of a session of this user under *base*.

    Raises:
        ValueError: *session* is not a plain name.
    """
    directory = os.path.join(base, f"jray-{os.geteuid()}-{session}")
    if "/" in session or "\0" in session or not _NAME.fullmatch(os.path.basename(directory)):
        raise ValueError(f"a session's name is letters, digits, '-' and '_', not {session!r}")
    return directory


def claim(directory: str) -> SessionLock:
    """Make the directory of a session, mode 0700, and hold it until this process ends.

    *directory* comes from `session_directory`.  What a dead session of this name left is removed.

    Raises:
        SessionInUse: a live session has it.
        ValueError: the name is not that of a session directory of this user.
        OSError: it cannot be made, or the name is taken by something else.
    """
    if directory != session_directory(os.path.dirname(directory), _session_of(directory)):
        raise ValueError(f"{directory!r} is not the path of a session directory; use session_directory()")
    # The directory gets its name when the lock is held, so that nobody ever sees it without.
    new = f"{directory}.new-{os.getpid()}"
    shutil.rmtree(new, ignore_errors=True)
    os.mkdir(new, 0o700)
    fd = -1
    try:
        fd = os.open(os.path.join(new, _LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            os.rename(new, directory)
        except OSError as exc:
            if exc.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            if not _remove_dead(directory):
                raise SessionInUse(exc.errno, "a live session or another user has it", directory) from exc
            os.rename(new, directory)
    except BaseException:
        if fd >= 0:
            os.close(fd)
        shutil.rmtree(new, ignore_errors=True)
        raise
    return SessionLock(directory, fd)


def sweep(base: str) -> list[str]:
    """Remove what dead sessions of this user left under *base*; return the directories removed.

    Live sessions, other users' and symbolic links are never touched, and a sweep in another process
    at the same time does no harm.  A *base* that does not exist holds nothing.
    """
    try:
        names = sorted(os.listdir(base))
    except FileNotFoundError:
        return []
    removed = []
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None or int(match[1]) != os.geteuid():
            continue
        if match[2] is not None and _is_alive(int(match[2])):
            continue
        directory = os.path.join(base, name)
        if _remove_dead(directory):
            removed.append(directory)
    return removed


def _remove_dead(directory: str) -> bool:
    """Remove the directory if it is this user's and its lock is free; tell whether this removed it."""
    with contextlib.ExitStack() as stack:
        try:
            directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        stack.callback(os.close, directory_fd)
        if os.fstat(directory_fd).st_uid != os.geteuid():
            return False
        # A directory gets its name with the lock in it, so one without is the rest of a removal.
        try:
            lock_fd = os.open(_LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
        except FileNotFoundError:
            pass
        except OSError:
            return False
        else:
            stack.callback(os.close, lock_fd)
            if not stat.S_ISREG(os.fstat(lock_fd).st_mode):
                return False
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
        doomed = _put_aside(directory)
        shutil.rmtree(doomed, ignore_errors=True)
        return not os.path.lexists(doomed)


def _put_aside(directory: str) -> str:
    """Give a dead session's directory a name that its processes, should some still run, make no new files in."""
    if "." in os.path.basename(directory):  # it never had its name, or has lost it
        return directory
    doomed = f"{directory}.old-{os.getpid()}"
    try:
        os.rename(directory, doomed)
    except OSError:
        return directory
    return doomed


def _session_of(directory: str) -> str:
    return os.path.basename(directory).removeprefix(f"jray-{os.geteuid()}-")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
