"""What processes tell each other survives the way, and stays small where there is much of it."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from jray._core import specs
from jray._core.specs import Dependency, ExitCause, FunctionTemplate, Location

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
