"""Owns the settings: one frozen `Config`, the only reader of JRAY_* variables."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

#: of settings that cannot be 0, or can be less
_LEAST = {"batch_tasks": 1, "segment_bytes": 1, "task_max_retries": -1}


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """Numbers that shape the runtime.  Each can be set as JRAY_<NAME IN CAPITALS> in the environment."""

    #: values up to this many bytes live in their owner's process and ride inside messages (Ray: 100 KiB)
    inline_limit_bytes: int = 100 * 1024
    #: a lease without work is given back after this long; long enough to survive a notebook user's loop
    lease_idle_s: float = 0.05
    #: a worker is given up to this much estimated work ahead, so that it never waits for its owner
    batch_us: float = 4000.0
    #: most tasks in one batch, whatever their length: bounds what a crash makes ambiguous
    batch_tasks: int = 512
    #: results of short tasks are held back at most this long to travel together
    flush_us: float = 250.0
    #: a thread that waits looks this long for an answer before it sleeps, where that has paid off lately
    spin_us: float = 50.0
    #: the I/O thread leaves the sockets to user threads that were here this recently
    handover_s: float = 0.004
    #: a worker that waits this long in `get` gives its CPU back
    blocked_after_s: float = 0.001
    #: idle workers above the number of CPUs are ended after this long (Ray: 1 s)
    worker_idle_s: float = 1.0
    #: a new worker that has not registered by then is given up
    worker_start_timeout_s: float = 30.0
    #: seconds a starting head may take before `init` gives up
    head_start_timeout_s: float = 20.0
    #: an infeasible request is said after this long
    infeasible_notice_s: float = 0.5
    #: size of one segment of the store
    segment_bytes: int = 256 * 1024 * 1024
    #: pickled functions above this warn, above the next raise (Ray: 10 MB and 95 MiB)
    function_warn_bytes: int = 10 * 1024 * 1024
    function_max_bytes: int = 100 * 1024 * 1024
    #: how many times a crashed task runs again when the option is not given
    task_max_retries: int = 3
    #: how many ended tasks each process remembers, for `jray.util.state` and the timeline
    task_history: int = 10_000
    #: how many calls from a notebook that raised are remembered with their arguments, and the bytes of these together
    failed_calls: int = 32
    failed_calls_bytes: int = 64 * 1024 * 1024
    #: seconds a process may take to answer when the cluster's state is asked for
    report_timeout_s: float = 2.0
    #: say a task's error once if its last ref goes and nobody got it
    shows_unhandled_errors: bool = True
    #: whether refs may be pickled where nobody tells when the pickle is gone: they live as long as the job
    allow_out_of_band_object_ref_serialization: bool = True
    #: whether objects of a full store go to disk
    spills: bool = True
    #: ... and some do before, once this part of it is used (Ray: 0.8)
    spill_threshold: float = 0.8
    #: a `put` into a store of which nothing can go waits this long for room
    store_full_grace_s: float = 2.0
    #: a worker is ended when more than this part of the memory is in use (Ray: 0.95)
    memory_usage_threshold: float = 0.95
    #: how often that is looked at while tasks run; 0: never (Ray: 250)
    memory_monitor_refresh_ms: float = 250.0
    #: a task that was ended because memory was low rests this long, and twice as long the next time (Ray: 1 s)
    memory_rest_s: float = 1.0
    #: what is remembered of tasks, to run them again should their results be lost, has this size at most (Ray: 1 GiB)
    max_lineage_bytes: int = 1024**3
    #: run every machine's `check_invariants` after each event (tests)
    validate: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """Read the settings; some variables of Ray are honoured, because programs for Ray set them."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            name = f"JRAY_{field.name.upper()}"
            text = environ.get(name)
            if text is None and field.name == "task_max_retries":
                name = "RAY_TASK_MAX_RETRIES"
                text = environ.get(name)
            if text is None and field.name == "shows_unhandled_errors":
                text = {"1": "0"}.get(environ.get("RAY_IGNORE_UNHANDLED_ERRORS", ""))
            if text is None and field.name == "allow_out_of_band_object_ref_serialization":
                text = environ.get("RAY_allow_out_of_band_object_ref_serialization")
            if text is None and field.name in {"memory_usage_threshold", "memory_monitor_refresh_ms"}:
                name = f"RAY_{field.name}"
                text = environ.get(name)
            if text is None:
                continue
            kind: Any = type(field.default)
            if kind is bool:
                values[field.name] = _is_yes(text)
                continue
            least = _LEAST.get(field.name, 0)
            try:
                value = kind(text)
            except ValueError:
                value = math.nan
            if not least <= value < math.inf:  # also so for NaN
                raise ValueError(
                    f"{name}={text!r} is not a number of type {kind.__name__} from {least} up; "
                    f"unset it or give a value like {field.default!r}"
                )
            values[field.name] = value
        return cls(**values)


def wants_log_to_driver(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether workers' output is shown by the driver when `init` is not told (RAY_LOG_TO_DRIVER)."""
    text = environ.get("JRAY_LOG_TO_DRIVER", environ.get("RAY_LOG_TO_DRIVER", "1"))
    return _is_yes(text)


def _is_yes(text: str) -> bool:
    return text.lower() not in {"", "0", "false", "no", "off"}
