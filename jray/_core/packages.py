"""Owns packages: a local directory or file as an archive, whose name is the hash of what is in it.

The same files give the same bytes on every machine: names in order, no times, of the modes only whether a file may be
run.  Nothing is compressed (most that is large is so already, and on one machine it would only cost time).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, NamedTuple, Self

from jray._core.environments import ending
from jray._core.wildmatch import Patterns

#: a package travels in pieces of this many bytes: no message is larger
CHUNK_BYTES = 4 * 1024 * 1024
#: up to here a package stays in memory while it is made
_IN_MEMORY_BYTES = 16 * 1024 * 1024
_IGNORE_FILES = (".gitignore", ".rayignore")
#: of a package that is too large, so many files are named
_NAMED = 5
_TIME = (1980, 1, 1, 0, 0, 0)
SCHEME = "gcs"


class Entry(NamedTuple):
    """What a package has of a directory: a file, or an empty directory."""

    name: str  #: relative, parts joined by "/"
    path: str
    size: int
    is_directory: bool


class Package:
    """An archive and its URI.  A context manager; the archive goes with its end."""

    def __init__(self, uri: str, file: IO[bytes]) -> None:
        self.uri = uri
        self._file = file

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes, piece by piece."""
        self._file.seek(0)
        while data := self._file.read(CHUNK_BYTES):
            yield data

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def pack_directory(
    directory: str, excludes: Sequence[str], *, keeps_name: bool, heeds_gitignore: bool, most_bytes: int
) -> Package:
    """Return a package of what is in *directory*, but for what *excludes* and its ignore files exclude.

    `keeps_name`: everything lies in one directory of that name, as an import of it wants.

    Raises ValueError if it has more than `most_bytes`, naming the largest files; OSError if a file cannot be read.
    """
    directory = os.path.abspath(directory)
    found = list(entries(directory, excludes, heeds_gitignore=heeds_gitignore))
    _check_size(directory, found, most_bytes)
    prefix = f"{os.path.basename(directory)}/" if keeps_name else ""
    with _file_for_a_package() as (file, keep):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for entry in found:
                _add(archive, prefix + entry.name, entry)
        keep()
        return _named(file, ".zip")


def pack_file(path: str, *, most_bytes: int) -> Package:
    """Return a package of one file: an archive or a wheel as it is, any other alone in an archive.

    Raises as `pack_directory`.
    """
    path = os.path.abspath(path)
    entry = Entry(os.path.basename(path), path, os.path.getsize(path), is_directory=False)
    _check_size(path, [entry], most_bytes)
    suffix = ending(path)
    with _file_for_a_package() as (file, keep):
        if suffix:
            with open(path, "rb") as source:
                while data := source.read(CHUNK_BYTES):
                    file.write(data)
        else:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                _add(archive, entry.name, entry)
        keep()
        return _named(file, suffix or ".zip")


def entries(directory: str, excludes: Sequence[str], *, heeds_gitignore: bool) -> Iterator[Entry]:
    """Yield what a package of *directory* has, in the order of the names."""
    yield from _walk(directory, "", [], Patterns(excludes), heeds_gitignore, (os.path.realpath(directory),))


def _walk(
    root: str,
    inside: str,
    ignored: list[tuple[str, Patterns]],
    excludes: Patterns,
    heeds_gitignore: bool,
    above: tuple[str, ...],
) -> Iterator[Entry]:
    """Yield what is in the directory *inside* of *root*; `ignored` are the ignore files above, with their places."""
    folder = os.path.join(root, inside)
    for name in _IGNORE_FILES if heeds_gitignore else _IGNORE_FILES[1:]:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                ignored = [*ignored, (inside, Patterns(file))]
    is_empty = True
    for name in sorted(os.listdir(folder)):
        is_empty = False
        relative, path = inside + name, os.path.join(folder, name)
        is_directory = os.path.isdir(path)
        if excludes.verdict(relative, is_directory=is_directory) or _is_ignored(
            ignored, relative, is_directory
        ):
            continue
        if is_directory:
            real = os.path.realpath(path)
            if real not in above:  # a link to a directory that it lies in would have no end
                yield from _walk(root, relative + "/", ignored, excludes, heeds_gitignore, (*above, real))
        elif os.path.isfile(path):  # neither a socket nor a dangling link
            yield Entry(relative, path, os.path.getsize(path), is_directory=False)
    if is_empty and inside:
        yield Entry(inside, folder, 0, is_directory=True)


def _is_ignored(ignored: Sequence[tuple[str, Patterns]], path: str, is_directory: bool) -> bool:
    for base, patterns in reversed(ignored):  # the nearest file decides
        verdict = patterns.verdict(path.removeprefix(base), is_directory=is_directory)
        if verdict is not None:
            return verdict
    return False


def _add(archive: zipfile.ZipFile, name: str, entry: Entry) -> None:
    info = zipfile.ZipInfo(name, _TIME)
    if entry.is_directory:
        info.external_attr = 0o40755 << 16
        archive.writestr(info, b"")
        return
    info.external_attr = (0o100755 if os.access(entry.path, os.X_OK) else 0o100644) << 16
    info.file_size = entry.size
    with open(entry.path, "rb") as source, archive.open(info, "w") as target:
        while data := source.read(CHUNK_BYTES):
            target.write(data)


@contextlib.contextmanager
def _file_for_a_package() -> Iterator[tuple[IO[bytes], Callable[[], object]]]:
    """Give a temporary file, which is closed in the end unless the function that comes with it was called."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))
        yield file, stack.pop_all


def _named(file: IO[bytes], suffix: str) -> Package:
    file.seek(0)
    digest = hashlib.blake2b(digest_size=20)
    while data := file.read(CHUNK_BYTES):
        digest.update(data)
    return Package(f"{SCHEME}://_jray_pkg_{digest.hexdigest()}{suffix}", file)


def _check_size(path: str, found: Sequence[Entry], most_bytes: int) -> None:
    total = sum(entry.size for entry in found)
    if total <= most_bytes:
        return
    largest = sorted(found, key=lambda entry: entry.size, reverse=True)[:_NAMED]
    named = "".join(f"\n  {entry.size / 2**20:8.1f} MiB  {entry.name}" for entry in largest)
    raise ValueError(
        f"The package of {path} has {total / 2**20:.1f} MiB, the limit is {most_bytes / 2**20:.0f} MiB. The largest "
        f"files are:{named}\nName what the workers do not need in runtime_env['excludes'] or in a .gitignore or "
        ".rayignore file, have large data read from where every node finds it, or raise the limit: "
        "JRAY_PACKAGE_MAX_BYTES."
    )
