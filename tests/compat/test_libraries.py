"""Libraries from PyPI that were written for Ray, unchanged, each against its own plain answer."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., str]

#: a dataflow for Hamilton: each function is a node, and its arguments are others
_FLOW = """
from hamilton.htypes import Collect, Parallelizable

def raw(n: int) -> list:
    return list(range(n))

def doubled(raw: list) -> list:
    return [2 * number for number in raw]

def total(doubled: list, offset: int) -> int:
    return sum(doubled) + offset

def part(n: int) -> Parallelizable[int]:
    yield from range(n)

def square(part: int) -> int:
    return part * part

def squares(square: Collect[int]) -> int:
    return sum(square)
"""


def needs(*modules: str) -> pytest.MarkDecorator:
    """Skip the test where a module is not installed."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"needs {', '.join(absent)}: pip install 'jray[compat]'")


@needs("modin", "pyarrow")
def test_modin(run_code: Run) -> None:
    """Modin's data frames on its Ray engine equal those of pandas."""
    run_code(
        """
        import numpy as np, pandas
        import modin.pandas as pd
        import ray
        data = {"k": np.arange(6000) % 17, "v": np.random.default_rng(0).random(6000), "s": list("abc") * 2000}
        plain, frame = pandas.DataFrame(data), pd.DataFrame(data)
        def same(ours, theirs):
            pandas.testing.assert_frame_equal(ours._to_pandas(), theirs)
        assert ray.is_initialized() and len(frame) == 6000
        same(frame.groupby("k")[["v"]].mean(), plain.groupby("k")[["v"]].mean())
        other = {"k": range(0, 17, 2), "w": range(9)}
        same(frame.merge(pd.DataFrame(other), on="k"), plain.merge(pandas.DataFrame(other), on="k"))
        same(frame.sort_values("v"), plain.sort_values("v"))
        same(frame.describe(), plain.describe())
        same(frame.apply(lambda row: row[["v"]] * 2, axis=1), plain.apply(lambda row: row[["v"]] * 2, axis=1))
        plain.to_csv("plain.csv", index=False)
        same(pd.read_csv("plain.csv"), pandas.read_csv("plain.csv"))
        frame.to_csv("frame.csv", index=False)
        assert open("frame.csv").read() == open("plain.csv").read()
        plain.to_parquet("plain.parquet")
        same(pd.read_parquet("plain.parquet"), plain)
        try:
            frame.modin.to_ray()
        except NotImplementedError as error:
            assert "ray.data is not part of jray" in str(error)
        """,
        MODIN_ENGINE="ray",
        MODIN_CPUS="2",
        PYTHONWARNINGS="ignore",
    )


@needs("sklearn", "joblib")
def test_scikit_learn_by_joblib(run_code: Run) -> None:
    """A grid search on joblib's Ray backend finds what the plain one finds."""
    run_code("""
        import joblib, numpy as np
        from ray.util.joblib import register_ray
        from sklearn.datasets import make_classification
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.model_selection import GridSearchCV
        from sklearn.svm import SVC
        register_ray()
        points, labels = make_classification(200, 10, random_state=0)
        search = GridSearchCV(SVC(), {"C": [0.1, 1, 10]}, cv=3)
        plain = search.fit(points, labels).cv_results_["mean_test_score"]
        forest = RandomForestClassifier(10, random_state=0)
        probabilities = forest.fit(points, labels).predict_proba(points)
        with joblib.parallel_backend("ray", n_jobs=2):
            assert np.allclose(search.fit(points, labels).cv_results_["mean_test_score"], plain)
            assert np.allclose(forest.set_params(n_jobs=2).fit(points, labels).predict_proba(points), probabilities)
            sums = joblib.Parallel()(joblib.delayed(np.sum)(np.full(200_000, n)) for n in range(4))
            assert sums == [n * 200_000 for n in range(4)]
    """)


@needs("pymoo")
def test_pymoo(run_code: Run) -> None:
    """An optimisation whose problem is evaluated by Ray tasks takes the steps of the serial one."""
    run_code("""
        import numpy as np, ray
        from pymoo.algorithms.soo.nonconvex.ga import GA
        from pymoo.core.problem import ElementwiseProblem
        from pymoo.optimize import minimize
        from pymoo.parallelization.ray import RayParallelization
        class Sphere(ElementwiseProblem):
            def __init__(self, **settings):
                super().__init__(n_var=4, n_obj=1, xl=-2, xu=2, **settings)
            def _evaluate(self, x, out, *args, **kwargs):
                out["F"] = ((x - 0.5) ** 2).sum()
        ray.init(num_cpus=2)
        runner = RayParallelization(job_resources={"num_cpus": 1})
        found = minimize(Sphere(elementwise_runner=runner), GA(pop_size=12), ("n_gen", 6), seed=1)
        plain = minimize(Sphere(), GA(pop_size=12), ("n_gen", 6), seed=1)
        assert np.allclose(found.X, plain.X) and np.allclose(found.F, plain.F)
    """)


@needs("hamilton")
def test_hamilton(run_code: Run, tmp_path: Path) -> None:
    """Hamilton's graph adapter runs each node as a task; its executor runs a dynamic map as tasks."""
    (tmp_path / "flow.py").write_text(_FLOW)
    run_code("""
        import flow, ray
        from hamilton import base, driver
        from hamilton.execution import executors
        from hamilton.plugins.h_ray import RayGraphAdapter, RayTaskExecutor
        ray.init(num_cpus=2)
        adapter = RayGraphAdapter(result_builder=base.DictResult())
        graph = driver.Builder().with_modules(flow).with_adapters(adapter).build()
        assert graph.execute(["total", "doubled"], inputs={"n": 4, "offset": 3}) == {
            "total": 15,
            "doubled": [0, 2, 4, 6],
        }
        ray.shutdown()
        dynamic = (
            driver.Builder()
            .with_modules(flow)
            .enable_dynamic_execution(allow_experimental_mode=True)
            .with_local_executor(executors.SynchronousLocalTaskExecutor())
            .with_remote_executor(RayTaskExecutor(num_cpus=2))
            .build()
        )
        assert dynamic.execute(["squares"], inputs={"n": 6}) == {"squares": 55}
    """)


@needs("swifter")
def test_swifter(run_code: Run) -> None:
    """Swifter's grouped apply runs on Ray and gives what pandas gives."""
    run_code(
        """
        import os, pandas as pd, ray, swifter
        size = 60_000  # of less it makes no tasks
        frame = pd.DataFrame({"k": [n % 5 for n in range(size)], "v": range(size)})
        groups = frame.swifter.progress_bar(False).groupby("k")
        found = groups.apply(lambda group: group.v.sum())
        assert found.tolist() == frame.groupby("k").v.sum().tolist()
        assert os.getpid() not in groups.apply(lambda group: os.getpid()).tolist()
        """,
        PYTHONWARNINGS="ignore",
    )


@needs("daft")
def test_daft(run_code: Run) -> None:
    """Daft's distributed runner joins, groups, sorts, writes and calls the user's functions in actors."""
    run_code(
        """
        import os, daft, ray
        from daft import col
        ray.init(num_cpus=2)
        daft.set_runner_ray()
        left = daft.from_pydict({"k": [n % 7 for n in range(300)], "v": list(range(300))}).into_partitions(3)
        right = daft.from_pydict({"k": list(range(0, 7, 2)), "w": [10, 20, 30, 40]})

        @daft.func
        def double(number: int) -> int:
            return 2 * number

        @daft.cls(max_concurrency=1)
        class Shift:
            def __init__(self):
                self.by = 1
            def __call__(self, number: int) -> int:
                return number + self.by

        joined = left.join(right, on="k").with_column("d", double(col("v")))
        found = joined.groupby("k").agg(col("d").sum(), col("w").max()).sort("k").to_pydict()
        sums = [2 * sum(range(k, 300, 7)) for k in (0, 2, 4, 6)]
        assert found == {"k": [0, 2, 4, 6], "d": sums, "w": [10, 20, 30, 40]}, found
        assert left.select(Shift()(col("v")).alias("x")).sum("x").to_pydict() == {"x": [sum(range(301))]}
        left.write_parquet("written")
        assert daft.read_parquet("written/*.parquet").count_rows() == 300
        """,
        DAFT_PROGRESS_BAR="0",
    )


@needs("deephyper")
def test_deephyper(run_code: Run) -> None:
    """DeepHyper's evaluator awaits the refs of its tasks, and keeps its jobs in an actor."""
    run_code("""
        from deephyper.evaluator import Evaluator

        def distance(job):
            return -((job.parameters["x"] - 3) ** 2)

        evaluator = Evaluator.create(distance, method="ray", method_kwargs={"num_cpus": 2, "num_cpus_per_task": 1})
        evaluator.submit([{"x": n} for n in range(6)])
        found = {job.args["x"]: job.output for job in evaluator.gather("ALL")}
        assert found == {n: -((n - 3) ** 2) for n in range(6)}, found
    """)


@needs("sktime")
def test_sktime(run_code: Run) -> None:
    """An evaluation on sktime's Ray backend has the scores of the serial one."""
    run_code(
        """
        import numpy as np
        from sktime.datasets import load_airline
        from sktime.forecasting.model_evaluation import evaluate
        from sktime.forecasting.naive import NaiveForecaster
        from sktime.split import ExpandingWindowSplitter
        series = load_airline()
        splitter = ExpandingWindowSplitter(initial_window=36, step_length=36, fh=[1, 2])
        plain = evaluate(NaiveForecaster(), splitter, series)
        options = {"ray_remote_args": {"num_cpus": 2}}
        found = evaluate(NaiveForecaster(), splitter, series, backend="ray", backend_params=options)
        scores = [name for name in plain.columns if name.startswith("test_")]
        assert len(scores) == 1 and np.allclose(plain[scores], found[scores])
        """,
        PYTHONWARNINGS="ignore",
    )
