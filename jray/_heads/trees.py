"""Owns which processes belong to which head: by who started whom, so that a head that hangs need not be asked."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

from jray._heads.cards import Head
from jray._heads.processes import ProcessId, children, descendants, started_s

#: in the command line of heads, zygotes and workers, which are forks of each other
_MAIN = b"jray._core.daemon.main"
#: a driver's socket in the session's directory
_DRIVER = re.compile(r"d(\d+)(?:-[0-9a-f]+)?\.sock")
#: a process whose head has no directory is not taken for a stray before it is that old: the head may be starting
_STARTING_S = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A process of jray."""

    #: "head", "node", "zygote", "worker", "child" that a task has started, "driver", or "stray", whose head is gone
    kind: str
    process: ProcessId
    session: str
    command: str


def members(head: Head) -> list[Member]:
    """Return the processes of a head, itself first, of its nodes on this machine, and its drivers.

    Those that have just ended are left out.
    """
    tree = children()
    found = [_member("head", head.pid, head.session), *_below(head.pid, head.session, tree)]
    for pid in _nodes(head, tree):
        found += [_member("node", pid, head.session), *_below(pid, head.session, tree)]
    found += [_member("driver", pid, head.session) for pid in _drivers(head)]
    return [member for member in found if member is not None]


def _below(root: int, session: str, tree: dict[int, list[int]]) -> Iterator[Member | None]:
    """Yield what a head or a node has started, and what that has."""
    for pid in tree.get(root, []):
        is_zygote = _is_ours(pid)
        yield _member("zygote" if is_zygote else "child", pid, session)
        for below in tree.get(pid, []):
            is_worker = is_zygote and _is_ours(below)
            yield _member("worker" if is_worker else "child", below, session)
            for child in descendants(below, tree):
                yield _member("child", child, session)


def _nodes(head: Head, tree: dict[int, list[int]]) -> list[int]:
    """Return the processes of further nodes of a head; their forks have the same command line."""
    everybody = {pid for below in tree.values() for pid in below}
    same = {pid for pid in everybody if _settings(pid).get("head_address") == head.address}
    forks = {child for pid in same for child in tree.get(pid, [])}
    return sorted(same - forks)


def strays(base: str, heads: Iterable[Head]) -> list[Member]:
    """Return the processes of sessions in the runtime directory *base* that belong to none of the running *heads*."""
    tree = children()
    known = {pid for head in heads for pid in (head.pid, *descendants(head.pid, tree))}
    everybody = {pid for below in tree.values() for pid in below}
    found = []
    for pid in sorted(everybody - known):
        card_dir = _settings(pid).get("card_dir")
        if not isinstance(card_dir, str) or os.path.dirname(card_dir) != base:
            continue
        session = os.path.basename(card_dir).removeprefix(f"jray-{os.geteuid()}-")
        member = _member("stray", pid, session)
        if member is not None and _is_headless(card_dir, member.process):
            found.append(member)
    return found


def _is_headless(card_dir: str, process: ProcessId) -> bool:
    """Tell whether the head of that directory is gone, and not just starting or ending."""
    try:
        with open(f"{card_dir}/head.json", "rb") as file:
            return not Head.from_json(file.read()).process.is_running()
    except (OSError, ValueError):
        return not os.path.exists(card_dir) and time.time() - started_s(process) > _STARTING_S


def memory_bytes(pid: int) -> int | None:
    """Return the memory of a process: what it shares counts by its part, so that sums are right.  None: it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def _member(kind: str, pid: int, session: str) -> Member | None:
    process = ProcessId.of(pid)
    if process is None:
        return None
    return Member(kind, process, session, b" ".join(_words(pid)).decode("utf-8", "replace"))


def _drivers(head: Head) -> list[int]:
    try:
        names = os.listdir(head.session_dir)
    except OSError:
        return []
    matches = (_DRIVER.fullmatch(name) for name in names)
    return sorted({int(match[1]) for match in matches if match is not None})


def _words(pid: int) -> list[bytes]:
    """Return the words of a process's command line; empty if it is gone, or another user's."""
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return []
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().rstrip(b"\0").split(b"\0")
    except OSError:
        return []


def _is_ours(pid: int) -> bool:
    words = _words(pid)
    return len(words) >= 4 and _MAIN in words[2]


def _settings(pid: int) -> dict[str, Any]:
    """Return what a head or a node was told when it was started, by its process or a fork of it; else nothing."""
    words = _words(pid)
    if len(words) < 4 or _MAIN not in words[2]:
        return {}
    try:
        found = json.loads(words[3])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
