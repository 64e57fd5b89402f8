"""Owns magics that users bake: `jray.new_magic("gpu", num_gpus=1)` gives `%%gpu` and `%gpu`."""

from __future__ import annotations

import argparse
import copy
from typing import Any

from jray.notebook.arguments import REMOTE_OPTIONS, MagicOption, names, parser_for, split, split_options
from jray.notebook.cell_runner import CellRunner
from jray.notebook.context import closest

#: options that say what to do with one cell, and make no sense for all
_OF_ONE_CELL = frozenset({"is_async", "dry_run"})
#: defaults of cells only: the value of an expression comes back without them
_OF_CELLS = frozenset({"output", "ref"})


class CustomMagic:
    """`%%remote` and `%remote` under another name, with other defaults."""

    def __init__(self, name: str, defaults: dict[str, Any], runner: CellRunner) -> None:
        self.name = name
        self.options = tuple(_with_default(line, defaults) for line in REMOTE_OPTIONS)
        of_lines = {option: value for option, value in defaults.items() if option not in _OF_CELLS}
        self.line_options = tuple(_with_default(line, of_lines) for line in REMOTE_OPTIONS)
        self._runner = runner

    def cell(self, line: str, cell: str) -> Any:
        """Run the cell; what `%%name` calls."""
        arguments = parser_for(self.options, usage=f"%%{self.name} [options]").parse_args(split(line))
        return self._runner.run_cell(arguments, f"%%{self.name} {line}", cell)

    def line(self, line: str) -> Any:
        """Run the line's code; what `%name` calls."""
        words, code = split_options(line, self.line_options)
        arguments = parser_for(self.line_options, usage=f"%{self.name} [options] code").parse_args(words)
        return self._runner.run_line(arguments, f"%{self.name} {line}", code)

    def help_text(self, *, is_cell: bool) -> str:
        """Return the help of one of the two forms."""
        sign, what, usage = (
            ("%%", "the cell", "[options]") if is_cell else ("%", "the code", "[options] code")
        )
        description = f"Run {what} as a task on a worker: %%remote with defaults of its own."
        options = self.options if is_cell else self.line_options
        parser = parser_for(options, usage=f"{sign}{self.name} {usage}", description=description)
        return str(parser.format_help())


def _dest(line: MagicOption) -> str:
    dest = line.settings.get("dest")
    return str(dest or next(flag for flag in line.flags if flag.startswith("--"))[2:].replace("-", "_"))


def _with_default(line: MagicOption, defaults: dict[str, Any]) -> MagicOption:
    if _dest(line) not in defaults:
        return line
    value = defaults[_dest(line)]
    settings = {**line.settings, "default": copy.copy(value)}
    shown = ",".join(value) if isinstance(value, list) else value
    text = str(line.settings["help"]).partition(" (default")[0].rstrip(".")
    settings["help"] = f"{text} (here: {shown})."
    if line.settings.get("action") == "extend":
        # what a cell names takes the place of the default, and does not come on top of it
        settings = {**settings, "action": "store", "type": lambda text: list(names(text))}
    return MagicOption(line.flags, settings, line.completes)


def checked_defaults(given: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults by the options' names; raises TypeError for what is no option, or not of its type."""
    by_name: dict[str, MagicOption] = {}
    for line in REMOTE_OPTIONS:
        if _dest(line) in _OF_ONE_CELL:
            continue
        for flag in line.flags:
            if flag.startswith("--"):
                by_name[flag[2:].replace("-", "_")] = line
    defaults: dict[str, Any] = {}
    for name, value in given.items():
        if name not in by_name:
            raise TypeError(
                f"new_magic() takes no option {name!r}{closest(name, by_name) or '.'} It takes {', '.join(by_name)}."
            )
        line = by_name[name]
        defaults[_dest(line)] = _read(name, line, value)
    return defaults


def _read(name: str, line: MagicOption, value: Any) -> Any:
    """Return a default as the option's own reader would, from text or from a plain value."""
    if not line.takes_value:
        if not isinstance(value, bool):
            raise TypeError(f"{name} is a switch: give True or False, not {value!r}.")
        return value
    if isinstance(value, dict):
        if name != "resources":
            raise TypeError(f"{name} takes no dict, got {value!r}.")
        return {str(key): float(number) for key, number in value.items()}
    text = ",".join(value) if isinstance(value, list | tuple) else str(value)
    try:
        read = line.settings["type"](text)
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise TypeError(f"{name}={value!r}: {error}") from None
    return list(read) if isinstance(read, tuple) else read
