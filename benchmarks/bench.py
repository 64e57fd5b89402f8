"""What a probe is given: the engine to measure, how much to measure, and who its processes are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks import processes
from benchmarks.engines import CPUS, Engine
from benchmarks.timing import Samples, Scale


class Api(Protocol):
    """What the probes use of Ray's API.  `Any`: the two engines share names, not types."""

    def init(self, **options: object) -> object: ...
    def shutdown(self) -> object: ...
    def remote(self, target: Callable[..., object]) -> Any: ...
    def get(self, refs: object) -> Any: ...
    def put(self, value: object) -> object: ...
    def wait(self, refs: list[Any], *, fetch_local: bool = ...) -> tuple[list[Any], list[Any]]: ...


class _NoApi:
    """Stands for the API of an engine that has none, and says so when a probe asks for it."""

    def __getattr__(self, name: str) -> Any:
        message = f"this engine has no {name}(): the probe is not for it"
        raise AttributeError(message)


@dataclass(frozen=True, slots=True)
class Bench:
    """One probe's surroundings, inside the process that runs it."""

    engine: Engine
    scale: Scale
    mark: str
    api: Api = field(default_factory=_NoApi)

    def start(self) -> None:
        """Start the engine's runtime and wait until it has run tasks; `shutdown` is the caller's."""
        self.api.init(num_cpus=CPUS, **self.engine.init_options)

        @self.api.remote
        def nothing() -> None:
            return None

        self.api.get([nothing.remote() for _ in range(300)])

    def measure_idle(self) -> Samples:
        """Memory and CPU of the processes that this one started, after they settled."""
        time.sleep(1 if self.scale.quick else 3)
        own_pid = os.getpid()
        pids = processes.members(self.mark, own_pid) - {own_pid}
        memory_mb = processes.pss_mb(pids)
        used_s, start = processes.cpu_s(pids), time.perf_counter()
        time.sleep(1 if self.scale.quick else 3)
        share = (processes.cpu_s(pids) - used_s) / (time.perf_counter() - start)
        return {"idle_memory": [memory_mb], "idle_cpu": [share * 100]}


def check(claim: bool, what: str) -> None:
    """A fast wrong answer is no figure: raise unless *claim* holds."""
    if not claim:
        message = f"wrong answer: {what}"
        raise AssertionError(message)
