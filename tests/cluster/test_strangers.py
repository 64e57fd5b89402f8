"""What connects to a cluster's sockets and is no part of it: it harms nobody, and runs nothing."""

from __future__ import annotations

import importlib
import os
import pickle
import socket
from pathlib import Path
from typing import Any

import pytest

import jray
from tests.behaviour.support import Bench
from tests.cluster.processes import Cluster

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
def double(n: int) -> int:
    return 2 * n


@jray.remote
class Actor:
    def socket(self) -> Path:
        """The socket of this actor's worker."""
        return Path(importlib.import_module("jray._core.refs").current.client.address)


def works() -> bool:
    """Tell whether the cluster still runs tasks, also in new workers."""
    refs = [double.options(num_cpus=0.1).remote(n) for n in range(50)]
    return sum(jray.get(refs, timeout=50)) == 2450


def say(address: Path, data: bytes, patience_s: float = 0.1) -> bytes:
    """Send *data* to a socket and return the first that comes back; nothing if it closes, or says nothing that long."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(address))
        sock.settimeout(patience_s)
        try:
            sock.sendall(data)
            return sock.recv(65536)
        except (TimeoutError, ConnectionError):
            return b""


def frame(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


GARBAGE = {
    "nothing": b"",
    "half a size": b"\x01\x02",
    "half a frame": b"\xff\x00\x00\x00abc",
    "no pickle": frame(b"GET / HTTP/1.1\r\n\r\n"),
    "a broken pickle": frame(pickle.dumps((30, 1, "driver"))[:-4]),
    "a huge size": b"\xff\xff\xff\xff" + bytes(100_000),
    "no tuple": frame(pickle.dumps(7)),
    "an empty tuple": frame(pickle.dumps(())),
    "an unknown kind": frame(pickle.dumps((999,))),
    "a kind of no number": frame(pickle.dumps((["x"], 1))),
    "no registration first": frame(pickle.dumps((35, [b"x"]))),
    "too short a registration": frame(pickle.dumps((30, 1))),
    "a registration of nonsense": frame(pickle.dumps((30, 1, "worker", "pid", 5, {"job_id": []}))),
    "a class that is nowhere": frame(b"cno_such_module\nThing\n."),
    "random": os.urandom(10_000),
}


def test_garbage_harms_nobody(cluster: Cluster) -> None:
    """Whatever is written to the head's, a worker's or the driver's socket, the cluster works on."""
    assert works()
    actor = Actor.remote()
    [drivers] = cluster.session_dir.glob("d*.sock")
    worker = jray.get(actor.socket.remote(), timeout=20)
    sockets = [cluster.session_dir / "node.sock", drivers, worker]
    for what, data in GARBAGE.items():
        for address in sockets:
            say(address, data)
        assert jray.get(double.remote(1), timeout=20) == 2, what
    assert works()
    assert cluster.head.is_running()


def test_a_registered_client_that_talks_nonsense_harms_nobody(cluster: Cluster) -> None:
    """A driver may join and then send anything: it hears nothing of it, and others go on."""
    hello = pickle.dumps(
        (30, 1, "driver", os.getpid(), "/nowhere", {"cwd": "/", "sys_path": [], "namespace": "x"})
    )
    kinds = [
        pickle.dumps((kind, *arguments)) for kind in range(80) for arguments in ((), (1,), (b"x", b"x", b"x"))
    ]
    assert say(cluster.session_dir / "node.sock", b"".join(map(frame, [hello, *kinds])), patience_s=30)
    assert works()


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("is_open", [False, True])
def test_another_users_pickle_is_never_loaded(
    cluster: Cluster, bench: Bench, tmp_path: Path, is_open: bool
) -> None:
    """Another user cannot reach a socket; where the modes are wrong, nothing that they send is unpickled."""
    mark = tmp_path / "bomb"
    sockets = list(cluster.session_dir.glob("*.sock"))
    if is_open:
        cluster.session_dir.parent.chmod(0o777)
        cluster.session_dir.chmod(0o777)
        for address in sockets:
            address.chmod(0o666)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            for address in sockets:
                try:
                    say(address, frame(pickle.dumps(Bomb(str(mark)))))
                    reached = True
                except PermissionError:
                    reached = False
                assert reached == is_open
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert works()
    assert not mark.exists()
