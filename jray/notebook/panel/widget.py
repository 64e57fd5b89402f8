"""Owns the panel's widget: the one module that needs anywidget."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

_FOLDER = Path(__file__).parent


class PanelWidget(anywidget.AnyWidget):
    """What a front end draws; it says what it hears and shows what it is told."""

    _esm = _FOLDER / "panel.js"
    _css = _FOLDER / "panel.css"
    #: tells the panels of a page from each other
    panel_id = traitlets.Unicode().tag(sync=True)

    def __init__(self, hear: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__(panel_id=secrets.token_hex(8))
        self._hear = hear
        self.on_msg(self._on_message)

    def _on_message(self, _widget: Any, content: Mapping[str, Any], _buffers: Any) -> None:
        if content.get("type") == "act":  # it has come through: the view need not say that it waits
            self.send({"type": "got", "view": content.get("view"), "id": content.get("id")})
        self._hear(content)
