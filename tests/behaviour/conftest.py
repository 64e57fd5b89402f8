"""Owns the clusters of the behaviour tests: a shared one for most, a fresh one for those that ask for it.

After each module, on jray, it checks that a shut-down cluster has left nothing on the machine.
"""

from __future__ import annotations

from tests.behaviour import engine

engine.install()

import os  # noqa: E402 - the alias must stand before any import of jray
import sys  # noqa: E402
import uuid  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402

import jray  # noqa: E402
from tests.behaviour import hygiene, inline_exclusions, support  # noqa: E402
from tests.behaviour.support import Bench  # noqa: E402

if engine.ON_RAY:
    from ray import cloudpickle
else:
    import cloudpickle

SHARED_CLUSTER: dict[str, Any] = {
    "num_cpus": 2,
    "num_gpus": 2,
    "resources": {"gadget": 2},
    "include_dashboard": False,
    "log_to_driver": False,
    "namespace": "shared",
}

#: The environment of the clusters that tests start, where the test itself sets nothing else: how long a process
#: may take to answer a question about the cluster's state.  Only a test about those that do not answer is in a hurry.
PATIENT = {"JRAY_REPORT_TIMEOUT_S": str(support.PATIENCE_S)}

os.environ[support.RUN_VARIABLE] = uuid.uuid4().hex
# Workers need neither the test modules nor pytest, and find on both engines what a notebook would send.
cloudpickle.register_pickle_by_value(support)


def pytest_configure(config: pytest.Config) -> None:
    support.be_interruptible()
    for line in (
        "sentences(*numbers): the numbered sentences of the semantics that the test holds",
        "only(engine, reason): the test is about something that this engine alone has",
        "differs(engine, reason): the engine is known to behave otherwise, on purpose",
    ):
        config.addinivalue_line("markers", line)
    if engine.ON_RAY:
        # Ray's own warnings are not ours to mend.
        config.addinivalue_line("filterwarnings", "ignore")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.path.is_relative_to(Path(__file__).parent):
            continue
        for mark in item.iter_markers("only"):
            name, reason = mark.args
            if name not in engine.NAMES:
                item.add_marker(pytest.mark.skip(reason=f"{name} only: {reason}"))
        for mark in item.iter_markers("differs"):
            name, reason = mark.args
            if name in engine.NAMES:
                item.add_marker(pytest.mark.skip(reason=f"{name} differs: {reason}"))
        if engine.ON_INLINE and (why := inline_exclusions.reason(item.path.name, item.name)):
            item.add_marker(pytest.mark.skip(reason=f"not in one process: {why}"))
        if engine.ON_RAY:
            # Ray takes seconds to start, and many more on a machine that is busy.  A signal would not do:
            # what its handler raises doesn't come through a `get` that is stuck.
            limit = item.get_closest_marker("timeout")
            seconds = max(300, 0 if limit is None else limit.args[0])
            item.add_marker(pytest.mark.timeout(seconds, method="thread"), append=False)
    if engine.ON_RAY:
        # Starting Ray is what takes the time, so those that take the shared cluster down come last.
        items.sort(key=wants_no_shared_cluster)


@pytest.fixture(scope="module", autouse=True)
def by_value(request: pytest.FixtureRequest) -> Iterator[None]:
    """Send what the module defines by value, as a notebook's definitions go."""
    module = sys.modules[request.module.__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module", autouse=True)
def leaves_nothing(by_value: None) -> Iterator[None]:
    """Check after the module, on jray, that the machine looks as it did before."""
    if engine.ON_RAY:
        yield
        return
    before = hygiene.look()
    yield
    jray.shutdown()
    hygiene.check_nothing_left(before)


@pytest.fixture(scope="session", autouse=True)
def _last_shutdown() -> Iterator[None]:
    yield
    jray.shutdown()


def init(**options: Any) -> Any:
    """Start a cluster as `jray.init` does, with the variables of `PATIENT`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in PATIENT.items():
            if name not in os.environ:
                patch.setenv(name, value)
        return jray.init(**options)


def wants_no_shared_cluster(item: Any) -> bool:
    return "no_cluster" in getattr(item, "fixturenames", ())


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> None:
    """The shared cluster: 2 CPUs, 2 GPUs that need not exist, and 2 of the custom resource "gadget".

    A test that asks for a fresh one gets none, whatever its module asks for.
    """
    if not wants_no_shared_cluster(request.node) and not jray.is_initialized():
        init(**SHARED_CLUSTER)


@pytest.fixture
def no_cluster() -> Iterator[None]:
    """No cluster at all, before and after the test."""
    jray.shutdown()
    yield
    jray.shutdown()


@pytest.fixture
def fresh(no_cluster: None) -> Callable[..., Any]:
    """`fresh(**options)` starts a cluster that no other test sees, and returns what `init` returns."""

    def start(**options: Any) -> Any:
        return init(**{"num_cpus": 2, "include_dashboard": False, "log_to_driver": False} | options)

    return start


@pytest.fixture
def idle(cluster: None, request: pytest.FixtureRequest) -> None:
    """The shared cluster with every resource free: what earlier tests held has come back."""
    if wants_no_shared_cluster(request.node):
        return
    total = jray.cluster_resources()

    def all_free() -> bool:
        free = jray.available_resources()
        return all(free.get(name) == total[name] for name in ("CPU", "GPU", "gadget"))

    support.wait_until(all_free, what=lambda: f"all free; available are {jray.available_resources()}")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Gates, tallies and meters that tasks and actors can use."""
    return Bench(str(tmp_path))
