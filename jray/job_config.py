"""Owns `JobConfig`: what a driver asks for its whole job, as one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jray._core.environments import parse
from jray._core.logs import LoggingConfig

_LIFETIMES = ("detached", "non_detached")


class JobConfig:
    """Settings of a job, for `jray.init(job_config=...)`; what `init` is given beside it comes first.

    Args:
        jvm_options: refused: jray runs no Java.
        code_search_path: directories that come first on the workers' `sys.path`.
        runtime_env: the job's, as in `jray.init`.
        metadata: text by name, shown with the job.
        ray_namespace: the job's namespace.
        default_actor_lifetime: of the job's actors that name none: "non_detached", or "detached": they live on
            without handles and after the job, also those that the job's tasks make.

    Raises TypeError, ValueError or NotImplementedError for a wrong value.
    """

    def __init__(
        self,
        jvm_options: Sequence[str] | None = None,
        code_search_path: Sequence[str] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        _client_job: bool = False,
        metadata: dict[str, str] | None = None,
        ray_namespace: str | None = None,
        default_actor_lifetime: str = "non_detached",
        _disable_job_level_lineage_reconstruction: bool = False,
        _py_driver_sys_path: Sequence[str] | None = None,
    ) -> None:
        if jvm_options:
            raise NotImplementedError(f"JobConfig(jvm_options={jvm_options!r}): jray runs no Java.")
        if not isinstance(code_search_path or (), list | tuple):
            raise TypeError(f"code_search_path must be a list of directories, got {code_search_path!r}.")
        self.jvm_options: list[str] = []
        self.code_search_path = list(code_search_path or ())
        self.metadata = metadata or {}
        self.ray_namespace = ray_namespace
        self.py_logging_config: LoggingConfig | None = None
        self._client_job = _client_job
        # no effect: what a lost node held is made again where it can be
        self._disable_job_level_lineage_reconstruction = _disable_job_level_lineage_reconstruction
        self._py_driver_sys_path = list(_py_driver_sys_path or ())
        self.set_runtime_env(runtime_env)
        self.set_default_actor_lifetime(default_actor_lifetime)

    def set_metadata(self, key: str, value: str) -> None:
        self.metadata[key] = value

    def set_runtime_env(self, runtime_env: Mapping[str, Any] | None, validate: bool = False) -> None:
        """Set the job's environment; `validate` raises now what `init` would raise."""
        self.runtime_env: Mapping[str, Any] = {} if runtime_env is None else runtime_env
        if validate:
            parse(self.runtime_env)

    def set_py_logging_config(self, logging_config: LoggingConfig | None = None) -> None:
        self.py_logging_config = logging_config

    def ensure_logging_config(self, logging_config: LoggingConfig | Mapping[str, Any] | None = None) -> None:
        """Set the logging configuration, from its fields too, unless there is one."""
        if logging_config is None or self.py_logging_config is not None:
            return
        if isinstance(logging_config, Mapping):
            logging_config = LoggingConfig.from_dict(logging_config)
        if not isinstance(logging_config, LoggingConfig):
            raise TypeError(f"logging_config must be a dict or LoggingConfig, got {type(logging_config)}")
        self.py_logging_config = logging_config

    def set_ray_namespace(self, ray_namespace: str) -> None:
        self.ray_namespace = ray_namespace

    def set_default_actor_lifetime(self, default_actor_lifetime: str) -> None:
        if default_actor_lifetime not in _LIFETIMES:
            raise ValueError(
                f"Default actor lifetime must be one of {_LIFETIMES}, not {default_actor_lifetime!r}."
            )
        self._default_actor_lifetime = default_actor_lifetime

    @classmethod
    def from_json(cls, job_config_json: Mapping[str, Any]) -> JobConfig:
        """Return the configuration with these fields; those it does not know are ignored."""
        get = job_config_json.get
        return cls(
            jvm_options=get("jvm_options"),
            code_search_path=get("code_search_path"),
            runtime_env=get("runtime_env"),
            metadata=get("metadata"),
            ray_namespace=get("ray_namespace"),
            _client_job=get("client_job", False),
            _disable_job_level_lineage_reconstruction=get("disable_job_level_lineage_reconstruction", False),
            _py_driver_sys_path=get("py_driver_sys_path"),
        )
