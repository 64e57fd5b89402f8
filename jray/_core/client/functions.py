"""Owns the export of code: pickles each function or class once, names it by the hash of the pickle."""

from __future__ import annotations

import hashlib
import linecache
import os
import sys
import warnings
import weakref
from types import CodeType
from typing import Any

from jray._core.client.captures import Captures
from jray._core.config import Config
from jray._core.machine.dispatch import Timing
from jray._core.refs import ObjectRef
from jray._core.serialization import code_pickler_class, explain
from jray.exceptions import OufOfBandObjectRefSerializationException

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep

#: code that refers to data is pickled again for each cell, to see whether the data changed, up to this size
_MOST_DATA_BYTES = 64 * 1024


class ExportedCode:
    """A pickled function or class."""

    __slots__ = ("blob", "function_id", "refs", "sources", "timing")

    def __init__(
        self, function_id: bytes, blob: bytes, refs: list[ObjectRef[Any]], sources: dict[str, str]
    ) -> None:
        self.function_id = function_id
        self.blob = blob
        #: captured by the code: they live as long as the job (Ray's rule)
        self.refs = refs
        #: text of the files that are none, by the name in their code: a notebook's cells
        self.sources = sources
        self.timing = Timing()


class _Use:
    """The export of a function or class, and what it referred to when it was made."""

    __slots__ = ("captures", "cell", "exported")

    def __init__(self, exported: ExportedCode, captures: Captures | None, cell: int) -> None:
        self.exported = exported
        #: None: exported outside of a notebook
        self.captures = captures
        #: the last that asked
        self.cell = cell


class CodeTable:
    """The code exported by one client; equal pickles are one export, also when redefined in a loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._by_hash: dict[bytes, ExportedCode] = {}
        #: by remote function or actor class
        self._uses: weakref.WeakKeyDictionary[Any, _Use] = weakref.WeakKeyDictionary()

    def current(self, key: Any, code: Any, kind: str, name: str, cell: int) -> ExportedCode:
        """Return the export of *code* for *key*, its remote function or actor class; raises as `export` does.

        It is made when *key* is first used, and later changes of what it refers to are not seen: Ray's rule.  In a
        notebook, where *cell* is not 0, each cell sees what was defined anew by the time it first uses the code.
        """
        use = self._uses.get(key)
        if use is not None and (not cell or use.cell == cell):
            return use.exported
        captures = Captures(code) if cell else None
        if use is not None and captures == use.captures:
            assert captures is not None
            if not captures.has_data or len(use.exported.blob) > _MOST_DATA_BYTES:
                use.cell = cell
                return use.exported
        # where nothing has changed after all, the pickle is the same and so is the export
        exported = self.export(code, kind, name)
        self._uses[key] = _Use(exported, captures, cell)
        return exported

    def export(self, code: Any, kind: str, name: str) -> ExportedCode:
        """Pickle *code*, a function or class.

        Raises TypeError if it captures what cannot be pickled, naming it; ValueError if it is too large; what
        `check_out_of_band` raises if it captures a ref.
        """
        blob, refs = pickle_code(code, kind, name)
        for ref in refs:
            check_out_of_band(ref, self._config)
        size = len(blob)
        if size >= self._config.function_max_bytes:
            raise ValueError(
                f"The {kind} {name} is too large ({size / 2**20:.0f} MiB, the limit is "
                f"{self._config.function_max_bytes / 2**20:.0f} MiB). Check that its definition does not capture a "
                "large array or other object; put that once with jray.put() and pass the reference."
            )
        if size >= self._config.function_warn_bytes:
            warnings.warn(
                f"The {kind} {name} is very large ({size / 2**20:.0f} MiB). Check that its definition is not "
                "implicitly capturing a large array or other object; put that once with jray.put() and pass "
                "the reference.",
                UserWarning,
                stacklevel=_levels_to_the_user(),
            )
        function_id = hashlib.blake2b(blob, digest_size=20).digest()
        return self._by_hash.setdefault(function_id, ExportedCode(function_id, blob, refs, _sources(code)))


def _levels_to_the_user() -> int:
    """Return how far above the caller of this the first frame is that is not jray's."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level


def _sources(code: Any) -> dict[str, str]:
    """Return the source of a function or class that was typed and not read from a file.

    Only what `linecache` already knows: tracebacks of workers show its lines.
    """
    members = vars(code).values() if isinstance(code, type) else (code,)
    names = {
        member.__code__.co_filename
        for member in members
        if isinstance(getattr(member, "__code__", None), CodeType)
    }
    return {
        name: "".join(linecache.cache[name][2])  # type: ignore[misc]
        for name in names
        if len(linecache.cache.get(name, ())) == 4 and not os.path.exists(name)
    }


def check_out_of_band(ref: ObjectRef[Any], config: Config) -> None:
    """Raise OufOfBandObjectRefSerializationException if *ref* may not be put into a pickle that nobody accounts for."""
    if not config.allow_out_of_band_object_ref_serialization:
        raise OufOfBandObjectRefSerializationException(
            f"{ref!r} is pickled out of band, or captured by code, and would be kept for the rest of the job. Pass "
            "it as an argument, or set RAY_allow_out_of_band_object_ref_serialization=1."
        )


def pickle_code(code: Any, kind: str, name: str) -> tuple[bytes, list[ObjectRef[Any]]]:
    """Return the pickle of *code* and the refs it captures."""
    import io  # noqa: PLC0415

    file = io.BytesIO()
    refs: list[ObjectRef[Any]] = []
    try:
        code_pickler_class()(file, _InBand(), refs).dump(code)
    except Exception as error:
        message = f"Could not serialize the {kind} {name}.\n{explain(code, error)}"
        raise TypeError(message) from error
    return file.getvalue(), refs


class _InBand(list[Any]):
    """Stands for the list of out-of-band buffers: refuses them, so that the pickle is one piece."""

    def append(self, _: Any) -> None:
        raise BufferError
