"""What processes tell each other survives the way, and stays small where there is much of it."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from jray._core import specs
from jray._core.specs import DEFAULT_GROUP, Concurrency, Dependency, ExitCause, FunctionTemplate, Location

CLASSES = [cls for cls in vars(specs).values() if dataclasses.is_dataclass(cls) and isinstance(cls, type)]


def test_locations_and_dependencies_travel_as_tuples() -> None:
    """Thousands of them go in one message, and are compared to what an owner sent as plain tuples."""
    location = Location(b"node", 1, 64, 100)
    dependency = Dependency(3, location, b"id", "/owner")
    assert pickle.loads(pickle.dumps(dependency)) == (3, (b"node", 1, 64, 100, ""), b"id", "/owner")
    _, segment, offset, size, _ = location
    assert (segment, offset, size) == (1, 64, 100)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_specs_are_frozen_and_slotted(cls: type) -> None:
    """Two processes, or two threads, never see a different one; none takes a misspelt field."""
    made = cls(**{field.name: None for field in dataclasses.fields(cls)})
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(cls)[0].name, 1)
    assert not hasattr(made, "__dict__")


def test_defaults_are_those_of_the_commonest_case() -> None:
    """A stream may be any number of items ahead; the node had no hand in an end."""
    template = FunctionTemplate(1, b"f", "f", 1, 3, 0, 0)
    assert template.backpressure == -1
    assert ExitCause(1, None, 9, "").detail == ""


def test_of_an_actors_calls_the_oldest_run_as_many_as_each_group_lets_run_at_once() -> None:
    concurrency = Concurrency(((DEFAULT_GROUP, 2), ("io", 1)), (("read", "io"),))
    calls = [("work", "", 1), ("read", "", 2), ("read", "", 3), ("work", "", 4), ("work", "", 5)]
    assert list(concurrency.running(calls)) == [1, 2, 4]
    assert list(concurrency.running([("work", "io", 1), ("read", "", 2)])) == [1], "a call may name its group"
    assert list(concurrency.running([("work", "unknown", 1)])) == []
