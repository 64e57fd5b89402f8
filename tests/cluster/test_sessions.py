"""Sessions one after the other, and side by side: none leaves anything to the next, or disturbs another."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable

import psutil
import pytest

import jray
from jray._core.refs import current
from jray._core.wire import messages
from tests.cluster.processes import Script


def cycle(n: int) -> None:
    jray.init(num_cpus=2)

    @jray.remote
    def add(a: int, b: int) -> int:
        return a + b

    @jray.remote
    class Actor:
        def size(self, blob: bytes) -> int:
            return len(blob)

    actor = Actor.remote()
    big = jray.put(bytes(1_000_000))
    assert jray.get([add.remote(n, 1), actor.size.remote(big)], timeout=20) == [n + 1, 1_000_000]
    jray.shutdown()


@pytest.mark.timeout(300)
def test_twenty_sessions_in_one_process_leave_nothing() -> None:
    """After init and shutdown, 20 times, there are no more descriptors, threads, children or memory than before."""
    me = psutil.Process()
    for n in range(3):
        cycle(n)
    gc.collect()
    descriptors, threads, memory = me.num_fds(), threading.active_count(), me.memory_info().rss
    shared = set(os.listdir("/dev/shm"))
    for n in range(20):
        cycle(n)
    gc.collect()
    assert me.num_fds() <= descriptors
    assert threading.active_count() <= threads
    assert me.children() == []
    assert {name for name in set(os.listdir("/dev/shm")) - shared if not is_held_by_others(name)} == set()
    assert me.memory_info().rss - memory < 4_000_000


def is_held_by_others(name: str) -> bool:
    """Other tests may run on the machine; what is ours has been removed when shutdown returns."""
    return name.startswith("jray-")


def test_two_sessions_side_by_side(script: Callable[..., Script]) -> None:
    """Two drivers have clusters of their own; the end of one is nothing to the other."""
    text = """
        import jray, sys
        context = jray.init(num_cpus=1)
        print(context.address_info["session_dir"], context.address_info["object_store_address"], flush=True)
        @jray.remote
        class Named:
            def name(self):
                return sys.argv[1]
        jray.remote(lambda: 1)
        actor = Named.options(name="same", namespace="same").remote()
        while sys.stdin.readline().strip():
            found = jray.get_actor("same", namespace="same")
            print(jray.get(found.name.remote(), timeout=20), len(jray.get(jray.put(bytes(500_000)))), flush=True)
    """
    first, second = (
        script(text.replace("sys.argv[1]", '"first"')),
        script(text.replace("sys.argv[1]", '"second"')),
    )
    places = {*first.line().split(), *second.line().split()}
    assert len(places) == 4
    for _ in range(3):
        for program, name in ((first, "first"), (second, "second")):
            program.say("call")
            assert program.line() == f"{name} 500000"
    first.kill()
    second.say("call")
    assert second.line() == "second 500000"
    second.say()
    second.finish()


def test_two_drivers_share_one_head(script: Callable[..., Script], cluster: object) -> None:
    """A driver that joins by address has a job of its own: its end leaves the other's work alone."""
    address = jray.get_runtime_context().gcs_address

    @jray.remote
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self) -> int:
            self.count += 1
            return self.count

    counter = Counter.options(name="shared", namespace="both").remote()
    assert jray.get(counter.add.remote(), timeout=20) == 1
    program = script(
        """
        import jray, sys, time
        jray.init(sys.argv[1], namespace="both")
        print(jray.get(jray.get_actor("shared").add.remote(), timeout=20))
        mine = jray.remote(type("Mine", (), {"call": lambda self: "mine"})).remote()
        print(jray.get(mine.call.remote(), timeout=20), flush=True)
        sys.stdin.readline()
        """,
        address,
    )
    assert [program.line(), program.line()] == ["2", "mine"]
    program.kill()
    assert jray.get(counter.add.remote(), timeout=20) == 3
    assert jray.get(jray.remote(lambda: "still").remote(), timeout=20) == "still"


def test_the_shutdown_is_what_ends_pending_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the deaths of the job's actors are known before this process has closed its connections."""
    jray.init(num_cpus=1)

    @jray.remote
    class Actor:
        def wait(self) -> None:
            threading.Event().wait()

    actor = Actor.remote()
    ref = actor.wait.remote()
    ended = threading.Event()
    future = ref.future()
    future.add_done_callback(lambda _: ended.set())
    node = current.client.node
    tell = node.tell

    def tell_slowly(kind: int, *fields: object) -> None:
        tell(kind, *fields)
        if kind == messages.EXIT_JOB:
            assert ended.wait(20)

    monkeypatch.setattr(node, "tell", tell_slowly)
    jray.shutdown()
    with pytest.raises(jray.exceptions.RaySystemError, match="shut down"):
        future.result(20)
