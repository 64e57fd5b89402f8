"""Identifiers have Ray's sizes and methods, and tell what they belong to."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jray._core import ids
from jray._core.ids import ActorID, BaseID, JobID, NodeID, TaskID, TaskIdSource, UniqueID, WorkerID, object_id

SIZES = {
    ids.UniqueID: 28,
    ids.NodeID: 28,
    ids.WorkerID: 28,
    ids.ClusterID: 28,
    ids.FunctionID: 28,
    ids.ActorClassID: 28,
    ids.PlacementGroupID: 18,
    ids.JobID: 4,
    ids.ActorID: 16,
    ids.TaskID: 24,
}


@pytest.mark.parametrize(("kind", "size"), SIZES.items(), ids=lambda value: getattr(value, "__name__", None))
def test_ids_have_the_sizes_and_methods_of_ray(kind: type[BaseID], size: int) -> None:
    """Made from bytes, hex, or chance; equal to their own kind; good as keys and in pickles."""
    assert kind.size() == size
    made = kind.from_random()
    assert len(made.binary()) == size
    assert made.hex() == made.binary().hex()
    assert repr(made) == f"{kind.__name__}({made.hex()})"
    assert kind.from_binary(made.binary()) == kind.from_hex(made.hex()) == made
    assert {made: 1}[kind(made.binary())] == 1
    assert made != kind.from_random()
    copied = pickle.loads(pickle.dumps(made))
    assert (type(copied), copied) == (kind, made)
    assert not made.is_nil()
    assert kind.nil().is_nil()
    assert kind.nil().binary() == b"\xff" * size
    with pytest.raises(ValueError, match=f"needs to have length {size}, got {size + 1}"):
        kind(b"x" * (size + 1))


def test_ids_of_different_kinds_differ() -> None:
    """Also with the same bytes."""
    raw = b"x" * 28
    assert NodeID(raw) != WorkerID(raw)
    assert UniqueID(raw) != NodeID(raw)
    assert NodeID(raw) != raw


def test_an_id_says_what_it_is_part_of() -> None:
    """A task's holds its actor's, an actor's its job's, an object's its task's and a number."""
    actor = ActorID(b"a" * 12 + JobID.from_int(7).binary())
    task = TaskID(b"t" * 8 + actor.binary())
    assert task.actor_id() == actor
    assert task.job_id() == actor.job_id() == JobID.from_int(7)
    assert JobID.from_int(7).int() == 7
    assert object_id(task.binary(), 258) == task.binary() + b"\x02\x01\x00\x00"


@given(numbers=st.sets(st.integers(0, 2**40), max_size=50))
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_a_source_gives_each_number_an_id_of_its_own(numbers: set[int]) -> None:
    """Wherever its random start is; all carry the job, and no actor or the actor given."""
    source = TaskIdSource(b"job1")
    made = {source.task_id(number) for number in numbers}
    assert len(made) == len(numbers)
    assert all(TaskID(raw).job_id().binary() == b"job1" for raw in made)
    assert all(TaskID(raw).actor_id().binary()[:12] == b"\xff" * 12 for raw in made)
    assert source.task_id(5)[8:] == source.suffix


def test_a_source_counts_over_its_end() -> None:
    """The random start may be the last number there is."""
    source = TaskIdSource(b"job1", b"a" * 16)
    source._start = 2**64 - 1
    assert source.task_id(0) == b"\xff" * 8 + b"a" * 16
    assert source.task_id(1) == bytes(8) + b"a" * 16


def test_two_sources_make_different_ids() -> None:
    """Processes need not ask each other."""
    first, second = TaskIdSource(b"job1"), TaskIdSource(b"job1")
    assert not {first.task_id(n) for n in range(1000)} & {second.task_id(n) for n in range(1000)}
