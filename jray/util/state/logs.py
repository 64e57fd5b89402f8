"""Owns the reading of the session's log files: which there are, and what a process wrote.

A worker writes four files: what Python code wrote, `.log` and `.stderr`, and what C code and child processes wrote
to the descriptors behind, `.out` and `.err`.  They are in the directory of their node and end with it.
"""

from __future__ import annotations

import codecs
import fnmatch
import os
import re
import time
from collections.abc import Iterator
from typing import Any

from jray._core.refs import current
from jray.exceptions import RaySystemError
from jray.util.state.api import require_client
from jray.util.state.common import DEFAULT_RPC_TIMEOUT
from jray.util.state.exception import RayStateApiException

#: of a suffix of Ray's the files that have it here
_ENDINGS = {"out": (".log", ".out"), "err": (".stderr", ".err")}
_FOLLOW_S = 0.5
_ANSI = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")
#: the socket of a worker, whose number its log files have
_WORKER_SOCKET = re.compile(r"w([0-9]+)\.sock")


def list_logs(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    glob_filter: str | None = None,
    timeout: int = DEFAULT_RPC_TIMEOUT,  # noqa: ARG001 -- nodes answer at once, or not at all
) -> dict[str, list[str]]:
    """Return the names of the log files that match `glob_filter`, by group: worker_out, worker_err, internal.

    Unless a node is given these are of the caller's own; it must be one of the cluster: RayStateApiException.
    """
    client = _client(address)
    names = client.cluster.log_names(_node(client, node_id, node_ip))
    groups: dict[str, list[str]] = {}
    for name in names:
        if fnmatch.fnmatchcase(name, glob_filter or "*"):
            groups.setdefault(_group(name), []).append(name)
    return groups


def _group(name: str) -> str:
    if name.startswith("worker-"):
        return "worker_out" if name.endswith(_ENDINGS["out"]) else "worker_err"
    return "internal"


def get_log(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    filename: str | None = None,
    actor_id: str | None = None,
    task_id: str | None = None,
    pid: int | None = None,
    follow: bool = False,
    tail: int = -1,
    timeout: int = DEFAULT_RPC_TIMEOUT,  # noqa: ARG001 -- as in `list_logs`
    suffix: str = "out",
    encoding: str | None = "utf-8",
    errors: str | None = "strict",
    submission_id: str | None = None,
    attempt_number: int = 0,
    _interval: float | None = None,
    filter_ansi_code: bool = False,
) -> Iterator[Any]:
    """Return an iterator over pieces of a log: text, or bytes if `encoding` is None.

    Args:
        address: as everywhere in this module.
        node_id, node_ip: as in `list_logs`.
        filename: which file of `list_logs` to read; or
        actor_id, pid: whose output to read; of processes that ended the cluster knows only the latest, if any.
        suffix: "out" for what it wrote to stdout, "err" for stderr.
        tail: how many lines from the end; -1 for all.
        follow: go on with what is written later, until the session ends or the caller stops.
        encoding, errors: as of `bytes.decode`.
        filter_ansi_code: leave out the codes that colour text.
        _interval: seconds between two looks while following.

    Raises:
        ValueError: none of filename, actor_id, task_id, pid is given, or suffix is none of the two.
        RayStateApiException: there is no such file, actor or process.
        NotImplementedError: for task_id and submission_id, saying what to do instead.
    """
    if suffix not in _ENDINGS:
        raise ValueError(f"Invalid suffix: {suffix!r}. It must be 'out' or 'err'.")
    if not (filename or actor_id or task_id or pid or submission_id):
        raise ValueError("Give filename, actor_id or pid: whose log is wanted?")
    client = _client(address)
    node = _node(client, node_id, node_ip)
    if submission_id:
        raise NotImplementedError(
            "jray.util.state.get_log(submission_id=...) is not supported by this version."
        )
    if task_id:
        _refuse_task(client, task_id, attempt_number)
    if filename:
        if filename not in client.cluster.log_names(node):
            raise RayStateApiException(
                f"There is no log file {filename!r}; jray.util.state.list_logs() tells which are."
            )
        names = [filename]
    else:
        worker = _worker_of_actor(client, actor_id) if actor_id else _worker("pid", pid, client)
        node = worker["node_id"]
        names = [f"{_stem(worker)}{ending}" for ending in _ENDINGS[suffix]]
    pieces = _pieces(client, node, names, tail, (_interval or _FOLLOW_S) if follow else None)
    return _decoded(pieces, encoding, errors, without_ansi=filter_ansi_code)


# -- which files ------------------------------------------------------------------------------------------


def _client(address: str | None) -> Any:
    client = require_client(address)
    if client.engine_name == "ray":
        raise NotImplementedError(
            'With engine="ray" logs are Ray\'s: use ray.util.state.get_log and list_logs.'
        )
    return client


def _node(client: Any, node_id: str | None, node_ip: str | None) -> str:
    """Return the id of the node that is meant: the one given, or the caller's own."""
    if node_id and node_ip:
        raise ValueError(f"Give node_id={node_id!r} or node_ip={node_ip!r}, not both.")
    own: str = client.whereabouts().node_id.hex()
    for column, wanted in (("node_id", node_id), ("node_ip", node_ip)):
        if wanted:
            found = [
                row["node_id"] for row in client.cluster.rows("nodes", filters=((column, "=", wanted),)).rows
            ]
            if not found:
                raise RayStateApiException(f"No node of this cluster has {column} {wanted!r}.")
            return own if own in found else str(found[0])
    return own


def _refuse_task(client: Any, task_id: str, attempt_number: int) -> None:
    filters = (("task_id", "=", task_id), ("attempt_number", "=", attempt_number))
    found = client.cluster.rows("tasks", filters=filters).rows
    if not found:
        raise RayStateApiException(f"No task has id {task_id!r} and attempt number {attempt_number}.")
    raise NotImplementedError(
        "Logs are kept by process, so that get_log(task_id=...) is not supported. "
        f"get_log(pid={found[0]['worker_pid']}) has what the worker of this task wrote, with that of other tasks."
    )


def _worker_of_actor(client: Any, actor_id: str) -> dict[str, Any]:
    found = client.cluster.rows("actors", filters=(("actor_id", "=", actor_id),)).rows
    if not found:
        raise RayStateApiException(f"No actor has id {actor_id!r}.")
    return _worker("pid", found[0]["pid"], client)


def _worker(column: str, wanted: object, client: Any) -> dict[str, Any]:
    found = client.cluster.rows(
        "workers", filters=((column, "=", wanted), ("worker_type", "=", "WORKER"))
    ).rows
    if not found:
        raise RayStateApiException(
            f"No worker is known that has {column} {wanted}. Log files of ended ones are among those that "
            "jray.util.state.list_logs() names: get_log(filename=...)."
        )
    row: dict[str, Any] = found[0]
    return row


def _stem(worker: dict[str, Any]) -> str:
    """Return what the names of a worker's log files begin with."""
    number = _WORKER_SOCKET.fullmatch(os.path.basename(worker["address"]))
    assert number is not None
    return f"worker-{number[1]}"


# -- what is in them --------------------------------------------------------------------------------------


def _pieces(client: Any, node: str, names: list[str], tail: int, interval_s: float | None) -> Iterator[bytes]:
    """Yield what the files hold, one after the other, then what is added, if there is an interval."""
    positions = dict.fromkeys(names, 0)
    piece = b"".join(_new(client, node, positions))
    if tail >= 0:
        piece = b"".join(piece.splitlines(keepends=True)[-tail:] if tail else [])
    if piece:
        yield piece
    while interval_s is not None and current.client is client:
        time.sleep(interval_s)
        yield from _new(client, node, positions)


def _new(client: Any, node: str, positions: dict[str, int]) -> Iterator[bytes]:
    """Yield what was added to each file, and move its position."""
    for name, start in list(positions.items()):
        try:
            while piece := client.cluster.log_piece(node, name, start):
                start = positions[name] = start + len(piece)  # noqa: PLW2901 -- the place moves on
                yield piece
        except RaySystemError:  # the session has ended
            return


def _decoded(
    pieces: Iterator[bytes], encoding: str | None, errors: str | None, *, without_ansi: bool
) -> Iterator[Any]:
    decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)(errors or "strict")
    for piece in pieces:
        plain = _ANSI.sub(b"", piece) if without_ansi else piece
        yield plain if decoder is None else decoder.decode(plain)
