"""joblib's and scikit-learn's n_jobs on the cluster."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
import sys
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed

import jray
from jray.util.joblib import register_ray
from tests.behaviour import differences
from tests.behaviour.support import Bench, Gate, wait_gone, wait_until

pytestmark = pytest.mark.usefixtures("cluster")

LARGE = 500_000  #: numbers; 4 MB


@pytest.fixture(autouse=True)
def backend(cluster: None) -> Iterator[None]:
    """The backend "ray" with two jobs, for the test."""
    register_ray()
    with joblib.parallel_config(backend="ray", n_jobs=2):
        yield
    gc.collect()


def square(x: int) -> int:
    return x * x


def odd_only(x: int) -> int:
    if x % 2 == 0:
        raise ValueError(x)
    return x


def total(array: Any, gate: Gate | None = None) -> float:
    if gate is not None:
        gate.wait()
    return float(array.sum())


# -- joblib -------------------------------------------------------------------------------------------------


def test_the_results_are_those_of_a_loop() -> None:
    """Parallel gives the list of results, in order; positional and keyword arguments arrive."""
    assert Parallel()(delayed(square)(x) for x in range(100)) == [square(x) for x in range(100)]
    assert Parallel()(delayed(int)(text, base=8) for text in ("7", "10")) == [7, 8]


def test_the_work_is_done_elsewhere() -> None:
    """In the processes of two workers."""
    pids = set(Parallel(batch_size=1)(delayed(os.getpid)() for _ in range(20)))
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


def test_functions_of_a_notebook_work() -> None:
    """Lambdas and closures are sent."""
    factor = 3
    assert Parallel()(delayed(lambda x: factor * x)(x) for x in range(4)) == [0, 3, 6, 9]


def test_an_error_is_raised_as_it_was() -> None:
    """The exception of a call is raised, of its own class; the next Parallel works."""
    with pytest.raises(ValueError, match="2") as caught:
        Parallel()(delayed(odd_only)(x) for x in (1, 2, 3))
    assert type(caught.value) is ValueError
    assert Parallel()(delayed(odd_only)(x) for x in (1, 3)) == [1, 3]


def test_a_parallel_that_is_used_again_works_after_an_error() -> None:
    """`with Parallel() as parallel` stays usable."""
    with Parallel() as parallel:
        assert parallel(delayed(square)(x) for x in range(3)) == [0, 1, 4]
        with pytest.raises(ValueError, match="2"):
            parallel(delayed(odd_only)(x) for x in (1, 2, 3))
        assert parallel(delayed(square)(x) for x in range(3)) == [0, 1, 4]


def test_a_timeout_ends_the_calls(bench: Bench) -> None:
    """Parallel(timeout=) raises TimeoutError, and what ran does not go on."""
    gate = bench.gate()
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.2)(delayed(gate.wait)() for _ in range(4))
    assert Parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]


def test_nested_calls_run_in_threads() -> None:
    """A Parallel inside a call is joblib's own, in threads of the worker."""

    def outer(n: int) -> tuple[int, set[int]]:
        inner = Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(n))
        return os.getpid(), set(inner)

    for pid, inner in Parallel()(delayed(outer)(n) for n in (2, 3)):
        assert inner == {pid}


@pytest.mark.only("jray", "Ray's backend has no generators")
@pytest.mark.parametrize("how", ["generator", "generator_unordered"])
def test_results_may_be_taken_one_by_one(how: str) -> None:
    """return_as gives a generator."""
    results = Parallel(return_as=how)(delayed(square)(x) for x in range(30))
    assert next(results) in {square(x) for x in range(30)}
    assert len(list(results)) == 29


# -- how many -------------------------------------------------------------------------------------------------


def test_minus_one_is_all_cpus() -> None:
    """n_jobs=-1 means the CPUs of the cluster, and 0 means nothing."""
    assert joblib.effective_n_jobs(-1) == 2
    with pytest.raises(ValueError, match="n_jobs == 0"):
        Parallel(n_jobs=0)(delayed(square)(x) for x in range(3))


@differences.joblib_takes_what_there_is
def test_n_jobs_is_at_most_what_there_is() -> None:
    """More jobs than CPUs are as many as there are CPUs; -2 is one fewer; without a number it is all."""
    assert [joblib.effective_n_jobs(n) for n in (8, 2, 1, -2, -9)] == [2, 2, 1, 1, 1]
    assert Parallel(n_jobs=8)(delayed(square)(x) for x in range(4)) == [0, 1, 4, 9]
    with joblib.parallel_config(backend="ray", n_jobs=None):
        assert Parallel().n_jobs == -1


def test_one_job_is_a_loop() -> None:
    """n_jobs=1 runs here."""
    assert set(Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(3))) == {os.getpid()}


def test_workers_take_options() -> None:
    """ray_remote_args are options of the workers."""

    def assigned() -> float:
        return float(jray.get_runtime_context().get_assigned_resources().get("gadget", 0))

    with joblib.parallel_backend("ray", n_jobs=2, ray_remote_args={"resources": {"gadget": 0.5}}):
        assert Parallel()(delayed(assigned)() for _ in range(4)) == [0.5] * 4
    gc.collect()
    wait_until(lambda: jray.available_resources()["gadget"] == 2)


@pytest.mark.only("jray", "Ray's backend starts its workers anew for each Parallel")
def test_workers_stay_as_long_as_the_backend() -> None:
    """Calls in one `with parallel_config` use the same workers, which end after it."""
    with joblib.parallel_config(backend="ray", n_jobs=2):
        first, second = (
            set(Parallel(batch_size=1)(delayed(os.getpid)() for _ in range(20))) for _ in range(2)
        )
        assert first & second
    gc.collect()
    wait_gone(*first, *second)


# -- large arrays ---------------------------------------------------------------------------------------------


@pytest.mark.only("jray", "Ray 2.60 stores the array a dozen times, and each time if it is inside something")
@pytest.mark.parametrize("wrap", ["argument", "inside"])
def test_a_large_array_is_sent_once(bench: Bench, wrap: str) -> None:
    """Twenty calls with the same array of 4 MB need the memory of one in the store, also inside other objects."""
    array = np.arange(LARGE, dtype=float)
    gate = bench.gate()
    free = jray.available_resources()["object_store_memory"]
    if wrap == "argument":
        calls = [delayed(total)(array, gate) for _ in range(20)]
    else:
        calls = [delayed(functools.partial(total, array))(gate) for _ in range(20)]

    def look_and_open() -> Iterator[Any]:
        yield from calls
        # all are submitted: joblib reads its items to the end before it waits
        left = jray.available_resources()["object_store_memory"]
        assert free - left < 2.5 * array.nbytes
        gate.open()

    results = Parallel(pre_dispatch="all", batch_size=1)(look_and_open())
    assert results == [float(array.sum())] * 20


def test_large_arrays_arrive_whole_and_read_only() -> None:
    """As with joblib's own processes, which map them from files."""
    array = np.random.default_rng(1).random((1000, 200))

    def look(a: Any) -> tuple[bool, float, Any]:
        return a.flags.writeable, float(a.sum()), a.shape

    assert (
        Parallel()(delayed(look)(array) for _ in range(3)) == [(False, float(array.sum()), (1000, 200))] * 3
    )


@pytest.mark.only("jray", "Ray's looks at an array once as long as its pool lives; that is one Parallel, too")
def test_an_array_that_was_changed_is_sent_again() -> None:
    """The next Parallel sees what is in it then."""
    array = np.zeros(LARGE)
    with Parallel() as parallel:
        assert parallel(delayed(total)(array) for _ in range(2)) == [0, 0]
    array[:] = 1
    assert Parallel()(delayed(total)(array) for _ in range(2)) == [LARGE, LARGE]


@pytest.mark.only("jray", "the part of jray's backend that puts arrays")
def test_arrays_are_put_once_as_long_as_they_live() -> None:
    """One ref for an array however often it is asked for; another one for its successor at the same address."""
    from jray.util.joblib.shipment import Loads, pack  # noqa: PLC0415 -- Ray has none

    loads = Loads()
    array = np.zeros(LARGE)
    batch: Any = functools.partial(total, [array, {"again": array}, array[:10]])
    _, refs = pack(batch, loads)
    assert len(refs) == 1
    assert pack(batch, loads)[1] == refs
    ref = loads.ref_of(array)
    del array, batch
    gc.collect()
    assert loads.ref_of(np.zeros(LARGE)) != ref


# -- scikit-learn ---------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_a_grid_search_finds_what_it_finds_alone() -> None:
    """GridSearchCV on the digits: every score is the same to the last bit."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 -- two seconds
    from sklearn.model_selection import GridSearchCV  # noqa: PLC0415 -- see above
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415 -- see above

    images, digits = load_digits(return_X_y=True)

    def search(**options: Any) -> Any:
        tree = DecisionTreeClassifier(random_state=0)
        found = GridSearchCV(tree, {"max_depth": [3, 5, 8]}, cv=3, **options).fit(images, digits)
        return found.best_params_, found.cv_results_["mean_test_score"].tolist()

    assert search() == search(n_jobs=1)


# -- the name -------------------------------------------------------------------------------------------------


@pytest.mark.only("jray", "its own name")
def test_the_backend_has_jrays_name_too() -> None:
    """register_jray: backend="jray"."""
    from jray.util.joblib import register_jray  # noqa: PLC0415 -- Ray has none

    register_jray()
    with joblib.parallel_config(backend="jray"):
        assert Parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]


@pytest.mark.only("jray", "Ray's says to install Ray")
def test_without_joblib_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """ImportError that says what to install."""
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(ImportError, match="pip install joblib"):
        register_ray()


@pytest.mark.only("jray", "Ray would take seconds, and start with the machine's CPUs")
def test_a_cluster_is_started_if_there_is_none(no_cluster: None) -> None:
    """As with any other use of jray."""
    with joblib.parallel_config(backend="ray", n_jobs=-1):
        assert Parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]
    assert jray.is_initialized()
