"""Owns the making of one part of a runtime environment, in a process of its own, which reads on stdin what to make.

A package is unpacked, or packages are installed into a virtual environment that sees what this Python has, too.  What is
said on the way goes to stdout, which is the log; the outcome goes to descriptor 3, as JSON: {"bytes": ...} or
{"error": ...}; nothing, if the process was ended.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tarfile
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from jray._core.environments import WORKING_DIR_VARIABLE, ending, redacted
from jray._core.node.strays import adopt_orphans, end_children, end_with_parent

_OUTCOME_FD = 3
_GRACE_S = 5.0
_DOWNLOAD_TIMEOUT_S = 60.0
_PIECE_BYTES = 1024 * 1024


class BuildError(Exception):
    """What is wanted can't be made; the text says why."""


def main(settings: dict[str, Any]) -> None:
    """Make what the settings say, tell of it, and leave no process behind."""
    adopt_orphans()
    # not by SIGKILL: what runs here starts processes of its own, which would have nobody
    signal.signal(signal.SIGTERM, _end)
    end_with_parent(settings["parent"], signal.SIGTERM)
    os.set_inheritable(_OUTCOME_FD, False)
    outcome: dict[str, Any]
    try:
        make: Callable[..., None] = unpack if settings["kind"] == "package" else install
        make(**settings["order"])
        outcome = {"bytes": size_of(settings["order"]["target"])}
    except (BuildError, OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        outcome = {"error": str(error)}
    finally:
        end_children(_GRACE_S)
    with os.fdopen(_OUTCOME_FD, "w", encoding="utf-8") as file:
        json.dump(outcome, file)


def _end(*_: object) -> NoReturn:
    raise SystemExit(1)


def size_of(directory: str) -> int:
    """Return the bytes of all files in a directory; what links lead to is not counted."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


# -- packages of files ------------------------------------------------------------------------------------


def unpack(source: str, target: str) -> None:
    """Unpack an archive into a new directory: a file (removed if it lies beside the target), or a URI to fetch it from.

    An archive that was fetched, and has all in one directory, is taken without that one (Ray's rule).
    """
    suffix = ending(source)
    path = source
    if source.startswith(("http://", "https://")):
        path = target + suffix
        _download(source, path)
    elif source.startswith("file://"):
        path = source.removeprefix("file://")
    os.mkdir(target, 0o700)
    if suffix in (".zip", ".whl"):
        _unzip(path, target)
    else:
        with tarfile.open(path) as archive:
            archive.extractall(target, filter="data")
    if suffix == ".whl":
        _spread_wheel(target)
    elif path != source:
        _lift_only_directory(target)
    if os.path.dirname(path) == os.path.dirname(target):
        os.unlink(path)


def _download(source: str, path: str) -> None:
    print(f"downloading {source}", flush=True)  # noqa: T201
    try:
        with (
            urllib.request.urlopen(source, timeout=_DOWNLOAD_TIMEOUT_S) as answer,  # noqa: S310 -- http(s), by the caller
            open(path, "wb") as file,
        ):
            shutil.copyfileobj(answer, file, _PIECE_BYTES)
    except (urllib.error.URLError, TimeoutError) as error:
        why = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        raise BuildError(f"{source} cannot be downloaded: {why}.") from error


def _unzip(path: str, target: str) -> None:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            extracted = archive.extract(info, target)  # which takes care of absolute names and of ".."
            mode = info.external_attr >> 16
            if mode & stat.S_IXUSR and not info.is_dir():
                os.chmod(extracted, 0o700)


def _spread_wheel(target: str) -> None:
    """Put what a wheel has for other directories to where imports find it; scripts and headers stay aside."""
    for name in os.listdir(target):
        if name.endswith(".data"):
            for part in ("purelib", "platlib"):
                folder = os.path.join(target, name, part)
                if os.path.isdir(folder):
                    shutil.copytree(folder, target, dirs_exist_ok=True)


def _lift_only_directory(target: str) -> None:
    names = [name for name in os.listdir(target) if name != "__MACOSX"]
    only = os.path.join(target, names[0]) if len(names) == 1 else ""
    if os.path.isdir(only):
        aside = target + ".top"
        os.rename(only, aside)
        shutil.rmtree(target)
        os.rename(aside, target)


# -- packages of Python -----------------------------------------------------------------------------------


def install(
    target: str,
    tool: str,
    fields: Mapping[str, Any],
    variables: Mapping[str, str],
    working_dir: str | None,
    inherited: Sequence[str],
) -> None:
    """Make a virtual environment that sees the directories `inherited` after its own, and install packages into it.

    `tool` is "pip" or "uv", and `fields` are that field's of the runtime environment.
    """
    venv.EnvBuilder(symlinks=True, with_pip=False).create(target)
    python = os.path.join(target, "bin", "python")
    _inherit(target, inherited)
    environ = {**os.environ, **variables, "VIRTUAL_ENV": target, "PIP_USER": "0"}
    if working_dir is not None:
        environ[WORKING_DIR_VARIABLE] = working_dir
    # an empty one: what lies in the current directory would be imported before what is installed
    aside = os.path.join(target, "empty")
    os.mkdir(aside)
    requirements = os.path.join(target, "requirements.txt")
    with open(requirements, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in fields["packages"]))

    def run(*command: str) -> None:
        _run([*command], aside, environ)

    pip = _pip(python, run) if tool == "pip" or _needs_pip_for_uv(fields) else []
    version = fields.get(f"{tool}_version")
    if tool == "pip":
        if version:
            run(*pip, "install", "--disable-pip-version-check", "--no-input", f"pip{version}")
        options = fields.get("pip_install_options", ["--disable-pip-version-check"])
        run(*pip, "install", "--no-input", "-r", requirements, *options)
        if fields["pip_check"]:
            run(*pip, "check", "--disable-pip-version-check")
        return
    uv = _uv(python, version, pip, run)
    # uv expands no variables in what it is given
    with open(requirements, "w", encoding="utf-8") as file:
        file.write("".join(f"{_expanded(line, environ)}\n" for line in fields["packages"]))
    options = [_expanded(option, environ) for option in fields.get("uv_pip_install_options", [])]
    run(*uv, "pip", "install", "--python", python, "-r", requirements, *options)
    if fields["uv_check"]:
        run(*uv, "pip", "check", "--python", python)


def _inherit(target: str, inherited: Sequence[str]) -> None:
    """Have the interpreter of a virtual environment look into these directories last, .pth files of theirs included."""
    site = sysconfig.get_path("purelib", "venv", {"base": target, "platbase": target})
    with open(os.path.join(site, "_jray_inherited.pth"), "w", encoding="utf-8") as file:
        file.writelines(f"import site; site.addsitedir({path!r})\n" for path in inherited)


def _pip(python: str, run: Any) -> list[str]:
    if importlib.util.find_spec("pip") is None:
        run(python, "-m", "ensurepip", "--default-pip")
    return [python, "-m", "pip"]


def _needs_pip_for_uv(fields: Mapping[str, Any]) -> bool:
    return bool(fields.get("uv_version")) or not (shutil.which("uv") or importlib.util.find_spec("uv"))


def _uv(python: str, version: str | None, pip: Sequence[str], run: Any) -> list[str]:
    """Return how uv is called: the one that is there, unless a version is asked for, which is installed."""
    if pip:
        run(*pip, "install", "--disable-pip-version-check", "--no-input", f"uv{version or ''}")
        return [python, "-m", "uv"]
    found = shutil.which("uv")
    return [found] if found else [sys.executable, "-m", "uv"]


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    for name in sorted(environ, key=len, reverse=True):
        text = text.replace(f"${{{name}}}", environ[name])
    return text


def _run(command: list[str], folder: str, environ: Mapping[str, str]) -> None:
    print("$", *map(redacted, command), flush=True)  # noqa: T201 -- the log
    parent = os.getpid()
    done = subprocess.run(
        command,
        cwd=folder,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        check=False,
        preexec_fn=lambda: end_with_parent(parent),
    )
    if done.returncode:
        how = f"exited with code {done.returncode}"
        if done.returncode < 0:
            how = f"got signal {-done.returncode}"
        raise BuildError(f"{os.path.basename(command[0])} {' '.join(command[1:4])} ... {how}")
