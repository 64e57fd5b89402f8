"""Owns the completion of the magics' arguments.  Pure, but for the matcher that IPython calls."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

from jray.notebook.arguments import JRAY_COMMANDS, JRAY_OPTIONS, REMOTE_OPTIONS, MagicOption
from jray.notebook.capture import analyze

_OUTPUT_FLAGS = ("-o", "--output")


def complete(text: str, line: int, column: int, namespace: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return (fragment, completions) for the cursor in *text*; none of them: no argument of ours."""
    before = text.split("\n")[line][:column]
    remote = re.match(r"\s*%%remote\s(.*)$", before)
    if remote is not None and not "".join(text.split("\n")[:line]).strip():
        body = text.split("\n", line + 1)[line + 1 :]
        return _of_remote(remote[1], body[0] if body else "", namespace)
    jray = re.match(r"(?:.*=)?\s*%jray\s(.*)$", before)
    if jray is not None:
        return _of_jray(jray[1])
    return "", []


def _of_remote(arguments: str, body: str, namespace: Mapping[str, Any]) -> tuple[str, list[str]]:
    words = arguments.split(" ")
    fragment = words[-1]
    previous = next((word for word in reversed(words[:-1]) if word), "")
    glued = re.match(r"--output=(.*)$", fragment)
    if previous in _OUTPUT_FLAGS or glued:
        listed = glued[1] if glued else fragment
        *taken, name = listed.split(",")
        known = [found for found in _output_names(body, namespace) if found not in taken]
        return name, [found for found in known if found.startswith(name)]
    if _takes_value(previous, REMOTE_OPTIONS):
        return fragment, []
    return fragment, _flags(fragment, REMOTE_OPTIONS, used=words)


def _of_jray(arguments: str) -> tuple[str, list[str]]:
    words = arguments.split(" ")
    fragment = words[-1]
    if fragment.startswith("-"):
        return fragment, _flags(fragment, JRAY_OPTIONS, used=words)
    is_first = not any(words[:-1])
    return fragment, [name for name in JRAY_COMMANDS if name.startswith(fragment)] if is_first else []


def _flags(fragment: str, options: Iterable[MagicOption], used: list[str]) -> list[str]:
    found = []
    for option in options:
        flags = [flag for flag in option.flags if flag.startswith("-")]
        if not any(flag in used[:-1] for flag in flags):
            found += [
                flag for flag in flags if flag.startswith(fragment) and (fragment or flag.startswith("--"))
            ]
    return found


def _takes_value(word: str, options: Iterable[MagicOption]) -> bool:
    return any(word in option.flags and option.settings.get("action") != "store_true" for option in options)


def _output_names(body: str, namespace: Mapping[str, Any]) -> list[str]:
    """Return what the cell assigns; of a cell that can't be read yet, the notebook's own names."""
    try:
        return list(analyze(body).assigns)
    except SyntaxError:
        return sorted(name for name in namespace if not name.startswith("_"))


class ArgumentMatcher:
    """The matcher of one shell."""

    def __init__(self, shell: Any) -> None:
        @context_matcher(identifier="jray.magic_arguments")
        def match(context: CompletionContext) -> dict[str, Any]:
            fragment, found = complete(
                context.full_text, context.cursor_line, context.cursor_position, shell.user_ns
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
