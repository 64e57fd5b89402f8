"""Owns the process of a node that is not the head's own."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

from jray._core.config import Config
from jray._core.daemon.assembly import assemble
from jray._core.node.pool import ZygoteProcess
from jray._core.node.uplink import Uplink
from jray._core.store.sweep import sweep
from jray._core.wire.connection import Listener, Reactor, connect


class NodeDaemon:
    """One node of a head that runs elsewhere; it ends with the head."""

    def __init__(self, settings: dict[str, Any], zygote: ZygoteProcess) -> None:
        self._settings = settings
        self._reactor = Reactor()
        self._listener: Listener | None = None
        self._uplink = Uplink(connect(settings["head_address"]), self._reactor, self._head_lost)
        self._node = assemble(
            settings,
            zygote,
            config=Config.from_environ(),
            reactor=self._reactor,
            head=self._uplink,
            fail=self._fail,
            on_owner_gone=self._stop,
        )

    def run(self, owner: socket.socket | None) -> None:
        """Serve until stopped: by SIGTERM, by the head, or by the end of the process that owns this node."""
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        host = self._node.host
        if owner is not None:
            host.accept(owner, is_owner=True)
        self._uplink.join(self._node.facts, host, self._welcomed)
        try:
            host.serve([])
        finally:
            if self._listener is not None:
                self._listener.close()
            self._uplink.end("it was told to end")

    def _welcomed(self, number: int) -> None:
        """Let clients in, now that they can be numbered."""
        host = self._node.host
        host.number_from(number)
        self._listener = Listener(self._settings["address"], self._reactor, host.accept)
        host.tell_ready()
        for name in ("session_dir", "store_dir", "spill_dir"):
            sweep(os.path.dirname(self._settings[name]))

    def _stop(self) -> None:
        self._node.host.stop()

    def _head_lost(self, reason: str) -> None:
        print(f"The node ends: {reason}", flush=True)  # noqa: T201 -- stdout is the node's log
        self._stop()

    def _fail(self, text: str) -> None:
        """End this node, because it can do nothing any more."""
        print(text, flush=True)  # noqa: T201 -- stdout is the node's log
        self._uplink.end(text)
        self._stop()

    def close(self) -> None:
        """Remove everything this node has on disk and in shared memory."""
        self._node.close()
        self._reactor.close()
