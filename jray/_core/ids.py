"""Owns the identifiers of things: fixed-width byte strings with Ray's sizes and methods."""

from __future__ import annotations

import os
from typing import ClassVar, Self

#: Bytes of an object's id: the 24 of the task that makes it, then a 4-byte little-endian index.
OBJECT_ID_SIZE = 28
TASK_ID_SIZE = 24
ACTOR_ID_SIZE = 16
JOB_ID_SIZE = 4


class BaseID:
    """An identifier of `SIZE` bytes, hashable and comparable with its own kind."""

    __slots__ = ("_bytes",)

    SIZE: ClassVar[int] = 28

    def __init__(self, value: bytes) -> None:
        if not isinstance(value, bytes):
            raise TypeError(f"Unsupported type: {type(value)}, expected bytes")
        if len(value) != self.SIZE:
            raise ValueError(f"ID string needs to have length {self.SIZE}, got {len(value)}")
        self._bytes = value

    @classmethod
    def from_binary(cls, value: bytes) -> Self:
        return cls(value)

    @classmethod
    def from_hex(cls, value: str | bytes) -> Self:
        """Return the id of that hexadecimal text; ValueError if it is none, or too long or short."""
        return cls(bytes.fromhex(value if isinstance(value, str) else value.decode("ascii")))

    @classmethod
    def from_random(cls) -> Self:
        return cls(os.urandom(cls.SIZE))

    @classmethod
    def nil(cls) -> Self:
        """The id of nothing: all bits set, as in Ray."""
        return cls(b"\xff" * cls.SIZE)

    @classmethod
    def size(cls) -> int:
        return cls.SIZE

    def binary(self) -> bytes:
        return self._bytes

    def hex(self) -> str:
        return self._bytes.hex()

    def __bytes__(self) -> bytes:
        return self._bytes

    def is_nil(self) -> bool:
        return self._bytes == b"\xff" * self.SIZE

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._bytes == self._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._bytes.hex()})"

    def __reduce__(self) -> tuple[type[Self], tuple[bytes]]:
        return type(self), (self._bytes,)


class UniqueID(BaseID):
    """An id with nothing inside to read."""

    __slots__ = ()


class NodeID(UniqueID):
    """The id of a node."""

    __slots__ = ()


class WorkerID(UniqueID):
    """The id of a worker process."""

    __slots__ = ()


class ClusterID(UniqueID):
    """The id of a cluster."""

    __slots__ = ()


class FunctionID(UniqueID):
    """The id of a remote function: the hash of its pickle."""

    __slots__ = ()


class ActorClassID(UniqueID):
    """The id of an actor class: the hash of its pickle."""

    __slots__ = ()


class PlacementGroupID(BaseID):
    """The id of a placement group."""

    __slots__ = ()
    SIZE = 18


class JobID(BaseID):
    """The id of a job: what a driver does between joining and leaving."""

    __slots__ = ()
    SIZE = JOB_ID_SIZE

    @classmethod
    def from_int(cls, value: int) -> Self:
        return cls(value.to_bytes(JOB_ID_SIZE, "little"))

    def int(self) -> int:
        return int.from_bytes(self._bytes, "little")


class ActorID(BaseID):
    """12 bytes of its own, then the job's 4."""

    __slots__ = ()
    SIZE = ACTOR_ID_SIZE

    def job_id(self) -> JobID:
        return JobID(self._bytes[-JOB_ID_SIZE:])


class TaskID(BaseID):
    """8 bytes of its own, then the actor's 16 (12 set bits and the job where there is no actor)."""

    __slots__ = ()
    SIZE = TASK_ID_SIZE

    def actor_id(self) -> ActorID:
        return ActorID(self._bytes[8:])

    def job_id(self) -> JobID:
        return JobID(self._bytes[-JOB_ID_SIZE:])


class TaskIdSource:
    """Makes task ids that no other process makes: a random 64-bit start, then counting.

    `prefix(n) + suffix` is the id of the n-th task.  Two processes that make m ids each collide with a
    chance of about m / 2**63; a table of issued ids could not do better across machines.
    """

    __slots__ = ("_start", "suffix")

    def __init__(self, job_id: bytes, actor_id: bytes | None = None) -> None:
        self._start = int.from_bytes(os.urandom(8), "little")
        #: what follows the 8 bytes of a task's own in ids made here
        self.suffix = actor_id if actor_id is not None else b"\xff" * 12 + job_id

    def task_id(self, number: int) -> bytes:
        return ((self._start + number) & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little") + self.suffix


def object_id(task_id: bytes, index: int) -> bytes:
    """Return the id of the `index`-th object (from 1) that task makes."""
    return task_id + index.to_bytes(4, "little")
