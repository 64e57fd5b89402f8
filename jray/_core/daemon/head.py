"""Owns the head process: the head and its own node in one, and the card by which others find it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from typing import Any

from jray._core.config import Config
from jray._core.daemon.assembly import assemble
from jray._core.head.cluster import ClusterService
from jray._core.head.remote_node import NodeDoor
from jray._core.node.pool import ZygoteProcess
from jray._core.resources import ResourceSet
from jray._core.store.sweep import sweep
from jray._core.wire import messages
from jray._core.wire.connection import Listener, Reactor

#: seconds that each other node may take to hear that it must end
_FAREWELL_S = 1.0


class HeadDaemon:
    """Head and node of one machine in one process."""

    def __init__(self, settings: dict[str, Any], zygote: ZygoteProcess) -> None:
        self._settings = settings
        self._reactor = Reactor()
        config = Config.from_environ()
        self._cluster = ClusterService(config)
        self._door = NodeDoor(self._cluster)
        self._node = assemble(
            settings,
            zygote,
            config=config,
            reactor=self._reactor,
            head=self._cluster,
            fail=self._fail,
            on_owner_gone=self._stop,
            strangers={messages.NODE_JOIN: self._door.join},
        )
        self._cluster.node_joined(self._node.host, self._node.facts)

    def run(self, owner: socket.socket | None) -> None:
        """Serve until stopped: by SIGTERM, or by the end of the driver that owns this head."""
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        host = self._node.host
        listener = Listener(self._settings["address"], self._reactor, host.accept)
        if owner is not None:
            host.accept(owner, is_owner=True)
        self._write_card()
        settings = self._settings
        if settings["tells_ready"]:
            host.tell_ready()
        directories = ("session_dir", "card_dir", "store_dir", "spill_dir")
        for base in {os.path.dirname(settings[name]) for name in directories}:
            sweep(base)  # what was left by heads that could not clean up
        try:
            host.serve([self._cluster])
        finally:
            listener.close()
            self._door.close(_FAREWELL_S)

    def _stop(self) -> None:
        self._node.host.stop()

    def _fail(self, text: str) -> None:
        """End this head, because it can do nothing any more, and tell the drivers why."""
        print(text, flush=True)  # noqa: T201 -- stdout is the head's log
        host = self._node.host
        for number in self._cluster.drivers():
            client = host.clients.get(number)
            if client is not None:
                client.connection.send((messages.NOTICE, 0, f"jray ends: {text}"))
                client.connection.drain(1.0)
        host.stop()

    def _write_card(self) -> None:
        """Write head.json, by which other programs of this user find the head."""
        settings = self._settings
        card = {
            "session": os.path.basename(settings["session_dir"]),
            "pid": os.getpid(),
            "start_time": _start_time(),
            "address": settings["address"],
            "num_cpus": ResourceSet(settings["resources"]).to_floats().get("CPU", 0),
            "owner_pid": settings["owner_pid"],
            "python": sys.executable,
            "created_s": time.time(),
        }
        path = f"{settings['card_dir']}/head.json"
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(card, file)
        os.replace(path + ".new", path)

    def close(self) -> None:
        """Remove everything this head has on disk and in shared memory."""
        self._node.close()
        self._reactor.close()


def _start_time() -> int:
    """Return when this process started, in the kernel's ticks: with the pid it names one process for ever."""
    with open("/proc/self/stat", "rb") as file:
        return int(file.read().rsplit(b")", 1)[1].split()[19])
