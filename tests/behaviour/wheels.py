"""Owns the packages that tests install: tiny wheels, and one whose installation waits until it may go on; no network."""

from __future__ import annotations

import os
import textwrap
import zipfile
from pathlib import Path
from typing import Any


def make_wheel(folder: Path, name: str, version: str, body: str = "") -> Path:
    """Write a wheel of one module, which has `__version__`, and return its path."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"__version__ = {version!r}\n{body}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


def make_slow_source(folder: Path, name: str, gate: str) -> Path:
    """Write a source whose installation waits for the file *gate*, and notes its pid in `gate`.pid."""
    source = folder / f"{name}_source"
    source.mkdir()
    wheel = make_wheel(source, name, "1.0")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (source / "backend.py").write_text(
        textwrap.dedent(
            f"""
            import os, shutil, time

            def build_wheel(directory, config_settings=None, metadata_directory=None):
                with open({gate + ".new"!r}, "w") as file:
                    file.write(str(os.getpid()))
                os.rename({gate + ".new"!r}, {gate + ".pid"!r})
                print("the source waits", flush=True)
                while not os.path.exists({gate!r}):
                    time.sleep(0.01)
                return os.path.basename(shutil.copy({str(wheel)!r}, directory))
            """
        )
    )
    return source


def installing(packages: list[str], *options: str, tool: str = "pip", **fields: Any) -> dict[str, Any]:
    """Return the runtime environment that installs these, and asks no network for them."""
    name = "pip_install_options" if tool == "pip" else f"{tool}_pip_install_options"
    given = ["--no-index", "--disable-pip-version-check"] if tool == "pip" else ["--no-index"]
    return {tool: {"packages": packages, name: [*given, *options]}, **fields}


def found_in(folder: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the options that have packages looked for in *folder*."""
    return "--find-links", os.fspath(folder)
