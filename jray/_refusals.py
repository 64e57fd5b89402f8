"""Owns the names of Ray that jray does not have: for each, what to use instead.

They are refused where they are named: `import jray.data` and `from jray import data` raise an ImportError with
the advice, `jray.data` an AttributeError, so that `hasattr` and "is it installed" checks find nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

_LIBRARY = "is not part of jray, which is Ray Core alone"
_CLUSTER = "jray starts no machines"

#: name after "jray." -> why it is not there, and what to do instead
REFUSED = {
    # libraries on top of Ray Core
    "air": f"{_LIBRARY}; there are no trainers to share settings with.",
    "data": f"{_LIBRARY}; give each task a slice, file or partition: [f.remote(part) for part in parts].",
    "llm": f"{_LIBRARY}; hold the model in an actor, and send prompts with jray.util.ActorPool.",
    "rllib": f"{_LIBRARY}; run environments in actors, and the learner of any library in the driver.",
    "serve": f"{_LIBRARY}; await the calls of an actor in the handlers of any asynchronous web framework.",
    "train": f"{_LIBRARY}; make one actor for each process of the training library, with num_gpus=1.",
    "tune": f"{_LIBRARY}; make each trial a task, jray.wait for the first results and submit the next.",
    "workflow": f"{_LIBRARY}, and Ray has removed it too; pass refs from task to task.",
    "util.horovod": f"{_LIBRARY}; make one actor for each process of the training library.",
    "util.lightgbm": f"{_LIBRARY}; run LightGBM itself in a task or actor.",
    "util.sgd": f"{_LIBRARY}, and Ray has removed it too; make one actor for each training process.",
    "util.spark": f"{_LIBRARY}; run Spark by itself, and read what it wrote in tasks.",
    "util.tpu": f"{_LIBRARY}; jray schedules CPUs, GPUs and custom resources.",
    "util.xgboost": f"{_LIBRARY}; run XGBoost itself in a task or actor.",
    # other languages
    "Language": "is not part of jray, whose tasks and actors are all Python.",
    "cpp_function": "is not part of jray, whose tasks are all Python; call the library in a task, by ctypes or cffi.",
    "cross_language": "is not part of jray, whose tasks and actors are all Python.",
    "java_actor_class": "is not part of jray, whose actors are all Python.",
    "java_function": "is not part of jray, whose tasks are all Python.",
    # other ways into a cluster
    "ClientBuilder": 'is not part of jray; use jray.init("ray://host:10001").',
    "client": 'is not part of jray; use jray.init("ray://host:10001").',
    "client_builder": 'is not part of jray; use jray.init("ray://host:10001").',
    "util.client": 'is not part of jray; use jray.init("ray://host:10001").',
    "util.client_connect": 'is not part of jray; use jray.init("ray://host:10001").',
    "util.connect": 'is not part of jray; use jray.init("ray://host:10001").',
    "util.disconnect": "is not part of jray; use jray.shutdown().",
    "autoscaler": f"is not part of jray: {_CLUSTER}. Start nodes that are large enough.",
    "internal": "is not part of jray: it is of Ray's own making.",
    "widgets": "is not part of jray; in a notebook `%jray status` shows what runs.",
    "util.accelerators": 'is not part of jray; give the option accelerator_type the text itself, like "A100".',
    # graphs and communication
    "dag": "is not part of jray; pass the refs that .remote() returns to the next tasks.",
    "experimental.channel": "is not part of jray; pass refs, whose arrays are shared and not copied.",
    "experimental.collective": "is not part of jray; pass refs, whose arrays are shared and not copied.",
    "experimental.dynamic_resources": "is not part of jray, and Ray has removed it too; state resources in jray.init().",
    "experimental.internal_kv": "is not part of jray; keep what processes share in a named actor.",
    "experimental.shuffle": "is not part of jray; let each task return its parts with num_returns, and pass the refs on.",
    "util.collective": "is not part of jray; pass refs, or use the training library's own communication.",
    # what Ray has deprecated
    "util.ActorGroup": "is not part of jray, and deprecated in Ray; keep handles in a list or jray.util.ActorPool.",
    "util.actor_group": "is not part of jray, and deprecated in Ray; keep handles in a list or jray.util.ActorPool.",
    "util.iter": "is not part of jray, and deprecated in Ray; use jray.util.map_unordered.",
    # what Ray 2.60 has removed, or that only its own machinery needs
    "_private.internal_api.global_gc": "is not part of jray; run gc.collect() in the processes that hold something.",
    "_private.internal_api.memory_summary": "is not part of jray; jray.util.state.list_objects() tells who holds what.",
    # tools
    "util.check_open_ports": "is not part of jray, which listens on no port of the network.",
    "util.debugpy": 'is not part of jray; debug with jray.init(engine="inline") and breakpoint().',
    "util.pdb": 'is not part of jray; debug with jray.init(engine="inline") and breakpoint().',
    "util.ray_debugpy": 'is not part of jray; debug with jray.init(engine="inline") and breakpoint().',
    "util.rpdb": 'is not part of jray; debug with jray.init(engine="inline") and breakpoint().',
    "util.tracing": "is not part of jray; jray.timeline() shows which task ran when.",
}


def advice(name: str) -> str | None:
    """Return what to do instead of the name *name* of Ray's, which is written after "jray."; None: no such name."""
    text = REFUSED.get(name)
    return None if text is None else f"jray.{name} {text}"


class _Refuser:
    """Stands last on `sys.meta_path`: what nobody found, and Ray has, it refuses with advice."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:  # noqa: ARG004 -- the import system's protocol
        if not name.startswith("jray."):
            return
        text = advice(name.removeprefix("jray."))
        # importlib.util.find_spec asks whether there is such a module, and the answer is no
        if text is not None and sys._getframe(2).f_globals.get("__name__") != "importlib.util":
            _refuse(text)


def _refuse(text: str) -> NoReturn:
    # Without the name: `from jray import data` swallows the error of a module named jray.data, and says less.
    raise ModuleNotFoundError(text)


def install() -> None:
    """Refuse imports of what jray does not have; once per process."""
    if not any(isinstance(finder, _Refuser) for finder in sys.meta_path):
        sys.meta_path.append(_Refuser())
