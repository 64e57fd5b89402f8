"""One process and one thread: when code runs, and what it shares with its caller."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import jray
from jray._core.refs import current
from jray.job_config import JobConfig

pytestmark = pytest.mark.usefixtures("inline")


def test_a_task_has_run_when_remote_returns() -> None:
    """`.remote()` runs the task to its end, in this process and thread."""
    seen: list[Any] = []

    @jray.remote
    def note() -> tuple[int, int]:
        sys.modules["builtins"].__dict__.setdefault("_jray_seen", []).append("ran")
        return os.getpid(), threading.get_ident()

    ref = note.remote()
    seen = sys.modules["builtins"].__dict__.pop("_jray_seen")
    assert seen == ["ran"]
    assert jray.get(ref, timeout=0) == (os.getpid(), threading.get_ident())


def test_neither_process_nor_thread_is_started() -> None:
    """init, a task, an actor and an async actor start nothing."""
    script = """
        import os, threading, psutil, jray
        jray.init(engine="inline", num_cpus=1)

        @jray.remote
        class Async:
            async def one(self):
                return 1

        @jray.remote
        def task():
            return 2

        assert jray.get([Async.remote().one.remote(), task.remote()]) == [1, 2]
        assert psutil.Process().children() == []
        assert threading.enumerate() == [threading.main_thread()]
        print(psutil.Process().num_threads())
    """
    assert run(script, {"OMP_NUM_THREADS": "1"}).split() == ["1"]


def run(script: str, environ: dict[str, str] | None = None, stdin: str = "") -> str:
    """Run *script* as a program, and return what it printed."""
    lines = script.splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line[margin:] for line in lines)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(os.environ) | {"PYTHONPATH": os.getcwd()} | (environ or {}),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_environment_chooses_the_engine() -> None:
    """JRAY_ENGINE=inline is as good as `engine="inline"`."""
    script = """
        import os, jray
        pid = jray.get(jray.remote(lambda: os.getpid()).remote())
        print(pid == os.getpid(), jray.get_runtime_context().gcs_address)
    """
    assert run(script, {"JRAY_ENGINE": "inline"}).split() == ["True", "inline"]


def test_prints_go_straight_to_the_callers_output(capsys: pytest.CaptureFixture[str]) -> None:
    """What a task prints stands where the caller's prints stand, without a prefix."""
    print("before")
    jray.remote(lambda: print("inside")).remote()
    print("after")
    assert capsys.readouterr().out == "before\ninside\nafter\n"


def test_an_address_is_refused(start: Callable[..., Any]) -> None:
    """There is nothing to join."""
    jray.shutdown()
    with pytest.raises(ConnectionError, match="inline"):
        start(address="/tmp/somewhere/node.sock")
    assert not jray.is_initialized()


def test_nested_tasks_know_who_they_are() -> None:
    """The context inside a nested call is the child's, and the parent's again after it."""

    @jray.remote
    def child() -> tuple[str | None, str | None]:
        context = jray.get_runtime_context()
        return context.get_task_id(), context.get_task_name()

    @jray.remote
    def parent() -> list[Any]:
        before = jray.get_runtime_context().get_task_id()
        inside = jray.get(child.options(name="the child").remote())
        return [before, inside, jray.get_runtime_context().get_task_id()]

    before, (inside, name), after = jray.get(parent.remote())
    assert before == after != inside
    assert name == "the child"
    assert jray.get_runtime_context().get_task_id() is None


def test_a_waiting_parent_gives_its_cpu_to_its_child() -> None:
    """Each level takes both CPUs, and what is free is right at each."""

    @jray.remote(num_cpus=2)
    def descend(n: int) -> list[float]:
        mine = jray.available_resources().get("CPU", 0.0)
        return [mine, *(jray.get(descend.remote(n - 1)) if n else [])]

    # asking is waiting, so a task that asks has given its CPUs up
    assert jray.get(descend.remote(2)) == [2.0, 2.0, 2.0]
    assert jray.available_resources()["CPU"] == 2


def test_what_waits_for_resources_runs_when_they_come() -> None:
    """A task that an actor's CPUs are lacking for runs in the operation that ends the actor."""

    @jray.remote(num_cpus=2)
    class Holder:
        pass

    @jray.remote
    def task() -> str:
        return "ran"

    holder = Holder.remote()
    ref = task.remote()
    assert jray.wait([ref], timeout=0) == ([], [ref])
    jray.kill(holder)
    assert jray.wait([ref], timeout=0) == ([ref], [])
    assert jray.get(ref) == "ran"


def test_a_dropped_handle_ends_its_actor_at_once() -> None:
    """The shutdown hook runs in the line that lets the last handle go, and its resources are free."""

    @jray.remote(num_cpus=1)
    class Hooked:
        def __ray_shutdown__(self) -> None:
            print("bye")

    actor = Hooked.remote()
    assert jray.available_resources()["CPU"] == 1
    del actor
    assert jray.available_resources()["CPU"] == 2


def test_calls_from_other_threads_run_there() -> None:
    """A thread's tasks run in that thread; an actor's calls never overlap."""

    @jray.remote
    def ident() -> int:
        return threading.get_ident()

    seen: list[tuple[int, int]] = []

    def work() -> None:
        seen.append((threading.get_ident(), jray.get(ident.remote())))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4
    assert all(mine == tasks for mine, tasks in seen)


def test_a_call_of_an_actor_that_is_busy_elsewhere_waits_its_turn() -> None:
    """Another thread's call returns a ref at once, and has its value when the running call is over."""
    began, go_on = threading.Event(), threading.Event()
    events = {"began": began, "go_on": go_on}
    sys.modules["builtins"].__dict__["_jray_events"] = events
    try:

        @jray.remote
        class Slow:
            def hold(self) -> str:
                found = sys.modules["builtins"].__dict__["_jray_events"]
                found["began"].set()
                assert found["go_on"].wait(30)
                return "held"

            def next(self) -> str:
                return "next"

        slow = Slow.remote()
        held: list[str] = []
        thread = threading.Thread(target=lambda: held.append(jray.get(slow.hold.remote())))
        thread.start()
        assert began.wait(30)
        ref = slow.next.remote()
        assert jray.wait([ref], timeout=0) == ([], [ref])
        go_on.set()
        assert jray.get(ref) == "next"
        thread.join()
        assert held == ["held"]
    finally:
        del sys.modules["builtins"].__dict__["_jray_events"]


def test_sys_exit_fails_a_task_and_not_the_process() -> None:
    """It is retried as the death of a worker would be, and fails with the same class."""
    counts = {"runs": 0}
    sys.modules["builtins"].__dict__["_jray_counts"] = counts
    try:

        @jray.remote(max_retries=2)
        def leave() -> None:
            sys.modules["builtins"].__dict__["_jray_counts"]["runs"] += 1
            sys.exit(3)

        with pytest.raises(jray.exceptions.WorkerCrashedError, match="status 3"):
            jray.get(leave.remote())
    finally:
        del sys.modules["builtins"].__dict__["_jray_counts"]
    assert counts["runs"] == 3


@pytest.mark.parametrize("ahead", [-1, 1])
def test_a_stream_that_sys_exit_ended_goes_on_where_it_was(ahead: int) -> None:
    """What the first run delivered doesn't come twice; what the retry makes beyond it does."""
    runs: list[int] = []
    sys.modules["builtins"].__dict__["_jray_runs"] = runs
    try:

        @jray.remote(max_retries=1, _generator_backpressure_num_objects=ahead)
        def items() -> Any:
            runs = sys.modules["builtins"].__dict__["_jray_runs"]
            runs.append(1)
            for i in range(5):
                if len(runs) == 1 and i == 3:
                    sys.exit(1)
                yield len(runs), i

        assert jray.get(list(items.remote())) == [(1, 0), (1, 1), (1, 2), (2, 3), (2, 4)]
    finally:
        del sys.modules["builtins"].__dict__["_jray_runs"]


def test_whoever_has_a_ref_may_cancel_its_task() -> None:
    """Also where an actor has submitted that."""

    @jray.remote
    class Owner:
        def submit(self) -> list[Any]:
            return [jray.remote(resources={"unheard_of": 1})(lambda: 1).remote()]

    owner = Owner.remote()
    (ref,) = jray.get(owner.submit.remote())
    jray.cancel(ref)
    with pytest.raises(jray.exceptions.TaskCancelledError):
        jray.get(ref)


def test_an_interrupt_goes_through_to_the_user() -> None:
    """KeyboardInterrupt in a task comes out of `.remote()`, and the next task runs."""

    @jray.remote
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.remote()
    assert jray.get(jray.remote(lambda: 1).remote()) == 1
    assert jray.available_resources()["CPU"] == 2


def test_variables_are_set_around_the_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task has its own, a child merges, an actor that it calls doesn't see them, and they are gone after it."""
    monkeypatch.setenv("COLOUR", "the driver's")

    def read() -> list[str | None]:
        return [os.environ.get(name) for name in ("COLOUR", "SHAPE")]

    @jray.remote
    class Reader:
        def read(self) -> list[str | None]:
            return read()

    reader = Reader.remote()

    @jray.remote
    def parent(nested: list[Any]) -> list[Any]:
        child = jray.remote(read).options(runtime_env={"env_vars": {"SHAPE": "round"}})
        return [jray.get(child.remote()), jray.get(nested[0].read.remote()), read()]

    told = parent.options(runtime_env={"env_vars": {"COLOUR": "red"}}).remote([reader])
    assert jray.get(told) == [["red", "round"], ["the driver's", None], ["red", None]]
    assert read() == ["the driver's", None]


@pytest.mark.parametrize("field", ["working_dir", "py_modules", "pip", "uv", "py_executable"])
def test_what_needs_another_process_is_refused(start: Callable[..., Any], field: str) -> None:
    """By name, with what to do: for a task, for an actor and for the job."""

    @jray.remote
    class Actor: ...

    environment = {field: "python" if field in {"working_dir", "py_executable"} else ["x"]}
    remotes: list[Any] = [jray.remote(lambda: 1), Actor]
    for remote in remotes:
        with pytest.raises(NotImplementedError, match=rf"{field}.*choose engine='jray'"):
            remote.options(runtime_env=environment).remote()
    jray.shutdown()
    with pytest.raises(NotImplementedError, match=field):
        start(runtime_env=environment)


def test_gpus_are_visible_in_the_task_alone(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA_VISIBLE_DEVICES names the task's GPUs while it runs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    jray.shutdown()
    start(num_gpus=2)

    @jray.remote(num_gpus=1)
    def see() -> tuple[list[Any], str]:
        return jray.get_gpu_ids(), os.environ["CUDA_VISIBLE_DEVICES"]

    assert jray.get(see.remote()) == (["3"], "3")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"


def test_an_object_that_does_not_fit_is_refused(start: Callable[..., Any]) -> None:
    """object_store_memory bounds what large objects take together, arrays that look at them included."""
    jray.shutdown()
    start(object_store_memory=8 * 1024 * 1024)
    first = jray.put(bytearray(6_000_000))
    with pytest.raises(jray.exceptions.ObjectStoreFullError):
        jray.put(bytearray(6_000_000))
    del first
    assert len(jray.get(jray.put(bytearray(6_000_000)))) == 6_000_000


def test_a_session_leaves_no_trace_in_the_next(start: Callable[..., Any]) -> None:
    """Names are free again; refs and handles of the first are refused."""

    @jray.remote
    class Named:
        def ping(self) -> int:
            return 1

    named, ref = Named.options(name="the name", lifetime="detached").remote(), jray.put(1)
    jray.shutdown()
    start()
    with pytest.raises(ValueError, match="the name"):
        jray.get_actor("the name")
    with pytest.raises(jray.exceptions.RaySystemError, match="ended"):
        jray.get(ref)
    with pytest.raises(jray.exceptions.RaySystemError, match="ended"):
        named.ping.remote()
    assert psutil.Process().children() == []


def test_actors_may_be_detached_by_default(start: Callable[..., Any]) -> None:
    """They live on without a handle, unless they say otherwise."""
    jray.shutdown()
    start(job_config=JobConfig(default_actor_lifetime="detached"))

    @jray.remote
    class Named:
        def ping(self) -> int:
            return 1

    Named.options(name="kept").remote()
    Named.options(name="let go", lifetime="non_detached").remote()
    assert jray.get(jray.get_actor("kept").ping.remote()) == 1
    with pytest.raises(ValueError, match="let go"):
        jray.get_actor("let go")


def test_an_actors_class_is_its_own() -> None:
    """What a method sets on its class shows nowhere else; instances travel as the driver's."""

    class Shared:
        count = 0

        def bump(self) -> int:
            type(self).count += 1
            return self.count

        def me(self) -> Any:
            return self

    remote = jray.remote(Shared)
    one, two = remote.remote(), remote.remote()
    assert jray.get([one.bump.remote(), one.bump.remote(), two.bump.remote()]) == [1, 2, 1]
    assert Shared.count == 0
    assert type(jray.get(one.me.remote())) is Shared


def test_the_state_of_what_runs_is_told() -> None:
    """Rows of tasks, actors, objects and the one node, with what each call waits for."""
    never = jray.remote(resources={"unheard_of": 1})(lambda: 1).remote()
    after = jray.remote(lambda x: x).options(name="after").remote(never)

    @jray.remote
    class Named:
        def fail(self) -> None:
            raise ValueError("told")

    named = Named.options(name="named").remote()
    failed = named.fail.remote()
    cluster = current.client.cluster
    rows = {row["name"]: row for row in cluster.rows("tasks", detail=True).rows}
    assert rows["after"]["state"] == "PENDING_ARGS_AVAIL" == after.status()
    assert rows["Named.fail"]["state"] == "FAILED"
    assert "told" in rows["Named.fail"]["error_message"]
    (actor,) = cluster.rows("actors").rows
    assert (actor["name"], actor["state"]) == ("named", "ALIVE")
    assert failed.hex() in {row["object_id"] for row in cluster.rows("objects").rows}
    for kind in ("nodes", "workers", "jobs"):
        assert cluster.rows(kind).total == 1
    with pytest.raises(ValueError, match="kind"):
        cluster.rows("nonsense")


def test_calls_without_task_events_are_not_told() -> None:
    """Of a function, of an actor, of one call: as the option says."""

    @jray.remote(enable_task_events=False)
    class Silent:
        def work(self) -> None: ...

    @jray.remote
    def work() -> None: ...

    silent = Silent.remote()
    jray.get([silent.work.remote(), work.options(enable_task_events=False).remote()])
    cluster = current.client.cluster
    assert cluster.rows("tasks").rows == []
    jray.get([silent.work.options(enable_task_events=True).remote(), work.options(name="work").remote()])
    assert sorted(row["name"] for row in cluster.rows("tasks").rows) == ["Silent.work", "work"]


def test_a_directory_to_spill_to_is_said_to_have_no_effect(tmp_path: Path) -> None:
    """Objects are in this process's own memory."""
    jray.shutdown()
    with pytest.warns(UserWarning, match="object_spilling_directory.* has no effect"):
        jray.init(engine="inline", object_spilling_directory=str(tmp_path))
    jray.shutdown()
    assert list(tmp_path.iterdir()) == []
