"""Owns the surroundings of a head's or a node's process: its directories, its log, and that nothing is left of it."""

from __future__ import annotations

import io
import os
import resource
import socket
from typing import Any

from jray._core.daemon.head import HeadDaemon
from jray._core.daemon.node import NodeDaemon
from jray._core.node.pool import ZygoteProcess
from jray._core.node.strays import adopt_orphans, end_children
from jray._core.store.sweep import claim

_GRACE_S = 5.0


def run(settings: dict[str, Any], zygote_socket: socket.socket, zygote_pid: int, zygote_log: int) -> None:
    """Be the head, or a node of the head that the settings name, until told to stop; then leave nothing behind."""
    adopt_orphans()
    _allow_many_files()
    directories = [settings["session_dir"], settings["store_dir"], settings["card_dir"]]
    try:
        holders = [claim(directory) for directory in dict.fromkeys(directories)]
    except OSError as error:
        raise SystemExit(
            f"The directory {error.filename} cannot be made: {error.strerror}. "
            "Set JRAY_RUNTIME_DIR to a directory that you can write."
        ) from error
    is_head = settings["head_address"] is None
    os.mkdir(f"{settings['session_dir']}/logs", 0o700)
    _log_to(f"{settings['session_dir']}/logs/{'head' if is_head else 'node'}.log")
    owner_fd = settings["owner_fd"]
    owner = socket.socket(fileno=owner_fd) if owner_fd is not None else None
    zygote = ZygoteProcess(zygote_socket, zygote_pid, io.FileIO(zygote_log))
    try:
        daemon = HeadDaemon(settings, zygote) if is_head else NodeDaemon(settings, zygote)
        try:
            daemon.run(owner)
        finally:
            daemon.close()
    finally:
        end_children(_GRACE_S)
        for holder in reversed(holders):
            holder.remove()


def _allow_many_files() -> None:
    """Raise this process's limit of open files: it has a connection to each worker."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _log_to(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
