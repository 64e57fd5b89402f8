"""Owns the life of a worker process, from the fork to its end."""

from __future__ import annotations

import atexit
import faulthandler
import importlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from jray._core import frontend
from jray._core.client.core import CoreClient
from jray._core.client.interrupts import OwnHandlerShield, Shields
from jray._core.config import Config
from jray._core.detect import VISIBLE_GPUS, gpus_as_seen, sets_visible_gpus
from jray._core.logs import LoggingConfig
from jray._core.refs import current
from jray._core.specs import ActorSpec
from jray._core.wire import messages
from jray._core.wire.connection import Reactor, connect
from jray._core.worker.executor import Executor
from jray._core.worker.output import FLUSH_S, ForwardingFrontend, OutputRouter, install
from jray._core.worker.running import WorkerContext
from jray._core.worker.surroundings import run_hook, settle

if TYPE_CHECKING:
    from jray._core.worker.actor_host import ActorHost

#: Under memory pressure workers die before the user's notebook (Ray's figure, the kernel's maximum).
_OOM_SCORE_ADJ = 1000
#: ... and under load the notebook stays responsive (Ray's figure)
_NICENESS = 15


def run(settings: dict[str, Any]) -> None:
    """Be a worker.  Called in a fresh fork of the zygote; returns when the process is to exit normally."""
    nodes_gpus = os.environ.get(VISIBLE_GPUS)
    _settle(settings)
    worker = Worker(settings, nodes_gpus)
    worker.work()  # what it raises is a defect of jray: the zygote's child prints it, and exits with 70
    worker.leave()


def _settle(settings: dict[str, Any]) -> None:
    """Make this process's surroundings those that the job asked for."""
    log_path = settings["log_path"]
    for fd, path in ((0, os.devnull), (1, log_path + ".out"), (2, log_path + ".err")):
        flags = os.O_RDONLY if fd == 0 else os.O_WRONLY | os.O_APPEND | os.O_CREAT
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    faulthandler.enable(file=2, all_threads=False)
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(_OOM_SCORE_ADJ))
    except OSError:  # not permitted in some containers, and not vital
        pass
    os.nice(_NICENESS)
    settle(settings)
    sys.argv = ["jray-worker"]
    # "module:function", by name: what a row above this one wants done before any code of the user's
    setup = os.environ.get("JRAY_WORKER_SETUP")
    if setup:
        module, _, function = setup.partition(":")
        getattr(importlib.import_module(module), function)()
    run_hook(settings)


class Worker:
    """A worker process."""

    def __init__(self, settings: dict[str, Any], nodes_gpus: str | None) -> None:
        self._settings = settings
        #: `VISIBLE_GPUS` of the node, and this process's as it began
        self._gpu_lists = nodes_gpus, os.environ.get(VISIBLE_GPUS)
        config = Config.from_environ()
        reactor = Reactor(config.spin_us)
        self._shield = OwnHandlerShield(reactor.wake, self._is_cancel_wanted)
        self._executor: Executor | None = None
        self.context = WorkerContext()
        self.client = CoreClient(
            config=config,
            address=settings["address"],
            node_socket=connect(f"{settings['session_dir']}/node.sock"),
            shields=Shields(self._shield),
            reactor=reactor,
            context=self.context,
        )
        self.client.namespace = settings["namespace"]
        self.client.runtime_env = tuple(settings["runtime_env"].items())
        self.client.default_actor_lifetime = settings["default_actor_lifetime"]
        router = OutputRouter(settings["log_path"], self._to_node, self._arm_output)
        self._router = router
        self._executor = Executor(self.client, router)
        self.resources: dict[str, float] = {}
        self.gpu_ids: list[int] | list[str] = []
        self._becoming: list[tuple[ActorSpec, int]] = []
        handlers = self.client.handlers
        handlers[messages.LEASED] = self._on_leased
        handlers[messages.BECOME_ACTOR] = self._on_become_actor
        handlers[messages.EXIT] = self._on_exit
        self.client.on_node_lost = lambda: os._exit(1)
        self.client.worker = self
        self._shield.install()
        install(router)
        # by name: what tasks display is the notebook's matter, and this row knows no notebook
        importlib.import_module("jray.notebook.worker_display").install(router.display)
        frontend.set_frontend(
            ForwardingFrontend(lambda: self._executor.current if self._executor else None, self._to_node)
        )
        current.client = self.client
        if settings["logging"] is not None:
            LoggingConfig.from_dict(settings["logging"])._apply()

    @property
    def executor(self) -> Executor:
        assert self._executor is not None
        return self._executor

    @property
    def actor(self) -> ActorHost | None:
        host: ActorHost | None = self.executor.host
        return host

    @property
    def worker_id(self) -> bytes:
        worker_id: bytes = self._settings["worker_id"]
        return worker_id

    def work(self) -> None:
        """Register, then run tasks or be an actor, until told to end."""
        facts = {
            "job_id": self._settings["job_id"],
            "namespace": self.client.namespace,
            "worker_id": self.worker_id,
        }
        self.client.listen()
        self.client.register("worker", facts, self.client.config.worker_start_timeout_s)
        try:
            self.executor.loop()
        except SystemExit:
            pass

    def leave(self) -> None:
        """End in good order: exit handlers run, what was written is sent."""
        host = self.actor
        if host is not None:
            host.close()
        atexit._run_exitfuncs()
        self.executor.flush()
        for peer in list(self.client.peers._by_address.values()):
            peer.connection.drain(1.0)
        self.client.node.connection.drain(1.0)
        sys.stdout.flush()
        os._exit(0)

    # -- messages (polling thread) ----------------------------------------------------------------

    def _on_leased(self, _: Any, message: tuple[Any, ...]) -> None:
        self.resources = message[1]
        nodes_list, own_list = self._gpu_lists
        self.gpu_ids = gpus_as_seen(message[2], nodes_list=nodes_list, own_list=own_list)
        if self.gpu_ids and sets_visible_gpus():
            os.environ[VISIBLE_GPUS] = ",".join(map(str, self.gpu_ids))
        cpus = int(self.resources.get("CPU", 0))
        if "JRAY_USER_OMP_NUM_THREADS" not in os.environ:
            os.environ["OMP_NUM_THREADS"] = str(max(1, cpus))

    def _on_become_actor(self, _: Any, message: tuple[Any, ...]) -> None:
        self.executor.become(lambda: self._become(message[1], message[2]))

    def _become(self, spec: ActorSpec, restarts: int) -> None:
        # asyncio costs 25 ms, which the first worker need not wait for; the zygote imports it when it is idle
        from jray._core.worker.actor_host import ActorHost  # noqa: PLC0415

        host = ActorHost(self.executor, spec, restarts)
        self.executor.host = host
        if spec.where.group:
            self.client.is_in_group = True
        if not host.make():
            time.sleep(0)
            raise SystemExit(0)
        if spec.is_async:
            host.run_loop()
            raise SystemExit(0)

    def _on_exit(self, _: Any, message: tuple[Any, ...]) -> None:
        host = self.actor
        if host is not None:
            host.finish(message[1])
        else:
            self.executor.exit_when_idle(message[1])

    # -- seams ------------------------------------------------------------------------------------

    def _is_cancel_wanted(self) -> bool:
        return self._executor is not None and self._executor.is_cancel_wanted()

    def _to_node(self, *fields: Any) -> None:
        self.client.node.tell(messages.JOB_OUTPUT, *fields)

    def _arm_output(self) -> None:
        if self._executor is not None:
            self._executor.arm(FLUSH_S)
