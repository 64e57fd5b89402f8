"""Owns what is said of a value without showing it all: a line for a ref, and a sketch for who peeks.

It looks at arrays and frames through the modules that made them, which are loaded where there is one, and of other
people's classes it takes no more than the name: nothing here may cost much, or raise.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import struct
import sys
import zlib
from typing import Any

#: characters of a description, and of a part of a sketch
_MOST_DESCRIBED = 72
_MOST_TEXT = 240
_MOST_CELL = 24
#: items of a container, rows and columns of a frame that a sketch has
_ITEMS = 5
_COLUMNS = 8
#: elements of an array that are looked at
_SAMPLE = 100_000
#: that many elements of a long array are looked at together
_ROW = 1000
#: pixels of a thumbnail in each direction
_PIXELS = 64

#: packages whose arrays and frames say dtype and shape when asked
_ARRAYS = frozenset(
    {"cupy", "jax", "jaxlib", "numpy", "pandas", "polars", "pyarrow", "scipy", "torch", "xarray"}
)
_CONTAINERS = frozenset({bytearray, bytes, dict, frozenset, list, set, str, tuple})


@dataclasses.dataclass(frozen=True, slots=True)
class Sketch:
    """A little of a value."""

    title: str  #: as `describe` says it
    facts: tuple[tuple[str, str], ...] = ()  #: name and text
    columns: tuple[str, ...] = ()  #: of a table
    rows: tuple[tuple[str, ...], ...] = ()
    image: bytes = b""  #: a PNG


def describe(value: object) -> str:
    """Return the type of *value* with its dtype, shape, length or columns, in one line."""
    try:
        text = _described(value)
    except Exception:  # noqa: BLE001 -- a subclass may answer anything; the value counts, not its description
        text = type(value).__name__
    return _cut(text, _MOST_DESCRIBED)


def _described(value: Any) -> str:
    kind = type(value)
    if value is None:
        return "None"
    if kind in _CONTAINERS:
        return f"{kind.__name__} of {len(value):,}"
    package = kind.__module__.partition(".")[0]
    if package == "PIL":
        return f"{kind.__name__} {value.mode} {value.size}"
    if package not in _ARRAYS or str(getattr(value, "dtype", "")) == kind.__name__:  # a scalar is its dtype
        return kind.__qualname__.rpartition("<locals>.")[2]
    parts = [kind.__name__]
    dtype = getattr(value, "dtype", None)
    if dtype is not None:
        parts.append(_cut(str(dtype).removeprefix("torch."), _MOST_CELL))
    shape = getattr(value, "shape", None)
    if shape is not None:
        parts.append(str(tuple(shape)))
    names = getattr(value, "columns", None)
    if names is not None and package in {"pandas", "polars"}:
        parts.append(", ".join(map(str, itertools.islice(names, _COLUMNS + 1))))
    return " ".join(parts)


def sketch(value: object) -> Sketch:
    """Return a sketch of *value*; what raises when it is looked at is left out."""
    title = describe(value)
    try:
        return _sketched(value, title)
    except Exception as error:  # noqa: BLE001 -- as above
        return Sketch(
            title, (("note", _cut(f"looking into it raised {type(error).__name__}: {error}", _MOST_TEXT)),)
        )


def _sketched(value: Any, title: str) -> Sketch:
    package = type(value).__module__.partition(".")[0]
    if package == "PIL":
        small = value.copy()
        small.thumbnail((_PIXELS, _PIXELS))
        small = small.convert("RGBA" if small.mode in {"LA", "P", "PA", "RGBA"} else "RGB")
        return Sketch(title, image=png(small.tobytes(), small.width, small.height, len(small.mode)))
    array = _as_array(value)
    if array is not None:
        return Sketch(title, _statistics(array), image=_thumbnail(array))
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.Series):
        value = value.to_frame()
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return _frame(value, title)
    kind = type(value)
    if kind is str or kind is bytes or kind is bytearray:
        return Sketch(title, (("begins", _short(value[:_MOST_TEXT])),))
    if kind is dict:
        pairs = itertools.islice(value.items(), _ITEMS)
        return Sketch(title, tuple((_short(key), _brief(item)) for key, item in pairs))
    if kind in _CONTAINERS:
        items = enumerate(itertools.islice(value, _ITEMS))
        return Sketch(
            title, tuple((f"[{n}]" if kind in {list, tuple} else "has", _brief(item)) for n, item in items)
        )
    return Sketch(title, (("repr", _cut(repr(value), _MOST_TEXT)),))


def _brief(value: object) -> str:
    plain = value is None or type(value) in {bool, bytes, complex, float, int, str}
    return _short(value) if plain else describe(value)


def _short(value: object) -> str:
    return _cut(repr(value), _MOST_TEXT // 2)


def _cut(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


# -- frames -------------------------------------------------------------------------------------------


def _frame(frame: Any, title: str) -> Sketch:
    head = frame.iloc[:_ITEMS, :_COLUMNS]
    types = [str(dtype) for dtype in head.dtypes]
    more = frame.shape[1] - head.shape[1]
    columns = tuple(
        f"{_cut(str(name), _MOST_CELL)} ({dtype})" for name, dtype in zip(head.columns, types, strict=True)
    )
    rows = tuple(tuple(map(_cell, row)) for row in head.itertuples(index=False, name=None))
    return Sketch(title, (("columns not shown", f"{more:,}"),) if more else (), columns, rows)


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _cut(str(value), _MOST_CELL)


# -- arrays -------------------------------------------------------------------------------------------


def _as_array(value: Any) -> Any:
    """Return *value* as an array of numpy's that shares its memory; None if it is none."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.ndarray):
        return value
    package = type(value).__module__.partition(".")[0]
    if package == "torch" and getattr(getattr(value, "device", None), "type", "") == "cpu":
        return value.detach().numpy()
    return None


def _sample(array: Any) -> Any:
    """Return at most about `_SAMPLE` elements of an array, without a copy of more."""
    if array.size <= _SAMPLE:
        return array
    if array.ndim == 1:  # as rows, for elements beside each other come with the same page
        array = array[: len(array) // _ROW * _ROW].reshape(-1, _ROW)
    steps, excess = [], array.size / _SAMPLE
    for length in array.shape:  # the first axes first: what is skipped then is never read
        step = min(length, math.ceil(excess))
        steps.append(slice(None, None, step))
        excess = max(1.0, excess * math.ceil(length / step) / length)
    return array[tuple(steps)]


def _statistics(array: Any) -> tuple[tuple[str, str], ...]:
    if not array.size or array.dtype.kind not in "biufc":
        first = ", ".join(_short(item) for item in array.reshape(-1)[:_ITEMS].tolist()) if array.size else ""
        return (("begins", first),) if first else ()
    sample = _sample(array)
    whose = "" if sample.size == array.size else f" of {sample.size:,} elements"
    if array.dtype.kind == "b":
        return ((f"true{whose}", f"{sample.mean():.1%}"),)
    if array.dtype.kind == "c":
        return ((f"mean{whose}", f"{sample.mean():.6g}"),)
    sample = sample.astype("f8", copy=False)
    is_nan = sample != sample  # noqa: PLR0124 -- what NaN is
    nans = int(is_nan.sum())
    known = sample[~is_nan] if nans else sample
    facts = [(f"NaN{whose}", f"{nans:,}")] if nans else []
    if known.size:
        figures = f"{known.min():.6g}, {known.mean():.6g}, {known.max():.6g}"
        facts.insert(0, (f"min, mean, max{whose}", figures))
    return tuple(facts)


def _thumbnail(array: Any) -> bytes:
    """Return a small picture of an array that can be one: grey of two axes, colours of a third with 3 or 4."""
    if array.dtype.kind not in "biuf" or array.ndim not in {2, 3} or min(array.shape[:2]) < 2:
        return b""
    if array.ndim == 3 and array.shape[2] not in {3, 4}:
        return b""
    small = array[tuple(slice(None, None, max(1, -(-length // _PIXELS))) for length in array.shape[:2])]
    if small.dtype != "u1":
        small = small.astype("f8")
        is_finite = abs(small) < math.inf
        if not is_finite.any():
            return b""
        low, high = small[is_finite].min(), small[is_finite].max()
        if array.ndim == 3 and low >= 0 and high <= 1:  # colours as floats
            low, high = 0.0, 1.0
        small[~is_finite] = low
        small = (small - low) * (255 / ((high - low) or 1))
    return png(
        small.astype("u1").tobytes(), small.shape[1], small.shape[0], small.shape[2] if small.ndim == 3 else 1
    )


def png(pixels: bytes, width: int, height: int, channels: int) -> bytes:
    """Return an image file of rows of 8-bit *pixels*: grey (1 channel), RGB (3) or RGBA (4)."""
    kind = {1: 0, 3: 2, 4: 6}[channels]
    stride = width * channels
    rows = b"".join(b"\0" + pixels[start : start + stride] for start in range(0, stride * height, stride))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def human_size(size: float) -> str:
    """Return bytes as people say them: ``812 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
