"""Packages of local files: what is in them, and that the same files make the same package."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from jray._core.packages import Package, entries, pack_directory, pack_file

FAR = 2**30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name in ("a.py", "sub/b.txt", "sub/deep/c.txt", "build/out.o", "sub/build/x"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "empty").mkdir()
    return root


def names(folder: Path, *excludes: str, heeds_gitignore: bool = True) -> list[str]:
    found = entries(str(folder), excludes, heeds_gitignore=heeds_gitignore)
    return [entry.name for entry in found]


def pack(folder: Path, *, keeps_name: bool = False, most_bytes: int = FAR) -> Package:
    return pack_directory(str(folder), [], keeps_name=keeps_name, heeds_gitignore=True, most_bytes=most_bytes)


def opened(package: Package) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(content(package)))


def content(package: Package) -> bytes:
    with package:
        return b"".join(package.chunks())


def uri(folder: Path, *, keeps_name: bool = False) -> str:
    with pack(folder, keeps_name=keeps_name) as package:
        return package.uri


def test_a_package_has_all_files_and_empty_directories(folder: Path) -> None:
    """With their contents, and whether they may be run."""
    os.chmod(folder / "a.py", 0o700)
    with opened(pack(folder)) as archive:
        assert sorted(archive.namelist()) == sorted(
            ["a.py", "build/out.o", "empty/", "sub/b.txt", "sub/build/x", "sub/deep/c.txt"]
        )
        assert archive.read("sub/b.txt") == b"sub/b.txt"
        assert archive.getinfo("a.py").external_attr >> 16 & 0o111
        assert not archive.getinfo("sub/b.txt").external_attr >> 16 & 0o111
    with opened(pack(folder, keeps_name=True)) as archive:
        assert "project/a.py" in archive.namelist()


def test_the_name_says_what_is_in_it(folder: Path, tmp_path: Path) -> None:
    """Times and places make no difference; contents, names and modes do."""
    first = uri(folder)
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    moved = folder.rename(tmp_path / "elsewhere")
    assert uri(moved) == first
    seen = {first, uri(moved, keeps_name=True)}
    (moved / "a.py").write_text("b.py")
    seen.add(uri(moved))
    (moved / "a.py").rename(moved / "b.py")
    seen.add(uri(moved))
    os.chmod(moved / "b.py", 0o700)
    seen.add(uri(moved))
    assert len(seen) == 5
    assert all(name.startswith("gcs://_jray_pkg_") and name.endswith(".zip") for name in seen)


def test_excluded_files_stay_away(folder: Path) -> None:
    """By the list, and by ignore files, of which the nearest decides."""
    assert names(folder, "build/", "*.py", "empty") == ["sub/b.txt", "sub/deep/c.txt"]
    assert names(folder, "/build", "sub/deep") == ["a.py", "empty/", "sub/b.txt", "sub/build/x"]
    (folder / ".gitignore").write_text("build/\n*.txt\n")
    (folder / "sub" / ".gitignore").write_text("!b.txt\n")
    assert names(folder) == [".gitignore", "a.py", "empty/", "sub/.gitignore", "sub/b.txt"]
    assert "build/out.o" in names(folder, heeds_gitignore=False)
    (folder / ".rayignore").write_text("a.py\n")
    assert "a.py" not in names(folder, heeds_gitignore=False)


def test_links_are_followed_but_not_for_ever(folder: Path) -> None:
    """A link to a file is that file; one to a directory above it, and one to nothing, are left out."""
    (folder / "sub" / "link.py").symlink_to(folder / "a.py")
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "sub" / "gone").symlink_to(folder / "nothing")
    (folder / "twice").symlink_to(folder / "sub" / "deep")
    os.mkfifo(folder / "pipe")
    assert names(folder, "build", "empty") == [
        "a.py", "sub/b.txt", "sub/deep/c.txt", "sub/link.py", "twice/c.txt",
    ]  # fmt: skip


def test_a_package_that_is_too_large_is_refused(folder: Path) -> None:
    """Before anything is written, with the largest files first and what to do."""
    (folder / "large.bin").write_bytes(bytes(3 * 2**20))
    with pytest.raises(ValueError, match=r"has 3\.0 MiB, the limit is 2 MiB") as caught:
        pack(folder, most_bytes=2 * 2**20)
    lines = str(caught.value).splitlines()
    assert lines[1].split() == ["3.0", "MiB", "large.bin"]
    assert "runtime_env['excludes']" in lines[-1]


def test_a_single_file_is_a_package(tmp_path: Path) -> None:
    """A module in an archive of its own; an archive, or a wheel, as it is."""
    module = tmp_path / "module.py"
    module.write_text("x = 1")
    with opened(pack_file(str(module), most_bytes=FAR)) as archive:
        assert archive.namelist() == ["module.py"]
    for name in ("x.tar.gz", "x-1-py3-none-any.whl"):
        path = tmp_path / name
        path.write_bytes(b"anything")
        package = pack_file(str(path), most_bytes=FAR)
        assert content(package) == b"anything"
        assert package.uri.endswith((".tar.gz", ".whl"))
    with pytest.raises(ValueError, match="limit is 0 MiB"):
        pack_file(str(module), most_bytes=1)
