"""Dask's collections computed by jray's tasks, each against the plain answer."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("dask", "numpy", "pandas")),
    reason="needs dask with its arrays and data frames: pip install 'jray[compat]'",
)

Run = Callable[..., str]


def test_arrays_bags_and_delayed_values(run_code: Run) -> None:
    """They give what Dask's own schedulers give, and the work is done in other processes."""
    run_code("""
        import os, operator
        import dask, dask.array as da, dask.bag as db, numpy as np
        import ray
        from ray.util.dask import enable_dask_on_ray, ray_dask_get, ray_dask_get_sync
        ray.init(num_cpus=2)
        array = da.arange(90_000, chunks=20_000).reshape(300, 300).rechunk(100)
        plain = np.arange(90_000).reshape(300, 300)
        with enable_dask_on_ray():
            assert np.array_equal((array + array.T).sum(axis=0).compute(), (plain + plain.T).sum(axis=0))
            assert np.array_equal(array[::7, 3].compute(), plain[::7, 3])
            bag = db.from_sequence(range(100), npartitions=7)
            assert bag.filter(lambda n: n % 2).map(lambda n: n * n).fold(operator.add).compute() == 166650
            assert dict(bag.map(lambda n: n % 3).frequencies().compute()) == {0: 34, 1: 33, 2: 33}
            pid = dask.delayed(os.getpid)
            assert os.getpid() not in dask.compute(pid(), pid(pure=False))

            @dask.delayed
            def total(*numbers, scale=1):
                return sum(numbers) * scale

            inner = [total(n, n) for n in range(10)]
            assert dask.compute(total(*inner), total(*inner, scale=total(2)), [inner[3]]) == (90, 180, [6])
        assert total(1, 2).compute(scheduler=ray_dask_get_sync) == 3
        assert ray_dask_get({"a": 1, "b": (operator.add, "a", 2), "c": "b", "d": [3]}, [["b", "c"], "d"]) == (
            (3, 3),
            [3],
        )
    """)


def test_data_frames(run_code: Run) -> None:
    """Group, merge, shuffle, sort: rows go between partitions through the object store, or through files."""
    run_code("""
        import numpy as np, pandas as pd
        import dask.dataframe as dd
        from ray.util.dask import enable_dask_on_ray, disable_dask_on_ray
        import dask, ray
        ray.init(num_cpus=2)
        enable_dask_on_ray()
        assert dask.config.get("dataframe.shuffle.method") == "tasks"
        rng = np.random.default_rng(0)
        plain = pd.DataFrame({"k": np.arange(600) % 17, "v": rng.random(600), "s": [f"n{i % 5}" for i in range(600)]})
        frame = dd.from_pandas(plain, npartitions=5)
        means = frame.groupby("k").v.mean().compute().sort_index()
        assert np.allclose(means, plain.groupby("k").v.mean())
        other = pd.DataFrame({"k": range(0, 17, 2), "w": range(9)})
        merged = frame.merge(dd.from_pandas(other, npartitions=2), on="k").compute()
        want = plain.merge(other, on="k")
        assert len(merged) == len(want) and np.isclose((merged.v * merged.w).sum(), (want.v * want.w).sum())
        for method in ("tasks", "disk"):
            parts = frame.shuffle("k", shuffle_method=method).map_partitions(lambda part: part.groupby("k").v.sum())
            assert np.allclose(parts.compute().sort_index(), plain.groupby("k").v.sum()), method
        assert frame.sort_values("v").v.compute().is_monotonic_increasing
        assert frame.set_index("v").index.compute().is_monotonic_increasing
        largest = frame.groupby("s").apply(lambda group: group.v.max(), meta=("v", "f8")).compute().sort_index()
        assert np.allclose(largest, plain.groupby("s").v.max())
        disable_dask_on_ray()
        assert dask.config.get("scheduler") is None
    """)


def test_persisted_collections_stay_in_the_object_store(run_code: Run) -> None:
    """`persist` gives collections of refs, which later computations use; with other schedulers it is Dask's."""
    run_code("""
        import dask, dask.array as da, dask.bag as db, dask.dataframe as dd, numpy as np, pandas as pd
        import ray
        from ray.util.dask import enable_dask_on_ray
        ray.init(num_cpus=2)

        def refs_in(collection):
            graph = collection.__dask_graph__()
            return [value for node in graph.values() for value in [getattr(node, "value", node)]
                    if isinstance(value, ray.ObjectRef)]

        double = dask.delayed(lambda n: 2 * n)
        bag = db.from_sequence(range(10), npartitions=3).map(lambda n: n + 1)
        with enable_dask_on_ray():
            array = (da.ones((300, 300), chunks=100) + 1).persist()
            frame = dd.from_pandas(pd.DataFrame({"v": range(100)}), npartitions=4).persist()
            value, kept = dask.persist(double(4), bag)
            assert len(refs_in(array)) == 9 and len(refs_in(value)) == 1 and len(refs_in(kept)) == 3
            assert array.sum().compute() == 180_000 and (array + array).max().compute() == 4
            assert frame.v.sum().compute() == 4950 and frame.v.mean().persist().compute() == 49.5
            assert (value.compute(), double(value).compute(), kept.sum().compute()) == (8, 16, 55)
            assert double(ray.put(21)).compute() == 42
        plain = bag.persist(scheduler="sync")
        assert not refs_in(plain) and plain.sum().compute(scheduler="sync") == 55
        assert np.array_equal(array.compute(scheduler=enable_dask_on_ray().config["scheduler"]), np.full((300, 300), 2))
    """)


def test_options_of_tasks(run_code: Run) -> None:
    """Options come from the computation, from around it, and from where the graph was made: the nearest wins."""
    run_code("""
        import dask, ray
        from ray.util.dask import ray_dask_get
        ray.init(num_cpus=2, resources={"gadget": 3})

        def gadgets():
            return ray.get_runtime_context().get_assigned_resources().get("gadget")

        def with_gadgets(amount):
            return {"resources": {"gadget": amount}}

        def refused(action):
            try:
                action()
            except (TypeError, ValueError) as error:
                return str(error)
            raise AssertionError(action)

        ask = dask.delayed(gadgets, pure=False)
        with dask.annotate(ray_remote_args=with_gadgets(3)):
            annotated = ask()
        options = {"scheduler": ray_dask_get, "optimize_graph": False, "num_workers": 3}
        assert ask().compute(**options) is None
        assert ask().compute(ray_remote_args=with_gadgets(1), **options) == 1
        with dask.annotate(ray_remote_args=with_gadgets(2)):
            assert ask().compute(ray_remote_args=with_gadgets(1), **options) == 2
            assert dask.compute(annotated, ask(), **options) == (3, 2)
        assert "ray_remote_args" in refused(lambda: ask().compute(resources={"gadget": 1}, **options))
        with dask.annotate(resources={"gadget": 1}):
            assert "ray_remote_args" in refused(lambda: ask().compute(**options))
        assert "nonsense" in refused(lambda: ask().compute(nonsense=1, **options))
    """)


def test_callbacks(run_code: Run) -> None:
    """The user's functions are called here and in the tasks; Dask's own see what begins and what has ended."""
    out = run_code("""
        import dask, ray
        from dask.callbacks import Callback
        from dask.core import flatten
        from ray.util.dask import ProgressBarCallback, RayDaskCallback, ray_dask_get
        ray.init(num_cpus=1)
        add = dask.delayed(lambda a, b: a + b)
        said = []

        class Notes(RayDaskCallback):
            def _ray_presubmit(self, task, key, deps):
                said.append("before")
                return 30 if key == "replaced" else None
            def _ray_postsubmit(self, task, key, deps, object_ref):
                said.append(("after", type(object_ref).__name__, len(deps)))
            def _ray_pretask(self, key, values):
                return [key, *values]
            def _ray_posttask(self, key, result, pre_state):
                assert pre_state == ["outer", 30] and result == 35, (pre_state, result)
                print("in the task")
            def _ray_postsubmit_all(self, refs, dsk):
                said.append(("all", len(dsk)))
            def _ray_finish(self, result):
                said.append(("result", list(flatten(result, container=(list, tuple)))))

        outer = add(add(1, 2, dask_key_name="replaced"), 5, dask_key_name="outer")
        with Notes():
            assert outer.compute(scheduler=ray_dask_get, optimize_graph=False) == 35
        assert said == ["before", "before", ("after", "ObjectRef", 1), ("all", 2), ("result", [35])], said
        said.clear()
        dasks_own = Callback(
            start=lambda dsk: said.append("start"),
            pretask=lambda key, dsk, state: said.append(("pre", key, len(state["running"]))),
            posttask=lambda key, result, dsk, state, worker: said.append(("post", key, len(state["finished"]))),
            finish=lambda dsk, state, failed: said.append(("finish", failed)),
        )
        with dasks_own:
            add(1, 2, dask_key_name="x").compute(scheduler=ray_dask_get)
        assert said == ["start", ("pre", "x", 1), ("post", "x", 1), ("finish", False)], said
        assert outer.compute(scheduler=ray_dask_get, ray_callbacks=[]) == 8
        with ProgressBarCallback():
            outer.compute(scheduler=ray_dask_get, _ray_enable_progress_bar=True)
    """)
    assert "in the task" in out
    assert "100% Completed" in out


def test_failures_are_the_tasks_own_and_stop_the_rest(run_code: Run) -> None:
    """A task's exception arrives as its class; what has not run by then does not run."""
    run_code("""
        import os, time, dask, ray
        from dask.callbacks import Callback
        from ray.util.dask import ray_dask_get
        ray.init(num_cpus=2)

        @dask.delayed
        def fail():
            raise KeyError("absent")

        @dask.delayed
        def mark(name, after=None):
            open(name, "x").close()

        @dask.delayed
        def hang():
            time.sleep(1000)

        failed = []
        with Callback(finish=lambda dsk, state, errored: failed.append(errored)):
            try:
                dask.compute(fail(), mark("later", hang()), scheduler=ray_dask_get)
            except KeyError as error:
                assert "absent" in str(error)
            else:
                raise AssertionError("no error")
        assert failed == [True]
        both_cpus = {"num_cpus": 2}  # so what hung has gone
        dask.compute(mark("now"), scheduler=ray_dask_get, ray_remote_args=both_cpus)
        assert os.path.exists("now") and not os.path.exists("later")
    """)


def test_intermediate_results_are_freed(run_code: Run) -> None:
    """A long chain of large chunks needs room for a few of them."""
    run_code("""
        import dask, numpy as np, ray
        from ray.util.dask import ray_dask_get
        ray.init(num_cpus=1, object_store_memory=100 * 2**20)
        grow = dask.delayed(lambda chunk: chunk + 1)
        chunk = dask.delayed(np.zeros)(2 * 2**20)
        for _ in range(40):
            chunk = grow(chunk)
        assert dask.delayed(np.sum)(chunk).compute(scheduler=ray_dask_get, optimize_graph=False) == 80 * 2**20
    """)
