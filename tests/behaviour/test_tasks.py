"""Tasks: calls and returns, what travels with a function, and the workers that run it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import jray
import jray.util.state
from tests.behaviour import differences
from tests.behaviour.support import Bench, run_driver, wait_gone, wait_until

pytestmark = pytest.mark.usefixtures("cluster")

COUNTER = {"value": 0}


@jray.remote
def echo(value: Any) -> Any:
    return value


@jray.remote
def pid() -> int:
    return os.getpid()


@pytest.mark.sentences("S48")
def test_a_task_returns_its_value_from_another_process() -> None:
    """`get` gives what the function returned, and the function ran elsewhere."""
    assert jray.get(echo.remote(41)) == 41
    assert jray.get(pid.remote()) != os.getpid()


def test_a_plain_function_becomes_remote_by_a_call() -> None:
    """`jray.remote(f)` is the same as the decorator, and leaves `f` itself callable."""

    def double(x: int) -> int:
        return 2 * x

    remote_double = jray.remote(double)
    assert double(4) == 8
    assert jray.get(remote_double.remote(4)) == 8


def test_the_decorator_takes_options() -> None:
    """`@jray.remote(...)` with keywords sets options; `.options` changes them for one call only."""

    @jray.remote(num_returns=2)
    def pair() -> tuple[int, int]:
        return 1, 2

    assert jray.get(pair.remote()) == [1, 2]
    assert jray.get(pair.options(num_returns=1).remote()) == (1, 2)
    assert jray.get(pair.remote()) == [1, 2]


def test_several_returns_are_several_refs() -> None:
    """num_returns=3 gives a list of three refs, each to one element of what was returned."""

    @jray.remote(num_returns=3)
    def three() -> tuple[int, str, None]:
        return 1, "two", None

    refs = three.remote()
    assert isinstance(refs, list)
    assert [jray.get(ref) for ref in refs] == [1, "two", None]
    assert len(set(refs)) == 3


def test_a_list_of_returns_is_as_good_as_a_tuple() -> None:
    """A function with several returns may return a list."""

    @jray.remote(num_returns=2)
    def pair() -> list[int]:
        return [1, 2]

    assert jray.get(pair.remote()) == [1, 2]


def test_no_returns_give_no_ref(bench: Bench) -> None:
    """num_returns=0 makes `.remote()` return None, and the task runs all the same."""
    ran = bench.gate("ran")

    @jray.remote(num_returns=0)
    def silent() -> None:
        ran.open()

    assert silent.remote() is None
    ran.wait()


@pytest.mark.parametrize("value", [(1,), (1, 2, 3)])
def test_a_wrong_number_of_returns_is_an_error_in_each(value: tuple[int, ...]) -> None:
    """What returns fewer or more than num_returns values fails every return with ValueError."""

    @jray.remote(num_returns=2, max_retries=0)
    def wrong() -> tuple[int, ...]:
        return value

    for ref in wrong.remote():
        with pytest.raises(ValueError, match=r"num_returns|returned"):
            jray.get(ref)


def test_something_not_iterable_for_several_returns_is_an_error() -> None:
    """One value where two were promised fails, and does not come back as one of them."""

    @jray.remote(num_returns=2)
    def one() -> int:
        return 1

    for ref in one.remote():
        with pytest.raises((TypeError, ValueError)):
            jray.get(ref)


@pytest.mark.sentences("S30")
def test_a_returned_ref_is_not_unwrapped() -> None:
    """A task that returns a ref gives a ref; a second `get` gives the value."""

    @jray.remote
    def outer() -> jray.ObjectRef[str]:
        return echo.remote("inner")

    inner = jray.get(outer.remote())
    assert isinstance(inner, jray.ObjectRef)
    assert jray.get(inner) == "inner"


@pytest.mark.sentences("S31")
def test_every_kind_of_parameter_works() -> None:
    """Defaults, *args, keyword-only parameters and **kwargs arrive as in a plain call."""

    @jray.remote
    def call(a: int, b: int = 2, *rest: int, c: int, d: int = 4, **more: int) -> Any:
        return a, b, rest, c, d, more

    assert jray.get(call.remote(1, c=3)) == (1, 2, (), 3, 4, {})
    assert jray.get(call.remote(1, 20, 21, 22, c=30, e=5)) == (1, 20, (21, 22), 30, 4, {"e": 5})
    assert jray.get(call.remote(c=3, a=1, d=40, b=0)) == (1, 0, (), 3, 40, {})


@pytest.mark.sentences("S31")
@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"a": 1})], ids=str
)
def test_bad_arity_is_a_type_error_on_the_caller(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    """What Python would refuse as a call is refused by `.remote()` itself, before anything is scheduled."""

    @jray.remote
    def call(a: int, b: int = 2) -> int:
        return a + b

    with pytest.raises(TypeError):
        call.remote(*args, **kwargs)


@pytest.mark.sentences("S31")
def test_a_lambda_is_a_task() -> None:
    """A function without a name works like one with a name."""
    assert jray.get(jray.remote(lambda x, y=1: x + y).remote(1, y=10)) == 11


@pytest.mark.sentences("S32")
def test_a_function_is_frozen_at_its_first_call() -> None:
    """Closure cells changed after the first `.remote()` aren't seen by later calls."""
    captured = "before"

    @jray.remote
    def read() -> str:
        return captured

    assert jray.get(read.remote()) == "before"
    captured = "after"
    assert jray.get(read.remote()) == "before"


@pytest.mark.sentences("S32")
def test_a_function_is_not_frozen_before_its_first_call() -> None:
    """What the closure holds at the first `.remote()` counts, not what it held at the decoration."""
    captured = "decorated"

    @jray.remote
    def read() -> str:
        return captured

    captured = "called"
    assert jray.get(read.remote()) == "called"


@pytest.mark.sentences("S33")
def test_globals_changed_in_a_task_stay_there() -> None:
    """A module's variable that a task changes is unchanged in the driver."""

    @jray.remote
    def bump() -> int:
        COUNTER["value"] += 1
        return COUNTER["value"]

    assert jray.get(bump.remote()) >= 1
    assert COUNTER["value"] == 0


@pytest.mark.sentences("S34")
def test_a_far_too_large_function_is_refused() -> None:
    """A function that captures more than 100 MB raises ValueError at its first `.remote()`."""
    ballast = bytearray(105_000_000)

    @jray.remote
    def heavy() -> int:
        return len(ballast)

    with pytest.raises(ValueError, match=r"too large"):
        heavy.remote()


@pytest.mark.sentences("S35")
def test_a_redefined_function_is_a_new_function(bench: Bench) -> None:
    """Calls made through the new definition run it; a call made before keeps the old body."""
    gate = bench.gate()

    def define(answer: str) -> Any:
        @jray.remote
        def body() -> str:
            gate.wait()
            return answer

        return body

    old = define("old").remote()
    new = define("new").remote()
    gate.open()
    assert jray.get([old, new]) == ["old", "new"]


@pytest.mark.sentences("S36")
def test_workers_are_used_again() -> None:
    """Twenty tasks one after the other don't need twenty processes."""
    assert len({jray.get(pid.remote()) for _ in range(20)}) < 20


@pytest.mark.sentences("S37")
def test_max_calls_ends_the_worker() -> None:
    """With max_calls=1 each call has a process of its own, which ends after it."""

    @jray.remote(max_calls=1)
    def once() -> int:
        return os.getpid()

    pids = [jray.get(once.remote()) for _ in range(3)]
    assert len(set(pids)) == 3
    wait_gone(*pids)


@pytest.mark.sentences("S37")
def test_max_calls_counts(bench: Bench) -> None:
    """With max_calls=2 no process runs the function more than twice."""

    @jray.remote(max_calls=2)
    def twice() -> int:
        return os.getpid()

    pids = [jray.get(twice.remote()) for _ in range(6)]
    assert max(pids.count(each) for each in pids) <= 2


@pytest.mark.sentences("S38")
def test_a_task_runs_in_the_drivers_folder() -> None:
    """A task's working directory is the driver's."""

    @jray.remote
    def cwd() -> str:
        return os.getcwd()

    assert Path(jray.get(cwd.remote())) == Path.cwd()


@pytest.mark.sentences("S38")
def test_a_task_finds_modules_beside_the_drivers_script(tmp_path: Path) -> None:
    """A module in the folder of the driver's script is imported by tasks, not sent by value."""
    (tmp_path / "beside_the_script.py").write_text(
        "import os\n\ndef where():\n    return __file__, os.getpid()\n"
    )
    script = """
        import os
        import beside_the_script
        import jray

        jray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
        path, pid = jray.get(jray.remote(beside_the_script.where).remote())
        assert path == beside_the_script.__file__ and pid != os.getpid()
        print("found")
    """
    assert run_driver(tmp_path, script).split() == ["found"]


@pytest.mark.sentences("S39")
@pytest.mark.skipif("OMP_NUM_THREADS" in os.environ, reason="a value set by the user is kept")
@pytest.mark.parametrize(("num_cpus", "threads"), [(0.5, "1"), (1, "1"), (2, "2")])
def test_omp_threads_follow_num_cpus(num_cpus: float, threads: str) -> None:
    """OMP_NUM_THREADS in a task is its CPUs rounded down, and at least 1."""

    @jray.remote
    def read() -> str | None:
        return os.environ.get("OMP_NUM_THREADS")

    assert jray.get(read.options(num_cpus=num_cpus).remote()) == threads


@pytest.mark.sentences("S39")
@pytest.mark.skipif("OMP_NUM_THREADS" in os.environ, reason="a value set by the user is kept")
@pytest.mark.parametrize(("options", "threads"), [({}, "1"), ({"num_cpus": 2}, "2")], ids=str)
def test_omp_threads_in_an_actor(options: dict[str, Any], threads: str) -> None:
    """An actor has as many as it has CPUs, and one without num_cpus."""

    @jray.remote
    class Reader:
        def read(self) -> str | None:
            return os.environ.get("OMP_NUM_THREADS")

    assert jray.get(Reader.options(**options).remote().read.remote()) == threads


@pytest.mark.sentences("S39", "S40")
def test_environment_is_taken_when_the_cluster_starts(
    fresh: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers see the variables of the driver at `init`, a user's OMP_NUM_THREADS too, and no later change."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("SET_BEFORE", "yes")
    fresh()
    monkeypatch.setenv("SET_AFTER", "yes")

    @jray.remote
    def read() -> list[str | None]:
        return [os.environ.get(name) for name in ("OMP_NUM_THREADS", "SET_BEFORE", "SET_AFTER")]

    assert jray.get(read.remote()) == ["7", "yes", None]


@pytest.mark.sentences("S41")
def test_workers_are_nice() -> None:
    """A worker's niceness is 15 above the driver's, so that the driver stays responsive."""
    nice = jray.get(jray.remote(lambda: psutil.Process().nice()).remote())
    assert nice == min(19, os.nice(0) + 15)


@pytest.mark.sentences("S41")
def test_workers_are_the_first_to_die_of_memory() -> None:
    """A worker's oom_score_adj is 1000."""
    text = jray.get(jray.remote(lambda: Path("/proc/self/oom_score_adj").read_text()).remote())
    assert int(text) == 1000


@pytest.mark.sentences("S146")
def test_tasks_can_be_submitted_from_tasks() -> None:
    """A task may call other tasks, to any depth."""

    @jray.remote
    def fib(n: int) -> int:
        if n < 2:
            return n
        return sum(jray.get([fib.remote(n - 1), fib.remote(n - 2)]))

    assert jray.get(fib.remote(4)) == 3


def test_a_thousand_tasks_in_flight() -> None:
    """Many more tasks than CPUs can be outstanding, and each gives its own result."""
    assert jray.get([echo.remote(i) for i in range(1000)]) == list(range(1000))


def test_a_call_to_a_remote_function_says_how_to_call_it() -> None:
    """`f()` raises TypeError that names `.remote()`."""
    with pytest.raises(TypeError, match=r"\.remote\(\)"):
        echo(1)


def test_a_coroutine_function_is_no_task() -> None:
    """`async def` can't be a task: ValueError."""

    async def coroutine() -> int:
        return 1

    with pytest.raises(ValueError, match="async"):
        jray.get(jray.remote(coroutine).remote())


@differences.remote_function_is_named
def test_a_remote_function_keeps_name_and_doc() -> None:
    """`__name__` and `__doc__` of a remote function are those of the function."""

    @jray.remote
    def documented() -> None:
        """What it does."""

    assert documented.__name__ == "documented"
    assert documented.__doc__ == "What it does."


@pytest.mark.only("jray", "Ray's state API needs the dashboard, which these clusters lack")
def test_tasks_without_events_are_not_listed() -> None:
    """With enable_task_events=False the state API doesn't know of a task, or of an actor's calls."""

    @jray.remote
    def listed() -> None: ...

    @jray.remote(enable_task_events=False)
    def unlisted() -> None: ...

    class Quiet:
        def hushed(self) -> None: ...

        @jray.method(enable_task_events=True)
        def loud(self) -> None: ...

    actor = jray.remote(enable_task_events=False)(Quiet).remote()
    jray.get([listed.remote(), unlisted.remote(), actor.hushed.remote(), actor.loud.remote()])
    names = {task.func_or_class_name for task in jray.util.state.list_tasks(limit=10_000)}
    assert {name.rpartition(".")[2] for name in names} >= {"listed", "loud"}
    assert not {name.rpartition(".")[2] for name in names} & {"unlisted", "hushed"}


@pytest.mark.sentences("S45")
def test_idle_workers_are_ended(bench: Bench) -> None:
    """Workers above the number of CPUs end soon after they have nothing to do."""
    gate, here = bench.gate(), bench.tally()

    @jray.remote(num_cpus=0)
    def hold() -> None:
        here.add(os.getpid())
        gate.wait()

    refs = [hold.remote() for _ in range(6)]
    here.wait_for(6)
    gate.open()
    jray.get(refs)
    pids = [int(str(note)) for note in here.notes()]
    assert len(set(pids)) == 6
    wait_until(lambda: sum(map(psutil.pid_exists, pids)) <= 2, what="at most as many workers as CPUs")
