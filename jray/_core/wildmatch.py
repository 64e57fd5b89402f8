"""Owns the patterns of `.gitignore` files: which paths they exclude.

Source: gitignore(5).  A path is relative, its parts joined by "/".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class _Rule(NamedTuple):
    regex: re.Pattern[str]
    is_excluding: bool
    only_directories: bool


class Patterns:
    """The patterns of one file, or of one list: the last that matches a path decides."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules = [rule for line in lines if (rule := _rule(line)) is not None]

    def verdict(self, path: str, *, is_directory: bool) -> bool | None:
        """Tell whether *path* is excluded (True) or kept on purpose (False); None: nothing is said of it.

        What lies in an excluded directory is not asked for: git's rule that nothing in there can come back.
        """
        for rule in reversed(self._rules):
            if (is_directory or not rule.only_directories) and rule.regex.fullmatch(path):
                return rule.is_excluding
        return None


def _rule(line: str) -> _Rule | None:
    line = line.rstrip("\r\n")
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    if not line or line.startswith("#"):
        return None
    is_excluding = not line.startswith("!")
    pattern = line if is_excluding else line[1:]
    only_directories = pattern.endswith("/")
    pattern = pattern.removesuffix("/")
    # a "/" but at the end ties the pattern to the directory of its file
    is_anchored = "/" in pattern
    pattern = pattern.removeprefix("/").removeprefix("./")
    if not pattern:
        return None
    prefix = "" if is_anchored else "(?:.*/)?"
    return _Rule(re.compile(prefix + _regex(pattern), re.DOTALL), is_excluding, only_directories)


def _regex(pattern: str) -> str:
    parts = []
    i = 0
    while i < len(pattern):
        at_start = i == 0 or pattern[i - 1] == "/"
        if at_start and pattern.startswith("**/", i):
            parts.append("(?:.*/)?")
            i += 3
        elif at_start and pattern[i:] == "**":
            parts.append(".*")
            i += 2
        elif pattern[i] == "*":
            parts.append("[^/]*")
            i += 1
        elif pattern[i] == "?":
            parts.append("[^/]")
            i += 1
        elif pattern[i] == "[" and (end := _end_of_set(pattern, i)):
            body = pattern[i + 1 : end]
            is_negated = body[0] in "!^"
            body = body[1:] if is_negated else body
            body = body.replace("\\", "\\\\").replace("[", "\\[")
            parts.append(f"(?!/)[{'^' if is_negated else ''}{body}]")
            i = end + 1
        else:
            if pattern[i] == "\\" and i + 1 < len(pattern):
                i += 1
            parts.append(re.escape(pattern[i]))
            i += 1
    return "".join(parts)


def _end_of_set(pattern: str, start: int) -> int:
    """Return where the "]" is that ends a set of characters, or 0: the "[" stands for itself."""
    first = start + 1
    if pattern[first : first + 1] in ("!", "^"):
        first += 1
    # a "]" that comes first is a member
    end = pattern.find("]", first + 1)
    return max(0, end)
