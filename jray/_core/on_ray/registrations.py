"""Owns how what users registered for pickling reaches Ray's pickler: serializers, and modules that travel by value."""

from __future__ import annotations

import sys
from typing import Any

import ray
import ray.util

from jray._core import serialization


class Registrations:
    """Follows the tables of jray's pickler and of the package cloudpickle, of which Ray has a copy of its own."""

    def __init__(self) -> None:
        self._serializers: dict[type, Any] = {}
        self._modules: set[str] = set()

    def follow(self) -> None:
        """Take over what has changed; called before anything is pickled, so it must be cheap."""
        if serialization._registered != self._serializers:
            self._follow_serializers()
        cloudpickle = sys.modules.get("cloudpickle")
        if cloudpickle is not None:
            modules = cloudpickle.list_registry_pickle_by_value()
            if modules != self._modules:
                self._follow_modules(set(modules))

    def _follow_serializers(self) -> None:
        wanted = dict(serialization._registered)
        for cls in self._serializers.keys() - wanted.keys():
            ray.util.deregister_serializer(cls)
        for cls, (serializer, deserializer) in wanted.items():
            if self._serializers.get(cls) != (serializer, deserializer):
                ray.util.register_serializer(cls, serializer=serializer, deserializer=deserializer)
        self._serializers = wanted

    def _follow_modules(self, wanted: set[str]) -> None:
        for name in self._modules - wanted:
            if name in sys.modules and name in ray.cloudpickle.list_registry_pickle_by_value():
                ray.cloudpickle.unregister_pickle_by_value(sys.modules[name])
        for name in wanted - self._modules:
            if name in sys.modules:
                ray.cloudpickle.register_pickle_by_value(sys.modules[name])
        self._modules = wanted
