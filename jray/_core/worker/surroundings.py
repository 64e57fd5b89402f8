"""Owns what of a runtime environment a worker makes real in its own process: variables, paths, and the setup hook."""

from __future__ import annotations

import importlib
import os
import pickle
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from jray._core.specs import SETUP_FAILED

#: directories of an interpreter's own library, and those of what is installed for it
_STANDARD = re.compile(r"/python\d+\.\d+(/lib-dynload)?$|/python\d+\.zip$")
_INSTALLED = re.compile(r"/(site|dist)-packages(/|$)")


def settle(settings: dict[str, Any]) -> None:
    """Give this process the directory, paths and variables that its job, and its runtime environment, ask for."""
    front = list(settings.get("front_path", ()))
    environment = settings["runtime_env"]
    for key, text in environment.get("env_vars", ()):
        os.environ[key] = os.path.expandvars(text)
        if key == "PYTHONPATH":  # this interpreter has started already
            front += [path for path in os.environ[key].split(os.pathsep) if path]
    if settings.get("front_path"):  # for the programs that tasks start
        others = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
        os.environ["PYTHONPATH"] = os.pathsep.join([*settings["front_path"], *others])
    sys.path[:] = search_path(sys.path, settings["sys_path"] or (), front, has_own="interpreter" in settings)
    try:
        os.chdir(settings["cwd"])
    except (OSError, TypeError):  # the driver's directory is gone: stay where the zygote is
        pass


def search_path(
    own: Sequence[str], drivers: Sequence[str], front: Sequence[str], *, has_own: bool
) -> list[str]:
    """Return the `sys.path` of a worker: the environment's directories, then those of the driver.

    `has_own`: its interpreter has packages of its own.  Then of the driver's come first only the directories where
    nothing is installed, and last what is installed there.
    """
    if not has_own:
        return _unique([*front, *(drivers or own)])
    local = [path for path in drivers if not _STANDARD.search(path) and not _INSTALLED.search(path)]
    installed = [path for path in drivers if _INSTALLED.search(path)]
    return _unique([*front, *local, *own, *installed])


def _unique(paths: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(paths))


def run_hook(settings: dict[str, Any]) -> None:
    """Call the environment's setup hook; if it raises, this process ends, and its environment is said to fail."""
    hook = settings["runtime_env"].get("worker_process_setup_hook")
    if not hook:
        return
    try:
        if "hook_path" in settings:
            with open(settings["hook_path"], "rb") as file:
                function = pickle.load(file)
        else:
            module, _, name = hook.rpartition(".")
            function = getattr(importlib.import_module(module or "builtins"), name)
        function()
    except BaseException:  # noqa: BLE001 -- whatever the user's code raises
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(SETUP_FAILED)
