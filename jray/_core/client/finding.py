"""Owns which head `jray.init` and the command line mean by an address, or by none, and in words why that one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from jray._core.store.sweep import sweep
from jray._heads.cards import Head, runtime_dir, survey

#: variables that name an address, the first that is set counts; programs for Ray set Ray's
_VARIABLES = ("JRAY_ADDRESS", "RAY_ADDRESS")


@dataclass(frozen=True, slots=True)
class Found:
    """The head that is meant."""

    address: str | None  #: of its socket; None: none runs that is meant, so one is to be started
    why: str = ""  #: why this one, in words


def find_head(address: str | None, environ: Mapping[str, str] = os.environ) -> Found:
    """Return the head that is meant.

    None means the one that JRAY_ADDRESS names, or else the latest that was started to stay, one of this kernel's own
    Jupyter server before others; "auto" the same, or else the latest of all; "local" none.  What dead heads have left
    in the runtime directory is removed.

    Raises ConnectionError for "auto" where nothing runs, and for what is no address of a head.
    """
    wanted, why = address, "its address was given"
    if address in (None, "auto"):
        name = next((name for name in _VARIABLES if environ.get(name)), None)
        if name is not None:
            wanted, why = environ[name], f"{name} names it"
    if wanted == "local":
        return Found(None)
    if wanted in (None, "auto"):
        return _latest(environ, takes_all=wanted == "auto")
    if "/" in wanted:
        return Found(wanted, why)
    heads = running_heads()
    named = [head for head in heads if head.session == wanted]
    if named:
        return Found(named[0].address, why)
    raise ConnectionError(
        f"The address {wanted!r} is neither the path of a head's socket nor the session of a running head"
        f"{_listed(heads)}. jray's own runtime uses one machine; call jray.init() without an address, or with "
        'engine="ray" for a Ray cluster at that address.'
    )


def running_heads() -> list[Head]:
    """Return the running heads of this user, oldest first; what dead ones have left is removed."""
    base = runtime_dir()
    found = survey(base)
    for place in {place for head in found.dead for place in (base, *head.places)}:
        sweep(place)
    return found.heads


def _latest(environ: Mapping[str, str], *, takes_all: bool) -> Found:
    heads = running_heads()
    free = [head for head in heads if head.is_free]
    servers = [head for head in free if _is_kept_by(head, environ.get("JPY_PARENT_PID", ""))]
    if servers:
        return Found(servers[-1].address, "it is the one of this kernel's Jupyter server")
    if free:
        latest = free[-1]
        others = f", and the latest of {len(free)}" if len(free) > 1 else ""
        return Found(latest.address, f"{latest.started_by} has started it to stay{others}")
    if takes_all and heads:
        latest = heads[-1]
        others = f" and is the latest of {len(heads)}" if len(heads) > 1 else ""
        return Found(latest.address, f"it runs, as long as the process {latest.owner_pid}{others}")
    if takes_all:
        raise ConnectionError(
            f"Could not find any running jray head: JRAY_ADDRESS is not set, and there is none in {runtime_dir()}. "
            "Call jray.init() or run `jray start --head` to start one."
        )
    return Found(None)


def _is_kept_by(head: Head, pid: str) -> bool:
    from jray._heads.keepers import read_keeper  # noqa: PLC0415 -- a millisecond, where a head that stays runs

    try:
        keeper = read_keeper(head.folder)
    except (OSError, ValueError):  # it has just ended, or is a riddle: then it is one like others
        return False
    return keeper is not None and str(keeper.process.pid) == pid


def _listed(heads: list[Head]) -> str:
    return f" ({', '.join(head.session for head in heads)})" if heads else ""
