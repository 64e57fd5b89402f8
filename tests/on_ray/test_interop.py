"""jray beside plain Ray programs on one cluster: each finds and calls the other's named actors."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from typing import Any

import pytest

import jray

pytestmark = pytest.mark.usefixtures("joined")


def test_a_plain_actor_of_rays_can_be_called() -> None:
    """An actor that a Ray program made is found by name; its methods, their arguments and returns are known."""
    ray = importlib.import_module("ray")

    class Plain:
        def add(self, a: int, b: int = 1) -> int:
            return a + b

        @ray.method(num_returns=2)
        def two(self) -> tuple[int, int]:
            return 1, 2

        def items(self) -> Iterator[int]:
            yield from iter([1, 2])

    keep = ray.remote(Plain).options(name="plain").remote()
    found = jray.get_actor("plain")
    assert jray.get(found.add.remote(1, b=2)) == 3
    assert jray.get(found.two.remote()) == [1, 2]
    with pytest.raises(TypeError):
        found.add.remote()
    with pytest.raises(AttributeError):
        found.subtract.remote()
    del keep


def test_a_plain_program_calls_an_actor_of_jrays() -> None:
    """A Ray program finds an actor that jray made, and calls its methods with the arguments that they have."""
    ray = importlib.import_module("ray")

    @jray.remote
    class Made:
        def add(self, a: int, *, b: int = 1) -> int:
            return a + b

    keep = Made.options(name="made").remote()
    found = ray.get_actor("made")
    assert ray.get(found.add.remote(1, b=2)) == 3
    with pytest.raises(TypeError):
        found.add.remote(c=1)
    del keep


def test_the_workers_got_jray_from_the_driver() -> None:
    """A worker that has no jray of its own imports the driver's, the same files."""

    @jray.remote
    def where() -> tuple[str, str]:
        return str(jray.__file__), inspect.getsource(jray.api)

    path, source = jray.get(where.remote())
    assert source == inspect.getsource(jray.api)
    installed = os.path.dirname(str(jray.__file__)) in path
    assert installed or f"jray_{_digest()}" in path


def _digest() -> str:
    shipping: Any = importlib.import_module("jray._core.on_ray.shipping")
    digest: str = shipping.sources().digest
    return digest
