"""Owns the start of a head process, and of its zygotes: `python -c '<call of main>' '<json>'`."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys

#: what both a head and a zygote need: imported once, before they part
_SHARED = (
    "jray._core.config",
    "jray._core.machine.actors",
    "jray._core.node.zygote",
    "jray._core.resources",
    "jray._core.store.arena",
    "jray._core.wire.connection",
)


def main() -> None:
    """Be a head, or a zygote if the arguments say so; never returns in a zygote."""
    gc.disable()  # what is imported stays, and there is nothing else yet
    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the driver
    keep = settings["keep_fd"]
    _close_inherited(keep)
    for name in _SHARED:
        importlib.import_module(name)
    serve = importlib.import_module("jray._core.node.zygote").serve
    eager = settings["eager_zygote"]
    if settings["is_zygote"]:
        serve(socket.socket(fileno=keep), eager=eager)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    log = os.memfd_create("jray-zygote-log", os.MFD_CLOEXEC)
    zygote = os.fork()
    if not zygote:
        ours.close()
        os.close(keep)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        serve(theirs, eager=eager)
    theirs.close()
    run = importlib.import_module("jray._core.daemon.start").run
    gc.freeze()
    gc.enable()
    run(settings, ours, zygote, log)


def _close_inherited(keep: int) -> None:
    """Close what else the driver's process left open: its other ends must see the driver's end."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != keep:
            try:
                os.close(int(name))
            except OSError:  # that of the listing
                pass


if __name__ == "__main__":
    main()
