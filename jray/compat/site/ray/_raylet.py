"""Stands for the module of Ray's compiled classes: the ids and refs that programs import from it."""

from __future__ import annotations

from jray import (
    ActorClassID,
    ActorID,
    ClusterID,
    DynamicObjectRefGenerator,
    FunctionID,
    JobID,
    NodeID,
    ObjectRef,
    ObjectRefGenerator,
    PlacementGroupID,
    TaskID,
    UniqueID,
    WorkerID,
)

#: earlier names of the two
ObjectID = ObjectRef
StreamingObjectRefGenerator = ObjectRefGenerator

__all__ = [
    "ActorClassID",
    "ActorID",
    "ClusterID",
    "DynamicObjectRefGenerator",
    "FunctionID",
    "JobID",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroupID",
    "StreamingObjectRefGenerator",
    "TaskID",
    "UniqueID",
    "WorkerID",
]
