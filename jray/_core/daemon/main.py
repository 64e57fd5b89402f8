"""Owns the start of a head process, and of its zygotes: `python -c '<this main>' '<json>'`.

The zygote is forked before anything else is imported, so that both import at the same time.
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
    keep = settings["keep_fd"]
    _close_inherited(keep)
    eager = settings["eager_zygote"]
    if settings["is_zygote"]:
        importlib.import_module("jray._core.node.zygote").serve(socket.socket(fileno=keep), eager=eager)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    log = os.memfd_create("jray-zygote-log", os.MFD_CLOEXEC)
    zygote = os.fork()
    if not zygote:
        ours.close()
        os.close(keep)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        importlib.import_module("jray._core.node.zygote").serve(theirs, eager=eager)
    theirs.close()
    importlib.import_module("jray._core.daemon.service").run(settings, ours, zygote, log)


def _close_inherited(keep: int) -> None:
    """Close what the driver's other descriptors leaked: who reads their other ends must see the driver's end."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != keep:
            try:
                os.close(int(name))
            except OSError:  # that of the listing
                pass


if __name__ == "__main__":
    main()
