"""Owns `%autoremote`: while it is on, plain cells run on workers as if they began with a magic."""

from __future__ import annotations

import ast
import re
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

#: cells that stay: magics, shell commands, help
_STAYS = re.compile(r"\s*(?:[%!?]|.*\?\s*$)")
_IN_LINE = re.compile(r"^\s*(?:\w[\w, ]*=\s*)?%autoremote\b")


class AutoRemote:
    """The switch of one shell.  It rewrites cells before they run, and leaves nothing behind when it is off."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._options: str | None = None
        #: magics transform the cells they hold once more: only what the user has sent is meant
        self._is_in_cell = False

    @property
    def is_on(self) -> bool:
        return self._options is not None

    @property
    def options(self) -> str:
        """The options that each cell runs with, as they were given."""
        return self._options or ""

    def switch_on(self, options: str) -> None:
        """Let cells run on workers from the next one on; done again, it changes the options."""
        if not self.is_on:
            # first: before it, IPython would take the rest of a cell that begins with a magic for code
            self._shell.input_transformers_cleanup.append(self.transform)
            self._shell.events.register("pre_run_cell", self._enter)
            self._shell.events.register("post_run_cell", self._leave)
            self._is_in_cell = True  # the cell that switches it on
        self._options = options.strip()

    def switch_off(self) -> None:
        """Let cells run here again.  Doing it twice is allowed."""
        if self.is_on:
            self._options = None
            self._shell.input_transformers_cleanup.remove(self.transform)
            self._shell.events.unregister("pre_run_cell", self._enter)
            self._shell.events.unregister("post_run_cell", self._leave)

    def transform(self, lines: list[str]) -> list[str]:
        """Put the magic above a plain cell."""
        if self._options is None or self._is_in_cell or self._is_for_the_front_end() or stays(lines):
            return lines
        return [f"%%autoremote {self._options}".rstrip() + "\n", *lines]

    # -- inside -----------------------------------------------------------------------------------

    def _enter(self, _info: Any = None) -> None:
        self._is_in_cell = True

    def _leave(self, _result: Any = None) -> None:
        self._is_in_cell = False

    def _is_for_the_front_end(self) -> bool:
        """Tell whether a front end runs code of its own, as those do that list variables."""
        get_parent = getattr(self._shell, "get_parent", None)
        content = ((get_parent() if get_parent is not None else None) or {}).get("content", {})
        return bool(content.get("silent")) or not content.get("store_history", True)


def stays(lines: list[str]) -> bool:
    """Tell whether a cell runs in the notebook's own process: it begins with IPython's syntax, or is empty.

    Comments above do not count.  What is no Python stays too, so that its error looks as ever.
    """
    code = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not code:
        return True
    if _STAYS.match(code[0]) is not None or any(_IN_LINE.match(line) for line in code):
        return True
    try:
        compile(
            TransformerManager().transform_cell("".join(lines)),
            "<cell>",
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST,
            dont_inherit=True,
        )
    except SyntaxError:
        return True
    return False
