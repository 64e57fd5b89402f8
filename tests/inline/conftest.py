"""Owns the session of the tests of the inline engine, and the check that it leaves nothing."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest

import jray
from tests.behaviour.support import wait_until


@pytest.fixture(scope="module", autouse=True)
def by_value(request: pytest.FixtureRequest) -> Iterator[None]:
    """Send what the module defines by value, as a notebook's definitions go."""
    module = sys.modules[request.module.__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    """Check that threads, descriptors and environment are after the test what they were before."""
    jray.shutdown()
    threads, descriptors, environ = look()
    yield
    jray.shutdown()

    def is_clean() -> bool:
        now_threads, now_descriptors, now_environ = look()
        # what earlier tests left may go meanwhile
        return now_threads <= threads and now_descriptors <= descriptors and now_environ == environ

    # a thread that has been told to end may take its time
    wait_until(is_clean, what=lambda: f"what was before: {threads, descriptors, environ}, not {look()}")


def look() -> tuple[set[threading.Thread], int, dict[str, str]]:
    environ = {name: text for name, text in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return set(threading.enumerate()), len(os.listdir("/proc/self/fd")), environ


@pytest.fixture
def start(leaves_nothing: None) -> Callable[..., Any]:
    """`start(**options)` starts the inline engine with two CPUs, unless told otherwise."""

    def begin(**options: Any) -> Any:
        return jray.init(engine="inline", **{"num_cpus": 2, "num_gpus": 0} | options)

    return begin


@pytest.fixture
def inline(start: Callable[..., Any]) -> None:
    start()
