"""Owns the completion of the magics' arguments.  Pure, but for the matcher that IPython calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

from jray.notebook.arguments import MagicOption
from jray.notebook.commands import CommandTable

#: kind of value (see `MagicOption.completes`), body of the cell -> what it may be
Candidates = Callable[[str, str], list[str]]
Tables = Mapping[str, tuple[MagicOption, ...]]

_CELL_MAGIC = re.compile(r"\s*(%%\w+)\s(.*)$")
_LINE_MAGIC = re.compile(r"(?:[^%]*=)?\s*(%\w+)\s(.*)$")
_NOTHING: tuple[str, list[str]] = ("", [])


def complete(
    text: str, line: int, column: int, tables: Tables, commands: CommandTable, candidates: Candidates
) -> tuple[str, list[str]]:
    """Return (fragment, completions) for the cursor in *text*; none of them: no argument of ours."""
    lines = text.split("\n")
    before = lines[line][:column]
    cell_magic = _CELL_MAGIC.match(before)
    if cell_magic is not None and not "".join(lines[:line]).strip():
        options = tables.get(cell_magic[1])
        return (
            _NOTHING
            if options is None
            else _of(options, cell_magic[2], "\n".join(lines[line + 1 :]), candidates)
        )
    line_magic = _LINE_MAGIC.match(before)
    if line_magic is None:
        return _NOTHING
    if line_magic[1] == "%jray":
        return _of_jray(line_magic[2], commands, candidates)
    options = tables.get(line_magic[1])
    return _NOTHING if options is None else _of(options, line_magic[2], "", candidates)


def _of_jray(arguments: str, commands: CommandTable, candidates: Candidates) -> tuple[str, list[str]]:
    name, space, rest = arguments.lstrip().partition(" ")
    if not space:
        return name, [command.name for command in commands if command.name.startswith(name)]
    command = commands.get(name)
    return _NOTHING if command is None else _of(command.options, rest, "", candidates)


def _of(
    options: tuple[MagicOption, ...], arguments: str, body: str, candidates: Candidates
) -> tuple[str, list[str]]:
    words = arguments.split(" ")
    fragment = words[-1]
    used = [word for word in words[:-1] if word]
    previous = used[-1] if used else ""
    flag, glue, value = fragment.partition("=")
    option = _option(flag if glue else previous, options)
    if option is not None and option.takes_value:
        return _values(option, value if glue else fragment, body, candidates)
    places = [option for option in options if option.is_positional]
    given = _positions(used, options)
    takes_code = not places
    if takes_code and (given or (fragment and not fragment.startswith("-"))):
        return _NOTHING  # the code after the options is Python's to complete
    found = _flags(fragment, options, used)
    fragment_of_place = fragment
    if not fragment.startswith("-") and places:
        place = places[min(given, len(places) - 1)]
        if given < len(places) or place.settings.get("nargs") == "*":
            fragment_of_place, values = _values(place, fragment, body, candidates)
            found = [*values, *found]
    return fragment_of_place, found


def _option(flag: str, options: Iterable[MagicOption]) -> MagicOption | None:
    return next((option for option in options if flag in option.flags and flag.startswith("-")), None)


def _positions(used: list[str], options: Iterable[MagicOption]) -> int:
    """Return how many words stand for themselves, neither flags nor their values."""
    number = 0
    for before, word in zip(["", *used], used, strict=False):
        option = _option(before, options)
        if not word.startswith("-") and (option is None or not option.takes_value):
            number += 1
    return number


def _values(option: MagicOption, fragment: str, body: str, candidates: Candidates) -> tuple[str, list[str]]:
    if not option.completes:
        return fragment, []
    known = candidates(option.completes, body)
    if option.completes == "outputs":
        *taken, fragment = fragment.split(",")
        known = [name for name in known if name not in taken]
    return fragment, [name for name in known if name.startswith(fragment)]


def _flags(fragment: str, options: Iterable[MagicOption], used: list[str]) -> list[str]:
    found = []
    for option in options:
        if option.is_positional or any(flag in used for flag in option.flags):
            continue
        found += [
            flag for flag in option.flags if flag.startswith(fragment) and (fragment or flag.startswith("--"))
        ]
    return found


class ArgumentMatcher:
    """The matcher of one shell."""

    def __init__(
        self, shell: Any, tables: Callable[[], Tables], commands: CommandTable, candidates: Candidates
    ) -> None:
        @context_matcher(identifier="jray.magic_arguments")
        def match(context: CompletionContext) -> dict[str, Any]:
            fragment, found = complete(
                context.full_text,
                context.cursor_line,
                context.cursor_position,
                tables(),
                commands,
                candidates,
            )
            # other matchers would offer files and variables where an option belongs
            return {
                "completions": [SimpleCompletion(text=text, type="param") for text in found],
                "matched_fragment": fragment,
                "suppress": bool(found),
            }

        self._shell = shell
        self._match = match

    def install(self) -> None:
        self._shell.Completer.custom_matchers.append(self._match)

    def remove(self) -> None:
        if self._match in self._shell.Completer.custom_matchers:
            self._shell.Completer.custom_matchers.remove(self._match)
