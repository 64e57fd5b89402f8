"""Owns the code of this session: pickled once where it is first used, and loaded from that, as in a worker."""

from __future__ import annotations

import io
import pickle
from typing import Any

import cloudpickle

from jray._core.client.functions import CodeTable, ExportedCode
from jray._core.config import Config


class Code:
    """The functions and classes of one session."""

    def __init__(self, config: Config) -> None:
        self._table = CodeTable(config)
        self._functions: dict[bytes, Any] = {}

    def export(self, key: Any, code: Any, kind: str, name: str, cell: int) -> ExportedCode:
        """Return the export of *code*, as `CodeTable.current` does."""
        return self._table.current(key, code, kind, name, cell)

    def function(self, exported: ExportedCode) -> Any:
        """Return the function, a copy of the driver's unless it can be imported; raises what unpickling raises."""
        found = self._functions.get(exported.function_id)
        if found is None:
            found = self._functions[exported.function_id] = pickle.loads(exported.blob)
        return found


def load_class(blob: bytes, original: type) -> Any:
    """Return an actor's class: a copy of *original* for this actor alone, unless it can be imported.

    cloudpickle would give the original itself, whose attributes the driver and other actors share.
    """
    return _ClassUnpickler(blob, original).load()


class _ClassUnpickler(pickle.Unpickler):
    """Unpickles one class anew, and takes all other classes that this process knows as they are."""

    def __init__(self, blob: bytes, original: type) -> None:
        super().__init__(io.BytesIO(blob))
        self._number = _numbers().get(original)

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if (
            self._number is None
            or name != "_make_skeleton_class"
            or module != cloudpickle.cloudpickle.__name__
        ):
            return found

        def make(kind: Any, qualname: str, bases: Any, keywords: Any, number: Any, extra: Any) -> Any:
            if number != self._number:
                return found(kind, qualname, bases, keywords, number, extra)
            made = found(kind, qualname, bases, keywords, None, extra)
            # its instances travel as the original's
            _numbers()[made] = number
            return made

        return make


def _numbers() -> Any:
    """Return cloudpickle's table of the classes that it has pickled by value, with the numbers it gave them."""
    return getattr(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", {})
