"""Forks of processes that use jray: the child is refused, and disturbs nobody."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from collections.abc import Callable

import pytest

import jray
from tests.behaviour.support import Bench, wait_gone
from tests.cluster.processes import Script


def answer_of_fork(child: Callable[[], str]) -> str:
    """Fork, and return what *child* returned there, or the class and text of what it raised."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            answer = child()
        except BaseException as error:  # noqa: BLE001 -- it is the answer
            answer = f"{type(error).__name__}: {error}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer


@jray.remote
def double(n: int) -> int:
    return 2 * n


def uses() -> list[Callable[[], object]]:
    """Ways to use jray with what was made before the fork."""
    ref = jray.put("value")
    big = jray.put(bytes(1_000_000))

    @jray.remote
    class Actor:
        def call(self) -> int:
            return 1

    actor = Actor.remote()
    assert jray.get(actor.call.remote(), timeout=20) == 1
    return [
        lambda: jray.get(double.remote(1), timeout=2),
        lambda: double.options(num_cpus=1).remote(1),
        lambda: jray.put(1),
        lambda: jray.put(bytes(1_000_000)),
        lambda: jray.get(ref),
        lambda: jray.get(big),
        lambda: jray.wait([ref]),
        lambda: jray.get(actor.call.remote(), timeout=2),
        lambda: Actor.remote(),
        jray.nodes,
    ]


def refusals() -> list[str]:
    """What a forked child gets from each of these uses."""

    def child(use: Callable[[], object]) -> str:
        return f"worked: {use()!r}"

    return [answer_of_fork(lambda use=use: child(use)) for use in uses()]  # type: ignore[misc]


def check_refused(answers: list[str]) -> None:
    assert [
        answer for answer in answers if "RaySystemError: System error: This process was forked" not in answer
    ] == []


@pytest.mark.usefixtures("cluster")
def test_a_forked_child_of_a_driver_is_refused_by_name() -> None:
    """Every use of jray in the child raises, saying that a fork cannot and what can."""
    check_refused(refusals())
    assert jray.get(double.remote(21), timeout=20) == 42


@pytest.mark.usefixtures("cluster")
def test_a_forked_child_of_a_task_is_refused_by_name() -> None:
    """The same in a task that forks; the task itself goes on and has its result."""
    check_refused(jray.get(jray.remote(refusals).remote(), timeout=30))


@pytest.mark.usefixtures("cluster")
def test_what_a_forked_child_opens_is_its_own() -> None:
    """Descriptors that jray had are not reused in the child for what jray then writes to or closes."""

    def task() -> str:
        ref = jray.put(bytes(1_000_000))

        def child() -> str:
            pairs = [socket.socketpair() for _ in range(20)]
            print("printed in the child", flush=True)
            del refs[:]
            for ours, theirs in pairs:
                ours.send(b"ping")
                theirs.setblocking(False)
                assert theirs.recv(1 << 16) == b"ping"
                ours.setblocking(False)
                with pytest.raises(BlockingIOError):
                    ours.recv(1 << 16)
            return "all are its own"

        refs = [ref, double.remote(1)]
        del ref
        return answer_of_fork(child)

    assert task() == "all are its own"
    assert jray.get(jray.remote(task).remote(), timeout=20) == "all are its own"


@pytest.mark.usefixtures("cluster")
def test_a_child_that_returns_from_the_task_ends(bench: Bench) -> None:
    """A forked child that runs on past the end of its task sends no second result, and doesn't stay."""
    pids = bench.tally()

    @jray.remote(max_retries=0)
    def task() -> str:
        pid = os.fork()
        if not pid:
            pids.add(os.getpid())
            return "the child's"
        os.waitpid(pid, 0)
        return "the task's"

    assert jray.get(task.remote(), timeout=30) == "the task's"
    wait_gone(*[pid for pid in pids.notes() if isinstance(pid, int)])


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_task_may_use_multiprocessing(method: str) -> None:
    """A pool of processes inside a task works, and ends with it."""

    @jray.remote(max_retries=0)
    def task() -> list[int]:
        with multiprocessing.get_context(method).Pool(2) as pool:
            return pool.map(abs, range(-20, 0))

    assert jray.get(task.remote(), timeout=30) == list(range(20, 0, -1))
    assert jray.get([double.remote(n) for n in range(10)], timeout=20) == list(range(0, 20, 2))


@pytest.mark.usefixtures("cluster")
def test_a_driver_may_use_multiprocessing() -> None:
    """Forked workers of a pool leave the driver's cluster alone, also when they end."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
        assert jray.get(double.remote(4), timeout=20) == 8
    assert jray.get(double.remote(5), timeout=20) == 10


@pytest.mark.usefixtures("cluster")
def test_forks_while_other_threads_use_jray() -> None:
    """Forking in the midst of calls neither hangs the child nor loses a result."""
    stop = threading.Event()
    sums: list[int] = []

    def call() -> None:
        while True:
            sums.append(sum(jray.get([double.remote(n) for n in range(50)], timeout=20)))
            if stop.is_set():
                return

    thread = threading.Thread(target=call)
    thread.start()
    try:
        answers = [answer_of_fork(lambda: f"{jray.is_initialized()} {jray.put(1)}") for _ in range(20)]
    finally:
        stop.set()
        thread.join()
    check_refused(answers)
    assert set(sums) == {2450}


def test_a_driver_that_is_killed_is_noticed_despite_its_forked_child(
    script: Callable[..., Script], bench: Bench, mark: str
) -> None:
    """A child forked by the driver holds none of its connections open: the cluster ends with the driver."""
    program = script(
        """
        import os, sys, time
        import jray
        context = jray.init(num_cpus=1)
        @jray.remote
        def pid():
            return os.getpid()
        worker = jray.get(pid.remote())
        child = os.fork()
        if child == 0:
            time.sleep(600)
        print(worker, child, flush=True)
        time.sleep(600)
        """
    )
    worker, child = map(int, program.line().split())
    program.kill()
    try:
        wait_gone(worker)
    finally:
        os.kill(child, 9)


def test_a_spawned_child_may_start_a_cluster_of_its_own(script: Callable[..., Script]) -> None:
    """What the refusal recommends works."""
    program = script(
        """
        import multiprocessing, jray

        def child(queue):
            jray.init(num_cpus=1)
            queue.put(jray.get(jray.remote(lambda: "spawned").remote(), timeout=20))
            jray.shutdown()

        if __name__ == "__main__":
            jray.init(num_cpus=1)
            context = multiprocessing.get_context("spawn")
            queue = context.Queue()
            process = context.Process(target=child, args=(queue,))
            process.start()
            print(queue.get(timeout=30))
            process.join()
            print(jray.get(jray.remote(lambda: "driver").remote(), timeout=20))
        """
    )
    assert program.finish()[0].split() == ["spawned", "driver"]
