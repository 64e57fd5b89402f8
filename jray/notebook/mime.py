"""Owns the mime bundle of a value: what a notebook would show for it, made where there is no notebook.

Plain values need no IPython; the rest is left to IPython's own formatters, and where those are missing
to the value's `_repr_*_` methods.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import importlib
import importlib.util
import io
import sys
from typing import Any

#: Types whose repr is what IPython shows, to the letter.
_ATOMS = frozenset({bool, bytes, complex, float, int, str, type(None), type(...)})
#: IPython breaks lines of containers beyond this width.
_LINE_WIDTH = 79
#: `_repr_*_` methods and what they give, for workers without IPython.
_METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_latex_": "text/latex",
    "_repr_json_": "application/json",
    "_repr_javascript_": "application/javascript",
    "_repr_pdf_": "application/pdf",
}


@dataclasses.dataclass(frozen=True, slots=True)
class MimeBundle:
    """One thing to show, in every form there is of it."""

    data: dict[str, Any]  #: mime type -> text, base64 text, or JSON
    metadata: dict[str, Any]


def bundle_of(value: object, *, loads_ipython: bool = True) -> MimeBundle | None:
    """Return what a notebook would show for *value*; None: it showed itself, by `display`.

    Without `loads_ipython`, IPython's formatters are used only if IPython has been imported here already.
    """
    if is_plain(value):
        return MimeBundle({"text/plain": repr(value)}, {})
    if not loads_ipython and callable(getattr(type(value), "_ipython_display_", None)):
        value._ipython_display_()  # type: ignore[attr-defined]
        return None
    if "IPython" not in sys.modules and not (loads_ipython and importlib.util.find_spec("IPython")):
        return _by_methods(value)
    data, metadata = _formatter().format(value)
    if not data:
        return None
    return MimeBundle({kind: _as_text(content) for kind, content in data.items()}, metadata)


def within(bundle: MimeBundle, most_characters: int) -> MimeBundle:
    """Return *bundle* without the largest of its forms that are too many to send; the text says which are missing."""
    sizes = {kind: _size(content) for kind, content in bundle.data.items()}
    missing = []
    for kind, size in sorted(sizes.items(), key=lambda item: -item[1]):
        if sum(sizes.values()) <= most_characters:
            break
        missing.append(f"{kind} of {size / 1e6:.1f} MB")
        del sizes[kind]
    if not missing:
        return bundle
    data = {kind: content for kind, content in bundle.data.items() if kind in sizes}
    note = (
        f"[jray] not shown, because a display may have {most_characters / 1e6:g} MB: {', '.join(missing)}. "
        "Return the value from the task, or make it smaller."
    )
    text = data.get("text/plain")
    data["text/plain"] = f"{text}\n{note}" if text else note
    if "text/html" in data:  # front ends show this and not the text
        data["text/html"] = f"{data['text/html']}<div>{note}</div>"
    return MimeBundle(data, bundle.metadata)


def _size(content: Any) -> int:
    return len(content) if isinstance(content, str | bytes) else len(str(content))


def is_plain(value: object, *, depth: int = 3) -> bool:
    """Tell whether IPython would show no more than `repr(value)`; containers are seen *depth* levels down."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if not depth:
        return False
    if kind is list or kind is tuple:
        items: list[Any] = list(value)  # type: ignore[call-overload]
    elif kind is dict:
        items = [part for pair in value.items() for part in pair]  # type: ignore[attr-defined]
    else:
        return False
    if len(items) > _LINE_WIDTH or not all(is_plain(item, depth=depth - 1) for item in items):
        return False
    return len(repr(value)) < _LINE_WIDTH


@functools.cache  # 15 formatter objects; a worker shows many values
def _formatter() -> Any:
    formatter = importlib.import_module("IPython.core.formatters").DisplayFormatter()
    formatter.formatters["image/png"].for_type_by_name("matplotlib.figure", "Figure", figure_png)
    return formatter


def figure_png(figure: Any) -> bytes:
    """Return a matplotlib figure as a notebook's inline backend draws it."""
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return file.getvalue()


def _as_text(content: Any) -> Any:
    return base64.b64encode(content).decode("ascii") if isinstance(content, bytes) else content


def _by_methods(value: Any) -> MimeBundle:
    data: dict[str, Any] = {"text/plain": repr(value)}
    metadata: dict[str, Any] = {}
    for method, kind in _METHODS.items():
        # on the class: objects that answer every attribute would answer these too
        shown = getattr(value, method)() if callable(getattr(type(value), method, None)) else None
        if isinstance(shown, tuple):
            shown, metadata[kind] = shown
        if shown is not None:
            data[kind] = _as_text(shown)
    if callable(getattr(type(value), "_repr_mimebundle_", None)):
        shown = value._repr_mimebundle_(include=None, exclude=None)
        extra, about = shown if isinstance(shown, tuple) else (shown, {})
        data |= {kind: _as_text(content) for kind, content in (extra or {}).items()}
        metadata |= about
    elif type(value).__module__ == "matplotlib.figure":
        data["image/png"] = _as_text(figure_png(value))
    return MimeBundle(data, metadata)
