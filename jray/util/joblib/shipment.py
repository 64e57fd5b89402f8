"""Owns how a batch of joblib's calls travels: large arrays go to the store once, wherever in the batch they are."""

from __future__ import annotations

import io
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import cloudpickle

from jray._core.refs import ObjectRef
from jray.api import get, put

#: arrays of at least this many bytes are put into the store; smaller ones travel with the batch
LARGE_BYTES = 100 * 1024


class Loads:
    """The large arrays that were put into the store, each once as long as it lives.

    An array that was changed meanwhile is not put again, so this must not outlive one call of
    `joblib.Parallel`, during which joblib's own backends look at an array once, too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, tuple[weakref.ref[Any], ObjectRef[Any]]] = {}

    def ref_of(self, array: Any) -> ObjectRef[Any]:
        """Return the ref of *array*'s copy in the store."""
        key = id(array)
        with self._lock:
            known = self._known.get(key)
            if known is not None and known[0]() is array:
                return known[1]
            ref = put(array)
            # the object is freed when the array is gone and no batch needs it
            self._known[key] = weakref.ref(array, lambda gone: self._forget(key, gone)), ref
            return ref

    def clear(self) -> None:
        self._known = {}

    def _forget(self, key: int, gone: weakref.ref[Any]) -> None:
        known = self._known.get(key)
        if known is not None and known[0] is gone:
            self._known.pop(key, None)


class _Packer(cloudpickle.Pickler):  # type: ignore[misc] # it has no annotations
    def __init__(self, file: io.BytesIO, loads: Loads) -> None:
        super().__init__(file, protocol=5)
        self._loads = loads
        #: None where nobody has loaded numpy: then there is no array
        self._array_type = getattr(sys.modules.get("numpy"), "ndarray", None)
        self._numbers: dict[int, int] = {}
        self.refs: list[ObjectRef[Any]] = []

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is self._array_type and obj.nbytes >= LARGE_BYTES and not obj.dtype.hasobject:
            number = self._numbers.get(id(obj))
            if number is None:
                number = self._numbers[id(obj)] = len(self.refs)
                self.refs.append(self._loads.ref_of(obj))
            return _load, (number,)
        return super().reducer_override(obj)


def pack(call: Callable[[], Any], loads: Loads) -> tuple[bytes, list[ObjectRef[Any]]]:
    """Return *call* as bytes, and the refs of the large arrays in it."""
    file = io.BytesIO()
    packer = _Packer(file, loads)
    packer.dump(call)
    return file.getvalue(), packer.refs


def run(packed: bytes, refs: list[ObjectRef[Any]]) -> Any:
    """Make the call that `pack` packed.  Runs in a worker; the large arrays are read-only there."""
    _arrived.arrays = get(refs)
    try:
        call = pickle.loads(packed)
    finally:
        _arrived.arrays = []
    return call()


_arrived = threading.local()


def _load(number: int) -> Any:
    return _arrived.arrays[number]
