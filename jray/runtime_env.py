"""Owns `RuntimeEnv` and `RuntimeEnvConfig`: a runtime environment as an object instead of a plain dict.

What the fields may say is in `jray._core.environments`; what jray cannot make is refused by name where it is used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jray._core.environments import FIELDS, INSTALLERS, SETUP_TIMEOUT_S, check_config, check_field, is_uri

_BESIDE_CONTAINER = {"container", "config", "env_vars"}
_BESIDE_IMAGE = {"image_uri", "config", "env_vars"}


class RuntimeEnvConfig(dict[str, Any]):
    """How a runtime environment is made: `RuntimeEnv(config=RuntimeEnvConfig(setup_timeout_seconds=60))`.

    `setup_timeout_seconds` is a whole number of seconds, -1 for no limit.  Raises TypeError or ValueError for a
    wrong value.
    """

    def __init__(
        self,
        setup_timeout_seconds: int = SETUP_TIMEOUT_S,
        eager_install: bool = True,
        log_files: list[str] | None = None,
    ) -> None:
        given = {
            "setup_timeout_seconds": setup_timeout_seconds,
            "eager_install": eager_install,
            "log_files": log_files,
        }
        super().__init__(check_config(given) or {})


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
        installers = [name for name in INSTALLERS if self.get(name) is not None]
        if len(installers) > 1:
            raise ValueError(f"The fields {' and '.join(installers)} cannot be specified at the same time.")
        for field, beside in (("container", _BESIDE_CONTAINER), ("image_uri", _BESIDE_IMAGE)):
            strangers = set(self) - beside
            if self.get(field) and strangers:
                raise ValueError(f"The field {field!r} cannot be used together with {sorted(strangers)}.")
        for name in FIELDS & self.keys():
            self[name] = self.pop(name)

    def __setitem__(self, name: str, value: Any) -> None:
        """Set a field, to the plain form of what it is given; one that says nothing is left out.

        Raises TypeError or ValueError for a wrong value, also for a path where there is nothing.
        """
        plain = check_field(name, value) if name in FIELDS else value
        if plain is None:
            self.pop(name, None)
            return
        for path in {"working_dir": [plain], "py_modules": plain}.get(name, ()):
            if not is_uri(path) and not os.path.exists(path):
                raise ValueError(
                    f"runtime_env[{name!r}] has {path!r}, and there is no such file or directory."
                )
        super().__setitem__(name, RuntimeEnvConfig(**plain) if name == "config" else plain)

    def set(self, name: str, value: Any) -> None:
        """Set a field, as `env[name] = value` does."""
        self[name] = value

    def env_vars(self) -> dict[str, str]:
        """Return the environment variables."""
        return dict(self.get("env_vars") or {})

    def has_working_dir(self) -> bool:
        """Tell whether there is a working directory."""
        return "working_dir" in self

    def working_dir(self) -> str:
        """Return the working directory, a path or a URI; "" if there is none."""
        return str(self.get("working_dir", ""))

    def working_dir_uri(self) -> str | None:
        """Return the working directory, a path or a URI; None if there is none."""
        return self.get("working_dir")

    def py_modules(self) -> list[str]:
        """Return the modules, paths or URIs."""
        return list(self.get("py_modules", ()))

    def py_modules_uris(self) -> list[str]:
        """Return the modules, paths or URIs."""
        return self.py_modules()

    def py_executable(self) -> str | None:
        """Return the command of the interpreter, or None."""
        return self.get("py_executable")

    def has_pip(self) -> bool:
        """Tell whether pip installs packages."""
        return "pip" in self

    def has_uv(self) -> bool:
        """Tell whether uv installs packages."""
        return "uv" in self

    def has_conda(self) -> bool:
        """Tell whether there is a conda environment, which jray cannot make."""
        return bool(self.get("conda"))

    def pip_config(self) -> dict[str, Any]:
        """Return what pip is told: packages and options; {} if it is not used."""
        return dict(self.get("pip", {}))

    def uv_config(self) -> dict[str, Any]:
        """Return what uv is told: packages and options; {} if it is not used."""
        return dict(self.get("uv", {}))

    def image_uri(self) -> str | None:
        """Return the container image, which jray does not start, or None."""
        return self.get("image_uri")

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
