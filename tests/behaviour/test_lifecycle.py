"""Beginning and end: init, shutdown, what is left of them, and drivers that die."""

from __future__ import annotations

import signal
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jray
from jray.exceptions import RaySystemError
from tests.behaviour import differences, hygiene
from tests.behaviour.engine import ON_RAY
from tests.behaviour.support import (
    PATIENCE_S,
    START_S,
    Driver,
    is_ever_within,
    processes_marked,
    run_driver,
    start_driver,
    wait_until,
)

# A driver that has a task, an actor and an object, and says so.
BUSY_DRIVER = """
    import os, sys, time
    import numpy as np
    import jray

    jray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)

    @jray.remote
    class Actor:
        def pid(self):
            return os.getpid()

    @jray.remote
    def work(folder):
        open(f"{folder}/running", "w").close()
        time.sleep(600)

    actors = [Actor.remote(), Actor.options(name="kept", lifetime="detached").remote()]
    pids = jray.get([actor.pid.remote() for actor in actors])
    ref = jray.put(np.ones(1_000_000))
    task = work.remote(sys.argv[1])
    while not os.path.exists(f"{sys.argv[1]}/running"):
        time.sleep(0.01)
    print("ready", flush=True)
    if sys.argv[2] == "return":
        pass
    elif sys.argv[2] == "raise":
        raise RuntimeError("the driver is done")
    else:
        jray.get(task)
"""


@pytest.fixture
def mark() -> str:
    """What the processes of one driver bear."""
    return uuid.uuid4().hex


def end_and_wait_for_all(driver: Driver, mark: str, timeout: float) -> None:
    driver.end()
    wait_until(
        lambda: not processes_marked(mark),
        timeout,
        lambda: f"everything ended; left are {[process.cmdline() for process in processes_marked(mark)]}",
    )


@pytest.mark.sentences("S135")
@pytest.mark.parametrize("how", ["return", "raise"])
def test_nothing_is_left_of_a_driver_that_ends(tmp_path: Path, mark: str, how: str) -> None:
    """A driver with running work ends without being asked to wait, and its processes go with it."""
    driver = start_driver(tmp_path, BUSY_DRIVER, tmp_path, how, mark=mark)
    end_and_wait_for_all(driver, mark, START_S)


@pytest.mark.sentences("S135")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_driver_that_is_killed(
    tmp_path: Path, mark: str, number: signal.Signals
) -> None:
    """SIGTERM or SIGKILL takes the driver's workers and services with it."""
    driver = start_driver(tmp_path, BUSY_DRIVER, tmp_path, "wait", mark=mark)
    wait_until((tmp_path / "running").exists, START_S)
    driver.signal(number)
    end_and_wait_for_all(driver, mark, START_S)


@differences.death_within_two_seconds
@pytest.mark.sentences("S135")
@pytest.mark.timeout(180)
def test_a_killed_drivers_cluster_is_gone_in_two_seconds(tmp_path: Path) -> None:
    """Two seconds after SIGKILL there is no process and no shared memory of the driver's."""

    def kill() -> float:
        """Kill a driver; return how many seconds it took until nothing was left."""
        folder, mark = Path(tempfile.mkdtemp(dir=tmp_path)), uuid.uuid4().hex
        driver = start_driver(folder, BUSY_DRIVER, folder, "wait", mark=mark)
        wait_until((folder / "running").exists, START_S)
        # Only what its own processes use: other clusters on this machine come and go meanwhile.
        own = hygiene.shared_memory_of(processes_marked(mark))
        assert own & hygiene.shared_memory()
        start = time.monotonic()
        driver.signal(signal.SIGKILL)
        end_and_wait_for_all(driver, mark, PATIENCE_S)
        wait_until(
            lambda: not own & hygiene.shared_memory(),
            what=lambda: f"clean memory; left {own & hygiene.shared_memory()}",
        )
        return time.monotonic() - start

    assert is_ever_within(2, kill)


@pytest.mark.sentences("S135")
def test_processes_started_by_workers_go_too(tmp_path: Path, mark: str) -> None:
    """A child that a task started is killed with the killed driver."""
    script = """
        import subprocess, sys, time
        import jray

        jray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)

        @jray.remote
        def work(folder):
            child = subprocess.Popen(["sleep", "600"])
            open(f"{folder}/running", "w").close()
            child.wait()

        jray.get(work.remote(sys.argv[1]))
    """
    driver = start_driver(
        tmp_path, script, tmp_path, mark=mark, env={"RAY_process_group_cleanup_enabled": "1"}
    )
    wait_until((tmp_path / "running").exists, START_S)
    driver.signal(signal.SIGKILL)
    end_and_wait_for_all(driver, mark, START_S)


@pytest.mark.sentences("S12", "S136")
def test_init_after_shutdown(fresh: Callable[..., Any]) -> None:
    """After shutdown and init, functions and classes from before work; refs and handles don't (S12)."""

    @jray.remote
    def add(a: int, b: int) -> int:
        return a + b

    @jray.remote
    class Counter:
        def __init__(self) -> None:
            self.value = 0

        def add(self) -> int:
            self.value += 1
            return self.value

    fresh()
    ref, counter = add.remote(1, 2), Counter.remote()
    assert jray.get([ref, counter.add.remote()]) == [3, 1]
    put = jray.put("old")
    jray.shutdown()
    assert not jray.is_initialized()
    fresh()
    again = Counter.remote()
    assert jray.get([add.remote(3, 4), again.add.remote()]) == [7, 1]
    check_stale(counter, put)


def check_stale(counter: Any, put: Any) -> None:
    """Neither handle nor ref of an earlier session is good for anything (S12)."""
    with pytest.raises(jray.exceptions.ActorHandleNotFoundError):
        jray.kill(counter)
    with pytest.raises(Exception):  # noqa: B017,PT011 - it may fail in more than one way, but not succeed
        jray.get(counter.add.remote(), timeout=5)
    with pytest.raises(Exception):  # noqa: B017,PT011 - see above
        jray.get(put, timeout=1)


@pytest.mark.skipif(ON_RAY, reason="Ray takes seconds for each cycle; the test above makes it do two")
@pytest.mark.timeout(180)
@pytest.mark.sentences("S136")
def test_init_and_shutdown_again_and_again(fresh: Callable[..., Any]) -> None:
    """Cycles in one process each give a working cluster."""
    for n in range(5):
        fresh(num_cpus=1)
        assert jray.get(jray.remote(lambda x: x).remote(n)) == n
        jray.shutdown()


@pytest.mark.sentences("S135")
def test_shutdown_is_idempotent(no_cluster: None) -> None:
    """shutdown without a cluster does nothing, however often."""
    jray.shutdown()
    jray.shutdown()
    assert not jray.is_initialized()


@pytest.mark.sentences("S136")
def test_a_second_init_is_an_error(fresh: Callable[..., Any]) -> None:
    """init twice raises RuntimeError, unless ignore_reinit_error is given; the context ends the cluster."""
    with fresh() as context:
        assert context.address_info["node_id"] == jray.get_runtime_context().get_node_id()
        with pytest.raises(RuntimeError, match="twice"):
            jray.init()
        jray.init(ignore_reinit_error=True)
        assert jray.get(jray.remote(lambda: 1).remote()) == 1
    assert not jray.is_initialized()


# Joins a cluster and tells what it finds there.
SECOND_DRIVER = """
    import sys
    import jray

    address, namespace = sys.argv[1:]
    jray.init(address=address, namespace=namespace or None, log_to_driver=False)
    print("job", jray.get_runtime_context().get_job_id())
    print("CPUs", jray.cluster_resources()["CPU"])
    print("task", jray.get(jray.remote(num_cpus=0)(lambda: 5).remote()))
    for name in ("kept", "detached"):
        try:
            print(name, jray.get(jray.get_actor(name).add.remote()))
        except ValueError:
            print(name, "unknown")

    try:
        jray.shutdown()
        jray.init(address=address, num_cpus=1, log_to_driver=False)
    except ValueError:
        print("num_cpus refused")
"""


@pytest.mark.timeout(180, method="thread")
@pytest.mark.sentences("S103", "S105", "S137", "S138")
def test_drivers_of_one_cluster(tmp_path: Path, fresh: Callable[..., Any]) -> None:
    """Others have jobs of their own, share the CPUs, and find named actors in the same namespace only."""
    address = fresh(namespace="together").address_info["address"]

    @jray.remote(num_cpus=0)
    class Counter:
        def __init__(self) -> None:
            self.value = 0

        def add(self) -> int:
            self.value += 1
            return self.value

    kept = Counter.options(name="kept").remote()
    detached = Counter.options(name="detached", lifetime="detached").remote()
    assert jray.get([kept.add.remote(), detached.add.remote()]) == [1, 1]
    seen = {}
    for namespace in ("together", ""):
        lines = run_driver(tmp_path, SECOND_DRIVER, address, namespace).splitlines()
        seen[namespace] = dict(line.split(maxsplit=1) for line in lines if len(line.split()) == 2)
    same, other = seen["together"], seen[""]
    assert len({same["job"], other["job"], jray.get_runtime_context().get_job_id()}) == 3
    assert {
        "CPUs": "2.0",
        "task": "5",
        "kept": "2",
        "detached": "2",
        "num_cpus": "refused",
    }.items() <= same.items()
    assert {"CPUs": "2.0", "task": "5", "kept": "unknown", "detached": "unknown"}.items() <= other.items()
    assert jray.get(kept.add.remote()) == 3


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"unheard_of": 1}, RuntimeError),
        ({"namespace": ""}, ValueError),
        ({"namespace": 1}, TypeError),
        ({"local_mode": True}, RuntimeError),
    ],
    ids=str,
)
def test_init_refuses_bad_options(no_cluster: None, options: dict[str, Any], error: type[Exception]) -> None:
    """An unknown option, an empty namespace and local_mode are refused, and leave no cluster."""
    with pytest.raises(error):
        jray.init(**options)
    assert not jray.is_initialized()


def test_connecting_where_nothing_is(
    no_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """address="auto" without a cluster raises ConnectionError."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("JRAY_RUNTIME_DIR", str(tmp_path))  # others' clusters are elsewhere
    with pytest.raises(ConnectionError):
        jray.init(address="auto")


@pytest.mark.sentences("S147")
def test_without_a_cluster_the_state_calls_say_so(no_cluster: None) -> None:
    """nodes, cluster_resources and available_resources don't start one: RaySystemError."""
    for call in (jray.nodes, jray.cluster_resources, jray.available_resources):
        with pytest.raises(RaySystemError, match="has not been started"):
            call()
    assert not jray.is_initialized()


@pytest.fixture
def no_auto_init() -> dict[str, str]:
    """The environment in which nothing starts a cluster but `init`."""
    return {"RAY_ENABLE_AUTO_CONNECT": "0", "JRAY_ENABLE_AUTO_CONNECT": "0"}


@pytest.mark.sentences("S147")
def test_without_auto_init_every_call_says_what_is_missing(
    tmp_path: Path, no_auto_init: dict[str, str]
) -> None:
    """RaySystemError comes before any look at the arguments; the context works as far as it can."""
    script = """
        import jray
        from jray.exceptions import RaySystemError

        for name, call in {
            "get": lambda: jray.get(3),
            "put": lambda: jray.put(jray),
            "wait": lambda: jray.wait(3),
            "cancel": lambda: jray.cancel(3),
            "kill": lambda: jray.kill(3),
            "get_gpu_ids": lambda: jray.get_gpu_ids(),
        }.items():
            try:
                call()
            except RaySystemError as error:
                assert "has not been started" in str(error), error
                print(name)
        try:
            jray.get_actor("")
        except ValueError:
            print("get_actor")
        context = jray.get_runtime_context()
        assert context.get_task_id() is None and context.get_actor_id() is None
        for method in (context.get_job_id, context.get_node_id):
            try:
                method()
            except RuntimeError:
                print(method.__name__)
    """
    expected = [
        "get",
        "put",
        "wait",
        "cancel",
        "kill",
        "get_gpu_ids",
        "get_actor",
        "get_job_id",
        "get_node_id",
    ]
    assert run_driver(tmp_path, script, env=no_auto_init).split() == expected


def test_the_first_call_starts_a_cluster(tmp_path: Path) -> None:
    """Without `init` the first `.remote()` starts one."""
    script = """
        import jray

        @jray.remote
        def f():
            return 42

        assert not jray.is_initialized()
        print(jray.get(f.remote()))
        assert jray.is_initialized()
    """
    assert run_driver(tmp_path, script).split()[-1] == "42"


@pytest.mark.sentences("S21", "S22")
def test_a_scripts_own_definitions_travel(tmp_path: Path) -> None:
    """Classes and functions of `__main__` work as arguments, results, errors and actor state."""
    script = """
        import dataclasses
        import jray

        jray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)

        class Base:
            def hello(self):
                return "hello from " + type(self).__name__

        @dataclasses.dataclass
        class Point(Base):
            x: int

        class Mine(Exception):
            pass

        def helper(x):
            return x * FACTOR

        FACTOR = 3

        @jray.remote
        def move(point):
            assert isinstance(point, Point)
            return Point(helper(point.x))

        @jray.remote
        class Keeper:
            def __init__(self, point):
                self.point = point

            def get(self):
                return self.point, super(Point, self.point).hello()

            def fail(self):
                raise Mine("mine")

        keeper = Keeper.remote(Point(1))
        point, text = jray.get(keeper.get.remote())
        moved = jray.get(move.remote(point))
        assert isinstance(moved, Point) and isinstance(point, Base) and moved == Point(3)
        assert text == "hello from Point"
        try:
            jray.get(keeper.fail.remote())
        except Mine as error:
            print("caught", type(error).__name__)
    """
    assert run_driver(tmp_path, script).split() == ["caught", "RayTaskError(Mine)"]
