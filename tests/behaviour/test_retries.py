"""Retries of tasks: what is run again, how often, and what `get` raises in the end."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest

import jray
from jray.exceptions import RayTaskError, WorkerCrashedError
from tests.behaviour import differences
from tests.behaviour.support import Bench, Tally

pytestmark = pytest.mark.usefixtures("cluster")


@jray.remote
def crash(runs: Tally, how: str = "exit", survive_at: int = 1_000_000) -> int:
    attempt = runs.add(os.getpid())
    if attempt >= survive_at:
        return attempt
    if how == "exit":
        os._exit(1)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    sys.exit(3)


@jray.remote
def stumble(runs: Tally, error: type[Exception], survive_at: int = 1_000_000) -> int:
    attempt = runs.add()
    if attempt >= survive_at:
        return attempt
    raise error(attempt)


@pytest.mark.sentences("S79", "S81")
@pytest.mark.parametrize("how", ["exit", "kill", "segv"])
def test_a_dead_worker_is_a_worker_crashed_error(bench: Bench, how: str) -> None:
    """A task whose worker dies, with no retries, runs once and raises WorkerCrashedError."""
    runs = bench.tally()
    with pytest.raises(WorkerCrashedError):
        jray.get(crash.options(max_retries=0).remote(runs, how))
    assert runs.count() == 1


@pytest.mark.sentences("S79", "S81")
def test_a_crashed_task_is_retried(bench: Bench) -> None:
    """A task that crashes twice and then succeeds gives its value, each time from another process."""
    runs = bench.tally()
    assert jray.get(crash.options(max_retries=2).remote(runs, survive_at=3)) == 3
    assert len(set(map(str, runs.notes()))) == 3


@pytest.mark.sentences("S81")
def test_the_default_is_three_retries(bench: Bench) -> None:
    """Without the option a task that always crashes runs four times."""
    runs = bench.tally()
    with pytest.raises(WorkerCrashedError):
        jray.get(crash.remote(runs))
    assert runs.count() == 4


@pytest.mark.sentences("S81")
def test_retries_may_be_endless(bench: Bench) -> None:
    """max_retries=-1 retries more often than the default would."""
    runs = bench.tally()
    assert jray.get(crash.options(max_retries=-1).remote(runs, survive_at=5)) == 5


@pytest.mark.sentences("S79")
def test_sys_exit_fails_a_task(bench: Bench) -> None:
    """A task that calls sys.exit gives no value."""
    with pytest.raises(jray.exceptions.RayError):
        jray.get(crash.options(max_retries=0).remote(bench.tally(), "sys.exit"))


@pytest.mark.sentences("S79")
def test_a_crash_leaves_the_others_alone(bench: Bench) -> None:
    """Tasks beside and after a crash give their values."""
    echo = jray.remote(lambda x: x)
    before = [echo.remote(i) for i in range(20)]
    broken = crash.options(max_retries=0).remote(bench.tally())
    after = [echo.remote(i) for i in range(20)]
    assert jray.get(before + after) == [*range(20), *range(20)]
    with pytest.raises(WorkerCrashedError):
        jray.get(broken)


@pytest.mark.sentences("S75", "S79")
def test_a_crash_fails_every_return(bench: Bench) -> None:
    """All returns of a crashed task raise WorkerCrashedError."""
    for ref in crash.options(max_retries=0, num_returns=2).remote(bench.tally()):
        with pytest.raises(WorkerCrashedError):
            jray.get(ref)


@pytest.mark.sentences("S29", "S79")
def test_a_crash_fails_who_depends_on_it(bench: Bench) -> None:
    """A task on the result of a crashed one isn't run, and raises the crash."""
    ref = jray.remote(lambda x: x).remote(crash.options(max_retries=0).remote(bench.tally()))
    with pytest.raises(jray.exceptions.RayError, match=r"WorkerCrashedError|crashed|died"):
        jray.get(ref)


@pytest.mark.sentences("S81")
def test_application_errors_are_not_retried(bench: Bench) -> None:
    """An exception ends the task at the first run."""
    runs = bench.tally()
    with pytest.raises(ValueError, match="1"):
        jray.get(stumble.remote(runs, ValueError))
    assert runs.count() == 1


@pytest.mark.sentences("S82")
def test_retry_exceptions_retries_application_errors(bench: Bench) -> None:
    """With retry_exceptions=True an exception is retried until the task succeeds."""
    runs = bench.tally()
    assert jray.get(stumble.options(retry_exceptions=True).remote(runs, ValueError, survive_at=3)) == 3


@pytest.mark.sentences("S82")
def test_retries_are_exhausted_with_the_last_exception(bench: Bench) -> None:
    """max_retries=2 gives three executions; `get` raises the exception of the third."""
    runs = bench.tally()
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the cause is looked at
        jray.get(stumble.options(max_retries=2, retry_exceptions=True).remote(runs, ValueError))
    assert isinstance(caught.value, RayTaskError)
    assert caught.value.cause.args == (3,)
    assert runs.count() == 3


@pytest.mark.sentences("S82")
@pytest.mark.parametrize(("error", "count"), [(KeyError, 3), (IndexError, 3), (ValueError, 1)])
def test_only_listed_exceptions_are_retried(bench: Bench, error: type[Exception], count: int) -> None:
    """retry_exceptions=[LookupError] retries it and its subclasses, and nothing else."""
    runs = bench.tally()
    with pytest.raises(error):
        jray.get(stumble.options(max_retries=2, retry_exceptions=[LookupError]).remote(runs, error))
    assert runs.count() == count


@pytest.mark.sentences("S82")
def test_no_retries_means_none_for_exceptions_too(bench: Bench) -> None:
    """max_retries=0 with retry_exceptions=True runs once."""
    runs = bench.tally()
    with pytest.raises(ValueError, match="1"):
        jray.get(stumble.options(max_retries=0, retry_exceptions=True).remote(runs, ValueError))
    assert runs.count() == 1


@pytest.mark.sentences("S88")
def test_a_retry_gets_the_same_arguments(bench: Bench) -> None:
    """Each run resolves the same refs, large and small."""
    runs = bench.tally()

    @jray.remote(max_retries=1)
    def use(blob: bytes, nested: list[Any]) -> tuple[int, Any]:
        if runs.add([len(blob), jray.get(nested[0])]) == 1:
            os._exit(1)
        return len(blob), jray.get(nested[0])

    assert jray.get(use.remote(jray.put(bytes(300_000)), [jray.put("nested")])) == (300_000, "nested")
    assert runs.notes() == [[300_000, "nested"]] * 2


@pytest.mark.sentences("S79")
def test_a_task_that_forks_is_run_once(bench: Bench) -> None:
    """A child that a task forked and that ends doesn't end the task or send a second result."""
    runs = bench.tally()

    @jray.remote(max_retries=0)
    def forks() -> int:
        runs.add()
        child = os.fork()
        if child == 0:
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert jray.get(forks.remote()) == 0
    assert runs.count() == 1


@differences.crash_is_explained
@pytest.mark.sentences("S79")
@pytest.mark.parametrize(("how", "told"), [("exit", "1"), ("kill", "SIGKILL"), ("segv", "SIGSEGV")])
def test_a_crash_tells_how_the_worker_died(bench: Bench, how: str, told: str) -> None:
    """The text has the exit code or the signal's name."""
    with pytest.raises(WorkerCrashedError) as caught:
        jray.get(crash.options(max_retries=0).remote(bench.tally(), how))
    assert told in str(caught.value)


@differences.crash_is_explained
@pytest.mark.sentences("S79")
def test_a_crash_tells_the_last_words_of_the_worker() -> None:
    """The text has what the worker last wrote to stderr."""

    @jray.remote(max_retries=0)
    def complain() -> None:
        print("these are my last words", file=sys.stderr, flush=True)
        os._exit(9)

    with pytest.raises(WorkerCrashedError, match="these are my last words"):
        jray.get(complain.remote())
