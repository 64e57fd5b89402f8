"""Owns what tasks wrote, all of it: on disk, found by task, for as long as the session lasts.

The cell shows what a person can read; this keeps the rest. Memory stays small whatever is written:

    tasks-PID-N.log      the text, in the order of its arrival
    tasks-PID-N.index    a record for each piece: whose it is, where it begins, how long it is

Both lie among the logs of the session, and go with it. When they get larger than allowed, the oldest half goes.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import html
import itertools
import os
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

from jray._core.frontend import Output, OutputKind

#: Bytes of text kept; `JRAY_TASK_LOGS_MIB` says another number.
DEFAULT_LIMIT = 512 * 1024 * 1024
#: task id in hexadecimal, name's number, pid, cell, stream, offset, size
_RECORD = struct.Struct("<56sIIIBQI")
_STREAMS = (OutputKind.STDOUT, OutputKind.STDERR, OutputKind.DISPLAY)
#: Names beyond this many are not told apart.
_MOST_NAMES = 10_000
#: A list of tasks names this many, the newest.
_MOST_LISTED = 1000
#: A log is drawn with this many lines, the newest.
_MOST_DRAWN = 500
#: Of a line that is shown alone, so many bytes.
_LONGEST_LINE = 4096
#: It is looked for in so many pieces: `print` writes a line and its end one by one.
_PIECES_OF_LINE = 4
_CHUNK = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class LoggedTask:
    """A task that wrote something."""

    task_id: str
    name: str
    pid: int
    cell: int
    size_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Piece:
    volume: _Volume
    task: LoggedTask
    stream: str
    offset: int

    def end(self) -> bytes:
        """Return as much of its end as a line that is shown alone may be long."""
        size = min(self.task.size_bytes, _LONGEST_LINE)
        try:
            return self.volume.read(self.offset + self.task.size_bytes - size, size)
        except (OSError, ValueError):  # its session has ended
            return b""


class TaskLogs:
    """The output of all tasks that came to this process; safe to use from any thread.

    `directory` returns where the files of the session that runs are to lie, or None for a place of their own.
    What cannot be written, because a disk is full, say, is counted and missing: output must not stop work.
    """

    def __init__(self, directory: Callable[[], str | None], limit_bytes: int | None = None) -> None:
        self._directory = directory
        self._limit_bytes = limit_from_environ() if limit_bytes is None else limit_bytes
        self._lock = threading.Lock()
        self._volumes: list[_Volume] = []
        self._place: str | None = None
        self._numbers = itertools.count(1)
        #: bytes that are missing: too old for the limit, or not written
        self.dropped_bytes = 0
        #: tasks that wrote, the newest last, each with its last pieces; and how many pieces of each volume are in it
        self._listed: collections.OrderedDict[str, tuple[LoggedTask, tuple[_Piece, ...]]] = (
            collections.OrderedDict()
        )
        self._read_to: dict[_Volume, int] = {}
        self._is_cut = False

    def add(self, output: Output) -> None:
        """Keep what a task wrote; jray's own notices are not kept."""
        if output.kind == OutputKind.DISPLAY:
            bundle = (output.data or {}).get("data") or {}
            text = bundle.get("text/plain", "")
            text = f"{text}\n" if isinstance(text, str) and text else ""
        else:
            text = output.text
        if not text or output.kind not in _STREAMS or not output.task_id:
            return
        data = text.encode("utf-8", "backslashreplace")
        with self._lock:
            try:
                self._volume(len(data)).add(output, data)
            except (OSError, ValueError):
                self.dropped_bytes += len(data)

    def of(self, task_id_prefix: str | None = None, tail: int | None = None) -> TaskLog | LoggedTasks:
        """Return what one task wrote, its last *tail* lines or all; without a prefix, which tasks wrote.

        Raises:
            LookupError: no task wrote whose id begins so, or several did.
        """
        if tail is not None and tail < 1:
            raise ValueError(f"tail={tail}: the number of lines must be at least 1, or None for all")
        if not task_id_prefix:
            return self.tasks()
        prefix = task_id_prefix.lower()
        with self._lock:
            pieces = [piece for piece in self._pieces() if piece.task.task_id.startswith(prefix)]
        found = {piece.task.task_id: piece.task for piece in pieces}
        if not found:
            raise LookupError(
                f"no task whose id begins with {task_id_prefix!r} wrote anything here"
                f"{self._loss()}; `%jray logs` lists those that did"
            )
        if len(found) > 1:
            some = ", ".join(f"{task_id[:12]} ({task.name})" for task_id, task in list(found.items())[:5])
            raise LookupError(
                f"the ids of {len(found)} tasks begin with {task_id_prefix!r}: {some}"
                f"{', ...' * (len(found) > 5)}; give more of the id"
            )
        return TaskLog(pieces, tail)

    def tasks(self) -> LoggedTasks:
        """Return the tasks that wrote, the newest last."""
        with self._lock:
            self._list_new()
            tasks = [task for task, _ in self._listed.values()]
            return LoggedTasks(tasks, self._is_cut, self.dropped_bytes, self._limit_bytes)

    def last_lines(self, most: int) -> list[tuple[LoggedTask, str]]:
        """Return the tasks that wrote last, the newest first, each with the last line it wrote.

        Costs little, however much was written: only what is new since the last time is looked through.
        """
        with self._lock:
            self._list_new()
            newest = list(itertools.islice(reversed(self._listed.values()), most))
            return [(task, _last_line(pieces)) for task, pieces in newest]

    def close(self) -> None:
        """Remove the files."""
        with self._lock:
            for volume in self._volumes:
                volume.close()
            self._volumes.clear()
            self._list_anew()

    # -- inside; the lock is held -----------------------------------------------------------------

    def _volume(self, size: int) -> _Volume:
        place = self._directory()
        if place != self._place:  # another session: what the old one left goes as its directory went
            for volume in self._volumes:
                volume.close()
            self._volumes.clear()
            self._list_anew()
            self._place, self.dropped_bytes = place, 0
        if not self._volumes or self._volumes[-1].size_bytes + size > self._limit_bytes // 2:
            if len(self._volumes) > 1:
                oldest = self._volumes.pop(0)
                self.dropped_bytes += oldest.size_bytes
                oldest.close()
                self._list_anew()
            self._volumes.append(_Volume(place, next(self._numbers)))
        return self._volumes[-1]

    def _list_anew(self) -> None:
        self._listed.clear()
        self._read_to.clear()
        self._is_cut = False

    def _list_new(self) -> None:
        """Add to the list what was written since it was last looked at."""
        listed = self._listed
        for volume in self._volumes:
            read_to = self._read_to.get(volume, 0)
            for piece in volume.pieces(read_to):
                read_to += 1
                task = piece.task
                known, pieces = listed.pop(task.task_id, (None, ()))
                size = task.size_bytes + (known.size_bytes if known is not None else 0)
                whole = dataclasses.replace(task, size_bytes=size)
                listed[task.task_id] = whole, (*pieces[1 - _PIECES_OF_LINE :], piece)
                if len(listed) > _MOST_LISTED:
                    listed.popitem(last=False)
                    self._is_cut = True
            self._read_to[volume] = read_to

    def _pieces(self) -> Iterator[_Piece]:
        for volume in self._volumes:
            yield from volume.pieces()

    def _loss(self) -> str:
        return f" that is still kept ({_size(self.dropped_bytes)} are gone)" if self.dropped_bytes else ""


class _Volume:
    """One pair of files."""

    def __init__(self, place: str | None, number: int) -> None:
        self.size_bytes = 0
        self._names: dict[str, int] = {}
        self._paths: list[str] = []
        if place is None:
            self._data: Any = tempfile.TemporaryFile(prefix="jray-tasks-")  # noqa: SIM115 -- open while this is
            self._index: Any = tempfile.TemporaryFile(prefix="jray-tasks-")  # noqa: SIM115
            return
        base = os.path.join(place, f"tasks-{os.getpid()}-{number}")
        self._paths = [f"{base}.log", f"{base}.index"]
        self._data, self._index = (self._open(path) for path in self._paths)

    @staticmethod
    def _open(path: str) -> Any:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        return os.fdopen(os.open(path, flags, 0o600), "w+b", buffering=_CHUNK // 8)

    def add(self, output: Output, data: bytes) -> None:
        if output.task_name not in self._names and len(self._names) >= _MOST_NAMES:
            name = self._names.setdefault("(other)", len(self._names))
        else:
            name = self._names.setdefault(output.task_name, len(self._names))
        kind = _STREAMS.index(output.kind)
        task_id = output.task_id.encode()[:56]
        record = _RECORD.pack(
            task_id, name, output.pid & 0xFFFFFFFF, output.cell, kind, self.size_bytes, len(data)
        )
        self._data.write(data)
        self._index.write(record)
        self.size_bytes += len(data)

    def pieces(self, first: int = 0) -> Iterator[_Piece]:
        """Return what was written, in order, from the piece of that number on."""
        names = list(self._names)
        self._data.flush()
        self._index.flush()
        descriptor, position = self._index.fileno(), first * _RECORD.size
        while chunk := os.pread(descriptor, _RECORD.size * 4096, position):
            whole = len(chunk) - len(chunk) % _RECORD.size
            if not whole:
                return
            position += whole
            for task_id, name, pid, cell, stream, offset, size in _RECORD.iter_unpack(chunk[:whole]):
                task = LoggedTask(task_id.rstrip(b"\0").decode(), names[name], pid, cell, size)
                yield _Piece(self, task, _STREAMS[stream], offset)

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._data.fileno(), size, offset)

    def close(self) -> None:
        for file in (self._data, self._index):
            with contextlib.suppress(OSError):  # a full disk may refuse the last of it
                file.close()
        for path in self._paths:
            with contextlib.suppress(OSError):  # gone with the session
                os.unlink(path)


class TaskLog:
    """What one task wrote: `str(log)` is the text, a notebook shows its end, `save` writes it to a file."""

    def __init__(self, pieces: list[_Piece], tail: int | None) -> None:
        self._pieces = pieces
        self._tail = tail
        size = sum(piece.task.size_bytes for piece in pieces)
        #: whose it is; `size_bytes` is of all it wrote
        self.task = dataclasses.replace(pieces[-1].task, size_bytes=size)

    @property
    def text(self) -> str:
        """All of it, or its last lines if they were asked for; stdout and stderr in the order they came in."""
        if self._tail is not None:
            return "".join(self._last_lines(self._tail))
        return "".join(self._chunks())

    def stream(self, name: str) -> str:
        """Return what went to "stdout", to "stderr", or was displayed ("display")."""
        if name not in _STREAMS:
            raise ValueError(f"stream {name!r}: must be one of {', '.join(_STREAMS)}")
        return "".join(
            self._read(piece).decode("utf-8", "replace") for piece in self._pieces if piece.stream == name
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to a file."""
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(self._chunks())

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        head, lines = self._drawn()
        return "\n".join([head, "".join(lines)]).rstrip("\n")

    def _repr_html_(self) -> str:
        head, lines = self._drawn()
        return (
            '<div class="jray-task-log" style="color: var(--jp-ui-font-color1, inherit)">'
            f"<div><b>{html.escape(head)}</b></div>"
            '<pre style="max-height: 30em; overflow: auto; margin: 0.3em 0">'
            f"{html.escape(''.join(lines))}</pre></div>"
        )

    def _drawn(self) -> tuple[str, list[str]]:
        task = self.task
        head = f"{task.name} {task.task_id[:12]} pid={task.pid}: {_size(task.size_bytes)}"
        most = _MOST_DRAWN if self._tail is None else min(self._tail, _MOST_DRAWN)
        lines = self._last_lines(most + 1)
        if len(lines) > most:
            head += f", the last {most} lines (all of it: .text, .save(path))"
        return head, lines[-most:]

    def _last_lines(self, count: int) -> list[str]:
        held: list[bytes] = []
        newlines = 0
        for piece in reversed(self._pieces):
            data = self._read(piece)
            held.append(data)
            newlines += data.count(b"\n")
            if newlines > count:
                break
        text = b"".join(reversed(held)).decode("utf-8", "replace")
        return [f"{line}\n" for line in text.removesuffix("\n").split("\n")[-count:]]

    def _chunks(self) -> Iterator[str]:
        return (self._read(piece).decode("utf-8", "replace") for piece in self._pieces)

    @staticmethod
    def _read(piece: _Piece) -> bytes:
        try:
            return piece.volume.read(piece.offset, piece.task.size_bytes)
        except (OSError, ValueError):
            raise LookupError(
                "this part of the task's log is gone: its session has ended, or the log grew beyond its limit"
            ) from None


@dataclasses.dataclass(frozen=True, slots=True)
class LoggedTasks:
    """The tasks that wrote, the newest last."""

    tasks: list[LoggedTask]
    is_cut: bool  #: whether there are older ones
    dropped_bytes: int
    limit_bytes: int

    def __iter__(self) -> Iterator[LoggedTask]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        rows = [("task", "name", "pid", "wrote"), *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*(lines if self.tasks else ["No task has written anything."]), *self._notes()])

    def _repr_html_(self) -> str:
        if not self.tasks:
            return f'<div class="jray-task-logs">{html.escape(repr(self))}</div>'
        head = "".join(f"<th>{name}</th>" for name in ("task", "name", "pid", "wrote"))
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>" for row in self._rows()
        )
        notes = "".join(f"<div>{html.escape(note)}</div>" for note in self._notes())
        return (
            '<div class="jray-task-logs" style="color: var(--jp-ui-font-color1, inherit)">'
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}</div>"
        )

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [(task.task_id[:12], task.name, str(task.pid), _size(task.size_bytes)) for task in self.tasks]

    def _notes(self) -> list[str]:
        notes = [f"The newest {len(self.tasks)}; older ones are found by their ids."] if self.is_cut else []
        if self.dropped_bytes:
            notes.append(
                f"{_size(self.dropped_bytes)} of older output are gone: {_size(self.limit_bytes)} are kept "
                "(JRAY_TASK_LOGS_MIB says how many MiB)."
            )
        return notes


def limit_from_environ() -> int:
    """Return how many bytes of text are kept."""
    given = os.environ.get("JRAY_TASK_LOGS_MIB")
    if given is None:
        return DEFAULT_LIMIT
    try:
        mebibytes = float(given)
    except ValueError:
        mebibytes = -1.0
    if not mebibytes > 0:
        raise ValueError(f"JRAY_TASK_LOGS_MIB={given!r}: must be a number of MiB above 0")
    return int(mebibytes * 1024 * 1024)


def _last_line(pieces: tuple[_Piece, ...]) -> str:
    """Return the last line with something in it, or the end of a long one."""
    text = b"".join(piece.end() for piece in pieces).decode("utf-8", "replace")
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _size(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"
