"""Owns `RuntimeEnv` and `RuntimeEnvConfig`: a runtime environment as an object instead of a plain dict.

What of it jray can make is decided where it is used (see `jray._core.environments`), and refused there by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jray._core.environments import normalize

_INSTALLERS = ("conda", "pip", "uv")
_BESIDE_CONTAINER = {"container", "config", "env_vars"}
_BESIDE_IMAGE = {"image_uri", "config", "env_vars"}
_SETUP_TIMEOUT_S = 600


class RuntimeEnvConfig(dict[str, Any]):
    """How a runtime environment is made: `RuntimeEnv(config=RuntimeEnvConfig(setup_timeout_seconds=60))`.

    `setup_timeout_seconds` is a whole number of seconds, -1 for no limit.  Raises TypeError or ValueError for a
    wrong value.
    """

    def __init__(
        self,
        setup_timeout_seconds: int = _SETUP_TIMEOUT_S,
        eager_install: bool = True,
        log_files: list[str] | None = None,
    ) -> None:
        if not isinstance(setup_timeout_seconds, int):
            raise TypeError(f"setup_timeout_seconds must be an int, got {type(setup_timeout_seconds)}.")
        if setup_timeout_seconds <= 0 and setup_timeout_seconds != -1:
            raise ValueError(f"setup_timeout_seconds must be above 0, or -1, got {setup_timeout_seconds}.")
        if not isinstance(eager_install, bool):
            raise TypeError(f"eager_install must be a bool, got {type(eager_install)}.")
        files = [] if log_files is None else log_files
        if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
            raise TypeError(f"log_files must be a list of str, or None, got {log_files!r}.")
        super().__init__(
            setup_timeout_seconds=setup_timeout_seconds, eager_install=eager_install, log_files=files
        )


class RuntimeEnv(dict[str, Any]):
    """A runtime environment, for `jray.init(runtime_env=...)` and the option of tasks and actors.

    It is the dict of the fields that are given.  Raises TypeError or ValueError for values and combinations that
    are wrong anywhere; a field that jray cannot make is refused where the environment is used.
    """

    def __init__(
        self,
        *,
        py_modules: Sequence[str] | None = None,
        py_executable: str | None = None,
        working_dir: str | None = None,
        pip: Any = None,
        conda: Any = None,
        container: Mapping[str, Any] | None = None,
        env_vars: Mapping[str, str] | None = None,
        worker_process_setup_hook: Callable[[], Any] | str | None = None,
        nsight: Any = None,
        rocprof_sys: Any = None,
        config: Mapping[str, Any] | None = None,
        _validate: bool = True,
        image_uri: str | None = None,
        uv: Any = None,
        **others: Any,
    ) -> None:
        given = {
            "py_modules": py_modules,
            "py_executable": py_executable,
            "working_dir": working_dir,
            "pip": pip,
            "uv": uv,
            "conda": conda,
            "_nsight": nsight,
            "_rocprof_sys": rocprof_sys,
            "container": container,
            "env_vars": env_vars,
            "config": config,
            "worker_process_setup_hook": worker_process_setup_hook,
            "image_uri": image_uri,
        }
        super().__init__(others | {name: value for name, value in given.items() if value is not None})
        if _validate:
            self._check()

    def _check(self) -> None:
        installers = [name for name in _INSTALLERS if self.get(name) is not None]
        if len(installers) > 1:
            raise ValueError(f"The fields {' and '.join(installers)} cannot be specified at the same time.")
        for field, beside in (("container", _BESIDE_CONTAINER), ("image_uri", _BESIDE_IMAGE)):
            strangers = set(self) - beside
            if self.get(field) and strangers:
                raise ValueError(f"The field {field!r} cannot be used together with {sorted(strangers)}.")
        if "env_vars" in self:
            normalize({"env_vars": self["env_vars"]})
        config = self.get("config")
        if config is not None and not isinstance(config, RuntimeEnvConfig):
            if not isinstance(config, Mapping):
                raise TypeError(f"config must be a dict or a RuntimeEnvConfig, got {type(config)}.")
            super().__setitem__("config", RuntimeEnvConfig(**config))

    def set(self, name: str, value: Any) -> None:
        """Set a field."""
        self[name] = value

    def env_vars(self) -> dict[str, str]:
        """Return the environment variables."""
        return dict(self.get("env_vars") or {})

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict of the fields."""
        return {
            name: dict(value) if isinstance(value, RuntimeEnvConfig) else value
            for name, value in self.items()
        }

    def serialize(self) -> str:
        """Return the fields as JSON."""
        return json.dumps(self, sort_keys=True)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> RuntimeEnv:
        """Return the environment with these fields, which are good already."""
        return cls(_validate=False, **fields)

    @classmethod
    def deserialize(cls, serialized_runtime_env: str) -> RuntimeEnv:
        """Return the environment that `serialize` wrote."""
        return cls.of(json.loads(serialized_runtime_env))
