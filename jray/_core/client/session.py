"""Owns the joining of a head, one launched for this process or another, and the end of both."""

from __future__ import annotations

import os
import socket
from typing import Any

from jray._core.client.core import CoreClient, DriverContext
from jray._core.client.finding import Found
from jray._core.client.interrupts import BorrowedHandlerShield, Shields
from jray._core.client.launching import LaunchedHead
from jray._core.config import Config
from jray._core.store.sweep import sweep
from jray._core.versions import own_versions
from jray._core.wire import messages
from jray._core.wire.connection import Reactor, connect
from jray.exceptions import RaySystemError


class NativeSession:
    """A client together with the head process that was started for it, if any."""

    def __init__(self, client: CoreClient, head: LaunchedHead | None, address: str, joined: str = "") -> None:
        self.client = client
        self._head = head
        #: the head's socket
        self.address = address
        #: what the user should know about the store, once
        self.warning = head.warning if head is not None else ""
        self.info: dict[str, Any] = {
            "address": address,
            "node_id": client.node_id.hex(),
            "session_dir": client.session_dir,
            "object_store_address": client.facts["store_dir"],
            "raylet_socket_name": address,
            "gcs_address": address,
            "node_ip_address": "127.0.0.1",
            "joined": joined,  # why this head, which runs without this process
            # of services that jray does not have; programs read the keys
            "webui_url": "",
            "redis_address": None,
            "metrics_export_port": None,
            "dashboard_agent_listen_port": None,
        }

    def is_alive(self) -> bool:
        """Tell whether the head is there."""
        return self.client.node.connection.is_open

    def close(self) -> None:
        """Leave; a head started for this session ends, with all its processes.  Blocks until it has."""
        # before the head ends the job's actors and workers: news of their deaths may be quicker than `close`
        self.client.fail_pending()
        if self.client.node.connection.is_open:
            self.client.node.tell(messages.EXIT_JOB)
        self.client.close()
        if self._head is not None and not self._head.wait_exit():
            for place in self._head.places:  # it could not clean up itself
                sweep(place)


def start(head: LaunchedHead, facts: dict[str, Any], config: Config) -> NativeSession:
    """Join a head that was launched for this process.

    Raises RaySystemError, with the end of its log, if it does not come up.
    """
    client = _make_client(config, f"{head.session_dir}/d{os.getpid()}.sock", head.socket)
    try:
        client.register("driver", facts, config.head_start_timeout_s)
    except BaseException as error:
        client.close()
        head.wait_exit()
        if isinstance(error, RaySystemError):
            raise RaySystemError(f"The head process did not start. It said:\n{head.read_log()}") from error
        raise
    finally:
        os.close(head.log)
    client.listen()
    return NativeSession(client, head, head.address)


def join(found: Found, facts: dict[str, Any], config: Config) -> NativeSession:
    """Join a head that runs.

    Raises ConnectionError if none listens there, RuntimeError if it is of another Python or jray.
    """
    return _enter("driver", found, facts, config)


def observe(found: Found, config: Config) -> NativeSession:
    """Join a head that runs only to ask it: without a job, and without counting as one who uses it.  Raises as `join`."""
    return _enter("observer", found, {"pid": os.getpid()}, config)


def _enter(kind: str, found: Found, facts: dict[str, Any], config: Config) -> NativeSession:
    address = found.address or ""
    try:
        sock = connect(address)
    except OSError as error:
        raise ConnectionError(
            f"No head of jray listens at {address}: {error.strerror or error}. Start one, or call jray.init() "
            "without an address."
        ) from error
    # the names of sockets tell what their processes are: d.. of drivers, o.. of observers, w.. of workers
    name = f"{kind[0]}{os.getpid()}-{os.urandom(2).hex()}.sock"
    client = _make_client(config, f"{os.path.dirname(address)}/{name}", sock)
    try:
        client.listen()
        client.register(kind, facts, config.head_start_timeout_s)
        _check_versions(client.facts["versions"], address)
    except BaseException:
        client.close()
        raise
    return NativeSession(client, None, address, found.why)


def _check_versions(theirs: tuple[str, str], address: str) -> None:
    """Raise RuntimeError if what is sent here cannot be read there."""
    ours = own_versions()
    if theirs != ours:
        raise RuntimeError(
            f"Version mismatch: the head at {address} runs {_told(theirs)}, this process {_told(ours)}. Code and values "
            "travel as pickles, which other versions may not read: start this program with the head's Python, or end "
            "that head with `jray stop` and start another."
        )


def _told(versions: tuple[str, str]) -> str:
    return f"Python {versions[0]} and jray {versions[1]}"


def _make_client(config: Config, address: str, sock: socket.socket) -> CoreClient:
    reactor = Reactor(config.spin_us)
    return CoreClient(
        config=config,
        address=address,
        node_socket=sock,
        shields=Shields(BorrowedHandlerShield(reactor.wake)),
        reactor=reactor,
        context=DriverContext(),
    )
