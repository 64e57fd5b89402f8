r"""Owns the way between values and bytes: pickle protocol 5 with out-of-band buffers.

It knows no store and no socket: it yields parts, and whoever holds memory writes them.

Layout of a serialized value with buffers (one without is its bare pickle, which starts with b"\x80"):

    offset  size  field
    0       1     b"J"
    1       3     zero
    4       4     number of buffers, n
    8       8     size of the pickle
    16      16*n  offset and size of each buffer
    ...           the pickle, then each buffer at a multiple of 64 bytes (numpy's SIMD alignment)
"""

from __future__ import annotations

import importlib
import io
import pickle
import struct
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

from jray._core.refs import ObjectRef, restore_ref

#: Types whose values can be shared instead of copied, because nobody can change them.
ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
#: Longest str or bytes that travels as an atom: longer ones gain from being serialized once.
ATOM_MAX_LENGTH = 4096

_HEAD = struct.Struct("<4sIQ")
_ENTRY = struct.Struct("<QQ")
_ALIGNMENT = 64
_MAGIC = b"J\0\0\0"

_BY_REFERENCE = (type, types.FunctionType)
#: what picklers raise for what they cannot pickle
_UNPICKLABLE = (pickle.PicklingError, AttributeError, TypeError, RecursionError)


def is_atom(value: object) -> bool:
    """Tell whether *value* may be shared as it is."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value) <= ATOM_MAX_LENGTH  # type: ignore[arg-type]
    return kind in ATOMS


class Serialized:
    """A value as a pickle and borrowed buffers; nothing is copied until `parts` are written, or `to_bytes`."""

    __slots__ = ("_offsets", "buffers", "pickled", "refs", "size")

    def __init__(self, pickled: bytes, buffers: list[memoryview], refs: list[ObjectRef[Any]]) -> None:
        self.pickled = pickled
        self.buffers = buffers
        #: each ObjectRef inside the value, in order of appearance
        self.refs = refs
        self._offsets: list[int] = []
        if not buffers:
            self.size = len(pickled)
            return
        position = _HEAD.size + _ENTRY.size * len(buffers) + len(pickled)
        for buffer in buffers:
            position = -(-position // _ALIGNMENT) * _ALIGNMENT
            self._offsets.append(position)
            position += buffer.nbytes
        #: bytes of the whole
        self.size = position

    def parts(self) -> list[tuple[int, Any]]:
        """Return (offset, buffer) pairs that make up the whole; gaps between them are padding."""
        if not self.buffers:
            return [(0, self.pickled)]
        head = bytearray(_HEAD.pack(_MAGIC, len(self.buffers), len(self.pickled)))
        for offset, buffer in zip(self._offsets, self.buffers, strict=True):
            head += _ENTRY.pack(offset, buffer.nbytes)
        head += self.pickled
        return [(0, head), *zip(self._offsets, self.buffers, strict=True)]

    def to_bytes(self) -> bytes:
        """Return the whole as one bytes object."""
        if not self.buffers:
            return self.pickled
        pieces: list[Any] = []
        position = 0
        for offset, part in self.parts():
            pieces += (bytes(offset - position), part)
            position = offset + len(part)
        return b"".join(pieces)


class _NeedsCloudpickle(Exception):  # noqa: N818 -- a signal between two functions, never seen outside
    """The value holds code that must travel by value."""


class _PlainPickler(pickle.Pickler):
    """C's pickler for data; gives up when it meets code that its reader could not import."""

    def __init__(self, file: io.BytesIO, buffers: list[memoryview], refs: list[ObjectRef[Any]]) -> None:
        super().__init__(file, 5, buffer_callback=_collect_into(buffers))
        self._refs = refs

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is ObjectRef:
            return _reduce_ref(obj, self._refs)
        if _registered and type(obj) in _registered:
            return _reduce_registered(obj)
        if isinstance(obj, _BY_REFERENCE) and not is_importable(obj):
            raise _NeedsCloudpickle
        return NotImplemented


def is_importable(obj: Any) -> bool:
    """Tell whether another process finds *obj*, a class or function, by importing its module."""
    name = obj.__module__
    if name == "__main__" or name is None or _travels_by_value(name):
        return False
    module = sys.modules.get(name)
    found: Any = module
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
        if found is None:
            return False
    return found is obj


def _travels_by_value(module: str) -> bool:
    """Tell whether the user registered *module*, or a package it is in, with cloudpickle to be pickled by value."""
    cloudpickle = sys.modules.get("cloudpickle")
    registered = cloudpickle.list_registry_pickle_by_value() if cloudpickle is not None else ()
    return bool(registered) and any(f"{module}.".startswith(f"{name}.") for name in registered)


def _collect_into(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    def collect(buffer: pickle.PickleBuffer) -> bool:
        try:
            buffers.append(buffer.raw())
        except BufferError:  # not contiguous: let pickle copy it
            return True
        return False

    return collect


def _reduce_ref(ref: ObjectRef[Any], refs: list[ObjectRef[Any]]) -> Any:
    if ref._client is None:
        return NotImplemented
    refs.append(ref)
    ref._client.ref_exported(ref)
    return restore_ref, (ref._id, ref._client.ref_address(ref))


#: like copyreg's table, but for values that travel by jray only
_registered: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {}


def register(cls: type, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]) -> None:
    """Serialize instances of exactly *cls* by `serializer`, and load them by `deserializer`, which travels along."""
    _registered[cls] = (serializer, deserializer)


def deregister(cls: type) -> None:
    _registered.pop(cls, None)


def _reduce_registered(obj: Any) -> tuple[Any, tuple[Any]]:
    serializer, deserializer = _registered[type(obj)]
    return deserializer, (serializer(obj),)


def serialize(value: object) -> Serialized:
    """Turn *value* into a pickle and out-of-band buffers, copying no array data.

    Buffers borrow the memory of *value*, which must not change until they are written out.

    Raises:
        TypeError: *value* holds something that cannot be pickled; the message names the path to it.
        Exception: whatever a user's `__reduce__` or serializer raises besides; a note names the path.
    """
    buffers: list[memoryview] = []
    refs: list[ObjectRef[Any]] = []
    file = io.BytesIO()
    try:
        _PlainPickler(file, buffers, refs).dump(value)
    except (_NeedsCloudpickle, *_UNPICKLABLE):
        # The first, because code must travel by value; the others, because cloudpickle knows more types
        # and, where it fails as well, raises the error worth showing.
        return _serialize_with_code(value)
    except MemoryError:
        raise
    except Exception as error:
        error.add_note(explain(value, error))
        raise
    return Serialized(file.getvalue(), buffers, refs)


def _serialize_with_code(value: object) -> Serialized:
    buffers: list[memoryview] = []
    refs: list[ObjectRef[Any]] = []
    file = io.BytesIO()
    try:
        code_pickler_class()(file, buffers, refs).dump(value)
    except _UNPICKLABLE as error:
        raise TypeError(explain(value, error)) from error
    except MemoryError:
        raise
    except Exception as error:
        error.add_note(explain(value, error))
        raise
    return Serialized(file.getvalue(), buffers, refs)


def explain(value: object, error: BaseException) -> str:
    """Return a message that names the parts of *value* because of which it cannot be serialized."""
    report = importlib.import_module("jray._core.serialization_report")
    message: str = report.explain(value, error, _can_serialize)
    return message


def _can_serialize(value: object) -> bool:
    # with our pickler: another would keep each ref it meets for the rest of the job, and know no serializers
    try:
        code_pickler_class()(io.BytesIO(), [], []).dump(value)
    except Exception:  # noqa: BLE001 -- a user's __reduce__ may raise anything
        return False
    return True


_code_pickler: list[Any] = []


def code_pickler_class() -> Any:
    """Return cloudpickle's pickler taught about refs.  Made on first use: cloudpickle costs 20 ms."""
    if not _code_pickler:
        cloudpickle = importlib.import_module("cloudpickle")

        class CodePickler(cloudpickle.Pickler):  # type: ignore[misc,name-defined]
            def __init__(
                self, file: io.BytesIO, buffers: list[memoryview], refs: list[ObjectRef[Any]]
            ) -> None:
                super().__init__(file, 5, buffer_callback=_collect_into(buffers))
                self._refs = refs

            def reducer_override(self, obj: Any) -> Any:
                if type(obj) is ObjectRef:
                    return _reduce_ref(obj, self._refs)
                if _registered and type(obj) in _registered:
                    return _reduce_registered(obj)
                reduced = super().reducer_override(obj)
                return _reduce_class(obj, reduced) if isinstance(obj, type) else reduced

        _code_pickler.append(CodePickler)
    return _code_pickler[0]


class _Classes:
    """Classes that travel by value: those that this process made, and those that came from others."""

    def __init__(self) -> None:
        self.own: weakref.WeakSet[type] = weakref.WeakSet()
        self.arrived: weakref.WeakSet[type] = weakref.WeakSet()


_classes = _Classes()


def _reduce_class(cls: type, reduced: Any) -> Any:
    """Have a class filled by `fill_class` where it is unpickled; what travels by name is left as it is."""
    if not isinstance(reduced, tuple) or len(reduced) < 6:
        return reduced
    if cls not in _classes.arrived:
        _classes.own.add(cls)
    # cloudpickle's own function comes along as a part of the state: other versions may fill otherwise
    return (*reduced[:2], (reduced[5], reduced[2]), *reduced[3:5], fill_class)


def fill_class(cls: type, state: tuple[Callable[[type, Any], Any], Any]) -> None:
    """Give a class that was unpickled its attributes, unless it is one that this process made.

    That one is found by its number when an instance comes back, so that `isinstance` holds.  Filled again, its methods
    would be copies that see the globals of the time when they were sent, and not what was defined since.
    """
    if cls in _classes.own:
        return
    _classes.arrived.add(cls)
    fill, attributes = state
    fill(cls, attributes)


def deserialize(data: bytes | memoryview, load: Callable[..., Any] = pickle.loads) -> Any:
    """Return the value that `serialize` was given; its buffers are read-only views of *data*.

    Raises what `load` raises; ValueError for bytes that `serialize` did not make.
    """
    if data[0] == 0x80:
        return load(data)
    view = memoryview(data).toreadonly()
    magic, count, pickled_size = _HEAD.unpack_from(view)
    if magic != _MAGIC:
        raise ValueError(f"This is no serialized value: it begins with {bytes(view[:8])!r}.")
    position = _HEAD.size + _ENTRY.size * count
    buffers = []
    for index in range(count):
        offset, size = _ENTRY.unpack_from(view, _HEAD.size + _ENTRY.size * index)
        buffers.append(view[offset : offset + size])
    return load(view[position : position + pickled_size], buffers=buffers)


def pickled_size(data: bytes | memoryview) -> int:
    """Return how many bytes of a serialized value are its pickle: what must be read and made to have the value."""
    if data[0] == 0x80:
        return len(data)
    size: int = _HEAD.unpack_from(data)[2]
    return size
