"""Owns `%jray doctor`: what in this environment can keep jray or its views from working, and the remedy of each."""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jray
from jray._core.detect import detect_memory_bytes, detect_num_cpus
from jray._core.sketch import human_size
from jray._heads.cards import runtime_dir
from jray.exceptions import RaySystemError
from jray.notebook.context import Context
from jray.notebook.listing import Column, Listing, count

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 -- looked at, not written
_LEAST_SHARED_BYTES = 512 * 1024 * 1024
_LEAST_FILES = 4096
_LEAST_MEMORY_BYTES = 1024 * 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One line of the checklist."""

    name: str
    text: str
    is_ok: bool = True
    remedy: str = ""
    varies: bool = False  #: whether the text differs between machines or runs


def examine(context: Context, _arguments: argparse.Namespace) -> Listing:
    """Return the checklist.  Never raises: a check that fails is a line of it."""
    findings = [finding for check in _CHECKS for finding in _safely(check, context)]
    poor = sum(not finding.is_ok for finding in findings)
    is_deterministic = context.is_deterministic()
    rows = [
        {
            "name": finding.name,
            "result": "ok" if finding.is_ok else "warn",
            "text": "" if is_deterministic and finding.varies else finding.text,
            "remedy": finding.remedy,
        }
        for finding in findings
    ]
    columns = (Column("result", ""), Column("name", "what"), Column("text", "found"))
    notes = tuple(f"{finding.name}: {finding.remedy}" for finding in findings if finding.remedy)
    title = "All is well." if not poor else f"{count(poor, 'thing')} to look at:"
    return Listing(title, columns, rows, notes, is_deterministic)


def _safely(check: Callable[[Context], Iterator[Finding]], context: Context) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(check(context))
    except Exception as error:  # noqa: BLE001 -- the doctor must not fall ill
        name = check.__name__.removeprefix("_check_").replace("_", " ")
        found.append(Finding(name, f"could not be looked at: {type(error).__name__}: {error}", is_ok=False))
    return found


# -- programs -------------------------------------------------------------------------------------------


def _check_versions(_context: Context) -> Iterator[Finding]:
    yield Finding("python", f"{platform.python_version()} ({sys.executable})", varies=True)
    yield Finding("jray", jray.__version__, varies=True)
    wanted = {
        "ipykernel": "pip install ipykernel",
        "jupyter_server": "pip install jupyter_server, for the list of clusters in Jupyter",
        "ipywidgets": "pip install ipywidgets; until then live views are tables",
        "anywidget": "pip install anywidget; until then live views are tables",
    }
    for name, remedy in wanted.items():
        try:
            yield Finding(name, importlib.metadata.version(name), varies=True)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "is not installed", is_ok=False, remedy=f"{remedy}.")


# -- the machine ----------------------------------------------------------------------------------------


def _check_shared_memory(_context: Context) -> Iterator[Finding]:
    status = os.statvfs(_SHARED_MEMORY)
    total, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    text = f"{human_size(free)} of {human_size(total)} free"
    if free >= _LEAST_SHARED_BYTES:
        yield Finding(_SHARED_MEMORY, text, varies=True)
        return
    yield Finding(
        _SHARED_MEMORY,
        text,
        is_ok=False,
        remedy="large objects live there: start the container with --shm-size=2g or more, or give less "
        "object_store_memory.",
        varies=True,
    )


def _check_limits(_context: Context) -> Iterator[Finding]:
    memory = detect_memory_bytes()
    is_little = memory < _LEAST_MEMORY_BYTES
    yield Finding(
        "memory",
        f"{human_size(memory)}, by the machine and its control group",
        is_ok=not is_little,
        remedy="that is little for several processes; raise the container's limit, or start fewer CPUs."
        if is_little
        else "",
        varies=True,
    )
    cpus, there = detect_num_cpus(), os.cpu_count() or 1
    of = f" of {there}" if cpus != there else ""
    yield Finding("CPUs", f"{cpus}{of} may be used, by affinity and control group", varies=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_tight = soft != resource.RLIM_INFINITY and soft < _LEAST_FILES
    remedy = ""
    if is_tight:
        way = (
            "ulimit -n 4096 before Jupyter is started"
            if hard >= _LEAST_FILES
            else "have the system's limit raised"
        )
        remedy = f"each worker takes some: {way}."
    yield Finding(
        "open files", f"at most {soft}", is_ok=soft == -1 or soft >= 1024, remedy=remedy, varies=True
    )


def _check_sessions(_context: Context) -> Iterator[Finding]:
    bases = dict.fromkeys((runtime_dir(), "/tmp", _SHARED_MEMORY))  # noqa: S108 -- where sessions are
    # not those that are being made, or removed: whoever makes one must find its lock free
    mine = [
        folder
        for base in bases
        for folder in Path(base).glob(f"jray-{os.geteuid()}-*")
        if folder.is_dir() and folder.lstat().st_uid == os.geteuid() and "." not in folder.name
    ]
    dead = [folder for folder in mine if _is_dead(folder)]
    alive = len(mine) - len(dead)
    text = f"{count(alive, 'directory', 'directories')} of living sessions"
    if not dead:
        yield Finding("sessions", text, varies=True)
        return
    size = sum(path.stat().st_blocks * 512 for folder in dead for path in folder.rglob("*") if path.is_file())
    yield Finding(
        "sessions",
        f"{text}, {count(len(dead), 'directory', 'directories')} of dead ones ({human_size(size)})",
        is_ok=False,
        remedy="the next jray.init() removes what dead sessions left; or now: "
        + " ".join(["rm -r", *(str(folder) for folder in dead[:3])])
        + (" ..." if len(dead) > 3 else ""),
        varies=True,
    )


def _is_dead(folder: Path) -> bool:
    """Tell whether nobody holds the lock of a session's directory."""
    try:
        fd = os.open(folder / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        # a shared one, and for a moment: whoever claims it meanwhile tries once more than needed at worst
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fd)


# -- Jupyter --------------------------------------------------------------------------------------------


def _jupyter_paths(kind: str) -> list[Path]:
    """Return where Jupyter looks for "config" or "data", the environment's own place first."""
    core: Any = importlib.import_module("jupyter_core.paths")
    found = core.jupyter_config_path() if kind == "config" else core.jupyter_path()
    return [Path(sys.prefix) / ("etc" if kind == "config" else "share") / "jupyter", *map(Path, found)]


def _check_server_extension(_context: Context) -> Iterator[Finding]:
    for folder in _jupyter_paths("config"):
        for name in ("jupyter_server_config.d/jray_ext.json", "jupyter_server_config.json"):
            path = folder / name
            if not path.is_file():
                continue
            enabled = json.loads(path.read_text()).get("ServerApp", {}).get("jpserver_extensions", {})
            if "jray_ext" in enabled:
                is_on = bool(enabled["jray_ext"])
                remedy = "" if is_on else "jupyter server extension enable jray_ext"
                yield Finding("server extension", "enabled" if is_on else "disabled", is_on, remedy)
                return
    yield Finding(
        "server extension",
        "not found",
        is_ok=False,
        remedy="jupyter server extension enable --sys-prefix jray_ext, in the environment of the server; it lists "
        "and starts clusters that outlive kernels, and nothing else needs it.",
    )


def _check_kernelspec(_context: Context) -> Iterator[Finding]:
    for folder in _jupyter_paths("data"):
        if (folder / "kernels" / "jray" / "kernel.json").is_file():
            yield Finding("kernel", "Python (jray) is installed")
            return
    yield Finding(
        "kernel",
        "Python (jray) is not installed",
        remedy="`pip install jray` brings it, into the environment of Jupyter; without it, %load_ext jray does the same.",
    )


def _check_front_end(context: Context) -> Iterator[Finding]:
    shell = context.shell
    if getattr(shell, "kernel", None) is None:
        yield Finding("front end", "a terminal: there are no cells, and output is text")
        return
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    names_cells = bool((parent or {}).get("metadata", {}).get("cellId"))
    if names_cells:
        yield Finding("front end", "says which cell it runs")
    else:
        yield Finding(
            "front end",
            "does not say which cell it runs",
            remedy="live views are off where nobody looks, as in nbval and nbclient; JRAY_NONINTERACTIVE=0 says that "
            "somebody does.",
        )
    has_parts = all(importlib.util.find_spec(name) is not None for name in ("ipywidgets", "anywidget"))
    if context.is_deterministic():
        yield Finding("widgets", "are not used: the same notebook must look the same each time")
    elif has_parts:
        yield Finding("widgets", "can be displayed by this kernel")
    else:
        yield Finding(
            "widgets", "cannot be displayed", is_ok=False, remedy="pip install ipywidgets anywidget"
        )


def _check_session(context: Context) -> Iterator[Finding]:
    engine = context.find_engine()
    if engine is None:
        yield Finding("cluster", "none: %jray start starts one, and so does the first call")
        return
    try:
        nodes = engine.cluster.nodes()
    except RaySystemError as error:
        text, _, remedy = str(error.client_exc).partition(". ")
        yield Finding("cluster", text, is_ok=False, remedy=remedy)
        return
    yield Finding("cluster", f"engine {engine.engine_name}, {count(len(nodes), 'node')}")
    free = (
        shutil.disk_usage(engine.whereabouts().session_dir or "/").free
        if engine.engine_name == "jray"
        else None
    )
    if free is not None:
        is_ok = free >= 64 * 1024 * 1024
        yield Finding(
            "logs",
            f"{human_size(free)} free for them",
            is_ok,
            "" if is_ok else "make room there, or set JRAY_RUNTIME_DIR to another disk.",
            varies=True,
        )


_CHECKS = (
    _check_versions,
    _check_shared_memory,
    _check_limits,
    _check_sessions,
    _check_session,
    _check_server_extension,
    _check_kernelspec,
    _check_front_end,
)
