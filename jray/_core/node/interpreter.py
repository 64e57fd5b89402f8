"""Owns the start of another interpreter as a zygote: `INTERPRETER this_file SETTINGS`, with its socket as descriptor 3.

It is run as a file, by an interpreter that need not have jray: nothing of jray is imported before its place is known.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import socket
import sys

_SOCKET_FD = 3


def main() -> None:
    """Be a zygote; never returns."""
    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the driver
    wanted, found = settings["python"], list(sys.version_info[:2])
    if wanted != found:
        sys.exit(
            f"The interpreter {sys.executable} is Python {found[0]}.{found[1]}, and the cluster runs Python "
            f"{wanted[0]}.{wanted[1]}: functions cannot go from one to the other. Name an interpreter of that version."
        )
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    # what jray itself needs, for interpreters that lack it: last, so that what the environment has comes first
    sys.path += [path for path in settings["fallback_path"] if path not in sys.path]
    _load_package("jray", settings["package"])
    os.set_inheritable(_SOCKET_FD, False)
    zygote = importlib.import_module("jray._core.node.zygote")
    zygote.serve(socket.socket(fileno=_SOCKET_FD), eager=True, is_awaited=True)


def _load_package(name: str, directory: str) -> None:
    """Import a package from that place: the environment may have another version of it."""
    spec = importlib.util.spec_from_file_location(
        name, os.path.join(directory, "__init__.py"), submodule_search_locations=[directory]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    main()
