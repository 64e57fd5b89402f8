"""Owns what of a runtime environment jray can make: which fields, how they merge, their hashable form."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

#: field -> what to do instead
_UNSUPPORTED = {
    "working_dir": "workers share the driver's working directory on this machine",
    "py_modules": "workers share the driver's sys.path on this machine",
    "pip": "install the packages into the environment that runs the notebook",
    "uv": "install the packages into the environment that runs the notebook",
    "conda": "start the notebook in that environment",
    "container": "start the notebook in that image",
    "image_uri": "start the notebook in that image",
    "py_executable": "start the notebook with that interpreter",
    "worker_process_setup_hook": "call the hook at the start of the task",
}
#: accepted, since they change nothing where the fields above are refused
_INERT = {"config", "excludes", "_ray_commit", "_inject_current_ray"}

Environment = tuple[tuple[str, Any], ...]


def normalize(runtime_env: Mapping[str, Any] | None, parent: Environment = ()) -> Environment:
    """Return the hashable form of *runtime_env* merged into its parent's: variables key by key (Ray's rule).

    Raises NotImplementedError for fields that jray can't make, TypeError for variables that aren't text,
    ValueError for those that no process can have.
    """
    if runtime_env is not None and not isinstance(runtime_env, Mapping):
        raise TypeError(f"runtime_env must be a dict, got {runtime_env!r} ({type(runtime_env).__name__}).")
    merged = dict(dict(parent).get("env_vars", ()))
    for field, value in (runtime_env or {}).items():
        if field in _UNSUPPORTED:
            raise NotImplementedError(
                f"runtime_env={{{field!r}: ...}} is not supported by this version of jray; {_UNSUPPORTED[field]}."
            )
        if field == "env_vars":
            if value is not None and not isinstance(value, Mapping):
                raise TypeError(f"runtime_env['env_vars'] must be a dict of str to str, got {value!r}.")
            for name, text in (value or {}).items():
                if not isinstance(name, str) or not isinstance(text, str):
                    raise TypeError(
                        f"runtime_env['env_vars'] must map str to str, got {name!r}: {text!r} "
                        f"({type(name).__name__} to {type(text).__name__})."
                    )
                _check_variable(name, text)
                merged[name] = text
        elif field not in _INERT:
            raise ValueError(f"unknown field {field!r} in runtime_env; this version of jray knows env_vars")
    return (("env_vars", tuple(sorted(merged.items()))),) if merged else ()


def _check_variable(name: str, text: str) -> None:
    # found here and not in the worker, which would die of it while it starts
    if not name or "=" in name or "\0" in name + text:
        raise ValueError(
            f"runtime_env['env_vars'] has {name!r}: {text!r}, which cannot be an environment variable: its name "
            "must be neither empty nor hold '=', and neither may hold a zero byte."
        )
    try:
        os.fsencode(name + text)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"runtime_env['env_vars'] has {name!r}: {text!r}, which cannot be encoded: {error}."
        ) from None
