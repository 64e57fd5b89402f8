"""Owns the start of a head process: `python -m jray._core.daemon.main '<json>'`.

The zygote is forked before anything else is imported, so that it imports numpy on one core while this
process sets up on another.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys


def main() -> None:
    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the driver
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    me = os.getpid()
    zygote = os.fork()
    if not zygote:
        ours.close()
        if settings.get("owner_fd") is not None:
            os.close(settings["owner_fd"])
        serve = importlib.import_module("jray._core.node.zygote").serve
        serve(theirs, me)
    theirs.close()
    importlib.import_module("jray._core.daemon.service").run(settings, ours, zygote)


if __name__ == "__main__":
    main()
