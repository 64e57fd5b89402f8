"""jray: Ray Core's tasks, actors and objects, made for the notebook.

    import jray

    @jray.remote
    def square(x):
        return x * x

    jray.get([square.remote(i) for i in range(4)])   # [0, 1, 4, 9]

Public names are loaded when they are first used, so that importing the package costs next to nothing.
`jray._core` is the runtime; the modules beside it are the public face; `jray.notebook` is a guest of both.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jray import _refusals

if TYPE_CHECKING:
    from jray._core.dynamic import DynamicObjectRefGenerator as DynamicObjectRefGenerator
    from jray._core.generator import ObjectRefGenerator as ObjectRefGenerator
    from jray._core.ids import ActorClassID as ActorClassID
    from jray._core.ids import ActorID as ActorID
    from jray._core.ids import ClusterID as ClusterID
    from jray._core.ids import FunctionID as FunctionID
    from jray._core.ids import JobID as JobID
    from jray._core.ids import NodeID as NodeID
    from jray._core.ids import PlacementGroupID as PlacementGroupID
    from jray._core.ids import TaskID as TaskID
    from jray._core.ids import UniqueID as UniqueID
    from jray._core.ids import WorkerID as WorkerID
    from jray._core.logs import LoggingConfig as LoggingConfig
    from jray._core.refs import ObjectRef as ObjectRef
    from jray._private.worker import SCRIPT_MODE as SCRIPT_MODE
    from jray._private.worker import WORKER_MODE as WORKER_MODE
    from jray.actor import get_actor as get_actor
    from jray.actor import kill as kill
    from jray.actor import method as method
    from jray.api import available_resources as available_resources
    from jray.api import cancel as cancel
    from jray.api import cluster_resources as cluster_resources
    from jray.api import get as get
    from jray.api import get_gpu_ids as get_gpu_ids
    from jray.api import nodes as nodes
    from jray.api import put as put
    from jray.api import remote as remote
    from jray.api import wait as wait
    from jray.notebook import new_magic as new_magic
    from jray.notebook.panel import panel as panel
    from jray.runtime_context import get_runtime_context as get_runtime_context
    from jray.session import init as init
    from jray.session import is_initialized as is_initialized
    from jray.session import shutdown as shutdown
    from jray.util.state.timeline import timeline as timeline

    ObjectID = ObjectRef

__version__ = "0.1.0"
#: Ray has the hash of its source here; jray's is told by its version
__commit__ = ""

#: public name -> module that has it
_HOMES = {
    **dict.fromkeys(
        (
            "available_resources", "cancel", "cluster_resources", "get", "get_gpu_ids", "nodes", "put", "remote", "wait",
        ),
        "jray.api",
    ),
    **dict.fromkeys(("get_actor", "kill", "method"), "jray.actor"),
    **dict.fromkeys(("init", "is_initialized", "shutdown"), "jray.session"),
    **dict.fromkeys(
        (
            "ActorClassID", "ActorID", "ClusterID", "FunctionID", "JobID", "NodeID", "PlacementGroupID", "TaskID",
            "UniqueID", "WorkerID",
        ),
        "jray._core.ids",
    ),
    "ObjectRef": "jray._core.refs",
    "ObjectID": "jray._core.refs",
    "ObjectRefGenerator": "jray._core.generator",
    "DynamicObjectRefGenerator": "jray._core.dynamic",
    "LoggingConfig": "jray._core.logs",
    "SCRIPT_MODE": "jray._private.worker",
    "WORKER_MODE": "jray._private.worker",
    "get_runtime_context": "jray.runtime_context",
    "panel": "jray.notebook.panel",
    "new_magic": "jray.notebook",
    "timeline": "jray.util.state.timeline",
}  # fmt: skip
_SUBMODULES = {
    "actor", "api", "cloudpickle", "exceptions", "job_config", "notebook", "remote_function", "runtime_context",
    "runtime_env", "session", "types", "util",
}  # fmt: skip

__all__ = sorted([*_HOMES, "__commit__", "__version__"])  # noqa: PLE0605 -- a test compares it with the namespace

_refusals.install()


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        importlib.import_module("jray.session")  # for `current.start`: any name may need a cluster
        value = getattr(importlib.import_module(home), "ObjectRef" if name == "ObjectID" else name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        return importlib.import_module(f"jray.{name}")
    raise AttributeError(_refusals.advice(name) or f"module 'jray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBMODULES})


def load_ipython_extension(ipython: Any) -> None:
    """Called by `%load_ext jray`."""
    importlib.import_module("jray.notebook").load_ipython_extension(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Called by `%unload_ext jray`."""
    importlib.import_module("jray.notebook").unload_ipython_extension(ipython)
